//! Alignment by optimal transport: losses on sorted log-ratios, so that the step is compared as two distributions.

use super::loss::PreferenceLoss;
use super::pair::{Answer, PairTerm, smoothed};

/// Terms of [`PreferenceLoss::Aot`] and [`PreferenceLoss::AotUnpaired`] over a whole step, or none for another loss.
///
/// A term's loss stands at its rank, its derivatives at the pairs that the rank came from.
pub(super) fn transport_terms(loss: PreferenceLoss, pairs: &[(Answer, Answer)]) -> Option<Vec<PairTerm>> {
    let gather = |key: &dyn Fn(&(Answer, Answer)) -> f64| ranked(pairs.iter().map(key).collect());
    let mut terms = vec![PairTerm::default(); pairs.len()];
    match loss {
        PreferenceLoss::Aot { beta, label_smoothing } => {
            // The slope of a ratio is its length normalisation; the objective refuses a clamp here.
            let policy = |(chosen, rejected): &(Answer, Answer)| {
                chosen.log_prob.value * chosen.ratio.slope - rejected.log_prob.value * rejected.ratio.slope
            };
            let reference = |(chosen, rejected): &(Answer, Answer)| {
                chosen.ref_log_prob * chosen.ratio.slope - rejected.ref_log_prob * rejected.ratio.slope
            };
            let (ours, theirs) = (gather(&policy), gather(&reference));
            for (rank, (&(pair, gap), &(_, ref_gap))) in ours.iter().zip(&theirs).enumerate() {
                let point = smoothed(beta * (gap - ref_gap), label_smoothing);
                terms[rank].loss = point.value;
                terms[pair].chosen = beta * point.slope * pairs[pair].0.ratio.slope;
                terms[pair].rejected = -beta * point.slope * pairs[pair].1.ratio.slope;
            }
        }
        PreferenceLoss::AotUnpaired { beta, label_smoothing } => {
            let (ours, theirs) = (gather(&|pair| pair.0.ratio.value), gather(&|pair| pair.1.ratio.value));
            for (rank, (&(chosen, ratio), &(rejected, other))) in ours.iter().zip(&theirs).enumerate() {
                let point = smoothed(beta * (ratio - other), label_smoothing);
                terms[rank].loss = point.value;
                terms[chosen].chosen = beta * point.slope * pairs[chosen].0.ratio.slope;
                terms[rejected].rejected = -beta * point.slope * pairs[rejected].1.ratio.slope;
            }
        }
        _ => return None,
    }
    Some(terms)
}

/// Values in ascending order with the places they came from; equal values keep their order.
fn ranked(values: Vec<f64>) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = values.into_iter().enumerate().collect();
    ranked.sort_by(|first, second| first.1.total_cmp(&second.1));
    ranked
}
