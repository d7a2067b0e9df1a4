//! Writes a run in the form that another tracker takes up.
//!
//! `cargo run --release -p rl-examples --example export_run -- --run runs/a --to mlflow --out mlruns`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, ValueEnum};
use rl_track::export;

/// Exports the record of a run, going or done.
///
/// TensorBoard, Weights & Biases (`wandb.Api().sync_tensorboard`) and Trackio (`trackio.import_tf_events`) take the run's
/// folder as it is.
#[derive(Parser)]
struct Arguments {
    /// The run's folder.
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// `table`: one CSV file for `trackio.import_csv`; `mlflow`: a file store that MLflow opens.
    #[arg(long, value_enum)]
    to: Form,
    /// The MLflow experiment that the run belongs to.
    #[arg(long, value_name = "NAME", default_value = "reins")]
    experiment: String,
    /// The file or the store to write.
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Table,
    Mlflow,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let Arguments { run, to, experiment, out } = Arguments::parse();
    let written = match to {
        Form::Table => {
            export::table(&run, &out)?;
            out
        }
        Form::Mlflow => export::mlflow(&run, &out, &experiment)?,
    };
    println!("wrote {}", written.display());
    Ok(())
}
