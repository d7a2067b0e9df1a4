//! Distillation of a teacher into a student, on given answers and on the student's own.
//!
//! `cargo run --release -p rl-examples --example distill -- --config configs/presets/distill/trl-gkd.toml`

use std::process::ExitCode;

use clap::Parser;
use rl_examples::TrainArgs;
use rl_train::Distill;

/// Trains a student to give a teacher's next-token distributions (generalised knowledge distillation).
///
/// `on_policy_fraction` says how often the student answers the prompts itself and learns on its own answers. Ctrl-C writes
/// a checkpoint; the same command then goes on from it, as it does after a crash.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    train: TrainArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(Arguments::parse().train.train::<Distill>())
}
