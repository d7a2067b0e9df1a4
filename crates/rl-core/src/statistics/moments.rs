//! Mean, variance and shape, at once or as numbers arrive.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, finite, same_length};

/// What the sum of squares is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Variance {
    /// By the count.
    Biased,
    /// By the count less one.
    Unbiased,
}

/// Count, mean and spread of numbers that arrive one by one, by Welford's method; parts can be merged.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RunningStatistics {
    count: u64,
    mean: f64,
    sum_squares: f64,
}

impl RunningStatistics {
    /// Takes one more number.
    ///
    /// # Errors
    /// The number is not finite, or so large that the mean or the sum of squares is not; it is then not taken.
    pub fn push(&mut self, value: f64) -> Result<()> {
        finite("statistics", self.count as usize, value)?;
        let count = self.count + 1;
        let before = value - self.mean;
        let mean = finite("mean", self.count as usize, self.mean + before / count as f64)?;
        let sum_squares = finite("sum of squares", self.count as usize, self.sum_squares + before * (value - mean))?;
        *self = RunningStatistics { count, mean, sum_squares };
        Ok(())
    }

    /// The statistics of both sets of numbers together. Chan et al. 1983, eq. 2.1.
    ///
    /// # Errors
    /// The numbers are so large that the mean or the sum of squares is not finite.
    pub fn merge(self, other: Self) -> Result<Self> {
        if self.count == 0 || other.count == 0 {
            return Ok(if self.count == 0 { other } else { self });
        }
        let count = self.count + other.count;
        let gap = other.mean - self.mean;
        let share = other.count as f64 / count as f64;
        let sum_squares = self.sum_squares + other.sum_squares + gap * gap * share * self.count as f64;
        Ok(RunningStatistics {
            count,
            mean: finite("mean", count as usize, self.mean + gap * share)?,
            sum_squares: finite("sum of squares", count as usize, sum_squares)?,
        })
    }

    /// How many numbers were taken.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean; 0 when there are none.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Their variance.
    ///
    /// # Errors
    /// Fewer than one number (biased) or two (unbiased).
    pub fn variance(&self, variance: Variance) -> Result<f64> {
        let needed = match variance {
            Variance::Biased => 1,
            Variance::Unbiased => 2,
        };
        if self.count < needed {
            return Err(Error::TooFew { name: "variance", count: self.count as usize, needed: needed as usize });
        }
        Ok(self.sum_squares / (self.count - (needed - 1)) as f64)
    }

    /// Square root of the variance.
    ///
    /// # Errors
    /// As [`RunningStatistics::variance`].
    pub fn standard_deviation(&self, variance: Variance) -> Result<f64> {
        self.variance(variance).map(f64::sqrt)
    }
}

/// Arithmetic mean.
///
/// # Errors
/// No numbers, or one that is not finite.
pub fn mean(values: &[f64]) -> Result<f64> {
    if values.is_empty() {
        return Err(Error::TooFew { name: "mean", count: 0, needed: 1 });
    }
    values.iter().enumerate().try_for_each(|(index, &value)| finite("values", index, value).map(drop))?;
    finite("mean", 0, values.iter().sum::<f64>() / values.len() as f64)
}

/// Mean squared distance from the mean.
///
/// # Errors
/// Fewer than one number (biased) or two (unbiased), or one that is not finite.
pub fn variance(values: &[f64], variance: Variance) -> Result<f64> {
    let mut statistics = RunningStatistics::default();
    values.iter().try_for_each(|&value| statistics.push(value))?;
    statistics.variance(variance)
}

/// Square root of [`variance`].
///
/// # Errors
/// As [`variance`].
pub fn standard_deviation(values: &[f64], variance: Variance) -> Result<f64> {
    self::variance(values, variance).map(f64::sqrt)
}

/// Third standardized moment, `m3 / m2^1.5`, from biased central moments.
///
/// # Errors
/// No numbers, one that is not finite, or all equal.
pub fn skewness(values: &[f64]) -> Result<f64> {
    let [m2, m3, _] = central_moments("skewness", values)?;
    Ok(m3 / m2.powf(1.5))
}

/// Fourth standardized moment less that of the normal distribution, `m4 / m2^2 - 3`, from biased central moments.
///
/// # Errors
/// As [`skewness`].
pub fn excess_kurtosis(values: &[f64]) -> Result<f64> {
    let [m2, _, m4] = central_moments("excess kurtosis", values)?;
    Ok(m4 / (m2 * m2) - 3.0)
}

/// `1 - variance(returns - values) / variance(returns)`: 1 when the value function explains the returns, 0 when it is no
/// better than a constant.
///
/// # Errors
/// Lengths differ, no numbers, one that is not finite, or all returns equal.
pub fn explained_variance(values: &[f64], returns: &[f64]) -> Result<f64> {
    same_length("values", values.len(), "returns", returns.len())?;
    if !returns.is_empty() && returns.iter().all(|&value| value == returns[0]) {
        return Err(Error::ZeroVariance { name: "explained variance" });
    }
    let errors: Vec<f64> = returns.iter().zip(values).map(|(target, value)| target - value).collect();
    Ok(1.0 - variance(&errors, Variance::Biased)? / variance(returns, Variance::Biased)?)
}

fn central_moments(name: &'static str, values: &[f64]) -> Result<[f64; 3]> {
    let center = mean(values)?;
    if values.iter().all(|&value| value == values[0]) {
        return Err(Error::ZeroVariance { name });
    }
    let moment = |power| values.iter().map(|value| (value - center).powi(power)).sum::<f64>() / values.len() as f64;
    let moments = [moment(2), moment(3), moment(4)];
    for moment in moments {
        finite(name, 0, moment)?;
    }
    if moments[0] == 0.0 || moments[0] * moments[0] == 0.0 {
        return Err(Error::ZeroVariance { name });
    }
    Ok(moments)
}
