//! Supervised fine-tuning: cross-entropy over the log-probabilities of the target tokens.
//!
//! The vocabulary is not here: the model gives `log_softmax` gathered at the targets.

use serde::{Deserialize, Serialize};

use crate::error::{Result, finite, same_length};
use crate::masked::{Normalizer, weigh};

/// Which supervised loss a token pays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CrossEntropyKind {
    /// Negative log-likelihood, `-log_prob`.
    Nll,
    /// Dynamic fine-tuning, `-stopgrad(exp(log_prob)) * log_prob`: the update of a likely token stays, that of an
    /// unlikely one shrinks. Wu et al. 2025: <https://arxiv.org/abs/2508.05629>.
    Dft,
}

/// Value and gradient of [`cross_entropy_loss`].
#[derive(Debug, Clone, PartialEq)]
pub struct CrossEntropyLoss {
    /// The loss in nats.
    pub loss: f64,
    /// Its gradient with respect to `log_probs`, `[batch, seq]`, exactly 0 where masked.
    pub grad_log_probs: Vec<f32>,
    /// Response tokens of this call.
    pub num_tokens: usize,
}

/// Supervised loss of the target tokens.
///
/// Slices are `[batch, seq]`; where `response_mask` is false nothing is read. A plain `normalizer` counts the response
/// tokens of the whole step, so the gradient does not depend on how the batch is split. The gradient of
/// [`CrossEntropyKind::Dft`] treats the factor `exp(log_prob)` as a constant.
///
/// TRL has both kinds over the tokens of the step; OpenRLHF has the first, over tokens or as mean of row means, and its 2025
/// fork averages each micro-batch ([`Reduction::TokenMeanLocal`](crate::masked::Reduction::TokenMeanLocal)).
///
/// # Errors
/// Lengths differ, the step is empty, or a number is not finite.
pub fn cross_entropy_loss<'a>(
    log_probs: &[f32],
    response_mask: &[bool],
    kind: CrossEntropyKind,
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<CrossEntropyLoss> {
    same_length("log_probs", log_probs.len(), "response_mask", response_mask.len())?;
    let sum = weigh(response_mask, normalizer.into(), "grad_log_probs", |index| {
        let log_prob = finite("log_probs", index, log_probs[index].into())?;
        let scale = match kind {
            CrossEntropyKind::Nll => 1.0,
            CrossEntropyKind::Dft => log_prob.exp(),
        };
        Ok((-scale * log_prob, -scale))
    })?;
    Ok(CrossEntropyLoss { loss: sum.loss, grad_log_probs: sum.gradient, num_tokens: sum.num_tokens })
}
