//! Preference optimisation on pairs: DPO and its relatives; which one is the configuration's `objective`.
//!
//! `cargo run --release -p rl-examples --example dpo -- --config configs/dpo/trl-dpo.toml`

use std::process::ExitCode;

use clap::Parser;
use rl_examples::TrainArgs;
use rl_train::Preference;

/// Trains a policy on a file of pairs: the preferred answer is to become more likely than the other.
///
/// The run's folder gets metrics, TensorBoard events, a log and checkpoints that transformers opens. Ctrl-C writes a
/// checkpoint; the same command then goes on from it, as it does after a crash.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    train: TrainArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(Arguments::parse().train.train::<Preference>())
}
