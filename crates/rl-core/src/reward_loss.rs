//! Reward models: the Bradley-Terry loss over pairs of rewards, win probabilities, and normalisation at inference.
//!
//! The head that makes a reward from a hidden state is not here; neither are losses over policies, which are in
//! [`preference_loss`](crate::preference_loss).

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, finite, same_length};
use crate::preference_loss::logistic::{sigmoid, softplus};
use crate::statistics::{RunningStatistics, Variance};

/// Value, gradients and counts of [`bradley_terry_loss`].
#[derive(Debug, Clone, PartialEq)]
pub struct RewardLoss {
    /// The loss in nats, this call's share of the step.
    pub loss: f64,
    /// Its gradient with respect to the chosen rewards, `[pairs]`.
    pub grad_chosen_rewards: Vec<f64>,
    /// Its gradient with respect to the rejected rewards, `[pairs]`.
    pub grad_rejected_rewards: Vec<f64>,
    /// Pairs of this call.
    pub num_pairs: usize,
    /// Pairs whose chosen reward is strictly the larger; a tie is wrong.
    pub num_correct: usize,
    /// Sum of `chosen - rejected`; divided by the pairs of the step it is the mean margin.
    pub sum_margin: f64,
}

impl RewardLoss {
    /// Share of this call's pairs that are in the right order; none when there are no pairs.
    pub fn accuracy(&self) -> Option<f64> {
        (self.num_pairs > 0).then(|| self.num_correct as f64 / self.num_pairs as f64)
    }
}

/// Bradley-Terry loss, `-log sigmoid(chosen - rejected - margin) + centering_coef * (chosen + rejected)^2`, summed over
/// pairs and divided by `num_pairs`.
///
/// `chosen_rewards`, `rejected_rewards` and `margins` are `[pairs]`. `num_pairs` counts the pairs of the whole step, so
/// that the gradients of its micro-batches add up. `centering_coef` 0 is off; 0.01 keeps the rewards around zero.
/// The logarithm is taken as `softplus(margin - difference)`, which neither overflows nor loses small losses.
///
/// Bradley and Terry 1952; margins: Touvron et al. 2023, eq. 2: <https://arxiv.org/abs/2307.09288>; centering: Eisenstein
/// et al. 2023: <https://arxiv.org/abs/2312.09244>. TRL uses a margin whenever the data has one. OpenRLHF's `logexp` loss
/// is the same function, evaluated so that it overflows where `rejected - chosen` passes 88 in `f32`, and without margins.
///
/// # Errors
/// Lengths differ, `num_pairs` is smaller than this call, the coefficient is negative, or a number is not finite.
pub fn bradley_terry_loss(
    chosen_rewards: &[f64],
    rejected_rewards: &[f64],
    margins: Option<&[f64]>,
    centering_coef: f64,
    num_pairs: usize,
) -> Result<RewardLoss> {
    let pairs = chosen_rewards.len();
    same_length("rejected_rewards", rejected_rewards.len(), "chosen_rewards", pairs)?;
    if let Some(margins) = margins {
        same_length("margins", margins.len(), "chosen_rewards", pairs)?;
    }
    let usable = centering_coef >= 0.0 && centering_coef.is_finite();
    ensure(usable, "centering_coef", centering_coef, "must be finite and at least 0")?;
    if num_pairs == 0 {
        return Err(Error::EmptyBatch { what: "pairs of the step" });
    }
    ensure(
        pairs <= num_pairs,
        "num_pairs",
        num_pairs as f64,
        "must count every pair of the step, this call's included",
    )?;
    let share = 1.0 / num_pairs as f64;
    let mut output = RewardLoss {
        loss: 0.0,
        grad_chosen_rewards: Vec::with_capacity(pairs),
        grad_rejected_rewards: Vec::with_capacity(pairs),
        num_pairs: pairs,
        num_correct: 0,
        sum_margin: 0.0,
    };
    for index in 0..pairs {
        let chosen = finite("chosen_rewards", index, chosen_rewards[index])?;
        let rejected = finite("rejected_rewards", index, rejected_rewards[index])?;
        let margin = margins.map_or(Ok(0.0), |margins| finite("margins", index, margins[index]))?;
        let shortfall = margin - (chosen - rejected);
        let sum = chosen + rejected;
        let loss = softplus(shortfall) + centering_coef * sum * sum;
        let slope = sigmoid(shortfall);
        let pull = 2.0 * centering_coef * sum;
        output.loss += share * finite("reward_loss", index, loss)?;
        output.grad_chosen_rewards.push(finite("grad_chosen_rewards", index, share * (pull - slope))?);
        output.grad_rejected_rewards.push(finite("grad_rejected_rewards", index, share * (pull + slope))?);
        output.num_correct += usize::from(chosen > rejected);
        output.sum_margin += chosen - rejected;
    }
    finite("reward_loss", pairs, output.loss)?;
    Ok(output)
}

/// Bradley-Terry probability that an answer with reward `first` is preferred to one with reward `second` of the same
/// prompt, `sigmoid(first - second)`, in `[0, 1]`.
///
/// Both rewards are raw; for normalised ones see [`RewardNormalizer::win_probability`].
///
/// # Errors
/// A reward is not finite.
pub fn win_probability(first: f64, second: f64) -> Result<f64> {
    Ok(sigmoid(finite("reward", 0, first)? - finite("reward", 1, second)?))
}

/// Mean and spread of a reward model's outputs, stored with the model and applied at inference, never in training.
///
/// As OpenRLHF does, the numbers are those of all chosen and rejected rewards of the evaluation set.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardNormalizer {
    /// Mean of the rewards.
    pub mean: f64,
    /// Unbiased standard deviation, at least [`RewardNormalizer::MIN_STD`].
    pub std: f64,
}

impl RewardNormalizer {
    /// Smallest standard deviation: a constant reward model divides by this and not by 0.
    pub const MIN_STD: f64 = 1e-8;

    /// Mean and unbiased standard deviation of `rewards`, chosen and rejected ones together.
    ///
    /// # Errors
    /// Fewer than two rewards, or one that is not finite.
    pub fn from_rewards(rewards: impl IntoIterator<Item = f64>) -> Result<Self> {
        let mut statistics = RunningStatistics::default();
        for reward in rewards {
            statistics.push(reward)?;
        }
        let std = statistics.variance(Variance::Unbiased)?.sqrt().max(Self::MIN_STD);
        Ok(RewardNormalizer { mean: statistics.mean(), std })
    }

    /// Checks that the mean is finite and the spread is at least [`RewardNormalizer::MIN_STD`].
    pub fn validate(&self) -> Result<()> {
        finite("reward_mean", 0, self.mean)?;
        let usable = self.std >= Self::MIN_STD && self.std.is_finite();
        ensure(usable, "reward_std", self.std, "must be finite and at least 1e-8")
    }

    /// `(reward - mean) / std`.
    pub fn normalize(&self, reward: f64) -> f64 {
        (reward - self.mean) / self.std
    }

    /// The raw reward behind a normalised one.
    pub fn denormalize(&self, reward: f64) -> f64 {
        reward * self.std + self.mean
    }

    /// [`win_probability`] of two *normalised* rewards: their difference times `std`, through the sigmoid.
    ///
    /// # Errors
    /// A reward is not finite.
    pub fn win_probability(&self, first: f64, second: f64) -> Result<f64> {
        win_probability(self.denormalize(first), self.denormalize(second))
    }
}
