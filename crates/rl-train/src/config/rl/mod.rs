//! The configuration of reinforcement learning: a chain of rollout, reward, advantage, loss, each a choice of its own.

mod critic;
mod pretrain;
mod rollout;

use std::path::PathBuf;

use rl_core::advantages::{AdvantageEstimator, GroupEstimator, RewardAggregation, Whitening};
use rl_core::entropy::EntropyController;
use rl_core::importance::{ImportanceCorrection, Rejection};
use rl_core::kl::{KlController, KlCorrection, KlPenalty};
use rl_core::masked::Reduction;
use rl_core::policy_loss::{PolicyObjective, RatioLevel};
use rl_core::returns::EpisodeBoundary;
use rl_core::rewards::{RewardShaping, RewardStep};
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

pub use critic::{CriticConfig, CriticStart, ValueHeadConfig};
pub use pretrain::PretrainConfig;
pub use rollout::{DynamicSampling, LongPrompts, PromptsConfig, RolloutConfig, TaskConfig, ValidationConfig};

use super::{ModelConfig, RunConfig, TrainingConfig, in_section, on_splits};
use crate::reward::{RewardConfig, SourceConfig, SourceKind};

/// Reinforcement learning of a policy in an environment or on prompts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlConfig {
    /// Folder of the run's record and checkpoints.
    pub run: PathBuf,
    /// Seed of tasks, draws, fresh heads and adapters.
    pub seed: u64,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// The policy.
    pub model: ModelConfig,
    /// Checkpoint of the reference policy; absent, the policy as it was before training.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<PathBuf>,
    /// What is answered, and how answers are drawn.
    pub rollout: RolloutConfig,
    /// Sources of reward beside the environment's own; their weighted sum is added to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<RewardConfig>,
    /// What happens to rewards, step by step, before they become advantages.
    pub shaping: RewardShaping,
    /// Advantages per token; give this or `turn_advantage`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advantage: Option<AdvantageEstimator>,
    /// Advantages per turn of an episode, with a critic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_advantage: Option<TurnAdvantage>,
    /// The policy loss.
    pub objective: PolicyObjective,
    /// How the losses of a step's tokens become one number.
    pub reduction: Reduction,
    /// Optimizer steps per rollout.
    pub updates: UpdateConfig,
    /// Penalty on leaving the reference policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kl: Option<KlConfig>,
    /// Bonus on the policy's entropy; a coefficient of 0 only measures it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entropy: Option<EntropyController>,
    /// The distribution whose entropy is meant, in the bonus and in `selection.top_entropy_fraction`.
    #[serde(default)]
    pub entropy_logits: EntropyLogits,
    /// Which tokens are trained, beside the mask.
    #[serde(default)]
    pub selection: SelectionConfig,
    /// Weights against the difference between sampler and trainer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<ImportanceCorrection>,
    /// One action per turn whose thought tokens count less; for objectives with the ratio `weighted_sum`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<ActionConfig>,
    /// The critic, for advantages that read values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub critic: Option<CriticConfig>,
    /// Supervised rows mixed in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretrain: Option<PretrainConfig>,
    /// Tasks that are answered at every evaluation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ValidationConfig>,
    /// Length, optimizer, checkpoints; a step is one rollout with its updates.
    pub training: TrainingConfig,
}

/// How often one rollout is used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateConfig {
    /// Passes over the rollout; 1 is on-policy.
    pub epochs: usize,
    /// Optimizer steps per pass, each on a share of the rollout.
    pub per_epoch: usize,
    /// Draws the shares of every pass anew, as PPO does; otherwise they are contiguous, which keeps the answers to one
    /// prompt together, so that it is read once for all of them.
    #[serde(default)]
    pub shuffle: bool,
}

impl UpdateConfig {
    /// Optimizer steps of one rollout.
    pub fn total(self) -> usize {
        self.epochs * self.per_epoch
    }
}

/// Generalised advantage estimation over the turns of an episode. Values are read at the last prompt token of each turn.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TurnAdvantage {
    /// Discount from turn to turn.
    pub gamma: f64,
    /// Decay of the estimator.
    pub gae_lambda: f64,
    /// What ends an episode.
    pub boundary: EpisodeBoundary,
    /// Over all turns of the rollout; absent, none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whitening: Option<Whitening>,
}

/// The divergence from the reference policy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlConfig {
    /// The coefficient, fixed or steered.
    pub controller: KlController,
    /// The estimator.
    pub penalty: KlPenalty,
    /// Where it enters. In the reward, `shaping` says at which step.
    pub place: KlPlace,
    /// Correction for tokens drawn by an older policy; in the loss only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correction: Option<KlCorrection>,
}

/// The distribution whose entropy is meant. The two are one where the log-probabilities' temperature is 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntropyLogits {
    /// That of the model's own logits.
    #[default]
    Unscaled,
    /// That of the logits divided by the temperature of the log-probabilities, as in TRL and verl.
    Scaled,
}

/// Where the divergence enters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlPlace {
    /// Subtracted from the reward, measured with the policy of the rollout.
    Reward,
    /// Added to the loss, measured with the policy of now.
    Loss,
}

/// Which tokens are trained, beside the mask. Everything is off at first.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionConfig {
    /// Drops responses whose mean divergence from the reference reaches this, in nats per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_response_kl: Option<f64>,
    /// Drops tokens with a negative advantage in responses that the policy has left by more than this, in nats per token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_off_policy_kl: Option<f64>,
    /// Trains only this share of the step's tokens, those of highest entropy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top_entropy_fraction: Option<f64>,
    /// Drops tokens or responses on which sampler and trainer disagree too much.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejection: Option<Rejection>,
}

/// A turn as one action: what stands before the key is thought.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionConfig {
    /// Text at which the action begins, such as `"formula"`; the last occurrence counts. Without it all is action.
    pub key: String,
    /// Weight of a thought token in the log-probability of the action; an action token has 1.
    pub thought_weight: f64,
}

impl RlConfig {
    /// Temperature of the log-probabilities that are trained.
    pub fn log_prob_temperature(&self) -> f64 {
        self.rollout.log_prob_temperature.unwrap_or(self.rollout.sampling.temperature)
    }

    /// Temperature of the distributions whose entropy is meant.
    pub fn entropy_temperature(&self) -> f64 {
        match self.entropy_logits {
            EntropyLogits::Unscaled => 1.0,
            EntropyLogits::Scaled => self.log_prob_temperature(),
        }
    }

    /// Whether the objective treats a turn as one action.
    pub fn acts_by_turn(&self) -> bool {
        matches!(&self.objective, PolicyObjective::Clipped(clipped) if clipped.ratio.level == RatioLevel::WeightedSum)
    }

    /// Whether each prompt also gets a greedy answer.
    pub fn needs_greedy(&self) -> bool {
        let estimator = self.advantage.and_then(|advantage| advantage.group_estimator());
        estimator == Some(GroupEstimator::GreedyBaseline)
    }

    /// Whether values are read.
    pub fn needs_values(&self) -> bool {
        self.turn_advantage.is_some() || self.advantage.is_some_and(|advantage| advantage.needs_values())
    }

    /// Whether the reference policy is read.
    pub fn needs_reference(&self) -> bool {
        self.kl.is_some() || self.selection.max_response_kl.is_some()
    }
}

impl RunConfig for RlConfig {
    common_sections!();

    fn metrics(&self) -> Vec<String> {
        let Some(validation) = &self.validation else { return Vec::new() };
        let plays = matches!(validation.task, TaskConfig::Environment { .. });
        let sources = self.reward.iter().flat_map(|reward| &reward.sources).map(|source| source.name.as_str());
        on_splits([&"validation".to_owned()], &crate::rl::measured(plays, sources))
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.model.validate_pretrained()?;
        let dropout = self.model.lora.as_ref().map_or(0.0, |lora| lora.dropout);
        ensure(dropout == 0.0, "model.lora.dropout", dropout, "must be 0 in RL: the ratio would not begin at 1")?;
        self.rollout.validate()?;
        let group_size = self.rollout.group_size;
        let given = usize::from(self.advantage.is_some()) + usize::from(self.turn_advantage.is_some());
        ensure(given == 1, "advantage", format!("{given} given"), "give either `advantage` or `turn_advantage`")?;
        if let Some(advantage) = &self.advantage {
            advantage.validate(group_size).map_err(in_section("advantage"))?;
        }
        if let Some(TurnAdvantage { gamma, gae_lambda, whitening, .. }) = self.turn_advantage {
            ensure((0.0..=1.0).contains(&gamma), "turn_advantage.gamma", gamma, "must be in [0, 1]")?;
            ensure((0.0..=1.0).contains(&gae_lambda), "turn_advantage.gae_lambda", gae_lambda, "must be in [0, 1]")?;
            whitening.map_or(Ok(()), |whitening| whitening.validate()).map_err(in_section("turn_advantage"))?;
        }
        let by_token = self.shaping.steps.iter().find(|step| !matches!(step, RewardStep::Clip { .. }));
        if let (Some(step), true) = (by_token, self.turn_advantage.is_some()) {
            let message =
                "turns keep the prices of their environment: with `turn_advantage` only `clip` can be applied";
            ensure(false, "shaping.steps", format!("{step:?}"), message)?;
        }
        let compares_samplers = self.importance.is_some()
            || self.selection.rejection.is_some()
            || self.selection.max_off_policy_kl.is_some();
        let same = self.log_prob_temperature() == self.rollout.sampling.temperature;
        let message = "must be that of `sampling` where log-probabilities are compared with the sampler's";
        let temperature = self.log_prob_temperature();
        ensure(same || !compares_samplers, "rollout.log_prob_temperature", temperature, message)?;
        let has_critic = self.critic.is_some();
        let message = "is needed by this advantage, and by no other: give it exactly then";
        ensure(has_critic == self.needs_values(), "critic", if has_critic { "given" } else { "absent" }, message)?;
        if let Some(critic) = &self.critic {
            critic.validate()?;
        }
        self.shaping.validate().map_err(in_section("shaping"))?;
        self.objective.validate().map_err(in_section("objective"))?;
        self.validate_kl()?;
        self.validate_selection()?;
        let has_prompts = matches!(self.rollout.task, TaskConfig::Prompts(_));
        let message = "is needed for prompts: nothing else says what an answer is worth";
        ensure(self.reward.is_some() || !has_prompts, "reward", "absent", message)?;
        let kl_in_reward = self.kl.is_some_and(|kl| kl.place == KlPlace::Reward);
        let message = "turns have no reward per token; put the divergence into the loss";
        ensure(!kl_in_reward || self.turn_advantage.is_none(), "kl.place", "reward", message)?;
        if let Some(reward) = &self.reward {
            reward.validate().map_err(|error| error.within("reward"))?;
            let is_external = |source: &&SourceConfig| matches!(source.source, SourceKind::External {});
            let external = reward.sources.iter().find(is_external).map(|source| source.name.as_str());
            let message =
                "is a source whose scores the caller of a `Scorer` computes, and training has none: make it `custom`";
            ensure(external.is_none(), "reward.sources", external.unwrap_or_default(), message)?;
            let compares = reward.aggregation != RewardAggregation::SumThenNormalize;
            let message = "compares the answers to one prompt: `rollout.group_size` must be at least 2";
            ensure(!compares || 1 < group_size, "reward.aggregation", format!("{:?}", reward.aggregation), message)?;
            let message = "is for the reward of a whole answer: `turn_advantage` has a price per turn";
            let by_turn = self.turn_advantage.is_some();
            ensure(!compares || !by_turn, "reward.aggregation", format!("{:?}", reward.aggregation), message)?;
        }
        let given = if self.action.is_some() { "given" } else { "absent" };
        let message = "is needed by objectives with the ratio `weighted_sum`, and by no other";
        ensure(self.action.is_some() == self.acts_by_turn(), "action", given, message)?;
        let weight = self.action.as_ref().map_or(0.0, |action| action.thought_weight);
        ensure(0.0 <= weight && weight.is_finite(), "action.thought_weight", weight, "must be finite and at least 0")?;
        let UpdateConfig { epochs, per_epoch, .. } = self.updates;
        ensure(0 < epochs, "updates.epochs", epochs, "must be positive")?;
        ensure(0 < per_epoch, "updates.per_epoch", per_epoch, "must be positive")?;
        let answers = self.rollout.prompts_per_step * group_size;
        let message = "must not exceed rollout.prompts_per_step * rollout.group_size";
        ensure(per_epoch <= answers, "updates.per_epoch", per_epoch, message)?;
        self.pretrain.as_ref().map_or(Ok(()), PretrainConfig::validate)?;
        if let Some(validation) = &self.validation {
            validation.validate()?;
            let plays = matches!(validation.task, TaskConfig::Environment { .. });
            let message = "is the run's: validation would play the first episodes of the training";
            ensure(!plays || validation.seed != self.seed, "validation.seed", validation.seed, message)?;
        }
        ensure(self.training.max_steps.is_some(), "training.max_steps", "absent", "RL counts steps; give it")?;
        self.training.validate(&self.metrics())
    }
}

impl RlConfig {
    fn validate_kl(&self) -> Result<(), ConfigError> {
        let step = self.shaping.steps.iter().any(|step| matches!(step, RewardStep::SampleKl | RewardStep::TokenKl));
        let in_reward = self.kl.is_some_and(|kl| kl.place == KlPlace::Reward);
        let message = "the steps `sample_kl` and `token_kl` of `shaping` and `kl.place = \"reward\"` go together";
        // A step without a coefficient is legal, so that one order serves runs with and without KL.
        ensure(!in_reward || step, "kl.place", "reward", message)?;
        let Some(kl) = &self.kl else { return Ok(()) };
        kl.controller.validate().map_err(in_section("kl.controller"))?;
        kl.penalty.validate().map_err(in_section("kl.penalty"))?;
        let in_loss = kl.place == KlPlace::Loss;
        ensure(in_loss || kl.correction.is_none(), "kl.correction", "given", "is for `kl.place = \"loss\"` only")
    }

    fn validate_selection(&self) -> Result<(), ConfigError> {
        if let Some(entropy) = &self.entropy {
            entropy.validate().map_err(in_section("entropy"))?;
        }
        if let Some(importance) = &self.importance {
            importance.validate().map_err(in_section("importance"))?;
        }
        let SelectionConfig { max_response_kl, max_off_policy_kl, top_entropy_fraction, rejection } = self.selection;
        for (key, limit) in [("max_response_kl", max_response_kl), ("max_off_policy_kl", max_off_policy_kl)] {
            let limit = limit.unwrap_or(1.0);
            ensure(0.0 < limit && limit.is_finite(), format!("selection.{key}"), limit, "must be positive and finite")?;
        }
        let fraction = top_entropy_fraction.unwrap_or(1.0);
        let good = 0.0 < fraction && fraction <= 1.0;
        ensure(good, "selection.top_entropy_fraction", fraction, "must be above 0 and at most 1")?;
        rejection.map_or(Ok(()), |rejection| rejection.validate()).map_err(in_section("selection.rejection"))
    }
}
