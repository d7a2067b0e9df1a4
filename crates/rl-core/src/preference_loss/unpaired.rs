//! Losses over single answers, each judged desirable or undesirable: KTO and its relatives.

use serde::{Deserialize, Serialize};

use super::logistic::sigmoid;
use crate::error::{Error, Result, ensure, finite, same_length};
use crate::statistics::RunningStatistics;

/// A loss over single answers; `u` is the answer's log-ratio to the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum UnpairedLoss {
    /// Desirable: `1 - sigmoid(beta (u - k))`, undesirable: `1 - sigmoid(beta (k - u))`, with the baseline
    /// [`KtoBaseline::from_mismatched`]. Ethayarajh et al. 2024, eq. 8: <https://arxiv.org/abs/2402.01306>.
    Kto {
        /// Strength of the hold to the reference; 0.1 everywhere.
        beta: f64,
    },
    /// The same with [`KtoBaseline::from_other_side`]: each side is measured against the mean log-ratio of the other.
    /// OpenRLHF 0.8's loss for even sampling, which needs no mismatched pairs.
    KtoEvenSampling {
        /// Strength of the hold to the reference.
        beta: f64,
        /// Whether gradients flow through the baselines too, as in OpenRLHF; the paper holds them constant. If so the loss
        /// is not separable and takes the whole step at once.
        #[serde(default)]
        baseline_gradient: bool,
    },
    /// [`UnpairedLoss::Kto`] with baseline 0: desirable `1 - sigmoid(beta u)`, undesirable `sigmoid(beta u)`.
    ApoZeroUnpaired {
        /// Strength of the hold to the reference.
        beta: f64,
    },
}

/// A loss over single answers with the weights of both sides.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnpairedObjective {
    /// The loss.
    pub loss: UnpairedLoss,
    /// Weight of the desirable answers.
    #[serde(default = "one")]
    pub desirable_weight: f64,
    /// Weight of the undesirable answers.
    #[serde(default = "one")]
    pub undesirable_weight: f64,
}

impl UnpairedObjective {
    /// The strength of the hold to the reference.
    pub fn beta(&self) -> f64 {
        match self.loss {
            UnpairedLoss::Kto { beta }
            | UnpairedLoss::KtoEvenSampling { beta, .. }
            | UnpairedLoss::ApoZeroUnpaired { beta } => beta,
        }
    }

    /// Whether log-ratios of mismatched prompts and answers are needed.
    pub fn needs_mismatched(&self) -> bool {
        matches!(self.loss, UnpairedLoss::Kto { .. })
    }

    /// Whether a step may be cut into micro-batches once its baseline is known.
    pub fn is_separable(&self) -> bool {
        !matches!(self.loss, UnpairedLoss::KtoEvenSampling { baseline_gradient: true, .. })
    }

    /// `desirable_weight * num_desirable / (undesirable_weight * num_undesirable)`; the paper recommends `[1, 4/3]`. None
    /// when the divisor is 0.
    pub fn balance(&self, num_desirable: usize, num_undesirable: usize) -> Option<f64> {
        let divisor = self.undesirable_weight * num_undesirable as f64;
        (divisor > 0.0).then(|| self.desirable_weight * num_desirable as f64 / divisor)
    }

    /// Checks every hyperparameter.
    pub fn validate(&self) -> Result<()> {
        let beta = self.beta();
        ensure(beta > 0.0 && beta.is_finite(), "beta", beta, "must be finite and above 0")?;
        for (name, weight) in
            [("desirable_weight", self.desirable_weight), ("undesirable_weight", self.undesirable_weight)]
        {
            ensure(weight >= 0.0 && weight.is_finite(), name, weight, "must be finite and at least 0")?;
        }
        Ok(())
    }
}

/// What log-ratios are compared with, one number per side, each at least 0 and without gradient.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KtoBaseline {
    /// Of the desirable answers.
    pub desirable: f64,
    /// Of the undesirable answers.
    pub undesirable: f64,
}

impl KtoBaseline {
    /// No baseline.
    pub const ZERO: Self = KtoBaseline { desirable: 0.0, undesirable: 0.0 };

    /// `max(0, mean)` of the log-ratios of prompts with the answers of *other* prompts, for both sides: an estimate of the
    /// KL divergence of the policy from its reference.
    ///
    /// The statistics are those of the whole step: [`RunningStatistics::push`] each mismatched log-ratio, and merge over
    /// micro-batches and ranks. Inside each batch the answers are rotated by one: prompt `i` meets answer `i - 1`, as in TRL.
    ///
    /// # Errors
    /// There are no log-ratios.
    pub fn from_mismatched(log_ratios: &RunningStatistics) -> Result<Self> {
        let baseline = clamped_mean(log_ratios, "mismatched log-ratios of the step")?;
        Ok(KtoBaseline { desirable: baseline, undesirable: baseline })
    }

    /// `max(0, mean)` of the undesirable answers' log-ratios for the desirable ones, and the other way round; statistics of
    /// the whole step.
    ///
    /// # Errors
    /// One side is empty.
    pub fn from_other_side(desirable: &RunningStatistics, undesirable: &RunningStatistics) -> Result<Self> {
        Ok(KtoBaseline {
            desirable: clamped_mean(undesirable, "undesirable answers of the step")?,
            undesirable: clamped_mean(desirable, "desirable answers of the step")?,
        })
    }
}

/// Value, gradient and rewards of [`unpaired_loss`].
#[derive(Debug, Clone, PartialEq)]
pub struct UnpairedOutput {
    /// The loss: this call's share of the step's mean over answers.
    pub loss: f64,
    /// Its gradient with respect to `log_probs`, `[batch]`.
    pub grad_log_probs: Vec<f64>,
    /// Implicit rewards `beta u`, `[batch]`.
    pub rewards: Vec<f64>,
    /// Desirable answers of this call.
    pub num_desirable: usize,
    /// Undesirable answers of this call.
    pub num_undesirable: usize,
    /// Sum of the desirable rewards.
    pub sum_desirable_reward: f64,
    /// Sum of the undesirable rewards.
    pub sum_undesirable_reward: f64,
}

/// A loss over single answers, summed with the weights of their sides and divided by `num_answers`.
///
/// `log_probs` and `ref_log_probs` are sums over each answer's response tokens, `[batch]`; `desirable` is `[batch]`.
/// `num_answers` counts the answers of the whole step, so that micro-batches add up. `baseline` is ignored by
/// [`UnpairedLoss::ApoZeroUnpaired`].
///
/// TRL averages the same way over the micro-batch, and estimates the baseline there too; ours is step-wide.
///
/// # Errors
/// A setting is bad, lengths differ, `num_answers` does not cover the call, or a number is not finite.
pub fn unpaired_loss(
    log_probs: &[f64],
    ref_log_probs: &[f64],
    desirable: &[bool],
    baseline: KtoBaseline,
    objective: &UnpairedObjective,
    num_answers: usize,
) -> Result<UnpairedOutput> {
    objective.validate()?;
    let answers = log_probs.len();
    same_length("ref_log_probs", ref_log_probs.len(), "log_probs", answers)?;
    same_length("desirable", desirable.len(), "log_probs", answers)?;
    if num_answers == 0 {
        return Err(Error::EmptyBatch { what: "answers of the step" });
    }
    if objective.is_separable() {
        let limit = "must count every answer of the step, this call's included";
        ensure(answers <= num_answers, "num_answers", num_answers as f64, limit)?;
    } else {
        let limit = "must be the answers of this call: with baseline_gradient the step is taken whole";
        ensure(answers == num_answers, "num_answers", num_answers as f64, limit)?;
    }
    let baseline = match objective.loss {
        UnpairedLoss::ApoZeroUnpaired { .. } => KtoBaseline::ZERO,
        UnpairedLoss::Kto { .. } | UnpairedLoss::KtoEvenSampling { .. } => baseline,
    };
    for (index, value) in [baseline.desirable, baseline.undesirable].into_iter().enumerate() {
        finite("baseline", index, value)?;
        ensure(value >= 0.0, "baseline", value, "must be at least 0")?;
    }
    let beta = objective.beta();
    let mut output = UnpairedOutput {
        loss: 0.0,
        grad_log_probs: Vec::with_capacity(answers),
        rewards: Vec::with_capacity(answers),
        num_desirable: 0,
        num_undesirable: 0,
        sum_desirable_reward: 0.0,
        sum_undesirable_reward: 0.0,
    };
    // How the loss changes with the baseline of each side.
    let (mut desirable_slope, mut undesirable_slope) = (0.0, 0.0);
    for index in 0..answers {
        let log_prob = finite("log_probs", index, log_probs[index])?;
        let reference = finite("ref_log_probs", index, ref_log_probs[index])?;
        let ratio = finite("log_ratio", index, log_prob - reference)?;
        // 1 - sigmoid(x) is sigmoid(-x): the loss rises with this.
        let (distance, sign, weight) = if desirable[index] {
            (baseline.desirable - ratio, -1.0, objective.desirable_weight)
        } else {
            (ratio - baseline.undesirable, 1.0, objective.undesirable_weight)
        };
        let (rise, share) = (sigmoid(beta * distance), weight / num_answers as f64);
        let slope = share * beta * rise * sigmoid(-beta * distance);
        output.loss += share * rise;
        output.grad_log_probs.push(finite("grad_log_probs", index, sign * slope)?);
        let reward = finite("rewards", index, beta * ratio)?;
        output.rewards.push(reward);
        if desirable[index] {
            output.num_desirable += 1;
            output.sum_desirable_reward += reward;
            desirable_slope += slope;
        } else {
            output.num_undesirable += 1;
            output.sum_undesirable_reward += reward;
            undesirable_slope -= slope;
        }
    }
    finite("unpaired_loss", answers, output.loss)?;
    if !objective.is_separable() {
        // A baseline of 0 is the clamp, which passes nothing on.
        let through_undesirable = if baseline.desirable > 0.0 { desirable_slope } else { 0.0 };
        let through_desirable = if baseline.undesirable > 0.0 { undesirable_slope } else { 0.0 };
        for (gradient, &good) in output.grad_log_probs.iter_mut().zip(desirable) {
            *gradient += if good {
                through_desirable / output.num_desirable as f64
            } else {
                through_undesirable / output.num_undesirable as f64
            };
        }
    }
    Ok(output)
}

fn clamped_mean(log_ratios: &RunningStatistics, what: &'static str) -> Result<f64> {
    if log_ratios.count() == 0 {
        return Err(Error::EmptyBatch { what });
    }
    Ok(finite("kto_baseline", 0, log_ratios.mean())?.max(0.0))
}

fn one() -> f64 {
    1.0
}
