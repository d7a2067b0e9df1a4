//! The configuration of supervised fine-tuning.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_core::cross_entropy::CrossEntropyKind;
use rl_core::masked::Reduction;
use rl_data::{EndOfTurn, SelectionPolicy, TrainOn};
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::data::{is_required, validate_held_out};
use super::{DataConfig, HeldOutConfig, ModelConfig, RunConfig, TrainingConfig, on_splits};

/// Supervised fine-tuning, or training from scratch, on conversations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// Folder of the run's record and checkpoints.
    pub run: PathBuf,
    /// Seed of the data order, of fresh weights and of adapter dropout.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Conversations: rows of `{"messages": [...]}`, or of a prompt and a completion.
    pub data: DataConfig,
    /// Which turns are targets.
    pub train_on: TrainOn,
    /// What becomes of a trained answer that the template does not end, so that stopping would not be learned; `required`,
    /// where none is said, refuses the row.
    #[serde(default, skip_serializing_if = "is_required")]
    pub end_of_turn: EndOfTurn,
    /// Longest row in tokens, and what happens to rows that do not fit.
    pub selection: SelectionPolicy,
    /// Sequences per optimizer step.
    pub batch_size: usize,
    /// What a target token costs.
    #[serde(default = "nll")]
    pub loss: CrossEntropyKind,
    /// How the costs of a step's tokens become one number.
    #[serde(default = "token_mean")]
    pub reduction: Reduction,
    /// What is held out, by name, and scored at every evaluation: conversations of their own, or a share of `data`.
    #[serde(default)]
    pub held_out: BTreeMap<String, HeldOutConfig>,
    /// What is trained.
    pub model: ModelConfig,
    /// Length, optimizer, checkpoints.
    pub training: TrainingConfig,
}

fn nll() -> CrossEntropyKind {
    CrossEntropyKind::Nll
}

fn token_mean() -> Reduction {
    Reduction::TokenMean
}

impl RunConfig for SftConfig {
    common_sections!();

    fn metrics(&self) -> Vec<String> {
        on_splits(self.held_out.keys(), &crate::sft::MEASURED.map(String::from))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.data.validate("data")?;
        validate_held_out(&self.held_out)?;
        self.model.validate()?;
        ensure(0 < self.batch_size, "batch_size", self.batch_size, "must be positive")?;
        self.training.validate(&self.metrics())
    }
}
