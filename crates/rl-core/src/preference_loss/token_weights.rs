//! Numbers per token that two variants need: LD-DPO's weights, and WPO's weight of an answer.

use crate::error::{Error, Result, ensure, finite, same_length};
use crate::rows::Rows;

/// LD-DPO's weights of the response tokens of one pair: 1 up to the shorter answer's length, `ld_alpha` beyond.
///
/// Gives `[chosen_length]` and `[rejected_length]`, response tokens in order. The log-probability of an answer, under the
/// policy and the reference alike, is the weighted sum; a token's gradient is the answer's times the token's weight.
///
/// Liu et al. 2024, eq. 8: <https://arxiv.org/abs/2409.06411>.
///
/// # Errors
/// `ld_alpha` is outside `[0, 1]`.
pub fn ld_dpo_token_weights(
    chosen_length: usize,
    rejected_length: usize,
    ld_alpha: f64,
) -> Result<(Vec<f64>, Vec<f64>)> {
    ensure((0.0..=1.0).contains(&ld_alpha), "ld_alpha", ld_alpha, "must be in [0, 1]")?;
    let shared = chosen_length.min(rejected_length);
    let weights = |length| (0..length).map(|token| if token < shared { 1.0 } else { ld_alpha }).collect();
    Ok((weights(chosen_length), weights(rejected_length)))
}

/// WPO's weight of each answer, `exp(mean over tokens of log_prob - log_sum_squares)`, `[batch]`; a pair weighs the product of
/// its two.
///
/// `log_probs` and `log_sum_squares` are `[batch, seq]`; where `response_mask` is false nothing is read. `log_sum_squares` is
/// `log sum_v p_v^2` of the policy's distribution at that token, `lse(2 z) - 2 lse(z)` of its logits: with it, an answer that
/// the policy would sample weighs about 1. The weights are constants of the loss.
///
/// Zhou et al. 2024, eq. 2: <https://arxiv.org/abs/2406.11827>.
///
/// # Errors
/// Lengths differ, an answer has no response token, or a number is not finite.
pub fn wpo_weights<'a>(
    log_probs: &[f32],
    log_sum_squares: &[f32],
    response_mask: &[bool],
    rows: impl Into<Rows<'a>>,
) -> Result<Vec<f64>> {
    same_length("log_probs", log_probs.len(), "response_mask", response_mask.len())?;
    same_length("log_sum_squares", log_sum_squares.len(), "response_mask", response_mask.len())?;
    let mut weights = Vec::new();
    for (row, range) in rows.into().ranges(response_mask.len())?.into_iter().enumerate() {
        let (mut sum, mut count) = (0.0, 0_usize);
        for index in range.filter(|&index| response_mask[index]) {
            let log_prob = finite("log_probs", index, log_probs[index].into())?;
            sum += log_prob - finite("log_sum_squares", index, log_sum_squares[index].into())?;
            count += 1;
        }
        if count == 0 {
            return Err(Error::EmptyBatch { what: "response tokens of an answer" });
        }
        weights.push(finite("wpo_weights", row, (sum / count as f64).exp())?);
    }
    Ok(weights)
}
