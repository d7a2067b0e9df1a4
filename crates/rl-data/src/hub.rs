//! Repositories by name: where the Hugging Face tools keep what they downloaded. Nothing is downloaded here.
//!
//! Layout: `models--ORG--NAME/refs/REVISION` holds a commit, `models--ORG--NAME/snapshots/COMMIT` its files; datasets
//! begin with `datasets--` (<https://huggingface.co/docs/huggingface_hub/guides/manage-cache>).

use std::path::{Component, Path, PathBuf};

const DEFAULT_REVISION: &str = "main";

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

/// What a repository holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RepositoryKind {
    /// Weights and what belongs to them.
    Model,
    /// Files of rows.
    Dataset,
}

/// A repository as it is written in configurations: `ORG/NAME`, or `ORG/NAME@` and a branch, tag or commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Repository<'a> {
    /// `ORG/NAME`, or `NAME` alone.
    pub name: &'a str,
    /// Branch, tag or commit; `main` where none is given.
    pub revision: &'a str,
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

impl<'a> Repository<'a> {
    /// Reads a name; none where it cannot be a repository's.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (name, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let word = |part: &str| {
            !part.is_empty()
                && !part.starts_with('.')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        };
        let parts: Vec<&str> = name.split('/').collect();
        // A revision such as `refs/pr/1` has folders in it, but must not lead out of them.
        let usable = parts.len() <= 2 && parts.into_iter().all(word) && is_inside(revision);
        usable.then_some(Repository { name, revision })
    }

    /// The folder of the revision in one cache, or why there is none.
    ///
    /// # Errors
    /// The folder looked at and what is missing, in words.
    pub fn snapshot(&self, kind: RepositoryKind, cache: &Path) -> std::result::Result<PathBuf, String> {
        let prefix = match kind {
            RepositoryKind::Model => "models",
            RepositoryKind::Dataset => "datasets",
        };
        let repository = cache.join(format!("{prefix}--{}", self.name.replace('/', "--")));
        if !repository.is_dir() {
            return Err(format!("{}: no such folder", repository.display()));
        }
        let reference = repository.join("refs").join(self.revision);
        let commit = match std::fs::read_to_string(&reference) {
            Ok(commit) => commit.trim().to_owned(),
            // A commit has no reference: it is the name of its snapshot.
            Err(_) => self.revision.to_owned(),
        };
        if !is_inside(&commit) {
            return Err(format!("{}: does not hold the name of a snapshot", reference.display()));
        }
        let snapshot = repository.join("snapshots").join(&commit);
        if !snapshot.is_dir() {
            return Err(format!("{}: has no snapshot of `{}`", repository.display(), self.revision));
        }
        Ok(snapshot)
    }

    /// The command line that downloads the repository into the cache.
    pub fn download_command(&self, kind: RepositoryKind) -> String {
        let kind = match kind {
            RepositoryKind::Model => "",
            RepositoryKind::Dataset => " --repo-type dataset",
        };
        let revision = match self.revision {
            DEFAULT_REVISION => String::new(),
            revision => format!(" --revision {revision}"),
        };
        format!("hf download {}{kind}{revision}", self.name)
    }
}

fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}
