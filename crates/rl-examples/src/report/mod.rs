//! Reports of experiments: what was found, drawn and tabled from the records of finished runs.

pub mod alignment;
pub mod behavior_injection;
mod drawing;
mod records;
pub mod rl_heals;
mod runs;
mod words;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rl_track::atomic::write_atomically;
use rl_track::html::Report;
use serde::{Deserialize, Serialize};

pub use records::RunProvenance;
pub use runs::RunNumbers;

/// A report's TOML file; `experiment` says of what.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "experiment", rename_all = "snake_case")]
pub enum ReportConfig {
    /// What supervised fine-tuning forgot and reinforcement learning gave back.
    RlHeals(rl_heals::ReportConfig),
    /// What fine-tuning, preferences and reinforcement learning make of a small chat model.
    Alignment(alignment::ReportConfig),
    /// Which behaviours in the fine-tuning data make reinforcement learning gain more.
    BehaviorInjection(behavior_injection::ReportConfig),
}

/// Writes the page and its numbers; gives lines for the terminal and the page's path.
///
/// # Errors
/// As the report's own `write_report`.
pub fn write_report(config: &ReportConfig) -> Result<(Vec<String>, PathBuf)> {
    match config {
        ReportConfig::RlHeals(config) => {
            let (numbers, path) = rl_heals::write_report(config)?;
            let line =
                |claim: &rl_heals::Claim| format!("{:<8} {:<26} {}", claim.id, claim.verdict.label(), claim.statement);
            Ok((numbers.claims.iter().map(line).collect(), path))
        }
        ReportConfig::Alignment(config) => {
            let (numbers, path) = alignment::write_report(config)?;
            Ok((numbers.lines(), path))
        }
        ReportConfig::BehaviorInjection(config) => {
            let (numbers, path) = behavior_injection::write_report(config)?;
            Ok((numbers.lines(), path))
        }
    }
}

/// Writes `summary.json`, the charts under `figures/` and last the page into the folder `run`; gives the page's path.
fn write_files(
    run: &Path,
    numbers: &impl Serialize,
    charts: &[(impl AsRef<str>, String)],
    page: &Report,
) -> Result<PathBuf> {
    let mut json = serde_json::to_vec_pretty(numbers)?;
    json.push(b'\n');
    let figures = run.join("figures");
    std::fs::create_dir_all(&figures).with_context(|| format!("cannot create {}", figures.display()))?;
    write_atomically(&run.join("summary.json"), &json)?;
    for (name, svg) in charts {
        write_atomically(&figures.join(format!("{}.svg", name.as_ref())), svg.as_bytes())?;
    }
    let path = run.join("report.html");
    page.write(&path)?;
    Ok(path)
}
