//! The configuration of preference optimisation on pairs: DPO and its relatives.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_core::preference_loss::{PreferenceObjective, ReferenceUpdate};
use rl_data::{EndOfTurn, Seams, SelectionPolicy};
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::data::{is_required, validate_held_out};
use super::{DataConfig, HeldOutConfig, ModelConfig, RunConfig, TrainingConfig, in_section, on_splits};

/// Preference optimisation on pairs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceConfig {
    /// Folder of the run's record and checkpoints.
    pub run: PathBuf,
    /// Seed of the data order, of fresh adapters and of their dropout.
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
    /// What a pair costs.
    pub objective: PreferenceObjective,
    /// The frozen policy of the log-ratios; absent if and only if no loss of the objective has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<ReferenceConfig>,
    /// What is held out, by name, and measured at every evaluation: pairs of their own, or a share of `data`.
    #[serde(default)]
    pub held_out: BTreeMap<String, HeldOutConfig>,
    /// What is trained; starts from a checkpoint.
    pub model: ModelConfig,
    /// Length, optimizer, checkpoints.
    pub training: TrainingConfig,
}

/// The reference policy of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceConfig {
    /// Its checkpoint; absent, the policy as it was before training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// When its log-probabilities are made.
    pub log_probs: ReferencePasses,
    /// TR-DPO: the reference follows the policy from time to time; absent, it never moves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<ReferenceUpdate>,
}

/// When the reference's log-probabilities are made. Either way they are those of the recorded pass: before the first update
/// every log-ratio is exactly 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferencePasses {
    /// In every step, beside the policy's.
    Live,
    /// Once for every pair at the start of the run, and again when it is resumed, in the micro-batches of the first pass over
    /// the data; a reference with weights of its own then leaves the memory. In later passes a pair meets other
    /// neighbours, and the numbers are those of a live pass but for rounding.
    Precomputed,
}

impl RunConfig for PreferenceConfig {
    common_sections!();

    fn metrics(&self) -> Vec<String> {
        on_splits(self.held_out.keys(), &crate::preference::measured(&self.objective))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.data.validate("data")?;
        validate_held_out(&self.held_out)?;
        self.model.validate_pretrained()?;
        ensure(0 < self.batch_size, "batch_size", self.batch_size, "must be positive")?;
        ensure(!self.objective.losses.is_empty(), "objective.losses", "[]", "give at least one loss")?;
        self.objective.validate().map_err(in_section("objective"))?;
        match (&self.reference, self.objective.needs_reference()) {
            (Some(reference), true) => reference.validate(&self.model)?,
            (None, false) => {}
            (None, true) => {
                let message = "a loss of the objective compares with a reference policy; give the section";
                ensure(false, "reference", "absent", message)?;
            }
            (Some(_), false) => {
                let message = "no loss of the objective reads a reference policy; leave the section out";
                ensure(false, "reference", "given", message)?;
            }
        }
        self.training.validate(&self.metrics())
    }
}

impl ReferenceConfig {
    fn validate(&self, model: &ModelConfig) -> Result<(), ConfigError> {
        let Some(update) = &self.update else { return Ok(()) };
        update.validate().map_err(in_section("reference.update"))?;
        let is_live = self.log_probs == ReferencePasses::Live;
        ensure(is_live, "reference.update", "given", "a reference that moves cannot be precomputed; use `live`")?;
        let message = "adapters share their reference's weights, so it cannot move; train all weights";
        ensure(model.lora.is_none(), "reference.update", "given", message)
    }
}
