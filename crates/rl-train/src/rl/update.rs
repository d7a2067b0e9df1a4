//! One optimizer step on a share of a rollout.

use rl_core::entropy::entropy_bonus;
use rl_core::kl::{corrected_kl_loss, kl_loss};
use rl_core::masked::Normalizer;
use rl_core::policy_loss::PolicyInputs;
use rl_core::rows::Rows;
use rl_core::selection::drop_off_policy;
use rl_core::value_loss::{ValueLoss, clipped_value_loss, value_loss};
use rl_models::{token_log_probs, token_log_probs_and_entropies};
use tch::{Kind, Tensor};

use super::Rl;
use super::critic::Critic;
use super::experience::{Experience, Minibatch, leave_out};
use super::statistics::UpdateStatistics;
use super::trajectory::Trajectory;
use crate::batch::{MicroBatch, TrainingRow, backward_from, to_host};
use crate::config::KlPlace;
use crate::{Error, Result};

/// Largest `|ratio - 1|` allowed before the first update of a rollout: old log-probabilities come from the same
/// micro-batches and the same numerics, so on the CPU the difference is exactly 0.
const FIRST_RATIO_LIMIT: f64 = 1e-5;

/// What one forward pass of the policy gives; all with their graphs.
pub(super) struct Forward {
    /// `[labels]`.
    pub log_probs: Tensor,
    /// `[labels]`, when asked for.
    pub entropies: Option<Tensor>,
    /// `[labels]` or `[turns]`, with a critic.
    pub values: Option<Tensor>,
}

/// Losses of a micro-batch with respect to what the model gave.
struct Gradients {
    log_probs: Vec<f32>,
    entropies: Option<Vec<f32>>,
}

impl Rl {
    /// The policy's pass over a micro-batch of the `chosen` trajectories, and its critic's.
    pub(super) fn forward(
        &self,
        micro: &MicroBatch,
        chosen: &[usize],
        trajectories: &[Trajectory],
        with_entropy: bool,
    ) -> Result<Forward> {
        let decoder = self.policy.decoder();
        let temperature = self.config.log_prob_temperature();
        let hidden = decoder.hidden_states(&micro.packed)?;
        let (rows, ids) = (&micro.label_rows, &micro.label_ids);
        let (log_probs, entropies) = if with_entropy {
            let of_entropy = self.config.entropy_temperature();
            let (log_probs, entropies) =
                token_log_probs_and_entropies(decoder, &hidden, rows, ids, temperature, of_entropy)?;
            (log_probs, Some(entropies))
        } else {
            (token_log_probs(decoder, &hidden, rows, ids, temperature)?, None)
        };
        let values = match &self.critic {
            Some(critic) => {
                Some(critic.values(micro, &self.value_rows(micro, chosen, trajectories)?, Some(&hidden))?)
            }
            None => None,
        };
        Ok(Forward { log_probs, entropies, values })
    }

    /// Hidden rows that the critic reads.
    fn value_rows(&self, micro: &MicroBatch, chosen: &[usize], trajectories: &[Trajectory]) -> Result<Vec<i64>> {
        let mut rows = Vec::new();
        for (sequence, &index) in chosen.iter().enumerate() {
            let trajectory = &trajectories[index];
            let positions: Vec<usize> = match self.config.turn_advantage {
                Some(_) => trajectory.turn_positions().collect(),
                None => trajectory.label_positions().collect(),
            };
            for position in positions {
                rows.push(micro.packed.row_of(sequence, position)? as i64);
            }
        }
        Ok(rows)
    }

    /// One optimizer step of the policy, and of the critic if it has an optimizer of its own.
    pub(super) fn update(
        &mut self,
        step: u64,
        trajectories: &[Trajectory],
        experience: &Experience,
        minibatch: &Minibatch,
        is_first: bool,
        statistics: &mut UpdateStatistics,
    ) -> Result<()> {
        if minibatch.counts.num_tokens == 0 {
            self.learner.guard().end_step()?;
            tracing::warn!("step {step}: no answer of an update has a loss; the update is left out");
            statistics.add_empty_update();
            return Ok(());
        }
        self.learner.zero_grad()?;
        if let Some(Critic::Own(own)) = &self.critic {
            own.learner.zero_grad()?;
        }
        let mut critic_learns = false;
        for chosen in &minibatch.micro_batches {
            let rows: Vec<&TrainingRow> = chosen.iter().map(|&index| &trajectories[index].row).collect();
            let micro = MicroBatch::new(self.policy.decoder(), &rows, (0..rows.len()).collect())?;
            let forward = self.forward(&micro, chosen, trajectories, self.entropy.is_some())?;
            let row_ids = || micro.row_ids(&rows);

            let losses = self.policy_losses(&forward, experience, chosen, minibatch, is_first, statistics);
            let Some(gradients) = self.learner.guard().admit(row_ids, losses)? else { continue };
            let mut objective = weighted(&forward.log_probs, &gradients.log_probs)?;
            if let (Some(entropies), Some(gradient)) = (&forward.entropies, &gradients.entropies) {
                objective += weighted(entropies, gradient)?;
            }
            if let Some(values) = &forward.values {
                let loss = self.value_losses(values, experience, chosen, minibatch);
                let guard = match &mut self.critic {
                    Some(Critic::Own(own)) => own.learner.guard(),
                    _ => self.learner.guard(),
                };
                if let Some(loss) = guard.admit(row_ids, loss)? {
                    critic_learns = true;
                    statistics.add_value(&loss);
                    match &self.critic {
                        Some(Critic::Shared { value_coef, .. }) => {
                            objective += weighted(values, &loss.grad_values)? * *value_coef;
                        }
                        _ => backward_from(values, &loss.grad_values)?,
                    }
                }
            }
            objective.f_backward()?;
        }
        if let Some(Critic::Own(own)) = &mut self.critic {
            if critic_learns {
                let update = own.learner.step(step)?;
                statistics.add_critic_norm(update.grad_norm);
            } else {
                own.learner.guard().end_step()?; // all of it was skipped
            }
            if step < own.policy_frozen_steps {
                return Ok(());
            }
        }
        if let Some(pretrain) = &mut self.pretrain {
            let max_tokens = self.config.training.micro_batch_tokens;
            statistics.add_pretrain(pretrain.backward(&self.policy.chat, max_tokens, self.learner.guard())?);
        }
        // Where no answer teaches anything there is no gradient, and nothing moves.
        if minibatch.micro_batches.is_empty() && self.pretrain.is_none() {
            statistics.add_update(Some(0.0));
            return Ok(());
        }
        let update = self.learner.step(step)?;
        statistics.add_update(update.grad_norm);
        Ok(())
    }

    /// Policy loss, KL and entropy terms of a micro-batch.
    fn policy_losses(
        &self,
        forward: &Forward,
        experience: &Experience,
        chosen: &[usize],
        minibatch: &Minibatch,
        is_first: bool,
        statistics: &mut UpdateStatistics,
    ) -> Result<Gradients> {
        let config = &self.config;
        let log_probs = to_host(&forward.log_probs)?;
        let mask = experience.gather(&experience.mask, chosen);
        let advantages = experience.gather(&experience.advantages, chosen);
        let rows = experience.rows(chosen, config.acts_by_turn());
        let old = experience.old_log_probs.as_ref().map(|old| experience.gather(old, chosen));
        let importance = experience.importance.as_ref().map(|weights| experience.gather(weights, chosen));
        let token_weights = experience.token_weights.as_ref().map(|weights| experience.gather(weights, chosen));
        let selected = experience.selected.as_ref().map(|selected| experience.gather(selected, chosen));
        let counts = &minibatch.counts;
        // What is dropped or rejected has no loss at all. Tokens of low entropy lose the policy loss and the bonus, those
        // too far off policy the policy loss; their divergence from the reference still counts, as in TRL.
        let weights = experience.loss_weights(config.reduction, chosen, config.acts_by_turn(), counts)?;
        let mut entropy_weights = weights.clone();
        if let Some(high_entropy) = &experience.high_entropy {
            leave_out(&mut entropy_weights, &experience.gather(high_entropy, chosen));
        }
        let mut policy_weights = entropy_weights.clone();
        if let Some(limit) = config.selection.max_off_policy_kl {
            let sampler = experience.gather(&experience.sampler_log_probs, chosen);
            drop_off_policy(&log_probs, &sampler, &advantages, &mask, &rows, limit)?.apply(&mut policy_weights)?;
        }

        let inputs = PolicyInputs {
            log_probs: &log_probs,
            old_log_probs: old.as_deref(),
            advantages: &advantages,
            response_mask: &mask,
            rows: Rows::Packed(&rows),
            importance: importance.as_deref(),
            token_weights: token_weights.as_deref(),
            selected: selected.as_deref(),
        };
        let policy = config.objective.loss(&inputs, &policy_weights)?;
        if is_first && 0 < policy.num_tokens {
            let deviation = (policy.ratio_max - 1.0).abs().max((policy.ratio_min - 1.0).abs());
            if FIRST_RATIO_LIMIT < deviation {
                return Err(Error::RatioNotOne { deviation, limit: FIRST_RATIO_LIMIT });
            }
        }
        statistics.add_policy(&policy);
        if old.is_none() {
            statistics.add_sampler_gap(&experience.gather(&experience.sampler_log_probs, chosen), &log_probs, &mask);
        }
        let mut gradient = policy.grad_log_probs;

        if let (Some(kl), Some(reference), Some(controller)) = (&config.kl, &experience.ref_log_probs, &self.kl) {
            let reference = experience.gather(reference, chosen);
            let coef = if kl.place == KlPlace::Loss { controller.kl_coef() } else { 0.0 };
            let loss = match (&kl.correction, &old) {
                (Some(correction), Some(old)) => {
                    corrected_kl_loss(&log_probs, old, &reference, &mask, kl.penalty, *correction, coef, &weights)?
                }
                _ => kl_loss(&log_probs, &reference, &mask, kl.penalty, coef, &weights)?,
            };
            gradient.iter_mut().zip(&loss.grad_log_probs).for_each(|(sum, part)| *sum += part);
            statistics.add_kl(&loss);
        }
        let mut entropy_gradient = None;
        if let (Some(entropies), Some(controller)) = (&forward.entropies, &self.entropy) {
            let entropies = to_host(entropies)?;
            let bonus = entropy_bonus(&entropies, &mask, controller.entropy_coef(), &entropy_weights)?;
            statistics.add_entropy(&bonus, &entropies, &mask);
            entropy_gradient = Some(bonus.grad_entropy);
        }
        Ok(Gradients { log_probs: gradient, entropies: entropy_gradient })
    }

    /// The critic's loss: a mean over the values of the step.
    fn value_losses(
        &self,
        values: &Tensor,
        experience: &Experience,
        chosen: &[usize],
        minibatch: &Minibatch,
    ) -> Result<ValueLoss> {
        let host = to_host(values)?;
        let by_turn = self.config.turn_advantage.is_some();
        let gather = |array: &[f32]| match by_turn {
            true => experience.gather_turns(array, chosen),
            false => experience.gather(array, chosen),
        };
        let (old, returns) = (gather(&experience.values), gather(&experience.returns));
        let mask = if by_turn { vec![true; host.len()] } else { experience.gather(&experience.mask, chosen) };
        // Tokens are reduced as in the policy loss, turns by their mean.
        let weights = if by_turn {
            vec![1.0 / minibatch.num_turns as f64; host.len()]
        } else {
            experience.loss_weights(self.config.reduction, chosen, false, &minibatch.counts)?
        };
        let weights = Normalizer::Weights(&weights);
        let clip = self.config.critic.as_ref().and_then(|critic| critic.value_clip());
        Ok(match clip {
            Some(clip) => clipped_value_loss(&host, &old, &returns, &mask, clip, weights)?,
            None => value_loss(&host, &returns, &mask, weights)?,
        })
    }
}

/// `sum(outputs * gradient)`: its backward pass sends the gradient of a loss through the model.
fn weighted(outputs: &Tensor, gradient: &[f32]) -> Result<Tensor> {
    let gradient = Tensor::from_slice(gradient).f_to_device(outputs.device())?;
    Ok(outputs.f_mul(&gradient)?.f_sum(Kind::Float)?)
}
