//! Which tensors are compared, whether the checkpoints agree on them, and what exactly was read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{Device, Tensor};

use crate::config::AnalysisConfig;
use crate::error::{Error, Result};

/// Names listed in an error before it breaks off with a count.
const LISTED_NAMES: usize = 3;

/// How the names of a whole checkpoint compare with those of the base.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NameCounts {
    /// Matrices selected for analysis; all of them match, or the comparison is refused.
    pub selected: usize,
    /// Tensors of the base found here with the same shape.
    pub matched: usize,
    /// Tensors of the base that are absent here; none of them is selected.
    pub missing: Vec<String>,
    /// Tensors that the base lacks, such as a value head; none of them is selected.
    pub unexpected: Vec<String>,
    /// Tensors of another shape than in the base; none of them is selected.
    pub reshaped: Vec<String>,
}

/// Names selected by `config`, in order.
fn selected<'a>(tensors: &'a BTreeMap<String, Tensor>, config: &'a AnalysisConfig) -> impl Iterator<Item = &'a String> {
    tensors.keys().filter(|name| is_selected(name, config))
}

fn is_selected(name: &str, config: &AnalysisConfig) -> bool {
    config.suffixes.iter().any(|suffix| name.ends_with(suffix.as_str()))
        && !config.exclude.iter().any(|part| name.contains(part.as_str()))
}

/// Names of the base's selected matrices.
///
/// # Errors
/// [`Error::EmptySelection`] names a suffix that selects nothing.
pub fn select(base: &BTreeMap<String, Tensor>, config: &AnalysisConfig) -> Result<Vec<String>> {
    let names: Vec<String> = selected(base, config).cloned().collect();
    for suffix in &config.suffixes {
        if !names.iter().any(|name| name.ends_with(suffix.as_str())) {
            return Err(Error::EmptySelection { suffix: suffix.clone() });
        }
    }
    Ok(names)
}

/// Compares the names and shapes of a checkpoint with those of the base.
///
/// # Errors
/// [`Error::Unmatched`] if a selected matrix is missing, unexpected, or of another shape.
pub fn match_names(
    role: &'static str,
    base: &BTreeMap<String, Tensor>,
    checkpoint: &BTreeMap<String, Tensor>,
    config: &AnalysisConfig,
) -> Result<NameCounts> {
    let requested = selected(base, config).count();
    let mut counts = NameCounts { selected: requested, ..NameCounts::default() };
    for (name, tensor) in base {
        match checkpoint.get(name) {
            None => counts.missing.push(name.clone()),
            Some(other) if other.size() != tensor.size() => counts.reshaped.push(name.clone()),
            Some(_) => counts.matched += 1,
        }
    }
    counts.unexpected = checkpoint.keys().filter(|name| !base.contains_key(*name)).cloned().collect();
    let of_selected =
        |names: &[String]| -> Vec<String> { names.iter().filter(|name| is_selected(name, config)).cloned().collect() };
    let (missing, unexpected, reshaped) =
        (of_selected(&counts.missing), of_selected(&counts.unexpected), of_selected(&counts.reshaped));
    if missing.is_empty() && unexpected.is_empty() && reshaped.is_empty() {
        return Ok(counts);
    }
    Err(Error::Unmatched {
        role,
        matched: requested - missing.len() - reshaped.len(),
        requested,
        missing: listed(&missing),
        unexpected: listed(&unexpected),
        reshaped: listed(&reshaped),
    })
}

fn listed(names: &[String]) -> String {
    let mut text = names[..names.len().min(LISTED_NAMES)].join(", ");
    if names.len() > LISTED_NAMES {
        text.push_str(&format!(" and {} more", names.len() - LISTED_NAMES));
    }
    text
}

/// SHA-256 over all tensors in name order: for each `name NUL kind NUL shape NUL`, then its values as stored.
///
/// Equal weights give equal hashes whatever file or shards they came from.
///
/// # Errors
/// libtorch's, if a tensor cannot be copied to the CPU.
pub fn weight_sha256(tensors: &BTreeMap<String, Tensor>) -> Result<String> {
    let mut hasher = Sha256::new();
    for (name, tensor) in tensors {
        let tensor = tensor.f_detach()?.f_to_device(Device::Cpu)?.f_contiguous()?;
        let kind = tensor.f_kind()?;
        hasher.update(format!("{name}\0{kind:?}\0{:?}\0", tensor.size()));
        let mut bytes = vec![0_u8; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
        hasher.update(&bytes);
    }
    Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}
