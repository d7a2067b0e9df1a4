//! Writes the report of the central experiment from the records of its runs.
//!
//! `cargo run --release -p rl-examples --example report -- --config configs/report/tiny.toml`

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use rl_examples::ConfigArgs;
use rl_examples::report::{ReportConfig, write_report};

/// Says which published effects showed: forgetting in SFT, recovery by RL, and what happened to the weights.
///
/// Reads what `sft`, `rl`, `evaluate` and `angles` left behind and trains nothing. Writes report.html, one file that
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
    let (numbers, path) = write_report(&config)?;
    for claim in &numbers.claims {
        println!("{:<8} {:<26} {}", claim.id, claim.verdict.label(), claim.statement);
    }
    println!("see {}", path.display());
    Ok(())
}
