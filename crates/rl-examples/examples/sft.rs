//! Supervised fine-tuning, or training from scratch.
//!
//! `cargo run --release -p rl-examples --example sft -- --config configs/sft/tiny-general-points.toml`

use std::process::ExitCode;

use clap::Parser;
use rl_examples::TrainArgs;
use rl_train::Sft;

/// Trains a model on a file of conversations, with the loss on the assistant's turns.
///
/// The run's folder gets metrics, TensorBoard events, a log and checkpoints that transformers opens. Ctrl-C writes a
/// checkpoint; the same command then goes on from it, as it does after a crash.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    train: TrainArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(Arguments::parse().train.train::<Sft>())
}
