//! What a step knows of its sampled tokens: flat arrays over all labels, and who trains when.

use std::ops::Range;

use rl_core::masked::{Reduction, StepCounts};
use rl_core::random::RandomKey;

use super::trajectory::Trajectory;
use crate::batch::{TrainingRow, micro_batches};
use crate::{Error, Result};

/// Per-label arrays are `[labels]`, trajectory after trajectory; values and returns are `[labels]` too, or `[turns]` when
/// the critic judges turns.
#[derive(Debug, Default)]
pub(crate) struct Experience {
    /// Labels of each trajectory.
    pub labels: Vec<Range<usize>>,
    /// Turns of each trajectory.
    pub turns: Vec<Range<usize>>,
    /// Labels of each turn, all trajectories together.
    pub turn_lengths: Vec<usize>,
    /// The mask of the loss.
    pub mask: Vec<bool>,
    pub sampler_log_probs: Vec<f32>,
    pub old_log_probs: Option<Vec<f32>>,
    pub ref_log_probs: Option<Vec<f32>>,
    pub entropies: Option<Vec<f32>>,
    pub values: Vec<f32>,
    pub returns: Vec<f32>,
    pub advantages: Vec<f32>,
    /// Divergence of the rollout's policy from the reference: token mean per answer, then mean over answers.
    pub rollout_kl: Option<f64>,
    pub token_weights: Option<Vec<f64>>,
    pub importance: Option<Vec<f64>>,
    /// Tokens that have a loss; the others stay in the denominators.
    pub kept: Option<Vec<bool>>,
    /// Tokens whose policy loss counts by their entropy.
    pub high_entropy: Option<Vec<bool>>,
    /// Share of the groups whose rewards are all the same, where groups are compared.
    pub frac_zero_std: Option<f64>,
    /// Tokens that a covariance objective singles out.
    pub selected: Option<Vec<bool>>,
}

/// One optimizer step of a rollout: its micro-batches as indices of trajectories, and its denominators.
#[derive(Debug)]
pub(crate) struct Minibatch {
    /// Everyone whose tokens the denominators count, also those that need not go through the model.
    share: Vec<usize>,
    pub micro_batches: Vec<Vec<usize>>,
    pub counts: StepCounts,
    /// Turns that the critic learns from, when it judges turns.
    pub num_turns: usize,
}

impl Experience {
    pub fn new(trajectories: &[Trajectory]) -> Self {
        let mut experience = Experience::default();
        let (mut label, mut turn) = (0, 0);
        for trajectory in trajectories {
            let (labels, turns) = (trajectory.num_labels(), trajectory.turns.len());
            experience.labels.push(label..label + labels);
            experience.turns.push(turn..turn + turns);
            experience.turn_lengths.extend(trajectory.turns.iter().map(|turn| turn.num_tokens));
            experience.sampler_log_probs.extend(&trajectory.sampler_log_probs);
            (label, turn) = (label + labels, turn + turns);
        }
        experience.mask = vec![true; label];
        experience
    }

    /// Labels of each trajectory.
    pub fn lengths(&self) -> Vec<usize> {
        self.labels.iter().map(Range::len).collect()
    }

    /// Whether a trajectory has a label in the mask.
    pub fn is_used(&self, trajectory: usize) -> bool {
        self.mask[self.labels[trajectory].clone()].contains(&true)
    }

    /// Which values a critic learns: of labels, or of turns when it judges turns.
    pub fn is_learned(&self, by_turn: bool) -> Vec<bool> {
        if !by_turn {
            return self.mask.clone();
        }
        let of = |index: usize| std::iter::repeat_n(self.is_used(index), self.turns[index].len());
        (0..self.turns.len()).flat_map(of).collect()
    }

    /// Entries of an array over labels, for the chosen trajectories in their order.
    pub fn gather<T: Copy>(&self, array: &[T], chosen: &[usize]) -> Vec<T> {
        chosen.iter().flat_map(|&index| array[self.labels[index].clone()].iter().copied()).collect()
    }

    /// Entries of an array over turns.
    pub fn gather_turns<T: Copy>(&self, array: &[T], chosen: &[usize]) -> Vec<T> {
        chosen.iter().flat_map(|&index| array[self.turns[index].clone()].iter().copied()).collect()
    }

    /// Rows of the policy loss for the chosen trajectories: sequences, or turns where a turn is one action.
    pub fn rows(&self, chosen: &[usize], by_turn: bool) -> Vec<usize> {
        if by_turn {
            return self.gather_turns(&self.turn_lengths, chosen);
        }
        chosen.iter().map(|&index| self.labels[index].len()).collect()
    }

    /// Splits the trajectories of each update into micro-batches, their order shuffled by a key if there is one. Those for
    /// which `trains` is false add nothing to the gradient and do not go through the model. Denominators are still to be
    /// counted.
    pub fn minibatches(
        &self,
        trajectories: &[Trajectory],
        updates: usize,
        shuffle: Option<RandomKey>,
        micro_batch_tokens: usize,
        trains: impl Fn(usize) -> bool,
    ) -> Result<Vec<Minibatch>> {
        let mut used: Vec<usize> = (0..trajectories.len()).filter(|&index| self.is_used(index)).collect();
        if let Some(key) = shuffle {
            key.shuffle(&mut used);
        }
        if used.is_empty() {
            return Err(Error::NothingScored { samples: trajectories.len() });
        }
        let mut minibatches = Vec::with_capacity(updates);
        let bounds = |update: usize| update * used.len() / updates;
        let shares = (0..updates).map(|update| &used[bounds(update)..bounds(update + 1)]);
        for share in shares.filter(|share| !share.is_empty()) {
            let rows: Vec<&TrainingRow> = share.iter().map(|&index| &trajectories[index].row).collect();
            let passing: Vec<usize> = (0..share.len()).filter(|&place| trains(share[place])).collect();
            let rows: Vec<&TrainingRow> = passing.iter().map(|&place| rows[place]).collect();
            let batches = micro_batches(&rows, micro_batch_tokens).into_iter();
            let micro_batches: Vec<Vec<usize>> =
                batches.map(|batch| batch.into_iter().map(|row| share[passing[row]]).collect()).collect();
            let num_turns = share.iter().map(|&index| self.turns[index].len()).sum();
            minibatches.push(Minibatch {
                share: share.to_vec(),
                micro_batches,
                counts: StepCounts::default(),
                num_turns,
            });
        }
        Ok(minibatches)
    }

    /// Counts the denominators of an update by the mask as it stands.
    pub fn count(&self, minibatch: &mut Minibatch, by_turn: bool) -> Result<()> {
        let mask = self.gather(&self.mask, &minibatch.share);
        minibatch.counts = StepCounts::of_micro_batch(&mask, &self.rows(&minibatch.share, by_turn))?;
        minibatch.counts.num_micro_batches = minibatch.micro_batches.len();
        Ok(())
    }

    /// Weights of the loss over the labels of the chosen trajectories.
    pub fn loss_weights(
        &self,
        reduction: Reduction,
        chosen: &[usize],
        by_turn: bool,
        counts: &StepCounts,
    ) -> Result<Vec<f64>> {
        let mask = self.gather(&self.mask, chosen);
        let mut weights = reduction.token_weights(&mask, &self.rows(chosen, by_turn), counts)?;
        if let Some(kept) = &self.kept {
            leave_out(&mut weights, &self.gather(kept, chosen));
        }
        Ok(weights)
    }
}

/// Takes the weight of the tokens that are not kept; denominators stay.
pub(super) fn leave_out(weights: &mut [f64], kept: &[bool]) {
    weights.iter_mut().zip(kept).filter(|(_, kept)| !**kept).for_each(|(weight, _)| *weight = 0.0);
}
