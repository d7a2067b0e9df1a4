//! What an f-divergence makes of a log-ratio.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use super::logistic::{log_sigmoid, sigmoid};
use crate::error::{Result, ensure};

/// Exponents of scores stop here, so that `exp` stays inside `f32`; beyond it a score is flat and is counted.
pub const MAX_SCORE_EXPONENT: f64 = 80.0;

/// Below this distance a power is its logarithmic limit.
const POWER_LIMIT: f64 = 1e-6;

/// The divergence that holds the policy to its reference; a log-ratio `u` is scored `f'(exp(u))`.
///
/// Every score is 0 where policy and reference agree. In a plain difference of two scores a constant cancels; in the
/// length-averaged losses it does not, and this form, TRL's, is the one whose zero means "as the reference".
///
/// Wang et al. 2023: <https://arxiv.org/abs/2309.16240>.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum FDivergence {
    /// `u`, the one of DPO.
    #[default]
    ReverseKl,
    /// `1 - exp(-u)`. TRL does not clamp the exponent, ours stops at [`MAX_SCORE_EXPONENT`].
    ForwardKl,
    /// Jensen-Shannon, `ln 2 + log sigmoid(u)`.
    JensenShannon,
    /// `(exp((alpha - 1) u) - 1) / (alpha - 1)`; 1 is the reverse KL, 0 the forward KL.
    Alpha {
        /// TRL's default is 0.5.
        alpha: f64,
        /// Where the exponent stops; absent, [`MAX_SCORE_EXPONENT`]. TRL uses 80 in `f32` and `bf16`, 11 in `f16`.
        #[serde(default)]
        max_exponent: Option<f64>,
    },
}

impl FDivergence {
    /// Checks that `alpha` is finite and `max_exponent` in (0, 80].
    pub fn validate(self) -> Result<()> {
        let FDivergence::Alpha { alpha, max_exponent } = self else { return Ok(()) };
        ensure(alpha.is_finite(), "f_divergence.alpha", alpha, "must be finite")?;
        let limit = max_exponent.unwrap_or(MAX_SCORE_EXPONENT);
        ensure(
            limit > 0.0 && limit <= MAX_SCORE_EXPONENT,
            "f_divergence.max_exponent",
            limit,
            "must be above 0 and at most 80",
        )
    }

    /// The score of a log-ratio.
    pub(super) fn score(self, ratio: f64) -> Score {
        match self {
            FDivergence::ReverseKl => Score { value: ratio, slope: 1.0, clamped: false },
            FDivergence::ForwardKl => power_score(-1.0, ratio, MAX_SCORE_EXPONENT),
            FDivergence::JensenShannon => {
                Score { value: LN_2 + log_sigmoid(ratio), slope: sigmoid(-ratio), clamped: false }
            }
            FDivergence::Alpha { alpha, max_exponent } => {
                power_score(alpha - 1.0, ratio, max_exponent.unwrap_or(MAX_SCORE_EXPONENT))
            }
        }
    }
}

/// A function of a log-ratio or log-probability, with its derivative.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Score {
    pub value: f64,
    pub slope: f64,
    pub clamped: bool,
}

/// `(exp(power * x) - 1) / power`, which is `x` at power 0.
pub(super) fn power_score(power: f64, x: f64, max_exponent: f64) -> Score {
    if power.abs() < POWER_LIMIT {
        return Score { value: x, slope: 1.0, clamped: false };
    }
    let exponent = power * x;
    let clamped = exponent > max_exponent;
    let exponent = exponent.min(max_exponent);
    Score { value: exponent.exp_m1() / power, slope: if clamped { 0.0 } else { exponent.exp() }, clamped }
}
