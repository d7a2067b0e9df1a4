//! Writes a training file: conversations of GeneralPoints, conversations, pairs, judged answers or prompts of checkable
//! instructions, or word problems with solutions.
//!
//! `cargo run --release -p rl-examples --example make_dataset -- --config configs/make_dataset/tiny-sft.toml`

use std::path::Path;
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_envs::DatasetConfig;
use rl_examples::ConfigArgs;
use serde::Serialize;

/// Writes a file to train on; `task` in the config says of what: card hands with expert answers and practice text, checkable
/// instructions with answers that obey and answers that do not, or word problems with solutions (and a manifest beside them).
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
    match &config {
        DatasetConfig::GeneralPoints(config) => write(&config.out, &config.rows()?),
        DatasetConfig::Instructions(config) => write(&config.out, &config.rows()?),
        DatasetConfig::Igsm(config) => {
            let dataset = config.build()?;
            write(&config.out, &dataset.rows)?;
            let manifest = config.out.with_extension("manifest.json");
            std::fs::write(&manifest, serde_json::to_string_pretty(&dataset.manifest)?)?;
            println!("manifest in {}", manifest.display());
            Ok(())
        }
    }
}

fn write(out: &Path, rows: &[impl Serialize]) -> Result<()> {
    if let Some(folder) = out.parent() {
        std::fs::create_dir_all(folder)?;
    }
    rl_data::write_jsonl(out, rows)?;
    println!("{} rows in {}", rows.len(), out.display());
    Ok(())
}
