//! What angle curves look like when nothing was learned: seeded draws, quantile bands, and facts known in closed form.
//!
//! Four null models. Independent: two Haar subspaces. Shared term: the updates `B - A` and `C - B` of three independent
//! Gaussian matrices, since two updates in a row share the weight between them. Rounding: a weight against itself plus
//! rounding noise of its stored type. Same file: a weight against itself, which must give 0. A measured curve says
//! something only where it leaves these bands.

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::angles::principal_angles;
use crate::error::{Error, Result};
use crate::linalg::{Factors, size2, squared_norm, svd};
use crate::statistics::quantile;

/// Median and a 90 % band of curves, index by index; angles in radians.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// 5 % quantile.
    pub lower: Vec<f64>,
    /// Median.
    pub median: Vec<f64>,
    /// 95 % quantile.
    pub upper: Vec<f64>,
}

/// Band of curves of one length.
///
/// # Errors
/// [`Error::Shape`] if the lengths differ.
pub fn band(curves: &[Vec<f64>]) -> Result<Band> {
    let length = curves.first().map_or(0, Vec::len);
    if let Some(other) = curves.iter().find(|curve| curve.len() != length) {
        return Err(Error::Shape { what: "curves", left: length.to_string(), right: other.len().to_string() });
    }
    let at = |probability: f64| -> Vec<f64> {
        let column = |i: usize| curves.iter().map(|curve| curve[i]).collect::<Vec<_>>();
        (0..length).filter_map(|i| quantile(&column(i), probability)).collect()
    };
    Ok(Band { lower: at(0.05), median: at(0.5), upper: at(0.95) })
}

/// What is known without drawing about two independent `k`-subspaces of `R^n`, as `n` grows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnalyticFacts {
    /// Angles that are 0 because the subspaces must intersect: `max(0, 2k - n)`; true of any pair.
    pub forced_zeros: usize,
    /// Smallest angle after the forced zeros, radians: `arccos(2 sqrt(a (1 - a)))` with `a = k / n`.
    pub smallest_angle: f64,
    /// Mean of `sin^2`: `1 - a`.
    pub mean_sin_squared: f64,
}

/// The facts for `k`-subspaces of `R^n`.
pub fn analytic_facts(n: usize, k: usize) -> AnalyticFacts {
    let share = k as f64 / n as f64;
    AnalyticFacts {
        forced_zeros: (2 * k).saturating_sub(n),
        // The square root may exceed 1/2 by a rounding error.
        smallest_angle: (2.0 * (share * (1.0 - share)).sqrt()).min(1.0).acos(),
        mean_sin_squared: 1.0 - share,
    }
}

/// Standard normal entries, `[rows, columns]`.
///
/// # Errors
/// libtorch's.
pub fn gaussian(rows: usize, columns: usize, key: RandomKey) -> Result<Tensor> {
    let values: Vec<f64> = (0..(rows * columns) as u64).map(|i| key.normal(i)).collect();
    Ok(Tensor::f_from_slice(&values)?.f_view([rows as i64, columns as i64])?)
}

/// Principal angles of two independent Haar `k`-subspaces of `R^n`: radians, `[k]`.
///
/// # Errors
/// libtorch's, if `k` exceeds `n`.
pub fn independent_angles(n: usize, k: usize, key: RandomKey) -> Result<Vec<f64>> {
    let basis = |key| -> Result<Tensor> { Ok(Tensor::f_linalg_qr(&gaussian(n, k, key)?, "reduced")?.0) };
    principal_angles(&basis(key.at(0))?, &basis(key.at(1))?)
}

/// Factors of `B - A` and `C - B` for three independent Gaussian matrices `[out, in]`.
///
/// # Errors
/// libtorch's.
pub fn shared_term_factors(out: usize, input: usize, key: RandomKey) -> Result<(Factors, Factors)> {
    let (a, b, c) =
        (gaussian(out, input, key.at(0))?, gaussian(out, input, key.at(1))?, gaussian(out, input, key.at(2))?);
    Ok((svd(&b.f_sub(&a)?)?, svd(&c.f_sub(&b)?)?))
}

/// Bits after the leading one, and the smallest exponent, of a floating point type.
fn float_format(kind: Kind) -> Option<(f64, f64)> {
    match kind {
        Kind::BFloat16 => Some((7.0, -126.0)),
        Kind::Half => Some((10.0, -14.0)),
        Kind::Float => Some((23.0, -126.0)),
        Kind::Double => Some((52.0, -1022.0)),
        _ => None,
    }
}

/// Distance between neighbouring numbers of type `kind` at each entry of the f64 `matrix`.
fn spacing(matrix: &Tensor, kind: Kind) -> Result<Tensor> {
    let (bits, smallest_exponent) = float_format(kind).ok_or_else(|| Error::Matrix {
        name: "rounding noise".into(),
        reason: format!("{kind:?} is not a floating point type"),
    })?;
    let (_, exponent) = matrix.f_frexp()?; // mantissa in [1/2, 1), so the leading bit is one lower
    let exponent = exponent.f_to_kind(Kind::Double)?.f_sub_scalar(1.0)?;
    // Zero has no leading bit; its neighbours are the subnormal numbers.
    let exponent = exponent.f_masked_fill(&matrix.f_eq(0.0)?, smallest_exponent)?.f_clamp_min(smallest_exponent)?;
    Ok(exponent.f_sub_scalar(bits)?.f_exp2()?)
}

/// `matrix` plus independent noise, uniform over one rounding cell of type `kind` around each entry.
///
/// # Errors
/// [`Error::Matrix`] if `kind` is not a floating point type.
pub fn with_rounding_noise(matrix: &Tensor, kind: Kind, key: RandomKey) -> Result<Tensor> {
    let noise: Vec<f64> = (0..matrix.numel() as u64).map(|i| key.uniform(i) - 0.5).collect();
    let noise = Tensor::f_from_slice(&noise)?.f_view_as(matrix)?;
    Ok(matrix.f_add(&noise.f_mul(&spacing(matrix, kind)?)?)?)
}

/// Largest singular value expected of the rounding error in the difference of two matrices stored as `kind`.
///
/// A rounding error is uniform over one cell (variance `cell^2 / 12`), and independent errors of one size have their
/// spectral edge at `std * (sqrt(out) + sqrt(in))`. Directions of an update below this are noise of the file format.
///
/// # Errors
/// As [`with_rounding_noise`].
pub fn rounding_floor(before: &Tensor, after: &Tensor, kind: Kind) -> Result<f64> {
    let (rows, columns) = size2(before)?;
    let cells = squared_norm(&spacing(before, kind)?)? + squared_norm(&spacing(after, kind)?)?;
    let std = (cells / 12.0 / (rows * columns) as f64).sqrt();
    Ok(std * ((rows as f64).sqrt() + (columns as f64).sqrt()))
}

/// Null bands of one matrix shape and rank.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShapeNull {
    /// `[out, in]` of the matrices this is for.
    pub shape: [usize; 2],
    /// Rank of the subspaces, and length of every band.
    pub rank: usize,
    /// Draws behind each band.
    pub draws: usize,
    /// `[out, in]` that was drawn. Smaller than `shape` if that exceeds the configured limit: the curves then depend on
    /// the ratios of rank and sides alone, up to edge effects of about `side^(-2/3)`, and are stretched to `rank`.
    pub drawn_shape: [usize; 2],
    /// Rank that was drawn.
    pub drawn_rank: usize,
    /// Facts about left subspaces, `n = out`.
    pub facts_u: AnalyticFacts,
    /// Facts about right subspaces, `n = in`.
    pub facts_v: AnalyticFacts,
    /// Two independent left subspaces.
    pub independent_u: Band,
    /// Two independent right subspaces.
    pub independent_v: Band,
    /// Left subspaces of two updates that share a weight.
    pub shared_term_u: Band,
    /// Right subspaces of two updates that share a weight.
    pub shared_term_v: Band,
}

/// Null bands of matrices `[out, in]` at each of `ranks`, from `draws` draws with sides of at most `max_dimension`.
///
/// # Errors
/// libtorch's.
pub fn shape_nulls(
    shape: [usize; 2],
    ranks: &[usize],
    draws: usize,
    max_dimension: usize,
    key: RandomKey,
) -> Result<Vec<ShapeNull>> {
    let factor = (shape[0].max(shape[1]) as f64 / max_dimension as f64).max(1.0);
    let scaled = |length: usize| ((length as f64 / factor).round() as usize).max(1);
    let [out, input] = shape.map(scaled);
    let factors =
        (0..draws as u64).map(|draw| shared_term_factors(out, input, key.at(draw))).collect::<Result<Vec<_>>>()?;
    ranks
        .iter()
        .map(|&rank| {
            let is_full = rank == shape[0].min(shape[1]);
            let drawn_rank = if is_full { out.min(input) } else { scaled(rank).min(out.min(input)) };
            let independent = |n: usize, drawn_n: usize, side: u64| {
                let key = key.at(u64::MAX - side).at(drawn_rank as u64);
                let curves = (0..draws as u64).map(|draw| independent_angles(drawn_n, drawn_rank, key.at(draw)));
                curves_to_band(curves, n, rank)
            };
            let left = factors.iter().map(|(a, b)| principal_angles(&a.left(drawn_rank)?, &b.left(drawn_rank)?));
            let right = factors.iter().map(|(a, b)| principal_angles(&a.right(drawn_rank)?, &b.right(drawn_rank)?));
            Ok(ShapeNull {
                shape,
                rank,
                draws,
                drawn_shape: [out, input],
                drawn_rank,
                facts_u: analytic_facts(shape[0], rank),
                facts_v: analytic_facts(shape[1], rank),
                independent_u: independent(shape[0], out, 0)?,
                independent_v: independent(shape[1], input, 1)?,
                shared_term_u: curves_to_band(left, shape[0], rank)?,
                shared_term_v: curves_to_band(right, shape[1], rank)?,
            })
        })
        .collect()
}

/// Band of drawn curves, each stretched to `rank` and with its forced zeros put back.
fn curves_to_band(curves: impl Iterator<Item = Result<Vec<f64>>>, n: usize, rank: usize) -> Result<Band> {
    let zeros = analytic_facts(n, rank).forced_zeros;
    let curves = curves
        .map(|curve| {
            let mut curve = stretch(&curve?, rank);
            // Exact by dimension counting; interpolation blurs the corner where they end.
            curve[..zeros].fill(0.0);
            Ok(curve)
        })
        .collect::<Result<Vec<_>>>()?;
    band(&curves)
}

/// The curve at `length` points, where point `i` of `n` stands at `(i + 1/2) / n`; linear between, constant beyond.
pub fn stretch(curve: &[f64], length: usize) -> Vec<f64> {
    if curve.len() == length || curve.is_empty() {
        return curve.to_vec();
    }
    let last = curve.len() - 1;
    (0..length)
        .map(|i| {
            let position = (i as f64 + 0.5) * curve.len() as f64 / length as f64 - 0.5;
            let position = position.clamp(0.0, last as f64);
            let below = position.floor() as usize;
            let above = (below + 1).min(last);
            curve[below] + (position - below as f64) * (curve[above] - curve[below])
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_is_that_of_the_stored_type() {
        let values = Tensor::from_slice(&[1.0_f64, -1.5, 0.75, 3.0, 0.0]);
        let cells = |kind| Vec::<f64>::try_from(spacing(&values, kind).unwrap()).unwrap();
        // bf16 keeps 7 bits after the leading one: 2^-7 in [1, 2)
        let unit = 2.0_f64.powi(-7);
        assert_eq!(cells(Kind::BFloat16)[..4], [unit, unit, unit / 2.0, 2.0 * unit]);
        assert_eq!(cells(Kind::Float)[0], f64::from(f32::EPSILON));
        assert_eq!(cells(Kind::Double)[0], f64::EPSILON);
        assert_eq!(cells(Kind::Half)[4], 2.0_f64.powi(-24)); // smallest subnormal
        assert!(spacing(&values, Kind::Int64).is_err());
    }

    #[test]
    fn stretching_keeps_lines_and_ends() {
        assert_eq!(stretch(&[1.0, 2.0], 2), [1.0, 2.0]);
        // points at 1/4 and 3/4; asked at 1/8, 3/8, 5/8, 7/8
        assert_eq!(stretch(&[0.0, 4.0], 4), [0.0, 1.0, 3.0, 4.0]);
    }

    #[test]
    fn facts_are_those_of_the_closed_form() {
        let facts = analytic_facts(4096, 1024); // a = 1/4: arccos(sqrt(3)/2) = 30 degrees
        assert_eq!(facts.forced_zeros, 0);
        assert!((facts.smallest_angle.to_degrees() - 30.0).abs() < 1e-9);
        assert_eq!(facts.mean_sin_squared, 0.75);
        assert!((analytic_facts(4096, 512).smallest_angle.to_degrees() - 48.6).abs() < 0.05);
        assert_eq!(analytic_facts(1024, 768).forced_zeros, 512);
        assert!(analytic_facts(1024, 512).smallest_angle.abs() < 1e-7);
    }

    #[test]
    fn the_rounding_floor_bounds_the_noise_it_models() {
        let key = RandomKey::new(3, "floor");
        let weight = gaussian(128, 96, key.at(0)).unwrap();
        let floor = rounding_floor(&weight, &weight, Kind::BFloat16).unwrap();
        let noisy = |at| with_rounding_noise(&weight, Kind::BFloat16, key.at(at)).unwrap();
        let largest = crate::linalg::singular_values(&(noisy(1) - noisy(2))).unwrap()[0];
        assert!((0.9..1.05).contains(&(largest / floor)), "{largest} {floor}");
    }
}
