//! Policy-gradient losses per token: REINFORCE, the clipped surrogate of PPO, and dual clip.
//!
//! Sequence-level ratios and soft clips are not here. Unequal clip bounds ("clip higher") are a [`ClipRange`].

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure, finite, same_length};
use crate::masked::{Normalizer, weigh};

/// Log-ratios are held within this bound before `exp`; beyond it a token has no gradient and is counted.
pub const MAX_LOG_RATIO: f64 = 20.0;

/// The ratio is clipped to `[1 - low, 1 + high]`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipRange {
    /// How far the ratio may fall below 1.
    pub low: f64,
    /// How far the ratio may rise above 1. A larger value than `low` is "clip higher", Yu et al. 2025 (DAPO), section
    /// 3.1: <https://arxiv.org/abs/2503.14476>.
    pub high: f64,
}

impl ClipRange {
    /// The same distance both ways.
    pub fn symmetric(distance: f64) -> Self {
        ClipRange { low: distance, high: distance }
    }

    /// Checks `0 <= low <= 1` and `0 <= high`, both finite.
    pub fn validate(self) -> Result<()> {
        ensure((0.0..=1.0).contains(&self.low), "clip.low", self.low, "must be in [0, 1]")?;
        ensure(self.high >= 0.0 && self.high.is_finite(), "clip.high", self.high, "must be finite and at least 0")
    }
}

/// Value, gradient and ratio statistics of a policy loss. The statistics are plain means over this call's tokens; to
/// combine micro-batches, weigh them by `num_tokens`.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyLoss {
    /// The loss.
    pub loss: f64,
    /// Its gradient with respect to `log_probs`, `[batch, seq]`, exactly 0 where masked.
    pub grad_log_probs: Vec<f32>,
    /// Response tokens of this call.
    pub num_tokens: usize,
    /// Share of tokens whose clipped term was strictly worse, so that they have no gradient.
    pub clip_fraction: f64,
    /// Share of tokens that the dual clip stopped; 0 without dual clip.
    pub dual_clip_fraction: f64,
    /// Mean of `old_log_prob - log_prob`.
    pub approx_kl: f64,
    /// Smallest ratio; infinity when there are no tokens.
    pub ratio_min: f64,
    /// Largest ratio; minus infinity when there are no tokens.
    pub ratio_max: f64,
    /// Tokens whose log-ratio passed [`MAX_LOG_RATIO`].
    pub num_clamped_ratios: usize,
}

/// Score-function loss: `-advantage * log_prob`, summed over response tokens with the normalizer's weights.
///
/// Slices are `[batch, seq]`; where `response_mask` is false nothing is read. There is no old policy, so the statistics
/// are those of ratio 1.
///
/// Williams 1992, "Simple statistical gradient-following algorithms for connectionist reinforcement learning".
///
/// # Errors
/// Lengths differ, the step is empty, or a number is not finite.
pub fn reinforce_loss<'a>(
    log_probs: &[f32],
    advantages: &[f32],
    response_mask: &[bool],
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<PolicyLoss> {
    same_length("log_probs", log_probs.len(), "response_mask", response_mask.len())?;
    same_length("advantages", advantages.len(), "response_mask", response_mask.len())?;
    let mut statistics = RatioStatistics::default();
    let sum = weigh(response_mask, normalizer.into(), "grad_log_probs", |index| {
        let log_prob = finite("log_probs", index, log_probs[index].into())?;
        let advantage = finite("advantages", index, advantages[index].into())?;
        statistics.add(&TokenTerm {
            loss: -advantage * log_prob,
            derivative: -advantage,
            ratio: 1.0,
            ..TokenTerm::default()
        });
        Ok((-advantage * log_prob, -advantage))
    })?;
    Ok(statistics.finish(sum.loss, sum.gradient))
}

/// Clipped surrogate loss of PPO: summed over response tokens, divided by `num_tokens`.
///
/// With `ratio = exp(log_prob - old_log_prob)`, one token costs
/// `max(-advantage * ratio, -advantage * clip(ratio, 1 - low, 1 + high))`.
///
/// Slices are `[batch, seq]`, row-major; where `response_mask` is false nothing is read. `normalizer` is `num_tokens`,
/// the response tokens of the whole step, so the gradient does not depend on how the batch is split; or the weights of
/// another [`Reduction`](crate::masked::Reduction).
///
/// Schulman et al. 2017, eq. 7: <https://arxiv.org/abs/1707.06347>. Left out: the value and entropy terms.
///
/// # Errors
/// Lengths differ, the clip range is bad, the step is empty, or a number is not finite.
pub fn clipped_policy_loss<'a>(
    log_probs: &[f32],
    old_log_probs: &[f32],
    advantages: &[f32],
    response_mask: &[bool],
    clip: ClipRange,
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<PolicyLoss> {
    surrogate(log_probs, old_log_probs, advantages, response_mask, clip, None, normalizer.into())
}

/// [`clipped_policy_loss`] where a token with a negative advantage costs at most `-dual_clip * advantage`.
///
/// Without it, a bad token that became much likelier has an unbounded loss. `dual_clip` is above 1, commonly 3.
///
/// Ye et al. 2020, eq. 5: <https://arxiv.org/abs/1912.09729>.
///
/// # Errors
/// As [`clipped_policy_loss`], or `dual_clip` is not above 1.
pub fn dual_clipped_policy_loss<'a>(
    log_probs: &[f32],
    old_log_probs: &[f32],
    advantages: &[f32],
    response_mask: &[bool],
    clip: ClipRange,
    dual_clip: f64,
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<PolicyLoss> {
    ensure(dual_clip > 1.0 && dual_clip.is_finite(), "dual_clip", dual_clip, "must be finite and above 1")?;
    surrogate(log_probs, old_log_probs, advantages, response_mask, clip, Some(dual_clip), normalizer.into())
}

fn surrogate(
    log_probs: &[f32],
    old_log_probs: &[f32],
    advantages: &[f32],
    response_mask: &[bool],
    clip: ClipRange,
    dual_clip: Option<f64>,
    normalizer: Normalizer<'_>,
) -> Result<PolicyLoss> {
    same_length("log_probs", log_probs.len(), "response_mask", response_mask.len())?;
    same_length("old_log_probs", old_log_probs.len(), "response_mask", response_mask.len())?;
    same_length("advantages", advantages.len(), "response_mask", response_mask.len())?;
    clip.validate()?;
    let mut statistics = RatioStatistics::default();
    let sum = weigh(response_mask, normalizer, "grad_log_probs", |index| {
        let log_prob = finite("log_probs", index, log_probs[index].into())?;
        let old_log_prob = finite("old_log_probs", index, old_log_probs[index].into())?;
        let advantage = finite("advantages", index, advantages[index].into())?;
        let term = clipped_token(log_prob - old_log_prob, advantage, clip, dual_clip);
        statistics.add(&term);
        Ok((term.loss, term.derivative))
    })?;
    Ok(statistics.finish(sum.loss, sum.gradient))
}

/// One token: its loss and the derivative with respect to its log-probability.
#[derive(Default)]
struct TokenTerm {
    loss: f64,
    derivative: f64,
    log_ratio: f64,
    ratio: f64,
    clipped: bool,
    dual_clipped: bool,
    clamped: bool,
}

fn clipped_token(log_ratio: f64, advantage: f64, clip: ClipRange, dual_clip: Option<f64>) -> TokenTerm {
    let clamped = log_ratio.abs() > MAX_LOG_RATIO;
    let ratio = log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO).exp();
    let free_loss = -advantage * ratio;
    let clipped_loss = -advantage * ratio.clamp(1.0 - clip.low, 1.0 + clip.high);
    // Strictly: inside the range both are equal and the gradient flows.
    let clipped = clipped_loss > free_loss;
    let mut loss = free_loss.max(clipped_loss);
    let mut dual_clipped = false;
    if let Some(limit) = dual_clip.filter(|_| advantage < 0.0).map(|dual_clip| -dual_clip * advantage) {
        dual_clipped = limit < loss;
        loss = loss.min(limit);
    }
    let flat = clipped || dual_clipped || clamped;
    TokenTerm { loss, derivative: if flat { 0.0 } else { free_loss }, log_ratio, ratio, clipped, dual_clipped, clamped }
}

struct RatioStatistics {
    num_tokens: usize,
    num_clipped: usize,
    num_dual_clipped: usize,
    num_clamped: usize,
    sum_log_ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
}

impl Default for RatioStatistics {
    fn default() -> Self {
        RatioStatistics {
            num_tokens: 0,
            num_clipped: 0,
            num_dual_clipped: 0,
            num_clamped: 0,
            sum_log_ratio: 0.0,
            ratio_min: f64::INFINITY,
            ratio_max: f64::NEG_INFINITY,
        }
    }
}

impl RatioStatistics {
    fn add(&mut self, term: &TokenTerm) {
        self.num_tokens += 1;
        self.num_clipped += usize::from(term.clipped);
        self.num_dual_clipped += usize::from(term.dual_clipped);
        self.num_clamped += usize::from(term.clamped);
        self.sum_log_ratio += term.log_ratio;
        self.ratio_min = self.ratio_min.min(term.ratio);
        self.ratio_max = self.ratio_max.max(term.ratio);
    }

    fn finish(self, loss: f64, grad_log_probs: Vec<f32>) -> PolicyLoss {
        // A micro-batch without tokens is legal within a step that has some; its means weigh nothing.
        let count = self.num_tokens.max(1) as f64;
        PolicyLoss {
            loss,
            grad_log_probs,
            num_tokens: self.num_tokens,
            clip_fraction: self.num_clipped as f64 / count,
            dual_clip_fraction: self.num_dual_clipped as f64 / count,
            approx_kl: -self.sum_log_ratio / count,
            ratio_min: self.ratio_min,
            ratio_max: self.ratio_max,
            num_clamped_ratios: self.num_clamped,
        }
    }
}
