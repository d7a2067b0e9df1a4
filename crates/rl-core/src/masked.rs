//! Masked reductions: which share of the loss each response token carries.
//!
//! Every denominator counts the whole optimizer step, all micro-batches and ranks together, so a gradient does not depend
//! on how the step is split. Gradients of the parts are to be *summed*; a framework that averages over `n` parts needs
//! its gradient multiplied by `n`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, finite, finite_f32, same_length};
use crate::rows::Rows;

/// How per-token losses become one number. Rows without a response token are left out of every mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", from = "StrictReduction")]
pub enum Reduction {
    /// Sum over the response tokens of the step, divided by their number.
    TokenMean,
    /// Sum over the response tokens of the step (verl's `token-sum`).
    TokenSum,
    /// Token mean of each micro-batch, then mean over micro-batches: depends on how the step is split.
    TokenMeanLocal,
    /// Mean over the tokens of a row, then mean over the rows of the step.
    SeqMeanTokenMean,
    /// Sum over the tokens of a row, then mean over the rows of the step.
    SeqMeanTokenSum,
    /// Sum over the step, divided by `rows * max_length`. Liu et al. 2025 (Dr. GRPO): <https://arxiv.org/abs/2503.20783>.
    /// verl's `seq-mean-token-sum-norm` is this since it divides by the sequences of the global batch too.
    ConstNorm {
        /// The longest response that could have been generated, in tokens.
        max_length: usize,
    },
    /// Sum over the step, divided by `length` and not by the number of rows (verl's `seq-mean-token-sum-norm` of early
    /// 2026).
    SeqSumNorm {
        /// The divisor, in tokens; absent, the widest row of the step, padding included.
        length: Option<usize>,
    },
}

/// As [`Reduction`] is read: variants without fields ignore unknown keys in serde, empty ones refuse them.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum StrictReduction {
    TokenMean {},
    TokenSum {},
    TokenMeanLocal {},
    SeqMeanTokenMean {},
    SeqMeanTokenSum {},
    ConstNorm { max_length: usize },
    SeqSumNorm { length: Option<usize> },
}

impl From<StrictReduction> for Reduction {
    fn from(reduction: StrictReduction) -> Self {
        match reduction {
            StrictReduction::TokenMean {} => Reduction::TokenMean,
            StrictReduction::TokenSum {} => Reduction::TokenSum,
            StrictReduction::TokenMeanLocal {} => Reduction::TokenMeanLocal,
            StrictReduction::SeqMeanTokenMean {} => Reduction::SeqMeanTokenMean,
            StrictReduction::SeqMeanTokenSum {} => Reduction::SeqMeanTokenSum,
            StrictReduction::ConstNorm { max_length } => Reduction::ConstNorm { max_length },
            StrictReduction::SeqSumNorm { length } => Reduction::SeqSumNorm { length },
        }
    }
}

/// What a step holds, for the denominators of [`Reduction::token_weights`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct StepCounts {
    /// Response tokens.
    pub num_tokens: usize,
    /// Rows with at least one response token.
    pub num_sequences: usize,
    /// Rows without one, which every reduction leaves out.
    pub num_masked_rows: usize,
    /// Width of the widest row, padding included.
    pub max_row_length: usize,
    /// Micro-batches with at least one response token.
    pub num_micro_batches: usize,
}

impl StepCounts {
    /// Counts one micro-batch; `response_mask` is `[batch, seq]`.
    ///
    /// # Errors
    /// `rows` does not divide the mask.
    pub fn of_micro_batch<'a>(response_mask: &[bool], rows: impl Into<Rows<'a>>) -> Result<Self> {
        let mut counts = StepCounts::default();
        for range in rows.into().ranges(response_mask.len())? {
            counts.max_row_length = counts.max_row_length.max(range.len());
            match response_mask[range].iter().filter(|&&token| token).count() {
                0 => counts.num_masked_rows += 1,
                tokens => {
                    counts.num_sequences += 1;
                    counts.num_tokens += tokens;
                }
            }
        }
        counts.num_micro_batches = usize::from(counts.num_tokens > 0);
        Ok(counts)
    }

    /// The same counts with rows without a response token counted as sequences, so that they lower the means over rows.
    ///
    /// TRL does this for its `grpo`, `sapo`, `luspo` and `dr_grpo` losses, where a wholly masked (for example truncated)
    /// response is a sequence of loss 0; so does verl for GMPO. OpenRLHF and verl leave such rows out otherwise, as here.
    pub fn counting_masked_rows(self) -> Self {
        StepCounts { num_sequences: self.num_sequences + self.num_masked_rows, num_masked_rows: 0, ..self }
    }

    /// Adds the counts of another micro-batch or rank of the same step.
    pub fn merge(self, other: Self) -> Self {
        StepCounts {
            num_tokens: self.num_tokens + other.num_tokens,
            num_sequences: self.num_sequences + other.num_sequences,
            num_masked_rows: self.num_masked_rows + other.num_masked_rows,
            max_row_length: self.max_row_length.max(other.max_row_length),
            num_micro_batches: self.num_micro_batches + other.num_micro_batches,
        }
    }
}

impl Reduction {
    /// Weight of every token of one micro-batch, `[batch, seq]`, 0 where `response_mask` is false.
    ///
    /// The reduced loss is `sum(weight * token_loss)`, summed over the micro-batches of the step that `step` counts.
    ///
    /// # Errors
    /// [`Error::EmptyBatch`] when the whole step has no response token; a divisor of 0; rows that do not fit; a `step`
    /// that counts less than this micro-batch.
    pub fn token_weights<'a>(
        self,
        response_mask: &[bool],
        rows: impl Into<Rows<'a>>,
        step: &StepCounts,
    ) -> Result<Vec<f64>> {
        let rows = rows.into();
        let local = StepCounts::of_micro_batch(response_mask, rows)?;
        if step.num_tokens == 0 {
            return Err(Error::EmptyBatch { what: "response tokens of the step" });
        }
        let covered = local.num_tokens <= step.num_tokens
            && local.num_sequences <= step.num_sequences
            && local.num_micro_batches <= step.num_micro_batches
            && local.max_row_length <= step.max_row_length;
        ensure(
            covered,
            "step.num_tokens",
            step.num_tokens as f64,
            "must come from StepCounts merged over every micro-batch of the step, this one included",
        )?;
        let mut weights = vec![0.0; response_mask.len()];
        for range in rows.ranges(response_mask.len())? {
            let row_tokens = response_mask[range.clone()].iter().filter(|&&token| token).count();
            let divisor = match self {
                Reduction::TokenMean => step.num_tokens as f64,
                Reduction::TokenSum => 1.0,
                Reduction::TokenMeanLocal => local.num_tokens as f64 * step.num_micro_batches as f64,
                Reduction::SeqMeanTokenMean => row_tokens as f64 * step.num_sequences as f64,
                Reduction::SeqMeanTokenSum => step.num_sequences as f64,
                Reduction::ConstNorm { max_length } => {
                    ensure(max_length > 0, "max_length", 0.0, "must be positive")?;
                    step.num_sequences as f64 * max_length as f64
                }
                Reduction::SeqSumNorm { length } => {
                    let length = length.unwrap_or(step.max_row_length);
                    ensure(length > 0, "length", 0.0, "must be positive")?;
                    length as f64
                }
            };
            for index in range.filter(|&index| response_mask[index]) {
                weights[index] = 1.0 / divisor;
            }
        }
        Ok(weights)
    }
}

/// How a loss function weighs its tokens. Functions take `impl Into<Normalizer>`, so a plain `num_tokens` works.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalizer<'a> {
    /// Every token weighs `1 / num_tokens`, the response tokens of the whole step.
    NumTokens(usize),
    /// A weight per token, `[batch, seq]`, as [`Reduction::token_weights`] gives, possibly times importance weights.
    Weights(&'a [f64]),
}

impl From<usize> for Normalizer<'_> {
    fn from(num_tokens: usize) -> Self {
        Normalizer::NumTokens(num_tokens)
    }
}

impl<'a> From<&'a [f64]> for Normalizer<'a> {
    fn from(weights: &'a [f64]) -> Self {
        Normalizer::Weights(weights)
    }
}

impl<'a> From<&'a Vec<f64>> for Normalizer<'a> {
    fn from(weights: &'a Vec<f64>) -> Self {
        Normalizer::Weights(weights)
    }
}

impl Normalizer<'_> {
    /// Checks that it fits a mask of `length` tokens and that the step is not empty.
    pub(crate) fn check(self, length: usize) -> Result<()> {
        match self {
            Normalizer::NumTokens(0) => Err(Error::EmptyBatch { what: "num_tokens" }),
            Normalizer::NumTokens(_) => Ok(()),
            Normalizer::Weights(weights) => same_length("weights", weights.len(), "response_mask", length),
        }
    }

    /// Weight of one response token.
    pub(crate) fn weight(self, index: usize) -> Result<f64> {
        match self {
            Normalizer::NumTokens(num_tokens) => Ok(1.0 / num_tokens as f64),
            Normalizer::Weights(weights) => finite("weights", index, weights[index]),
        }
    }
}

/// `sum(weight * value)` over the response tokens; `values` is `[batch, seq]`.
///
/// # Errors
/// Lengths differ, the step is empty, or a number that is read is not finite.
pub fn masked_sum<'a>(values: &[f32], response_mask: &[bool], normalizer: impl Into<Normalizer<'a>>) -> Result<f64> {
    same_length("values", values.len(), "response_mask", response_mask.len())?;
    let sum = weigh(response_mask, normalizer.into(), "grad_values", |index| {
        Ok((finite("values", index, values[index].into())?, 0.0))
    })?;
    Ok(sum.loss)
}

/// A weighted sum of token losses with its gradient.
pub(crate) struct WeightedSum {
    pub loss: f64,
    pub gradient: Vec<f32>,
    pub num_tokens: usize,
}

/// Adds `token(index) = (loss, derivative)` over the response tokens; the one loop behind every token loss.
pub(crate) fn weigh(
    response_mask: &[bool],
    normalizer: Normalizer<'_>,
    gradient_name: &'static str,
    mut token: impl FnMut(usize) -> Result<(f64, f64)>,
) -> Result<WeightedSum> {
    normalizer.check(response_mask.len())?;
    let mut sum = WeightedSum { loss: 0.0, gradient: vec![0.0; response_mask.len()], num_tokens: 0 };
    for index in (0..response_mask.len()).filter(|&index| response_mask[index]) {
        let weight = normalizer.weight(index)?;
        let (loss, derivative) = token(index)?;
        sum.loss = finite("loss", index, sum.loss + weight * loss)?;
        sum.gradient[index] = finite_f32(gradient_name, index, weight * derivative)?;
        sum.num_tokens += 1;
    }
    Ok(sum)
}
