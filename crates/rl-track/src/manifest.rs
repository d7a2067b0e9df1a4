//! `manifest.json`: what is needed to repeat a run, apart from its configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::clock::utc_timestamp;
use crate::config::KeyDifference;
use crate::error::{Error, Result};
use crate::hash::{sha256_file, sha256_files, sha256_list};

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
    /// SHA-256 of the files of an input that is a folder, by input and file: tells weights, tokenizer and template apart.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, BTreeMap<String, String>>,
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

impl fmt::Display for Revision {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.commit.get(..12).unwrap_or(&self.commit))?;
        if self.modified { out.write_str(" with changes") } else { Ok(()) }
    }
}

/// When a start happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// UTC, as `2026-11-21T09:30:00Z`.
    pub started: String,
}

/// One thing in which two runs differ. Its text is `WHAT NAME: LEFT | RIGHT`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// `config`, `seed`, `input`, `file`, `version`, `code` or `command`.
    pub what: &'static str,
    /// The key, the name, or the input and its file.
    pub name: String,
    /// Of the left run; `None` where it has none.
    pub left: Option<String>,
    /// Of the right run.
    pub right: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |value: &Option<String>| match value {
            None => "nothing".to_owned(),
            // The first twelve of a hash's 64 letters tell hashes apart.
            Some(hash) if hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                hash[..12].to_owned()
            }
            Some(value) => value.clone(),
        };
        let gap = if self.name.is_empty() { "" } else { " " };
        write!(out, "{}{gap}{}: {} | {}", self.what, self.name, text(&self.left), text(&self.right))
    }
}

/// The layout that this code writes and reads.
pub const FORMAT: u32 = 1;

/// Folders with more files than this, such as datasets in shards, have one hash for all.
const MAX_LISTED_FILES: usize = 64;

impl Manifest {
    /// The manifest of this process, with its command line, the time, the git revision of the current folder, and
    /// the version of this crate, the platform and the kind of build.
    pub fn new() -> Self {
        let versions = [
            (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION").to_owned()),
            ("platform", format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)),
            ("build", if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
        ];
        let start = Start {
            versions: versions.map(|(name, version)| (name.to_owned(), version)).into(),
            revision: git_revision(Path::new(".")),
            command: std::env::args_os().map(|part| part.to_string_lossy().into_owned()).collect(),
            timing: Timing { started: utc_timestamp(SystemTime::now()) },
        };
        Self {
            format: FORMAT,
            seeds: BTreeMap::new(),
            inputs: BTreeMap::new(),
            files: BTreeMap::new(),
            starts: vec![start],
        }
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

    /// Adds a file or folder; it is read once to hash it. Of a folder with few files each one's hash is kept too.
    pub fn input_path(mut self, name: impl Into<String>, path: &Path) -> Result<Self> {
        let name = name.into();
        if !path.is_dir() {
            let hash = sha256_file(path)?;
            return Ok(self.input(name, hash));
        }
        let files = sha256_files(path)?;
        let hash = sha256_list(&files);
        if files.len() <= MAX_LISTED_FILES {
            let short = |name: String| name.strip_prefix("./").map(str::to_owned).unwrap_or(name);
            self.files.insert(name.clone(), files.into_iter().map(|(name, hash)| (short(name), hash)).collect());
        }
        Ok(self.input(name, hash))
    }

    /// Everything in which two runs differ, apart from when they were started. Versions, code and command are those of the
    /// last start.
    pub fn differences(&self, other: &Manifest) -> Vec<Difference> {
        let of = |what, found: Vec<KeyDifference>| {
            found.into_iter().map(move |(name, left, right)| Difference { what, name, left, right })
        };
        let mut all: Vec<Difference> = of("seed", map_differences(&self.seeds, &other.seeds)).collect();
        all.extend(of("input", map_differences(&self.inputs, &other.inputs)));
        for (input, files) in &self.files {
            // Where one side has no list, its files are unknown, not absent.
            for (file, left, right) in
                other.files.get(input).map(|other| map_differences(files, other)).unwrap_or_default()
            {
                all.push(Difference { what: "file", name: format!("{input}/{file}"), left, right });
            }
        }
        let none = BTreeMap::new();
        let (left, right) = (self.starts.last(), other.starts.last());
        let versions = |start: Option<&'_ Start>| start.map_or(none.clone(), |start| start.versions.clone());
        all.extend(of("version", map_differences(&versions(left), &versions(right))));
        let mut push = |what, left: Option<String>, right: Option<String>| {
            if left != right {
                all.push(Difference { what, name: String::new(), left, right });
            }
        };
        let code = |start: Option<&Start>| start.and_then(|start| start.revision.as_ref()).map(Revision::to_string);
        push("code", code(left), code(right));
        let command = |start: Option<&Start>| start.map(|start| start.command.join(" "));
        push("command", command(left), command(right));
        all
    }

    /// The manifest of a resumed run: this one with the start of `now` added, if seeds and inputs are equal.
    pub(crate) fn resumed(mut self, path: &Path, now: &Manifest) -> Result<Self> {
        let first = self.differences(now).into_iter().find(|difference| matches!(difference.what, "seed" | "input"));
        if let Some(Difference { what, name, left, right }) = first {
            let text = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
            let (recorded, given) = (text(left), text(right));
            return Err(Error::ManifestDiffers { path: path.to_path_buf(), what, name, recorded, given });
        }
        self.starts.extend(now.starts.iter().cloned());
        Ok(self)
    }

    /// The manifest of a run that need not be open.
    pub fn read(path: &Path) -> Result<Self> {
        Self::from_json(path, &fs::read(path).map_err(Error::io("read", path))?)
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

fn map_differences<V: PartialEq + ToString>(
    left: &BTreeMap<String, V>,
    right: &BTreeMap<String, V>,
) -> Vec<KeyDifference> {
    let extra = right.keys().filter(|name| !left.contains_key(*name));
    let differs = left.keys().chain(extra).filter(|name| left.get(*name) != right.get(*name));
    let text = |map: &BTreeMap<String, V>, name: &str| map.get(name).map(V::to_string);
    differs.map(|name| (name.clone(), text(left, name), text(right, name))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_name_what_where_and_both_values() {
        let folder = tempfile::tempdir().unwrap();
        let model = |name: &str, template: &str| {
            let path = folder.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join("model.safetensors"), "weights").unwrap();
            fs::write(path.join("chat_template.jinja"), template).unwrap();
            path
        };
        let base = || Manifest::new().version("trainer", "0.1.0");
        let left = base().seed("train", 1).input_path("model", &model("a", "one")).unwrap();
        let right = base().seed("train", 2).seed("eval", 3).input_path("model", &model("b", "two")).unwrap();
        let right = right.version("trainer", "0.2.0");
        let texts: Vec<String> = left.differences(&right).iter().map(Difference::to_string).collect();
        // `printf one | sha256sum`, `printf two | sha256sum`; the folders' hashes by the command of `sha256_folder`
        let expected = [
            "seed train: 1 | 2",
            "seed eval: nothing | 3",
            "input model: 3b796bbf3d43 | ea76f369d980",
            "file model/chat_template.jinja: 7692c3ad3540 | 3fc4ccfe7458",
            "version trainer: 0.1.0 | 0.2.0",
        ];
        assert_eq!(texts, expected);
        assert_eq!(left.differences(&left), []);
        let read = Manifest::from_json(Path::new("m"), &left.to_json().unwrap()).unwrap();
        assert_eq!(read, left);
    }

    #[test]
    fn a_manifest_without_lists_of_files_is_read_and_has_none_to_compare() {
        let left = Manifest::new().input("model", "aa");
        let json = String::from_utf8(left.to_json().unwrap()).unwrap();
        assert!(!json.contains("files"), "{json}");
        let mut right = left.clone();
        right.files.insert("model".into(), BTreeMap::from([("config.json".into(), "bb".into())]));
        assert_eq!(left.differences(&right), []);
        assert_eq!(right.differences(&left), []);
    }
}
