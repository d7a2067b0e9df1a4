//! One number per sample: its reward against those of the other samples of its prompt.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, finite, same_length};
use crate::statistics::{RunningStatistics, Variance};

/// How a sample is compared with its group.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GroupEstimator {
    /// `(reward - mean) / (std + std_epsilon)`: GRPO, see [`group_relative_advantages`](super::group_relative_advantages).
    GroupRelative {
        /// Added to the standard deviation of the group.
        std_epsilon: f64,
        /// Smallest variance of a group. 0 is off; 1e-6 is the vectorised form of some verl versions, which shrinks
        /// groups whose rewards differ by less than about 0.001.
        #[serde(default)]
        variance_floor: f64,
    },
    /// As group relative, divided by the standard deviation of all rewards of the batch.
    BatchScaled {
        /// Added to the standard deviation of the batch.
        std_epsilon: f64,
    },
    /// `reward - mean`: Dr. GRPO, REINFORCE++-baseline (with whitening over tokens), REINFORCE with a group baseline.
    MeanBaseline,
    /// `reward - mean of the others`: RLOO.
    LeaveOneOut,
    /// `reward - mean of the whole batch`, for runs with one sample per prompt.
    BatchMeanBaseline,
    /// `reward - sum(length * reward) / sum(length)`: the baseline weighs a sample by its response tokens.
    ///
    /// Hao et al. 2025 (OPO), eq. 6: <https://arxiv.org/abs/2505.23585>. Reads [`GroupRewards::lengths`].
    LengthWeightedBaseline,
    /// `reward - reward of the greedy answer`. Li et al. 2023 (ReMax): <https://arxiv.org/abs/2310.10505>. Reads
    /// [`GroupRewards::greedy_rewards`].
    GreedyBaseline,
    /// Only the best sample has an advantage: best less second best, over `std + std_epsilon` of the group when that is
    /// given. Of equal best samples none has one. <https://arxiv.org/abs/2503.19595>, as verl computes it.
    BestOfGroup {
        /// Added to the standard deviation of the group; absent, the difference is not divided.
        std_epsilon: Option<f64>,
    },
    /// `alpha * (reward - mean) / divisor`, `alpha = scored samples / samples with a reward that is not 0` (at least 1) of
    /// the batch. Chu et al. 2025 (GPG): <https://arxiv.org/abs/2504.02546>.
    GradientScaled {
        /// 1 leaves the difference as it is.
        divisor: f64,
    },
}

/// Rewards of a batch with what some estimators also read.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupRewards<'a> {
    /// `[prompts * group_size]`; samples of one prompt are adjacent, `None` could not be scored.
    pub rewards: &'a [Option<f64>],
    /// Samples per prompt.
    pub group_size: usize,
    /// Response tokens of each sample, `[prompts * group_size]`.
    pub lengths: Option<&'a [usize]>,
    /// Reward of the greedy answer of each prompt, `[prompts]`.
    pub greedy_rewards: Option<&'a [Option<f64>]>,
}

impl<'a> GroupRewards<'a> {
    /// Rewards alone.
    pub fn new(rewards: &'a [Option<f64>], group_size: usize) -> Self {
        GroupRewards { rewards, group_size, lengths: None, greedy_rewards: None }
    }
}

/// Advantages per sample and what was noticed on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupAdvantages {
    /// `[batch]`; 0 for samples that are not `used`.
    pub advantages: Vec<f64>,
    /// `[batch]`: false for a sample without a score, and for its whole group when too few were scored to compare.
    pub used: Vec<bool>,
    /// Share of the used groups whose rewards are all equal, so that a comparison within them teaches nothing.
    pub frac_zero_std: f64,
    /// Samples without a score.
    pub num_unscorable: usize,
    /// Groups left out: fewer than two samples were scored, or the greedy answer was not.
    pub num_skipped_groups: usize,
}

/// What an estimator reads of the whole batch.
struct Batch {
    statistics: RunningStatistics,
    num_nonzero: usize,
}

/// The scored samples of one group: place in the batch and reward.
type Members = [(usize, f64)];

impl GroupEstimator {
    /// Checks that the constants are finite, and at least 0 or positive.
    pub fn validate(self) -> Result<()> {
        let at_least_zero =
            |name, value: f64| ensure(value >= 0.0 && value.is_finite(), name, value, "must be finite and at least 0");
        match self {
            GroupEstimator::GroupRelative { std_epsilon, variance_floor } => {
                at_least_zero("std_epsilon", std_epsilon)?;
                at_least_zero("variance_floor", variance_floor)
            }
            GroupEstimator::BatchScaled { std_epsilon } => at_least_zero("std_epsilon", std_epsilon),
            GroupEstimator::BestOfGroup { std_epsilon } => at_least_zero("std_epsilon", std_epsilon.unwrap_or(0.0)),
            GroupEstimator::GradientScaled { divisor } => {
                ensure(divisor > 0.0 && divisor.is_finite(), "divisor", divisor, "must be finite and positive")
            }
            GroupEstimator::MeanBaseline
            | GroupEstimator::LeaveOneOut
            | GroupEstimator::BatchMeanBaseline
            | GroupEstimator::LengthWeightedBaseline
            | GroupEstimator::GreedyBaseline => Ok(()),
        }
    }

    /// Smallest group that can be compared: 1 where the baseline comes from elsewhere, else 2.
    ///
    /// verl takes mean 0 and standard deviation 1 for a group of one, so its reward becomes the advantage; OpenRLHF refuses
    /// such a run at its start, and so does this crate.
    pub fn min_group_size(self) -> usize {
        match self {
            GroupEstimator::BatchMeanBaseline | GroupEstimator::GreedyBaseline => 1,
            _ => 2,
        }
    }

    /// Advantages of a batch.
    ///
    /// # Errors
    /// A constant is bad; `group_size` is below [`min_group_size`](Self::min_group_size) or does not divide the batch;
    /// lengths or greedy rewards are missing where they are read, or do not fit; no group can be compared; or a number is
    /// not finite.
    pub fn advantages(self, group: &GroupRewards<'_>) -> Result<GroupAdvantages> {
        self.validate()?;
        let GroupRewards { rewards, group_size, .. } = *group;
        let limit = "must be at least 2: a sample is compared with others";
        ensure(group_size >= self.min_group_size().max(1), "group_size", group_size as f64, limit)?;
        if !rewards.len().is_multiple_of(group_size) {
            let (length, divisor) = (rewards.len(), group_size);
            return Err(Error::NotAMultiple { name: "rewards", length, divisor_name: "group_size", divisor });
        }
        self.check_inputs(group)?;
        let mut batch = Batch { statistics: RunningStatistics::default(), num_nonzero: 0 };
        for (index, reward) in rewards.iter().enumerate() {
            let Some(reward) = *reward else { continue };
            batch.statistics.push(finite("rewards", index, reward)?)?;
            batch.num_nonzero += usize::from(reward != 0.0);
        }
        let mut result = GroupAdvantages {
            advantages: vec![0.0; rewards.len()],
            used: vec![false; rewards.len()],
            frac_zero_std: 0.0,
            num_unscorable: rewards.iter().filter(|reward| reward.is_none()).count(),
            num_skipped_groups: 0,
        };
        let (mut num_groups, mut num_constant) = (0_usize, 0_usize);
        for (prompt, start) in (0..rewards.len()).step_by(group_size).enumerate() {
            let members: Vec<(usize, f64)> =
                (start..start + group_size).filter_map(|index| rewards[index].map(|reward| (index, reward))).collect();
            let greedy = group.greedy_rewards.and_then(|greedy| greedy[prompt]);
            let lacks_greedy = self == GroupEstimator::GreedyBaseline && greedy.is_none();
            if members.len() < self.min_group_size() || lacks_greedy {
                result.num_skipped_groups += 1;
                continue;
            }
            num_groups += 1;
            // Compared directly: rounding of the mean would turn equal rewards into a tiny spread.
            let constant = members.len() > 1 && members.iter().all(|&(_, reward)| reward == members[0].1);
            num_constant += usize::from(constant);
            let greedy = finite("greedy_rewards", prompt, greedy.unwrap_or(0.0))?;
            for (&(index, _), advantage) in
                members.iter().zip(self.compare(&members, constant, greedy, group.lengths, &batch)?)
            {
                result.advantages[index] = finite("advantages", index, advantage)?;
                result.used[index] = true;
            }
        }
        if num_groups == 0 {
            return Err(Error::EmptyBatch { what: "groups with enough scored samples to compare" });
        }
        result.frac_zero_std = num_constant as f64 / num_groups as f64;
        Ok(result)
    }

    fn check_inputs(self, group: &GroupRewards<'_>) -> Result<()> {
        let missing = |name, limit| ensure(false, name, 0.0, limit);
        match (group.lengths, self) {
            (Some(lengths), _) => same_length("lengths", lengths.len(), "rewards", group.rewards.len())?,
            (None, GroupEstimator::LengthWeightedBaseline) => {
                missing("lengths", "must be given: the baseline weighs samples by their response tokens")?;
            }
            (None, _) => {}
        }
        let prompts = group.rewards.len() / group.group_size;
        match (group.greedy_rewards, self) {
            (Some(greedy), _) => same_length("greedy_rewards", greedy.len(), "prompts", prompts),
            (None, GroupEstimator::GreedyBaseline) => missing("greedy_rewards", "must be given: they are the baseline"),
            (None, _) => Ok(()),
        }
    }

    /// Advantages of the scored members of one group.
    fn compare(
        self,
        members: &Members,
        constant: bool,
        greedy: f64,
        lengths: Option<&[usize]>,
        batch: &Batch,
    ) -> Result<Vec<f64>> {
        let mut statistics = RunningStatistics::default();
        members.iter().try_for_each(|&(_, reward)| statistics.push(reward))?;
        // A spread beyond the range of f64 must not pass as an advantage of 0.
        let std = |statistics: &RunningStatistics| {
            finite("std of rewards", 0, statistics.standard_deviation(Variance::Unbiased)?)
        };
        let less = |baseline: f64, scale: f64| {
            members.iter().map(|&(_, reward)| (reward - baseline) * scale).collect::<Vec<f64>>()
        };
        let mean = statistics.mean();
        Ok(match self {
            GroupEstimator::BatchMeanBaseline => less(batch.statistics.mean(), 1.0),
            GroupEstimator::GreedyBaseline => less(greedy, 1.0),
            _ if constant => vec![0.0; members.len()],
            GroupEstimator::GroupRelative { std_epsilon, variance_floor } => {
                less(mean, 1.0 / (std(&statistics)?.max(variance_floor.sqrt()) + std_epsilon))
            }
            GroupEstimator::BatchScaled { std_epsilon } => less(mean, 1.0 / (std(&batch.statistics)? + std_epsilon)),
            GroupEstimator::MeanBaseline => less(mean, 1.0),
            GroupEstimator::LeaveOneOut => less(mean, members.len() as f64 / (members.len() - 1) as f64),
            GroupEstimator::GradientScaled { divisor } => {
                less(mean, batch.statistics.count() as f64 / batch.num_nonzero.max(1) as f64 / divisor)
            }
            GroupEstimator::LengthWeightedBaseline => {
                let length = |index: usize| lengths.map_or(0.0, |lengths| lengths[index] as f64);
                let total: f64 = members.iter().map(|&(index, _)| length(index)).sum();
                ensure(total > 0.0, "lengths", total, "must not all be 0 in a group")?;
                less(members.iter().map(|&(index, reward)| length(index) / total * reward).sum(), 1.0)
            }
            GroupEstimator::BestOfGroup { std_epsilon } => {
                let mut order: Vec<usize> = (0..members.len()).collect();
                order.sort_by(|&left, &right| members[right].1.total_cmp(&members[left].1));
                let gap = members[order[0]].1 - members[order[1]].1;
                let mut advantages = vec![0.0; members.len()];
                advantages[order[0]] = match std_epsilon {
                    Some(std_epsilon) => gap / (std(&statistics)? + std_epsilon),
                    None => gap,
                };
                advantages
            }
        })
    }
}
