//! Writes the report of an experiment from the records of its runs.
//!
//! `cargo run --release -p rl-examples --example report -- --config configs/report/tiny.toml`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_examples::ConfigArgs;
use rl_examples::report::{ReportConfig, write_report};

/// Says what an experiment found; its config's `experiment` names which one.
///
/// Reads what training, evaluation and analysis left behind and trains nothing. Writes report.html, one file that
/// needs no network, and summary.json with every number of it. The same records give the same files.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    config: ConfigArgs,
}

fn main() -> ExitCode {
    rl_examples::exit_code(run())
}

fn run() -> Result<()> {
    let config: ReportConfig = Arguments::parse().config.load()?;
    let (lines, path) = write_report(&config)?;
    lines.iter().for_each(|line| println!("{line}"));
    println!("see {}", path.display());
    Ok(())
}
