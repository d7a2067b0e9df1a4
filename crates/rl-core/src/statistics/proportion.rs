//! Success rates: how sure one is, and whether two of them differ.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// Normal quantile of a two-sided 90 % interval.
pub const Z_90: f64 = 1.644_853_626_951_472_2;
/// Normal quantile of a two-sided 95 % interval.
pub const Z_95: f64 = 1.959_963_984_540_054;
/// Normal quantile of a two-sided 99 % interval.
pub const Z_99: f64 = 2.575_829_303_548_900_4;

/// A confidence interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower bound.
    pub low: f64,
    /// Upper bound.
    pub high: f64,
}

/// Wilson's score interval of a success rate; `z` is for example [`Z_95`].
///
/// Wilson 1927, "Probable inference, the law of succession, and statistical inference".
///
/// # Errors
/// No trials, more successes than trials, or `z` not positive and finite.
pub fn wilson_interval(successes: u64, trials: u64, z: f64) -> Result<Interval> {
    ensure(trials > 0, "trials", 0.0, "must be positive")?;
    ensure(successes <= trials, "successes", successes as f64, "must be at most trials")?;
    ensure(z > 0.0 && z.is_finite(), "z", z, "must be finite and positive")?;
    let n = trials as f64;
    let rate = successes as f64 / n;
    let center = rate + z * z / (2.0 * n);
    let spread = z * (rate * (1.0 - rate) / n + z * z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + z * z / n;
    Ok(Interval {
        // The exact bound; rounding would leave it a hair off.
        low: if successes == 0 { 0.0 } else { (center - spread) / scale },
        high: if successes == trials { 1.0 } else { (center + spread) / scale },
    })
}

/// Two-sided p-values of McNemar's test.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// Exact binomial: never too small, a little too large.
    pub exact: f64,
    /// Mid-p: counts half of the observed outcome. Fagerland et al. 2013, "The McNemar test for binary matched-pairs data".
    pub mid_p: f64,
}

/// Compares two systems on the same tasks: `only_first` tasks were solved by the first alone, `only_second` by the second.
///
/// Without such tasks both p-values are 1.
pub fn mcnemar(only_first: u64, only_second: u64) -> McNemar {
    let num_discordant = only_first + only_second;
    let fewer = only_first.min(only_second);
    // ln of the binomial coefficient as a sum, since the coefficient itself overflows near 1000 tasks.
    let log_ways: f64 = (1..=fewer).map(|k| ((num_discordant - fewer + k) as f64 / k as f64).ln()).sum();
    let observed = (log_ways - num_discordant as f64 * std::f64::consts::LN_2).exp();
    let mut term = observed;
    let mut tail = observed;
    for k in (1..=fewer).rev() {
        term *= k as f64 / (num_discordant - k + 1) as f64;
        tail += term;
    }
    McNemar { exact: (2.0 * tail).min(1.0), mid_p: (2.0 * tail - observed).min(1.0) }
}
