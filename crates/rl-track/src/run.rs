//! A run's folder: who may write to it, what is in it, and how a killed run is taken up again.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use serde::Serialize;
use toml::Table;

use crate::atomic::{remove_all_leftovers, write_atomically};
use crate::config::{differences as key_differences, to_toml};
use crate::error::{Error, Result};
use crate::jsonl;
use crate::manifest::{Difference, Manifest};
use crate::metrics::MetricsWriter;
use crate::samples::SampleWriter;
use crate::tensorboard::EventWriter;

/// File names inside a run's folder.
pub mod names {
    /// The resolved configuration.
    pub const CONFIG: &str = "config.toml";
    /// Versions, seeds, hashes.
    pub const MANIFEST: &str = "manifest.json";
    /// One line per step and split.
    pub const METRICS: &str = "metrics.jsonl";
    /// Prompts and answers to read.
    pub const SAMPLES: &str = "samples.jsonl";
    /// The log without colours.
    pub const LOG: &str = "log.txt";
    /// Locked by the process that writes the run.
    pub const LOCK: &str = ".lock";
    /// One folder per saved step.
    pub const CHECKPOINTS: &str = "checkpoints";
}

/// The folder of one run, open for writing by this process alone.
///
/// ```text
/// <run>/  config.toml  manifest.json  metrics.jsonl  events.out.tfevents.*  samples.jsonl  log.txt
///         checkpoints/step-000100/...
/// ```
#[derive(Debug)]
pub struct Run {
    folder: PathBuf,
    manifest: Manifest,
    is_resumed: bool,
    /// Held until the run is dropped or the process dies.
    _lock: File,
}

impl Run {
    /// Creates the folder of a new run, or takes up the run that is already there.
    ///
    /// # Errors
    /// The folder is written to by another process, or holds something else; or the run there was started with another
    /// configuration, seed or input (the first difference is named).
    pub fn open(folder: &Path, config: &impl Serialize, manifest: Manifest) -> Result<Self> {
        let config_text = to_toml(config)?;
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let lock = lock(folder)?;
        clear_leftovers(folder)?;

        let config_path = folder.join(names::CONFIG);
        let manifest_path = folder.join(names::MANIFEST);
        // The manifest is written last: without it the run has not begun.
        let is_resumed = manifest_path.exists();
        let manifest = if is_resumed {
            let recorded = fs::read_to_string(&config_path).map_err(Error::io("read", &config_path))?;
            compare_configs(&config_path, &recorded, &config_text)?;
            Manifest::read(&manifest_path)?.resumed(&manifest_path, &manifest)?
        } else {
            refuse_remains(folder)?;
            write_atomically(&config_path, config_text.as_bytes())?;
            manifest
        };
        write_atomically(&manifest_path, &manifest.to_json()?)?;
        Ok(Self { folder: folder.to_path_buf(), manifest, is_resumed, _lock: lock })
    }

    /// The run's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// True if the run was there before this start.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// The manifest as recorded, with all starts.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Where the log goes; give it to [`crate::log::init`].
    pub fn log_path(&self) -> PathBuf {
        self.folder.join(names::LOG)
    }

    /// Opens `metrics.jsonl`. Call [`rewind`](Self::rewind) first when resuming.
    pub fn metrics(&self) -> Result<MetricsWriter> {
        MetricsWriter::open(&self.folder.join(names::METRICS))
    }

    /// Opens `samples.jsonl` for at most `per_step` samples at every `every`-th step.
    pub fn samples(&self, every: u64, per_step: usize) -> Result<SampleWriter> {
        SampleWriter::open(&self.folder.join(names::SAMPLES), every, per_step)
    }

    /// Starts a new TensorBoard event file. `resumed_at` is the step of the checkpoint that a resumed run continues
    /// from: viewers then drop what the killed run wrote after it.
    pub fn events(&self, resumed_at: Option<u64>) -> Result<EventWriter> {
        let mut writer = EventWriter::create(&self.folder)?;
        if let Some(step) = resumed_at {
            writer.restart_from(step + 1)?;
        }
        Ok(writer)
    }

    /// Drops metrics and samples after `step`, the step of the checkpoint that the run continues from (0: the start).
    ///
    /// Then the resumed run writes exactly the lines that it would have written without the interruption.
    pub fn rewind(&self, step: u64) -> Result<()> {
        for name in [names::METRICS, names::SAMPLES] {
            jsonl::truncate_after(&self.folder.join(name), step)?;
        }
        Ok(())
    }

    /// Drops all metrics and samples, for a run that was killed before its first checkpoint.
    pub fn restart(&self) -> Result<()> {
        for name in [names::METRICS, names::SAMPLES] {
            let path = self.folder.join(name);
            if path.exists() {
                write_atomically(&path, b"")?;
            }
        }
        Ok(())
    }

    /// `checkpoints/step-000100`, for [`crate::atomic::AtomicFolder::create`].
    pub fn checkpoint_path(&self, step: u64) -> PathBuf {
        self.folder.join(names::CHECKPOINTS).join(format!("step-{step:06}"))
    }

    /// Steps and folders of the complete checkpoints, the oldest first.
    pub fn checkpoints(&self) -> Result<Vec<(u64, PathBuf)>> {
        checkpoints(&self.folder)
    }
}

/// Steps and folders of the complete checkpoints of a run that need not be open, the oldest first.
pub fn checkpoints(run_folder: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let folder = run_folder.join(names::CHECKPOINTS);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
        let path = entry.map_err(Error::io("read", &folder))?.path();
        let step = path.file_name().and_then(|name| name.to_str()?.strip_prefix("step-")?.parse().ok());
        if let (Some(step), true) = (step, path.is_dir()) {
            found.push((step, path));
        }
    }
    found.sort();
    Ok(found)
}

/// The resolved configuration of a run that need not be open.
pub fn read_config(run_folder: &Path) -> Result<Table> {
    let path = run_folder.join(names::CONFIG);
    parse_config(&path, &fs::read_to_string(&path).map_err(Error::io("read", &path))?)
}

/// A whole number of a configuration by its key, wherever it stands; the outermost one of several.
pub fn config_number(config: &Table, key: &str) -> Option<u64> {
    let own = config.get(key).and_then(toml::Value::as_integer).and_then(|number| u64::try_from(number).ok());
    own.or_else(|| config.values().filter_map(toml::Value::as_table).find_map(|inner| config_number(inner, key)))
}

/// Everything in which two runs differ: keys of the configuration other than `run`, then what their manifests say.
pub fn differences(left: &Path, right: &Path) -> Result<Vec<Difference>> {
    let keys = key_differences(&read_config(left)?, &read_config(right)?).into_iter();
    // The folder's own name says nothing about the run.
    let keys = keys.filter(|(name, ..)| name != "run");
    let mut all: Vec<Difference> =
        keys.map(|(name, left, right)| Difference { what: "config", name, left, right }).collect();
    let manifest = |folder: &Path| Manifest::read(&folder.join(names::MANIFEST));
    all.extend(manifest(left)?.differences(&manifest(right)?));
    Ok(all)
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(names::LOCK);
    let file = File::create(&path).map_err(Error::io("write", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { path: folder.to_path_buf() }),
        Err(TryLockError::Error(error)) if error.kind() == std::io::ErrorKind::Unsupported => {
            tracing::warn!(path = %folder.display(), "this file system has no locks: start only one process per run");
            Ok(file)
        }
        Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

/// What killed processes left in the folder and in those right below it. The lock is held: nobody else writes there.
fn clear_leftovers(folder: &Path) -> Result<()> {
    remove_all_leftovers(folder)?;
    for entry in fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.is_dir() {
            remove_all_leftovers(&path)?;
        }
    }
    Ok(())
}

fn compare_configs(path: &Path, recorded: &str, given: &str) -> Result<()> {
    if recorded == given {
        return Ok(());
    }
    match key_differences(&parse_config(path, recorded)?, &parse_config(path, given)?).into_iter().next() {
        None => Ok(()),
        Some((key, recorded, given)) => {
            let text = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
            Err(Error::ConfigDiffers { path: path.to_path_buf(), key, recorded: text(recorded), given: text(given) })
        }
    }
}

fn parse_config(path: &Path, text: &str) -> Result<Table> {
    toml::from_str::<Table>(text)
        .map_err(|error| Error::NotARun { path: path.to_path_buf(), message: error.message().to_owned() })
}

fn refuse_remains(folder: &Path) -> Result<()> {
    for name in [names::METRICS, names::SAMPLES, names::CHECKPOINTS] {
        if folder.join(name).exists() {
            let message = format!("holds `{name}` but no `{}`", names::MANIFEST);
            return Err(Error::NotARun { path: folder.to_path_buf(), message });
        }
    }
    Ok(())
}
