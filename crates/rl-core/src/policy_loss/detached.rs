//! Objectives on `log_prob` itself, with a constant weight: REINFORCE, CISPO, DPPO and DRO.

use serde::{Deserialize, Serialize};

use super::ratio::{Ratio, Term, sum_terms};
use super::{PolicyInputs, PolicyLoss, not_negative, positive};
use crate::error::{Result, ensure};
use crate::masked::Normalizer;

pub(super) fn reinforce(inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
    sum_terms(inputs, normalizer, Ratio::default(), |token| Ok(weighted(1.0, token.advantage, token.log_prob)))
}

/// `-constant(clamp(ratio, low, high)) * advantage * log_prob`: every token keeps a gradient, with a bounded weight.
///
/// MiniMax 2025, section 3.1: <https://arxiv.org/abs/2506.13585>. The bounds are absolute. TRL has only the upper one
/// (`low` 0, `high` its `epsilon_high`, 5 recommended); verl's are `1 - clip_ratio_low` and `1 + clip_ratio_high`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cispo {
    /// Ratio of a token or sequence.
    pub ratio: Ratio,
    /// Smallest weight; 0 for none.
    pub low: f64,
    /// Largest weight.
    pub high: f64,
}

impl Cispo {
    /// Checks `0 <= low <= high`, `high` positive and finite.
    pub fn validate(&self) -> Result<()> {
        self.ratio.validate()?;
        not_negative("low", self.low)?;
        positive("high", self.high)?;
        ensure(self.low <= self.high, "low", self.low, "must not be above high")
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        sum_terms(inputs, normalizer, self.ratio, |token| {
            let weight = token.ratio.clamp(self.low, self.high);
            let clipped = weight != token.ratio;
            Ok(Term { clipped, ..weighted(weight, token.advantage, token.log_prob) })
        })
    }
}

/// How far two probabilities of one token are apart, for [`Dppo`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Divergence {
    /// `|prob - old_prob|`, the total variation of "this token or another".
    TotalVariation,
    /// Divergence of "this token or another" under the old policy from that under the new one, in nats.
    BinaryKl,
}

/// `-constant(min(ratio, max_ratio)) * advantage * log_prob` on tokens inside a trust region of probabilities.
///
/// A token is left out when its probability already moved the way its advantage asks for, by more than `high` (positive
/// advantage) or `low` (others). Unlike a clip of ratios this does not stop rare tokens early. verl's `dppo_tv` and
/// `dppo_kl`: <https://arxiv.org/abs/2602.04879>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dppo {
    /// Ratio of a token.
    pub ratio: Ratio,
    /// What measures the distance.
    pub divergence: Divergence,
    /// Largest distance downwards.
    pub low: f64,
    /// Largest distance upwards.
    pub high: f64,
    /// Largest weight; verl 20.
    pub max_ratio: f64,
}

/// Keeps the binary divergence finite when a probability rounds to 1; verl's value.
const BINARY_KL_EPS: f64 = 1e-8;

impl Dppo {
    /// Checks that distances are not negative and the weight is positive.
    pub fn validate(&self) -> Result<()> {
        self.ratio.validate()?;
        not_negative("low", self.low)?;
        not_negative("high", self.high)?;
        positive("max_ratio", self.max_ratio)
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        sum_terms(inputs, normalizer, self.ratio, |token| {
            let old_log_prob = token.log_prob - token.token_log_ratio;
            if self.outside(token.log_prob, old_log_prob, token.advantage) {
                return Ok(Term { clipped: true, ..Term::default() });
            }
            let bounded = token.ratio > self.max_ratio;
            Ok(Term { bounded, ..weighted(token.ratio.min(self.max_ratio), token.advantage, token.log_prob) })
        })
    }

    fn outside(&self, log_prob: f64, old_log_prob: f64, advantage: f64) -> bool {
        // A log-probability can round above 0; the divergence of a probability above 1 is NaN, which is outside of nothing.
        let (prob, old_prob) = (log_prob.exp().min(1.0), old_log_prob.exp().min(1.0));
        let rises = advantage > 0.0;
        let went_that_way = if rises { prob > old_prob } else { prob < old_prob };
        let distance = match self.divergence {
            Divergence::TotalVariation => (prob - old_prob).abs(),
            Divergence::BinaryKl => {
                let others = (1.0 - old_prob + BINARY_KL_EPS) / (1.0 - prob + BINARY_KL_EPS);
                old_prob * (old_log_prob - log_prob) + (1.0 - old_prob) * others.ln()
            }
        };
        went_that_way && distance > if rises { self.high } else { self.low }
    }
}

/// `-(advantage * log_prob - beta / 2 * (log_prob - old_log_prob)^2)`: a pull back to the old policy in place of a clip.
///
/// verl's `dro`. Richemond et al. 2024 state it with a learned value: <https://arxiv.org/abs/2405.19107>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dro {
    /// Strength of the pull.
    pub beta: f64,
}

impl Dro {
    /// Checks that `beta` is positive.
    pub fn validate(&self) -> Result<()> {
        positive("beta", self.beta)
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        sum_terms(inputs, normalizer, Ratio::default(), |token| {
            let mut term = weighted(1.0, token.advantage, token.log_prob);
            term.loss += 0.5 * self.beta * token.token_log_ratio.powi(2);
            term.by_log_prob += self.beta * token.token_log_ratio;
            Ok(term)
        })
    }
}

pub(super) fn weighted(weight: f64, advantage: f64, log_prob: f64) -> Term {
    let by_log_prob = -weight * advantage;
    Term { loss: by_log_prob * log_prob, by_log_prob, ..Term::default() }
}
