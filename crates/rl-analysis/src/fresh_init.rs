//! Tells weights that were never loaded: a matrix whose spectrum is that of independent random entries.
//!
//! A loader that does not find a tensor may leave it at its random initialisation. Such matrices have equal singular
//! values and unrelated singular vectors in every checkpoint, which looks like a finding. So every analysis asks first.

use std::f64::consts::PI;

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// What to do when too many matrices look freshly initialised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FreshInitAction {
    /// Stop with an error.
    Refuse,
    /// Go on and report the counts.
    Flag,
}

/// Limits of the detector.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FreshInitConfig {
    /// Lowest `edge_ratio` that is flagged.
    pub edge_low: f64,
    /// Highest `edge_ratio` that is flagged.
    pub edge_high: f64,
    /// A Kolmogorov distance below this is flagged.
    pub max_distance: f64,
    /// Largest share of flagged matrices that `action = "refuse"` allows.
    pub max_share: f64,
    /// Refuse or only report.
    pub action: FreshInitAction,
}

impl Default for FreshInitConfig {
    fn default() -> Self {
        Self { edge_low: 0.97, edge_high: 1.03, max_distance: 0.02, max_share: 0.2, action: FreshInitAction::Refuse }
    }
}

impl FreshInitConfig {
    /// # Errors
    /// [`crate::Error::Config`] names the first setting out of range.
    pub fn validate(&self) -> Result<()> {
        ensure(0.0 < self.edge_low && self.edge_low < 1.0, "fresh_init.edge_low", self.edge_low, "must be in (0, 1)")?;
        ensure(
            1.0 < self.edge_high && self.edge_high.is_finite(),
            "fresh_init.edge_high",
            self.edge_high,
            "must be above 1",
        )?;
        ensure(
            0.0 < self.max_distance && self.max_distance <= 1.0,
            "fresh_init.max_distance",
            self.max_distance,
            "must be in (0, 1]",
        )?;
        ensure(
            0.0 <= self.max_share && self.max_share <= 1.0,
            "fresh_init.max_share",
            self.max_share,
            "must be in 0..=1",
        )
    }
}

/// What the detector saw in one matrix.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FreshInit {
    /// `sigma_1 / (std * (sqrt(out) + sqrt(in)))`; near 1 for independent entries.
    pub edge_ratio: f64,
    /// Kolmogorov distance between the squared spectrum and the Marchenko-Pastur law.
    pub distance: f64,
    /// Both are within the limits.
    pub flagged: bool,
}

/// Judges one matrix of `out x in` entries with standard deviation `std` and singular values `s`, descending.
///
/// The limits of `config` are for large matrices. In a small one, random entries stray further, so the limits widen:
/// the edge by the Tracy-Widom scale (5 units down, since that law lies mostly below the edge, 2 up) and the distance to
/// at least `4 / min(out, in)`, some steps of the empirical distribution. From about 400 rows on both have no effect.
pub fn fresh_init(out: usize, input: usize, std: f64, s: &[f64], config: &FreshInitConfig) -> FreshInit {
    let (rows, columns) = (out as f64, input as f64);
    let edge = rows.sqrt() + columns.sqrt();
    if std == 0.0 || s.is_empty() {
        // A constant matrix, such as a zero-initialised adapter, is not a random one.
        return FreshInit { edge_ratio: 0.0, distance: 1.0, flagged: false };
    }
    let edge_ratio = s[0] / (std * edge);
    let distance = kolmogorov_distance(out, input, std, s);
    let scale = (1.0 / rows.sqrt() + 1.0 / columns.sqrt()).cbrt() / (2.0 * edge);
    let low = config.edge_low.min(1.0 - 5.0 * scale);
    let high = config.edge_high.max(1.0 + 2.0 * scale);
    let max_distance = config.max_distance.max(4.0 / s.len() as f64);
    let flagged = (low..=high).contains(&edge_ratio) && distance < max_distance;
    FreshInit { edge_ratio, distance, flagged }
}

/// Largest gap between the distribution of `s^2 / (std^2 max(out, in))` and the Marchenko-Pastur law.
pub fn kolmogorov_distance(out: usize, input: usize, std: f64, s: &[f64]) -> f64 {
    let aspect = out.min(input) as f64 / out.max(input) as f64;
    let unit = std * std * out.max(input) as f64;
    let count = s.len() as f64;
    // s is descending, so the empirical distribution falls from (count - i) / count to (count - i - 1) / count at s[i].
    s.iter()
        .enumerate()
        .map(|(i, value)| {
            let law = marchenko_pastur_cdf(value * value / unit, aspect);
            let above = (count - i as f64) / count;
            (law - above).abs().max((law - above + 1.0 / count).abs())
        })
        .fold(0.0, f64::max)
}

/// Distribution function of the Marchenko-Pastur law of unit variance at `x`, for `aspect = min / max` in `(0, 1]`.
///
/// With `c = sqrt(aspect)` and `x = 1 + c^2 + 2 c cos(t)` the density becomes `(2/pi) sin(t)^2 / (1 + c^2 + 2 c cos(t))`,
/// whose integral is elementary. Marchenko and Pastur 1967.
pub fn marchenko_pastur_cdf(x: f64, aspect: f64) -> f64 {
    let c = aspect.sqrt();
    let angle = ((x - 1.0 - aspect) / (2.0 * c)).clamp(-1.0, 1.0).acos(); // 0 at the upper edge, pi at the lower
    let integral = |half_tan_angle: f64| {
        (1.0 + aspect) / (4.0 * aspect) * angle
            - angle.sin() / (2.0 * c)
            - (1.0 - aspect) / (2.0 * aspect) * half_tan_angle
    };
    // atan(k tan(t/2)) written with atan2, so that t = pi gives pi/2
    let (sin, cos) = (angle / 2.0).sin_cos();
    let from_upper_edge = integral(((1.0 - c) * sin).atan2((1.0 + c) * cos));
    1.0 - 2.0 / PI * from_upper_edge
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trapezoidal sum of the density in its textbook form.
    fn integrated(x: f64, aspect: f64) -> f64 {
        let (low, high) = ((1.0 - aspect.sqrt()).powi(2), (1.0 + aspect.sqrt()).powi(2));
        let steps = 400_000;
        let width = (x.min(high) - low) / steps as f64;
        (0..steps)
            .map(|i| {
                let at = low + (i as f64 + 0.5) * width;
                ((high - at) * (at - low)).sqrt() / (2.0 * PI * aspect * at) * width
            })
            .sum()
    }

    #[test]
    fn the_distribution_function_is_the_integral_of_the_density() {
        for aspect in [0.1, 0.25, 0.6] {
            for x in [0.6, 1.0, 1.4] {
                let (value, expected) = (marchenko_pastur_cdf(x, aspect), integrated(x, aspect));
                assert!((value - expected).abs() < 1e-5, "{aspect} {x}: {value} {expected}");
            }
            assert!(marchenko_pastur_cdf(0.0, aspect).abs() < 1e-12);
            assert!((marchenko_pastur_cdf(9.0, aspect) - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn a_square_matrix_follows_the_quarter_circle_law() {
        // sqrt(x) on (0, 2) has density sqrt(4 - y^2) / pi, so F = (y sqrt(4 - y^2) / 2 + 2 asin(y / 2)) / pi
        for y in [0.3_f64, 1.0, 1.7] {
            let expected = (y * (4.0 - y * y).sqrt() / 2.0 + 2.0 * (y / 2.0).asin()) / PI;
            assert!((marchenko_pastur_cdf(y * y, 1.0) - expected).abs() < 1e-12);
        }
    }
}
