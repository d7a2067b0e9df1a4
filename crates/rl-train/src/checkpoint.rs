//! Training checkpoints: a model folder any tool can open, plus what it takes to continue to the bit.
//!
//! Every file of a checkpoint is listed with its hash in `checksums.json`, written last, so that a damaged checkpoint is
//! found, named and passed over for the one before it. A checkpoint that lists no moments keeps a model only: it is never
//! resumed from, and that is no damage.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rl_track::Run;
use rl_track::atomic::{AtomicFolder, write_atomically};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, Result};

/// Where a run stands.
pub const STATE_FILE: &str = "state.json";
/// Moments, masters and averages of the trained weights. Only the newest checkpoints keep them.
pub const OPTIMIZER_FILE: &str = "optimizer.safetensors";
/// SHA-256 of every other file, by its path within the checkpoint.
pub const CHECKSUMS_FILE: &str = "checksums.json";

/// Checkpoints that can be resumed from: the newest, and one in case it is damaged.
const RESUMABLE: usize = 2;

/// Where a run stands, beside its weights and moments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingState {
    /// Steps done; randomness is a function of the seed and this.
    pub step: u64,
    /// The best evaluation so far.
    pub best: Option<Best>,
    /// Evaluations in a row, up to now, without a better one.
    pub evaluations_since_best: u64,
    /// What the training method itself has to remember.
    pub method: Value,
}

/// The best evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Best {
    /// Step of the evaluation.
    pub step: u64,
    /// Value of the metric that decides.
    pub value: f64,
}

/// A checkpoint whose files were found whole.
#[derive(Debug)]
pub struct Saved {
    folder: PathBuf,
    state: TrainingState,
}

impl Saved {
    /// Reads a checkpoint and checks every file against its hash.
    ///
    /// # Errors
    /// [`Error::Resume`] names the first file that is missing, changed, not listed or unreadable, or says that only a
    /// model is kept.
    pub fn open(folder: &Path) -> Result<Self> {
        let listed = read_checksums(folder)?;
        if !listed.contains_key(OPTIMIZER_FILE) {
            return Err(Error::Resume {
                path: folder.into(),
                reason: "keeps a model only, without its moments".into(),
            });
        }
        check_files(folder, &listed)?;
        let path = folder.join(STATE_FILE);
        let state: TrainingState = read_json(&path)?;
        if step_of(folder).is_some_and(|step| step != state.step) {
            let reason = format!("is of step {}: the folder was renamed", state.step);
            return Err(Error::Resume { path, reason });
        }
        Ok(Saved { folder: folder.into(), state })
    }

    /// The checkpoint's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the run stood.
    pub fn state(&self) -> &TrainingState {
        &self.state
    }

    /// What the method left with [`TrainingState::method`].
    ///
    /// # Errors
    /// [`Error::Resume`] when another method wrote it.
    pub fn method<T: serde::de::DeserializeOwned>(&self) -> Result<T> {
        let path = self.folder.join(STATE_FILE);
        let reason = |error: serde_json::Error| format!("was not written by this trainer: {error}");
        serde_json::from_value(self.state.method.clone()).map_err(|error| Error::Resume { path, reason: reason(error) })
    }
}

/// Writes `checkpoints/step-NNNNNN` of the run, complete under its name or not there; `fill` writes the model's files.
///
/// # Errors
/// File errors with their path; the run's earlier checkpoints are untouched by them.
pub(crate) fn save(run: &Run, state: &TrainingState, fill: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let folder = AtomicFolder::create(&run.checkpoint_path(state.step))?;
    fill(folder.path())?;
    write_json(&folder.path().join(STATE_FILE), state)?;
    let mut sums = BTreeMap::new();
    add_checksums(folder.path(), "", &mut sums)?;
    write_json(&folder.path().join(CHECKSUMS_FILE), &sums)?;
    // A damaged checkpoint of this step may be there.
    Ok(folder.commit_replacing()?)
}

/// The newest checkpoint of the run in `run_folder` that can be resumed from, of those before the step `below` if that is
/// given. Damaged ones are named in the log and passed over.
///
/// # Errors
/// File errors with their path; [`Error::NothingToResume`] when there are checkpoints and none is of use.
pub(crate) fn latest(run_folder: &Path, below: Option<u64>) -> Result<Option<Saved>> {
    let mut reasons = Vec::new();
    for (step, folder) in rl_track::run::checkpoints(run_folder)?.into_iter().rev() {
        if below.is_some_and(|below| below <= step) {
            continue;
        }
        match Saved::open(&folder) {
            Ok(saved) => return Ok(Some(saved)),
            Err(error) => {
                if !keeps_model_only(&folder) {
                    tracing::warn!("checkpoint {} is damaged and passed over: {error}", folder.display());
                }
                reasons.push(error.to_string());
            }
        }
    }
    if reasons.is_empty() { Ok(None) } else { Err(Error::NothingToResume { path: run_folder.into(), reasons }) }
}

/// Names in the log what is wrong with the best checkpoint, from which a run is never resumed: nobody else would look.
pub(crate) fn check_best(run: &Run, step: u64) {
    let folder = run.checkpoint_path(step);
    if folder.exists()
        && let Err(error) = read_checksums(&folder).and_then(|listed| check_files(&folder, &listed))
    {
        tracing::warn!("the best checkpoint, of step {step}, is damaged: {error}");
    }
}

/// Removes what is no longer wanted when the checkpoint of `step` stands; again after a kill in between.
///
/// Folders of steps that are not due by `is_due` go: they were written because of an interrupt, and an interrupted run
/// ends with the checkpoints of an uninterrupted one. So do those beyond `keep_last`. The moments, twice the size of the
/// weights, stay in the newest two only. The `best` step is never removed. A checkpoint that is itself written because of
/// an interrupt takes nobody's place: those before it stay as they are.
pub(crate) fn tidy(
    run: &Run,
    step: u64,
    best: Option<u64>,
    keep_last: Option<usize>,
    is_due: impl Fn(u64) -> bool,
) -> Result<()> {
    let checkpoints = run.checkpoints()?;
    let up_to: Vec<(u64, PathBuf)> = checkpoints.into_iter().filter(|(own, _)| *own <= step).collect();
    let (wanted, surplus): (Vec<_>, Vec<_>) =
        up_to.into_iter().partition(|(own, _)| *own == step || is_due(*own) || best == Some(*own));
    for (_, folder) in &surplus {
        remove_whole(folder)?;
    }
    if !is_due(step) && best != Some(step) {
        return Ok(());
    }
    let mut kept = Vec::new();
    for (index, (own, folder)) in wanted.iter().enumerate() {
        let is_recent = keep_last.is_none_or(|keep| wanted.len() - index <= keep);
        if is_recent || best == Some(*own) { kept.push(folder) } else { remove_whole(folder)? }
    }
    for folder in kept.iter().rev().skip(RESUMABLE) {
        strip(folder)?;
    }
    Ok(())
}

/// Leaves only the model of a checkpoint. Its list of files changes first, so that a kill in between leaves no damage.
fn strip(folder: &Path) -> Result<()> {
    rl_track::atomic::remove_all_leftovers(folder)?;
    let is_moments = |name: &str| name.ends_with(OPTIMIZER_FILE);
    // A list that cannot be read is damage, which is reported where a checkpoint is taken up.
    if let Ok(mut listed) = read_checksums(folder)
        && listed.keys().any(|name| is_moments(name))
    {
        listed.retain(|name, _| !is_moments(name));
        write_json(&folder.join(CHECKSUMS_FILE), &listed)?;
    }
    for entry in std::fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        if path.file_name().is_some_and(|name| is_moments(&name.to_string_lossy())) {
            std::fs::remove_file(&path).map_err(Error::file("remove", &path))?;
        }
    }
    Ok(())
}

/// Removes a folder that is never seen half removed: it gives up its name first, for one that is cleared away as a leftover.
fn remove_whole(folder: &Path) -> Result<()> {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let aside = folder.with_file_name(format!(".{name}.partial-removed"));
    if aside.exists() {
        std::fs::remove_dir_all(&aside).map_err(Error::file("remove", &aside))?; // of a killed process
    }
    std::fs::rename(folder, &aside).map_err(Error::file("rename", folder))?;
    std::fs::remove_dir_all(&aside).map_err(Error::file("remove", &aside))
}

/// What `checksums.json` lists.
fn read_checksums(folder: &Path) -> Result<BTreeMap<String, String>> {
    let path = folder.join(CHECKSUMS_FILE);
    let listed: BTreeMap<String, String> = read_json(&path)?;
    if !listed.contains_key(STATE_FILE) {
        return Err(Error::Resume { path, reason: format!("does not list `{STATE_FILE}`: the checkpoint is damaged") });
    }
    Ok(listed)
}

/// Compares every listed file with its hash; weights that are not listed could be anybody's.
fn check_files(folder: &Path, listed: &BTreeMap<String, String>) -> Result<()> {
    for (name, expected) in listed {
        let path = folder.join(name);
        let damaged = |reason: String| Error::Resume { path: path.clone(), reason };
        let found = rl_track::hash::sha256_file(&path).map_err(|error| damaged(error.to_string()))?;
        if found != *expected {
            return Err(damaged("its content is not what was written: the checkpoint is damaged".into()));
        }
    }
    for entry in std::fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_moments = name.ends_with(OPTIMIZER_FILE); // left by a kill while they were being removed
        if name.ends_with(".safetensors") && !is_moments && !listed.contains_key(&name) {
            return Err(Error::Resume { path, reason: format!("is not listed in `{CHECKSUMS_FILE}`") });
        }
    }
    Ok(())
}

/// Whether a checkpoint is meant to hold no moments.
fn keeps_model_only(folder: &Path) -> bool {
    read_checksums(folder).is_ok_and(|listed| !listed.contains_key(OPTIMIZER_FILE))
}

/// N of `step-N`.
fn step_of(folder: &Path) -> Option<u64> {
    folder.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok()
}

fn add_checksums(folder: &Path, prefix: &str, sums: &mut BTreeMap<String, String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::file("read", folder))? {
        let path = entry.map_err(Error::file("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            add_checksums(&path, &format!("{prefix}{name}/"), sums)?;
        } else if name != ".lock" {
            sums.insert(format!("{prefix}{name}"), rl_track::hash::sha256_file(&path)?);
        }
    }
    Ok(())
}

fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let damaged = |reason: String| Error::Resume { path: path.into(), reason };
    let bytes = std::fs::read(path).map_err(|error| damaged(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))
}

fn write_json(path: &Path, value: &impl Serialize) -> Result<()> {
    let json = serde_json::to_vec_pretty(value)
        .map_err(|error| Error::Resume { path: path.into(), reason: error.to_string() })?;
    Ok(write_atomically(path, &json)?)
}
