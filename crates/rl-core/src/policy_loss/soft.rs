//! SAPO: a sigmoid gate in place of the clip.

use serde::{Deserialize, Serialize};

use super::ratio::{Ratio, Term, sum_terms};
use super::{PolicyInputs, PolicyLoss, positive};
use crate::error::Result;
use crate::masked::Normalizer;

/// `-(4 / tau) * sigmoid(tau * (ratio - 1)) * advantage`: at ratio 1 the gradient of PPO, fading smoothly away from it.
///
/// `tau` depends on the sign of the advantage, since a rise of unwanted tokens spreads over the vocabulary. Gao et al. 2025:
/// <https://arxiv.org/abs/2511.20347>. TRL and verl: 1 and 1.05, reduced by `seq_mean_token_mean`; a token of advantage 0
/// costs nothing in either.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sapo {
    /// Ratio of a token or sequence.
    pub ratio: Ratio,
    /// Steepness where the advantage is positive.
    pub tau_positive: f64,
    /// Steepness elsewhere.
    pub tau_negative: f64,
}

impl Sapo {
    /// Checks that both steepnesses are positive.
    pub fn validate(&self) -> Result<()> {
        self.ratio.validate()?;
        positive("tau_positive", self.tau_positive)?;
        positive("tau_negative", self.tau_negative)
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        sum_terms(inputs, normalizer, self.ratio, |token| {
            let tau = if token.advantage > 0.0 { self.tau_positive } else { self.tau_negative };
            let gate = 1.0 / (1.0 + (-tau * (token.ratio - 1.0)).exp());
            let loss = -4.0 / tau * gate * token.advantage;
            let by_log_ratio = -4.0 * gate * (1.0 - gate) * token.ratio * token.advantage;
            Ok(Term { loss, by_log_ratio, ..Term::default() })
        })
    }
}
