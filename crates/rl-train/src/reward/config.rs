//! What a run's TOML file says about rewards.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use rl_core::advantages::RewardAggregation;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::command::CommandConfig;
use super::http::HttpConfig;
use super::rule::{ContainsRule, FormatRule, LengthRule, MatchRule};
use crate::config::Dtype;

/// Longest deadline or pause, in seconds: a year.
const MAX_SECONDS: f64 = 31_536_000.0;

/// More retries than this are a mistake.
const MAX_RETRIES: u32 = 1000;

/// Sources, their weights, and the limits of one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardConfig {
    /// Scores computed at the same time. Each worker is a thread, and for every `command` source a process.
    pub workers: usize,
    /// Seconds that one score may take, retries included, from when a worker takes it up.
    pub deadline_seconds: f64,
    /// Seconds after which a whole call ends; what was not scored by then is timed out. Without it a call may take
    /// `ceil(scores / workers) * deadline_seconds`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step_deadline_seconds: Option<f64>,
    /// Threads stuck in user code that may run on behind the training; one more ends the run with an error.
    pub max_abandoned: usize,
    /// How the rewards of several sources, and the environment's, become one: their weighted sum, or the weighted sum of
    /// what each is within its group. Records and metrics show the plain sum either way.
    #[serde(default = "weighted_sum")]
    pub aggregation: RewardAggregation,
    /// What is scored, one or more.
    pub sources: Vec<SourceConfig>,
}

/// One source of scores.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Its name in records and errors, and the key under which code gives `custom` and `external` sources.
    pub name: String,
    /// Factor in the total. At 0 the source is recorded only.
    #[serde(default = "one")]
    pub weight: f64,
    /// In place of [`RewardConfig::deadline_seconds`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_seconds: Option<f64>,
    /// Further attempts within the deadline.
    #[serde(default)]
    pub retry: RetryConfig,
    /// What a score that is not a number means for the run.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// Where the scores come from.
    pub source: SourceKind,
}

/// Where scores come from; `kind` chooses.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceKind {
    /// A program of the user's own.
    Command(CommandConfig),
    /// A web service.
    Http(HttpConfig),
    /// The answer equals a reference.
    Match(MatchRule),
    /// The answer holds a reference.
    Contains(ContainsRule),
    /// The answer is not too long.
    Length(LengthRule),
    /// The answer consists of tagged parts.
    Format(FormatRule),
    /// A reward model, which the RL trainer runs on its own device.
    RewardModel(ModelReward),
    /// A [`Reward`](super::Reward) that the program gives to [`Scorer::new`](super::Scorer::new) under the source's name.
    Custom {},
    /// Scores that the caller computes itself and gives to [`Scorer::score`](super::Scorer::score) under the source's
    /// name: a reward model on the training thread, an environment's verifier.
    External {},
}

/// A reward model as a source: the score at the end-of-turn token of the answer, rendered with the model's own template.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelReward {
    /// A checkpoint of a reward-model run, or a folder of the sequence-classification layout with one label; with tokenizer and
    /// template.
    pub path: PathBuf,
    /// Type of its weights.
    #[serde(default)]
    pub dtype: Dtype,
    /// Gives `(score - mean) / std` with the numbers of the folder's `reward_statistics.json`.
    #[serde(default)]
    pub normalized: bool,
}

/// Further attempts after a failure that may pass: connection lost, status 429 or 5xx, a program that died, an `Err` of
/// a custom reward. Never after a panic, a number that is not finite, or an answer that makes no sense.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryConfig {
    /// Attempts after the first.
    pub max_retries: u32,
    /// Seconds before the first retry; each further pause is twice as long. A service's `Retry-After` lengthens it. A
    /// pause that would outlast the deadline is not begun: the failure stands.
    pub backoff_seconds: f64,
}

/// What follows from a failed score.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The sample is unscorable and the run goes on.
    #[default]
    Skip,
    /// The run ends with an error that names the sample and the reason.
    Stop,
}

impl RewardConfig {
    /// Refuses values out of their limits; keys are relative to the reward section.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ensure(0 < self.workers, "workers", self.workers, "must be positive")?;
        positive_seconds("deadline_seconds", Some(self.deadline_seconds))?;
        positive_seconds("step_deadline_seconds", self.step_deadline_seconds)?;
        if let RewardAggregation::NormalizeThenSum { std_epsilon } = self.aggregation {
            let good = 0.0 < std_epsilon && std_epsilon.is_finite();
            ensure(good, "aggregation.std_epsilon", std_epsilon, "must be positive and finite")?;
        }
        ensure(!self.sources.is_empty(), "sources", "[]", "name at least one source of rewards")?;
        let mut names = BTreeSet::new();
        for source in &self.sources {
            let new = names.insert(source.name.as_str());
            ensure(new, "sources.name", &source.name, "is there twice; every source needs its own name")?;
            source.validate().map_err(|error| error.within(&format!("sources[{}]", source.name)))?;
        }
        Ok(())
    }

    pub(super) fn deadline_of(&self, source: &SourceConfig) -> Duration {
        Duration::from_secs_f64(source.deadline_seconds.unwrap_or(self.deadline_seconds))
    }
}

impl SourceConfig {
    fn validate(&self) -> Result<(), ConfigError> {
        ensure(!self.name.trim().is_empty(), "name", &self.name, "must not be empty")?;
        ensure(self.weight.is_finite(), "weight", self.weight, "must be finite")?;
        positive_seconds("deadline_seconds", self.deadline_seconds)?;
        let retries = self.retry.max_retries;
        ensure(retries <= MAX_RETRIES, "retry.max_retries", retries, format!("must be at most {MAX_RETRIES}"))?;
        let pause = self.retry.backoff_seconds;
        ensure((0.0..=MAX_SECONDS).contains(&pause), "retry.backoff_seconds", pause, "must be from 0 to a year")?;
        match &self.source {
            SourceKind::Command(command) => command.validate(),
            SourceKind::Http(http) => http.validate(),
            SourceKind::Length(length) => length.validate(),
            SourceKind::Format(format) => format.validate(),
            SourceKind::Match(_)
            | SourceKind::Contains(_)
            | SourceKind::RewardModel(_)
            | SourceKind::Custom {}
            | SourceKind::External {} => Ok(()),
        }
        .map_err(|error| error.within("source"))
    }
}

/// Refuses a time that is not positive, not finite or longer than a year.
pub(super) fn positive_seconds(key: &str, seconds: Option<f64>) -> Result<(), ConfigError> {
    let Some(seconds) = seconds else { return Ok(()) };
    ensure(0.0 < seconds && seconds <= MAX_SECONDS, key, seconds, "must be positive and at most a year")
}

fn weighted_sum() -> RewardAggregation {
    RewardAggregation::SumThenNormalize
}

fn one() -> f64 {
    1.0
}
