//! What a dataset's files hold, as one number.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// SHA-256 of one file; of several, of the lines `<sha256>  <name>\n`, names as seen from `folder`.
pub(super) fn digest(paths: &[PathBuf], folder: Option<&Path>) -> Result<String> {
    if let [only] = paths {
        return sha256(only);
    }
    let mut lines = Sha256::new();
    for path in paths {
        let name = folder.and_then(|folder| path.strip_prefix(folder).ok()).unwrap_or(path);
        lines.update(format!("{}  {}\n", sha256(path)?, name.display()));
    }
    Ok(hex(&lines.finalize()))
}

fn sha256(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|source| Error::file("open", path, source))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer).map_err(|source| Error::file("read", path, source))?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
