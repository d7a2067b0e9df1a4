//! Clip-Cov and KL-Cov: restraint on the few tokens whose log-probability and advantage vary together the most.
//!
//! Those tokens drive the fall of entropy. Cui et al. 2025, section 4: <https://arxiv.org/abs/2505.22617>. Which tokens they
//! are is decided by [`PolicyObjective::select_tokens`](super::PolicyObjective::select_tokens), apart from the loss.

use serde::{Deserialize, Serialize};

use super::ratio::{Ratio, Term, sum_terms};
use super::{ClipRange, ClippedSurrogate, PolicyInputs, PolicyLoss, needed, not_negative};
use crate::error::{Result, ensure, finite};
use crate::masked::Normalizer;
use crate::random::RandomKey;

/// The clipped surrogate, where the selected tokens cost nothing.
///
/// Selected is a random `fraction` of all tokens (at least one) among those with a covariance between `low` and `high` that
/// the clip does not stop already. verl: 0.0002, 1 and 5, unbounded log-ratios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipCov {
    /// Ratio of a token.
    pub ratio: Ratio,
    /// Where the ratio is clipped.
    pub clip: ClipRange,
    /// Share of the response tokens to select.
    pub fraction: f64,
    /// Covariance above which a token is a candidate.
    pub low: f64,
    /// Covariance below which a token is a candidate.
    pub high: f64,
}

impl ClipCov {
    /// Checks the clip range, `0 < fraction <= 1` and `low < high`.
    pub fn validate(&self) -> Result<()> {
        self.ratio.validate()?;
        self.clip.validate()?;
        share("fraction", self.fraction)?;
        ensure(self.low < self.high, "low", self.low, "must be below high")
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        let selected = needed(inputs.selected, "selected", "clip_cov; make it with PolicyObjective::select_tokens")?;
        let surrogate = ClippedSurrogate::new(self.ratio, self.clip);
        sum_terms(inputs, normalizer, self.ratio, |token| {
            if selected[token.index] {
                return Ok(Term { clipped: true, ..Term::default() });
            }
            Ok(surrogate.term(token.ratio, token.advantage))
        })
    }

    pub(super) fn select(&self, inputs: &PolicyInputs<'_>, key: RandomKey) -> Result<Vec<bool>> {
        let covariances = covariances(inputs)?;
        let surrogate = ClippedSurrogate::new(self.ratio, self.clip);
        let mut clipped = vec![false; inputs.response_mask.len()];
        // The weights do not matter: what is wanted is which tokens are clipped.
        sum_terms(&PolicyInputs { importance: None, ..*inputs }, Normalizer::NumTokens(1), self.ratio, |token| {
            let term = surrogate.term(token.ratio, token.advantage);
            clipped[token.index] = term.clipped;
            Ok(term)
        })?;
        let mut candidates: Vec<usize> = covariances
            .iter()
            .filter(|&&(index, covariance)| !clipped[index] && covariance > self.low && covariance < self.high)
            .map(|&(index, _)| index)
            .collect();
        key.shuffle(&mut candidates);
        candidates.truncate(count(self.fraction, covariances.len()));
        Ok(chosen(inputs.response_mask.len(), candidates))
    }
}

/// `-advantage * ratio`, plus `kl_coef * |log_prob - old_log_prob|` on the selected tokens.
///
/// Selected is the `fraction` of all tokens (at least one) with the highest covariance. verl: 0.0002 and 1, unbounded
/// log-ratios.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KlCov {
    /// Ratio of a token.
    pub ratio: Ratio,
    /// Share of the response tokens to select.
    pub fraction: f64,
    /// Strength of the penalty.
    pub kl_coef: f64,
}

impl KlCov {
    /// Checks `0 < fraction <= 1` and that the penalty is not negative.
    pub fn validate(&self) -> Result<()> {
        self.ratio.validate()?;
        share("fraction", self.fraction)?;
        not_negative("kl_coef", self.kl_coef)
    }

    pub(super) fn loss(&self, inputs: &PolicyInputs<'_>, normalizer: Normalizer<'_>) -> Result<PolicyLoss> {
        let selected = needed(inputs.selected, "selected", "kl_cov; make it with PolicyObjective::select_tokens")?;
        sum_terms(inputs, normalizer, self.ratio, |token| {
            let loss = -token.advantage * token.ratio;
            let mut term = Term { loss, by_log_ratio: loss, ..Term::default() };
            if selected[token.index] && token.token_log_ratio != 0.0 {
                term.loss += self.kl_coef * token.token_log_ratio.abs();
                term.by_log_prob = self.kl_coef * token.token_log_ratio.signum();
            }
            Ok(term)
        })
    }

    pub(super) fn select(&self, inputs: &PolicyInputs<'_>) -> Result<Vec<bool>> {
        let mut covariances = covariances(inputs)?;
        // Stable: of equal covariances the earlier token is taken.
        covariances.sort_by(|left, right| right.1.total_cmp(&left.1));
        covariances.truncate(count(self.fraction, covariances.len()));
        Ok(chosen(inputs.response_mask.len(), covariances.into_iter().map(|(index, _)| index)))
    }
}

/// Place and `(advantage - mean) * (log_prob - mean)` of every response token.
fn covariances(inputs: &PolicyInputs<'_>) -> Result<Vec<(usize, f64)>> {
    inputs.check()?;
    let mut tokens = Vec::new();
    let (mut sum_advantage, mut sum_log_prob) = (0.0, 0.0);
    for index in (0..inputs.response_mask.len()).filter(|&index| inputs.response_mask[index]) {
        let advantage = finite("advantages", index, inputs.advantages[index].into())?;
        let log_prob = finite("log_probs", index, inputs.log_probs[index].into())?;
        sum_advantage += advantage;
        sum_log_prob += log_prob;
        tokens.push((index, advantage, log_prob));
    }
    let count = tokens.len() as f64;
    let (mean_advantage, mean_log_prob) = (sum_advantage / count, sum_log_prob / count);
    let covariance = |(index, advantage, log_prob)| (index, (advantage - mean_advantage) * (log_prob - mean_log_prob));
    Ok(tokens.into_iter().map(covariance).collect())
}

fn count(fraction: f64, num_tokens: usize) -> usize {
    ((fraction * num_tokens as f64) as usize).max(1)
}

fn chosen(length: usize, indices: impl IntoIterator<Item = usize>) -> Vec<bool> {
    let mut chosen = vec![false; length];
    indices.into_iter().for_each(|index| chosen[index] = true);
    chosen
}

fn share(name: &'static str, value: f64) -> Result<()> {
    ensure(value > 0.0 && value <= 1.0, name, value, "must be above 0 and at most 1")
}
