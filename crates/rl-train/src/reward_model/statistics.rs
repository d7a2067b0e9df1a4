//! Mean and spread of a reward model's outputs, kept beside its weights.

use std::path::Path;

use rl_core::reward_loss::RewardNormalizer;

use crate::{Error, Result};

/// File of a checkpoint: `{"mean": ..., "std": ...}` over all chosen and rejected rewards of the held-out pairs.
pub(super) const FILE: &str = "reward_statistics.json";

/// What [`write_statistics`] left in `folder`; none when there is no such file.
pub(super) fn read_statistics(folder: &Path) -> Result<Option<RewardNormalizer>> {
    let file = folder.join(FILE);
    if !file.exists() {
        return Ok(None);
    }
    let bytes = std::fs::read(&file).map_err(Error::file("read", &file))?;
    let statistics: RewardNormalizer = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Resume { path: file.clone(), reason: error.to_string() })?;
    statistics.validate()?;
    Ok(Some(statistics))
}

/// Writes the statistics into a folder under construction.
pub(super) fn write_statistics(folder: &Path, statistics: &RewardNormalizer) -> Result<()> {
    let file = folder.join(FILE);
    let json = serde_json::to_vec_pretty(statistics)
        .map_err(|error| Error::Resume { path: file.clone(), reason: error.to_string() })?;
    std::fs::write(&file, json).map_err(Error::file("write", &file))
}
