//! Reports of experiments: what was found, drawn and tabled from the records of finished runs.

pub mod alignment;
pub mod behavior_injection;
mod drawing;
mod records;
pub mod rl_heals;
mod runs;
mod words;

use std::path::PathBuf;

use anyhow::Result;
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
