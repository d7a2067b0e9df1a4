//! One reward out of several per sample.

use serde::{Deserialize, Serialize};

use super::group::{GroupEstimator, GroupRewards};
use crate::error::{Error, Result, finite, same_length};

/// How several rewards per sample become one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum RewardAggregation {
    /// `sum_k weight_k * reward_k`; whatever compares samples comes after.
    SumThenNormalize,
    /// Each reward is compared within its group first: `sum_k weight_k * (reward_k - mean_k) / (std_k + std_epsilon)`.
    ///
    /// The result is to be whitened over the batch, not compared within the group once more: over samples with
    /// [`Whitening::standardized(1e-4)`](super::Whitening::standardized) in TRL, over tokens with
    /// [`Whitening::unbiased`](super::Whitening::unbiased) in verl. Liu et al. 2026 (GDPO):
    /// <https://arxiv.org/abs/2601.05242>.
    NormalizeThenSum {
        /// Added to the standard deviation of each reward in its group.
        std_epsilon: f64,
    },
}

/// Weighted sum of several rewards, `[batch]`: `None` where no reward could be computed.
///
/// `rewards[k]` is `[batch]` and `weights` is `[rewards]`. A reward that is missing for a sample that has others counts
/// 0, as in TRL; verl has no missing rewards. A missing reward takes no part in the mean and standard deviation of its
/// group, and a group that has fewer than two of a reward leaves that reward out.
///
/// # Errors
/// Lengths differ, there are no rewards, `group_size` does not fit, or a number is not finite.
pub fn combine_rewards(
    aggregation: RewardAggregation,
    rewards: &[&[Option<f64>]],
    weights: &[f64],
    group_size: usize,
) -> Result<Vec<Option<f64>>> {
    same_length("weights", weights.len(), "rewards", rewards.len())?;
    let Some(first) = rewards.first() else { return Err(Error::EmptyBatch { what: "rewards to combine" }) };
    let mut combined: Vec<Option<f64>> = vec![None; first.len()];
    for (place, (&reward, &weight)) in rewards.iter().zip(weights).enumerate() {
        same_length("rewards", reward.len(), "the first reward", first.len())?;
        finite("weights", place, weight)?;
        let normalized = match aggregation {
            RewardAggregation::SumThenNormalize => None,
            RewardAggregation::NormalizeThenSum { std_epsilon } => {
                let estimator = GroupEstimator::GroupRelative { std_epsilon, variance_floor: 0.0 };
                match estimator.advantages(&GroupRewards::new(reward, group_size)) {
                    Ok(group) => Some(group.advantages),
                    // One reward may be absent everywhere while others are not.
                    Err(Error::EmptyBatch { .. }) => Some(vec![0.0; reward.len()]),
                    Err(error) => return Err(error),
                }
            }
        };
        for (index, raw) in reward.iter().enumerate() {
            let Some(raw) = *raw else { continue };
            let part = normalized.as_ref().map_or(raw, |advantages| advantages[index]);
            let sum = combined[index].unwrap_or(0.0) + weight * finite("rewards", index, part)?;
            combined[index] = Some(finite("combined rewards", index, sum)?);
        }
    }
    Ok(combined)
}
