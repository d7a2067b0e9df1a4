//! What is answered, and how answers are drawn.

use rl_core::rewards::GroupFilter;
use rl_envs::EnvironmentConfig;
use rl_models::generate::SamplingConfig;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use crate::config::{DataConfig, in_section, refused};

/// The `[rollout]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RolloutConfig {
    /// What is answered.
    pub task: TaskConfig,
    /// Different prompts, or episodes with different starts, per step.
    pub prompts_per_step: usize,
    /// Answers per prompt.
    pub group_size: usize,
    /// How tokens are drawn.
    pub sampling: SamplingConfig,
    /// Allows `sampling` to truncate or reweigh the distribution (top-k, top-p, ...). The policy that is trained is then
    /// not the one that answered, and its gradient is biased.
    #[serde(default)]
    pub allow_truncated_sampling: bool,
    /// Temperature of the log-probabilities in the loss; absent, that of `sampling`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log_prob_temperature: Option<f64>,
    /// Answers further prompts until enough groups teach something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dynamic_sampling: Option<DynamicSampling>,
    /// Transcripts kept per step.
    pub samples_per_step: usize,
}

/// What is answered; `kind` chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TaskConfig {
    /// Episodes of an environment, which rewards each turn.
    Environment {
        /// Which one.
        environment: EnvironmentConfig,
    },
    /// Prompts of a dataset, rewarded by the `[reward]` section.
    Prompts(PromptsConfig),
}

/// Prompts of a dataset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptsConfig {
    /// Rows of `{"prompt": ...}`; other columns go to the rewards, `tools` to the chat template.
    pub data: DataConfig,
    /// Most tokens of a prompt.
    pub max_length: usize,
    /// What becomes of longer ones.
    pub too_long: LongPrompts,
    /// Gives the prompt's text as it stands, without the chat template: for models that were never taught one. The prompt is
    /// then one message.
    #[serde(default)]
    pub plain: bool,
    /// Text that every answer begins with, given and not trained, such as `<think>`.
    #[serde(default)]
    pub response_prefix: String,
}

/// What becomes of prompts above the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LongPrompts {
    /// The run does not begin.
    Error,
    /// They are dropped and counted.
    Drop,
}

/// Dynamic sampling. Yu et al. 2025 (DAPO), section 3.2: <https://arxiv.org/abs/2503.14476>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DynamicSampling {
    /// Which groups are kept.
    pub filter: GroupFilter,
    /// Rounds of `prompts_per_step` prompts after which the step gives up with an error.
    pub max_rounds: usize,
}

/// Tasks that are answered at every evaluation, as the split `validation`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ValidationConfig {
    /// What is answered.
    pub task: TaskConfig,
    /// Seed of the environment; another than the run's.
    pub seed: u64,
    /// How many: the first episodes of the environment, or prompts of the dataset in the order that `seed` gives.
    pub num_prompts: usize,
    /// How tokens are drawn; temperature 0 is greedy.
    pub sampling: SamplingConfig,
}

impl TaskConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        match self {
            TaskConfig::Environment { environment } => {
                environment.validate().map_err(refused("environment"))?;
                let message = "starts conversations within an episode, and a trajectory is one conversation; for `virl` set \
                               `episode = \"point\"`";
                ensure(!environment.starts_over(), "environment", "as given", message)
            }
            TaskConfig::Prompts(prompts) => {
                prompts.data.validate("data")?;
                ensure(0 < prompts.max_length, "max_length", prompts.max_length, "must be positive")
            }
        }
    }
}

impl RolloutConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let positive = |key: &str, value: usize| ensure(0 < value, key, value, "must be positive");
        self.task.validate().map_err(|error| error.within("rollout.task"))?;
        positive("rollout.prompts_per_step", self.prompts_per_step)?;
        positive("rollout.group_size", self.group_size)?;
        let sampling = &self.sampling;
        sampling.validate().map_err(refused("rollout.sampling"))?;
        let temperature = sampling.temperature;
        ensure(0.0 < temperature, "rollout.sampling.temperature", temperature, "must be positive")?;
        let message = "must not truncate, penalise or mask (top_k, min_p and min_new_tokens 0, top_p and \
                       repetition_penalty 1), unless `rollout.allow_truncated_sampling = true` accepts the bias";
        let faithful = sampling.is_untruncated() || self.allow_truncated_sampling;
        ensure(faithful, "rollout.sampling", format!("{sampling:?}"), message)?;
        let temperature = self.log_prob_temperature.unwrap_or(temperature);
        let good = 0.0 < temperature && temperature.is_finite();
        ensure(good, "rollout.log_prob_temperature", temperature, "must be positive and finite")?;
        if let Some(dynamic) = &self.dynamic_sampling {
            dynamic.filter.validate().map_err(in_section("rollout.dynamic_sampling.filter"))?;
            positive("rollout.dynamic_sampling.max_rounds", dynamic.max_rounds)?;
        }
        Ok(())
    }
}

impl ValidationConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.task.validate().map_err(|error| error.within("validation.task"))?;
        ensure(0 < self.num_prompts, "validation.num_prompts", self.num_prompts, "must be positive")?;
        self.sampling.validate().map_err(refused("validation.sampling"))
    }
}
