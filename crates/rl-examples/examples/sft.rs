//! Supervised fine-tuning, or training from scratch.
//!
//! `cargo run --release -p rl-examples --example sft -- --config configs/sft/tiny-general-points.toml`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_examples::{ConfigArgs, report_finish, start};
use rl_train::{Interrupt, SftConfig, SftTrainer};

/// Trains a model on a file of conversations, with the loss on the assistant's turns.
///
/// The run's folder gets metrics, TensorBoard events, a log and checkpoints that transformers opens. Ctrl-C writes a
/// checkpoint; the same command then goes on from it, as it does after a crash.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let config: SftConfig = Arguments::parse().config.load()?;
    let progress = start(&config.run)?;
    let interrupt = Interrupt::install()?;
    let run = config.run.clone();
    report_finish(SftTrainer::new(config)?.run(&interrupt, &progress)?, &run);
    Ok(())
}
