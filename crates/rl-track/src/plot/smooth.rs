//! Smoothing of noisy curves.

use crate::config::ensure;
use crate::error::Result;

/// Debiased exponential average: `e <- weight * e + (1 - weight) * value`, reported as `e / (1 - weight^n)`.
///
/// Without the division the average would lean towards its start at zero. `n` counts the finite values; one that
/// is not finite stays as it is and is left out of the average. `weight` must lie in `[0, 1)`; 0 changes nothing.
pub fn smooth(values: &[f64], weight: f64) -> Result<Vec<f64>> {
    ensure((0.0..1.0).contains(&weight), "smooth", weight, "must be at least 0 and less than 1")?;
    let (mut average, mut remaining) = (0.0, 1.0);
    let step = |value: &f64| {
        if !value.is_finite() {
            return *value;
        }
        average = weight * average + (1.0 - weight) * value;
        remaining *= weight;
        average / (1.0 - remaining)
    };
    Ok(values.iter().map(step).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: f64 = 5e-7; // the expected values are given with six decimals

    #[test]
    fn smoothing_matches_worked_values() {
        let smoothed = smooth(&[1.0, 2.0, f64::NAN, 3.0], 0.9).unwrap();
        assert!(smoothed[2].is_nan());
        for (actual, expected) in [smoothed[0], smoothed[1], smoothed[3]].iter().zip([1.0, 1.526316, 2.070111]) {
            assert!((actual - expected).abs() < TOLERANCE, "{actual} {expected}");
        }
        assert_eq!(smooth(&[f64::INFINITY, 1.0], 0.5).unwrap(), [f64::INFINITY, 1.0]);
        assert_eq!(smooth(&[1.0, 5.0], 0.0).unwrap(), [1.0, 5.0]);
        assert!(smooth(&[1.0], 1.0).is_err());
    }
}
