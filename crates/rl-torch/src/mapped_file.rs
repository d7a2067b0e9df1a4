//! Read-only memory maps of checkpoint files.

use std::ops::Deref;
use std::path::Path;

use crate::{Error, Result};

/// A file mapped read-only into memory; dereferences to its bytes.
#[derive(Debug)]
pub struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps `path`.
    ///
    /// # Errors
    /// [`Error::Map`] when the file cannot be opened or mapped.
    pub fn open(path: &Path) -> Result<Self> {
        let map_error = |source| Error::Map { path: path.to_path_buf(), source };
        let file = std::fs::File::open(path).map_err(map_error)?;
        // SAFETY: the map is read-only and private to this value. Checkpoints are replaced by rename, never rewritten in
        // place, so the mapped bytes stay as they were; a program that truncates the file under us ends with a bus error,
        // as it would with any reader that maps files.
        let map = unsafe { memmap2::Mmap::map(&file) }.map_err(map_error)?;
        Ok(MappedFile(map))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_the_bytes_and_reports_a_missing_file() {
        let path = std::env::temp_dir().join(format!("rl-torch-map-{}", std::process::id()));
        std::fs::write(&path, b"weights").unwrap();
        assert_eq!(&*MappedFile::open(&path).unwrap(), b"weights");
        std::fs::remove_file(&path).unwrap();
        let message = MappedFile::open(&path).unwrap_err().to_string();
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
}
