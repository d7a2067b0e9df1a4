//! What the objective reads of pairs that went through policy and reference, and its gradient for their tokens.

use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::masked::StepCounts;
use rl_core::preference_loss::{
    NllTerm, NllTokens, PreferenceBatch, PreferenceObjective, PreferenceOutput, ReferenceLogProbs, preference_loss,
    wpo_weights,
};

use crate::Result;
use crate::pair_batch::{PairBatch, PairLayout, TrainingPair};

/// Numbers per pair, `[pairs]` each.
#[derive(Debug, Default)]
pub(super) struct PairScores {
    /// Of the preferred and of the other responses.
    pub log_probs: [Vec<f64>; 2],
    /// The same under the reference; empty without one.
    pub reference: [Vec<f64>; 2],
    lengths: [Vec<usize>; 2],
    /// WPO's; empty unless the objective asks for them.
    weights: Vec<f64>,
}

impl PairScores {
    /// From the log-probabilities of a micro-batch's labels and, for WPO, the same labels' `log sum p^2`.
    pub fn new(
        micro: &PairBatch,
        log_probs: &[f32],
        log_sum_squares: Option<&[f32]>,
        reference: Option<[Vec<f64>; 2]>,
    ) -> Result<Self> {
        let mut weights = Vec::new();
        if let Some(log_sum_squares) = log_sum_squares {
            let rows = micro.micro.num_labels.as_slice();
            let sides = wpo_weights(log_probs, log_sum_squares, &micro.is_response, rows)?;
            weights = sides.chunks_exact(2).map(|sides| sides[0] * sides[1]).collect();
        }
        let (log_probs, lengths) = (micro.sums(log_probs), micro.lengths());
        Ok(PairScores { log_probs, reference: reference.unwrap_or_default(), lengths, weights })
    }

    /// Adds the pairs of another micro-batch.
    pub fn append(&mut self, mut other: Self) {
        for side in [0, 1] {
            self.log_probs[side].append(&mut other.log_probs[side]);
            self.reference[side].append(&mut other.reference[side]);
            self.lengths[side].append(&mut other.lengths[side]);
        }
        self.weights.append(&mut other.weights);
    }

    /// The objective without its supervised term; `num_pairs` counts the step.
    pub fn loss(&self, objective: &PreferenceObjective, num_pairs: usize) -> Result<PreferenceOutput> {
        let [chosen, rejected] = &self.reference;
        let batch = PreferenceBatch {
            chosen_log_probs: &self.log_probs[0],
            rejected_log_probs: &self.log_probs[1],
            reference: objective.needs_reference().then_some(ReferenceLogProbs { chosen, rejected }),
            chosen_lengths: &self.lengths[0],
            rejected_lengths: &self.lengths[1],
            pair_weights: objective.needs_pair_weights().then_some(self.weights.as_slice()),
        };
        Ok(preference_loss(&batch, objective, num_pairs)?)
    }
}

/// The supervised term of an objective over a step.
pub(super) struct Supervised {
    term: NllTerm,
    counts: StepCounts,
}

impl Supervised {
    /// Counts the preferred responses of `pairs` in these micro-batches; none without such a term.
    pub fn new(
        objective: &PreferenceObjective,
        pairs: &[&TrainingPair],
        micro_batches: &[Vec<usize>],
    ) -> Result<Option<Self>> {
        let Some(term) = objective.nll else { return Ok(None) };
        let mut counts = StepCounts::default();
        for indices in micro_batches {
            // As in `PairBatch::chosen_mask`: to the reduction a rejected side is a row without a target.
            let (mut mask, mut rows) = (Vec::new(), Vec::new());
            for &pair in indices {
                let [chosen, rejected] = pairs[pair].sides();
                let covered = match term.tokens {
                    NllTokens::Response => chosen.num_labels(),
                    NllTokens::PromptAndResponse => chosen.ids.len() - 1,
                };
                for (labels, is_covered) in [(covered, true), (rejected.num_labels(), false)] {
                    mask.extend(std::iter::repeat_n(is_covered, labels));
                    rows.push(labels);
                }
            }
            counts = counts.merge(StepCounts::of_micro_batch(&mask, &rows)?);
        }
        Ok(Some(Supervised { term, counts }))
    }

    /// Value and gradient over one micro-batch, `[labels]`, the coefficient included.
    pub fn loss(&self, micro: &PairBatch, log_probs: &[f32]) -> Result<(f64, Vec<f32>)> {
        let mask = micro.chosen_mask(self.term.tokens == NllTokens::PromptAndResponse);
        let weights = self.term.token_weights(&mask, &micro.micro.num_labels, &self.counts)?;
        let loss = cross_entropy_loss(log_probs, &mask, CrossEntropyKind::Nll, &weights)?;
        Ok((loss.loss, loss.grad_log_probs))
    }
}

/// Which labels the objective reads.
pub(super) fn layout(objective: &PreferenceObjective) -> PairLayout {
    let with_prompt = objective.nll.is_some_and(|nll| nll.tokens == NllTokens::PromptAndResponse);
    PairLayout { with_prompt, ld_alpha: objective.ld_alpha }
}
