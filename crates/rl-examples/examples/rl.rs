//! Reinforcement learning by GRPO or PPO in GeneralPoints.
//!
//! `cargo run --release -p rl-examples --example rl -- --config configs/rl/tiny-general-points-ppo.toml`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_examples::{ConfigArgs, report_finish, start};
use rl_train::{Interrupt, RlConfig, RlTrainer};

/// Trains a model by playing: sample answers, let the verifier price them, push up what did better than expected.
///
/// The algorithm is chosen in the config (`[algorithm] name = "grpo"` or `"ppo"`). Ctrl-C writes a checkpoint; the same
/// command then goes on from it, as it does after a crash.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let config: RlConfig = Arguments::parse().config.load()?;
    let progress = start(&config.run)?;
    let interrupt = Interrupt::install()?;
    let run = config.run.clone();
    report_finish(RlTrainer::new(config)?.run(&interrupt, &progress)?, &run);
    Ok(())
}
