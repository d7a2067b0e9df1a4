//! Numbers brought to a common scale by statistics gathered over the whole run.

use serde::{Deserialize, Serialize};

use super::{RunningStatistics, Variance};
use crate::error::{Result, ensure, finite};

/// Mean and standard deviation of everything seen so far, and the map to that scale and back: for rewards whose scale
/// drifts or is unknown, and for the targets of a critic (normalise returns, denormalise the critic's values before
/// advantages). It is both setting and state: a checkpoint saves it as it stands.
///
/// Not the normalisation of a reward model by its evaluation set, which is fixed and belongs to that model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunningNormalizer {
    /// False only divides by the standard deviation, which keeps the sign of a reward.
    pub shift_mean: bool,
    /// Added to the variance.
    pub epsilon: f64,
    /// Bound of the normalised number; absent, none. Numbers at the bound cannot be taken back.
    #[serde(default)]
    pub clip: Option<f64>,
    /// What was seen.
    #[serde(default)]
    pub statistics: RunningStatistics,
}

impl RunningNormalizer {
    /// Nothing seen yet: numbers pass unchanged until two were.
    pub fn new(shift_mean: bool, epsilon: f64, clip: Option<f64>) -> Self {
        RunningNormalizer { shift_mean, epsilon, clip, statistics: RunningStatistics::default() }
    }

    /// Checks the constants.
    ///
    /// # Errors
    /// `epsilon` is not positive, or `clip` is not.
    pub fn validate(&self) -> Result<()> {
        let good = self.epsilon > 0.0 && self.epsilon.is_finite();
        ensure(good, "epsilon", self.epsilon, "must be finite and positive: the first numbers may be equal")?;
        let clip = self.clip.unwrap_or(1.0);
        ensure(clip > 0.0 && clip.is_finite(), "clip", clip, "must be finite and positive")
    }

    /// Takes note of numbers; several ranks merge `statistics` instead.
    ///
    /// # Errors
    /// A number is not finite; those before it were taken.
    pub fn update(&mut self, values: impl IntoIterator<Item = f64>) -> Result<()> {
        values.into_iter().try_for_each(|value| self.statistics.push(value))
    }

    /// `(value - mean) / sqrt(variance + epsilon)`, with the biased variance of what was seen.
    ///
    /// # Errors
    /// A constant is bad, or the number or the result is not finite.
    pub fn normalize(&self, value: f64) -> Result<f64> {
        let (mean, scale) = self.scale()?;
        let normalized = finite("normalized", 0, (finite("value", 0, value)? - mean) / scale)?;
        Ok(self.clip.map_or(normalized, |clip| normalized.clamp(-clip, clip)))
    }

    /// The number that [`normalize`](Self::normalize) makes `value` of, clip aside.
    ///
    /// # Errors
    /// As [`normalize`](Self::normalize).
    pub fn denormalize(&self, value: f64) -> Result<f64> {
        let (mean, scale) = self.scale()?;
        finite("denormalized", 0, finite("value", 0, value)? * scale + mean)
    }

    fn scale(&self) -> Result<(f64, f64)> {
        self.validate()?;
        if self.statistics.count() < 2 {
            return Ok((0.0, 1.0));
        }
        let mean = if self.shift_mean { self.statistics.mean() } else { 0.0 };
        Ok((mean, (self.statistics.variance(Variance::Biased)? + self.epsilon).sqrt()))
    }
}
