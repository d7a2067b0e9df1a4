//! What goes into the engine and what comes out of it.

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

/// One prompt to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Token ids of the prompt, `[prompt]`.
    pub prompt_ids: Vec<i64>,
    /// Names the draws of this response: token `t` uses position `t`, so neighbours, slots and order do not matter.
    pub key: RandomKey,
    /// Most tokens of this response, instead of the configured number; at least 1.
    pub max_new_tokens: Option<usize>,
}

impl Request {
    /// A request that takes the configured limit.
    pub fn new(prompt_ids: Vec<i64>, key: RandomKey) -> Self {
        Request { prompt_ids, key, max_new_tokens: None }
    }

    /// The same request with a limit of its own.
    #[must_use]
    pub fn max_new_tokens(self, max_new_tokens: usize) -> Self {
        Request { max_new_tokens: Some(max_new_tokens), ..self }
    }
}

/// Why a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop id was drawn; it is the last of `ids`.
    StopId,
    /// The stop string of this index in [`super::SamplingConfig::stop_strings`] was completed by the last of `ids`.
    StopString(usize),
    /// The most tokens allowed were drawn.
    Length,
    /// Prompt and response fill the model's positions.
    Context,
    /// Cancelled; `ids` holds what was drawn before.
    Cancelled,
}

impl FinishReason {
    /// The reason in one word, for tables: `stop_id`, `stop_string`, `length`, `context` or `cancelled`.
    pub fn name(self) -> &'static str {
        match self {
            FinishReason::StopId => "stop_id",
            FinishReason::StopString(_) => "stop_string",
            FinishReason::Length => "length",
            FinishReason::Context => "context",
            FinishReason::Cancelled => "cancelled",
        }
    }

    /// Whether the response came to an end of its own: neither cut off nor cancelled.
    pub fn is_stop(self) -> bool {
        matches!(self, FinishReason::StopId | FinishReason::StopString(_))
    }
}

/// The answer to one [`Request`].
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// Tokens drawn, `[response]`; the stop id, or all tokens of the stop string, included.
    pub ids: Vec<i64>,
    /// Log-probability of each token under the distribution it was drawn from, `[response]`: after penalty, minimum
    /// length, temperature and truncation. Greedy decoding: after penalty and minimum length, at temperature 1.
    pub log_probs: Vec<f32>,
    /// Log-probability of each token under the model, `[response]`: log-softmax of the logits divided by the
    /// temperature (1 for greedy decoding), nothing else. This is what a trainer computes again.
    pub full_log_probs: Vec<f32>,
    /// The response as text, where the engine has a tokenizer: without special tokens, and without the stop string
    /// unless it is kept.
    pub text: Option<String>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// One token of a response under way.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// Number of the request, as [`super::Engine::push`] gave it.
    pub request: usize,
    /// Its place in the response, from 0.
    pub position: usize,
    /// The token id.
    pub id: i64,
    /// As in [`Response::log_probs`].
    pub log_prob: f32,
    /// As in [`Response::full_log_probs`].
    pub full_log_prob: f32,
    /// Text that this token makes certain, where the engine has a tokenizer: empty while a character is incomplete or
    /// the text may be the start of a stop string. All pieces joined are [`Response::text`].
    pub text: String,
    /// Set on the last token.
    pub finish_reason: Option<FinishReason>,
}
