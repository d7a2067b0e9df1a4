//! Preference optimisation on single answers with verdicts: KTO and its relatives; other data than `dpo`, so a program of its
//! own.
//!
//! `cargo run --release -p rl-examples --example kto -- --config configs/kto/trl-kto.toml`

use std::process::ExitCode;

use clap::Parser;
use rl_examples::TrainArgs;
use rl_train::Unpaired;

/// Trains a policy on a file of answers, each judged desirable or not.
///
/// The run's folder gets metrics, TensorBoard events, a log and checkpoints that transformers opens. Ctrl-C writes a
/// checkpoint; the same command then goes on from it, as it does after a crash.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    train: TrainArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(Arguments::parse().train.train::<Unpaired>())
}
