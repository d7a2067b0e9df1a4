//! What every trainer shares: length, optimizer, checkpoints, evaluation, what happens to numbers that are not finite.

use rl_core::schedule::ScheduleConfig;
use rl_torch::AdamWConfig;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::in_section;
use crate::non_finite::NonFiniteConfig;

/// The `[training]` section.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingConfig {
    /// Steps of the whole run; give this or `epochs`. A step is one optimizer step, in RL one rollout with its updates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u64>,
    /// Passes over the data; the last batch of the last pass may be short.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// Tokens per backward pass. Changes memory, never the gradient.
    pub micro_batch_tokens: usize,
    /// AdamW.
    pub optimizer: AdamWConfig,
    /// Learning rate by step of the run.
    pub learning_rate: ScheduleConfig,
    /// Parameters with rules of their own; the first group whose pattern fits a name counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
    /// Limit of the global gradient norm over all groups; `inf` never clips.
    pub max_grad_norm: f64,
    /// When checkpoints are written and which are kept.
    pub checkpoints: CheckpointConfig,
    /// When the model is evaluated; absent, at every checkpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation: Option<EvaluationConfig>,
    /// What happens to numbers that are not finite.
    #[serde(default)]
    pub non_finite: NonFiniteConfig,
    /// Decay per step of a running average of the trained weights, saved beside them; absent, none is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema_decay: Option<f64>,
}

/// Rules for the parameters whose name contains one of `parameters`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// Parts of names, such as `embed_tokens` or `layers.0.`.
    pub parameters: Vec<String>,
    /// Never updated.
    #[serde(default)]
    pub frozen: bool,
    /// Learning rate by step; absent, the run's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<ScheduleConfig>,
    /// Decoupled weight decay; absent, the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
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
    /// Checkpoints kept besides the best one, the newest; absent, all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_last: Option<usize>,
}

/// When the model is evaluated, and what follows from it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationConfig {
    /// Steps between evaluations; the last step always has one.
    pub every: u64,
    /// Also before the first step.
    #[serde(default)]
    pub at_start: bool,
    /// Keeps the best checkpoint, and may end the run early.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<BestConfig>,
}

/// What "best" means.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BestConfig {
    /// `SPLIT/NAME` as in `metrics.jsonl`, such as `validation/loss`.
    pub metric: String,
    /// Which way is better.
    pub goal: Goal,
    /// The run ends after this many evaluations in a row without a better one; absent, never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<u64>,
}

/// Which way a metric gets better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Goal {
    /// Lower is better.
    Min,
    /// Higher is better.
    Max,
}

impl Goal {
    /// Whether `value` beats `best`; a tie does not.
    pub fn is_better(self, value: f64, best: f64) -> bool {
        match self {
            Goal::Min => value < best,
            Goal::Max => best < value,
        }
    }
}

impl CheckpointConfig {
    /// Whether the state after `step` of `max_steps` steps is kept.
    pub fn is_due(&self, step: u64, max_steps: u64) -> bool {
        let every = if step <= self.dense_until { self.dense_every } else { self.every };
        step == max_steps || (0 < step && step.is_multiple_of(every.max(1)))
    }
}

impl TrainingConfig {
    /// Whether the model is evaluated after `step` of `max_steps` steps.
    pub fn evaluates_at(&self, step: u64, max_steps: u64) -> bool {
        match &self.evaluation {
            None => self.checkpoints.is_due(step, max_steps),
            Some(evaluation) if step == 0 => evaluation.at_start,
            Some(evaluation) => step == max_steps || step.is_multiple_of(evaluation.every),
        }
    }

    /// What "best" means in this run, if anything.
    pub fn best(&self) -> Option<&BestConfig> {
        self.evaluation.as_ref()?.best.as_ref()
    }

    /// Checks what types cannot; keys begin with `training`.
    ///
    /// # Errors
    /// The key, its value and its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let positive = |key: &str, value: u64| ensure(0 < value, key, value, "must be positive");
        let given = usize::from(self.max_steps.is_some()) + usize::from(self.epochs.is_some());
        let message = "give either training.max_steps or training.epochs";
        ensure(given == 1, "training", format!("{given} lengths"), message)?;
        positive("training.max_steps", self.max_steps.unwrap_or(1))?;
        positive("training.epochs", self.epochs.unwrap_or(1))?;
        positive("training.micro_batch_tokens", self.micro_batch_tokens as u64)?;
        validate_optimizer("training.optimizer", &self.optimizer)?;
        self.learning_rate.validate().map_err(in_section("training.learning_rate"))?;
        let norm = self.max_grad_norm;
        ensure(0.0 < norm, "training.max_grad_norm", norm, "must be positive; `inf` never clips")?;
        for (index, group) in self.groups.iter().enumerate() {
            let key = |name: &str| format!("training.groups.{index}.{name}");
            ensure(!group.parameters.is_empty(), key("parameters"), "empty", "name a part of a parameter's name")?;
            if let Some(schedule) = &group.learning_rate {
                schedule.validate().map_err(in_section("training.groups"))?;
            }
            let decay = group.weight_decay.unwrap_or(0.0);
            ensure(0.0 <= decay && decay.is_finite(), key("weight_decay"), decay, "must be finite and at least 0")?;
        }
        positive("training.checkpoints.every", self.checkpoints.every)?;
        let consistent = self.checkpoints.dense_until == 0 || 0 < self.checkpoints.dense_every;
        let message = "must be positive when dense_until is";
        ensure(consistent, "training.checkpoints.dense_every", self.checkpoints.dense_every, message)?;
        let keep = self.checkpoints.keep_last.unwrap_or(1);
        ensure(0 < keep, "training.checkpoints.keep_last", keep, "must be positive")?;
        if let Some(evaluation) = &self.evaluation {
            positive("training.evaluation.every", evaluation.every)?;
            if let Some(best) = &evaluation.best {
                let split_and_name = best.metric.rsplit_once('/').is_some_and(|(split, _)| split != "train");
                let message = "must be SPLIT/NAME of an evaluation, such as `validation/loss`";
                ensure(split_and_name, "training.evaluation.best.metric", &best.metric, message)?;
                positive("training.evaluation.best.patience", best.patience.unwrap_or(1))?;
            }
        }
        self.non_finite.validate()?;
        let decay = self.ema_decay.unwrap_or(0.5);
        ensure((0.0..1.0).contains(&decay), "training.ema_decay", decay, "must be at least 0 and below 1")
    }
}

/// Checks the hyperparameters of AdamW.
///
/// # Errors
/// The key, its value and its limit.
pub(crate) fn validate_optimizer(section: &str, optimizer: &AdamWConfig) -> Result<(), ConfigError> {
    let key = |name: &str| format!("{section}.{name}");
    for (name, beta) in [("beta1", optimizer.beta1), ("beta2", optimizer.beta2)] {
        ensure((0.0..1.0).contains(&beta), key(name), beta, "must be at least 0 and below 1")?;
    }
    let eps = optimizer.eps;
    ensure(0.0 < eps && eps.is_finite(), key("eps"), eps, "must be positive and finite")?;
    let decay = optimizer.weight_decay;
    ensure(0.0 <= decay && decay.is_finite(), key("weight_decay"), decay, "must be finite and at least 0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_are_dense_first_and_never_miss_the_end() {
        let config = CheckpointConfig { every: 100, dense_until: 30, dense_every: 10, keep_last: None };
        let due: Vec<u64> = (0..=250).filter(|&step| config.is_due(step, 250)).collect();
        assert_eq!(due, [10, 20, 30, 100, 200, 250]);
    }

    #[test]
    fn better_means_strictly_better() {
        assert!(Goal::Min.is_better(0.5, 1.0) && !Goal::Min.is_better(1.0, 1.0));
        assert!(Goal::Max.is_better(1.5, 1.0) && !Goal::Max.is_better(1.0, 1.0));
    }
}
