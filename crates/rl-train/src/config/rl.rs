//! The configuration of reinforcement learning in an environment.

use std::path::{Path, PathBuf};

use rl_core::policy_loss::ClipRange;
use rl_envs::general_points::GeneralPointsConfig;
use rl_models::generate::SamplingConfig;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::{ModelConfig, RunConfig, TrainingConfig, in_section, refused};

/// Reinforcement learning in an environment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlConfig {
    /// Folder of the run's record and checkpoints.
    pub run: PathBuf,
    /// Seed of the hands, of every draw and of a fresh value head.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// The policy.
    pub model: ModelConfig,
    /// What is played.
    pub environment: GeneralPointsConfig,
    /// How advantages are made.
    pub algorithm: Algorithm,
    /// Different hands per step.
    pub prompts_per_step: usize,
    /// How responses are drawn. Truncated sampling (top-k, top-p) is refused: the ratio would not start at 1.
    pub sampling: SamplingConfig,
    /// Passes over one rollout; 1 is on-policy.
    pub update_epochs: usize,
    /// Optimizer steps per pass over a rollout.
    pub updates_per_epoch: usize,
    /// Limits of the probability ratio.
    pub clip: ClipRange,
    /// Length, optimizer, checkpoints; a step is one rollout with its updates.
    pub training: TrainingConfig,
    /// Transcripts kept per step.
    pub samples_per_step: usize,
}

/// Where advantages come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
pub enum Algorithm {
    /// Group-relative: the episode's return against those of the same hand (Shao et al. 2024,
    /// <https://arxiv.org/abs/2402.03300>).
    Grpo {
        /// Episodes per hand.
        group_size: usize,
        /// Added to the group's standard deviation.
        std_eps: f64,
    },
    /// Generalised advantage estimation over the turns of an episode with a value head on the last prompt token of
    /// each turn (Schulman et al. 2015 and 2017).
    Ppo {
        /// Episodes per hand.
        group_size: usize,
        /// Discount from turn to turn.
        gamma: f64,
        /// Decay of the advantage estimator.
        gae_lambda: f64,
        /// Weight of the value loss.
        value_coef: f64,
        /// Largest change of a value in one rollout's updates.
        value_clip: f64,
    },
}

impl Algorithm {
    /// Episodes per hand.
    pub fn group_size(&self) -> usize {
        match self {
            Algorithm::Grpo { group_size, .. } | Algorithm::Ppo { group_size, .. } => *group_size,
        }
    }
}

impl RunConfig for RlConfig {
    fn run(&self) -> &Path {
        &self.run
    }

    fn device(&self) -> &str {
        &self.device
    }

    fn training(&self) -> &TrainingConfig {
        &self.training
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.model.validate_pretrained()?;
        self.environment.validate().map_err(refused("environment"))?;
        self.clip.validate().map_err(in_section("clip"))?;
        match self.algorithm {
            Algorithm::Grpo { group_size, std_eps } => {
                ensure(2 <= group_size, "algorithm.group_size", group_size, "a group needs two or more")?;
                ensure(0.0 < std_eps, "algorithm.std_eps", std_eps, "must be positive")?;
            }
            Algorithm::Ppo { group_size, gamma, gae_lambda, value_coef, value_clip } => {
                ensure(0 < group_size, "algorithm.group_size", group_size, "must be positive")?;
                ensure((0.0..=1.0).contains(&gamma), "algorithm.gamma", gamma, "must be in [0, 1]")?;
                ensure((0.0..=1.0).contains(&gae_lambda), "algorithm.gae_lambda", gae_lambda, "must be in [0, 1]")?;
                ensure(0.0 <= value_coef, "algorithm.value_coef", value_coef, "must not be negative")?;
                ensure(0.0 < value_clip, "algorithm.value_clip", value_clip, "must be positive")?;
            }
        }
        let sampling = &self.sampling;
        sampling.validate().map_err(refused("sampling"))?;
        ensure(0.0 < sampling.temperature, "sampling.temperature", sampling.temperature, "must be positive")?;
        let value = format!("{sampling:?}");
        let limit =
            "must not truncate, penalise or mask: top_k, min_p and min_new_tokens 0, top_p and repetition_penalty 1";
        ensure(sampling.is_untruncated(), "sampling", value, limit)?;
        ensure(0 < self.prompts_per_step, "prompts_per_step", self.prompts_per_step, "must be positive")?;
        ensure(0 < self.update_epochs, "update_epochs", self.update_epochs, "must be positive")?;
        ensure(0 < self.updates_per_epoch, "updates_per_epoch", self.updates_per_epoch, "must be positive")?;
        let episodes = self.prompts_per_step * self.algorithm.group_size();
        let limit = "must not exceed prompts_per_step * group_size";
        ensure(self.updates_per_epoch <= episodes, "updates_per_epoch", self.updates_per_epoch, limit)?;
        ensure(self.training.max_steps.is_some(), "training.max_steps", "absent", "RL has no epochs; give steps")?;
        self.training.validate()
    }
}
