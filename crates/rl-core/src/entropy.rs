//! The entropy bonus: the model gives the entropy per token, this gives its weight and steers its coefficient.

use serde::{Deserialize, Serialize};

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
/// `entropy` is `[batch, seq]` in nats; where `response_mask` is false nothing is read. OpenRLHF and verl reduce it as the
/// policy loss; TRL takes the token mean of each micro-batch whatever the policy loss does
/// ([`Reduction::TokenMeanLocal`](crate::masked::Reduction::TokenMeanLocal)), and only over the tokens that a
/// high-entropy selection keeps.
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

/// Chooses `entropy_coef`. It is both the configuration and the state: a checkpoint saves it as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum EntropyController {
    /// Always `entropy_coef`.
    Fixed {
        /// The coefficient.
        entropy_coef: f64,
    },
    /// Raises the coefficient by `delta` after a step whose entropy is at most `target`, lowers it after others, and applies
    /// it only after a step at or below the target. He et al. 2025 (Skywork-OR1), section 4:
    /// <https://arxiv.org/abs/2505.22312>. TRL: `delta` 0.005, target 0.2, bounds 0 and 1.
    Adaptive {
        /// The present coefficient.
        entropy_coef: f64,
        /// The wished entropy, in nats per token.
        target: f64,
        /// Change of the coefficient per step.
        delta: f64,
        /// Smallest coefficient.
        min: f64,
        /// Largest coefficient.
        max: f64,
        /// Entropy of the step before; absent before the first, which then has no bonus.
        #[serde(default)]
        last_entropy: Option<f64>,
    },
}

impl EntropyController {
    /// Checks that coefficients, change and target are finite and not negative, and that the bounds hold the coefficient.
    pub fn validate(&self) -> Result<()> {
        let check =
            |name, value: f64| ensure(value >= 0.0 && value.is_finite(), name, value, "must be finite and at least 0");
        match *self {
            EntropyController::Fixed { entropy_coef } => check("entropy_coef", entropy_coef),
            EntropyController::Adaptive { entropy_coef, target, delta, min, max, .. } => {
                check("target", target)?;
                check("delta", delta)?;
                check("min", min)?;
                check("max", max)?;
                ensure(min <= max, "min", min, "must not be above max")?;
                let held = (min..=max).contains(&entropy_coef);
                ensure(held, "entropy_coef", entropy_coef, "must be within min and max")
            }
        }
    }

    /// The coefficient to use now, the same for every micro-batch of a step.
    pub fn entropy_coef(&self) -> f64 {
        match *self {
            EntropyController::Fixed { entropy_coef } => entropy_coef,
            EntropyController::Adaptive { entropy_coef, target, last_entropy, .. } => match last_entropy {
                Some(entropy) if entropy <= target => entropy_coef,
                _ => 0.0,
            },
        }
    }

    /// Takes note of the mean entropy over the tokens of a whole step, in nats.
    ///
    /// # Errors
    /// `mean_entropy` is not finite, or a setting is bad.
    pub fn update(&mut self, mean_entropy: f64) -> Result<()> {
        self.validate()?;
        finite("mean_entropy", 0, mean_entropy)?;
        if let EntropyController::Adaptive { entropy_coef, target, delta, min, max, last_entropy } = self {
            let change = if mean_entropy <= *target { *delta } else { -*delta };
            *entropy_coef = (*entropy_coef + change).clamp(*min, *max);
            *last_entropy = Some(mean_entropy);
        }
        Ok(())
    }
}
