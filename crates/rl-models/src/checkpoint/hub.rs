//! Models by name, as the Hugging Face tools keep them (`rl_data::hub`). Nothing is downloaded here.

use std::path::{Path, PathBuf};

pub use rl_data::hub::CacheRoots;
use rl_data::hub::{Repository, RepositoryKind};

use super::CONFIG_FILE;
use crate::error::{Error, Result};

/// The folder of a model: `name` itself where it is a path that exists, otherwise the repository `ORG/NAME` in the cache.
///
/// A repository may be followed by `@` and a branch, tag or commit; without it the branch is `main`.
///
/// ```no_run
/// let folder = rl_models::checkpoint::resolve_model("HuggingFaceTB/SmolLM2-135M-Instruct")?;
/// # Ok::<(), rl_models::Error>(())
/// ```
///
/// # Errors
/// [`Error::ModelNotFound`] with every place looked at and how to get the model.
pub fn resolve_model(name: &str) -> Result<PathBuf> {
    resolve_model_in(name, &CacheRoots::from_environment())
}

/// As [`resolve_model`], with caches under `roots`.
///
/// # Errors
/// As [`resolve_model`].
pub fn resolve_model_in(name: &str, roots: &CacheRoots) -> Result<PathBuf> {
    if Path::new(name).exists() {
        return Ok(PathBuf::from(name));
    }
    let mut looked = vec![format!("{name}: no such folder")];
    let Some(repository) = Repository::parse(name) else {
        let hint = "give the path of a checkpoint folder, or a repository as ORG/NAME or ORG/NAME@REVISION".to_owned();
        return Err(Error::ModelNotFound { name: name.to_owned(), looked, hint });
    };
    for cache in roots.folders() {
        match repository.snapshot(RepositoryKind::Model, &cache).and_then(complete) {
            Ok(snapshot) => return Ok(snapshot),
            Err(reason) => looked.push(reason),
        }
    }
    let command = repository.download_command(RepositoryKind::Model);
    let hint = format!("download it with `{command}`, or give the path of a checkpoint folder");
    Err(Error::ModelNotFound { name: name.to_owned(), looked, hint })
}

/// A path that does not exist and reads as `ORG/NAME` is looked up; any other path stays as it is.
pub(crate) fn folder_or_repository(path: &Path) -> Result<PathBuf> {
    match path.to_str() {
        Some(name) if !path.exists() && Repository::parse(name).is_some_and(|found| found.name.contains('/')) => {
            resolve_model(name)
        }
        _ => Ok(path.to_path_buf()),
    }
}

fn complete(snapshot: PathBuf) -> std::result::Result<PathBuf, String> {
    match snapshot.join(CONFIG_FILE).exists() {
        true => Ok(snapshot),
        false => Err(format!("{}: lacks {CONFIG_FILE}; the download is not complete", snapshot.display())),
    }
}
