//! Per-matrix statistics and the comparison of singular spectra.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::Result;
use crate::linalg::squared_norm;

/// Added to a singular value before dividing by it.
const TINY: f64 = 1e-12;

/// Statistics of one weight matrix.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BasicStats {
    /// Smallest entry.
    pub min: f64,
    /// Largest entry.
    pub max: f64,
    /// Mean of the entries.
    pub mean: f64,
    /// Standard deviation of the entries, with divisor `out * in`.
    pub std: f64,
    /// Frobenius norm.
    pub frobenius_norm: f64,
    /// Largest singular value.
    pub spectral_norm: f64,
    /// `exp(H(p))` with `p = S^2 / sum(S^2)` and `H` the entropy in nats; 0 for a zero matrix. Roy and Vetterli 2007.
    pub effective_rank: f64,
    /// `frobenius_norm^2 / spectral_norm^2`; 0 for a zero matrix.
    pub stable_rank: f64,
}

/// Statistics of an f64 `matrix` `[out, in]` with singular values `s`.
///
/// # Errors
/// libtorch's.
pub fn basic_stats(matrix: &Tensor, s: &[f64]) -> Result<BasicStats> {
    let energy = squared_norm(matrix)?;
    let spectral_norm = s.first().copied().unwrap_or(0.0);
    let spectral_energy: f64 = s.iter().map(|value| value * value).sum();
    let entropy: f64 = s
        .iter()
        .map(|value| value * value / spectral_energy)
        .filter(|&share| share > 0.0) // also drops the 0/0 of a zero matrix; x ln x tends to 0
        .map(|share| -share * share.ln())
        .sum();
    let is_zero = spectral_norm == 0.0;
    Ok(BasicStats {
        min: matrix.f_min()?.f_double_value(&[])?,
        max: matrix.f_max()?.f_double_value(&[])?,
        mean: matrix.f_mean(Kind::Double)?.f_double_value(&[])?,
        std: matrix.f_std(false)?.f_double_value(&[])?,
        frobenius_norm: energy.sqrt(),
        spectral_norm,
        effective_rank: if is_zero { 0.0 } else { entropy.exp() },
        stable_rank: if is_zero { 0.0 } else { energy / (spectral_norm * spectral_norm) },
    })
}

/// How a spectrum moved.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpectrumShift {
    /// `target - base`, the shorter spectrum padded with zeros.
    pub difference: Vec<f64>,
    /// `(target - base) / (base + 1e-12)`.
    pub relative: Vec<f64>,
    /// Mean of `|relative|`: the drift of the singular values.
    pub mean_drift: f64,
}

/// Compares two descending spectra.
pub fn spectrum_shift(base: &[f64], target: &[f64]) -> SpectrumShift {
    let length = base.len().max(target.len());
    let at = |values: &[f64], index: usize| values.get(index).copied().unwrap_or(0.0);
    let difference: Vec<f64> = (0..length).map(|i| at(target, i) - at(base, i)).collect();
    let relative: Vec<f64> = difference.iter().enumerate().map(|(i, change)| change / (at(base, i) + TINY)).collect();
    let mean_drift = relative.iter().map(|change| change.abs()).sum::<f64>() / length.max(1) as f64;
    SpectrumShift { difference, relative, mean_drift }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::{singular_values, svd};

    #[test]
    fn a_diagonal_matrix_has_the_statistics_worked_by_hand() {
        // [[3, 0, 0], [0, 4, 0]]: S = 4, 3; p = 16/25, 9/25
        let matrix = Tensor::from_slice(&[3.0_f64, 0.0, 0.0, 0.0, 4.0, 0.0]).view([2, 3]);
        let s = singular_values(&matrix).unwrap();
        let stats = basic_stats(&matrix, &s).unwrap();
        assert!((s[0] - 4.0).abs() < 1e-12 && (s[1] - 3.0).abs() < 1e-12);
        assert_eq!((stats.min, stats.max), (0.0, 4.0));
        assert!((stats.mean - 7.0 / 6.0).abs() < 1e-12);
        // E[x^2] - E[x]^2 = 25/6 - 49/36 = 101/36
        assert!((stats.std - (101.0_f64 / 36.0).sqrt()).abs() < 1e-12);
        assert!((stats.frobenius_norm - 5.0).abs() < 1e-12);
        assert!((stats.stable_rank - 25.0 / 16.0).abs() < 1e-12);
        let entropy = -(0.64 * 0.64_f64.ln() + 0.36 * 0.36_f64.ln());
        assert!((stats.effective_rank - entropy.exp()).abs() < 1e-12);
    }

    #[test]
    fn a_zero_matrix_has_rank_zero_and_no_nan() {
        let matrix = Tensor::zeros([3, 2], (Kind::Double, tch::Device::Cpu));
        let stats = basic_stats(&matrix, &singular_values(&matrix).unwrap()).unwrap();
        assert_eq!((stats.effective_rank, stats.stable_rank, stats.spectral_norm), (0.0, 0.0, 0.0));
    }

    #[test]
    fn the_decomposition_reconstructs_a_random_matrix() {
        let values: Vec<f64> = {
            let key = rl_core::random::RandomKey::new(1, "reconstruct");
            (0..300 * 200).map(|i| key.normal(i)).collect()
        };
        let matrix = Tensor::from_slice(&values).view([300, 200]);
        let factors = svd(&matrix).unwrap();
        let rebuilt = (&factors.u * Tensor::from_slice(&factors.s)).matmul(&factors.v.tr());
        let error = (squared_norm(&(rebuilt - &matrix)).unwrap() / squared_norm(&matrix).unwrap()).sqrt();
        assert!(error < 1e-12, "{error}");
        // sigma against a reference that is not an SVD: eigenvalues of the Gram matrix
        let gram = matrix.tr().matmul(&matrix).linalg_eigvalsh("L");
        let reference: Vec<f64> = Vec::<f64>::try_from(gram).unwrap().into_iter().rev().map(f64::sqrt).collect();
        for (value, expected) in factors.s.iter().zip(&reference) {
            assert!((value / expected - 1.0).abs() < 1e-5, "{value} {expected}");
        }
    }

    #[test]
    fn a_shift_pads_the_shorter_spectrum_with_zeros() {
        let shift = spectrum_shift(&[4.0, 2.0], &[5.0, 1.0, 0.5]);
        assert_eq!(shift.difference, [1.0, -1.0, 0.5]);
        assert!((shift.relative[0] - 0.25).abs() < 1e-9 && (shift.relative[1] + 0.5).abs() < 1e-9);
        let drift = spectrum_shift(&[4.0, 2.0], &[5.0, 1.0]).mean_drift;
        assert!((drift - 0.375).abs() < 1e-9, "{drift}");
    }
}
