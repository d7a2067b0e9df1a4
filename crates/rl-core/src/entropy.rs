//! The entropy bonus: the model gives the entropy per token, this gives its weight.

use crate::error::{Result, ensure, finite, same_length};
use crate::masked::{Normalizer, weigh};

/// Value and gradient of [`entropy_bonus`].
#[derive(Debug, Clone, PartialEq)]
pub struct EntropyBonus {
    /// `-entropy_coef * reduce(entropy)`, to be added to the loss.
    pub loss: f64,
    /// Its gradient with respect to `entropy`, `[batch, seq]`.
    pub grad_entropy: Vec<f32>,
}

/// Rewards a spread-out policy: `-entropy_coef * entropy`, summed over response tokens with the normalizer's weights.
///
/// `entropy` is `[batch, seq]` in nats; where `response_mask` is false nothing is read.
///
/// # Errors
/// Lengths differ, `entropy_coef` is negative, the step is empty, or a number is not finite.
pub fn entropy_bonus<'a>(
    entropy: &[f32],
    response_mask: &[bool],
    entropy_coef: f64,
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<EntropyBonus> {
    same_length("entropy", entropy.len(), "response_mask", response_mask.len())?;
    ensure(
        entropy_coef >= 0.0 && entropy_coef.is_finite(),
        "entropy_coef",
        entropy_coef,
        "must be finite and at least 0",
    )?;
    let sum = weigh(response_mask, normalizer.into(), "grad_entropy", |index| {
        Ok((-entropy_coef * finite("entropy", index, entropy[index].into())?, -entropy_coef))
    })?;
    Ok(EntropyBonus { loss: sum.loss, grad_entropy: sum.gradient })
}
