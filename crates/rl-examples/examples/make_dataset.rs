//! Writes a training file of GeneralPoints conversations.
//!
//! `cargo run --release -p rl-examples --example make_dataset -- --config configs/make_dataset/general-points-tiny-sft.toml`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_envs::general_points::DatasetConfig;
use rl_examples::ConfigArgs;

/// Writes a file of conversations to train on: expert answers, and practice text for models trained from scratch.
///
/// Every row is a function of the seed and its index, so the same config always gives the same bytes.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let config: DatasetConfig = Arguments::parse().config.load()?;
    let rows = config.rows()?;
    if let Some(folder) = config.out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    rl_data::write_jsonl(&config.out, &rows)?;
    println!("{} rows in {}", rows.len(), config.out.display());
    Ok(())
}
