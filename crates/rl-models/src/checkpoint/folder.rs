//! Writing whole checkpoint folders.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use tch::Tensor;

use super::encode::encode_tensor;
use super::read::float_type;
use super::shards::write_weights;
use super::write::Entry;
use super::{CONFIG_FILE, SaveOptions, SavedWeights, SideFiles};
use crate::config::{Dtype, ModelConfig};
use crate::error::{Error, Result};

/// Writes a checkpoint folder in the Hugging Face layout that appears under its name only when complete.
///
/// The files go to a temporary folder beside `folder`, are synced, and the folder is renamed. Tensors keep their
/// types, which `config.json` then states; with tied embeddings the output projection is not written. Weights beyond
/// 5 GB go to several files. Parent folders are made as needed.
///
/// # Errors
/// [`Error::Checkpoint`] when `folder` exists; [`Error::TensorMismatch`] when the tensors are not those of `config`;
/// [`Error::Io`] with the path.
pub fn save_folder(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[(&str, &Tensor)],
    side_files: &SideFiles,
) -> Result<()> {
    save_folder_as(folder, config, tensors, side_files, &SaveOptions::default()).map(drop)
}

/// As [`save_folder`], in the type and the size of files that `options` name.
///
/// # Errors
/// As [`save_folder`]; [`Error::Overflow`] when a number does not fit in the type.
pub fn save_folder_as(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[(&str, &Tensor)],
    side_files: &SideFiles,
    options: &SaveOptions,
) -> Result<SavedWeights> {
    publish(folder, |temporary| write_into_as(temporary, config, tensors, side_files, options))
}

/// Writes the files of a checkpoint into a folder that exists, each synced: for a caller that publishes it itself.
///
/// # Errors
/// As [`save_folder`], apart from the check that the folder is new.
pub fn write_into(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[(&str, &Tensor)],
    side_files: &SideFiles,
) -> Result<()> {
    write_into_as(folder, config, tensors, side_files, &SaveOptions::default()).map(drop)
}

fn write_into_as(
    folder: &Path,
    config: &ModelConfig,
    tensors: &[(&str, &Tensor)],
    side_files: &SideFiles,
    options: &SaveOptions,
) -> Result<SavedWeights> {
    let expected = config.expected_tensors();
    let found = tensors.iter().map(|(name, tensor)| ((*name).to_owned(), tensor.shallow_clone())).collect();
    super::check_tensors(&found, &expected)?;
    let names: BTreeSet<&str> = expected.iter().map(|(name, _)| name.as_str()).collect();
    let kept: Vec<_> = tensors.iter().filter(|(name, _)| names.contains(name)).copied().collect();
    let entries =
        kept.iter().map(|(name, tensor)| Entry::of(name, tensor, options.dtype)).collect::<Result<Vec<_>>>()?;
    write_files(folder, config, side_files, &entries, options, |index, out| {
        encode_tensor(kept[index].0, kept[index].1, options.dtype, out)
    })
}

/// Writes configuration, side files and weights; `config.json` gets the type of the weights where they have one type.
///
/// `fill(index, bytes)` gives the data of `entries[index]`, which have the types that `options` ask for.
pub(crate) fn write_files(
    folder: &Path,
    config: &ModelConfig,
    side_files: &SideFiles,
    entries: &[Entry],
    options: &SaveOptions,
    fill: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
) -> Result<SavedWeights> {
    let mut config = config.clone();
    // Readers take the type from here: a stale one would make them round the numbers on the way in.
    if let Some(dtype) = common_type(entries) {
        config.torch_dtype = Some(dtype);
    }
    write_file(&folder.join(CONFIG_FILE), config.to_json()?.as_bytes())?;
    for (name, contents) in side_files.iter() {
        write_file(&folder.join(name), contents)?;
    }
    write_weights(folder, entries, options.max_shard_size, fill)
}

fn common_type(entries: &[Entry]) -> Option<Dtype> {
    let first = float_type(entries.first()?.dtype)?;
    entries.iter().all(|entry| float_type(entry.dtype) == Some(first)).then_some(first)
}

/// Runs `write` on a fresh temporary folder beside `folder`, syncs it and renames it to `folder`.
pub(crate) fn publish<T>(folder: &Path, write: impl FnOnce(&Path) -> Result<T>) -> Result<T> {
    let exists = || Error::Checkpoint {
        path: folder.to_path_buf(),
        reason: "exists already; choose another folder or remove it".to_owned(),
    };
    let name = folder.file_name().ok_or_else(|| Error::Checkpoint {
        path: folder.to_path_buf(),
        reason: "is not the name of a folder that could be made".to_owned(),
    })?;
    if folder.exists() {
        return Err(exists());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(parent).map_err(Error::io("make folder", parent))?;
    let temporary = TemporaryFolder::beside(parent, name)?;
    let written = write(&temporary.path)?;
    sync_folder(&temporary.path)?;
    // Another writer may have been faster; renaming onto a folder with files fails, so nothing is lost.
    if folder.exists() {
        return Err(exists());
    }
    std::fs::rename(&temporary.path, folder).map_err(Error::io("rename", &temporary.path))?;
    sync_folder(parent)?;
    Ok(written)
}

/// Writes and syncs one small file.
pub(crate) fn write_file(path: &Path, contents: &[u8]) -> Result<()> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(contents)?;
        file.sync_all()
    };
    write().map_err(Error::io("write", path))
}

/// A folder that is removed when dropped, unless it was renamed away.
struct TemporaryFolder {
    path: PathBuf,
}

impl TemporaryFolder {
    fn beside(parent: &Path, name: &std::ffi::OsStr) -> Result<Self> {
        // Not `tempfile`: its folders are closed to other users, and the published folder would stay so.
        let mut attempt = 0;
        loop {
            let path = parent.join(format!(".{}.partial-{}-{attempt}", name.display(), std::process::id()));
            match std::fs::create_dir(&path) {
                Ok(()) => return Ok(TemporaryFolder { path }),
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => attempt += 1,
                Err(error) => return Err(Error::io("make folder", &path)(error)),
            }
        }
    }
}

impl Drop for TemporaryFolder {
    fn drop(&mut self) {
        // Gone after a rename; on an error path the first error is the one to report.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

fn sync_folder(path: &Path) -> Result<()> {
    File::open(path).and_then(|folder| folder.sync_all()).map_err(Error::io("sync", path))
}
