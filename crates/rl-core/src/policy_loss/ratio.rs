//! The probability ratio of a token, sequence or action, and the one loop that turns token terms into a loss.
//!
//! What a ratio costs is not here: each objective gives the cost of one token and its two derivatives.

use serde::{Deserialize, Serialize};

use super::statistics::{PolicyLoss, Statistics};
use super::{PolicyInputs, needed};
use crate::error::{Result, ensure, finite, finite_f32};
use crate::masked::Normalizer;

/// Where [`LogRatioClamp`] holds a log-ratio by default. OpenRLHF and verl do the same per token.
pub const MAX_LOG_RATIO: f64 = 20.0;

/// Which tokens share one ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioLevel {
    /// Each token has its own, `exp(log_prob - old_log_prob)`.
    #[default]
    Token,
    /// The root of a sequence's ratio by its length, `exp(mean of the log-ratios)`. Zheng et al. 2025 (GSPO), section 4.1:
    /// <https://arxiv.org/abs/2507.18071>. TRL and OpenRLHF compute this form.
    SequenceMean,
    /// The same value, but the gradient reaches each token with its own advantage instead of the sequence's mean one
    /// (GSPO-token, section 4.3). Equal to [`RatioLevel::SequenceMean`] when a sequence has one advantage and its tokens
    /// one weight. verl computes this form, with the log held below 10.
    SequenceMeanTokenGradient,
    /// A sequence's whole ratio, `exp(sum of the log-ratios)`: RLOO of TRL.
    SequenceSum,
    /// `exp(sum of token_weight * log-ratio)`: a row is one action, whose parts count differently (for example thought
    /// tokens half). Needs [`PolicyInputs::token_weights`].
    WeightedSum,
}

/// Bounds on a log-ratio before `exp`. Outside, the ratio is constant and has no gradient; such tokens are counted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum LogRatioClamp {
    /// No bounds, as in TRL: a ratio that overflows is an error.
    Off {},
    /// Held in `[low, high]`.
    Within {
        /// Lower bound, at most 0.
        low: f64,
        /// Upper bound, at least 0.
        high: f64,
    },
}

impl Default for LogRatioClamp {
    fn default() -> Self {
        LogRatioClamp::Within { low: -MAX_LOG_RATIO, high: MAX_LOG_RATIO }
    }
}

impl LogRatioClamp {
    /// Checks `low <= 0 <= high`, both finite.
    pub fn validate(self) -> Result<()> {
        let LogRatioClamp::Within { low, high } = self else { return Ok(()) };
        ensure(low <= 0.0 && low.is_finite(), "clamp.low", low, "must be finite and at most 0")?;
        ensure(high >= 0.0 && high.is_finite(), "clamp.high", high, "must be finite and at least 0")
    }

    /// The value to use, and whether it was out of bounds.
    pub(crate) fn apply(self, log_ratio: f64) -> (f64, bool) {
        match self {
            LogRatioClamp::Off {} => (log_ratio, false),
            LogRatioClamp::Within { low, high } => (log_ratio.clamp(low, high), log_ratio < low || log_ratio > high),
        }
    }
}

/// The ratio of an objective: who shares it, and where its logarithm is held.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ratio {
    /// Which tokens share one ratio.
    pub level: RatioLevel,
    /// Bounds on the logarithm, of the token or of the sequence.
    #[serde(default)]
    pub clamp: LogRatioClamp,
}

impl Ratio {
    /// A ratio of this level with the default bounds.
    pub fn of(level: RatioLevel) -> Self {
        Ratio { level, clamp: LogRatioClamp::default() }
    }

    /// Checks the bounds.
    pub fn validate(self) -> Result<()> {
        self.clamp.validate()
    }
}

/// What an objective sees of one token.
pub(super) struct Token {
    pub index: usize,
    pub log_prob: f64,
    pub advantage: f64,
    /// The token's own log-ratio, neither clamped nor clipped.
    pub token_log_ratio: f64,
    /// The ratio of the token, or of its sequence.
    pub ratio: f64,
    /// The token's log-ratio was replaced by a constant before the sequence's was made of it.
    pub replaced: bool,
}

/// What one token costs.
#[derive(Default)]
pub(super) struct Term {
    pub loss: f64,
    /// Derivative with respect to the logarithm of the ratio.
    pub by_log_ratio: f64,
    /// Derivative with respect to the token's log-probability, other than through the ratio.
    pub by_log_prob: f64,
    /// The clipped term was strictly worse.
    pub clipped: bool,
    /// The bound on large ratios held.
    pub bounded: bool,
}

/// Sums `term` over the response tokens, `weight * importance` each, and sends the derivatives back to the tokens.
pub(super) fn sum_terms(
    inputs: &PolicyInputs<'_>,
    normalizer: Normalizer<'_>,
    ratio: Ratio,
    term: impl FnMut(&Token) -> Result<Term>,
) -> Result<PolicyLoss> {
    sum_replaced_terms(inputs, normalizer, ratio, |log_ratio, _| log_ratio, term)
}

/// [`sum_terms`] where `replace(log_ratio, advantage)` may put a constant in place of a token's log-ratio first.
pub(super) fn sum_replaced_terms(
    inputs: &PolicyInputs<'_>,
    normalizer: Normalizer<'_>,
    ratio: Ratio,
    replace: impl Fn(f64, f64) -> f64,
    mut term: impl FnMut(&Token) -> Result<Term>,
) -> Result<PolicyLoss> {
    inputs.check()?;
    normalizer.check(inputs.response_mask.len())?;
    let token_weights = match ratio.level {
        RatioLevel::WeightedSum => needed(inputs.token_weights, "token_weights", "the ratio weighted_sum")?,
        _ => &[],
    };
    let mut statistics = Statistics::default();
    let mut loss = 0.0;
    let mut gradient = vec![0.0_f32; inputs.response_mask.len()];
    let mut row: Vec<RowToken> = Vec::new();
    for range in inputs.rows.ranges(inputs.response_mask.len())? {
        row.clear();
        for index in range.filter(|&index| inputs.response_mask[index]) {
            row.push(RowToken::read(inputs, index, &replace)?);
        }
        // Derivative of the logarithm of the shared ratio by the token's own log-ratio.
        let share = |token: &RowToken, length: usize| match ratio.level {
            RatioLevel::Token | RatioLevel::SequenceSum => Ok(1.0),
            RatioLevel::SequenceMean | RatioLevel::SequenceMeanTokenGradient => Ok(1.0 / length as f64),
            RatioLevel::WeightedSum => finite("token_weights", token.index, token_weights[token.index]),
        };
        let mut shared = 0.0;
        for token in &row {
            shared += share(token, row.len())? * token.log_ratio;
        }
        let mut row_derivative = 0.0;
        for token in &mut row {
            let log_ratio = if ratio.level == RatioLevel::Token { token.log_ratio } else { shared };
            let (log_ratio, clamped) = ratio.clamp.apply(log_ratio);
            let value = finite("ratio", token.index, log_ratio.exp())?;
            let cost = term(&Token {
                index: token.index,
                log_prob: token.log_prob,
                advantage: token.advantage,
                token_log_ratio: token.token_log_ratio,
                ratio: value,
                replaced: token.replaced,
            })?;
            statistics.add(token.token_log_ratio, value, clamped, &cost);
            let mut weight = normalizer.weight(token.index)?;
            if let Some(importance) = inputs.importance {
                weight *= finite("importance", token.index, importance[token.index])?;
            }
            loss = finite("loss", token.index, loss + weight * cost.loss)?;
            let by_log_ratio = if clamped { 0.0 } else { weight * cost.by_log_ratio };
            token.derivative = weight * cost.by_log_prob;
            match ratio.level {
                RatioLevel::Token => token.derivative += if token.replaced { 0.0 } else { by_log_ratio },
                RatioLevel::SequenceMeanTokenGradient => token.derivative += by_log_ratio,
                _ => row_derivative += by_log_ratio,
            }
        }
        for token in &row {
            let through = if token.replaced || row_derivative == 0.0 { 0.0 } else { share(token, row.len())? };
            let derivative = token.derivative + row_derivative * through;
            gradient[token.index] = finite_f32("grad_log_probs", token.index, derivative)?;
        }
    }
    Ok(statistics.finish(loss, gradient))
}

struct RowToken {
    index: usize,
    log_prob: f64,
    advantage: f64,
    token_log_ratio: f64,
    /// As [`Self::token_log_ratio`], or the constant that replaced it.
    log_ratio: f64,
    replaced: bool,
    derivative: f64,
}

impl RowToken {
    fn read(inputs: &PolicyInputs<'_>, index: usize, replace: impl Fn(f64, f64) -> f64) -> Result<Self> {
        let log_prob = finite("log_probs", index, inputs.log_probs[index].into())?;
        let old_log_prob = match inputs.old_log_probs {
            Some(old_log_probs) => finite("old_log_probs", index, old_log_probs[index].into())?,
            None => log_prob,
        };
        let advantage = finite("advantages", index, inputs.advantages[index].into())?;
        let token_log_ratio = log_prob - old_log_prob;
        let log_ratio = replace(token_log_ratio, advantage);
        let replaced = log_ratio != token_log_ratio;
        Ok(RowToken { index, log_prob, advantage, token_log_ratio, log_ratio, replaced, derivative: 0.0 })
    }
}
