//! A counted share with its interval.

use rl_core::statistics::{Z_95, wilson_interval};
use serde::{Deserialize, Serialize};

use crate::Result;

/// A counted share with its 95 % Wilson interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// How many.
    pub successes: u64,
    /// Out of how many.
    pub trials: u64,
    /// `successes / trials`.
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Proportion {
    /// `successes` out of `trials`.
    ///
    /// # Errors
    /// No trials, or more successes than trials.
    pub fn new(successes: u64, trials: u64) -> Result<Self> {
        let interval = wilson_interval(successes, trials, Z_95)?;
        let rate = successes as f64 / trials as f64;
        Ok(Proportion { successes, trials, rate, low: interval.low, high: interval.high })
    }
}
