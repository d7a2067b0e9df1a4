//! GMPO: the geometric mean of clipped token ratios.

use serde::{Deserialize, Serialize};

use super::ratio::{LogRatioClamp, Ratio, RatioLevel, Term, sum_replaced_terms};
use super::{PolicyInputs, PolicyLoss, not_negative};
use crate::error::{Result, ensure, finite};
use crate::masked::Normalizer;

/// `-advantage * exp(mean of clipped log-ratios)`, where a log-ratio is held at `high` if its advantage is positive and at
/// `-low` if not: PPO's clip, token by token, inside the ratio of the sequence.
///
/// Zhao et al. 2025, eq. 4: <https://arxiv.org/abs/2507.20673>, both bounds 0.4. TRL and verl agree while a sequence has one
/// advantage; with several, verl multiplies by their mean, and so does `seq_mean_token_mean` here. Importance weights enter
/// as the geometric mean over the sequence, as in verl (TRL does not use them).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gmpo {
    /// How far a log-ratio may fall below 0.
    pub low: f64,
    /// How far a log-ratio may rise above 0.
    pub high: f64,
    /// Bounds on the mean log-ratio; TRL and verl have none.
    #[serde(default)]
    pub clamp: LogRatioClamp,
}

/// Added to an importance weight before its logarithm, so that a dropped token does not make it infinite; verl's value.
const IMPORTANCE_EPS: f64 = 1e-10;

impl Gmpo {
    /// Checks that the bounds are not negative.
    pub fn validate(&self) -> Result<()> {
        self.clamp.validate()?;
        not_negative("low", self.low)?;
        not_negative("high", self.high)
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        inputs.check()?;
        let importance = inputs.importance.map(|importance| geometric_means(importance, inputs)).transpose()?;
        let inputs = PolicyInputs { importance: importance.as_deref(), ..*inputs };
        let ratio = Ratio { level: RatioLevel::SequenceMean, clamp: self.clamp };
        let replace = |log_ratio: f64, advantage: f64| {
            if advantage > 0.0 { log_ratio.min(self.high) } else { log_ratio.max(-self.low) }
        };
        sum_replaced_terms(&inputs, normalizer, ratio, replace, |token| {
            let loss = -token.advantage * token.ratio;
            Ok(Term { loss, by_log_ratio: loss, clipped: token.replaced, ..Term::default() })
        })
    }
}

fn geometric_means(importance: &[f64], inputs: &PolicyInputs<'_>) -> Result<Vec<f64>> {
    let mut means = vec![0.0; importance.len()];
    for range in inputs.rows.ranges(importance.len())? {
        let (mut sum, mut count) = (0.0, 0_usize);
        for index in range.clone().filter(|&index| inputs.response_mask[index]) {
            let weight = finite("importance", index, importance[index])?;
            ensure(weight >= 0.0, "importance", weight, "must be at least 0")?;
            sum += (weight + IMPORTANCE_EPS).ln();
            count += 1;
        }
        means[range].fill((sum / count.max(1) as f64).exp());
    }
    Ok(means)
}
