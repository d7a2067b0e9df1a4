//! What a stage's result depends on, as one SHA-256: its definition, its config file, the contents of its inputs.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::file::Stage;
use super::record;

/// Changes when the recipe below does, so that old fingerprints do not match by accident.
const RECIPE: &str = "stage 1";
/// A file changed this shortly before it was read may change again without a new time stamp.
const TIME_STAMP_GRAIN: Duration = Duration::from_secs(2);
const CHUNK: usize = 1 << 20;

/// A fingerprint, or the first path that it would need and that is not there.
#[derive(Debug, PartialEq)]
pub enum Fingerprint {
    Known(String),
    Missing(String),
}

/// Hashes of files, remembered by size, time stamps and inode, because checkpoints are large and rarely change.
pub struct Hashes {
    memo: Option<PathBuf>,
    known: BTreeMap<String, Known>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Known {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    sha256: String,
}

impl Hashes {
    /// Reads the memory at `memo`; one that cannot be read is begun anew.
    pub fn open(memo: PathBuf) -> Self {
        let known = std::fs::read(&memo).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        Self { memo: Some(memo), known }
    }

    /// Writes the memory back.
    pub fn save(&self) -> Result<()> {
        match &self.memo {
            Some(memo) => record::write(memo, &self.known),
            None => Ok(()),
        }
    }

    fn file(&mut self, path: &Path) -> Result<String> {
        let mut file = File::open(path)?;
        let meta = file.metadata()?;
        let mut fresh = Known {
            size: meta.size(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            sha256: String::new(),
        };
        let key = path.to_string_lossy().into_owned();
        if let Some(old) = self.known.get(&key) {
            let same = (old.size, old.inode, old.modified, old.changed);
            if same == (fresh.size, fresh.inode, fresh.modified, fresh.changed) {
                return Ok(old.sha256.clone());
            }
        }
        let mut hash = Sha256::new();
        let mut buffer = vec![0; CHUNK];
        loop {
            match file.read(&mut buffer)? {
                0 => break,
                count => hash.update(&buffer[..count]),
            }
        }
        fresh.sha256 = hex(hash);
        let sha256 = fresh.sha256.clone();
        let stamp = UNIX_EPOCH + Duration::from_secs(fresh.changed.0.max(0) as u64);
        if SystemTime::now().duration_since(stamp).is_ok_and(|age| age > TIME_STAMP_GRAIN) {
            self.known.insert(key, fresh);
        } else {
            self.known.remove(&key);
        }
        Ok(sha256)
    }

    /// A file's contents, or for a folder the names and contents of all that is in it.
    fn path(&mut self, path: &Path) -> Result<String> {
        let read = |path: &Path| format!("cannot read {}", path.display());
        if !path.is_dir() {
            return self.file(path).with_context(|| read(path));
        }
        let mut names: Vec<_> = std::fs::read_dir(path)
            .and_then(|entries| entries.map(|entry| Ok(entry?.file_name())).collect::<std::io::Result<_>>())
            .with_context(|| read(path))?;
        names.sort();
        let mut hash = Sha256::new();
        for name in names {
            let child = path.join(&name);
            // A link may point at its own parent: what it says counts, not what is behind it.
            let (kind, content) = if child.is_symlink() {
                ("link", child.read_link().with_context(|| read(&child))?.to_string_lossy().into_owned())
            } else if child.is_dir() {
                ("folder", self.path(&child)?)
            } else {
                ("file", self.path(&child)?)
            };
            for field in [kind, &name.to_string_lossy(), &content] {
                add(&mut hash, field);
            }
        }
        Ok(hex(hash))
    }

    /// The fingerprint of `stage`, whose paths are relative to `root`.
    pub fn stage(&mut self, root: &Path, stage: &Stage) -> Result<Fingerprint> {
        let mut hash = Sha256::new();
        let Stage { name: _, about: _, example, config, set, args, inputs, outputs } = stage;
        add(&mut hash, RECIPE);
        add(&mut hash, &serde_json::to_string(&(example, config, set, args, inputs, outputs))?);
        for path in config.iter().chain(inputs) {
            let full = root.join(path);
            if !full.exists() {
                return Ok(Fingerprint::Missing(path.clone()));
            }
            add(&mut hash, &self.path(&full)?);
        }
        Ok(Fingerprint::Known(hex(hash)))
    }
}

/// Adds a field with its length, so that no two lists of fields look alike.
fn add(hash: &mut Sha256, field: &str) {
    hash.update((field.len() as u64).to_le_bytes());
    hash.update(field.as_bytes());
}

fn hex(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage() -> Stage {
        Stage {
            name: "s".into(),
            about: String::new(),
            example: "sft".into(),
            config: Some("c.toml".into()),
            set: vec!["a=1".into()],
            args: vec![],
            inputs: vec!["in".into()],
            outputs: vec!["out".into()],
        }
    }

    fn folder() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("in/deep")).unwrap();
        std::fs::write(dir.path().join("c.toml"), "seed = 1").unwrap();
        std::fs::write(dir.path().join("in/deep/x"), "abc").unwrap();
        dir
    }

    fn of(dir: &Path, stage: &Stage) -> Fingerprint {
        Hashes::open(dir.join("memo.json")).stage(dir, stage).unwrap()
    }

    #[test]
    fn a_file_hash_is_the_published_one() {
        // FIPS 180-2, appendix B.1.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let dir = folder();
        let mut hashes = Hashes::open(dir.path().join("memo.json"));
        assert_eq!(hashes.path(&dir.path().join("in/deep/x")).unwrap(), abc);
    }

    #[test]
    fn all_that_matters_changes_it_and_words_for_people_do_not() {
        let dir = folder();
        let root = dir.path();
        let first = of(root, &stage());
        assert_eq!(first, of(root, &Stage { about: "new words".into(), ..stage() }));
        let changes = [
            Stage { example: "rl".into(), ..stage() },
            Stage { set: vec!["a=2".into()], ..stage() },
            Stage { args: vec!["a=1".into()], set: vec![], ..stage() },
            Stage { outputs: vec!["out2".into()], ..stage() },
            Stage { config: None, ..stage() },
        ];
        for changed in &changes {
            assert_ne!(first, of(root, changed), "{changed:?}");
        }
        std::fs::rename(root.join("in/deep/x"), root.join("in/deep/y")).unwrap();
        let renamed = of(root, &stage());
        assert_ne!(first, renamed);
        std::fs::write(root.join("in/deep/y"), "abd").unwrap();
        assert_ne!(renamed, of(root, &stage()));
        std::fs::rename(root.join("in/deep/y"), root.join("in/deep/x")).unwrap();
        std::fs::write(root.join("in/deep/x"), "abc").unwrap();
        assert_eq!(first, of(root, &stage()), "contents count, not time stamps");
        std::fs::write(root.join("c.toml"), "seed = 2").unwrap();
        assert_ne!(first, of(root, &stage()));
        std::fs::remove_file(root.join("c.toml")).unwrap();
        assert_eq!(of(root, &stage()), Fingerprint::Missing("c.toml".into()));
    }

    #[test]
    fn the_memory_is_used_for_old_files_and_never_for_changed_ones() {
        let dir = folder();
        let root = dir.path();
        let file = root.join("in/deep/x");
        let mut hashes = Hashes::open(root.join("memo.json"));
        let first = hashes.path(&file).unwrap();
        assert!(hashes.known.is_empty(), "a file this young is not remembered");
        std::thread::sleep(TIME_STAMP_GRAIN + Duration::from_millis(1100));
        hashes.path(&file).unwrap();
        hashes.save().unwrap();
        let mut hashes = Hashes::open(root.join("memo.json"));
        assert_eq!(hashes.known.len(), 1);
        for known in hashes.known.values_mut() {
            known.sha256 = "remembered".into();
        }
        assert_eq!(hashes.path(&file).unwrap(), "remembered");
        std::fs::write(&file, "abc").unwrap();
        assert_eq!(hashes.path(&file).unwrap(), first);
    }
}
