//! VESPO: a smooth weight of the sequence ratio on the score function.

use serde::{Deserialize, Serialize};

use super::detached::weighted;
use super::ratio::{MAX_LOG_RATIO, Ratio, sum_terms};
use super::{PolicyInputs, PolicyLoss, positive};
use crate::error::{Result, ensure, finite};
use crate::masked::Normalizer;

/// `-constant(phi) * advantage * log_prob` with `phi = exp(lambda + k * ln W - lambda * W)`, where `W` is the ratio of the
/// whole sequence; `phi` is 1 at `W = 1` and fades on both sides of `k / lambda`.
///
/// `k` and `lambda` depend on the sign of the advantage; TRL, whose loss this is: 2 and 3 where it is not negative, 3 and 2
/// elsewhere, reduced by `token_mean`. As there, token log-ratios are held within 20 and `ln W` in `[ln 1e-8, 20]`, and
/// importance weights enter `W` as factors rather than multiplying the loss. <https://arxiv.org/abs/2602.10693>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vespo {
    /// Power of the ratio where the advantage is at least 0.
    pub k_positive: f64,
    /// Decay of the ratio where the advantage is at least 0.
    pub lambda_positive: f64,
    /// Power of the ratio where the advantage is negative.
    pub k_negative: f64,
    /// Decay of the ratio where the advantage is negative.
    pub lambda_negative: f64,
}

/// The smallest sequence ratio that is told from 0.
const MIN_RATIO: f64 = 1e-8;

impl Vespo {
    /// Checks that all four are positive.
    pub fn validate(&self) -> Result<()> {
        positive("k_positive", self.k_positive)?;
        positive("lambda_positive", self.lambda_positive)?;
        positive("k_negative", self.k_negative)?;
        positive("lambda_negative", self.lambda_negative)
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        inputs.check()?;
        let log_weights = sequence_log_ratios(inputs)?;
        let inputs = PolicyInputs { importance: None, ..*inputs };
        sum_terms(&inputs, normalizer, Ratio::default(), |token| {
            let log_ratio = log_weights[token.index];
            let (k, lambda) = if token.advantage >= 0.0 {
                (self.k_positive, self.lambda_positive)
            } else {
                (self.k_negative, self.lambda_negative)
            };
            let phi = (lambda + k * log_ratio - lambda * log_ratio.exp()).exp();
            Ok(weighted(phi, token.advantage, token.log_prob))
        })
    }
}

/// `ln W` of every token's sequence, `[batch, seq]`.
fn sequence_log_ratios(inputs: &PolicyInputs<'_>) -> Result<Vec<f64>> {
    let mut log_ratios = vec![0.0; inputs.response_mask.len()];
    for range in inputs.rows.ranges(inputs.response_mask.len())? {
        let mut sum = 0.0;
        for index in range.clone().filter(|&index| inputs.response_mask[index]) {
            if let Some(old_log_probs) = inputs.old_log_probs {
                let log_prob = finite("log_probs", index, inputs.log_probs[index].into())?;
                let log_ratio = log_prob - finite("old_log_probs", index, old_log_probs[index].into())?;
                sum += log_ratio.clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO);
            }
            if let Some(importance) = inputs.importance {
                let weight = finite("importance", index, importance[index])?;
                ensure(weight >= 0.0, "importance", weight, "must be at least 0")?;
                sum += weight.ln().clamp(MIN_RATIO.ln(), MAX_LOG_RATIO);
            }
        }
        log_ratios[range].fill(sum.clamp(MIN_RATIO.ln(), MAX_LOG_RATIO));
    }
    Ok(log_ratios)
}
