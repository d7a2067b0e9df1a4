//! The price of answers that come close to the length limit.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// Constants of [`overlong_penalty`].
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverlongPenalty {
    /// The longest response, in tokens.
    pub max_length: usize,
    /// Tokens before the limit over which the penalty grows.
    pub buffer: usize,
    /// The penalty at the limit.
    pub factor: f64,
    /// True lets the penalty grow beyond `factor` for responses above `max_length` (verl); false caps it (the paper,
    /// OpenRLHF).
    #[serde(default)]
    pub uncapped: bool,
}

impl OverlongPenalty {
    /// Checks the constants.
    ///
    /// # Errors
    /// `buffer` is 0 or above `max_length`, or `factor` is negative or not finite.
    pub fn validate(&self) -> Result<()> {
        let OverlongPenalty { max_length, buffer, factor, .. } = *self;
        ensure(0 < buffer && buffer <= max_length, "buffer", buffer as f64, "must be positive and at most max_length")?;
        ensure(factor >= 0.0 && factor.is_finite(), "factor", factor, "must be finite and at least 0")
    }

    /// What is added to the reward of a response of `num_tokens` tokens: 0 or negative.
    pub(crate) fn of(&self, num_tokens: usize) -> f64 {
        let excess = num_tokens.saturating_sub(self.max_length - self.buffer);
        let excess = if self.uncapped { excess } else { excess.min(self.buffer) };
        if excess == 0 { 0.0 } else { -(excess as f64 / self.buffer as f64) * self.factor }
    }
}

/// Soft penalty of responses that come close to the length limit: 0 up to `max_length - buffer` tokens, then falling
/// linearly to `-factor` at `max_length`, where it stays.
///
/// Yu et al. 2025 (DAPO), eq. 13: <https://arxiv.org/abs/2503.14476>.
///
/// # Errors
/// `buffer` is 0 or above `max_length`, or `factor` is negative or not finite.
pub fn overlong_penalty(num_tokens: usize, max_length: usize, buffer: usize, factor: f64) -> Result<f64> {
    let penalty = OverlongPenalty { max_length, buffer, factor, uncapped: false };
    penalty.validate()?;
    Ok(penalty.of(num_tokens))
}
