//! From a path, a pattern or the name of a dataset to the files that are read. Nothing is fetched.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::column::nearest;
use super::digest::digest;
use super::format::{ENDINGS, Format};
use super::split::Membership;
use crate::error::{Error, Result};
use crate::hub::{CacheRoots, Repository, RepositoryKind};

/// The files of a dataset in the order in which they are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetFiles {
    /// The files, shards in their order.
    pub paths: Vec<PathBuf>,
    /// The split that they are, where the dataset has any.
    pub split: Option<String>,
    /// The folder that they were found in, where it was one.
    pub folder: Option<PathBuf>,
}

impl DatasetFiles {
    /// SHA-256 of the content, as lower-case hexadecimal: of one file as `sha256sum` prints it; of several, of the lines
    /// `<sha256>  <name>` that it prints of them in their folder.
    ///
    /// # Errors
    /// [`Error::File`].
    pub fn digest(&self) -> Result<String> {
        digest(&self.paths, self.folder.as_deref())
    }
}

/// What is looked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub name: &'a str,
    pub split: Option<&'a str>,
    pub subset: Option<&'a str>,
}

impl Wanted<'_> {
    /// Finds the files; `roots` says where downloaded datasets lie.
    pub(super) fn files(&self, roots: &CacheRoots) -> Result<DatasetFiles> {
        let path = Path::new(self.name);
        if path.is_dir() {
            return self.in_folder(path);
        }
        if path.exists() {
            self.refuse_choice("a file")?;
            known_format(path)?;
            return Ok(DatasetFiles { paths: vec![path.to_path_buf()], split: None, folder: None });
        }
        if self.name.contains(['*', '?', '[']) {
            self.refuse_choice("a pattern")?;
            return self.matching();
        }
        match Repository::parse(self.name) {
            Some(repository) if Format::of(path).is_none() => self.downloaded(&repository, roots),
            _ => Err(self.problem(
                "there is no such file or folder; give a path, a pattern such as `data/*.jsonl`, or \
                                   the name of a downloaded dataset as ORG/NAME",
            )),
        }
    }

    fn refuse_choice(&self, what: &str) -> Result<()> {
        let problem = match (self.split, self.subset) {
            (None, None) => return Ok(()),
            (Some(split), _) => format!("split = {split:?} chooses among the files of a folder, but this is {what}"),
            (_, Some(subset)) => format!("subset = {subset:?} chooses among the files of a folder, but this is {what}"),
        };
        Err(self.problem(problem))
    }

    fn matching(&self) -> Result<DatasetFiles> {
        let found =
            glob::glob(self.name).map_err(|error| self.problem(format!("the pattern is not valid: {error}")))?;
        let mut paths = Vec::new();
        for entry in found {
            let path = entry.map_err(|error| {
                let path = error.path().to_path_buf();
                Error::file("read", &path, error.into())
            })?;
            if path.is_file() {
                known_format(&path)?;
                paths.push(path);
            }
        }
        if paths.is_empty() {
            return Err(self.problem("no file matches the pattern"));
        }
        paths.sort();
        Ok(DatasetFiles { paths, split: None, folder: None })
    }

    fn downloaded(&self, repository: &Repository, roots: &CacheRoots) -> Result<DatasetFiles> {
        let mut looked = vec![format!("{}: no such file or folder", self.name)];
        for cache in roots.folders() {
            match repository.snapshot(RepositoryKind::Dataset, &cache) {
                Ok(folder) => return self.in_folder(&folder),
                Err(reason) => looked.push(reason),
            }
        }
        let command = repository.download_command(RepositoryKind::Dataset);
        let looked = looked.join("; ");
        Err(self.problem(format!("not found ({looked}); nothing is fetched here: download it with `{command}`")))
    }

    fn in_folder(&self, folder: &Path) -> Result<DatasetFiles> {
        let mut all = Vec::new();
        collect(folder, folder, 0, &mut all)?;
        // A repository may hold the same rows in several formats; the tables come first.
        let of = |format| all.iter().filter(move |path| Format::of(path).is_some_and(|(found, _)| found == format));
        let first =
            [Format::Parquet, Format::JsonLines, Format::Json].into_iter().find(|format| of(*format).count() > 0);
        let Some(format) = first else {
            return Err(self.problem(format!("`{}` holds no file of rows ({ENDINGS})", folder.display())));
        };
        let files: Vec<(PathBuf, Membership)> = of(format).map(|path| (path.clone(), Membership::of(path))).collect();
        let split = self.split_of(&files)?;
        let files = files.into_iter().filter(|(_, of)| of.is_of(&split));
        let files = self.subset_of(files.collect())?;
        self.check_shards(folder, &files)?;
        let mut paths: Vec<PathBuf> = files.into_iter().map(|(path, _)| folder.join(path)).collect();
        paths.sort();
        Ok(DatasetFiles { paths, split: Some(split), folder: Some(folder.to_path_buf()) })
    }

    /// The split asked for, or the only one.
    fn split_of(&self, files: &[(PathBuf, Membership)]) -> Result<String> {
        let splits: BTreeSet<&str> = files.iter().map(|(_, of)| of.split()).collect();
        let list = || splits.iter().copied().collect::<Vec<_>>().join("`, `");
        match self.split {
            Some(split) if files.iter().any(|(_, of)| of.is_of(split)) => Ok(split.to_owned()),
            Some(split) => {
                let near = nearest(split, splits.iter().copied());
                let near = near.map(|name| format!("; the nearest is `{name}`")).unwrap_or_default();
                Err(self.problem(format!("there is no split {split:?}; the splits are `{}`{near}", list())))
            }
            None => match splits.first() {
                Some(only) if splits.len() == 1 => Ok((*only).to_owned()),
                _ => Err(self.problem(format!("it has several splits; set `split` to one of `{}`", list()))),
            },
        }
    }

    /// The files of the subset asked for, or of the only one.
    fn subset_of(&self, files: Vec<(PathBuf, Membership)>) -> Result<Vec<(PathBuf, Membership)>> {
        let subsets: BTreeSet<&str> = files.iter().map(|(_, of)| of.subset.as_str()).collect();
        let list = || subsets.iter().copied().collect::<Vec<_>>().join("`, `");
        match self.subset {
            Some(subset) if !subsets.contains(subset) => {
                Err(self.problem(format!("there is no subset {subset:?}; the subsets are `{}`", list())))
            }
            None if 1 < subsets.len() => Err(self.problem(format!(
                "its files lie in several folders; set `subset` to one of `{}`, or give a pattern such as `{}/**/*`",
                list(),
                self.name
            ))),
            Some(subset) => Ok(files.into_iter().filter(|(_, of)| of.subset == subset).collect()),
            None => Ok(files),
        }
    }

    /// All shards that the names promise must be there.
    fn check_shards(&self, folder: &Path, files: &[(PathBuf, Membership)]) -> Result<()> {
        let shards = || files.iter().filter_map(|(_, of)| of.shard);
        let counts: BTreeSet<usize> = shards().map(|(_, count)| count).collect();
        for count in counts {
            let found: BTreeSet<usize> = shards().filter(|shard| shard.1 == count).map(|shard| shard.0).collect();
            if let Some(missing) = (0..count).find(|index| !found.contains(index)) {
                let folder = folder.display();
                let problem =
                    format!("shard {missing:05}-of-{count:05} is missing in `{folder}`; the download is not complete");
                return Err(self.problem(problem));
            }
        }
        Ok(())
    }

    fn problem(&self, problem: impl Into<String>) -> Error {
        Error::Dataset { name: self.name.to_owned(), problem: problem.into() }
    }
}

/// Folders below the dataset's that are looked into.
const MAX_DEPTH: usize = 4;

fn known_format(path: &Path) -> Result<()> {
    if Format::of(path).is_some() {
        return Ok(());
    }
    let problem = format!("the name does not say the format; it must end in {ENDINGS}");
    Err(Error::Dataset { name: path.display().to_string(), problem })
}

/// Paths of the files of rows under a folder, seen from `root`. Hidden files and what describes a dataset are left out.
fn collect(root: &Path, folder: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<()> {
    const DESCRIPTIONS: [&str; 5] =
        ["dataset_info.json", "dataset_infos.json", "dataset_config.json", "manifest.json", "state.json"];
    for entry in fs::read_dir(folder).map_err(|source| Error::file("read", folder, source))? {
        let path = entry.map_err(|source| Error::file("read", folder, source))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with(['.', '_']) || DESCRIPTIONS.contains(&name.as_str()) {
            continue;
        }
        // Follows links: caches keep their files behind them.
        if path.is_dir() {
            if depth < MAX_DEPTH {
                collect(root, &path, depth + 1, files)?;
            }
        } else if Format::of(&path).is_some() {
            files.push(path.strip_prefix(root).unwrap_or(&path).to_path_buf());
        }
    }
    Ok(())
}
