//! SHA-256 of the files of a checkpoint, for whoever wants to be sure.

use std::collections::BTreeMap;
use std::path::Path;

use crate::error::{Error, Result};

/// SHA-256 of every file of a checkpoint folder in lower-case hexadecimal, by file name.
///
/// Links are followed; folders inside are not entered. Every byte is read, so this takes as long as reading the weights.
///
/// # Errors
/// [`Error::Io`] when the folder cannot be listed, [`Error::Record`] with the file that cannot be read.
pub fn checksums(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut sums = BTreeMap::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io("open folder", folder))? {
        let path = entry.map_err(Error::io("list folder", folder))?.path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        sums.insert(name, rl_track::hash::sha256_file(&path)?);
    }
    Ok(sums)
}

/// Checks that a folder holds exactly the files of a recorded list, as [`checksums`] made it.
///
/// # Errors
/// [`Error::Checksums`] with every file that changed, is missing, or was not recorded; otherwise as [`checksums`].
pub fn verify_checksums(folder: &Path, recorded: &BTreeMap<String, String>) -> Result<()> {
    let found = checksums(folder)?;
    let absent_from = |list: &BTreeMap<String, String>, names: &BTreeMap<String, String>| -> Vec<String> {
        names.keys().filter(|name| !list.contains_key(*name)).cloned().collect()
    };
    let differs = |(name, sum): &(&String, &String)| found.get(*name).is_some_and(|f| !f.eq_ignore_ascii_case(sum));
    let changed: Vec<String> = recorded.iter().filter(differs).map(|(name, _)| name.clone()).collect();
    let (missing, unexpected) = (absent_from(&found, recorded), absent_from(recorded, &found));
    if changed.is_empty() && missing.is_empty() && unexpected.is_empty() {
        return Ok(());
    }
    Err(Error::Checksums { path: folder.to_path_buf(), changed, missing, unexpected })
}
