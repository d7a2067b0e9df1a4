//! What a reward sees, and the trait of rewards written in Rust.
//!
//! Not here: tokens and log-probabilities. A reward judges text.

use rl_data::Message;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One finished answer to be scored.
///
/// Plain data. Workers share it behind an `Arc`. Programs and services get it as a JSON object with these field names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardRequest {
    /// The caller's number for this sample; errors and records name it. In RL it numbers the answers of a step: the number of
    /// the prompt in the step times the group size, plus the place in the group.
    pub sample: u64,
    /// What the policy was given.
    pub prompt: Prompt,
    /// What it answered, as text.
    pub response: String,
    /// True if the answer was cut off at the length limit.
    pub truncated: bool,
    /// The row's other columns: reference answers, tests, anything.
    pub metadata: Map<String, Value>,
}

/// The prompt as it stands in the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Prompt {
    /// Plain text; a JSON string.
    Text(String),
    /// A conversation; a JSON list of `{"role", "content"}`.
    Messages(Vec<Message>),
}

/// A reward written in Rust.
///
/// `score` is called from several threads at once. The result must be finite. An `Err` makes the sample unscorable and
/// is counted; a panic is caught and counted too. A call that outlasts its deadline is [`TimedOut`](super::Score::TimedOut)
/// and its thread is left behind, because Rust cannot stop it; see the module's documentation for what that costs.
pub trait Reward: Send + Sync {
    /// The reward of one sample.
    fn score(&self, request: &RewardRequest) -> std::result::Result<f64, String>;
}
