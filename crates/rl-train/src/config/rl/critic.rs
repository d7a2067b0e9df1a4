//! The critic: a head on the policy's own layers, or a model of its own.

use std::path::PathBuf;

use rl_core::schedule::ScheduleConfig;
use rl_models::LoraConfig;
use rl_torch::AdamWConfig;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use crate::config::training::validate_optimizer;
use crate::config::{Dtype, in_section};

/// Where values come from; `kind` chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum CriticConfig {
    /// A head on the policy's last hidden states, trained by the policy's optimizer.
    Shared {
        /// Its shape.
        head: ValueHeadConfig,
        /// Weight of the value loss in the common loss.
        value_coef: f64,
        /// Largest change of a value in one rollout's updates; absent, unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value_clip: Option<f64>,
        /// Keeps the value loss out of the layers: the head alone learns from it.
        #[serde(default)]
        detached: bool,
    },
    /// A model of its own with a linear head and its own optimizer.
    Own {
        /// What it starts from.
        start: CriticStart,
        /// Type of its weights.
        #[serde(default)]
        dtype: Dtype,
        /// Adapters; absent, all weights are trained.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lora: Option<LoraConfig>,
        /// AdamW.
        optimizer: AdamWConfig,
        /// Learning rate by step.
        learning_rate: ScheduleConfig,
        /// Limit of its gradient norm; `inf` never clips.
        max_grad_norm: f64,
        /// Largest change of a value in one rollout's updates; absent, unlimited.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value_clip: Option<f64>,
        /// Steps at the start in which the critic alone learns.
        #[serde(default)]
        policy_frozen_steps: u64,
    },
}

/// Shape of a shared critic's head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ValueHeadConfig {
    /// One projection.
    Linear,
    /// `hidden -> hidden/4 -> hidden/8 -> 1` with ReLU.
    Network,
}

/// What a critic of its own starts from; exactly one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CriticStart {
    /// The layers of a language model; the head starts at zero.
    LanguageModel(PathBuf),
    /// A reward model; the head starts as its score.
    RewardModel(PathBuf),
}

impl CriticStart {
    /// The checkpoint.
    pub fn path(&self) -> &std::path::Path {
        match self {
            CriticStart::LanguageModel(path) | CriticStart::RewardModel(path) => path,
        }
    }
}

impl CriticConfig {
    /// Largest change of a value in one rollout's updates.
    pub fn value_clip(&self) -> Option<f64> {
        match self {
            CriticConfig::Shared { value_clip, .. } | CriticConfig::Own { value_clip, .. } => *value_clip,
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let clip = self.value_clip().unwrap_or(1.0);
        ensure(0.0 < clip && clip.is_finite(), "critic.value_clip", clip, "must be positive and finite")?;
        match self {
            CriticConfig::Shared { value_coef, .. } => {
                let good = 0.0 <= *value_coef && value_coef.is_finite();
                ensure(good, "critic.value_coef", value_coef, "must be finite and at least 0")
            }
            CriticConfig::Own { optimizer, learning_rate, max_grad_norm, lora, .. } => {
                validate_optimizer("critic.optimizer", optimizer)?;
                learning_rate.validate().map_err(in_section("critic.learning_rate"))?;
                ensure(0.0 < *max_grad_norm, "critic.max_grad_norm", max_grad_norm, "must be positive")?;
                let refused = |error: rl_models::Error| ConfigError {
                    key: "critic.lora".into(),
                    value: format!("{lora:?}"),
                    message: error.to_string(),
                };
                lora.as_ref().map_or(Ok(()), |lora| lora.validate().map_err(refused))
            }
        }
    }
}
