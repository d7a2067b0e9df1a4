//! The report of the behaviour-injection pipeline: what reinforcement learning gains after supervised fine-tuning on different
//! kinds of solutions to the same problems.
//!
//! [`write_report`] reads the records of finished runs and trains or plays nothing; `summary.json` and the page print the same
//! [`Numbers`].

mod charts;
mod config;
mod numbers;
mod page;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::{Context, Result};
use rl_track::atomic::write_atomically;

pub use config::{ReportConfig, Split, Trained, Variant};
pub use numbers::{ModelNumbers, Numbers, SplitNumbers, VariantNumbers, VariantRuns};

/// Reads the records that `config` names and writes `report.html`, `summary.json` and the charts under `figures/`; gives the
/// numbers and the page's path.
///
/// # Errors
/// A setting out of range, a record that is missing or unreadable (named), a model, split or decoding that the evaluation
/// does not hold, or a folder that cannot be written to.
pub fn write_report(config: &ReportConfig) -> Result<(Numbers, PathBuf)> {
    config.validate()?;
    let evaluation = rl_eval::read_summary(&config.evaluation)?;
    let numbers = Numbers::new(config, &evaluation)?;
    let mut json = serde_json::to_vec_pretty(&numbers)?;
    json.push(b'\n');
    let figures = config.run.join("figures");
    std::fs::create_dir_all(&figures).with_context(|| format!("cannot create {}", figures.display()))?;
    write_atomically(&config.run.join("summary.json"), &json)?;
    for (name, svg) in charts::all(&numbers) {
        write_atomically(&figures.join(format!("{name}.svg")), svg.as_bytes())?;
    }
    let path = config.run.join("report.html");
    page::page(config, &evaluation, &numbers).write(&path)?;
    Ok((numbers, path))
}

impl Numbers {
    /// The findings in a few lines for the terminal.
    pub fn lines(&self) -> Vec<String> {
        page::lines(self)
    }
}
