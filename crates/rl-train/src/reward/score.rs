//! How one score ended, and how many ended how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Longest reason kept, in bytes; what was cut is named in the text.
const MAX_REASON: usize = 400;

/// The score of one sample at one source.
///
/// In JSON: `{"ok": 1.0}`, `"timed_out"`, `{"invalid": "class: detail"}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Score {
    /// A finite number.
    Ok(f64),
    /// No result before the deadline of the score or of the step.
    TimedOut,
    /// There is no usable number, and why: a class, and after `": "` the detail. Classes are `not finite`, `panicked`,
    /// `failed` (the source says so itself), `status N`, `connection`, `not JSON`, `no score`, `protocol`, `died`,
    /// `too long`, `cannot start`, `no field`, `bad field`.
    Invalid(String),
}

impl Score {
    /// `Ok` if `value` is finite, otherwise `Invalid("not finite: ...")`.
    pub fn from_value(value: f64) -> Self {
        if value.is_finite() { Score::Ok(value) } else { Score::invalid("not finite", value.to_string()) }
    }

    /// The number, if there is one.
    pub fn value(&self) -> Option<f64> {
        match self {
            Score::Ok(value) => Some(*value),
            Score::TimedOut | Score::Invalid(_) => None,
        }
    }

    pub(super) fn invalid(class: &str, detail: impl AsRef<str>) -> Self {
        Score::Invalid(reason(class, detail.as_ref()))
    }
}

/// Why an [`Score::Invalid`] is so: `class: detail`, a long detail shortened visibly.
pub(super) fn reason(class: &str, detail: &str) -> String {
    let detail = detail.trim();
    if detail.len() <= MAX_REASON {
        return format!("{class}: {detail}");
    }
    let cut = detail.floor_char_boundary(MAX_REASON);
    format!("{class}: {}... ({} bytes in all)", &detail[..cut], detail.len())
}

/// Exact counts of one source over one call; `ok + timed_out + sum(invalid)` is the number of samples.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreCounts {
    /// Scores that are numbers.
    pub ok: usize,
    /// Scores that missed a deadline.
    pub timed_out: usize,
    /// Those of `timed_out` that no worker had taken up when the step's deadline came.
    pub not_started: usize,
    /// Invalid scores by class, the text before the first `": "` of the reason.
    pub invalid: BTreeMap<String, usize>,
    /// Further attempts after a first one that failed.
    pub retries: u64,
}

impl ScoreCounts {
    /// All samples counted.
    pub fn total(&self) -> usize {
        self.ok + self.timed_out + self.num_invalid()
    }

    /// Invalid scores of every class.
    pub fn num_invalid(&self) -> usize {
        self.invalid.values().sum()
    }

    pub(super) fn add(&mut self, score: &Score) {
        match score {
            Score::Ok(_) => self.ok += 1,
            Score::TimedOut => self.timed_out += 1,
            Score::Invalid(reason) => {
                let class = reason.split_once(": ").map_or(reason.as_str(), |(class, _)| class);
                *self.invalid.entry(class.to_string()).or_default() += 1;
            }
        }
    }
}
