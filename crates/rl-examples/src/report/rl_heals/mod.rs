//! The report of the central experiment: what supervised fine-tuning forgot, what reinforcement learning gave back, and
//! what happened to the weights.
//!
//! [`write_report`] reads the records of finished runs and trains or plays nothing. Every number goes through
//! [`Numbers`], which is both `summary.json` and what the page prints; so the two cannot disagree, and the same records
//! give the same bytes.

mod angles;
mod charts;
mod claims;
mod config;
mod game;
mod inputs;
mod judge;
mod numbers;
mod page;
mod weights;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use anyhow::Result;
use rl_track::atomic::write_atomically;

pub use angles::{AnglesConfig, checkpoint_of};
pub use claims::{Claim, Verdict};
pub use config::{ReportConfig, RlRuns, Splits, Stages};
pub use game::Game;
pub use inputs::{Inputs, RlRecord};
pub use numbers::{
    AdvantageNumbers, CheckpointNumbers, Headline, Numbers, Provenance, RlNumbers, SftNumbers, StageNumbers,
};
pub use weights::{PairNumbers, UpdateNumbers, WeightNumbers};

/// Reads the records that `config` names and writes `report.html`, `summary.json` and two charts under `figures/`; gives
/// the numbers and the page's path.
///
/// # Errors
/// A setting out of range, a record that is missing or unreadable (named), a stage, split or decoding that the
/// evaluations do not hold, or a folder that cannot be written to. No file is ever half-written.
pub fn write_report(config: &ReportConfig) -> Result<(Numbers, PathBuf)> {
    config.validate()?;
    let inputs = Inputs::read(config)?;
    let numbers = Numbers::new(config, &inputs)?;
    let mut json = serde_json::to_vec_pretty(&numbers)?;
    json.push(b'\n');
    std::fs::create_dir_all(&config.run)
        .map_err(|error| anyhow::anyhow!("cannot create {}: {error}", config.run.display()))?;
    write_atomically(&config.run.join("summary.json"), &json)?;
    // The two charts one shows to others, as files of their own.
    let figures = config.run.join("figures");
    std::fs::create_dir_all(&figures)
        .map_err(|error| anyhow::anyhow!("cannot create {}: {error}", figures.display()))?;
    write_atomically(&figures.join("accuracy.svg"), charts::accuracy(config, &numbers).to_svg().as_bytes())?;
    write_atomically(&figures.join("stages.svg"), charts::stages(config, &numbers).to_svg().as_bytes())?;
    let path = config.run.join("report.html");
    page::page(config, &inputs, &numbers).write(&path)?;
    Ok((numbers, path))
}
