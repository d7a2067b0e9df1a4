//! The answer of a program or service: `{"score": 1.0}` or `{"error": "why not"}`.
//!
//! Further fields are ignored, so that a service may explain itself.

use serde::Deserialize;

use super::score::{Score, reason};

/// Longest answer read, in bytes. A source that writes more is broken, and must not fill our memory.
pub(super) const MAX_REPLY: usize = 1 << 20;

/// What was answered.
#[derive(Debug, Deserialize)]
pub(super) struct Reply {
    /// The number of the question; programs repeat it.
    pub(super) id: Option<u64>,
    score: Option<f64>,
    error: Option<String>,
}

impl Reply {
    /// Reads one JSON object; an error is the reason of an invalid score.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| match written_non_finite(text) {
            Some(token) => reason("not finite", token),
            None => reason("not JSON", &format!("{error} in {:?}", text.trim_end())),
        })
    }

    /// The score it gives.
    pub(super) fn into_score(self) -> Score {
        match (self.error, self.score) {
            (Some(error), _) => Score::invalid("failed", error),
            (None, Some(score)) => Score::from_value(score),
            (None, None) => Score::invalid("no score", "the reply has neither `score` nor `error`"),
        }
    }
}

/// Python and JavaScript programs may write `NaN` and `Infinity`, which JSON does not have: named as what they are.
fn written_non_finite(text: &str) -> Option<&'static str> {
    ["NaN", "-Infinity", "Infinity"]
        .into_iter()
        .find(|token| text.contains(token) && serde_json::from_str::<Reply>(&text.replace(token, "null")).is_ok())
}
