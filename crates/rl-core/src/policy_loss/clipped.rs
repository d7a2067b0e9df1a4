//! The clipped surrogate of PPO and its bounds on large ratios.

use serde::{Deserialize, Serialize};

use super::ratio::{Ratio, Term, sum_terms};
use super::{PolicyInputs, PolicyLoss};
use crate::error::{Result, ensure};
use crate::masked::Normalizer;

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

    pub(super) fn clip(self, ratio: f64) -> f64 {
        ratio.clamp(1.0 - self.low, 1.0 + self.high)
    }
}

/// `max(-advantage * ratio, -advantage * clip(ratio))`, with optional bounds on what a large ratio can cost.
///
/// Schulman et al. 2017 (PPO), eq. 7: <https://arxiv.org/abs/1707.06347>.
///
/// TRL clips like this and knows `max_ratio` (its `delta`); OpenRLHF knows `dual_clip`, off by default; verl always uses
/// `dual_clip`, 3 by default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClippedSurrogate {
    /// Ratio of a token, sequence or action.
    pub ratio: Ratio,
    /// Where the ratio is clipped.
    pub clip: ClipRange,
    /// With a negative advantage the loss is at most `-dual_clip * advantage`; above 1, commonly 3. Without it, a bad
    /// token that became much likelier has an unbounded loss. Ye et al. 2020, eq. 5: <https://arxiv.org/abs/1912.09729>.
    #[serde(default)]
    pub dual_clip: Option<f64>,
    /// The unclipped term uses at most this ratio; should be above `1 + clip.high`. Prime Intellect 2025 (INTELLECT-2),
    /// section 3.4: <https://arxiv.org/abs/2505.07291>.
    #[serde(default)]
    pub max_ratio: Option<f64>,
    /// A ratio above this pays the clipped term alone, so it has no gradient whatever its advantage; above
    /// `1 + clip.high`, 10 in the one-action-per-turn PPO of Chu et al. 2025, whose code applies it to a whole minibatch
    /// (of one action): <https://arxiv.org/abs/2501.17161>.
    #[serde(default)]
    pub clipped_only_above: Option<f64>,
}

impl ClippedSurrogate {
    /// The surrogate without bounds on large ratios.
    pub fn new(ratio: Ratio, clip: ClipRange) -> Self {
        ClippedSurrogate { ratio, clip, dual_clip: None, max_ratio: None, clipped_only_above: None }
    }

    /// Checks the clip range, the bounds and the ratio.
    pub fn validate(&self) -> Result<()> {
        self.ratio.validate()?;
        self.clip.validate()?;
        if let Some(dual_clip) = self.dual_clip {
            ensure(dual_clip > 1.0 && dual_clip.is_finite(), "dual_clip", dual_clip, "must be finite and above 1")?;
        }
        if let Some(max_ratio) = self.max_ratio {
            ensure(max_ratio > 0.0 && max_ratio.is_finite(), "max_ratio", max_ratio, "must be finite and positive")?;
        }
        if let Some(limit) = self.clipped_only_above {
            let outside = limit > 1.0 + self.clip.high && limit.is_finite();
            ensure(outside, "clipped_only_above", limit, "must be finite and above 1 + clip.high")?;
        }
        Ok(())
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        sum_terms(inputs, normalizer, self.ratio, |token| Ok(self.term(token.ratio, token.advantage)))
    }

    /// The cost of one ratio.
    pub(super) fn term(&self, ratio: f64, advantage: f64) -> Term {
        let capped = self.max_ratio.is_some_and(|max_ratio| ratio > max_ratio);
        let free_loss = -advantage * self.max_ratio.map_or(ratio, |max_ratio| ratio.min(max_ratio));
        let clipped_ratio = self.clip.clip(ratio);
        let clipped_loss = -advantage * clipped_ratio;
        // Strictly: inside the range both are equal and the gradient flows.
        let clipped = clipped_loss > free_loss;
        let mut loss = free_loss.max(clipped_loss);
        // Below a `max_ratio` that lies inside the clip range, the clipped term can be the worse one and still be free.
        let mut flat = if clipped { clipped_ratio != ratio } else { capped };
        let mut bounded = capped && !clipped;
        if let Some(limit) = self.dual_clip.filter(|_| advantage < 0.0).map(|dual_clip| -dual_clip * advantage) {
            bounded |= limit < loss;
            flat |= limit < loss;
            loss = loss.min(limit);
        }
        if self.clipped_only_above.is_some_and(|limit| ratio > limit) {
            // The clipped term is constant there.
            bounded |= clipped_loss < loss;
            flat = true;
            loss = clipped_loss;
        }
        Term { loss, by_log_ratio: if flat { 0.0 } else { -advantage * ratio }, by_log_prob: 0.0, clipped, bounded }
    }
}

/// Clipped surrogate loss of PPO per token: [`PolicyObjective::Clipped`](super::PolicyObjective::Clipped) with ratios of
/// tokens and no bounds.
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
    let objective = ClippedSurrogate::new(Ratio::default(), clip);
    objective.validate()?;
    // Where rows end does not matter to ratios of tokens.
    let rows = [response_mask.len()];
    let inputs = PolicyInputs::new(log_probs, old_log_probs, advantages, response_mask, rows.as_slice());
    objective.loss(&inputs, normalizer.into())
}
