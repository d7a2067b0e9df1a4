//! Weights spread over files of limited size.

use std::fmt;
use std::ops::Range;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::write::{Entry, write_entries};
use super::{INDEX_FILE, WEIGHTS_FILE, write_file};
use crate::config::Dtype;
use crate::error::{Error, Result};

/// How weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SaveOptions {
    /// The type of the stored numbers; none keeps the type that each tensor has.
    pub dtype: Option<Dtype>,
    /// Most bytes of numbers per file; a tensor that is larger alone gets a file of its own.
    pub max_shard_size: u64,
}

impl Default for SaveOptions {
    /// Types as they are, at most 5 GB per file.
    fn default() -> Self {
        SaveOptions { dtype: None, max_shard_size: 5_000_000_000 }
    }
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedWeights {
    /// Names of the weight files, in order.
    pub files: Vec<String>,
    /// Tensors written.
    pub num_tensors: usize,
    /// Bytes of numbers written.
    pub num_bytes: u64,
}

impl fmt::Display for SavedWeights {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (files, megabytes) = (self.files.len(), self.num_bytes as f64 / 1e6);
        let plural = if files == 1 { "" } else { "s" };
        write!(f, "{} tensors, {megabytes:.1} MB, in {files} file{plural}", self.num_tensors)
    }
}

/// Writes `entries` in their order into one file, or into shards with an index when `max_shard_size` asks for it.
///
/// `fill` is that of [`write_entries`].
pub(crate) fn write_weights(
    folder: &Path,
    entries: &[Entry],
    max_shard_size: u64,
    mut fill: impl FnMut(usize, &mut Vec<u8>) -> Result<()>,
) -> Result<SavedWeights> {
    if max_shard_size == 0 {
        let reason = "a file needs room for at least one byte".to_owned();
        return Err(Error::Argument { name: "max_shard_size", value: "0".to_owned(), reason });
    }
    let sizes: Vec<u64> = entries.iter().map(|entry| entry.num_bytes() as u64).collect();
    let num_bytes = sizes.iter().sum();
    let shards = split(&sizes, max_shard_size);
    let single = shards.len() == 1;
    let mut files = Vec::new();
    let mut weight_map = Map::new();
    for (number, shard) in shards.iter().enumerate() {
        let name = match single {
            true => WEIGHTS_FILE.to_owned(),
            false => format!("model-{:05}-of-{:05}.safetensors", number + 1, shards.len()),
        };
        write_entries(&folder.join(&name), &entries[shard.clone()], |index, out| fill(shard.start + index, out))?;
        weight_map.extend(entries[shard.clone()].iter().map(|entry| (entry.name.clone(), json!(name))));
        files.push(name);
    }
    if !single {
        let index = json!({ "metadata": { "total_size": num_bytes }, "weight_map": Value::Object(weight_map) });
        write_file(&folder.join(INDEX_FILE), format!("{index:#}\n").as_bytes())?;
    }
    Ok(SavedWeights { files, num_tensors: entries.len(), num_bytes })
}

/// Consecutive ranges whose sizes add up to at most `limit`, unless one size alone is larger; at least one range.
fn split(sizes: &[u64], limit: u64) -> Vec<Range<usize>> {
    let mut shards = Vec::new();
    let (mut start, mut total) = (0, 0u64);
    for (index, &size) in sizes.iter().enumerate() {
        if start < index && limit < total + size {
            shards.push(start..index);
            (start, total) = (index, 0);
        }
        total += size;
    }
    shards.push(start..sizes.len());
    shards
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_full_and_never_over_the_limit() {
        assert_eq!(split(&[4, 4, 4, 4], 8), [0..2, 2..4]);
        assert_eq!(split(&[4, 5, 4], 8), [0..1, 1..2, 2..3]);
        // The second is too large for any file.
        assert_eq!(split(&[1, 20, 1, 1], 8), [0..1, 1..2, 2..4]);
        assert_eq!(split(&[4, 4], u64::MAX), std::slice::from_ref(&(0..2)));
        assert_eq!(split(&[], 8), std::slice::from_ref(&(0..0)));
    }
}
