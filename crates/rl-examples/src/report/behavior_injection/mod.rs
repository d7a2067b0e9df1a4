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

use anyhow::Result;

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
    let page = page::page(config, &evaluation, &numbers);
    let path = super::write_files(&config.run, &numbers, &charts::all(&numbers), &page)?;
    Ok((numbers, path))
}

impl Numbers {
    /// The findings in a few lines for the terminal.
    pub fn lines(&self) -> Vec<String> {
        page::lines(self)
    }
}
