//! Reinforcement learning in an environment or on prompts: PPO, GRPO, RLOO and their relatives.
//!
//! `cargo run --release -p rl-examples --example rl -- --config configs/rl/tiny-from-best.toml`

use std::process::ExitCode;

use clap::Parser;
use rl_examples::TrainArgs;
use rl_train::Rl;

/// Trains a model by playing: sample answers, let the verifier price them, push up what did better than expected.
///
/// The algorithm is a choice of parts in the config; `configs/presets/rl` has one file for each published method. Ctrl-C
/// writes a checkpoint; the same command then goes on from it, as it does after a crash.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    train: TrainArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(Arguments::parse().train.train::<Rl>())
}
