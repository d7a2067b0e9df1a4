//! What the report's TOML file holds.

use std::path::PathBuf;

use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

/// Where the records of the pipeline lie, and what its parts are called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportConfig {
    /// Folder that `report.html`, `summary.json` and `figures/` are written to.
    pub run: PathBuf,
    /// Heading of the page.
    pub title: String,
    /// What a reader has to know of the size of the experiment, one sentence each.
    pub notes: Vec<String>,
    /// Folder of the evaluation of all stages.
    pub evaluation: PathBuf,
    /// Its split.
    pub split: String,
    /// Its decoding.
    pub decoding: String,
    /// Run folder of supervised fine-tuning.
    pub sft: PathBuf,
    /// Run folder of the reward model.
    pub reward_model: PathBuf,
    /// Run folder of preference optimisation.
    pub dpo: PathBuf,
    /// Runs of reinforcement learning, in the order of the page.
    pub rl: Vec<RlRun>,
    /// Evaluated models, in the order of the page.
    pub stages: Vec<Stage>,
    /// Pairs of evaluated models, before and after, that are compared task by task.
    pub comparisons: Vec<[String; 2]>,
}

/// A run of reinforcement learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlRun {
    /// Its folder.
    pub run: PathBuf,
    /// What it is called on the page.
    pub label: String,
}

/// An evaluated model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Its name in the evaluation.
    pub model: String,
    /// What it is called on the page.
    pub label: String,
}

impl ReportConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, its value and its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ensure(!self.title.trim().is_empty(), "title", "\"\"", "give the page a heading")?;
        ensure(!self.stages.is_empty(), "stages", "[]", "name at least one evaluated model")?;
        for name in self.comparisons.iter().flatten() {
            let known = self.stages.iter().any(|stage| stage.model == *name);
            ensure(known, "comparisons", name, "must be the model of one of the stages")?;
        }
        Ok(())
    }

    /// What a model is called on the page.
    pub fn label<'a>(&'a self, model: &'a str) -> &'a str {
        self.stages.iter().find(|stage| stage.model == model).map_or(model, |stage| stage.label.as_str())
    }
}
