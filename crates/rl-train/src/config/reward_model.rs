//! The configuration of a Bradley-Terry reward model.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_data::{EndOfTurn, Seams, SelectionPolicy};
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::data::{is_required, validate_held_out};
use super::{DataConfig, HeldOutConfig, ModelConfig, RunConfig, TrainingConfig, on_splits};

/// A reward model trained on pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardModelConfig {
    /// Folder of the run's record and checkpoints.
    pub run: PathBuf,
    /// Seed of the data order, of a fresh head, of fresh adapters and of their dropout.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Pairs: rows of `{"prompt": ..., "chosen": ..., "rejected": ...}`.
    pub data: DataConfig,
    /// What becomes of pairs whose prompt merges with a response when tokenised.
    pub seams: Seams,
    /// What becomes of a trained answer that the template does not end, so that stopping would not be learned; `required`,
    /// where none is said, refuses the row.
    #[serde(default, skip_serializing_if = "is_required")]
    pub end_of_turn: EndOfTurn,
    /// Longest side in tokens, and what happens to pairs that do not fit.
    pub selection: SelectionPolicy,
    /// Pairs per optimizer step.
    pub batch_size: usize,
    /// Spread of a fresh head; not read when `model.path` is a reward model already.
    pub head: HeadInit,
    /// Asks the chosen reward to win by the margin of the data; a pair without one has margin 0.
    #[serde(default)]
    pub margins: bool,
    /// Weight of `(chosen + rejected)^2`, which keeps the rewards around 0; 0 is off.
    #[serde(default)]
    pub centering_coef: f64,
    /// What is held out, by name, and measured at every evaluation: pairs of their own, or a share of `data`. The mean and
    /// spread of all their rewards are stored in the checkpoint, for normalised use.
    #[serde(default)]
    pub held_out: BTreeMap<String, HeldOutConfig>,
    /// What is trained beside the head: `path` is a language model, or a reward model to go on with.
    pub model: ModelConfig,
    /// Length, optimizer, checkpoints.
    pub training: TrainingConfig,
}

/// Standard deviation of a fresh head's weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadInit {
    /// `1 / (hidden + 1)`, as OpenRLHF.
    InverseWidth,
    /// The checkpoint's `initializer_range`, as transformers and so TRL.
    InitializerRange,
}

impl RunConfig for RewardModelConfig {
    common_sections!();

    fn metrics(&self) -> Vec<String> {
        on_splits(self.held_out.keys(), &crate::reward_model::MEASURED.map(String::from))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.data.validate("data")?;
        validate_held_out(&self.held_out)?;
        self.model.validate_pretrained()?;
        ensure(0 < self.batch_size, "batch_size", self.batch_size, "must be positive")?;
        let coef = self.centering_coef;
        ensure(0.0 <= coef && coef.is_finite(), "centering_coef", coef, "must be finite and at least 0")?;
        self.training.validate(&self.metrics())
    }
}
