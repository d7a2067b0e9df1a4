//! What is kept of one model on one split with one decoding.

use std::collections::BTreeMap;

use rl_data::Message;
use serde::{Deserialize, Serialize};

use crate::Result;
use crate::proportion::Proportion;

/// A model's results on one split with one decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitResult {
    /// Name of the split.
    pub split: String,
    /// Name of the decoding.
    pub decoding: String,
    /// Tasks solved at the first attempt; where a task has several conversations, with one answer in each.
    pub first_attempt: Proportion,
    /// Tasks solved within `max_attempts`.
    pub within_attempts: Proportion,
    /// Graded attempts per task.
    pub max_attempts: u32,
    /// First-attempt success by the class of the task; empty where the environment has no classes.
    pub by_kind: BTreeMap<String, Proportion>,
    /// Tasks whose first answer is right in every step of its reasoning; `None` where the environment judges answers alone.
    #[serde(alias = "process")] // its name in results written earlier
    pub process_accuracy: Option<Proportion>,
    /// Answers by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Mean reward of an episode, by the environment's prices.
    pub reward_mean: f64,
    /// How long answers are.
    pub answer_length: AnswerLength,
    /// What the config's reward model gives each first answer, by the index of the task, `[tasks]`.
    pub model_rewards: Option<Vec<f64>>,
    /// Hands whose multiset of card values stands in the training data.
    pub seen_in_training: Option<Proportion>,
    /// First-attempt success among hands whose multiset of values does not stand in the training data.
    pub first_attempt_unseen: Option<Proportion>,
    /// Indices of the tasks solved at the first attempt, for paired tests between models.
    pub solved_first: Vec<u64>,
    /// Some conversations.
    pub transcripts: Vec<Transcript>,
}

impl SplitResult {
    /// The share of graded answers with this outcome.
    ///
    /// # Errors
    /// When no answer was graded.
    pub fn outcome_share(&self, outcome: &str) -> Result<Proportion> {
        Proportion::new(self.outcomes.get(outcome).copied().unwrap_or(0), self.outcomes.values().sum())
    }
}

/// Lengths of answers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct AnswerLength {
    /// Tokens per answer, the one that ends the turn included.
    pub mean_tokens: f64,
    /// Answers cut off at the limit of tokens or at the context's end.
    pub truncated: Proportion,
}

/// One episode as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// Index of the task.
    pub task: u64,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Outcome of each answer.
    pub outcomes: Vec<String>,
    /// Sum of the rewards.
    pub reward: f64,
}
