//! An objective over a batch of pairs: value, gradients, implicit rewards, counts.

use super::loss::PreferenceLoss;
use super::objective::PreferenceObjective;
use super::pair::{Answer, Linked, PairTerm, Side, pair_term};
use super::transport::{aot_terms, aot_unpaired_terms};
use crate::error::{Error, Result, ensure, finite, same_length};

/// Pairs of answers, one number per pair and side; all slices are `[pairs]`.
#[derive(Debug, Clone, Copy)]
pub struct PreferenceBatch<'a> {
    /// Sum over each chosen answer's response tokens (weighted under LD-DPO), under the policy.
    pub chosen_log_probs: &'a [f64],
    /// The same of the rejected answers.
    pub rejected_log_probs: &'a [f64],
    /// The same under the reference policy; not read when no loss needs it.
    pub reference: Option<ReferenceLogProbs<'a>>,
    /// Response tokens of each chosen answer; read by what divides by a length.
    pub chosen_lengths: &'a [usize],
    /// Response tokens of each rejected answer.
    pub rejected_lengths: &'a [usize],
    /// What each pair's loss is multiplied by, a constant; given if and only if the objective says `wpo`.
    pub pair_weights: Option<&'a [f64]>,
}

/// Log-probabilities of the same answers under the frozen reference policy, summed likewise; `[pairs]`.
#[derive(Debug, Clone, Copy)]
pub struct ReferenceLogProbs<'a> {
    /// Of the chosen answers.
    pub chosen: &'a [f64],
    /// Of the rejected answers.
    pub rejected: &'a [f64],
}

/// Value, gradients and rewards of [`preference_loss`].
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceOutput {
    /// The loss: this call's share of the step's mean over pairs.
    pub loss: f64,
    /// Each loss of the objective by itself, likewise a share, before its weight.
    pub parts: Vec<f64>,
    /// Gradient with respect to `chosen_log_probs`, `[pairs]`. Every response token of the answer has this gradient, times
    /// its LD-DPO weight.
    pub grad_chosen_log_probs: Vec<f64>,
    /// Gradient with respect to `rejected_log_probs`, `[pairs]`.
    pub grad_rejected_log_probs: Vec<f64>,
    /// Implicit rewards of the chosen answers, `[pairs]`: `beta` of the first loss times the log-ratio, after length
    /// normalisation and clamp; for a reference-free loss times what it compares. ORPO and SimPO: the mean log-probability.
    pub chosen_rewards: Vec<f64>,
    /// Implicit rewards of the rejected answers, `[pairs]`.
    pub rejected_rewards: Vec<f64>,
    /// Sums and counts over this call's pairs.
    pub statistics: PreferenceStatistics,
}

/// Sums over pairs, to be merged over micro-batches and ranks.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct PreferenceStatistics {
    /// Pairs.
    pub num_pairs: usize,
    /// Pairs whose chosen reward is strictly the larger.
    pub num_correct: usize,
    /// Sum of the chosen rewards.
    pub sum_chosen_reward: f64,
    /// Sum of the rejected rewards.
    pub sum_rejected_reward: f64,
    /// Answers whose log-ratio passed `ratio_clamp`, so that they have no gradient.
    pub num_clamped_ratios: usize,
    /// Scores whose exponent was clamped, and mean log-probabilities too near 0 for their odds: no gradient either. Each
    /// loss that meets one counts it.
    pub num_clamped_scores: usize,
}

impl PreferenceStatistics {
    /// Both sets of pairs together.
    pub fn merge(self, other: Self) -> Self {
        PreferenceStatistics {
            num_pairs: self.num_pairs + other.num_pairs,
            num_correct: self.num_correct + other.num_correct,
            sum_chosen_reward: self.sum_chosen_reward + other.sum_chosen_reward,
            sum_rejected_reward: self.sum_rejected_reward + other.sum_rejected_reward,
            num_clamped_ratios: self.num_clamped_ratios + other.num_clamped_ratios,
            num_clamped_scores: self.num_clamped_scores + other.num_clamped_scores,
        }
    }

    /// Share of pairs in the right order, ties counted as wrong; none when there are no pairs.
    pub fn accuracy(&self) -> Option<f64> {
        (self.num_pairs > 0).then(|| self.num_correct as f64 / self.num_pairs as f64)
    }

    /// Mean of chosen less rejected reward; none when there are no pairs.
    pub fn mean_margin(&self) -> Option<f64> {
        (self.num_pairs > 0).then(|| (self.sum_chosen_reward - self.sum_rejected_reward) / self.num_pairs as f64)
    }
}

/// An objective over pairs: `sum over losses of weight * mean over pairs`, its gradients and the implicit rewards.
///
/// `num_pairs` counts the pairs of the whole step, so that micro-batches add up exactly. An objective that is not
/// [separable](PreferenceObjective::is_separable) takes the whole step in one call. The supervised term is not part of
/// this: see [`NllTerm`](super::NllTerm).
///
/// # Errors
/// A setting is bad, lengths differ, an input that is needed is missing, `num_pairs` does not cover the call, or a number
/// that is read or made is not finite. Log-ratios so large that a loss overflows are that last error, never NaN.
pub fn preference_loss(
    batch: &PreferenceBatch<'_>,
    objective: &PreferenceObjective,
    num_pairs: usize,
) -> Result<PreferenceOutput> {
    objective.validate()?;
    let pairs = batch.check(objective, num_pairs)?;
    let mut statistics = PreferenceStatistics { num_pairs: pairs, ..PreferenceStatistics::default() };
    let answers = (0..pairs)
        .map(|index| {
            let chosen = batch.answer(Side::Chosen, index, objective, &mut statistics)?;
            Ok((chosen, batch.answer(Side::Rejected, index, objective, &mut statistics)?))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut output = PreferenceOutput {
        loss: 0.0,
        parts: Vec::with_capacity(objective.losses.len()),
        grad_chosen_log_probs: vec![0.0; pairs],
        grad_rejected_log_probs: vec![0.0; pairs],
        chosen_rewards: Vec::with_capacity(pairs),
        rejected_rewards: Vec::with_capacity(pairs),
        statistics,
    };
    for part in &objective.losses {
        let terms = terms(part.loss, &answers)?;
        let mut value = 0.0;
        for (index, term) in terms.iter().enumerate() {
            let share = batch.pair_weights.map_or(1.0, |weights| weights[index]) / num_pairs as f64;
            value += share * finite("preference_loss", index, term.loss)?;
            output.grad_chosen_log_probs[index] += part.weight * share * term.chosen;
            output.grad_rejected_log_probs[index] += part.weight * share * term.rejected;
            output.statistics.num_clamped_scores += term.num_clamped;
        }
        output.loss += part.weight * value;
        output.parts.push(value);
    }
    finite("preference_loss", pairs, output.loss)?;
    for index in 0..pairs {
        finite("grad_chosen_log_probs", index, output.grad_chosen_log_probs[index])?;
        finite("grad_rejected_log_probs", index, output.grad_rejected_log_probs[index])?;
    }
    output.reward(objective.losses[0].loss, &answers)?;
    Ok(output)
}

fn terms(loss: PreferenceLoss, answers: &[(Answer, Answer)]) -> Result<Vec<PairTerm>> {
    match loss {
        PreferenceLoss::Aot { beta, label_smoothing } => Ok(aot_terms(beta, label_smoothing, answers)),
        PreferenceLoss::AotUnpaired { beta, label_smoothing } => Ok(aot_unpaired_terms(beta, label_smoothing, answers)),
        _ => answers.iter().map(|(chosen, rejected)| pair_term(loss, chosen, rejected)).collect(),
    }
}

impl PreferenceOutput {
    fn reward(&mut self, loss: PreferenceLoss, answers: &[(Answer, Answer)]) -> Result<()> {
        for (index, (chosen, rejected)) in answers.iter().enumerate() {
            let chosen = finite("chosen_rewards", index, chosen.reward(loss)?)?;
            let rejected = finite("rejected_rewards", index, rejected.reward(loss)?)?;
            self.statistics.num_correct += usize::from(chosen > rejected);
            self.statistics.sum_chosen_reward += chosen;
            self.statistics.sum_rejected_reward += rejected;
            self.chosen_rewards.push(chosen);
            self.rejected_rewards.push(rejected);
        }
        Ok(())
    }
}

impl PreferenceBatch<'_> {
    /// Checks shapes and what must be there; gives the number of pairs.
    fn check(&self, objective: &PreferenceObjective, num_pairs: usize) -> Result<usize> {
        let pairs = self.chosen_log_probs.len();
        let same = |name, length| same_length(name, length, "chosen_log_probs", pairs);
        same("rejected_log_probs", self.rejected_log_probs.len())?;
        same("chosen_lengths", self.chosen_lengths.len())?;
        same("rejected_lengths", self.rejected_lengths.len())?;
        if num_pairs == 0 {
            return Err(Error::EmptyBatch { what: "pairs of the step" });
        }
        if objective.is_separable() {
            let limit = "must count every pair of the step, this call's included";
            ensure(pairs <= num_pairs, "num_pairs", num_pairs as f64, limit)?;
        } else {
            let limit = "must be the pairs of this call: this objective sorts over the step and takes it whole";
            ensure(pairs == num_pairs, "num_pairs", num_pairs as f64, limit)?;
        }
        if objective.needs_reference() {
            let Some(reference) = &self.reference else {
                return Err(Error::Missing { name: "reference", needed_by: "a loss on log-ratios" });
            };
            same("reference.chosen", reference.chosen.len())?;
            same("reference.rejected", reference.rejected.len())?;
        }
        match (objective.wpo, self.pair_weights) {
            (true, None) => return Err(Error::Missing { name: "pair_weights", needed_by: "wpo" }),
            (false, Some(_)) => {
                let reason = "the objective does not say wpo, so the weights would change it unasked";
                return Err(Error::Conflict { first: "pair_weights", second: "objective", reason });
            }
            (true, Some(weights)) => {
                same("pair_weights", weights.len())?;
                for (index, &weight) in weights.iter().enumerate() {
                    finite("pair_weights", index, weight)?;
                    if weight < 0.0 {
                        let limit = "must not be negative";
                        return Err(Error::OutOfRange { name: "pair_weights", index, value: weight, limit });
                    }
                }
            }
            (false, None) => {}
        }
        Ok(pairs)
    }

    /// One answer with what the objective makes of its log-ratio; clamps are counted.
    fn answer(
        &self,
        side: Side,
        index: usize,
        objective: &PreferenceObjective,
        statistics: &mut PreferenceStatistics,
    ) -> Result<Answer> {
        let (log_probs, length) = match side {
            Side::Chosen => (self.chosen_log_probs, self.chosen_lengths[index]),
            Side::Rejected => (self.rejected_log_probs, self.rejected_lengths[index]),
        };
        let log_prob = finite(side.log_probs(), index, log_probs[index])?;
        let mut answer = Answer {
            log_prob: Linked { value: log_prob, slope: 1.0 },
            ref_log_prob: 0.0,
            ratio: Linked::default(),
            score: Linked::default(),
            length,
            side,
            index,
        };
        // Where no loss needs the reference it is not read, whatever it holds.
        let Some(reference) = self.reference.filter(|_| objective.needs_reference()) else { return Ok(answer) };
        let reference = match side {
            Side::Chosen => reference.chosen,
            Side::Rejected => reference.rejected,
        };
        answer.ref_log_prob = finite(side.reference(), index, reference[index])?;
        let ratio = finite("log_ratio", index, log_prob - answer.ref_log_prob)?;
        answer.ratio = Linked { value: ratio, slope: 1.0 };
        if objective.length_norm {
            answer.ratio = answer.per_token(answer.ratio)?;
        }
        if let Some(limit) = objective.ratio_clamp.filter(|&limit| answer.ratio.value.abs() > limit) {
            answer.ratio = Linked { value: limit.copysign(ratio), slope: 0.0 };
            statistics.num_clamped_ratios += 1;
        }
        let score = objective.f_divergence.score(answer.ratio.value);
        statistics.num_clamped_scores += usize::from(score.clamped);
        answer.score = Linked { value: score.value, slope: score.slope * answer.ratio.slope };
        Ok(answer)
    }
}
