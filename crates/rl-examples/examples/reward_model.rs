//! A Bradley-Terry reward model from pairs of answers.
//!
//! `cargo run --release -p rl-examples --example reward_model -- --config configs/reward_model/openrlhf.toml`

use std::process::ExitCode;

use clap::Parser;
use rl_examples::TrainArgs;
use rl_train::RewardModel;

/// Trains a reward model on a file of pairs: the preferred answer is to score higher.
///
/// A checkpoint is a sequence-classification folder that transformers opens, or adapters with their head, with the mean and
/// spread of the held-out rewards. Ctrl-C writes a checkpoint; the same command then goes on from it.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    train: TrainArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(Arguments::parse().train.train::<RewardModel>())
}
