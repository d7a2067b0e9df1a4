//! Which tokens take part in a loss: left out are those of high entropy's complement, of stale or of far-gone samples.
//!
//! A [`Selection`] is used in one of two ways. As weights ([`Selection::apply`]), a dropped token contributes nothing and
//! every denominator stays as it was: OpenRLHF, TRL and the GRPO recipe do this. As the response mask, it shrinks the
//! denominators too, and the sequence ratios: verl does this after rejection.
//!
//! Not here: masks that the data decides (prompt, padding, overlong answers).

use crate::error::{Error, Result, ensure, finite, same_length};
use crate::kl::KlPenalty;
use crate::rows::Rows;

/// Tokens kept out of those of a response mask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// True on response tokens that are kept, `[batch, seq]`.
    pub keep: Vec<bool>,
    /// Response tokens dropped.
    pub num_dropped_tokens: usize,
    /// Rows that lost all their response tokens.
    pub num_dropped_rows: usize,
}

impl Selection {
    /// Keeps the response tokens for which `keep(index)`; counts what is lost.
    pub(crate) fn of<'a>(
        response_mask: &[bool],
        rows: impl Into<Rows<'a>>,
        keep: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let mut selection =
            Selection { keep: vec![false; response_mask.len()], num_dropped_tokens: 0, num_dropped_rows: 0 };
        for range in rows.into().ranges(response_mask.len())? {
            let (mut kept, mut dropped) = (0, 0);
            for index in range.filter(|&index| response_mask[index]) {
                selection.keep[index] = keep(index);
                *if selection.keep[index] { &mut kept } else { &mut dropped } += 1;
            }
            selection.num_dropped_tokens += dropped;
            selection.num_dropped_rows += usize::from(kept == 0 && dropped > 0);
        }
        Ok(selection)
    }

    /// Sets the weights of dropped tokens to 0; `weights` is `[batch, seq]`, from
    /// [`Reduction::token_weights`](crate::masked::Reduction::token_weights).
    ///
    /// # Errors
    /// Lengths differ.
    pub fn apply(&self, weights: &mut [f64]) -> Result<()> {
        same_length("weights", weights.len(), "keep", self.keep.len())?;
        for (weight, _) in weights.iter_mut().zip(&self.keep).filter(|(_, keep)| !**keep) {
            *weight = 0.0;
        }
        Ok(())
    }
}

/// Drops a response whose mean KL estimate from the reference reaches `max_kl`, in nats per token.
///
/// The GRPO recipe with a threshold (0.15 in one of its runs) sets the whole loss of such a response to 0, policy, KL and
/// entropy terms alike, and keeps the denominators: [`Selection::apply`] to the weights that all three terms share.
///
/// # Errors
/// Lengths differ, `max_kl` is not positive, or a number is not finite.
pub fn drop_high_kl<'a>(
    log_probs: &[f32],
    ref_log_probs: &[f32],
    response_mask: &[bool],
    rows: impl Into<Rows<'a>>,
    penalty: impl Into<KlPenalty>,
    max_kl: f64,
) -> Result<Selection> {
    let (rows, penalty) = (rows.into(), penalty.into());
    penalty.validate()?;
    ensure(max_kl > 0.0 && max_kl.is_finite(), "max_kl", max_kl, "must be finite and positive")?;
    let means = row_means(ref_log_probs, "ref_log_probs", log_probs, "log_probs", response_mask, rows, |difference| {
        penalty.term(-difference).value
    })?;
    Selection::of(response_mask, rows, |index| means[index] < max_kl)
}

/// Drops tokens with a negative advantage in a sequence that the policy has left: `mean(sampling_log_prob - log_prob) >
/// max_kl`, in nats per token.
///
/// DeepSeek-AI 2025 (DeepSeek-V3.2), section 3.1: <https://arxiv.org/abs/2512.02556>; TRL's `off_policy_mask_threshold`. TRL
/// takes an absent (NaN) sampling log-probability for no difference; here it is an error.
///
/// # Errors
/// Lengths differ, `max_kl` is not finite, or a number is not finite.
pub fn drop_off_policy<'a>(
    log_probs: &[f32],
    sampling_log_probs: &[f32],
    advantages: &[f32],
    response_mask: &[bool],
    rows: impl Into<Rows<'a>>,
    max_kl: f64,
) -> Result<Selection> {
    let rows = rows.into();
    finite("max_kl", 0, max_kl)?;
    same_length("advantages", advantages.len(), "response_mask", response_mask.len())?;
    for index in (0..response_mask.len()).filter(|&index| response_mask[index]) {
        finite("advantages", index, advantages[index].into())?;
    }
    let name = "sampling_log_probs";
    let means =
        row_means(sampling_log_probs, name, log_probs, "log_probs", response_mask, rows, |difference| difference)?;
    Selection::of(response_mask, rows, |index| advantages[index] >= 0.0 || means[index] <= max_kl)
}

/// The entropy above which the `top_fraction` of the response tokens lie: their `1 - top_fraction` quantile, interpolated.
///
/// `entropy` is `[batch, seq]` in nats. The result depends on all tokens given, so give those of the whole step; TRL takes
/// one micro-batch of all ranks.
///
/// # Errors
/// Lengths differ, no token at all, `top_fraction` outside (0, 1], or a number is not finite.
pub fn entropy_threshold(entropy: &[f32], response_mask: &[bool], top_fraction: f64) -> Result<f64> {
    same_length("entropy", entropy.len(), "response_mask", response_mask.len())?;
    ensure(top_fraction > 0.0 && top_fraction <= 1.0, "top_fraction", top_fraction, "must be above 0 and at most 1")?;
    let mut sorted = Vec::new();
    for index in (0..entropy.len()).filter(|&index| response_mask[index]) {
        sorted.push(finite("entropy", index, entropy[index].into())?);
    }
    if sorted.is_empty() {
        return Err(Error::EmptyBatch { what: "entropies" });
    }
    sorted.sort_by(f64::total_cmp);
    let place = (1.0 - top_fraction) * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    Ok(below + place.fract() * (above - below))
}

/// Keeps the tokens whose entropy is at least `threshold`, from [`entropy_threshold`].
///
/// Wang et al. 2025, "Beyond the 80/20 rule", section 5: <https://arxiv.org/abs/2506.01939>. TRL's `top_entropy_quantile`
/// drops the others from the policy loss and the entropy bonus, not from the KL term, and keeps the denominators.
///
/// # Errors
/// Lengths differ, or a number is not finite.
pub fn keep_high_entropy<'a>(
    entropy: &[f32],
    response_mask: &[bool],
    rows: impl Into<Rows<'a>>,
    threshold: f64,
) -> Result<Selection> {
    same_length("entropy", entropy.len(), "response_mask", response_mask.len())?;
    finite("threshold", 0, threshold)?;
    for index in (0..entropy.len()).filter(|&index| response_mask[index]) {
        finite("entropy", index, entropy[index].into())?;
    }
    Selection::of(response_mask, rows, |index| f64::from(entropy[index]) >= threshold)
}

/// Mean of `estimate(left - right)` over the response tokens of each row, copied to every position of the row.
fn row_means(
    left: &[f32],
    left_name: &'static str,
    right: &[f32],
    right_name: &'static str,
    response_mask: &[bool],
    rows: Rows<'_>,
    estimate: impl Fn(f64) -> f64,
) -> Result<Vec<f64>> {
    same_length(left_name, left.len(), "response_mask", response_mask.len())?;
    same_length(right_name, right.len(), "response_mask", response_mask.len())?;
    let mut means = vec![0.0; response_mask.len()];
    for range in rows.ranges(response_mask.len())? {
        let (mut sum, mut count) = (0.0, 0_usize);
        for index in range.clone().filter(|&index| response_mask[index]) {
            let difference =
                finite(left_name, index, left[index].into())? - finite(right_name, index, right[index].into())?;
            sum += finite("kl", index, estimate(difference))?;
            count += 1;
        }
        means[range].fill(sum / count.max(1) as f64);
    }
    Ok(means)
}
