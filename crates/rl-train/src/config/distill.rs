//! The configuration of distillation.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_data::{EndOfTurn, SelectionPolicy, TrainOn};
use rl_models::DistillationSettings;
use rl_models::generate::SamplingConfig;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::data::{is_required, validate_held_out};
use super::{DataConfig, Dtype, HeldOutConfig, ModelConfig, RunConfig, TrainingConfig, on_splits, refused};

/// A student learns a teacher's next-token distributions, on given answers and on its own.
///
/// Agarwal et al. 2023 (GKD): <https://arxiv.org/abs/2306.13649>.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DistillConfig {
    /// Folder of the run's record and checkpoints.
    pub run: PathBuf,
    /// Seed of the data order, of draws and of adapters.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// The student.
    pub model: ModelConfig,
    /// The teacher: a checkpoint with the student's vocabulary.
    pub teacher: TeacherConfig,
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
    /// What is measured between the two.
    pub distillation: DistillationSettings,
    /// Share of the steps in which the student answers the prompts itself and learns on its own answers.
    pub on_policy_fraction: f64,
    /// How the student's answers are drawn; needed where `on_policy_fraction` is positive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sampling: Option<SamplingConfig>,
    /// What is held out, by name, and scored at every evaluation: conversations of their own, or a share of `data`.
    #[serde(default)]
    pub held_out: BTreeMap<String, HeldOutConfig>,
    /// Length, optimizer, checkpoints.
    pub training: TrainingConfig,
}

/// The teacher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherConfig {
    /// Its checkpoint.
    pub path: PathBuf,
    /// Type of its weights.
    #[serde(default)]
    pub dtype: Dtype,
}

impl RunConfig for DistillConfig {
    common_sections!();

    fn metrics(&self) -> Vec<String> {
        on_splits(self.held_out.keys(), &crate::distill::MEASURED.map(String::from))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.data.validate("data")?;
        validate_held_out(&self.held_out)?;
        self.model.validate_pretrained()?;
        ensure(0 < self.batch_size, "batch_size", self.batch_size, "must be positive")?;
        self.distillation.validate().map_err(refused("distillation"))?;
        let fraction = self.on_policy_fraction;
        ensure((0.0..=1.0).contains(&fraction), "on_policy_fraction", fraction, "must be in [0, 1]")?;
        match &self.sampling {
            Some(sampling) => sampling.validate().map_err(refused("sampling"))?,
            None => ensure(fraction == 0.0, "sampling", "absent", "is needed when on_policy_fraction is positive")?,
        }
        self.training.validate(&self.metrics())
    }
}
