//! Advantages without a critic: each sample against its group, and whitening over a whole batch.
//!
//! Samples of one prompt are adjacent: `rewards` is `[batch]` with `batch = prompts * group_size`. A sample that could not
//! be scored is `None`: it takes no part in any statistic and gets advantage 0.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, finite, finite_f32, same_length};
use crate::statistics::{RunningStatistics, Variance};

/// How a sample is compared with its group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GroupEstimator {
    /// See [`group_relative_advantages`].
    GroupRelative {
        /// Added to the standard deviation of the group.
        std_epsilon: f64,
    },
    /// As group relative, divided by the standard deviation of all rewards of the batch.
    BatchScaled {
        /// Added to the standard deviation of the batch.
        std_epsilon: f64,
    },
    /// See [`mean_baseline_advantages`].
    MeanBaseline,
    /// See [`leave_one_out_advantages`].
    LeaveOneOut,
}

/// Advantages per sample and what was noticed on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupAdvantages {
    /// `[batch]`; 0 for samples that are not `used`.
    pub advantages: Vec<f64>,
    /// `[batch]`: false for a sample without a score, and for its whole group when fewer than two were scored.
    pub used: Vec<bool>,
    /// Share of the used groups whose rewards are all equal, so that they teach nothing.
    pub frac_zero_std: f64,
    /// Samples without a score.
    pub num_unscorable: usize,
    /// Groups left out because fewer than two samples were scored.
    pub num_skipped_groups: usize,
}

/// `(reward - mean) / (std + std_epsilon)` within the group, with the unbiased standard deviation.
///
/// A group whose rewards are all equal gets exactly 0. `std_epsilon` is commonly 1e-6 or 1e-4.
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
    GroupEstimator::GroupRelative { std_epsilon }.advantages(rewards, group_size)
}

/// `reward - mean of the others of the group` (RLOO); sums to 0 over a group.
///
/// Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free!"; Ahmadian et al. 2024, eq. 8:
/// <https://arxiv.org/abs/2402.14740>.
///
/// # Errors
/// As [`group_relative_advantages`].
pub fn leave_one_out_advantages(rewards: &[Option<f64>], group_size: usize) -> Result<GroupAdvantages> {
    GroupEstimator::LeaveOneOut.advantages(rewards, group_size)
}

/// `reward - mean of the group` (Dr. GRPO, and REINFORCE with a group baseline).
///
/// Liu et al. 2025, section 3.2: <https://arxiv.org/abs/2503.20783>. Left out: its loss reduction, see
/// [`Reduction::ConstNorm`](crate::masked::Reduction::ConstNorm).
///
/// # Errors
/// As [`group_relative_advantages`].
pub fn mean_baseline_advantages(rewards: &[Option<f64>], group_size: usize) -> Result<GroupAdvantages> {
    GroupEstimator::MeanBaseline.advantages(rewards, group_size)
}

impl GroupEstimator {
    /// Checks that the epsilon is finite and not negative.
    pub fn validate(self) -> Result<()> {
        match self {
            GroupEstimator::GroupRelative { std_epsilon } | GroupEstimator::BatchScaled { std_epsilon } => {
                let good = std_epsilon >= 0.0 && std_epsilon.is_finite();
                ensure(good, "std_epsilon", std_epsilon, "must be finite and at least 0")
            }
            GroupEstimator::MeanBaseline | GroupEstimator::LeaveOneOut => Ok(()),
        }
    }

    /// Advantages of `rewards`, `[prompts * group_size]`.
    ///
    /// # Errors
    /// As [`group_relative_advantages`].
    pub fn advantages(self, rewards: &[Option<f64>], group_size: usize) -> Result<GroupAdvantages> {
        self.validate()?;
        ensure(
            group_size >= 2,
            "group_size",
            group_size as f64,
            "must be at least 2: a sample is compared with others",
        )?;
        if !rewards.len().is_multiple_of(group_size) {
            let (length, divisor) = (rewards.len(), group_size);
            return Err(Error::NotAMultiple { name: "rewards", length, divisor_name: "group_size", divisor });
        }
        let scored = rewards.iter().enumerate().filter_map(|(index, reward)| reward.map(|reward| (index, reward)));
        let mut batch = RunningStatistics::default();
        for (index, reward) in scored {
            batch.push(finite("rewards", index, reward)?)?;
        }
        let mut result = GroupAdvantages {
            advantages: vec![0.0; rewards.len()],
            used: vec![false; rewards.len()],
            frac_zero_std: 0.0,
            num_unscorable: rewards.iter().filter(|reward| reward.is_none()).count(),
            num_skipped_groups: 0,
        };
        let (mut num_groups, mut num_constant) = (0_usize, 0_usize);
        for start in (0..rewards.len()).step_by(group_size) {
            let group = &rewards[start..start + group_size];
            let scored: Vec<f64> = group.iter().copied().flatten().collect();
            if scored.len() < 2 {
                result.num_skipped_groups += 1;
                continue;
            }
            num_groups += 1;
            // Compared directly: rounding of the mean would turn equal rewards into a tiny spread.
            let constant = scored.iter().all(|&reward| reward == scored[0]);
            num_constant += usize::from(constant);
            let mut statistics = RunningStatistics::default();
            scored.iter().try_for_each(|&reward| statistics.push(reward))?;
            let scale = match self {
                _ if constant => 0.0,
                GroupEstimator::GroupRelative { std_epsilon } => {
                    1.0 / (statistics.standard_deviation(Variance::Unbiased)? + std_epsilon)
                }
                GroupEstimator::BatchScaled { std_epsilon } => {
                    1.0 / (batch.standard_deviation(Variance::Unbiased)? + std_epsilon)
                }
                GroupEstimator::MeanBaseline => 1.0,
                GroupEstimator::LeaveOneOut => scored.len() as f64 / (scored.len() - 1) as f64,
            };
            for (offset, reward) in group.iter().enumerate() {
                if let Some(reward) = reward {
                    let advantage = (reward - statistics.mean()) * scale;
                    result.advantages[start + offset] = finite("advantages", start + offset, advantage)?;
                    result.used[start + offset] = true;
                }
            }
        }
        if num_groups == 0 {
            return Err(Error::EmptyBatch { what: "groups with two or more scored samples" });
        }
        result.frac_zero_std = num_constant as f64 / num_groups as f64;
        Ok(result)
    }
}

/// How the divisor of a whitening is kept away from 0.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StdFloor {
    /// `sqrt(max(variance, floor))`.
    MaxVariance(f64),
    /// `sqrt(variance + floor)`.
    AddToVariance(f64),
    /// `sqrt(variance) + floor`.
    AddToStd(f64),
}

/// How a batch of advantages or rewards is brought to mean 0 and standard deviation 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Whitening {
    /// Which variance.
    pub variance: Variance,
    /// How the divisor is kept away from 0.
    pub floor: StdFloor,
    /// False keeps the mean as it was.
    pub shift_mean: bool,
    /// False only subtracts the mean.
    pub divide_by_std: bool,
}

impl Whitening {
    /// Biased variance, at least 1e-8.
    pub fn biased() -> Self {
        let floor = StdFloor::MaxVariance(1e-8);
        Whitening { variance: Variance::Biased, floor, shift_mean: true, divide_by_std: true }
    }

    /// Unbiased variance plus 1e-8.
    pub fn unbiased() -> Self {
        let floor = StdFloor::AddToVariance(1e-8);
        Whitening { variance: Variance::Unbiased, floor, shift_mean: true, divide_by_std: true }
    }

    /// `(value - mean) / (unbiased std + epsilon)`.
    pub fn standardized(epsilon: f64) -> Self {
        let floor = StdFloor::AddToStd(epsilon);
        Whitening { variance: Variance::Unbiased, floor, shift_mean: true, divide_by_std: true }
    }
}

/// Statistics of the response tokens of `values`, `[batch, seq]`; merge those of several ranks before [`whiten_with`].
///
/// # Errors
/// Lengths differ, or a number that is read is not finite.
pub fn masked_statistics(values: &[f32], response_mask: &[bool]) -> Result<RunningStatistics> {
    same_length("values", values.len(), "response_mask", response_mask.len())?;
    let mut statistics = RunningStatistics::default();
    for index in (0..values.len()).filter(|&index| response_mask[index]) {
        statistics.push(finite("values", index, values[index].into())?)?;
    }
    Ok(statistics)
}

/// Whitens the response tokens of `values`, `[batch, seq]`, by their own statistics; 0 where masked.
///
/// # Errors
/// As [`whiten_with`].
pub fn whiten(values: &[f32], response_mask: &[bool], whitening: Whitening) -> Result<Vec<f32>> {
    whiten_with(values, response_mask, whitening, &masked_statistics(values, response_mask)?)
}

/// Whitens the response tokens of `values`, `[batch, seq]`, by given statistics; 0 where masked.
///
/// # Errors
/// Lengths differ, the statistics are of too few numbers, the floor is bad, or the divisor is 0.
pub fn whiten_with(
    values: &[f32],
    response_mask: &[bool],
    whitening: Whitening,
    statistics: &RunningStatistics,
) -> Result<Vec<f32>> {
    same_length("values", values.len(), "response_mask", response_mask.len())?;
    let (StdFloor::MaxVariance(floor) | StdFloor::AddToVariance(floor) | StdFloor::AddToStd(floor)) = whitening.floor;
    ensure(floor >= 0.0 && floor.is_finite(), "whitening floor", floor, "must be finite and at least 0")?;
    if statistics.count() == 0 {
        return Err(Error::EmptyBatch { what: "response tokens to whiten" });
    }
    let divisor = if whitening.divide_by_std {
        let variance = statistics.variance(whitening.variance)?;
        let divisor = match whitening.floor {
            StdFloor::MaxVariance(floor) => variance.max(floor).sqrt(),
            StdFloor::AddToVariance(floor) => (variance + floor).sqrt(),
            StdFloor::AddToStd(floor) => variance.sqrt() + floor,
        };
        if divisor == 0.0 {
            return Err(Error::ZeroVariance { name: "whitening with floor 0" });
        }
        divisor
    } else {
        1.0
    };
    let offset = if whitening.shift_mean { 0.0 } else { statistics.mean() };
    let mut whitened = vec![0.0; values.len()];
    for index in (0..values.len()).filter(|&index| response_mask[index]) {
        let value = finite("values", index, values[index].into())?;
        whitened[index] = finite_f32("whitened", index, (value - statistics.mean()) / divisor + offset)?;
    }
    Ok(whitened)
}
