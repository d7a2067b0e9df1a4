//! Divergence from the reference policy: per-token estimators, the loss they make, and controllers of their coefficient.
//!
//! All estimators work on sampled tokens, `log_ratio = log_prob - ref_log_prob`. Schulman 2020, "Approximating KL
//! divergence": <http://joschu.net/blog/kl-approx.html>.

mod controller;
mod correction;

pub use controller::KlController;
pub use correction::{KlCorrection, corrected_kl_loss};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, finite, finite_f32, same_length};
use crate::masked::{Normalizer, weigh};
use crate::rows::Rows;

/// Which function of the log-ratio estimates the divergence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `log_ratio`: unbiased, signed. As a loss its gradient is that of the log-probability, 0 in expectation.
    K1,
    /// `log_ratio^2 / 2`: as a loss its gradient is the divergence's, in expectation.
    K2,
    /// `exp(-log_ratio) - 1 + log_ratio`: unbiased and never negative.
    K3,
    /// `|log_ratio|`.
    Abs,
}

/// An estimator and its variations.
///
/// OpenRLHF clamps every estimate at 10; verl only that of K3, whose exponent it also clamps at 20, which changes neither
/// value nor gradient once the value is clamped; TRL clamps nothing. verl's `k3+` is K3 straight through.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlPenalty {
    /// The estimator.
    pub estimator: KlEstimator,
    /// Hold the estimate in `[-clamp, clamp]`, without gradient outside; absent, leave it as it is.
    pub clamp: Option<f64>,
    /// Keep the value, but take the gradient of [`KlEstimator::K2`].
    #[serde(default)]
    pub straight_through: bool,
}

impl From<KlEstimator> for KlPenalty {
    fn from(estimator: KlEstimator) -> Self {
        KlPenalty { estimator, clamp: None, straight_through: false }
    }
}

/// One token's estimate and its derivative with respect to the log-probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlTerm {
    /// The estimate in nats.
    pub value: f64,
    /// Derivative with respect to `log_prob`.
    pub derivative: f64,
}

impl KlPenalty {
    /// Checks that `clamp` is positive and finite.
    pub fn validate(self) -> Result<()> {
        match self.clamp {
            Some(clamp) => ensure(clamp > 0.0 && clamp.is_finite(), "kl clamp", clamp, "must be finite and positive"),
            None => Ok(()),
        }
    }

    /// The estimate at `log_ratio = log_prob - ref_log_prob`.
    pub fn term(self, log_ratio: f64) -> KlTerm {
        let (value, derivative) = match self.estimator {
            KlEstimator::K1 => (log_ratio, 1.0),
            KlEstimator::K2 => (0.5 * log_ratio * log_ratio, log_ratio),
            // exp_m1 keeps the digits near 0, where exp(-u) - 1 and u cancel.
            KlEstimator::K3 => ((-log_ratio).exp_m1() + log_ratio, -(-log_ratio).exp_m1()),
            KlEstimator::Abs if log_ratio == 0.0 => (0.0, 0.0),
            KlEstimator::Abs => (log_ratio.abs(), log_ratio.signum()),
        };
        let (value, derivative) = match self.clamp {
            Some(clamp) if value.abs() > clamp => (value.clamp(-clamp, clamp), 0.0),
            _ => (value, derivative),
        };
        KlTerm { value, derivative: if self.straight_through { log_ratio } else { derivative } }
    }
}

/// Value and gradient of [`kl_loss`].
#[derive(Debug, Clone, PartialEq)]
pub struct KlLoss {
    /// `kl_coef` times the reduced estimate.
    pub loss: f64,
    /// Gradient of `loss` with respect to `log_probs`, `[batch, seq]`, exactly 0 where masked.
    pub grad_log_probs: Vec<f32>,
    /// Plain mean of the estimate over this call's tokens, in nats; 0 without tokens.
    pub mean_kl: f64,
    /// Response tokens of this call.
    pub num_tokens: usize,
}

/// The penalty as part of the loss: `kl_coef * estimate`, summed over response tokens with the normalizer's weights.
///
/// Slices are `[batch, seq]`; where `response_mask` is false nothing is read. K2 and K3 are meant for this place.
///
/// # Errors
/// Lengths differ, `kl_coef` is negative, the step is empty, or a number is not finite.
pub fn kl_loss<'a>(
    log_probs: &[f32],
    ref_log_probs: &[f32],
    response_mask: &[bool],
    penalty: impl Into<KlPenalty>,
    kl_coef: f64,
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<KlLoss> {
    let penalty = penalty.into();
    check(log_probs, ref_log_probs, response_mask, penalty)?;
    ensure(kl_coef >= 0.0 && kl_coef.is_finite(), "kl_coef", kl_coef, "must be finite and at least 0")?;
    let mut total = 0.0;
    let sum = weigh(response_mask, normalizer.into(), "grad_log_probs", |index| {
        let term = penalty.term(log_ratio(log_probs, ref_log_probs, index)?);
        total += finite("kl", index, term.value)?;
        Ok((kl_coef * term.value, kl_coef * term.derivative))
    })?;
    let mean_kl = total / sum.num_tokens.max(1) as f64;
    Ok(KlLoss { loss: sum.loss, grad_log_probs: sum.gradient, mean_kl, num_tokens: sum.num_tokens })
}

/// The estimates alone, `[batch, seq]`, 0 where masked: for the penalty inside the reward. K1 is meant for this place.
///
/// # Errors
/// Lengths differ, or a number is not finite.
pub fn kl_estimates(
    log_probs: &[f32],
    ref_log_probs: &[f32],
    response_mask: &[bool],
    penalty: impl Into<KlPenalty>,
) -> Result<Vec<f32>> {
    let penalty = penalty.into();
    check(log_probs, ref_log_probs, response_mask, penalty)?;
    let mut estimates = vec![0.0; log_probs.len()];
    for index in (0..log_probs.len()).filter(|&index| response_mask[index]) {
        estimates[index] = finite_f32("kl", index, penalty.term(log_ratio(log_probs, ref_log_probs, index)?).value)?;
    }
    Ok(estimates)
}

/// The divergence a controller steers by: mean of `kl`, `[batch, seq]`, over the response tokens of each row, then over
/// the rows that have one.
///
/// # Errors
/// Lengths differ, no row has a response token, or a number is not finite.
pub fn sequence_mean_kl<'a>(kl: &[f32], response_mask: &[bool], rows: impl Into<Rows<'a>>) -> Result<f64> {
    same_length("kl", kl.len(), "response_mask", response_mask.len())?;
    let (mut total, mut num_rows) = (0.0, 0_usize);
    for range in rows.into().ranges(kl.len())? {
        let (mut sum, mut num_tokens) = (0.0, 0_usize);
        for index in range.filter(|&index| response_mask[index]) {
            sum += finite("kl", index, kl[index].into())?;
            num_tokens += 1;
        }
        if num_tokens > 0 {
            total += sum / num_tokens as f64;
            num_rows += 1;
        }
    }
    if num_rows == 0 {
        return Err(Error::EmptyBatch { what: "rows with a response token" });
    }
    Ok(total / num_rows as f64)
}

fn check(log_probs: &[f32], ref_log_probs: &[f32], response_mask: &[bool], penalty: KlPenalty) -> Result<()> {
    same_length("log_probs", log_probs.len(), "response_mask", response_mask.len())?;
    same_length("ref_log_probs", ref_log_probs.len(), "response_mask", response_mask.len())?;
    penalty.validate()
}

fn log_ratio(log_probs: &[f32], ref_log_probs: &[f32], index: usize) -> Result<f64> {
    let log_prob = finite("log_probs", index, log_probs[index].into())?;
    Ok(log_prob - finite("ref_log_probs", index, ref_log_probs[index].into())?)
}
