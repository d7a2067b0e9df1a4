//! What is remembered of stages in `<run>/.stages`: that one began, and that it ended well.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// Written after a stage ended well, and only then.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub fingerprint: String,
    pub outputs: Vec<String>,
    pub seconds: f64,
    pub exit_code: i32,
}

/// The records of one run folder.
pub struct Records {
    pub dir: PathBuf,
}

impl Records {
    pub fn finished(&self, stage: &str) -> Option<Record> {
        read(&self.dir.join(format!("{stage}.json")))
    }

    /// The fingerprint with which the stage began the last time, whether or not it ended.
    pub fn started(&self, stage: &str) -> Option<String> {
        read(&self.dir.join(format!("{stage}.started")))
    }

    pub fn start(&self, stage: &str, fingerprint: &str) -> Result<()> {
        let finished = self.dir.join(format!("{stage}.json"));
        match std::fs::remove_file(&finished) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", finished.display()));
            }
            _ => {}
        }
        write(&self.dir.join(format!("{stage}.started")), &fingerprint)
    }

    pub fn finish(&self, stage: &str, record: &Record) -> Result<()> {
        write(&self.dir.join(format!("{stage}.json")), record)
    }
}

fn read<T: for<'a> Deserialize<'a>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&std::fs::read(path).ok()?).ok()
}

/// Writes JSON so that a reader sees the old file or the new one, also after a power cut.
pub fn write(path: &Path, value: &impl Serialize) -> Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let dir = path.parent().with_context(cannot)?;
    std::fs::create_dir_all(dir).with_context(cannot)?;
    let name = path.file_name().with_context(cannot)?.to_string_lossy();
    let fresh = dir.join(format!(".{name}.{}", std::process::id()));
    let mut text = serde_json::to_vec_pretty(value)?;
    text.push(b'\n');
    let written = File::create(&fresh).and_then(|mut file| {
        file.write_all(&text)?;
        file.sync_all()
    });
    written.and_then(|()| std::fs::rename(&fresh, path)).with_context(cannot)
}
