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
    /// Folder of the evaluation of all models.
    pub evaluation: PathBuf,
    /// Its decoding.
    pub decoding: String,
    /// Its name of the model that all fine-tuning started from.
    pub base: String,
    /// Its splits, in the order of the page.
    pub splits: Vec<Split>,
    /// Kinds of fine-tuning data, in the order of the page; gains are compared with that of the first.
    pub variants: Vec<Variant>,
}

/// A split of the evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Its name in the evaluation.
    pub name: String,
    /// What it is called on the page.
    pub label: String,
}

/// Fine-tuning on one kind of data, and reinforcement learning from there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// What it is called on the page.
    pub label: String,
    /// Supervised fine-tuning.
    pub sft: Trained,
    /// Reinforcement learning.
    pub rl: Trained,
}

/// A training run and its last model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trained {
    /// Run folder.
    pub run: PathBuf,
    /// The model's name in the evaluation.
    pub model: String,
}

impl ReportConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, its value and its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ensure(!self.title.trim().is_empty(), "title", "\"\"", "give the page a heading")?;
        ensure(!self.splits.is_empty(), "splits", "[]", "name at least one split of the evaluation")?;
        ensure(!self.variants.is_empty(), "variants", "[]", "name at least one kind of fine-tuning data")?;
        for (index, variant) in self.variants.iter().enumerate() {
            let is_new = self.variants[..index].iter().all(|earlier| earlier.label != variant.label);
            ensure(is_new, "variants.label", &variant.label, "is given twice")?;
        }
        Ok(())
    }
}
