//! Compares three checkpoints of one model: before over-training, after it, and after reinforcement learning.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::prelude::*;
use rl_core::random::RandomKey;
use tch::Tensor;

use crate::config::AnalysisConfig;
use crate::error::{Error, Result};
use crate::fresh_init::FreshInitAction;
use crate::matrix::{
    Decomposed, compare_ends, compare_pair, decompose, rounding_curves, same_file_angle, update, update_angles,
};
use crate::nulls::{band, shape_nulls};
use crate::report::{
    CheckpointReport, Comparison, MatrixReport, NullReport, Pair, PairMatrix, PairReport, PairTotals, Role,
    RoundingNull, UpdateAngles,
};
use crate::select::{NameCounts, match_names, select, weight_sha256};

/// How far a comparison has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many of the matrices are analysed.
    Matrices {
        /// Matrices finished.
        done: usize,
        /// Matrices selected.
        total: usize,
    },
    /// Null bands are drawn for so many of the matrix shapes.
    Nulls {
        /// Shapes finished.
        done: usize,
        /// Distinct shapes.
        total: usize,
    },
}

/// Compares `base`, `target` and `other`, each a map from tensor name to weight.
///
/// Every selected matrix must be in all three with one shape. Weights on a device are copied to the CPU one by one.
/// `progress` is called from worker threads. Results do not depend on the number of threads.
///
/// # Errors
/// Settings out of range, names that do not match, weights that are not finite matrices, and, unless
/// `fresh_init.action` is `flag`, a checkpoint whose matrices look freshly initialised.
pub fn compare_checkpoints(
    base: &BTreeMap<String, Tensor>,
    target: &BTreeMap<String, Tensor>,
    other: &BTreeMap<String, Tensor>,
    config: &AnalysisConfig,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Comparison> {
    config.validate()?;
    let names = select(base, config)?;
    let roles = [(Role::Base, base), (Role::Target, target), (Role::Other, other)];
    let mut counts = BTreeMap::new();
    for (role, checkpoint) in roles {
        counts.insert(role, match_names(role.name(), base, checkpoint, config)?);
    }

    // Tensors can be sent to another thread but not shared, so each job takes handles of its own.
    let jobs: Vec<Job> = names
        .iter()
        .filter_map(|name| {
            let weights = [base.get(name)?, target.get(name)?, other.get(name)?].map(Tensor::shallow_clone);
            Some(Job { name: name.clone(), weights })
        })
        .collect();
    let threads_before = tch::get_num_threads();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(config.num_threads)
        // One matrix per thread uses the cores better than many threads on one small decomposition.
        .start_handler(|_| tch::set_num_threads(1))
        .build()?;
    let result = pool.install(|| analyse(jobs, config, progress));
    drop(pool);
    // Threads started later inherit the last setting made by anyone.
    tch::set_num_threads(threads_before);
    let (outcomes, null) = result?;
    assemble(outcomes, null, roles, counts, config)
}

struct Job {
    name: String,
    /// Base, target, other.
    weights: [Tensor; 3],
}

/// Angles by draw, then by rank.
type Curves = Vec<Vec<f64>>;

/// All measurements of one matrix.
struct Outcome {
    name: String,
    reports: [MatrixReport; 3],
    pairs: [PairMatrix; 3],
    updates: UpdateAngles,
    rounding: Vec<(Vec<f64>, Vec<f64>)>,
    same_file_angle: f64,
}

/// Added to an energy before dividing by it.
const TINY: f64 = 1e-12;
const ROLES: [Role; 3] = [Role::Base, Role::Target, Role::Other];
const PAIRS: [Pair; 3] = [Pair::BaseToTarget, Pair::TargetToOther, Pair::BaseToOther];

fn analyse(
    jobs: Vec<Job>,
    config: &AnalysisConfig,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<(Vec<Outcome>, NullReport)> {
    let total = jobs.len();
    let detector = Detector { flagged: Default::default(), total, config };
    let done = AtomicUsize::new(0);
    let outcomes = jobs
        .into_par_iter()
        .map(|job| {
            let outcome = analyse_matrix(job, &detector, config)?;
            progress(Progress::Matrices { done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
            Ok(outcome)
        })
        .collect::<Result<Vec<_>>>()?;
    let null = draw_nulls(&outcomes, config, progress)?;
    Ok((outcomes, null))
}

fn analyse_matrix(job: Job, detector: &Detector<'_>, config: &AnalysisConfig) -> Result<Outcome> {
    let Job { name, weights: [base, target, other] } = job;
    let read = |weight: &Tensor, role: Role| -> Result<Decomposed> {
        let decomposed = decompose(&name, weight, config)?;
        detector.see(role, &decomposed)?;
        Ok(decomposed)
    };
    let (base, target, other) = (read(&base, Role::Base)?, read(&target, Role::Target)?, read(&other, Role::Other)?);
    let (first, second) = (update(&base, &target)?, update(&target, &other)?);
    let pairs = [
        compare_pair(&base, &target, &first, config)?,
        compare_pair(&target, &other, &second, config)?,
        compare_ends(&base, &other, config)?,
    ];
    // Keyed by name: neither the order nor the number of matrices changes the noise of one.
    let key = RandomKey::new(config.nulls.seed, &format!("rounding null of {name}"));
    Ok(Outcome {
        pairs,
        updates: update_angles(&first, &second, config)?,
        rounding: rounding_curves(&base, config, key)?,
        same_file_angle: same_file_angle(&base, config)?,
        reports: [base.report, target.report, other.report],
        name,
    })
}

/// Counts flagged matrices per checkpoint, and stops the analysis as soon as there are too many.
struct Detector<'a> {
    flagged: [AtomicUsize; 3],
    total: usize,
    config: &'a AnalysisConfig,
}

impl Detector<'_> {
    fn see(&self, role: Role, matrix: &Decomposed) -> Result<()> {
        if !matrix.report.fresh_init.flagged {
            return Ok(());
        }
        let flagged = self.flagged[role as usize].fetch_add(1, Ordering::Relaxed) + 1;
        let limit = (self.config.fresh_init.max_share * self.total as f64).floor() as usize;
        if flagged > limit && self.config.fresh_init.action == FreshInitAction::Refuse {
            return Err(Error::FreshInit { role: role.name(), flagged, total: self.total, limit });
        }
        Ok(())
    }
}

fn draw_nulls(
    outcomes: &[Outcome],
    config: &AnalysisConfig,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<NullReport> {
    let mut ranks: BTreeMap<[usize; 2], BTreeSet<usize>> = BTreeMap::new();
    for outcome in outcomes {
        let of_shape = ranks.entry(outcome.updates.shape).or_default();
        of_shape.insert(outcome.pairs[0].rank);
        if outcome.updates.rank > 0 {
            of_shape.insert(outcome.updates.rank);
        }
    }
    let total = ranks.len();
    let done = AtomicUsize::new(0);
    let shapes = ranks
        .into_par_iter()
        .map(|(shape, ranks)| {
            let ranks: Vec<usize> = ranks.into_iter().collect();
            let key = RandomKey::new(config.nulls.seed, "shape null").at(shape[0] as u64).at(shape[1] as u64);
            let nulls = shape_nulls(shape, &ranks, config.nulls.draws, config.nulls.max_dimension, key)?;
            progress(Progress::Nulls { done: done.fetch_add(1, Ordering::Relaxed) + 1, total });
            Ok(nulls)
        })
        .collect::<Result<Vec<_>>>()?
        .concat();

    let mut pooled: BTreeMap<(&str, usize), (Curves, Curves)> = BTreeMap::new();
    for outcome in outcomes {
        // The first ending that selects the matrix, in the order of the settings.
        let Some(suffix) = config.suffixes.iter().find(|suffix| outcome.name.ends_with(suffix.as_str())) else {
            continue;
        };
        let (left, right) = pooled.entry((suffix, outcome.pairs[0].rank)).or_default();
        for (u, v) in &outcome.rounding {
            left.push(u.clone());
            right.push(v.clone());
        }
    }
    let rounding = pooled
        .into_iter()
        .filter(|(_, (left, _))| !left.is_empty())
        .map(|((suffix, rank), (left, right))| {
            let curves = left.len();
            Ok(RoundingNull { suffix: suffix.to_string(), rank, curves, u: band(&left)?, v: band(&right)? })
        })
        .collect::<Result<Vec<_>>>()?;
    let same_file_max_angle = outcomes.iter().map(|outcome| outcome.same_file_angle).fold(0.0, f64::max);
    Ok(NullReport { shapes, rounding, same_file_max_angle })
}

fn assemble(
    outcomes: Vec<Outcome>,
    null: NullReport,
    roles: [(Role, &BTreeMap<String, Tensor>); 3],
    mut counts: BTreeMap<Role, NameCounts>,
    config: &AnalysisConfig,
) -> Result<Comparison> {
    let mut checkpoints = BTreeMap::new();
    for (role, tensors) in roles {
        let report = CheckpointReport {
            num_tensors: tensors.len(),
            num_parameters: tensors.values().map(Tensor::numel).sum(),
            names: counts.remove(&role).unwrap_or_default(),
            weight_sha256: weight_sha256(tensors)?,
            fresh_init_flagged: 0,
            matrices: BTreeMap::new(),
        };
        checkpoints.insert(role, report);
    }
    let mut pairs: BTreeMap<Pair, BTreeMap<String, PairMatrix>> = BTreeMap::new();
    let mut updates = BTreeMap::new();
    for outcome in outcomes {
        for (role, matrix) in ROLES.into_iter().zip(outcome.reports) {
            if let Some(report) = checkpoints.get_mut(&role) {
                report.fresh_init_flagged += usize::from(matrix.fresh_init.flagged);
                report.matrices.insert(outcome.name.clone(), matrix);
            }
        }
        for (pair, matrix) in PAIRS.into_iter().zip(outcome.pairs) {
            pairs.entry(pair).or_default().insert(outcome.name.clone(), matrix);
        }
        updates.insert(outcome.name, outcome.updates);
    }
    let pairs =
        pairs.into_iter().map(|(pair, matrices)| (pair, PairReport { totals: totals(&matrices), matrices })).collect();
    Ok(Comparison { config: config.clone(), checkpoints, pairs, updates, null })
}

fn totals(matrices: &BTreeMap<String, PairMatrix>) -> PairTotals {
    let sum = |value: fn(&PairMatrix) -> f64| matrices.values().map(value).sum::<f64>();
    let count = matrices.len() as f64; // at least one: every ending selects something
    let (residual_energy, weight_energy) = (sum(|m| m.residual_energy), sum(|m| m.weight_energy));
    PairTotals {
        matrices: matrices.len(),
        sigma_drift: sum(|m| m.sigma_drift) / count,
        chordal_distance_u: sum(|m| m.left.angles.chordal_distance) / count,
        chordal_distance_v: sum(|m| m.right.angles.chordal_distance) / count,
        projector_distance: sum(|m| m.left.angles.projector_distance + m.right.angles.projector_distance),
        direction_energy: sum(|m| m.left.direction_energy + m.right.direction_energy),
        retention_loss: sum(|m| m.retention_loss) / count,
        residual_ratio: residual_energy / (weight_energy + TINY),
        residual_norm: residual_energy.sqrt(),
        weight_norm: weight_energy.sqrt(),
        delta_norm: sum(|m| m.delta_norm * m.delta_norm).sqrt(),
    }
}
