//! A schedule as a configuration states it: its lengths may be shares of a run that is not yet counted.

use serde::{Deserialize, Serialize};

use super::{Schedule, warmup_steps};
use crate::error::{Result, ensure};

/// A run longer than any warm-up in steps.
const LONG_RUN: usize = u32::MAX as usize;

/// How long the rate grows from 0: a number of steps, or a share of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields, expecting = "a number of steps, such as 100, or `{ fraction = 0.03 }`")]
pub enum Warmup {
    /// Steps; 0 starts at the peak.
    Steps(usize),
    /// A share of the run.
    Fraction {
        /// In `[0, 1]`; the steps are rounded up.
        fraction: f64,
    },
}

impl Default for Warmup {
    fn default() -> Self {
        Warmup::Steps(0)
    }
}

/// A learning-rate schedule whose warm-up may be a share of the run and whose end may be that of the run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleConfig {
    /// Always the same, after the warm-up.
    Constant {
        /// The rate.
        learning_rate: f64,
        /// Linear, from 0.
        #[serde(default)]
        warmup: Warmup,
    },
    /// See [`Schedule::LogWarmup`].
    LogWarmup {
        /// The rate after the warm-up.
        learning_rate: f64,
        /// Logarithmic, from 0.
        warmup: Warmup,
    },
    /// See [`Schedule::Linear`].
    Linear {
        /// The peak rate.
        learning_rate: f64,
        /// Linear, from 0.
        #[serde(default)]
        warmup: Warmup,
        /// The step that first has the floor; absent, the end of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_steps: Option<usize>,
        /// The floor as a fraction of the peak, in `[0, 1]`.
        floor_fraction: f64,
    },
    /// See [`Schedule::Cosine`].
    Cosine {
        /// The peak rate.
        learning_rate: f64,
        /// Linear, from 0.
        #[serde(default)]
        warmup: Warmup,
        /// The step that first has the floor; absent, the end of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_steps: Option<usize>,
        /// The floor as a fraction of the peak, in `[0, 1]`.
        floor_fraction: f64,
    },
    /// See [`Schedule::CosineTo`].
    CosineTo {
        /// The peak rate.
        learning_rate: f64,
        /// Linear, from 0.
        #[serde(default)]
        warmup: Warmup,
        /// The step that first has the end rate; absent, the end of the run.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        total_steps: Option<usize>,
        /// The end rate, at most the peak.
        end_learning_rate: f64,
    },
    /// See [`Schedule::InverseSqrt`].
    InverseSqrt {
        /// The peak rate.
        learning_rate: f64,
        /// Linear, from 0.
        #[serde(default)]
        warmup: Warmup,
        /// Absent, the warm-up, or 10000 steps without one, as in transformers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timescale: Option<usize>,
    },
}

impl ScheduleConfig {
    /// The schedule of a run of `run_steps` steps, validated.
    ///
    /// # Errors
    /// `run_steps` is 0, the fraction is outside `[0, 1]`, or [`Schedule::validate`] refuses the result.
    pub fn resolve(&self, run_steps: usize) -> Result<Schedule> {
        ensure(run_steps > 0, "run_steps", 0.0, "must be positive")?;
        let steps = |warmup: Warmup| match warmup {
            Warmup::Steps(steps) => Ok(steps),
            Warmup::Fraction { fraction } => warmup_steps(fraction, run_steps),
        };
        let schedule = match *self {
            ScheduleConfig::Constant { learning_rate, warmup } => match steps(warmup)? {
                0 => Schedule::Constant { learning_rate },
                warmup_steps => Schedule::LinearWarmup { learning_rate, warmup_steps },
            },
            ScheduleConfig::LogWarmup { learning_rate, warmup } => {
                Schedule::LogWarmup { learning_rate, warmup_steps: steps(warmup)? }
            }
            ScheduleConfig::Linear { learning_rate, warmup, total_steps, floor_fraction } => {
                let total_steps = total_steps.unwrap_or(run_steps);
                Schedule::Linear { learning_rate, warmup_steps: steps(warmup)?, total_steps, floor_fraction }
            }
            ScheduleConfig::Cosine { learning_rate, warmup, total_steps, floor_fraction } => {
                let total_steps = total_steps.unwrap_or(run_steps);
                Schedule::Cosine { learning_rate, warmup_steps: steps(warmup)?, total_steps, floor_fraction }
            }
            ScheduleConfig::CosineTo { learning_rate, warmup, total_steps, end_learning_rate } => {
                let total_steps = total_steps.unwrap_or(run_steps);
                Schedule::CosineTo { learning_rate, warmup_steps: steps(warmup)?, total_steps, end_learning_rate }
            }
            ScheduleConfig::InverseSqrt { learning_rate, warmup, timescale } => {
                let warmup_steps = steps(warmup)?;
                let own = if warmup_steps == 0 { 10_000 } else { warmup_steps };
                Schedule::InverseSqrt { learning_rate, warmup_steps, timescale: timescale.unwrap_or(own) }
            }
        };
        schedule.validate()?;
        Ok(schedule)
    }

    /// Checks what can be known before the run is counted.
    ///
    /// # Errors
    /// As [`ScheduleConfig::resolve`] for a run that is long enough for its warm-up.
    pub fn validate(&self) -> Result<()> {
        let (ScheduleConfig::Linear { total_steps, .. }
        | ScheduleConfig::Cosine { total_steps, .. }
        | ScheduleConfig::CosineTo { total_steps, .. }) = *self
        else {
            return self.resolve(LONG_RUN).map(drop);
        };
        self.resolve(total_steps.unwrap_or(LONG_RUN).max(1)).map(drop)
    }
}
