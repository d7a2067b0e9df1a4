//! Which split of a dataset a file belongs to, by the file and folder names that Hugging Face datasets use.
//!
//! `train_prefs-00000-of-00001.parquet` is a shard of `train_prefs`; `my_dev_rows.jsonl` and `dev/rows.jsonl` are of
//! `validation`; a file that says nothing is of no split.

use std::path::Path;

/// A file's place in its dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Membership {
    /// The split, where the name says one.
    pub split: Option<String>,
    /// The folder of the file within the dataset but for `data` and folders that name the split; empty at the top.
    pub subset: String,
    /// The file name before its first dot, which may be asked for as a split too.
    pub stem: String,
    /// Number of this shard from 0, and of all; where the name says them.
    pub shard: Option<(usize, usize)>,
}

/// Words that name a split where they stand apart, and the split.
const WORDS: [(&str, &str); 10] = [
    ("train", "train"),
    ("training", "train"),
    ("validation", "validation"),
    ("valid", "validation"),
    ("val", "validation"),
    ("dev", "validation"),
    ("test", "test"),
    ("testing", "test"),
    ("eval", "test"),
    ("evaluation", "test"),
];

impl Membership {
    /// Of a file, by its path from the dataset's folder.
    pub(super) fn of(path: &Path) -> Self {
        let stem = stem(path);
        let folders: Vec<String> = match path.parent() {
            Some(parent) => parent.iter().map(|part| part.to_string_lossy().into_owned()).collect(),
            None => Vec::new(),
        };
        let sharded = shard(stem);
        let by_file = match sharded {
            Some((name, _)) => Some(name.to_owned()),
            None => word_in(stem).map(str::to_owned),
        };
        let by_folder = |folder: &String| word_of(folder);
        let split = by_file.or_else(|| folders.iter().rev().find_map(by_folder).map(str::to_owned));
        let is_subset = |folder: &&String| folder.as_str() != "data" && word_of(folder).is_none();
        let subset = folders.iter().filter(is_subset).map(String::as_str).collect::<Vec<_>>().join("/");
        Membership { split, subset, stem: stem.to_owned(), shard: sharded.map(|(_, shard)| shard) }
    }

    /// Whether the file is of a split. Where names say nothing, all rows are of `train`.
    pub(super) fn is_of(&self, split: &str) -> bool {
        self.split() == split || self.stem == split
    }

    /// The split to show.
    pub(super) fn split(&self) -> &str {
        self.split.as_deref().unwrap_or("train")
    }
}

/// The file name before its first dot, so that `.jsonl.gz` goes too.
fn stem(path: &Path) -> &str {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.split('.').next().unwrap_or_default()
}

/// `NAME-00001-of-00004`, and the same with a hash behind it: the name, and the shard.
fn shard(stem: &str) -> Option<(&str, (usize, usize))> {
    let mut parts = stem.rsplit('-');
    let mut last = parts.next()?;
    if last.len() == 16 && last.chars().all(|c| c.is_ascii_hexdigit()) {
        last = parts.next()?;
    }
    let count = number(last)?;
    if parts.next()? != "of" {
        return None;
    }
    let index = number(parts.next()?)?;
    let rest: usize = parts.map(|part| part.len() + 1).sum();
    let name = stem.get(..rest.checked_sub(1)?)?;
    (!name.is_empty()).then_some((name, (index, count)))
}

fn number(digits: &str) -> Option<usize> {
    let all = 5 <= digits.len() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if all { digits.parse().ok() } else { None }
}

fn word_of(folder: &str) -> Option<&'static str> {
    WORDS.into_iter().find(|(word, _)| folder.eq_ignore_ascii_case(word)).map(|(_, split)| split)
}

/// The first word of a name that is a split's; words are parted by anything but letters and digits.
fn word_in(stem: &str) -> Option<&'static str> {
    stem.split(|c: char| !c.is_ascii_alphanumeric()).find_map(word_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_split_subset_and_shard() {
        for (path, split, subset, shard) in [
            ("data/train-00000-of-00004.parquet", Some("train"), "", Some((0, 4))),
            ("data/train_prefs-00000-of-00001.parquet", Some("train_prefs"), "", Some((0, 1))),
            ("data/test_sft-00000-of-00001-f59a0efc2f5b7a4c.parquet", Some("test_sft"), "", Some((0, 1))),
            ("data/smol-magpie-ultra/train-00003-of-00009.parquet", Some("train"), "smol-magpie-ultra", Some((3, 9))),
            ("train.jsonl", Some("train"), "", None),
            ("my_dev_rows.jsonl.gz", Some("validation"), "", None),
            ("harmless-base/test.jsonl.gz", Some("test"), "harmless-base", None),
            ("test/rows.json", Some("test"), "", None),
            ("contest.jsonl", None, "", None),
            ("rows.parquet", None, "", None),
            ("a-b-00000-of-00002.parquet", Some("a-b"), "", Some((0, 2))),
            ("00000-of-00002.parquet", None, "", None),
            ("part-1-of-2.parquet", None, "", None),
        ] {
            let found = Membership::of(Path::new(path));
            assert_eq!((found.split.as_deref(), found.subset.as_str(), found.shard), (split, subset, shard), "{path}");
        }
    }

    #[test]
    fn a_whole_name_may_be_asked_for() {
        let file = Membership::of(Path::new("train_prefs.jsonl"));
        assert!(file.is_of("train") && file.is_of("train_prefs") && !file.is_of("prefs"));
        assert!(Membership::of(Path::new("rows.jsonl")).is_of("train"));
    }
}
