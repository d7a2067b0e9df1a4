//! What the rollout and the updates of one step looked like.

use rl_core::entropy::EntropyBonus;
use rl_core::kl::KlLoss;
use rl_core::policy_loss::PolicyLoss;
use rl_core::statistics::{Variance, explained_variance, mean, standard_deviation};
use rl_core::value_loss::ValueLoss;
use rl_track::MetricsRow;

use super::experience::Experience;
use super::trajectory::Trajectory;
use crate::reward::ScoredBatch;

/// Sums over the micro-batches and updates of a step.
#[derive(Debug, Default)]
pub(super) struct UpdateStatistics {
    num_updates: usize,
    num_empty_updates: usize,
    num_tokens: usize,
    policy_loss: f64,
    clipped: f64,
    dual_clipped: f64,
    approx_kl: f64,
    ratio_max: f64,
    ratio_min: Option<f64>,
    value_loss: Option<f64>,
    pretrain_losses: Vec<f64>,
    kl_loss: Option<f64>,
    ref_kl: f64,
    kl_tokens: usize,
    entropy: f64,
    entropy_tokens: usize,
    grad_norms: Vec<f64>,
    critic_norms: Vec<f64>,
    sampler_gap: SamplerGap,
}

/// How far the sampler's log-probabilities and the trainer's are apart on the same tokens before any update: rounding
/// alone, when both run the same numerics on the same distribution.
#[derive(Debug, Default)]
struct SamplerGap {
    max: f64,
    sum: f64,
    num_tokens: usize,
}

impl SamplerGap {
    fn add(&mut self, sampler: &[f32], trainer: &[f32], mask: &[bool]) {
        for ((sampler, trainer), _) in sampler.iter().zip(trainer).zip(mask).filter(|(_, mask)| **mask) {
            let gap = f64::from((sampler - trainer).abs());
            self.max = self.max.max(gap);
            self.sum += gap;
            self.num_tokens += 1;
        }
    }

    fn report(&self, row: MetricsRow) -> MetricsRow {
        if self.num_tokens == 0 {
            return row;
        }
        row.with("sampler_gap_max", self.max).with("sampler_gap_mean", self.sum / self.num_tokens as f64)
    }
}

impl UpdateStatistics {
    /// One micro-batch of the policy loss.
    pub fn add_policy(&mut self, loss: &PolicyLoss) {
        let weight = loss.num_tokens as f64;
        self.num_tokens += loss.num_tokens;
        self.policy_loss += loss.loss;
        self.clipped += weight * loss.clip_fraction;
        self.dual_clipped += weight * loss.dual_clip_fraction;
        self.approx_kl += weight * loss.approx_kl;
        if 0 < loss.num_tokens {
            self.ratio_max = self.ratio_max.max(loss.ratio_max);
            self.ratio_min = Some(self.ratio_min.map_or(loss.ratio_min, |least| least.min(loss.ratio_min)));
        }
    }

    /// One micro-batch of a rollout's only update, which computes the trainer's log-probabilities first.
    pub fn add_sampler_gap(&mut self, sampler: &[f32], trainer: &[f32], mask: &[bool]) {
        self.sampler_gap.add(sampler, trainer, mask);
    }

    /// One micro-batch of the divergence from the reference.
    pub fn add_kl(&mut self, loss: &KlLoss) {
        *self.kl_loss.get_or_insert(0.0) += loss.loss;
        self.ref_kl += loss.num_tokens as f64 * loss.mean_kl;
        self.kl_tokens += loss.num_tokens;
    }

    /// One micro-batch of entropies, `[labels]`.
    pub fn add_entropy(&mut self, bonus: &EntropyBonus, entropies: &[f32], mask: &[bool]) {
        self.policy_loss += bonus.loss;
        let read = entropies.iter().zip(mask).filter(|(_, mask)| **mask);
        for (entropy, _) in read {
            self.entropy += f64::from(*entropy);
            self.entropy_tokens += 1;
        }
    }

    /// One micro-batch of the value loss.
    pub fn add_value(&mut self, loss: &ValueLoss) {
        *self.value_loss.get_or_insert(0.0) += loss.loss;
    }

    /// The supervised loss of one optimizer step, in nats per token.
    pub fn add_pretrain(&mut self, loss: f64) {
        self.pretrain_losses.push(loss);
    }

    /// The end of one optimizer step; none when it was skipped.
    pub fn add_update(&mut self, grad_norm: Option<f64>) {
        self.num_updates += 1;
        self.grad_norms.extend(grad_norm);
    }

    /// An optimizer step that was left out, for no token has a loss.
    pub fn add_empty_update(&mut self) {
        self.num_empty_updates += 1;
    }

    /// The critic's own gradient norm.
    pub fn add_critic_norm(&mut self, grad_norm: Option<f64>) {
        self.critic_norms.extend(grad_norm);
    }

    /// Adds the averages to `row`; losses are per update, the rest per token.
    pub fn into_metrics(self, row: MetricsRow) -> MetricsRow {
        let updates = self.num_updates.max(1) as f64;
        let tokens = self.num_tokens.max(1) as f64;
        let average = |numbers: &[f64]| numbers.iter().sum::<f64>() / numbers.len().max(1) as f64;
        let mut row = row
            .with("policy_loss", self.policy_loss / updates)
            .with("clip_fraction", self.clipped / tokens)
            .with("dual_clip_fraction", self.dual_clipped / tokens)
            .with("approx_kl", self.approx_kl / tokens)
            .with("ratio_max", if self.ratio_min.is_some() { self.ratio_max } else { 1.0 })
            .with("ratio_min", self.ratio_min.unwrap_or(1.0))
            .with("first_grad_norm", self.grad_norms.first().copied().unwrap_or(0.0))
            .with("grad_norm", average(&self.grad_norms));
        row = self.sampler_gap.report(row);
        if 0 < self.num_empty_updates {
            row = row.with("empty_updates", self.num_empty_updates as f64);
        }
        if let Some(kl_loss) = self.kl_loss {
            row = row.with("kl_loss", kl_loss / updates).with("ref_kl", self.ref_kl / self.kl_tokens.max(1) as f64);
        }
        if 0 < self.entropy_tokens {
            row = row.with("entropy", self.entropy / self.entropy_tokens as f64);
        }
        if let Some(value_loss) = self.value_loss {
            row = row.with("value_loss", value_loss / updates);
        }
        if !self.pretrain_losses.is_empty() {
            row = row.with("pretrain_loss", average(&self.pretrain_losses));
        }
        if !self.critic_norms.is_empty() {
            row = row.with("critic_grad_norm", average(&self.critic_norms));
        }
        row
    }
}

/// Rewards, successes and lengths of answers.
pub(super) fn rollout_metrics(row: MetricsRow, answers: &[Trajectory]) -> MetricsRow {
    let count = answers.len() as f64;
    let rewards: Vec<f64> = answers.iter().filter_map(|answer| answer.reward).collect();
    let turns: usize = answers.iter().map(|answer| answer.turns.len()).sum();
    let tokens: usize = answers.iter().map(Trajectory::num_labels).sum();
    let share =
        |counts: &dyn Fn(&Trajectory) -> bool| answers.iter().filter(|answer| counts(answer)).count() as f64 / count;
    let mut row = row
        .with("turns_per_episode", turns as f64 / count)
        .with("response_tokens_per_turn", tokens as f64 / turns.max(1) as f64)
        .with("truncated_fraction", share(&|answer| answer.truncated))
        .with("unscorable", (answers.len() - rewards.len()) as f64);
    // Without a scored answer there is no mean: 0 would be a reward like any other.
    if let (Ok(reward_mean), Ok(deviation)) = (mean(&rewards), standard_deviation(&rewards, Variance::Biased)) {
        row = row.with("reward_mean", reward_mean).with("reward_std", deviation);
    }
    if answers.iter().all(|answer| answer.success.is_some()) {
        row = row
            .with("success_rate", share(&|answer| answer.success.is_some_and(|[solved, _]| solved)))
            .with("first_attempt_success_rate", share(&|answer| answer.success.is_some_and(|[_, first]| first)));
    }
    row
}

/// Advantages, the critic, and how far sampler and trainer disagree.
pub(super) fn experience_metrics(
    row: MetricsRow,
    experience: &Experience,
    advantages: &[f32],
    by_turn: bool,
) -> MetricsRow {
    let total: f64 = advantages.iter().map(|&value| f64::from(value)).sum();
    let zeros = advantages.iter().filter(|&&advantage| advantage == 0.0).count();
    let count = advantages.len().max(1) as f64;
    let mut row = row.with("advantage_mean", total / count).with("zero_advantage_fraction", zeros as f64 / count);
    if let Some(fraction) = experience.frac_zero_std {
        row = row.with("frac_zero_std", fraction);
    }
    if let Some(old) = &experience.old_log_probs {
        let mut gap = SamplerGap::default();
        gap.add(&experience.sampler_log_probs, old, &experience.mask);
        row = gap.report(row);
    }
    if let Some(kl) = experience.rollout_kl {
        row = row.with("rollout_kl", kl);
    }
    if !experience.values.is_empty() {
        let learned = experience.is_learned(by_turn);
        let wide = |numbers: &[f32]| -> Vec<f64> {
            numbers.iter().zip(&learned).filter(|(_, learned)| **learned).map(|(&number, _)| number.into()).collect()
        };
        let (values, returns) = (wide(&experience.values), wide(&experience.returns));
        if let Ok(mean) = mean(&values) {
            row = row.with("value_mean", mean);
        }
        // Undefined where all returns are equal; then there is nothing to report.
        if let Ok(explained) = explained_variance(&values, &returns) {
            row = row.with("explained_variance", explained);
        }
    }
    row
}

/// How the sources of reward did, by their names. Failures are counted on the greedy answers too; these have no part in
/// the means.
pub(super) fn reward_metrics(mut row: MetricsRow, scored: &[ScoredBatch], greedy: &[ScoredBatch]) -> MetricsRow {
    let Some(first) = scored.first() else { return row };
    for (index, source) in first.sources.iter().enumerate() {
        let all = || scored.iter().map(|batch| &batch.sources[index]);
        let values: Vec<f64> =
            all().flat_map(|source| source.scores.iter().filter_map(|score| score.value())).collect();
        let name = |what: &str| format!("reward/{}/{what}", source.name);
        if !values.is_empty() {
            row = row.with(name("mean"), values.iter().sum::<f64>() / values.len() as f64);
        }
        let counts = || all().chain(greedy.iter().map(|batch| &batch.sources[index])).map(|source| &source.counts);
        row = row
            .with(name("timed_out"), counts().map(|counts| counts.timed_out).sum::<usize>() as f64)
            .with(name("invalid"), counts().map(|counts| counts.num_invalid()).sum::<usize>() as f64);
    }
    let abandoned: usize = scored.iter().chain(greedy).map(|batch| batch.num_abandoned).sum();
    if 0 < abandoned { row.with("reward_threads_abandoned", abandoned as f64) } else { row }
}
