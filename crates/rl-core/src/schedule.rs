//! Learning-rate schedules: the rate as a function of the optimizer steps already taken.
//!
//! [`Schedule`] counts in steps; [`ScheduleConfig`], as a configuration has it, may speak of shares of the run and becomes
//! a [`Schedule`] once the length of the run is known. Factors per parameter group are the trainer's.

mod plan;

pub use plan::{ScheduleConfig, Warmup};

use std::f64::consts::PI;

use crate::error::{Result, ensure};

/// A learning-rate schedule, all its lengths in steps.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// Always the same.
    Constant {
        /// The rate.
        learning_rate: f64,
    },
    /// Linear warm-up from 0, then constant.
    LinearWarmup {
        /// The rate after warm-up.
        learning_rate: f64,
        /// Steps until the full rate.
        warmup_steps: usize,
    },
    /// `learning_rate * ln(step + 1) / ln(warmup_steps)`, then constant. The first step has rate 0.
    LogWarmup {
        /// The rate after warm-up.
        learning_rate: f64,
        /// The step, counted from 1, that first has the full rate; at least 2.
        warmup_steps: usize,
    },
    /// Linear warm-up from 0, then a straight line down to the floor, which is kept.
    Linear {
        /// The peak rate.
        learning_rate: f64,
        /// Steps until the peak; 0 starts there.
        warmup_steps: usize,
        /// The step that first has the floor.
        total_steps: usize,
        /// The floor as a fraction of the peak, in `[0, 1]`.
        floor_fraction: f64,
    },
    /// Linear warm-up from 0, then half a cosine down to the floor, which is kept.
    Cosine {
        /// The peak rate.
        learning_rate: f64,
        /// Steps until the peak; 0 starts there.
        warmup_steps: usize,
        /// The step that first has the floor.
        total_steps: usize,
        /// The floor as a fraction of the peak, in `[0, 1]`.
        floor_fraction: f64,
    },
    /// As cosine, down to a rate instead of a fraction of the peak, which is kept.
    CosineTo {
        /// The peak rate.
        learning_rate: f64,
        /// Steps until the peak; 0 starts there.
        warmup_steps: usize,
        /// The step that first has the end rate.
        total_steps: usize,
        /// The end rate, at most the peak.
        end_learning_rate: f64,
    },
    /// Linear warm-up from 0, then `learning_rate * sqrt(timescale / (step - warmup_steps + timescale))`.
    InverseSqrt {
        /// The peak rate.
        learning_rate: f64,
        /// Steps until the peak; 0 starts there.
        warmup_steps: usize,
        /// Steps after which the rate is the peak over the square root of 2; commonly `warmup_steps`, or 10000 without
        /// warm-up.
        timescale: usize,
    },
}

impl Schedule {
    /// Checks what types cannot: a finite rate, a warm-up shorter than the run, a floor in `[0, 1]`.
    pub fn validate(&self) -> Result<()> {
        let (Schedule::Constant { learning_rate }
        | Schedule::LinearWarmup { learning_rate, .. }
        | Schedule::LogWarmup { learning_rate, .. }
        | Schedule::Linear { learning_rate, .. }
        | Schedule::Cosine { learning_rate, .. }
        | Schedule::CosineTo { learning_rate, .. }
        | Schedule::InverseSqrt { learning_rate, .. }) = *self;
        let good = learning_rate >= 0.0 && learning_rate.is_finite();
        ensure(good, "learning_rate", learning_rate, "must be finite and at least 0")?;
        match *self {
            Schedule::Constant { .. } | Schedule::LinearWarmup { .. } => Ok(()),
            Schedule::LogWarmup { warmup_steps, .. } => {
                ensure(warmup_steps >= 2, "warmup_steps", warmup_steps as f64, "must be at least 2, since ln(1) is 0")
            }
            Schedule::InverseSqrt { timescale, .. } => {
                ensure(timescale > 0, "timescale", timescale as f64, "must be positive")
            }
            Schedule::CosineTo { warmup_steps, total_steps, end_learning_rate, .. } => {
                ensure(warmup_steps < total_steps, "warmup_steps", warmup_steps as f64, "must be below total_steps")?;
                let good = (0.0..=learning_rate).contains(&end_learning_rate);
                ensure(good, "end_learning_rate", end_learning_rate, "must be at least 0 and at most learning_rate")
            }
            Schedule::Linear { warmup_steps, total_steps, floor_fraction, .. }
            | Schedule::Cosine { warmup_steps, total_steps, floor_fraction, .. } => {
                ensure(warmup_steps < total_steps, "warmup_steps", warmup_steps as f64, "must be below total_steps")?;
                let good = (0.0..=1.0).contains(&floor_fraction);
                ensure(good, "floor_fraction", floor_fraction, "must be in [0, 1]")
            }
        }
    }

    /// The rate of the optimizer step that comes after `step` steps: the first step of a run is `learning_rate(0)`.
    ///
    /// Meant for a schedule that passed [`Schedule::validate`].
    pub fn learning_rate(&self, step: usize) -> f64 {
        match *self {
            Schedule::Constant { learning_rate } => learning_rate,
            Schedule::LinearWarmup { learning_rate, warmup_steps } => learning_rate * warmup(step, warmup_steps),
            Schedule::LogWarmup { learning_rate, warmup_steps } => {
                if step.saturating_add(1) >= warmup_steps {
                    return learning_rate;
                }
                learning_rate * ((step + 1) as f64).ln() / (warmup_steps as f64).ln()
            }
            Schedule::Linear { learning_rate, warmup_steps, total_steps, floor_fraction } => {
                let height = 1.0 - progress(step, warmup_steps, total_steps);
                learning_rate * warmup(step, warmup_steps) * (floor_fraction + (1.0 - floor_fraction) * height)
            }
            Schedule::Cosine { learning_rate, warmup_steps, total_steps, floor_fraction } => {
                let height = half_cosine(step, warmup_steps, total_steps);
                learning_rate * warmup(step, warmup_steps) * (floor_fraction + (1.0 - floor_fraction) * height)
            }
            Schedule::CosineTo { learning_rate, warmup_steps, total_steps, end_learning_rate } => {
                let height = half_cosine(step, warmup_steps, total_steps);
                warmup(step, warmup_steps) * (end_learning_rate + (learning_rate - end_learning_rate) * height)
            }
            Schedule::InverseSqrt { learning_rate, warmup_steps, timescale } => {
                let after = step.saturating_sub(warmup_steps) as f64 / timescale as f64;
                learning_rate * warmup(step, warmup_steps) / (1.0 + after).sqrt()
            }
        }
    }
}

/// Warm-up steps that are `fraction` of a run, rounded up.
///
/// # Errors
/// `fraction` is outside `[0, 1]`.
pub fn warmup_steps(fraction: f64, total_steps: usize) -> Result<usize> {
    ensure((0.0..=1.0).contains(&fraction), "warmup fraction", fraction, "must be in [0, 1]")?;
    // A product such as 0.07 * 100 lands a hair above the whole number that is meant.
    Ok((fraction * total_steps as f64 - 1e-9).ceil().max(0.0) as usize)
}

fn warmup(step: usize, warmup_steps: usize) -> f64 {
    if step >= warmup_steps { 1.0 } else { step as f64 / warmup_steps as f64 }
}

/// 1 at the end of warm-up, 0 from `total_steps` on.
fn half_cosine(step: usize, warmup_steps: usize, total_steps: usize) -> f64 {
    0.5 * (1.0 + (PI * progress(step, warmup_steps, total_steps)).cos())
}

/// 0 until the end of warm-up, 1 from `total_steps` on.
fn progress(step: usize, warmup_steps: usize, total_steps: usize) -> f64 {
    if step >= total_steps {
        return 1.0;
    }
    step.saturating_sub(warmup_steps) as f64 / total_steps.saturating_sub(warmup_steps).max(1) as f64
}
