//! Models by name: where the Hugging Face tools keep what they downloaded. Nothing is downloaded here.
//!
//! Layout: `models--ORG--NAME/refs/REVISION` holds a commit, `models--ORG--NAME/snapshots/COMMIT` its files
//! (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>).

use std::path::{Component, Path, PathBuf};

use super::CONFIG_FILE;
use crate::error::{Error, Result};

/// Where caches may lie: the values of the environment variables that the Hugging Face tools read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CacheRoots {
    /// `HF_HUB_CACHE`: the cache itself.
    pub hf_hub_cache: Option<PathBuf>,
    /// `HF_HOME`: the cache is `hub` in it.
    pub hf_home: Option<PathBuf>,
    /// `XDG_CACHE_HOME`: the cache is `huggingface/hub` in it.
    pub xdg_cache_home: Option<PathBuf>,
    /// `HOME`: the cache is `.cache/huggingface/hub` in it.
    pub home: Option<PathBuf>,
}

impl CacheRoots {
    /// The values of this process; an empty variable counts as absent.
    pub fn from_environment() -> Self {
        let variable = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        CacheRoots {
            hf_hub_cache: variable("HF_HUB_CACHE"),
            hf_home: variable("HF_HOME"),
            xdg_cache_home: variable("XDG_CACHE_HOME"),
            home: variable("HOME"),
        }
    }

    /// The folders to look in, first one first.
    pub fn folders(&self) -> Vec<PathBuf> {
        let under = |root: &Option<PathBuf>, rest: &str| root.as_ref().map(|root| root.join(rest));
        let folders = [
            self.hf_hub_cache.clone(),
            under(&self.hf_home, "hub"),
            under(&self.xdg_cache_home, "huggingface/hub"),
            under(&self.home, ".cache/huggingface/hub"),
        ];
        folders.into_iter().flatten().collect()
    }
}

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
    let Some((repository, revision)) = parse(name) else {
        let hint = "give the path of a checkpoint folder, or a repository as ORG/NAME or ORG/NAME@REVISION".to_owned();
        return Err(Error::ModelNotFound { name: name.to_owned(), looked, hint });
    };
    for cache in roots.folders() {
        let folder = cache.join(format!("models--{}", repository.replace('/', "--")));
        match snapshot(&folder, revision) {
            Ok(snapshot) => return Ok(snapshot),
            Err(reason) => looked.push(reason),
        }
    }
    let revision = if revision == DEFAULT_REVISION { String::new() } else { format!(" --revision {revision}") };
    let hint =
        format!("download it with `hf download {repository}{revision}`, or give the path of a checkpoint folder");
    Err(Error::ModelNotFound { name: name.to_owned(), looked, hint })
}

/// A path that does not exist and reads as `ORG/NAME` is looked up; any other path stays as it is.
pub(crate) fn folder_or_repository(path: &Path) -> Result<PathBuf> {
    match path.to_str() {
        Some(name) if !path.exists() && parse(name).is_some_and(|(repository, _)| repository.contains('/')) => {
            resolve_model(name)
        }
        _ => Ok(path.to_path_buf()),
    }
}

const DEFAULT_REVISION: &str = "main";

/// Repository and revision; none when `name` cannot be a repository's.
fn parse(name: &str) -> Option<(&str, &str)> {
    let (repository, revision) = name.split_once('@').unwrap_or((name, DEFAULT_REVISION));
    let word = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let parts: Vec<&str> = repository.split('/').collect();
    // A revision such as `refs/pr/1` has folders in it, but must not lead out of them.
    let usable = parts.len() <= 2 && parts.into_iter().all(word) && is_inside(revision);
    usable.then_some((repository, revision))
}

fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The snapshot of a revision, or why there is none.
fn snapshot(repository: &Path, revision: &str) -> std::result::Result<PathBuf, String> {
    if !repository.is_dir() {
        return Err(format!("{}: no such folder", repository.display()));
    }
    let reference = repository.join("refs").join(revision);
    let commit = match std::fs::read_to_string(&reference) {
        Ok(commit) => commit.trim().to_owned(),
        // A commit has no reference: it is the name of its snapshot.
        Err(_) => revision.to_owned(),
    };
    if !is_inside(&commit) {
        return Err(format!("{}: does not hold the name of a snapshot", reference.display()));
    }
    let snapshot = repository.join("snapshots").join(&commit);
    if !snapshot.is_dir() {
        return Err(format!("{}: has no snapshot of `{revision}`", repository.display()));
    }
    if !snapshot.join(CONFIG_FILE).exists() {
        return Err(format!("{}: lacks {CONFIG_FILE}; the download is not complete", snapshot.display()));
    }
    Ok(snapshot)
}
