//! What an evaluation's TOML file holds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rl_envs::EnvironmentConfig;
use rl_models::generate::SamplingConfig;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

/// Which models are played, in what, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Folder of the results.
    pub run: PathBuf,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Seed of the tasks and of sampled answers; another than that of the training data.
    pub seed: u64,
    /// Fixed tasks per split, the same for every model.
    pub num_tasks: u64,
    /// A training run: all its checkpoints are evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoints_of: Option<PathBuf>,
    /// Further models by name.
    #[serde(default)]
    pub models: BTreeMap<String, PathBuf>,
    /// Where tasks come from, such as in and out of distribution.
    pub splits: Vec<Split>,
    /// Greedy, sampled.
    pub decodings: Vec<Decoding>,
    /// For GeneralPoints: a training file whose rows carry `values`; the share of hands whose value multiset stands in it
    /// is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_data: Option<PathBuf>,
    /// A reward model that scores every first answer, for win rates between models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward_model: Option<PathBuf>,
    /// Transcripts kept per model, split and decoding.
    pub transcripts: usize,
    /// How the best model is chosen.
    pub select: Select,
}

/// One distribution of tasks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Name in the results.
    pub name: String,
    /// What is played.
    pub environment: EnvironmentConfig,
}

/// One way of choosing tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Decoding {
    /// Name in the results.
    pub name: String,
    /// Temperature and limits.
    pub sampling: SamplingConfig,
}

/// The best model has the highest first-attempt success here; of equals the earlier one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// Name of a split.
    pub split: String,
    /// Name of a decoding.
    pub decoding: String,
}

impl EvaluationConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, its value and its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ensure(0 < self.num_tasks, "num_tasks", self.num_tasks, "must be positive")?;
        ensure(!self.splits.is_empty(), "splits", "empty", "name at least one")?;
        ensure(!self.decodings.is_empty(), "decodings", "empty", "name at least one")?;
        let mut names = BTreeSet::new();
        for Split { name, environment } in &self.splits {
            ensure(names.insert(name), "splits.name", name, "is given twice")?;
            environment.validate().map_err(refused(format!("splits[{name}].environment")))?;
            let has_values = matches!(environment, EnvironmentConfig::GeneralPoints(_));
            let message = "is for splits of `general_points` alone: no other task has card values";
            ensure(has_values || self.training_data.is_none(), "training_data", "given", message)?;
        }
        let mut names = BTreeSet::new();
        for Decoding { name, sampling } in &self.decodings {
            ensure(names.insert(name), "decodings.name", name, "is given twice")?;
            sampling.validate().map_err(refused(format!("decodings[{name}].sampling")))?;
        }
        for name in self.models.keys() {
            // Results are kept in a file of this name, beside those of the checkpoints.
            let is_file_name = Path::new(name).file_name().is_some_and(|file| file == name.as_str());
            let message = "must be usable as a file name and not begin with `step-`";
            ensure(is_file_name && !name.starts_with("step-"), "models", name, message)?;
        }
        let given = self.checkpoints_of.is_some() || !self.models.is_empty();
        ensure(given, "models", "empty", "give checkpoints_of, models, or both")?;
        let split_known = self.splits.iter().any(|split| split.name == self.select.split);
        ensure(split_known, "select.split", &self.select.split, "must be the name of one of the splits")?;
        let decoding_known = self.decodings.iter().any(|decoding| decoding.name == self.select.decoding);
        ensure(decoding_known, "select.decoding", &self.select.decoding, "must be the name of one of the decodings")
    }
}

/// The refusal of a section by the crate that reads it.
fn refused<E: std::fmt::Display>(key: String) -> impl FnOnce(E) -> ConfigError {
    move |error| ConfigError { key, value: "as given".into(), message: error.to_string() }
}
