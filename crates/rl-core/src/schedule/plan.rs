//! A schedule whose lengths may be shares of a run that is not yet counted.

use serde::{Deserialize, Serialize};

use super::{Schedule, warmup_steps};
use crate::error::{Result, ensure};

/// How long the rate grows from 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Warmup {
    /// Optimizer steps.
    Steps(usize),
    /// Share of the run's optimizer steps, in `[0, 1]`, rounded up.
    Fraction(f64),
}

/// What the rate does after the warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleShape {
    /// Stays.
    Constant,
    /// Stays, after a logarithmic instead of a linear warm-up.
    LogWarmup,
    /// A straight line to `floor_fraction` of the peak.
    Linear {
        /// In `[0, 1]`.
        floor_fraction: f64,
    },
    /// Half a cosine to `floor_fraction` of the peak.
    Cosine {
        /// In `[0, 1]`.
        floor_fraction: f64,
    },
    /// Half a cosine to a rate.
    CosineTo {
        /// The rate that is kept at the end.
        end_learning_rate: f64,
    },
    /// Falls with the square root of the steps.
    InverseSqrt {
        /// See [`Schedule::InverseSqrt`]; absent, the warm-up, or 10000 steps without one, as in transformers.
        #[serde(default)]
        timescale: Option<usize>,
    },
}

/// A learning-rate schedule as a run's configuration states it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduleConfig {
    /// The peak rate.
    pub learning_rate: f64,
    /// What follows the warm-up.
    pub shape: ScheduleShape,
    /// The warm-up.
    pub warmup: Warmup,
    /// The step at which a falling shape reaches its end; absent, the end of the run. The end is kept afterwards.
    #[serde(default)]
    pub decay_steps: Option<usize>,
}

impl ScheduleConfig {
    /// The schedule of a run of `run_steps` optimizer steps, validated.
    ///
    /// # Errors
    /// `run_steps` is 0, the fraction is outside `[0, 1]`, or [`Schedule::validate`] refuses the result.
    pub fn resolve(&self, run_steps: usize) -> Result<Schedule> {
        ensure(run_steps > 0, "run_steps", 0.0, "must be positive")?;
        let learning_rate = self.learning_rate;
        let warmup_steps = match self.warmup {
            Warmup::Steps(steps) => steps,
            Warmup::Fraction(fraction) => warmup_steps(fraction, run_steps)?,
        };
        let total_steps = self.decay_steps.unwrap_or(run_steps);
        let schedule = match self.shape {
            ScheduleShape::Constant if warmup_steps == 0 => Schedule::Constant { learning_rate },
            ScheduleShape::Constant => Schedule::LinearWarmup { learning_rate, warmup_steps },
            ScheduleShape::LogWarmup => Schedule::LogWarmup { learning_rate, warmup_steps },
            ScheduleShape::Linear { floor_fraction } => {
                Schedule::Linear { learning_rate, warmup_steps, total_steps, floor_fraction }
            }
            ScheduleShape::Cosine { floor_fraction } => {
                Schedule::Cosine { learning_rate, warmup_steps, total_steps, floor_fraction }
            }
            ScheduleShape::CosineTo { end_learning_rate } => {
                Schedule::CosineTo { learning_rate, warmup_steps, total_steps, end_learning_rate }
            }
            ScheduleShape::InverseSqrt { timescale } => {
                let own = if warmup_steps == 0 { 10_000 } else { warmup_steps };
                Schedule::InverseSqrt { learning_rate, warmup_steps, timescale: timescale.unwrap_or(own) }
            }
        };
        schedule.validate()?;
        Ok(schedule)
    }
}
