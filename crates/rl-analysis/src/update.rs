//! Where an update lies relative to the singular directions of the base weight.
//!
//! With the base's leading factors `U` `[out, k]` and `V` `[in, k]`, the core of an update is `C = U^T dW V`: its diagonal
//! stretches singular values, the rest turns directions inside the subspace, and what `C` misses lies outside.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::error::{Error, Result};
use crate::linalg::{squared_norm, to_vec};

/// Added to an energy before dividing by it.
const TINY: f64 = 1e-12;
/// A retention loss of at most this size counts as none.
const RETENTION_DEAD_ZONE: f64 = 1e-3;

/// `U^T W V`, `[k, k]`.
///
/// # Errors
/// libtorch's, if the sizes do not fit.
pub fn core_matrix(u: &Tensor, weight: &Tensor, v: &Tensor) -> Result<Tensor> {
    Ok(u.f_tr()?.f_matmul(weight)?.f_matmul(v)?)
}

/// Shares of an update's energy; they add up to 1.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UpdateShares {
    /// Diagonal of the core: singular values change.
    pub stretch: f64,
    /// Off-diagonal of the core: directions turn inside the subspace.
    pub rotation: f64,
    /// Not in the core.
    pub outside: f64,
}

/// Shares of an update with squared Frobenius norm `energy`; denominators carry 1e-12.
///
/// # Errors
/// libtorch's.
pub fn update_shares(core: &Tensor, energy: f64) -> Result<UpdateShares> {
    let diagonal = squared_norm(&core.f_diagonal(0, 0, 1)?)?;
    let stretch = diagonal / (energy + TINY);
    let rotation = (squared_norm(core)? - diagonal) / (energy + TINY);
    Ok(UpdateShares { stretch, rotation, outside: 1.0 - stretch - rotation })
}

/// `||C_k||_F^2 / energy` of the leading `k x k` block, for each of `ranks` that fits `core`; others are left out.
///
/// # Errors
/// libtorch's.
pub fn energy_by_rank(core: &Tensor, energy: f64, ranks: &[usize]) -> Result<BTreeMap<usize, f64>> {
    let size = core.size2()?.0 as usize;
    let fitting = ranks.iter().copied().filter(|&rank| rank <= size);
    fitting
        .map(|rank| {
            let block = core.f_narrow(0, 0, rank as i64)?.f_narrow(1, 0, rank as i64)?;
            Ok((rank, squared_norm(&block)? / (energy + TINY)))
        })
        .collect()
}

/// `|C_ii|`, `[k]`.
///
/// # Errors
/// libtorch's.
pub fn core_diagonal(core: &Tensor) -> Result<Vec<f64>> {
    to_vec(&core.f_diagonal(0, 0, 1)?.f_abs()?)
}

/// How much of a weight is still seen from the base's subspaces.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retention {
    /// `1 - ||U^T W_t V||_F^2 / sum_{i<=k} s_i^2`; 0 where its size is at most 1e-3.
    pub loss: f64,
    /// `||W_t - U U^T W_t V V^T||_F^2`.
    pub residual_energy: f64,
    /// `||W_t||_F^2`.
    pub weight_energy: f64,
}

/// Retention of `target` `[out, in]` in the leading base factors `u`, `s`, `v`.
///
/// # Errors
/// libtorch's, if the sizes do not fit.
pub fn retention(u: &Tensor, s: &[f64], v: &Tensor, target: &Tensor) -> Result<Retention> {
    let core = core_matrix(u, target, v)?;
    let base_energy: f64 = s.iter().map(|value| value * value).sum();
    let loss = 1.0 - squared_norm(&core)? / (base_energy + TINY);
    // Formed in full: the difference of two energies would lose a small residual.
    let residual = target.f_sub(&u.f_matmul(&core)?.f_matmul(&v.f_tr()?)?)?;
    Ok(Retention {
        loss: if loss.abs() <= RETENTION_DEAD_ZONE { 0.0 } else { loss },
        residual_energy: squared_norm(&residual)?,
        weight_energy: squared_norm(target)?,
    })
}

/// Pearson correlation of the entries of two matrices; `None` if one of them is constant.
///
/// # Errors
/// [`Error::Shape`] if the sizes differ.
pub fn pearson(a: &Tensor, b: &Tensor) -> Result<Option<f64>> {
    if a.size() != b.size() {
        return Err(Error::Shape {
            what: "weights",
            left: format!("{:?}", a.size()),
            right: format!("{:?}", b.size()),
        });
    }
    let centre = |matrix: &Tensor| -> Result<Tensor> { Ok(matrix.f_sub(&matrix.f_mean(Kind::Double)?)?) };
    let (a, b) = (centre(a)?, centre(b)?);
    let scale = (squared_norm(&a)? * squared_norm(&b)?).sqrt();
    if scale == 0.0 {
        return Ok(None);
    }
    Ok(Some(a.f_mul(&b)?.f_sum(Kind::Double)?.f_double_value(&[])? / scale))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const TOLERANCE: f64 = 1e-12;

    fn axes(n: i64, k: i64) -> Tensor {
        Tensor::eye(n, (Kind::Double, Device::Cpu)).narrow(1, 0, k)
    }

    #[test]
    fn shares_of_a_hand_made_update() {
        // On the first two axes: diagonal 1, 2 (5), off-diagonal 2 (4), outside 1 (1): energy 10
        let delta = Tensor::from_slice(&[1.0_f64, 2.0, 0.0, 0.0, 2.0, 0.0, 1.0, 0.0, 0.0]).view([3, 3]);
        let core = core_matrix(&axes(3, 2), &delta, &axes(3, 2)).unwrap();
        let shares = update_shares(&core, squared_norm(&delta).unwrap()).unwrap();
        assert!((shares.stretch - 0.5).abs() < TOLERANCE);
        assert!((shares.rotation - 0.4).abs() < TOLERANCE);
        assert!((shares.outside - 0.1).abs() < TOLERANCE);
        assert_eq!(core_diagonal(&core).unwrap(), [1.0, 2.0]);
        let by_rank = energy_by_rank(&core, 10.0, &[1, 2, 3]).unwrap();
        assert_eq!(by_rank.keys().copied().collect::<Vec<_>>(), [1, 2]);
        assert!((by_rank[&1] - 0.1).abs() < TOLERANCE && (by_rank[&2] - 0.9).abs() < TOLERANCE);
    }

    #[test]
    fn retention_of_a_hand_made_weight() {
        // Base diag(2, 1, 0) at rank 2 (energy 5); target has core energy 4 and 9 outside
        let target = Tensor::from_slice(&[2.0_f64, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0]).view([3, 3]);
        let kept = retention(&axes(3, 2), &[2.0, 1.0], &axes(3, 2), &target).unwrap();
        assert!((kept.loss - 0.2).abs() < TOLERANCE);
        assert!((kept.residual_energy - 9.0).abs() < TOLERANCE && (kept.weight_energy - 13.0).abs() < TOLERANCE);
        let near = Tensor::from_slice(&[2.0_f64, 0.0, 0.0, 0.0, 0.9999, 0.0, 0.0, 0.0, 0.0]).view([3, 3]);
        assert_eq!(retention(&axes(3, 2), &[2.0, 1.0], &axes(3, 2), &near).unwrap().loss, 0.0);
    }

    #[test]
    fn pearson_of_hand_made_matrices() {
        let a = Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 4.0]).view([2, 2]);
        let b = Tensor::from_slice(&[1.0_f64, 3.0, 2.0, 4.0]).view([2, 2]);
        // centred: (-1.5, -.5, .5, 1.5) . (-1.5, .5, -.5, 1.5) = 4; both energies 5
        assert!((pearson(&a, &b).unwrap().unwrap() - 0.8).abs() < TOLERANCE);
        assert!(pearson(&a, &Tensor::ones([2, 2], (Kind::Double, Device::Cpu))).unwrap().is_none());
    }
}
