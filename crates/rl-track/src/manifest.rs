//! `manifest.json`: what is needed to repeat a run, apart from its configuration.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::utc_timestamp;
use crate::error::{Error, Result};
use crate::hash::sha256_path;

/// Versions, seeds, inputs and starts of a run.
///
/// Seeds and inputs belong to the run: a resume with other ones is an error. Everything else belongs to a start, of
/// which a resumed run has several. What depends on the clock lies under `timing` alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of this layout.
    pub format: u32,
    /// Seeds by name.
    pub seeds: BTreeMap<String, u64>,
    /// SHA-256 of datasets, checkpoints and other inputs by name.
    pub inputs: BTreeMap<String, String>,
    /// One entry per start of the process, the first one first.
    pub starts: Vec<Start>,
}

/// One start of the process that writes a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Versions of the crates (and of what else matters) by name.
    pub versions: BTreeMap<String, String>,
    /// State of the code, if the process was started inside a git working copy.
    pub revision: Option<Revision>,
    /// The command line, program first.
    pub command: Vec<String>,
    /// What depends on the clock.
    pub timing: Timing,
}

/// A git commit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revision {
    /// Full hash.
    pub commit: String,
    /// True if tracked files differ from the commit.
    pub modified: bool,
}

/// When a start happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// UTC, as `2026-11-21T09:30:00Z`.
    pub started: String,
}

/// The layout that this code writes and reads.
pub const FORMAT: u32 = 1;

impl Manifest {
    /// The manifest of this process, with its command line, the time, the git revision of the current folder, and
    /// the version of this crate.
    pub fn new() -> Self {
        let start = Start {
            versions: BTreeMap::from([(env!("CARGO_PKG_NAME").to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
            revision: git_revision(Path::new(".")),
            command: std::env::args_os().map(|part| part.to_string_lossy().into_owned()).collect(),
            timing: Timing { started: utc_timestamp(SystemTime::now()) },
        };
        Self { format: FORMAT, seeds: BTreeMap::new(), inputs: BTreeMap::new(), starts: vec![start] }
    }

    /// Adds a version, for example `version("rl-train", env!("CARGO_PKG_VERSION"))`.
    pub fn version(mut self, name: impl Into<String>, version: impl Into<String>) -> Self {
        if let Some(start) = self.starts.last_mut() {
            start.versions.insert(name.into(), version.into());
        }
        self
    }

    /// Adds a seed.
    pub fn seed(mut self, name: impl Into<String>, seed: u64) -> Self {
        self.seeds.insert(name.into(), seed);
        self
    }

    /// Adds an input whose SHA-256 is known.
    pub fn input(mut self, name: impl Into<String>, sha256: impl Into<String>) -> Self {
        self.inputs.insert(name.into(), sha256.into());
        self
    }

    /// Adds a file or folder; it is read once to hash it.
    pub fn input_path(self, name: impl Into<String>, path: &Path) -> Result<Self> {
        Ok(self.input(name, sha256_path(path)?))
    }

    /// The manifest of a resumed run: this one with the start of `now` added, if seeds and inputs are equal.
    pub(crate) fn resumed(mut self, path: &Path, now: &Manifest) -> Result<Self> {
        let differs = |what, (name, recorded, given): (String, Option<String>, Option<String>)| {
            let text = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
            Error::ManifestDiffers {
                path: path.to_path_buf(),
                what,
                name,
                recorded: text(recorded),
                given: text(given),
            }
        };
        if let Some(found) = first_difference(&self.seeds, &now.seeds) {
            return Err(differs("seed", found));
        }
        if let Some(found) = first_difference(&self.inputs, &now.inputs) {
            return Err(differs("input", found));
        }
        self.starts.extend(now.starts.iter().cloned());
        Ok(self)
    }

    pub(crate) fn to_json(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| Error::Serialize {
            what: "the manifest",
            format: "JSON",
            message: error.to_string(),
        })?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    pub(crate) fn from_json(path: &Path, bytes: &[u8]) -> Result<Self> {
        let bad = |line, message| Error::BadLine { path: path.to_path_buf(), line, message };
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| bad(error.line(), error.to_string()))?;
        if manifest.format != FORMAT {
            return Err(bad(1, format!("format {} is not supported, only {FORMAT}", manifest.format)));
        }
        Ok(manifest)
    }
}

impl Default for Manifest {
    fn default() -> Self {
        Self::new()
    }
}

/// The commit of the working copy around `folder`; `None` without git or outside a working copy.
pub fn git_revision(folder: &Path) -> Option<Revision> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).current_dir(folder).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    Some(Revision { commit, modified: !changes.is_empty() })
}

fn first_difference<V: PartialEq + ToString>(
    recorded: &BTreeMap<String, V>,
    given: &BTreeMap<String, V>,
) -> Option<(String, Option<String>, Option<String>)> {
    let name = recorded.keys().chain(given.keys()).find(|name| recorded.get(*name) != given.get(*name))?;
    let text = |map: &BTreeMap<String, V>| map.get(name).map(V::to_string);
    Some((name.clone(), text(recorded), text(given)))
}
