//! Squared-error losses of the value function, with and without PPO's clipping around the old prediction.

use crate::error::{Result, ensure, finite, same_length};
use crate::masked::{Normalizer, weigh};

/// Value and gradient of a value loss.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueLoss {
    /// The loss.
    pub loss: f64,
    /// Its gradient with respect to `values`, `[batch, seq]`, exactly 0 where masked.
    pub grad_values: Vec<f32>,
    /// Response tokens of this call.
    pub num_tokens: usize,
    /// Share of tokens whose clipped error was strictly larger, so that they have no gradient.
    pub clip_fraction: f64,
}

/// `0.5 * (value - return)^2`, summed over response tokens with the normalizer's weights.
///
/// Slices are `[batch, seq]`; where `response_mask` is false nothing is read.
///
/// # Errors
/// Lengths differ, the step is empty, or a number is not finite.
pub fn value_loss<'a>(
    values: &[f32],
    returns: &[f32],
    response_mask: &[bool],
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<ValueLoss> {
    same_length("values", values.len(), "response_mask", response_mask.len())?;
    same_length("returns", returns.len(), "response_mask", response_mask.len())?;
    let sum = weigh(response_mask, normalizer.into(), "grad_values", |index| {
        let value = finite("values", index, values[index].into())?;
        let error = value - finite("returns", index, returns[index].into())?;
        Ok((0.5 * error * error, error))
    })?;
    Ok(ValueLoss { loss: sum.loss, grad_values: sum.gradient, num_tokens: sum.num_tokens, clip_fraction: 0.0 })
}

/// `0.5 * max((value - return)^2, (clipped - return)^2)` with `clipped = old_value + clip(value - old_value, +-clip_range)`.
///
/// Slices are `[batch, seq]`; where `response_mask` is false nothing is read. A token whose clipped error is the larger
/// one has no gradient: its clipped value does not depend on `value`.
///
/// OpenRLHF and verl compute the same, with 0.5 as range; TRL's PPO too, with 0.2, and multiplies it by 0.1. The clipping is
/// that of the reference code of PPO rather than of its paper.
///
/// # Errors
/// Lengths differ, `clip_range` is negative, the step is empty, or a number is not finite.
pub fn clipped_value_loss<'a>(
    values: &[f32],
    old_values: &[f32],
    returns: &[f32],
    response_mask: &[bool],
    clip_range: f64,
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<ValueLoss> {
    same_length("values", values.len(), "response_mask", response_mask.len())?;
    same_length("old_values", old_values.len(), "response_mask", response_mask.len())?;
    same_length("returns", returns.len(), "response_mask", response_mask.len())?;
    ensure(clip_range >= 0.0 && clip_range.is_finite(), "clip_range", clip_range, "must be finite and at least 0")?;
    let mut num_clipped = 0_usize;
    let sum = weigh(response_mask, normalizer.into(), "grad_values", |index| {
        let value = finite("values", index, values[index].into())?;
        let old_value = finite("old_values", index, old_values[index].into())?;
        let target = finite("returns", index, returns[index].into())?;
        let error = value - target;
        let moved = value - old_value;
        if moved.abs() <= clip_range {
            return Ok((0.5 * error * error, error));
        }
        let clipped_error = old_value + moved.clamp(-clip_range, clip_range) - target;
        if clipped_error.abs() > error.abs() {
            num_clipped += 1;
            return Ok((0.5 * clipped_error * clipped_error, 0.0));
        }
        Ok((0.5 * error * error, error))
    })?;
    let clip_fraction = num_clipped as f64 / sum.num_tokens.max(1) as f64;
    Ok(ValueLoss { loss: sum.loss, grad_values: sum.gradient, num_tokens: sum.num_tokens, clip_fraction })
}
