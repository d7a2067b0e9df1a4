//! From rewards to token rewards: an ordered list of steps, kept as data so that the record of a run shows it.
//!
//! Also here: the penalty of long answers, the filters of dynamic sampling. Not here: where rewards come from, the
//! division of one reward over parts of a response (such rewards arrive per token, [`Rewards::Tokens`]), and the running
//! normalisation of rewards ([`RunningNormalizer`](crate::statistics::RunningNormalizer), applied before).

mod filter;
mod length;
mod pipeline;

pub use filter::{GroupFilter, GroupSelection};
pub use length::{OverlongPenalty, overlong_penalty};
pub use pipeline::ShapedRewards;

use serde::{Deserialize, Serialize};

use crate::advantages::Whitening;
use crate::error::{Result, ensure, finite};
use crate::rows::Rows;

/// One step of a [`RewardShaping`]. Steps on samples come before steps on tokens.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RewardStep {
    /// Adds the penalty of a long response. OpenRLHF: capped; verl: not capped.
    Overlong {
        /// Its constants.
        penalty: OverlongPenalty,
    },
    /// Multiplies the reward of truncated samples (OpenRLHF's "stop properly" with a coefficient in `[0, 1]`).
    ScaleTruncated {
        /// In `[0, 1]`.
        factor: f64,
    },
    /// Replaces the reward of truncated samples (OpenRLHF's "stop properly" with a negative coefficient).
    ReplaceTruncated {
        /// Their reward.
        reward: f64,
    },
    /// Subtracts from the reward of truncated samples, which have no end-of-turn token (TRL's PPO).
    MissingEndPenalty {
        /// What is subtracted, at least 0.
        penalty: f64,
    },
    /// Takes the whole response of truncated samples out of the mask (overlong filtering of DAPO, TRL's
    /// `mask_truncated_completions`). Their rewards still count in the statistics of their groups.
    MaskTruncated,
    /// Holds the reward in `[low, high]`; rewards per token one by one.
    Clip {
        /// Smallest reward.
        low: f64,
        /// Largest reward.
        high: f64,
    },
    /// Subtracts `kl_coef * (sum of kl over the response)`, so that the group baseline contains the KL (verl, TRL's RLOO).
    SampleKl,
    /// Compares the sample with its group, where the estimator does so; nothing for estimators without a comparison, so
    /// that one order serves all estimators.
    Baseline,
    /// Whitens over the samples of the batch (TRL's RLOO with `normalize_advantages`; rewards normalised over a batch).
    SampleWhitening {
        /// How.
        whitening: Whitening,
    },
    /// Subtracts `kl_coef * kl` from every response token.
    TokenKl,
    /// Whitens over all response tokens of the batch (TRL's PPO: `whiten_rewards`, which keeps the mean).
    TokenWhitening {
        /// How.
        whitening: Whitening,
    },
}

/// How rewards become token rewards: steps in order. Belongs in the record of the run as it stands.
///
/// | system | steps |
/// |---|---|
/// | this crate | length, clip, baseline, token KL |
/// | OpenRLHF | length, baseline, clip, token KL: the clip acts on the difference from the baseline |
/// | verl | length, sample KL, baseline |
/// | TRL RLOO | clip, sample KL, baseline, optional sample whitening |
/// | TRL PPO | missing end, token KL, optional token whitening |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardShaping {
    /// The steps.
    pub steps: Vec<RewardStep>,
}

/// Rewards as they come from a judge.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rewards<'a> {
    /// One per sample, `[batch]`; it falls on the last response token. `None` could not be scored.
    Outcome(&'a [Option<f64>]),
    /// One per token, `[batch, seq]`, already divided over the response; read where the mask is true.
    Tokens(&'a [f32]),
}

/// What a [`RewardShaping`] reads. Samples of one prompt are adjacent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RewardInputs<'a> {
    /// The rewards.
    pub rewards: Rewards<'a>,
    /// `[batch, seq]`.
    pub response_mask: &'a [bool],
    /// The rows of all per-token arrays.
    pub rows: Rows<'a>,
    /// Samples per prompt; read only with a comparison within the group.
    pub group_size: usize,
    /// `[batch]`: responses that ended without an end-of-turn token; needed by the steps about truncated samples.
    pub truncated: Option<&'a [bool]>,
    /// `[batch, seq]`: [`kl_estimates`](crate::kl::kl_estimates) between old and reference policy.
    pub kl: Option<&'a [f32]>,
    /// Coefficient of `kl`; below 0 counts as 0, as a controller of other systems may give it.
    pub kl_coef: f64,
    /// `[prompts]`: reward of the greedy answer, for the estimator that subtracts it.
    pub greedy_rewards: Option<&'a [Option<f64>]>,
}

impl<'a> RewardInputs<'a> {
    /// Outcome rewards alone: no KL, nothing truncated is known, no greedy answers.
    pub fn new(
        rewards: &'a [Option<f64>],
        response_mask: &'a [bool],
        rows: impl Into<Rows<'a>>,
        group_size: usize,
    ) -> Self {
        RewardInputs {
            rewards: Rewards::Outcome(rewards),
            response_mask,
            rows: rows.into(),
            group_size,
            truncated: None,
            kl: None,
            kl_coef: 0.0,
            greedy_rewards: None,
        }
    }
}

impl RewardShaping {
    /// Clip the raw reward, subtract the group baseline, then KL token by token: this crate's order.
    pub fn clip_baseline_kl(low: f64, high: f64) -> Self {
        RewardShaping { steps: vec![RewardStep::Clip { low, high }, RewardStep::Baseline, RewardStep::TokenKl] }
    }

    /// Subtract the group baseline, clip the difference, then KL token by token: OpenRLHF's order with `[-10, 10]`. Also
    /// the clamp of an advantage after leave-one-out.
    pub fn baseline_clip_kl(low: f64, high: f64) -> Self {
        RewardShaping { steps: vec![RewardStep::Baseline, RewardStep::Clip { low, high }, RewardStep::TokenKl] }
    }

    /// Clip the raw reward, subtract the summed KL, then the group baseline, which so contains the KL: TRL's RLOO.
    pub fn clip_kl_baseline(low: f64, high: f64) -> Self {
        RewardShaping { steps: vec![RewardStep::Clip { low, high }, RewardStep::SampleKl, RewardStep::Baseline] }
    }

    /// Subtract the summed KL, then the group baseline: verl's.
    pub fn kl_baseline() -> Self {
        RewardShaping { steps: vec![RewardStep::SampleKl, RewardStep::Baseline] }
    }

    /// Nothing but the group baseline.
    pub fn baseline_only() -> Self {
        RewardShaping { steps: vec![RewardStep::Baseline] }
    }

    /// Subtract `penalty` from answers without an end, then KL token by token: TRL's PPO.
    pub fn missing_end_kl(penalty: f64) -> Self {
        RewardShaping { steps: vec![RewardStep::MissingEndPenalty { penalty }, RewardStep::TokenKl] }
    }

    /// The same with `steps` in front.
    pub fn after(mut self, steps: &[RewardStep]) -> Self {
        self.steps.splice(0..0, steps.iter().copied());
        self
    }

    /// Checks every constant and the order.
    ///
    /// # Errors
    /// A constant is out of range, a step on samples follows a step on tokens, or the baseline or the KL is taken twice.
    pub fn validate(&self) -> Result<()> {
        let (mut on_tokens, mut num_baselines, mut num_kl) = (false, 0_usize, 0_usize);
        for (place, step) in self.steps.iter().enumerate() {
            let token_step = matches!(step, RewardStep::TokenKl | RewardStep::TokenWhitening { .. });
            let limit = "must come before the steps on tokens (token_kl, token_whitening)";
            ensure(token_step || !on_tokens, "place of a reward step", place as f64, limit)?;
            on_tokens |= token_step;
            num_baselines += usize::from(*step == RewardStep::Baseline);
            num_kl += usize::from(matches!(step, RewardStep::SampleKl | RewardStep::TokenKl));
            step.validate()?;
        }
        ensure(num_baselines <= 1, "number of baseline steps", num_baselines as f64, "must be at most 1")?;
        ensure(num_kl <= 1, "number of kl steps", num_kl as f64, "must be at most 1: the penalty would count twice")
    }
}

impl RewardStep {
    fn validate(&self) -> Result<()> {
        match *self {
            RewardStep::Overlong { penalty } => penalty.validate(),
            RewardStep::ScaleTruncated { factor } => {
                ensure((0.0..=1.0).contains(&factor), "factor", factor, "must be in [0, 1]")
            }
            RewardStep::ReplaceTruncated { reward } => finite("reward of truncated samples", 0, reward).map(drop),
            RewardStep::MissingEndPenalty { penalty } => {
                let good = penalty >= 0.0 && penalty.is_finite();
                ensure(good, "penalty", penalty, "must be finite and at least 0: it is subtracted")
            }
            RewardStep::Clip { low, high } => {
                finite("clip.low", 0, low)?;
                finite("clip.high", 0, high)?;
                ensure(low < high, "clip.low", low, "must be below clip.high")
            }
            RewardStep::SampleWhitening { whitening } | RewardStep::TokenWhitening { whitening } => {
                whitening.validate()
            }
            RewardStep::MaskTruncated | RewardStep::SampleKl | RewardStep::Baseline | RewardStep::TokenKl => Ok(()),
        }
    }
}
