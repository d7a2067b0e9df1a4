//! Writes a training file: conversations of GeneralPoints or of matrix tasks, or conversations, pairs, judged answers or
//! prompts of checkable instructions.
//!
//! `cargo run --release -p rl-examples --example make_dataset -- --config configs/make_dataset/tiny-sft.toml`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_envs::DatasetConfig;
use rl_examples::ConfigArgs;
use serde::Serialize;

/// Writes a file to train on; `task` in the config says of what: card hands with expert answers and practice text, or
/// checkable instructions with answers that obey and answers that do not.
///
/// Every row is a function of the seed and its index, so the same config always gives the same bytes.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let config: DatasetConfig = Arguments::parse().config.load()?;
    match &config {
        DatasetConfig::GeneralPoints(config) => write(&config.out, &config.rows()?),
        DatasetConfig::Instructions(config) => write(&config.out, &config.rows()?),
        DatasetConfig::MatrixTasks(config) => write(&config.out, &config.rows()?),
    }
}

fn write(out: &Path, rows: &[impl Serialize]) -> Result<()> {
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    rl_data::write_jsonl(out, rows)?;
    println!("{} rows in {}", rows.len(), out.display());
    Ok(())
}
