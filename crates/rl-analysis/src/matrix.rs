//! All measurements of one matrix in three checkpoints; plain data out, so that matrices run in parallel.

use rl_core::random::RandomKey;
use tch::{Kind, Tensor};

use crate::angles::{
    best_match, direction_energy, gap_mask, principal_angles, rotation_panels, summarize_angles, vector_cosines,
};
use crate::config::AnalysisConfig;
use crate::error::{Error, Result};
use crate::fresh_init::fresh_init;
use crate::linalg::{Factors, singular_values, size2, squared_norm, svd, to_matrix};
use crate::nulls::{rounding_floor, with_rounding_noise};
use crate::report::{MatrixReport, PairMatrix, SideReport, UpdateAngles};
use crate::spectrum::{basic_stats, spectrum_shift};
use crate::update::{core_diagonal, core_matrix, energy_by_rank, pearson, retention, update_shares};

/// A weight with its decomposition and report.
pub(crate) struct Decomposed {
    weight: Tensor,
    kind: Kind,
    factors: Factors,
    pub(crate) report: MatrixReport,
}

/// Reads and decomposes one weight.
pub(crate) fn decompose(name: &str, weight: &Tensor, config: &AnalysisConfig) -> Result<Decomposed> {
    let kind = weight.f_kind()?;
    let weight = to_matrix(name, weight)?;
    let (out, input) = size2(&weight)?;
    let factors = svd(&weight)?;
    let stats = basic_stats(&weight, &factors.s)?;
    let report = MatrixReport {
        shape: [out, input],
        kind: format!("{kind:?}"),
        fresh_init: fresh_init(out, input, stats.std, &factors.s, &config.fresh_init),
        basic_stats: stats,
        singular_values: factors.s.clone(),
    };
    Ok(Decomposed { weight, kind, factors, report })
}

/// Directions of an update count from this multiple of the rounding edge: rows of unequal size and the fluctuation of
/// small matrices push rounding errors beyond the edge itself.
const ROUNDING_MARGIN: f64 = 1.5;

/// An update between two weights.
pub(crate) struct Update {
    delta: Tensor,
    factors: Factors,
    /// Singular values above the rounding error of the stored type.
    rank: usize,
}

/// The update from `before` to `after`, with its directions.
pub(crate) fn update(before: &Decomposed, after: &Decomposed) -> Result<Update> {
    let delta = after.weight.f_sub(&before.weight)?;
    let factors = svd(&delta)?;
    // The coarser of two types decides what is noise.
    let floor = rounding_floor(&before.weight, &after.weight, before.kind)?.max(rounding_floor(
        &before.weight,
        &after.weight,
        after.kind,
    )?);
    let rank = factors.s.iter().filter(|&&value| value > ROUNDING_MARGIN * floor).count();
    Ok(Update { delta, factors, rank })
}

/// Everything between two checkpoints whose update has its directions.
pub(crate) fn compare_pair(
    before: &Decomposed,
    after: &Decomposed,
    update: &Update,
    config: &AnalysisConfig,
) -> Result<PairMatrix> {
    pair_matrix(before, after, &update.delta, update.factors.s.clone(), config)
}

/// Everything between two checkpoints; the directions of the update are not needed.
pub(crate) fn compare_ends(before: &Decomposed, after: &Decomposed, config: &AnalysisConfig) -> Result<PairMatrix> {
    let delta = after.weight.f_sub(&before.weight)?;
    let delta_s = singular_values(&delta)?;
    pair_matrix(before, after, &delta, delta_s, config)
}

fn pair_matrix(
    before: &Decomposed,
    after: &Decomposed,
    delta: &Tensor,
    delta_s: Vec<f64>,
    config: &AnalysisConfig,
) -> Result<PairMatrix> {
    let (a, b) = (&before.factors, &after.factors);
    let rank = config.rank.of(a.s.len());
    let shift = spectrum_shift(&a.s, &b.s);
    let energy = squared_norm(delta)?;

    let full_core = core_matrix(&a.u, delta, &a.v)?;
    let core = full_core.f_narrow(0, 0, rank as i64)?.f_narrow(1, 0, rank as i64)?;
    let shares = update_shares(&core, energy)?;

    let angles_u = principal_angles(&a.left(rank)?, &b.left(rank)?)?;
    let angles_v = principal_angles(&a.right(rank)?, &b.right(rank)?)?;
    let in_both = gap_mask(&a.s, config.min_gap).into_iter().zip(gap_mask(&b.s, config.min_gap));
    let mask: Vec<bool> = in_both.map(|(first, second)| first && second).collect();
    let side = |x: &Tensor, y: &Tensor, angles: &[f64]| -> Result<SideReport> {
        let (leading_x, leading_y) = (x.f_narrow(1, 0, rank as i64)?, y.f_narrow(1, 0, rank as i64)?);
        let cosines = vector_cosines(x, y)?;
        Ok(SideReport {
            angles: summarize_angles(angles).ok_or_else(no_angles)?,
            direction_energy: direction_energy(&leading_x, &a.s[..rank], &leading_y)?,
            best_match: best_match(&leading_x, &leading_y)?,
            panels: rotation_panels(&cosines, &mask, config.panel_fraction)?,
            vector_cosines: cosines,
        })
    };
    let (left, right) = (side(&a.u, &b.u, &angles_u)?, side(&a.v, &b.v, &angles_v)?);
    let kept = retention(&a.left(rank)?, &a.s[..rank], &a.right(rank)?, &after.weight)?;
    Ok(PairMatrix {
        shape: before.report.shape,
        rank,
        delta_singular_values: shift.difference,
        rel_singular_change: shift.relative,
        sigma_drift: shift.mean_drift,
        delta_s,
        delta_norm: energy.sqrt(),
        delta_energy_diag: shares.stretch,
        delta_energy_rot: shares.rotation,
        delta_energy_outside: shares.outside,
        in_subspace_energy: energy_by_rank(&full_core, energy, &config.energy_ranks)?,
        core_diagonal: core_diagonal(&core)?,
        principal_angle_U: angles_u,
        principal_angle_V: angles_v,
        left,
        right,
        gap_mask: mask,
        retention_loss: kept.loss,
        residual_energy: kept.residual_energy,
        weight_energy: kept.weight_energy,
        pearson: pearson(&before.weight, &after.weight)?,
    })
}

/// The configured rank is at least 1, so this needs a matrix without singular values.
fn no_angles() -> Error {
    Error::Matrix { name: "subspace".into(), reason: "its rank is 0".into() }
}

/// Angles between two updates, at a rank that both of them have.
pub(crate) fn update_angles(first: &Update, second: &Update, config: &AnalysisConfig) -> Result<UpdateAngles> {
    let (out, input) = size2(&first.delta)?;
    let rank = config.rank.of(first.factors.s.len()).min(first.rank).min(second.rank);
    let (angles_u, angles_v) = if rank == 0 {
        (Vec::new(), Vec::new())
    } else {
        (
            principal_angles(&first.factors.left(rank)?, &second.factors.left(rank)?)?,
            principal_angles(&first.factors.right(rank)?, &second.factors.right(rank)?)?,
        )
    };
    Ok(UpdateAngles {
        shape: [out, input],
        rank_target: first.rank,
        rank_other: second.rank,
        rank,
        summary_u: summarize_angles(&angles_u),
        summary_v: summarize_angles(&angles_v),
        principal_angle_U: angles_u,
        principal_angle_V: angles_v,
    })
}

/// Angle curves, left and right, of a weight against itself plus rounding noise, one pair per draw.
pub(crate) fn rounding_curves(
    base: &Decomposed,
    config: &AnalysisConfig,
    key: RandomKey,
) -> Result<Vec<(Vec<f64>, Vec<f64>)>> {
    let rank = config.rank.of(base.factors.s.len());
    (0..config.nulls.rounding_draws as u64)
        .map(|draw| against(base, &svd(&with_rounding_noise(&base.weight, base.kind, key.at(draw))?)?, rank))
        .collect()
}

/// Largest angle between a weight and itself, decomposed a second time.
pub(crate) fn same_file_angle(base: &Decomposed, config: &AnalysisConfig) -> Result<f64> {
    let (u, v) = against(base, &svd(&base.weight)?, config.rank.of(base.factors.s.len()))?;
    Ok(u.into_iter().chain(v).fold(0.0, f64::max))
}

fn against(base: &Decomposed, other: &Factors, rank: usize) -> Result<(Vec<f64>, Vec<f64>)> {
    Ok((
        principal_angles(&base.factors.left(rank)?, &other.left(rank)?)?,
        principal_angles(&base.factors.right(rank)?, &other.right(rank)?)?,
    ))
}
