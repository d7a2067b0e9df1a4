//! Numbers brought to mean 0 and standard deviation 1, over the response tokens of a batch or over its samples.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, finite, finite_f32, same_length};
use crate::statistics::{RunningStatistics, Variance};

/// How the divisor of a whitening is kept away from 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdFloor {
    /// `sqrt(max(variance, floor))`.
    MaxVariance(f64),
    /// `sqrt(variance + floor)`.
    AddToVariance(f64),
    /// `sqrt(variance) + floor`.
    AddToStd(f64),
}

/// How a batch of advantages or rewards is brought to mean 0 and standard deviation 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whitening {
    /// Which variance.
    pub variance: Variance,
    /// How the divisor is kept away from 0.
    pub floor: StdFloor,
    /// False keeps the mean as it was.
    pub shift_mean: bool,
    /// False only subtracts the mean.
    pub divide_by_std: bool,
}

impl Whitening {
    /// Biased variance, at least 1e-8: OpenRLHF's, over all response tokens of a rollout.
    pub fn biased() -> Self {
        let floor = StdFloor::MaxVariance(1e-8);
        Whitening { variance: Variance::Biased, floor, shift_mean: true, divide_by_std: true }
    }

    /// Unbiased variance plus 1e-8: verl's, and that of TRL's PPO.
    pub fn unbiased() -> Self {
        let floor = StdFloor::AddToVariance(1e-8);
        Whitening { variance: Variance::Unbiased, floor, shift_mean: true, divide_by_std: true }
    }

    /// `(value - mean) / (unbiased std + epsilon)`: TRL's over samples with 1e-4, and over turns with 1e-5.
    pub fn standardized(epsilon: f64) -> Self {
        let floor = StdFloor::AddToStd(epsilon);
        Whitening { variance: Variance::Unbiased, floor, shift_mean: true, divide_by_std: true }
    }

    /// Checks that the floor is finite and at least 0.
    pub fn validate(&self) -> Result<()> {
        let (StdFloor::MaxVariance(floor) | StdFloor::AddToVariance(floor) | StdFloor::AddToStd(floor)) = self.floor;
        ensure(floor >= 0.0 && floor.is_finite(), "whitening floor", floor, "must be finite and at least 0")
    }

    /// The map of one value, by given statistics.
    fn map(&self, statistics: &RunningStatistics) -> Result<impl Fn(f64) -> f64 + use<>> {
        self.validate()?;
        if statistics.count() == 0 {
            return Err(Error::EmptyBatch { what: "numbers to whiten" });
        }
        let divisor = if self.divide_by_std {
            let variance = finite("variance to whiten by", 0, statistics.variance(self.variance)?)?;
            let divisor = match self.floor {
                StdFloor::MaxVariance(floor) => variance.max(floor).sqrt(),
                StdFloor::AddToVariance(floor) => (variance + floor).sqrt(),
                StdFloor::AddToStd(floor) => variance.sqrt() + floor,
            };
            if divisor == 0.0 {
                return Err(Error::ZeroVariance { name: "whitening with floor 0" });
            }
            divisor
        } else {
            1.0
        };
        let mean = statistics.mean();
        let offset = if self.shift_mean { 0.0 } else { mean };
        Ok(move |value| (value - mean) / divisor + offset)
    }
}

/// Statistics of the response tokens of `values`, `[batch, seq]`; merge those of several ranks before [`whiten_with`].
///
/// # Errors
/// Lengths differ, or a number that is read is not finite.
pub fn masked_statistics(values: &[f32], response_mask: &[bool]) -> Result<RunningStatistics> {
    same_length("values", values.len(), "response_mask", response_mask.len())?;
    let mut statistics = RunningStatistics::default();
    for index in (0..values.len()).filter(|&index| response_mask[index]) {
        statistics.push(finite("values", index, values[index].into())?)?;
    }
    Ok(statistics)
}

/// Whitens the response tokens of `values`, `[batch, seq]`, by their own statistics; 0 where masked.
///
/// verl leaves the whitened value of masked positions of GAE in place, and OpenRLHF shifts them too; their losses do not
/// read them.
///
/// # Errors
/// As [`whiten_with`].
pub fn whiten(values: &[f32], response_mask: &[bool], whitening: Whitening) -> Result<Vec<f32>> {
    whiten_with(values, response_mask, whitening, &masked_statistics(values, response_mask)?)
}

/// Whitens the response tokens of `values`, `[batch, seq]`, by given statistics; 0 where masked.
///
/// # Errors
/// Lengths differ, the statistics are of too few numbers, the floor is bad, or the divisor is 0.
pub fn whiten_with(
    values: &[f32],
    response_mask: &[bool],
    whitening: Whitening,
    statistics: &RunningStatistics,
) -> Result<Vec<f32>> {
    same_length("values", values.len(), "response_mask", response_mask.len())?;
    let map = whitening.map(statistics)?;
    let mut whitened = vec![0.0; values.len()];
    for index in (0..values.len()).filter(|&index| response_mask[index]) {
        whitened[index] = finite_f32("whitened", index, map(finite("values", index, values[index].into())?))?;
    }
    Ok(whitened)
}

/// Whitens one number per sample, `[batch]`, by the statistics of the samples that have one.
///
/// # Errors
/// As [`whiten_with`].
pub fn whiten_samples(values: &[Option<f64>], whitening: Whitening) -> Result<Vec<Option<f64>>> {
    let mut statistics = RunningStatistics::default();
    values.iter().flatten().try_for_each(|&value| statistics.push(value))?;
    let map = whitening.map(&statistics)?;
    values
        .iter()
        .enumerate()
        .map(|(index, value)| value.map(|value| finite("whitened", index, map(value))).transpose())
        .collect()
}
