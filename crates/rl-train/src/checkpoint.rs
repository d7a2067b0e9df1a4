//! Training checkpoints: a model folder any tool can open, plus what it takes to continue to the bit.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rl_data::Cursor;
use rl_models::checkpoint::{load_tensors, save_tensors, write_into};
use rl_models::{ChatModel, ValueHead};
use rl_torch::AdamW;
use rl_track::Run;
use rl_track::atomic::AtomicFolder;
use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{Error, Result};

const STATE_FILE: &str = "state.json";
const OPTIMIZER_FILE: &str = "optimizer.safetensors";
const VALUE_HEAD_FILE: &str = "value_head.safetensors";

/// Where a run stands, beside its weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    /// Steps done; randomness is a function of the seed and this.
    pub step: u64,
    /// Optimizer updates done.
    pub num_updates: u64,
    /// Place in the data, for trainers that read a file.
    pub cursor: Option<Cursor>,
}

/// Writes `checkpoints/step-NNNNNN` of the run: complete under its name, or not there.
///
/// The optimizer's moments of older checkpoints are then removed: they are only read to resume, and are twice the size
/// of the weights. The older folders stay complete models, but for those of steps that are not due by `is_due`: they were
/// written because of an interrupt, and go, so that an interrupted run ends with the checkpoints of an uninterrupted one.
///
/// # Errors
/// File errors with their path; the run's earlier checkpoints are untouched by them.
pub fn save(
    run: &Run,
    model: &ChatModel,
    optimizer: &AdamW,
    value_head: Option<&ValueHead>,
    state: &TrainingState,
    is_due: impl Fn(u64) -> bool,
) -> Result<PathBuf> {
    let folder = AtomicFolder::create(&run.checkpoint_path(state.step))?;
    let parameters = model.decoder.checkpoint_tensors()?;
    write_into(folder.path(), model.decoder.config(), &borrowed(&parameters), &model.side_files)?;
    save_tensors(&folder.path().join(OPTIMIZER_FILE), &borrowed(&optimizer.state()))?;
    if let Some(head) = value_head {
        save_tensors(&folder.path().join(VALUE_HEAD_FILE), &borrowed(&head.parameters()))?;
    }
    let json = serde_json::to_vec_pretty(state)
        .map_err(|error| Error::Resume { path: folder.path().into(), reason: error.to_string() })?;
    rl_track::atomic::write_atomically(&folder.path().join(STATE_FILE), &json)?;
    let path = folder.commit()?;
    tidy(run, state.step, is_due)?;
    Ok(path)
}

/// Removes what only the checkpoint of `step` has to keep; again after a kill between the writing and the removal.
pub(crate) fn tidy(run: &Run, step: u64, is_due: impl Fn(u64) -> bool) -> Result<()> {
    for (step, older) in run.checkpoints()?.into_iter().filter(|(older, _)| *older < step) {
        if !is_due(step) {
            remove_whole(&older)?;
            continue;
        }
        let moments = older.join(OPTIMIZER_FILE);
        if moments.exists() {
            std::fs::remove_file(&moments).map_err(Error::file("remove", &moments))?;
        }
    }
    Ok(())
}

/// The run's last checkpoint that can be resumed from.
///
/// # Errors
/// File errors with their path.
pub fn latest(run: &Run) -> Result<Option<PathBuf>> {
    let complete = run.checkpoints()?.into_iter().rev().find(|(_, path)| path.join(OPTIMIZER_FILE).exists());
    Ok(complete.map(|(_, path)| path))
}

/// Reads the state of a checkpoint.
///
/// # Errors
/// [`Error::Resume`] when the file is missing or is not what [`save`] writes.
pub fn read_state(checkpoint: &Path) -> Result<TrainingState> {
    let path = checkpoint.join(STATE_FILE);
    let resume_error = |reason: String| Error::Resume { path: path.clone(), reason };
    let bytes = std::fs::read(&path).map_err(|error| resume_error(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| resume_error(error.to_string()))
}

/// Restores optimizer and value head from a checkpoint; the weights are loaded by [`ChatModel::load`].
///
/// # Errors
/// When the saved tensors do not fit the parameters.
pub fn restore(
    checkpoint: &Path,
    state: &TrainingState,
    optimizer: &mut AdamW,
    value_head: Option<&ValueHead>,
) -> Result<()> {
    let load = |file: &str| -> Result<BTreeMap<String, Tensor>> {
        Ok(load_tensors(&checkpoint.join(file), tch::Device::Cpu)?)
    };
    optimizer.restore(&load(OPTIMIZER_FILE)?, state.num_updates)?;
    if let Some(head) = value_head {
        head.restore(&load(VALUE_HEAD_FILE)?)?;
    }
    Ok(())
}

/// Removes a folder that is never seen half removed: it gives up its name first, for one that is cleared away as a leftover.
fn remove_whole(folder: &Path) -> Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".{name}.partial-removed"));
    std::fs::rename(folder, &aside).map_err(Error::file("rename", folder))?;
    std::fs::remove_dir_all(&aside).map_err(Error::file("remove", &aside))
}

fn borrowed(tensors: &[(String, Tensor)]) -> Vec<(&str, &Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}
