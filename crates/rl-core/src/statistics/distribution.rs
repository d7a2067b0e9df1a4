//! Quantiles and histograms.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, finite};

/// The value below which a fraction `q` of the numbers lies, with linear interpolation between neighbours.
///
/// # Errors
/// No numbers, one that is not finite, or `q` outside `[0, 1]`.
pub fn quantile(values: &[f64], q: f64) -> Result<f64> {
    ensure((0.0..=1.0).contains(&q), "q", q, "must be in [0, 1]")?;
    if values.is_empty() {
        return Err(Error::TooFew { name: "quantile", count: 0, needed: 1 });
    }
    values.iter().enumerate().try_for_each(|(index, &value)| finite("values", index, value).map(drop))?;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let position = q * (sorted.len() - 1) as f64;
    let below = sorted[position.floor() as usize];
    let above = sorted[position.ceil() as usize];
    let between = below + position.fract() * (above - below);
    // The distance of two numbers may be too large for f64 where what lies between them is not.
    Ok(if between.is_finite() { between } else { below * (1.0 - position.fract()) + above * position.fract() })
}

/// Counts of numbers in bins of equal width.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Histogram {
    /// Bin borders, `[bins + 1]`, rising.
    pub edges: Vec<f64>,
    /// Numbers per bin, `[bins]`. A bin holds its lower border; the last one holds its upper border too.
    pub counts: Vec<u64>,
    /// Numbers below the first border.
    pub num_below: u64,
    /// Numbers above the last border.
    pub num_above: u64,
}

/// Counts `values` in `num_bins` bins of equal width on `[low, high]`; what lies outside is counted apart.
///
/// # Errors
/// `num_bins` is 0, `low` is not below `high`, or a number is not finite.
pub fn histogram(values: &[f64], low: f64, high: f64, num_bins: usize) -> Result<Histogram> {
    ensure(num_bins > 0, "num_bins", 0.0, "must be positive")?;
    finite("high - low", 0, high - low)?;
    ensure(low < high, "low", low, "must be below high")?;
    let edge = |bin: usize| if bin == num_bins { high } else { low + (high - low) * (bin as f64 / num_bins as f64) };
    let edges: Vec<f64> = (0..=num_bins).map(edge).collect();
    let mut histogram = Histogram { edges, counts: vec![0; num_bins], num_below: 0, num_above: 0 };
    for (index, &value) in values.iter().enumerate() {
        finite("values", index, value)?;
        if value < low {
            histogram.num_below += 1;
        } else if value > high {
            histogram.num_above += 1;
        } else {
            // Searched in the borders themselves, so a value on a border never falls to the wrong side by rounding.
            let bin = histogram.edges.partition_point(|&edge| edge <= value) - 1;
            histogram.counts[bin.min(num_bins - 1)] += 1;
        }
    }
    Ok(histogram)
}
