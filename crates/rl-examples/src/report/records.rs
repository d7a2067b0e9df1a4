//! What every report reads: evaluations by name, and the record of a run.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use rl_eval::{Evaluation, SplitResult, Summary};
use rl_track::{Manifest, MetricsRow};
use serde::Serialize;

/// Seeds and inputs of a run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RunProvenance {
    /// Seeds by name.
    pub seeds: BTreeMap<String, u64>,
    /// SHA-256 of data and models by name.
    pub inputs: BTreeMap<String, String>,
}

impl RunProvenance {
    /// What a manifest says of them.
    pub(super) fn new(manifest: &Manifest) -> Self {
        RunProvenance { seeds: manifest.seeds.clone(), inputs: manifest.inputs.clone() }
    }
}

/// A model's evaluation by name.
///
/// # Errors
/// Lists the names that there are.
pub(super) fn model<'a>(summary: &'a Summary, name: &str) -> Result<&'a Evaluation> {
    summary.evaluation(name).with_context(|| {
        let names: Vec<&str> = summary.evaluations.iter().map(|evaluation| evaluation.name.as_str()).collect();
        format!("no model {name:?} was evaluated; there are {}", names.join(", "))
    })
}

/// A model's result by split and decoding.
///
/// # Errors
/// Lists the results that there are.
pub(super) fn result<'a>(evaluation: &'a Evaluation, split: &str, decoding: &str) -> Result<&'a SplitResult> {
    evaluation.result(split, decoding).with_context(|| {
        let pairs: Vec<String> =
            evaluation.results.iter().map(|result| format!("{}/{}", result.split, result.decoding)).collect();
        format!("{:?} has no result {split}/{decoding}; there are {}", evaluation.name, pairs.join(", "))
    })
}

/// Seconds spent in the steps of a run.
pub(super) fn total_seconds(rows: &[MetricsRow]) -> f64 {
    let timings = rows.iter().flat_map(|row| &row.timing);
    timings.filter(|(name, _)| name == "seconds").map(|(_, value)| value).sum()
}

/// A file of JSON.
///
/// # Errors
/// Names the file.
pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("{} is not what this program reads", path.display()))
}
