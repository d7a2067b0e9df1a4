//! Alignment by optimal transport: losses on sorted log-ratios, so that the step is compared as two distributions.

use super::pair::{Answer, PairTerm, smoothed};

/// Terms of [`PreferenceLoss::Aot`](super::PreferenceLoss::Aot) over a whole step.
///
/// A term's loss stands at its rank, its derivatives at the pairs that the rank came from.
pub(super) fn aot_terms(beta: f64, label_smoothing: f64, pairs: &[(Answer, Answer)]) -> Vec<PairTerm> {
    // The slope of a ratio is its length normalisation; the objective refuses a clamp here.
    let policy = ranked(pairs, |(chosen, rejected)| {
        chosen.log_prob.value * chosen.ratio.slope - rejected.log_prob.value * rejected.ratio.slope
    });
    let reference = ranked(pairs, |(chosen, rejected)| {
        chosen.ref_log_prob * chosen.ratio.slope - rejected.ref_log_prob * rejected.ratio.slope
    });
    let mut terms = vec![PairTerm::default(); pairs.len()];
    for (rank, (&(pair, gap), &(_, ref_gap))) in policy.iter().zip(&reference).enumerate() {
        let point = smoothed(beta * (gap - ref_gap), label_smoothing);
        terms[rank].loss = point.value;
        terms[pair].chosen = beta * point.slope * pairs[pair].0.ratio.slope;
        terms[pair].rejected = -beta * point.slope * pairs[pair].1.ratio.slope;
    }
    terms
}

/// Terms of [`PreferenceLoss::AotUnpaired`](super::PreferenceLoss::AotUnpaired) over a whole step, placed likewise.
pub(super) fn aot_unpaired_terms(beta: f64, label_smoothing: f64, pairs: &[(Answer, Answer)]) -> Vec<PairTerm> {
    let (ours, theirs) = (ranked(pairs, |pair| pair.0.ratio.value), ranked(pairs, |pair| pair.1.ratio.value));
    let mut terms = vec![PairTerm::default(); pairs.len()];
    for (rank, (&(chosen, ratio), &(rejected, other))) in ours.iter().zip(&theirs).enumerate() {
        let point = smoothed(beta * (ratio - other), label_smoothing);
        terms[rank].loss = point.value;
        terms[chosen].chosen = beta * point.slope * pairs[chosen].0.ratio.slope;
        terms[rejected].rejected = -beta * point.slope * pairs[rejected].1.ratio.slope;
    }
    terms
}

/// Pairs in ascending order of a number, as `(place, number)`; equal numbers keep their order.
fn ranked(pairs: &[(Answer, Answer)], number: impl Fn(&(Answer, Answer)) -> f64) -> Vec<(usize, f64)> {
    let mut ranked: Vec<(usize, f64)> = pairs.iter().map(number).enumerate().collect();
    ranked.sort_by(|first, second| first.1.total_cmp(&second.1));
    ranked
}
