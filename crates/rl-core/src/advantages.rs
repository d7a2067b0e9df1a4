//! From rewards to advantages: samples against their group, discounted returns, a critic's estimate, and whitening.
//!
//! [`AdvantageEstimator`] is the setting a trainer embeds; it runs a [`RewardShaping`](crate::rewards::RewardShaping),
//! then returns or generalized advantage estimation over tokens. The parts can be used alone: [`GroupEstimator`] compares
//! samples of one prompt, [`Whitening`] brings numbers to mean 0 and standard deviation 1, [`combine_rewards`] makes one
//! reward of several. Advantages over the turns of an episode are in
//! [`returns::episode_gae`](crate::returns::episode_gae).
//!
//! Samples of one prompt are adjacent: `rewards` is `[batch]` with `batch = prompts * group_size`. A sample that could not
//! be scored is `None`: it takes no part in any statistic and gets advantage 0.

mod estimator;
mod group;
mod multi_reward;
mod whitening;

pub use estimator::{AdvantageEstimator, TokenAdvantages};
pub use group::{GroupAdvantages, GroupEstimator, GroupRewards};
pub use multi_reward::{RewardAggregation, combine_rewards};
pub use whitening::{StdFloor, Whitening, masked_statistics, whiten, whiten_samples, whiten_with};

use crate::error::Result;

/// `(reward - mean) / (std + std_epsilon)` within the group, with the unbiased standard deviation.
///
/// A group whose rewards are all equal gets exactly 0. `std_epsilon` is 1e-4 in TRL, 1e-6 in verl, 1e-9 in OpenRLHF.
///
/// Shao et al. 2024 (GRPO), section 4.1: <https://arxiv.org/abs/2402.03300>.
///
/// # Errors
/// `group_size` is below 2 or does not divide the batch, no group has two scored samples, or a reward is not finite.
pub fn group_relative_advantages(
    rewards: &[Option<f64>],
    group_size: usize,
    std_epsilon: f64,
) -> Result<GroupAdvantages> {
    let estimator = GroupEstimator::GroupRelative { std_epsilon, variance_floor: 0.0 };
    estimator.advantages(&GroupRewards::new(rewards, group_size))
}

/// `reward - mean of the others of the group` (RLOO); sums to 0 over a group.
///
/// Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. 2024, eq. 8:
/// <https://arxiv.org/abs/2402.14740>.
///
/// # Errors
/// As [`group_relative_advantages`].
pub fn leave_one_out_advantages(rewards: &[Option<f64>], group_size: usize) -> Result<GroupAdvantages> {
    GroupEstimator::LeaveOneOut.advantages(&GroupRewards::new(rewards, group_size))
}

/// `reward - mean of the group` (Dr. GRPO, and REINFORCE with a group baseline).
///
/// Liu et al. 2025, section 3.2: <https://arxiv.org/abs/2503.20783>. Left out: its loss reduction, see
/// [`Reduction::ConstNorm`](crate::masked::Reduction::ConstNorm).
///
/// # Errors
/// As [`group_relative_advantages`].
pub fn mean_baseline_advantages(rewards: &[Option<f64>], group_size: usize) -> Result<GroupAdvantages> {
    GroupEstimator::MeanBaseline.advantages(&GroupRewards::new(rewards, group_size))
}
