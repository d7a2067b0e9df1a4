//! The divergence as a loss on samples of an older policy.

use serde::{Deserialize, Serialize};

use super::{KlLoss, KlPenalty, check, log_ratio};
use crate::error::{Result, ensure, finite, same_length};
use crate::masked::{Normalizer, weigh};

/// How a divergence measured on tokens of the old policy is corrected for the policy having moved.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum KlCorrection {
    /// `ratio * estimate` with `ratio = exp(log_prob - old_log_prob)`, the gradient through both factors (TRL's
    /// `use_bias_correction_kl` with token-level ratios, meant for K3). DeepSeek-AI 2025 (V3.2), section 3.1:
    /// <https://arxiv.org/abs/2512.02556>.
    Ratio,
    /// The value of the estimate with the gradient `min(ratio, max_weight) * log_ratio`, that of the divergence in
    /// expectation (OpenRLHF's `unbiased_gradient`, with 10). At ratio 1 it is the straight-through gradient.
    StraightThrough {
        /// Largest weight of a token.
        max_weight: f64,
    },
}

/// [`kl_loss`](super::kl_loss) on tokens that `old_log_probs` drew; all slices are `[batch, seq]`.
///
/// `mean_kl` is that of the estimate without the correction.
///
/// # Errors
/// As [`kl_loss`](super::kl_loss); `max_weight` is not positive.
pub fn corrected_kl_loss<'a>(
    log_probs: &[f32],
    old_log_probs: &[f32],
    ref_log_probs: &[f32],
    response_mask: &[bool],
    penalty: impl Into<KlPenalty>,
    correction: KlCorrection,
    kl_coef: f64,
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<KlLoss> {
    let penalty = penalty.into();
    check(log_probs, ref_log_probs, response_mask, penalty)?;
    same_length("old_log_probs", old_log_probs.len(), "response_mask", response_mask.len())?;
    ensure(kl_coef >= 0.0 && kl_coef.is_finite(), "kl_coef", kl_coef, "must be finite and at least 0")?;
    if let KlCorrection::StraightThrough { max_weight } = correction {
        ensure(max_weight > 0.0 && max_weight.is_finite(), "max_weight", max_weight, "must be finite and positive")?;
    }
    let mut total = 0.0;
    let sum = weigh(response_mask, normalizer.into(), "grad_log_probs", |index| {
        let log_ratio = log_ratio(log_probs, ref_log_probs, index)?;
        let term = penalty.term(log_ratio);
        let old = finite("old_log_probs", index, old_log_probs[index].into())?;
        let ratio = (f64::from(log_probs[index]) - old).exp();
        total += finite("kl", index, term.value)?;
        let (value, derivative) = match correction {
            KlCorrection::Ratio => {
                (finite("ratio", index, ratio)? * term.value, ratio * (term.value + term.derivative))
            }
            KlCorrection::StraightThrough { max_weight } => (term.value, ratio.min(max_weight) * log_ratio),
        };
        Ok((kl_coef * value, kl_coef * derivative))
    })?;
    let mean_kl = total / sum.num_tokens.max(1) as f64;
    Ok(KlLoss { loss: sum.loss, grad_log_probs: sum.gradient, mean_kl, num_tokens: sum.num_tokens })
}
