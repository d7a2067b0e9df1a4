//! The settings of the comparison of weights that a report shows.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use rl_analysis::AnalysisConfig;
use serde::{Deserialize, Serialize};

/// Which weights are compared, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnglesConfig {
    /// Folder of `comparison.json` and the charts.
    pub run: PathBuf,
    /// The checkpoint with the best out-of-distribution success in fine-tuning; see [`checkpoint_of`].
    pub base: PathBuf,
    /// The end of fine-tuning.
    pub target: PathBuf,
    /// The end of reinforcement learning that started at `target`.
    pub other: PathBuf,
    /// What is measured.
    pub analysis: AnalysisConfig,
}

/// `path` if it is a checkpoint folder; of a run's folder the last checkpoint.
///
/// # Errors
/// When there is no such folder, or it is neither.
pub fn checkpoint_of(path: &Path) -> Result<PathBuf> {
    if !path.is_dir() {
        bail!("there is no folder {}; run the stages before this one first", path.display());
    }
    if path.join("config.json").exists() {
        return Ok(path.to_path_buf());
    }
    match rl_track::run::checkpoints(path)?.pop() {
        Some((_, last)) => Ok(last),
        None => bail!("{} is neither a checkpoint (it has no config.json) nor a run with checkpoints", path.display()),
    }
}
