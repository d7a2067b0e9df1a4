//! What a run's TOML file holds: parsed, validated, and only then built.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_core::policy_loss::ClipRange;
use rl_core::schedule::Schedule;
use rl_data::{SelectionPolicy, TrainOn};
use rl_envs::general_points::GeneralPointsConfig;
use rl_models::generate::SamplingConfig;
use rl_torch::AdamWConfig;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

/// Supervised fine-tuning, or training from scratch, on a file of conversations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SftConfig {
    /// Folder of the run's record and checkpoints.
    pub run: PathBuf,
    /// Seed of the data order and of fresh weights.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// What is trained.
    pub model: ModelSource,
    /// JSON Lines of `{"messages": [...]}`.
    pub data: PathBuf,
    /// Which turns are targets.
    pub train_on: TrainOn,
    /// Longest row in tokens, and what happens to rows that do not fit.
    pub selection: SelectionPolicy,
    /// Sequences per optimizer step.
    pub batch_size: usize,
    /// Tokens per backward pass. Changes memory, never the gradient.
    pub micro_batch_tokens: usize,
    /// Optimizer steps of the whole run.
    pub max_steps: u64,
    /// AdamW.
    pub optimizer: AdamWConfig,
    /// Learning rate by step.
    pub learning_rate: Schedule,
    /// Limit of the global gradient norm.
    pub max_grad_norm: f64,
    /// When checkpoints are written.
    pub checkpoints: CheckpointConfig,
    /// Held-out files by name, scored at every checkpoint; same layout as `data`.
    #[serde(default)]
    pub held_out: BTreeMap<String, PathBuf>,
}

/// Where the weights come from: exactly one of the two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSource {
    /// A checkpoint folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A new decoder with a tokenizer trained on the run's own data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<NewModelConfig>,
}

/// Shape of a decoder trained from scratch; the names are those of a checkpoint's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewModelConfig {
    /// Most entries of the tokenizer that is trained.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Decoder layers.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads.
    pub num_key_value_heads: i64,
    /// Longest context.
    pub max_position_embeddings: i64,
    /// Standard deviation of the fresh weights.
    pub initializer_range: f64,
}

/// Checkpoints every `every` steps, and more densely at the start if `dense_until` is positive. The last step always
/// has one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between checkpoints.
    pub every: u64,
    /// Up to this step, `dense_every` holds instead.
    #[serde(default)]
    pub dense_until: u64,
    /// Steps between checkpoints up to `dense_until`.
    #[serde(default)]
    pub dense_every: u64,
}

impl CheckpointConfig {
    /// Whether the state after `step` optimizer steps is kept.
    pub fn is_due(&self, step: u64, max_steps: u64) -> bool {
        let every = if step <= self.dense_until { self.dense_every } else { self.every };
        step == max_steps || (0 < step && step.is_multiple_of(every.max(1)))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        ensure(0 < self.every, "checkpoints.every", self.every, "must be positive")?;
        let consistent = self.dense_until == 0 || 0 < self.dense_every;
        ensure(consistent, "checkpoints.dense_every", self.dense_every, "must be positive when dense_until is")
    }
}

impl ModelSource {
    fn validate(&self) -> Result<(), ConfigError> {
        let given = usize::from(self.path.is_some()) + usize::from(self.new.is_some());
        ensure(given == 1, "model", format!("{given} sources"), "give either model.path or model.new")
    }
}

impl SftConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, its value and its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.model.validate()?;
        ensure(0 < self.batch_size, "batch_size", self.batch_size, "must be positive")?;
        ensure(0 < self.micro_batch_tokens, "micro_batch_tokens", self.micro_batch_tokens, "must be positive")?;
        ensure(0 < self.max_steps, "max_steps", self.max_steps, "must be positive")?;
        ensure(0.0 < self.max_grad_norm, "max_grad_norm", self.max_grad_norm, "must be positive")?;
        self.checkpoints.validate()
    }
}

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
    /// Checkpoint folder the policy starts from.
    pub model: PathBuf,
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
    /// Tokens per backward pass. Changes memory, never the gradient.
    pub micro_batch_tokens: usize,
    /// Limits of the probability ratio.
    pub clip: ClipRange,
    /// Rollouts of the whole run.
    pub max_steps: u64,
    /// AdamW.
    pub optimizer: AdamWConfig,
    /// Learning rate by rollout step.
    pub learning_rate: Schedule,
    /// Limit of the global gradient norm.
    pub max_grad_norm: f64,
    /// When checkpoints are written.
    pub checkpoints: CheckpointConfig,
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

impl RlConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, its value and its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
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
        ensure(0 < self.micro_batch_tokens, "micro_batch_tokens", self.micro_batch_tokens, "must be positive")?;
        ensure(0 < self.max_steps, "max_steps", self.max_steps, "must be positive")?;
        ensure(0.0 < self.max_grad_norm, "max_grad_norm", self.max_grad_norm, "must be positive")?;
        self.checkpoints.validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_dense_first_and_never_miss_the_end() {
        let config = CheckpointConfig { every: 100, dense_until: 30, dense_every: 10 };
        let due: Vec<u64> = (0..=250).filter(|&step| config.is_due(step, 250)).collect();
        assert_eq!(due, [10, 20, 30, 100, 200, 250]);
    }
}
