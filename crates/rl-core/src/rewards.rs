//! From one outcome reward per sample to rewards per token: length penalty, clip, group baseline, KL, in a named order.

use serde::{Deserialize, Serialize};

use crate::advantages::GroupEstimator;
use crate::error::{Result, ensure, finite, finite_f32, same_length};
use crate::rows::Rows;

/// The order in which a reward is shaped. The length penalty always comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RewardOrder {
    /// Clip the raw reward, subtract the group baseline, then KL token by token.
    #[default]
    ClipBaselineKl,
    /// Subtract the group baseline, clip the difference, then KL token by token.
    BaselineClipKl,
    /// Clip the raw reward, subtract the KL summed over the response, then the group baseline, which so contains the KL.
    ClipKlBaseline,
}

/// Bounds of the outcome reward.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardClip {
    /// Smallest reward.
    pub low: f64,
    /// Largest reward.
    pub high: f64,
}

impl Default for RewardClip {
    /// `[-10, 10]`.
    fn default() -> Self {
        RewardClip { low: -10.0, high: 10.0 }
    }
}

/// How outcome rewards become token rewards.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardShaping {
    /// Order of the parts; belongs in the record of the run.
    #[serde(default)]
    pub order: RewardOrder,
    /// Bounds of the reward; absent, unbounded.
    pub clip: Option<RewardClip>,
    /// What is subtracted within the group; absent, nothing (a critic is the baseline).
    pub baseline: Option<GroupEstimator>,
}

/// Token rewards and what was noticed on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapedRewards {
    /// `[batch, seq]`, 0 where masked and in rows that are not `used`.
    pub token_rewards: Vec<f32>,
    /// `[batch]`: the part that sits on the last response token, before KL per token; 0 in rows that are not `used`.
    pub rewards: Vec<f64>,
    /// `[batch]`: false for samples without a score, without a response token, or in a group that was left out. Take
    /// them out of the loss mask when a critic is used, since its values would still give them an advantage.
    pub used: Vec<bool>,
    /// Rewards that the clip changed.
    pub num_clipped: usize,
    /// Share of groups with equal rewards; absent without a baseline.
    pub frac_zero_std: Option<f64>,
}

impl RewardShaping {
    /// Checks the bounds and the baseline.
    pub fn validate(&self) -> Result<()> {
        if let Some(RewardClip { low, high }) = self.clip {
            finite("clip.low", 0, low)?;
            finite("clip.high", 0, high)?;
            ensure(low < high, "clip.low", low, "must be below clip.high")?;
        }
        self.baseline.map_or(Ok(()), GroupEstimator::validate)
    }

    /// Shapes `rewards`, `[batch]`, and puts each on the last response token of its row, minus `kl_coef * kl` per token.
    ///
    /// `length_penalties` is `[batch]`, added first; `kl` is `[batch, seq]`, from
    /// [`kl_estimates`](crate::kl::kl_estimates) between old and reference policy. Where `response_mask` is false nothing
    /// is read. Samples of one prompt are adjacent; `group_size` is read only with a baseline.
    ///
    /// # Errors
    /// Lengths differ, a setting is bad, `kl_coef` is positive without `kl`, or a number is not finite.
    pub fn token_rewards<'a>(
        &self,
        rewards: &[Option<f64>],
        length_penalties: Option<&[f64]>,
        kl: Option<&[f32]>,
        kl_coef: f64,
        response_mask: &[bool],
        rows: impl Into<Rows<'a>>,
        group_size: usize,
    ) -> Result<ShapedRewards> {
        self.validate()?;
        let ranges = rows.into().ranges(response_mask.len())?;
        same_length("rewards", rewards.len(), "rows", ranges.len())?;
        ensure(kl_coef >= 0.0 && kl_coef.is_finite(), "kl_coef", kl_coef, "must be finite and at least 0")?;
        let kl = match kl {
            Some(kl) => same_length("kl", kl.len(), "response_mask", response_mask.len()).map(|()| Some(kl))?,
            None => ensure(kl_coef == 0.0, "kl_coef", kl_coef, "must be 0 when no kl is given").map(|()| None)?,
        };
        let kl = kl.filter(|_| kl_coef > 0.0);
        if let Some(penalties) = length_penalties {
            same_length("length_penalties", penalties.len(), "rewards", rewards.len())?;
        }

        let mut scores = Vec::with_capacity(rewards.len());
        for (row, reward) in rewards.iter().enumerate() {
            let has_tokens = response_mask[ranges[row].clone()].contains(&true);
            scores.push(match reward.filter(|_| has_tokens) {
                None => None,
                Some(reward) => {
                    let penalty = length_penalties.map_or(0.0, |penalties| penalties[row]);
                    Some(finite("rewards", row, reward)? + finite("length_penalties", row, penalty)?)
                }
            });
        }

        let mut num_clipped = 0;
        let mut frac_zero_std = None;
        if self.order != RewardOrder::BaselineClipKl {
            num_clipped = self.clip_all(&mut scores);
        }
        if let (RewardOrder::ClipKlBaseline, Some(kl)) = (self.order, kl) {
            for (score, range) in scores.iter_mut().zip(&ranges) {
                if let Some(score) = score {
                    for index in range.clone().filter(|&index| response_mask[index]) {
                        *score -= kl_coef * finite("kl", index, kl[index].into())?;
                    }
                }
            }
        }
        if let Some(baseline) = self.baseline {
            let group = baseline.advantages(&scores, group_size)?;
            frac_zero_std = Some(group.frac_zero_std);
            scores =
                group.used.iter().zip(&group.advantages).map(|(&used, &advantage)| used.then_some(advantage)).collect();
        }
        if self.order == RewardOrder::BaselineClipKl {
            num_clipped = self.clip_all(&mut scores);
        }

        let token_kl = kl.filter(|_| self.order != RewardOrder::ClipKlBaseline);
        let mut token_rewards = vec![0.0; response_mask.len()];
        for (score, range) in scores.iter().zip(&ranges) {
            let Some(mut rest) = *score else { continue };
            for index in range.clone().rev().filter(|&index| response_mask[index]) {
                let penalty = match token_kl {
                    Some(kl) => kl_coef * finite("kl", index, kl[index].into())?,
                    None => 0.0,
                };
                // From the right, so that the whole outcome falls on the last response token.
                token_rewards[index] = finite_f32("token_rewards", index, std::mem::take(&mut rest) - penalty)?;
            }
        }
        Ok(ShapedRewards {
            token_rewards,
            used: scores.iter().map(Option::is_some).collect(),
            rewards: scores.into_iter().map(|score| score.unwrap_or(0.0)).collect(),
            num_clipped,
            frac_zero_std,
        })
    }

    fn clip_all(&self, scores: &mut [Option<f64>]) -> usize {
        let Some(RewardClip { low, high }) = self.clip else { return 0 };
        let mut num_clipped = 0;
        for score in scores.iter_mut().flatten() {
            num_clipped += usize::from(*score < low || *score > high);
            *score = score.clamp(low, high);
        }
        num_clipped
    }
}

/// Soft penalty of responses that come close to the length limit: 0 up to `max_length - buffer` tokens, then falling
/// linearly to `-factor` at `max_length`.
///
/// Yu et al. 2025 (DAPO), eq. 13: <https://arxiv.org/abs/2503.14476>.
///
/// # Errors
/// `buffer` is 0 or above `max_length`, or `factor` is negative or not finite.
pub fn overlong_penalty(num_tokens: usize, max_length: usize, buffer: usize, factor: f64) -> Result<f64> {
    ensure(0 < buffer && buffer <= max_length, "buffer", buffer as f64, "must be positive and at most max_length")?;
    ensure(factor >= 0.0 && factor.is_finite(), "factor", factor, "must be finite and at least 0")?;
    let excess = num_tokens.saturating_sub(max_length - buffer).min(buffer);
    Ok(if excess == 0 { 0.0 } else { -(excess as f64 / buffer as f64) * factor })
}
