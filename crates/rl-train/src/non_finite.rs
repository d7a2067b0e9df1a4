//! Numbers that are not finite end the run with their name, or are counted and skipped; they are never replaced.

use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Skips allowed in a run unless the configuration says otherwise.
const DEFAULT_MAX_SKIPPED: u64 = 10;
/// Optimizer steps in a row that may skip something; one more ends the run.
const MAX_SKIPPING_STEPS: u64 = 1;

/// What happens to NaN and infinity in losses, log-probabilities, rewards and gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(tag = "policy", rename_all = "snake_case", deny_unknown_fields)]
pub enum NonFiniteConfig {
    /// The run ends; the error names the step, the rows and the tensor.
    #[default]
    Error,
    /// The micro-batch contributes nothing and is counted. The run ends after `max_skipped` of them, or when two
    /// optimizer steps in a row skipped something.
    Skip {
        /// Micro-batches and updates that may be skipped in a run.
        #[serde(default = "default_max_skipped")]
        max_skipped: u64,
    },
}

fn default_max_skipped() -> u64 {
    DEFAULT_MAX_SKIPPED
}

impl NonFiniteConfig {
    pub(crate) fn validate(self) -> std::result::Result<(), ConfigError> {
        match self {
            NonFiniteConfig::Error => Ok(()),
            NonFiniteConfig::Skip { max_skipped } => {
                ensure(0 < max_skipped, "training.non_finite.max_skipped", max_skipped, "must be positive")
            }
        }
    }
}

/// Counts of a run, part of its checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NonFiniteCounts {
    /// Micro-batches and updates skipped so far.
    pub skipped: u64,
    /// Optimizer steps in a row, up to now, that skipped something.
    pub skipping_steps: u64,
}

/// Applies the policy.
#[derive(Debug)]
pub(crate) struct NonFiniteGuard {
    config: NonFiniteConfig,
    counts: NonFiniteCounts,
    skipped_before_step: u64,
    admitted_in_step: u64,
}

impl NonFiniteGuard {
    pub fn new(config: NonFiniteConfig) -> Self {
        NonFiniteGuard { config, counts: NonFiniteCounts::default(), skipped_before_step: 0, admitted_in_step: 0 }
    }

    pub fn counts(&self) -> NonFiniteCounts {
        self.counts
    }

    pub fn restore(&mut self, counts: NonFiniteCounts) {
        self.counts = counts;
        self.skipped_before_step = counts.skipped;
    }

    /// Gives the value; or none when it was skipped. `rows` names the rows that made it.
    pub fn admit<T>(&mut self, rows: impl FnOnce() -> Vec<u64>, result: Result<T>) -> Result<Option<T>> {
        let error = match result {
            Ok(value) => {
                self.admitted_in_step += 1;
                return Ok(Some(value));
            }
            Err(error) if !error.is_non_finite() => return Err(error),
            Err(error) => error.in_rows(rows()),
        };
        let NonFiniteConfig::Skip { max_skipped } = self.config else { return Err(error) };
        self.counts.skipped += 1;
        tracing::warn!("skipped: {error}");
        if max_skipped < self.counts.skipped {
            return Err(Error::TooManySkipped { skipped: self.counts.skipped, limit: max_skipped, last: error.into() });
        }
        Ok(None)
    }

    /// Whether everything of the present step was skipped, so that there is no gradient to follow.
    pub fn skipped_all(&self) -> bool {
        self.admitted_in_step == 0 && self.skipped_before_step < self.counts.skipped
    }

    /// Ends an optimizer step.
    ///
    /// # Errors
    /// When this step and the one before it skipped something.
    pub fn end_step(&mut self) -> Result<()> {
        let skipped_now = self.skipped_before_step < self.counts.skipped;
        self.skipped_before_step = self.counts.skipped;
        self.admitted_in_step = 0;
        self.counts.skipping_steps = if skipped_now { self.counts.skipping_steps + 1 } else { 0 };
        if MAX_SKIPPING_STEPS < self.counts.skipping_steps {
            return Err(Error::SkippedInARow { steps: self.counts.skipping_steps });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad() -> Result<()> {
        Err(rl_core::Error::NonFinite { name: "log_probs", index: 3, value: f64::NAN }.into())
    }

    #[test]
    fn an_error_names_rows_and_tensor() {
        let mut guard = NonFiniteGuard::new(NonFiniteConfig::Error);
        let message = guard.admit(|| vec![7, 9], bad()).unwrap_err().to_string();
        assert!(message.contains("rows 7, 9") && message.contains("log_probs[3] is NaN"), "{message}");
    }

    #[test]
    fn skips_are_counted_and_limited() {
        let mut guard = NonFiniteGuard::new(NonFiniteConfig::Skip { max_skipped: 2 });
        assert!(guard.admit(Vec::new, bad()).unwrap().is_none());
        assert!(guard.admit(Vec::new, Ok(1)).unwrap().is_some());
        guard.end_step().unwrap();
        guard.end_step().unwrap();
        assert!(guard.admit(Vec::new, bad()).unwrap().is_none());
        assert_eq!(guard.counts().skipped, 2);
        guard.end_step().unwrap();
        let message = guard.admit(Vec::new, bad()).unwrap_err().to_string();
        assert!(message.contains('3') && message.contains("limit of 2"), "{message}");
    }

    #[test]
    fn a_step_without_anything_left_is_known() {
        let mut guard = NonFiniteGuard::new(NonFiniteConfig::Skip { max_skipped: 9 });
        assert!(!guard.skipped_all());
        guard.admit(Vec::new, bad()).unwrap();
        assert!(guard.skipped_all());
        guard.admit(Vec::new, Ok(1)).unwrap();
        assert!(!guard.skipped_all());
        guard.end_step().unwrap();
        assert!(!guard.skipped_all());
    }

    #[test]
    fn two_skipping_steps_in_a_row_end_the_run() {
        let mut guard = NonFiniteGuard::new(NonFiniteConfig::Skip { max_skipped: 9 });
        guard.admit(Vec::new, bad()).unwrap();
        guard.end_step().unwrap();
        guard.admit(Vec::new, bad()).unwrap();
        assert!(guard.end_step().is_err());
    }

    #[test]
    fn other_errors_are_never_skipped() {
        let mut guard = NonFiniteGuard::new(NonFiniteConfig::Skip { max_skipped: 9 });
        let other: Result<()> = Err(rl_core::Error::EmptyBatch { what: "tokens" }.into());
        assert!(guard.admit(Vec::new, other).is_err());
    }
}
