//! From rewards to advantages, and everything about the sampled tokens that a step needs before its first update.
//!
//! The reward of an answer is one number or, by finer credit assignment, one per token; the shaping pipeline and the
//! estimators of `rl_core` take either.

use rl_core::advantages::{RewardAggregation, TokenAdvantages, combine_rewards, whiten};
use rl_core::kl::{kl_estimates, sequence_mean_kl};
use rl_core::masked::Reduction;
use rl_core::policy_loss::{PolicyInputs, PolicyObjective};
use rl_core::random::RandomKey;
use rl_core::returns::episode_gae;
use rl_core::rewards::{RewardInputs, RewardStep, Rewards};
use rl_core::rows::Rows;
use rl_core::selection::{Selection, drop_high_kl, entropy_threshold, keep_high_entropy};
use serde::Serialize;

use super::experience::{Experience, Minibatch};
use super::trajectory::Trajectory;
use super::{Rl, Rollout};
use crate::batch::{MicroBatch, TrainingRow, to_host};
use crate::config::TurnAdvantage;
use crate::{Error, Result};

/// Advantages of one rollout, kept for the analysis of their distribution.
#[derive(Serialize)]
pub(super) struct AdvantageRecord<'a> {
    pub step: u64,
    pub advantages: &'a [f32],
    pub rewards: &'a [Option<f64>],
}

/// One advantage per turn where turns are judged, else the mean over each answer's trained tokens.
pub(super) fn record(experience: &Experience, by_turn: bool) -> Vec<f32> {
    let per_turn = || {
        let mut start = 0;
        experience.turn_lengths.iter().map(move |&length| {
            start += length;
            start - length..start
        })
    };
    let ranges: Vec<_> = if by_turn { per_turn().collect() } else { experience.labels.clone() };
    let mean = |range: std::ops::Range<usize>| {
        let trained: Vec<f32> =
            range.filter(|&index| experience.mask[index]).map(|index| experience.advantages[index]).collect();
        trained.iter().sum::<f32>() / trained.len().max(1) as f32
    };
    ranges.into_iter().map(mean).collect()
}

impl Rl {
    /// Old and reference log-probabilities, values, advantages, selections; then who trains when.
    ///
    /// The passes here run the micro-batches and the numerics of the updates, so the first ratio is exactly 1.
    pub(super) fn prepare(
        &mut self,
        step: u64,
        rollout: &Rollout,
        experience: &mut Experience,
    ) -> Result<Vec<Minibatch>> {
        let trajectories = &rollout.trajectories;
        for (index, trajectory) in trajectories.iter().enumerate() {
            if trajectory.reward.is_none() {
                experience.mask[experience.labels[index].clone()].fill(false);
            }
        }
        // Advantages that need no model come first: an answer that then teaches nothing is not computed at all.
        let advantages_first = !self.kl_in_reward() && !self.config.needs_values();
        if advantages_first {
            self.set_advantages(rollout, experience)?;
        }
        let mut minibatches = self.minibatches(step, 0, trajectories, experience, advantages_first)?;
        if self.needs_scoring() {
            for minibatch in &mut minibatches {
                self.score_tokens(trajectories, experience, minibatch)?;
            }
        }
        if !experience.mask.contains(&true) {
            self.learner.guard().end_step()?; // all of it was skipped
            experience.advantages = vec![0.0; experience.mask.len()];
            return Ok(Vec::new());
        }
        if !advantages_first {
            self.set_advantages(rollout, experience)?;
        }
        for minibatch in &mut minibatches {
            experience.count(minibatch, self.config.acts_by_turn())?;
        }
        self.select(step, experience)?;
        Ok(minibatches)
    }

    /// Whether something must be known of the policy before the first update. With one update per rollout, old
    /// log-probabilities are those of the update itself.
    fn needs_scoring(&self) -> bool {
        let config = &self.config;
        1 < config.updates.total()
            || self.reference.is_some()
            || self.critic.is_some()
            || config.importance.is_some()
            || config.selection.max_off_policy_kl.is_some()
            || config.selection.top_entropy_fraction.is_some()
            || config.selection.rejection.is_some()
            || matches!(config.objective, PolicyObjective::ClipCov(_) | PolicyObjective::KlCov(_))
    }

    /// The shares of a further pass over the rollout, drawn anew.
    pub(super) fn reshuffled(
        &self,
        step: u64,
        epoch: usize,
        trajectories: &[Trajectory],
        experience: &Experience,
    ) -> Result<Vec<Minibatch>> {
        let mut minibatches = self.minibatches(step, epoch, trajectories, experience, true)?;
        for minibatch in &mut minibatches {
            experience.count(minibatch, self.config.acts_by_turn())?;
        }
        Ok(minibatches)
    }

    fn minibatches(
        &self,
        step: u64,
        epoch: usize,
        trajectories: &[Trajectory],
        experience: &Experience,
        advantages_known: bool,
    ) -> Result<Vec<Minibatch>> {
        let config = &self.config;
        let key = || RandomKey::new(config.seed, "minibatches").at(step).at(epoch as u64);
        let shuffle = config.updates.shuffle.then(key);
        // These add to the gradient of a token also where its advantage is 0.
        let other_terms = self.kl.is_some()
            || self.entropy.is_some()
            || matches!(config.objective, PolicyObjective::KlCov(_) | PolicyObjective::Dro(_));
        // Its denominators are those of the micro-batches, which are then others.
        let is_local = config.reduction == Reduction::TokenMeanLocal;
        let skips = advantages_known && !other_terms && !is_local && !self.needs_scoring();
        let teaches =
            |index: usize| !skips || experience.labels[index].clone().any(|label| experience.advantages[label] != 0.0);
        let (updates, tokens) = (config.updates.per_epoch, config.training.micro_batch_tokens);
        experience.minibatches(trajectories, updates, shuffle, tokens, teaches)
    }

    /// One pass of policy, reference and critic over the micro-batches of an update, nothing recorded. A micro-batch with
    /// numbers that are not finite ends the run, or leaves the update with its answers, as the policy for them says.
    fn score_tokens(
        &mut self,
        trajectories: &[Trajectory],
        experience: &mut Experience,
        minibatch: &mut Minibatch,
    ) -> Result<()> {
        let mut scored = Vec::with_capacity(minibatch.micro_batches.len());
        for chosen in std::mem::take(&mut minibatch.micro_batches) {
            let result = self.score_micro_batch(trajectories, experience, &chosen);
            let rows = || chosen.iter().map(|&index| trajectories[index].row.id).collect();
            match result {
                Ok(()) => scored.push(chosen),
                Err(error) => {
                    self.learner.guard().admit::<()>(rows, Err(error))?;
                    chosen.iter().for_each(|&index| experience.mask[experience.labels[index].clone()].fill(false));
                }
            }
        }
        minibatch.micro_batches = scored;
        Ok(())
    }

    /// The numbers of one micro-batch; nothing is kept of one that is not finite.
    fn score_micro_batch(
        &self,
        trajectories: &[Trajectory],
        experience: &mut Experience,
        chosen: &[usize],
    ) -> Result<()> {
        let labels = experience.mask.len();
        let by_turn = self.config.turn_advantage.is_some();
        let with_entropy = self.config.selection.top_entropy_fraction.is_some();
        let rows: Vec<&TrainingRow> = chosen.iter().map(|&index| &trajectories[index].row).collect();
        let micro = MicroBatch::new(self.policy.decoder(), &rows, (0..rows.len()).collect())?;
        let ours = tch::no_grad(|| self.forward(&micro, chosen, trajectories, with_entropy))?;
        let log_probs = finite("log_probs", to_host(&ours.log_probs)?)?;
        let entropies =
            ours.entropies.as_ref().map(|entropies| finite("entropies", to_host(entropies)?)).transpose()?;
        let values = ours.values.as_ref().map(|values| finite("values", to_host(values)?)).transpose()?;
        let reference = match &self.reference {
            Some(reference) => {
                let temperature = self.config.log_prob_temperature();
                let log_probs =
                    reference.run(&self.policy, |decoder| tch::no_grad(|| micro.log_probs(decoder, temperature)))?;
                Some(finite("ref_log_probs", to_host(&log_probs)?)?)
            }
            None => None,
        };

        scatter(&log_probs, chosen, experience, labels, |e| &mut e.old_log_probs);
        if let Some(entropies) = &entropies {
            scatter(entropies, chosen, experience, labels, |e| &mut e.entropies);
        }
        if let Some(reference) = &reference {
            scatter(reference, chosen, experience, labels, |e| &mut e.ref_log_probs);
        }
        if let Some(values) = values {
            let ranges = if by_turn { &experience.turns } else { &experience.labels };
            let total = ranges.last().map_or(0, |range| range.end);
            experience.values.resize(total, 0.0);
            let mut values = values.into_iter();
            for place in chosen.iter().flat_map(|&index| ranges[index].clone()) {
                experience.values[place] = values.next().unwrap_or(f32::NAN);
            }
        }
        Ok(())
    }

    fn set_advantages(&self, rollout: &Rollout, experience: &mut Experience) -> Result<()> {
        if let Some(estimator) = &self.config.turn_advantage {
            return self.set_turn_advantages(rollout, experience, estimator);
        }
        let Some(estimator) = &self.config.advantage else { return Err(Error::NothingToTrain) };
        let trajectories = &rollout.trajectories;
        let rewards = self.outcome_rewards(trajectories)?;
        let truncated: Vec<bool> = trajectories.iter().map(|trajectory| trajectory.truncated).collect();
        let kl = self.reward_kl(experience)?;
        let lengths = experience.lengths();
        let inputs = RewardInputs {
            rewards: Rewards::Outcome(&rewards),
            response_mask: &experience.mask,
            rows: Rows::Packed(&lengths),
            group_size: self.config.rollout.group_size,
            truncated: Some(&truncated),
            kl: kl.as_deref(),
            kl_coef: self.kl.map_or(0.0, |controller| controller.kl_coef()),
            greedy_rewards: rollout.greedy_rewards.as_deref(),
        };
        let values = estimator.needs_values().then_some(experience.values.as_slice());
        let TokenAdvantages { advantages, returns, shaped } =
            estimator.whitened_advantages(&self.config.shaping, &inputs, values)?;
        experience.advantages = advantages;
        experience.returns = returns;
        experience.mask = shaped.response_mask;
        experience.frac_zero_std = shaped.frac_zero_std;
        Ok(())
    }

    /// One reward per answer, `[trajectories]`: the sum that the rollout found, or its parts made one by the aggregation.
    fn outcome_rewards(&self, trajectories: &[Trajectory]) -> Result<Vec<Option<f64>>> {
        let sum = || trajectories.iter().map(|trajectory| trajectory.reward).collect();
        let Some(reward) = &self.config.reward else { return Ok(sum()) };
        if reward.aggregation == RewardAggregation::SumThenNormalize {
            return Ok(sum());
        }
        // An answer that lacks one of its scores could not be scored at all.
        let column = |part: &dyn Fn(&Trajectory) -> Option<f64>| -> Vec<Option<f64>> {
            trajectories.iter().map(|trajectory| trajectory.reward.and(part(trajectory))).collect()
        };
        let mut weights = vec![1.0];
        let mut columns = vec![column(&|trajectory| trajectory.environment_reward)];
        for (index, source) in reward.sources.iter().enumerate() {
            weights.push(source.weight);
            columns.push(column(&|trajectory| trajectory.scores.get(index).copied().flatten()));
        }
        let columns: Vec<&[Option<f64>]> = columns.iter().map(Vec::as_slice).collect();
        Ok(combine_rewards(reward.aggregation, &columns, &weights, self.config.rollout.group_size)?)
    }

    /// Every token of a turn gets the advantage of its turn. Episodes end inside the rollout, so laid end to end they form
    /// one stream without a bootstrap value.
    fn set_turn_advantages(
        &self,
        rollout: &Rollout,
        experience: &mut Experience,
        estimator: &TurnAdvantage,
    ) -> Result<()> {
        let trajectories = &rollout.trajectories;
        let turns: Vec<_> = trajectories.iter().flat_map(|trajectory| &trajectory.turns).collect();
        let mut rewards: Vec<f32> = turns.iter().map(|turn| turn.reward as f32).collect();
        if let Some(RewardStep::Clip { low, high }) =
            self.config.shaping.steps.iter().find(|step| matches!(step, RewardStep::Clip { .. }))
        {
            rewards.iter_mut().for_each(|reward| *reward = reward.clamp(*low as f32, *high as f32));
        }
        let terminated: Vec<bool> = turns.iter().map(|turn| turn.terminated).collect();
        let truncated: Vec<bool> = turns.iter().map(|turn| turn.truncated).collect();
        let (boundary, gamma, lambda) = (estimator.boundary, estimator.gamma, estimator.gae_lambda);
        let values = &experience.values;
        let gae = episode_gae(&rewards, values, 0.0, &terminated, &truncated, boundary, gamma, lambda)?;
        // An episode that could not be scored is in the stream, since the boundaries keep it apart, but teaches nothing.
        let scored = experience.is_learned(true);
        let advantages = match estimator.whitening {
            Some(whitening) => whiten(&gae.advantages, &scored, whitening)?,
            None => gae.advantages,
        };
        experience.advantages = advantages
            .iter()
            .zip(&experience.turn_lengths)
            .flat_map(|(&advantage, &length)| std::iter::repeat_n(advantage, length))
            .collect();
        experience.returns = gae.returns;
        Ok(())
    }

    /// The divergence that is subtracted from the reward, `[labels]`.
    fn reward_kl(&self, experience: &Experience) -> Result<Option<Vec<f32>>> {
        let (Some(kl), true) = (&self.config.kl, self.kl_in_reward()) else { return Ok(None) };
        let (Some(old), Some(reference)) = (&experience.old_log_probs, &experience.ref_log_probs) else {
            return Err(Error::NoReference);
        };
        Ok(Some(kl_estimates(old, reference, &experience.mask, kl.penalty)?))
    }

    /// Importance weights, and the tokens that are left out of the loss or treated apart.
    fn select(&self, step: u64, experience: &mut Experience) -> Result<()> {
        let config = &self.config;
        let Some(old) = experience.old_log_probs.clone() else { return Ok(()) };
        let lengths = experience.lengths();
        let mask = &experience.mask;
        if let (Some(kl), Some(reference)) = (&config.kl, &experience.ref_log_probs) {
            let estimates = kl_estimates(&old, reference, mask, kl.penalty)?;
            experience.rollout_kl = Some(sequence_mean_kl(&estimates, mask, &lengths)?);
        }
        let mut kept = vec![true; mask.len()];
        let mut keep =
            |selection: Selection| kept.iter_mut().zip(selection.keep).for_each(|(kept, keep)| *kept &= keep);
        if let Some(fraction) = config.selection.top_entropy_fraction {
            let entropies = experience.entropies.as_deref().unwrap_or_default();
            let threshold = entropy_threshold(entropies, mask, fraction)?;
            experience.high_entropy = Some(keep_high_entropy(entropies, mask, &lengths, threshold)?.keep);
        }
        if let (Some(limit), Some(reference)) = (config.selection.max_response_kl, &experience.ref_log_probs) {
            let estimate = config.kl.map_or(rl_core::kl::KlEstimator::K3.into(), |kl| kl.penalty);
            keep(drop_high_kl(&old, reference, mask, &lengths, estimate, limit)?);
        }
        if let Some(rejection) = &config.selection.rejection {
            keep(rejection.select(&old, &experience.sampler_log_probs, mask, &lengths)?);
        }
        let importance = match &config.importance {
            Some(importance) => Some(importance.weights(&old, &experience.sampler_log_probs, mask, &lengths)?.weights),
            None => None,
        };
        let inputs = PolicyInputs::new(&old, &old, &experience.advantages, mask, &lengths);
        let key = RandomKey::new(config.seed, "covariance").at(step);
        let selected = config.objective.select_tokens(&inputs, key)?;
        experience.kept = kept.contains(&false).then_some(kept);
        experience.importance = importance;
        experience.selected = selected;
        Ok(())
    }
}

/// Refuses numbers of a micro-batch that are not finite.
fn finite(name: &'static str, host: Vec<f32>) -> Result<Vec<f32>> {
    match host.iter().position(|number| !number.is_finite()) {
        None => Ok(host),
        Some(index) => Err(rl_core::Error::NonFinite { name, index, value: f64::from(host[index]) }.into()),
    }
}

/// Puts the numbers of a micro-batch's labels into their places.
fn scatter(
    host: &[f32],
    chosen: &[usize],
    experience: &mut Experience,
    labels: usize,
    field: impl Fn(&mut Experience) -> &mut Option<Vec<f32>>,
) {
    let mut numbers = host.iter().copied();
    for &index in chosen {
        let range = experience.labels[index].clone();
        let array = field(experience).get_or_insert_with(|| vec![0.0; labels]);
        for place in range {
            // A pass gives one number per label; a missing one would be found as not finite.
            array[place] = numbers.next().unwrap_or(f32::NAN);
        }
    }
}
