//! Shows rows of a data file as the trainer will see them.
//!
//! `cargo run --release -p rl-examples --example inspect_dataset -- --config configs/sft/alignment-smollm2.toml`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_examples::inspect::{InspectArgs, inspect};

/// Shows rows as the trainer will see them: whose each token is, which are trained (`*`, underlined), where they part; how
/// many rows are kept and why others are dropped; how long they are.
///
/// Rows are conversations, pairs, judged answers or prompts. Colours are used in a terminal unless NO_COLOR is set.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    inspect: InspectArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    inspect(&Arguments::parse().inspect)
}
