//! The configuration of preference optimisation on single answers: KTO and its relatives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_core::preference_loss::{UnpairedLoss, UnpairedObjective};
use rl_data::{EndOfTurn, Seams, SelectionPolicy};
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::data::{is_required, validate_held_out};
use super::{DataConfig, HeldOutConfig, ModelConfig, RunConfig, TrainingConfig, in_section, on_splits};

/// Preference optimisation on answers with verdicts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpairedConfig {
    /// Folder of the run's record and checkpoints.
    pub run: PathBuf,
    /// Seed of the data order, of fresh adapters and of their dropout.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Judged answers: rows of `{"prompt": ..., "completion": ..., "label": true}`.
    pub data: DataConfig,
    /// What becomes of rows whose prompt merges with the response when tokenised.
    pub seams: Seams,
    /// What becomes of a trained answer that the template does not end, so that stopping would not be learned; `required`,
    /// where none is said, refuses the row.
    #[serde(default, skip_serializing_if = "is_required")]
    pub end_of_turn: EndOfTurn,
    /// Longest row in tokens, and what happens to rows that do not fit. A mismatched row of KTO's estimate is cut at its
    /// end to the same length.
    pub selection: SelectionPolicy,
    /// Answers per optimizer step; even under `kto_even_sampling`, where half of them are desirable.
    pub batch_size: usize,
    /// What an answer costs.
    pub objective: UnpairedObjective,
    /// Checkpoint of the frozen reference policy; absent, the policy as it was before training. Its log-probabilities are
    /// made in every step: KTO's estimate pairs answers anew each time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<PathBuf>,
    /// What is held out, by name, and measured at every evaluation: answers of their own, or a share of `data`.
    #[serde(default)]
    pub held_out: BTreeMap<String, HeldOutConfig>,
    /// What is trained; starts from a checkpoint.
    pub model: ModelConfig,
    /// Length, optimizer, checkpoints.
    pub training: TrainingConfig,
}

impl RunConfig for UnpairedConfig {
    common_sections!();

    fn metrics(&self) -> Vec<String> {
        on_splits(self.held_out.keys(), &crate::unpaired::MEASURED.map(String::from))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.data.validate("data")?;
        validate_held_out(&self.held_out)?;
        self.model.validate_pretrained()?;
        self.objective.validate().map_err(in_section("objective"))?;
        let size = self.batch_size;
        match self.objective.loss {
            UnpairedLoss::Kto { .. } => {
                ensure(2 <= size, "batch_size", size, "KTO mismatches the answers of a step; it needs two or more")?;
            }
            UnpairedLoss::KtoEvenSampling { .. } => {
                let usable = 2 <= size && size.is_multiple_of(2);
                ensure(usable, "batch_size", size, "must be even and positive: half of a step is desirable")?;
            }
            UnpairedLoss::ApoZeroUnpaired { .. } => ensure(0 < size, "batch_size", size, "must be positive")?,
        }
        self.training.validate(&self.metrics())
    }
}
