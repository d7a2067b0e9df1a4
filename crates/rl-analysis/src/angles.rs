//! Angles between two subspaces, and how single singular vectors turned.
//!
//! Bases are f64 matrices `[n, k]` with orthonormal columns. Deliberately absent: the sum of raw differences of singular
//! vectors, which depends on arbitrary signs.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::linalg::{singular_values, to_vec};
use crate::statistics::{mean, quantile};

/// Principal angles between the spans of `a` and `b`, both `[n, k]`: radians, ascending, `[k]`.
///
/// Cosines are the singular values of `A^T B`, sines those of `(I - A A^T) B`; `atan2` of the two is accurate at both
/// ends, where the arc cosine alone loses half the digits. Bjoerck and Golub 1973; Knyazev and Argentati 2002.
///
/// # Errors
/// [`Error::Shape`] if the sizes differ.
pub fn principal_angles(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    same_shape(a, b)?;
    let overlap = a.f_tr()?.f_matmul(b)?; // [k, k]
    let cosines = singular_values(&overlap)?;
    let sines = singular_values(&b.f_sub(&a.f_matmul(&overlap)?)?)?; // of [n, k]
    // Descending cosines belong to ascending sines.
    Ok(cosines.iter().zip(sines.iter().rev()).map(|(cosine, sine)| sine.atan2(*cosine)).collect())
}

/// Summary of one set of principal angles; angles in radians.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AngleSummary {
    /// Mean angle.
    pub mean: f64,
    /// Median angle.
    pub median: f64,
    /// 90th percentile.
    pub p90: f64,
    /// Largest angle.
    pub max: f64,
    /// `||A A^T - B B^T||_F = sqrt(2) ||sin||_2`.
    pub projector_distance: f64,
    /// `sqrt(mean(sin^2))`, in `0..=1`.
    pub chordal_distance: f64,
    /// `||angles||_2`.
    pub grassmann_distance: f64,
}

/// Summary of `angles`; `None` of no angles.
pub fn summarize_angles(angles: &[f64]) -> Option<AngleSummary> {
    let sin_squared: f64 = angles.iter().map(|angle| angle.sin().powi(2)).sum();
    Some(AngleSummary {
        mean: mean(angles)?,
        median: quantile(angles, 0.5)?,
        p90: quantile(angles, 0.9)?,
        max: quantile(angles, 1.0)?,
        projector_distance: (2.0 * sin_squared).sqrt(),
        chordal_distance: (sin_squared / angles.len() as f64).sqrt(),
        grassmann_distance: angles.iter().map(|angle| angle * angle).sum::<f64>().sqrt(),
    })
}

/// Angle of each column of `vectors` `[n, m]` to the span of `basis` `[n, k]`: radians, `[m]`.
///
/// # Errors
/// libtorch's, if the row counts differ.
pub fn angles_to_span(vectors: &Tensor, basis: &Tensor) -> Result<Vec<f64>> {
    let coordinates = basis.f_tr()?.f_matmul(vectors)?; // [k, m]
    let outside = vectors.f_sub(&basis.f_matmul(&coordinates)?)?;
    let (inside, outside) = (column_norms(&coordinates)?, column_norms(&outside)?);
    Ok(inside.iter().zip(&outside).map(|(cosine, sine)| sine.atan2(*cosine)).collect())
}

/// `sum_i s_i^2 * angle(u_i, span(basis))` over the columns of `vectors` `[n, k]` with singular values `s` `[k]`.
///
/// Each singular value weighs the angle of its own vector. Pairing it with the i-th principal angle instead, as is
/// sometimes seen, joins two different orderings.
///
/// # Errors
/// [`Error::Shape`] if `s` and `vectors` disagree.
pub fn direction_energy(vectors: &Tensor, s: &[f64], basis: &Tensor) -> Result<f64> {
    let angles = angles_to_span(vectors, basis)?;
    if angles.len() != s.len() {
        return Err(Error::Shape {
            what: "singular values and vectors",
            left: s.len().to_string(),
            right: angles.len().to_string(),
        });
    }
    Ok(s.iter().zip(&angles).map(|(value, angle)| value * value * angle).sum())
}

/// Mean over the columns of `a` of the largest `|a_i . b_j|`.
///
/// # Errors
/// [`Error::Shape`] if the sizes differ.
pub fn best_match(a: &Tensor, b: &Tensor) -> Result<f64> {
    same_shape(a, b)?;
    let (largest, _) = a.f_tr()?.f_matmul(b)?.f_abs()?.f_max_dim(1, false)?;
    Ok(largest.f_mean(Kind::Double)?.f_double_value(&[])?)
}

/// `|a_i . b_i|` of each pair of columns, `[k]`.
///
/// # Errors
/// [`Error::Shape`] if the sizes differ.
pub fn vector_cosines(a: &Tensor, b: &Tensor) -> Result<Vec<f64>> {
    same_shape(a, b)?;
    to_vec(&a.f_mul(b)?.f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Double)?.f_abs()?)
}

/// True where a singular vector is well defined: its value is apart from both neighbours by more than `min_gap`.
///
/// The gap between `s_i` and `s_{i+1}` is `(s_i - s_{i+1}) / s_i`. Within a block of near-equal values the vectors may
/// turn freely without any change of the matrix.
pub fn gap_mask(s: &[f64], min_gap: f64) -> Vec<bool> {
    let is_apart = |i: usize| s[i] > 0.0 && (s[i] - s[i + 1]) / s[i] > min_gap;
    (0..s.len()).map(|i| s[i] > 0.0 && (i == 0 || is_apart(i - 1)) && (i + 1 == s.len() || is_apart(i))).collect()
}

/// Mean cosine over a stretch of singular indices, well-defined vectors only.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PanelMean {
    /// Mean of the cosines kept; absent if none was.
    pub mean_cosine: Option<f64>,
    /// Vectors kept.
    pub kept: usize,
    /// Vectors left out because their gap is too small.
    pub masked: usize,
}

/// Rotation of the largest, middle and smallest directions.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RotationPanels {
    /// Largest singular values.
    pub head: PanelMean,
    /// Those between.
    pub bulk: PanelMean,
    /// Smallest singular values.
    pub tail: PanelMean,
}

/// Splits `cosines` at `fraction` of their number from either end, at least one vector each.
///
/// # Errors
/// [`Error::Shape`] if `mask` is not as long as `cosines`.
pub fn rotation_panels(cosines: &[f64], mask: &[bool], fraction: f64) -> Result<RotationPanels> {
    if cosines.len() != mask.len() {
        return Err(Error::Shape {
            what: "cosines and mask",
            left: cosines.len().to_string(),
            right: mask.len().to_string(),
        });
    }
    let total = cosines.len();
    let edge = ((total as f64 * fraction).round() as usize).max(1).min(total / 2);
    let panel = |range: std::ops::Range<usize>| {
        let kept: Vec<f64> = range.clone().filter(|&i| mask[i]).map(|i| cosines[i]).collect();
        PanelMean { mean_cosine: mean(&kept), kept: kept.len(), masked: range.len() - kept.len() }
    };
    Ok(RotationPanels { head: panel(0..edge), bulk: panel(edge..total - edge), tail: panel(total - edge..total) })
}

fn column_norms(matrix: &Tensor) -> Result<Vec<f64>> {
    to_vec(&matrix.f_square()?.f_sum_dim_intlist([0_i64].as_slice(), false, Kind::Double)?.f_sqrt()?)
}

fn same_shape(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.size() == b.size() {
        return Ok(());
    }
    Err(Error::Shape { what: "bases", left: format!("{:?}", a.size()), right: format!("{:?}", b.size()) })
}
