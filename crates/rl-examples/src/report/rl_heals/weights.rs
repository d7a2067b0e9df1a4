//! What happened to the weights, in a few numbers, and the two claims about them.

use std::collections::BTreeMap;

use rl_analysis::nulls::{Band, ShapeNull};
use rl_analysis::report::{PairMatrix, PairReport, RoundingNull};
use rl_analysis::{Comparison, Pair};
use serde::Serialize;

use super::claims::{Claim, Verdict, claim};
use crate::report::words::percent;

/// Mean relative change of singular values up to which they are called stable. The published value is about 0.003.
const STABLE_DRIFT: f64 = 0.01;
/// Share of matrix sides that must leave a null band for the whole to be called outside it.
const MAJORITY: f64 = 0.5;

/// The weights of three checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightNumbers {
    /// From the best checkpoint of fine-tuning to the last.
    pub sft: PairNumbers,
    /// From the last checkpoint of fine-tuning to the end of reinforcement learning.
    pub rl: PairNumbers,
    /// From the best checkpoint of fine-tuning to the end of reinforcement learning.
    pub both: PairNumbers,
    /// The update of reinforcement learning against that of fine-tuning.
    pub updates: UpdateNumbers,
    /// Hash of all weights by role.
    pub weight_sha256: BTreeMap<String, String>,
    /// Analysed matrices that look freshly initialised, by role.
    pub fresh_init_flagged: BTreeMap<String, usize>,
    /// Whether more of them do than the analysis allows.
    pub looks_fresh: bool,
}

/// Two checkpoints; angles in degrees.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairNumbers {
    /// Matrices compared.
    pub matrices: usize,
    /// Mean over matrices of the mean relative change of a singular value.
    pub sigma_drift: f64,
    /// Frobenius norm of the update over that of the later weights.
    pub relative_update: f64,
    /// Mean principal angle of the leading subspaces, over matrices and both sides; forced zeros left out.
    pub angle: f64,
    /// The same of the rounding null's upper end; absent if it was not drawn.
    pub rounding_angle: Option<f64>,
    /// The same of the lower end of the null of unrelated matrices.
    pub independent_angle: Option<f64>,
    /// Share of matrix sides whose mean angle is above the rounding null.
    pub share_above_rounding: Option<f64>,
    /// Share of matrix sides whose mean angle reaches the band of unrelated matrices.
    pub share_unrelated: Option<f64>,
}

/// Two updates in a row; angles in degrees.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UpdateNumbers {
    /// Matrix sides compared.
    pub sides: usize,
    /// Mean principal angle.
    pub angle: Option<f64>,
    /// Share of sides whose mean angle is below the band of two unrelated updates that share a weight.
    pub share_below_shared_term: Option<f64>,
    /// Share of sides above it.
    pub share_above_shared_term: Option<f64>,
}

impl WeightNumbers {
    /// The numbers of a comparison.
    pub fn new(comparison: &Comparison) -> Self {
        let by_role = comparison.checkpoints.iter();
        let limit = |selected: usize| comparison.config.fresh_init.max_share * selected as f64;
        WeightNumbers {
            sft: PairNumbers::new(comparison, Pair::BaseToTarget),
            rl: PairNumbers::new(comparison, Pair::TargetToOther),
            both: PairNumbers::new(comparison, Pair::BaseToOther),
            updates: UpdateNumbers::new(comparison),
            weight_sha256: by_role
                .clone()
                .map(|(role, report)| (role.name().to_owned(), report.weight_sha256.clone()))
                .collect(),
            fresh_init_flagged: by_role
                .clone()
                .map(|(role, report)| (role.name().to_owned(), report.fresh_init_flagged))
                .collect(),
            looks_fresh: by_role
                .clone()
                .any(|(_, report)| limit(report.names.selected) < report.fresh_init_flagged as f64),
        }
    }
}

impl PairNumbers {
    fn new(comparison: &Comparison, pair: Pair) -> Self {
        let empty = BTreeMap::new();
        let report: Option<&PairReport> = comparison.pairs.get(&pair);
        let matrices = report.map_or(&empty, |report| &report.matrices);
        let mut sides = Sides::default();
        for (name, matrix) in matrices {
            sides.add(comparison, name, matrix);
        }
        let totals = report.map(|report| &report.totals);
        PairNumbers {
            matrices: matrices.len(),
            sigma_drift: totals.map_or(0.0, |totals| totals.sigma_drift),
            relative_update: totals.map_or(0.0, |totals| totals.delta_norm / totals.weight_norm),
            angle: mean(&sides.angles).unwrap_or(0.0),
            rounding_angle: mean(&sides.rounding),
            independent_angle: mean(&sides.independent),
            share_above_rounding: mean(&sides.above_rounding),
            share_unrelated: mean(&sides.unrelated),
        }
    }
}

/// One entry per matrix side that has the null in question.
#[derive(Default)]
struct Sides {
    angles: Vec<f64>,
    rounding: Vec<f64>,
    independent: Vec<f64>,
    above_rounding: Vec<f64>,
    unrelated: Vec<f64>,
}

impl Sides {
    fn add(&mut self, comparison: &Comparison, name: &str, matrix: &PairMatrix) {
        let shape = shape_null(comparison, matrix.shape, matrix.rank);
        let rounding = rounding_null(comparison, name, matrix.rank);
        let bands = |pick: fn(&RoundingNull) -> &Band| rounding.map(pick);
        let sides = [
            (
                &matrix.principal_angle_U,
                shape.map(|null| (&null.independent_u, null.facts_u.forced_zeros)),
                bands(|null| &null.u),
            ),
            (
                &matrix.principal_angle_V,
                shape.map(|null| (&null.independent_v, null.facts_v.forced_zeros)),
                bands(|null| &null.v),
            ),
        ];
        for (angles, independent, rounding) in sides {
            let zeros = independent.map_or(0, |(_, zeros)| zeros);
            let Some(angle) = mean_degrees(angles, zeros) else { continue };
            self.angles.push(angle);
            if let Some(edge) = rounding.and_then(|band| mean_degrees(&band.upper, zeros)) {
                self.rounding.push(edge);
                self.above_rounding.push(f64::from(u8::from(edge < angle)));
            }
            if let Some(edge) = independent.and_then(|(band, _)| mean_degrees(&band.lower, zeros)) {
                self.independent.push(edge);
                self.unrelated.push(f64::from(u8::from(edge <= angle)));
            }
        }
    }
}

impl UpdateNumbers {
    fn new(comparison: &Comparison) -> Self {
        let (mut angles, mut below, mut above) = (Vec::new(), Vec::new(), Vec::new());
        for update in comparison.updates.values() {
            let Some(null) = shape_null(comparison, update.shape, update.rank) else { continue };
            let sides = [
                (&update.principal_angle_U, &null.shared_term_u, null.facts_u.forced_zeros),
                (&update.principal_angle_V, &null.shared_term_v, null.facts_v.forced_zeros),
            ];
            for (curve, band, zeros) in sides {
                let edges = (mean_degrees(&band.lower, zeros), mean_degrees(&band.upper, zeros));
                let (Some(angle), (Some(low), Some(high))) = (mean_degrees(curve, zeros), edges) else { continue };
                angles.push(angle);
                below.push(f64::from(u8::from(angle < low)));
                above.push(f64::from(u8::from(high < angle)));
            }
        }
        UpdateNumbers {
            sides: angles.len(),
            angle: mean(&angles),
            share_below_shared_term: mean(&below),
            share_above_shared_term: mean(&above),
        }
    }
}

fn shape_null(comparison: &Comparison, shape: [usize; 2], rank: usize) -> Option<&ShapeNull> {
    comparison.null.shapes.iter().find(|null| null.shape == shape && null.rank == rank)
}

fn rounding_null<'a>(comparison: &'a Comparison, name: &str, rank: usize) -> Option<&'a RoundingNull> {
    comparison.null.rounding.iter().find(|null| name.ends_with(&null.suffix) && null.rank == rank)
}

/// Mean in degrees of the angles after the first `zeros`, which are 0 for any pair of subspaces.
fn mean_degrees(angles: &[f64], zeros: usize) -> Option<f64> {
    mean(angles.get(zeros..)?).map(f64::to_degrees)
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Why nothing can be said about these weights, if that is so.
fn obstacle(numbers: &WeightNumbers) -> Option<&'static str> {
    if numbers.looks_fresh {
        return Some(
            "More matrices than allowed look freshly initialised, and independent random matrices have equal \
                     spectra and unrelated vectors anyway.",
        );
    }
    if numbers.sft.matrices == 0 || numbers.sft.relative_update == 0.0 || numbers.rl.relative_update == 0.0 {
        return Some("Two of the compared checkpoints have the same weights, so there is no change to measure.");
    }
    None
}

/// C5: singular values are stable.
pub(super) fn stable_values(numbers: &WeightNumbers) -> Claim {
    let statement = "Singular values hardly change";
    if let Some(reason) = obstacle(numbers) {
        return claim("C5", statement, Verdict::NotDecidable, reason.into(), []);
    }
    let (sft, rl) = (&numbers.sft, &numbers.rl);
    let stable = sft.sigma_drift < STABLE_DRIFT && rl.sigma_drift < STABLE_DRIFT;
    let evidence = format!(
        "The mean relative change of a singular value was {} from the best OOD checkpoint to the end of SFT and {} in \
         RL; the limit set here is {}. The updates have {} and {} of the weights' norm, and no singular value can move \
         by more than the norm of the update, so small updates alone make small changes.",
        small_percent(sft.sigma_drift),
        small_percent(rl.sigma_drift),
        percent(STABLE_DRIFT),
        small_percent(sft.relative_update),
        small_percent(rl.relative_update)
    );
    let verdict = if stable { Verdict::Shown } else { Verdict::NotShown };
    claim("C5", statement, verdict, evidence, [])
}

/// C6: singular vectors rotate, by more than the nulls explain.
///
/// Above the rounding null, or nothing but the file format was measured; below the null of unrelated matrices, or the
/// checkpoints have nothing to do with each other.
pub(super) fn rotating_vectors(numbers: &WeightNumbers) -> Claim {
    let statement = "Singular vectors rotate by more than the null models";
    if let Some(reason) = obstacle(numbers) {
        return claim("C6", statement, Verdict::NotDecidable, reason.into(), []);
    }
    let pairs = [("from the best OOD checkpoint to the end of SFT", &numbers.sft), ("in RL", &numbers.rl)];
    let mut verdict = Verdict::Shown;
    let mut parts = Vec::new();
    for (label, pair) in pairs {
        let (Some(above), Some(unrelated)) = (pair.share_above_rounding, pair.share_unrelated) else {
            let reason = "Null bands are missing, and an angle without its null says nothing.";
            return claim("C6", statement, Verdict::NotDecidable, reason.into(), []);
        };
        if above <= MAJORITY || MAJORITY <= unrelated {
            verdict = Verdict::NotShown;
        }
        parts.push(format!(
            "{label} the mean principal angle was {} (rounding null up to {}, unrelated matrices from {}); {} of the \
             matrix sides are above the rounding null and {} reach the unrelated band",
            degrees(Some(pair.angle)),
            degrees(pair.rounding_angle),
            degrees(pair.independent_angle),
            percent(above),
            percent(unrelated)
        ));
    }
    let updates = &numbers.updates;
    let shared = match (updates.share_below_shared_term, updates.share_above_shared_term) {
        (Some(below), Some(above)) => format!(
            " The update of RL stands at {} to that of SFT; {} of the sides are below the band of two unrelated \
             updates that share a weight, and {} above it.",
            degrees(updates.angle),
            percent(below),
            percent(above)
        ),
        _ => String::new(),
    };
    let evidence = format!(
        "Over {} matrices, {}.{shared} Any change of weights turns vectors, and a random update of the same size was \
         not drawn as a null: this says that directions moved, not that training chose them.",
        numbers.sft.matrices,
        parts.join("; ")
    );
    claim("C6", statement, verdict, evidence, [])
}

/// Two significant digits of a share that may be tiny.
pub(super) fn small_percent(share: f64) -> String {
    let value = 100.0 * share;
    if value == 0.0 || 1.0 <= value {
        return format!("{value:.1} %");
    }
    let digits = (1.0 - value.log10().floor()) as usize;
    if value < 1e-3 { format!("{value:.1e} %") } else { format!("{value:.digits$} %") }
}

/// Degrees with digits enough for angles of rounding noise.
pub(super) fn degrees(angle: Option<f64>) -> String {
    match angle {
        None => "–".into(),
        Some(angle) if angle != 0.0 && angle < 0.01 => format!("{angle:.1e}°"),
        Some(angle) => format!("{angle:.2}°"),
    }
}
