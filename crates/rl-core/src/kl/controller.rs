//! The coefficient of the divergence: fixed, or steered to a target.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure, finite};

/// Chooses `kl_coef`. It is both the configuration and the state: a checkpoint saves it as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum KlController {
    /// Always `kl_coef`.
    Fixed {
        /// The coefficient.
        kl_coef: f64,
    },
    /// Steers the measured divergence to `target`: `e = clip(kl / target - 1, -0.2, 0.2)`,
    /// `kl_coef *= 1 + e * num_samples / horizon`. Ziegler et al. 2019, section 2.2: <https://arxiv.org/abs/1909.08593>.
    Adaptive {
        /// The present coefficient.
        kl_coef: f64,
        /// The wished divergence, in nats per token.
        target: f64,
        /// Samples over which a full correction (20 %) builds up.
        horizon: f64,
    },
}

impl KlController {
    /// Checks that the coefficient is not negative and that target and horizon are positive.
    pub fn validate(&self) -> Result<()> {
        let kl_coef = self.kl_coef();
        ensure(kl_coef >= 0.0 && kl_coef.is_finite(), "kl_coef", kl_coef, "must be finite and at least 0")?;
        if let KlController::Adaptive { target, horizon, .. } = *self {
            ensure(target > 0.0 && target.is_finite(), "target", target, "must be finite and positive")?;
            ensure(horizon > 0.0 && horizon.is_finite(), "horizon", horizon, "must be finite and positive")?;
        }
        Ok(())
    }

    /// The coefficient to use now.
    pub fn kl_coef(&self) -> f64 {
        match *self {
            KlController::Fixed { kl_coef } | KlController::Adaptive { kl_coef, .. } => kl_coef,
        }
    }

    /// Takes note of a step of `num_samples` samples with `mean_kl`: the token mean per sequence, then mean over sequences.
    ///
    /// # Errors
    /// `mean_kl` is not finite, a setting is bad, or the step is so large against `horizon` that the coefficient would
    /// reach 0.
    pub fn update(&mut self, mean_kl: f64, num_samples: usize) -> Result<()> {
        self.validate()?;
        finite("mean_kl", 0, mean_kl)?;
        if let KlController::Adaptive { kl_coef, target, horizon } = self {
            let error = (mean_kl / *target - 1.0).clamp(-0.2, 0.2);
            let factor = 1.0 + error * num_samples as f64 / *horizon;
            ensure(factor > 0.0, "horizon", *horizon, "must be above a fifth of the samples of a step")?;
            *kl_coef *= factor;
        }
        Ok(())
    }
}
