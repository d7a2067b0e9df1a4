//! Reinforcement learning by GRPO or PPO in GeneralPoints.
//!
//! `cargo run --release -p rl-examples --example rl -- --config configs/rl/tiny-general-points-ppo.toml`

use std::process::ExitCode;

use clap::Parser;
use rl_examples::TrainArgs;
use rl_train::Rl;

/// Trains a model by playing: sample answers, let the verifier price them, push up what did better than expected.
///
/// The algorithm is chosen in the config (`[algorithm] name = "grpo"` or `"ppo"`). Ctrl-C writes a checkpoint; the same
/// command then goes on from it, as it does after a crash.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    train: TrainArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(Arguments::parse().train.train::<Rl>())
}
