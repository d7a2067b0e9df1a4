//! Comparison of checkpoint folders.

use std::path::Path;

use tch::Device;

use crate::compare::{Progress, compare_checkpoints};
use crate::config::AnalysisConfig;
use crate::error::Result;
use crate::report::Comparison;

/// [`compare_checkpoints`] of three folders in the Hugging Face layout; weights keep the type they are stored in.
///
/// # Errors
/// Those of reading the folders and of [`compare_checkpoints`].
pub fn compare_folders(
    base: &Path,
    target: &Path,
    other: &Path,
    config: &AnalysisConfig,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Comparison> {
    // Before gigabytes are read.
    config.validate()?;
    let read = |folder| rl_models::checkpoint::read_tensors(folder, Device::Cpu);
    compare_checkpoints(&read(base)?, &read(target)?, &read(other)?, config, progress)
}
