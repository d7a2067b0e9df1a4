//! Log-probabilities and entropies of chosen tokens: the head runs on labelled rows only, and its logits are never held.

use tch::{Device, Kind, Tensor};

use crate::chunked_head::{ACCELERATOR_TILE_BYTES, ChunkedHead, TILE_BYTES};
use crate::decoder::Decoder;
use crate::{Error, Result};

/// Log-probabilities of `label_ids` `[labels]` at the hidden rows `label_rows` `[labels]`, f32 `[labels]`.
///
/// `hidden` `[tokens, hidden]` is the output of [`Decoder::hidden_states`]; row `r` predicts the token after `r`. The
/// distribution is that of the logits divided by `temperature`. Gradients flow to `hidden` and, unless it is frozen, to
/// the head. The projection runs in tiles, which the backward pass makes again: memory does not grow with
/// `labels x vocab`, and with `vocab` only by the head's own gradient.
///
/// # Errors
/// [`Error::Argument`] for a temperature that is not positive and finite, and for rows and ids of different lengths;
/// [`Error::TokenOutOfRange`] on the CPU (a GPU is not waited for: there such a label gives NaN); [`Error::Tch`] when
/// libtorch refuses an operation, as for want of memory.
pub fn token_log_probs(
    decoder: &Decoder,
    hidden: &Tensor,
    label_rows: &Tensor,
    label_ids: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    Ok(head(decoder, hidden, label_rows, label_ids, temperature)?.run(false)?.0)
}

/// As [`token_log_probs`], and the entropies in nats of the distributions of the logits divided by
/// `entropy_temperature`, f32 `[labels]`; both with gradients. A second temperature costs a second projection.
///
/// # Errors
/// As [`token_log_probs`].
pub fn token_log_probs_and_entropies(
    decoder: &Decoder,
    hidden: &Tensor,
    label_rows: &Tensor,
    label_ids: &Tensor,
    temperature: f64,
    entropy_temperature: f64,
) -> Result<(Tensor, Tensor)> {
    let (mut log_probs, entropies) = head(decoder, hidden, label_rows, label_ids, entropy_temperature)?.run(true)?;
    if temperature != entropy_temperature {
        log_probs = token_log_probs(decoder, hidden, label_rows, label_ids, temperature)?;
    }
    let missing = || Error::Argument { name: "entropies", value: "none".into(), reason: "were asked for".into() };
    Ok((log_probs, entropies.ok_or_else(missing)?))
}

/// Entropies in nats of the next-token distributions at `rows` `[labels]` of `hidden`, f32 `[labels]`, without gradient.
///
/// # Errors
/// As [`token_log_probs`].
pub fn token_entropies(decoder: &Decoder, hidden: &Tensor, rows: &Tensor, temperature: f64) -> Result<Tensor> {
    let ids = rows.f_zeros_like()?; // any column will do, its log-probability is not used
    tch::no_grad(|| Ok(token_log_probs_and_entropies(decoder, hidden, rows, &ids, temperature, temperature)?.1))
}

/// `log sum_v p_v^2` of the next-token distributions `p` at `rows` `[labels]` of `hidden`, f32 `[labels]`, without gradient:
/// `lse(2 z) - 2 lse(z)` of the logits `z`, which WPO compares a token's log-probability with.
///
/// Logits of few rows are held at a time, as many as fit into a tile of the head.
///
/// # Errors
/// As [`token_log_probs`].
pub fn token_log_sum_squares(decoder: &Decoder, hidden: &Tensor, rows: &Tensor) -> Result<Tensor> {
    tch::no_grad(|| {
        let weight = decoder.head_weight()?;
        let kind = if weight.kind() == Kind::Double { Kind::Double } else { Kind::Float };
        let tile = if decoder.device() == Device::Cpu { TILE_BYTES } else { ACCELERATOR_TILE_BYTES };
        let step = (tile / (weight.size()[0] * kind.elt_size_in_bytes() as i64)).max(1);
        let (labels, mut parts) = (rows.size1()?, Vec::new());
        for start in (0..labels).step_by(step as usize) {
            let rows = rows.f_narrow(0, start, step.min(labels - start))?;
            let logits = decoder.logits(&hidden.f_index_select(0, &rows)?)?.f_to_kind(kind)?; // [rows, vocab]
            let twice = logits.f_mul_scalar(2.0)?.f_logsumexp([1_i64].as_slice(), false)?;
            let once = logits.f_logsumexp([1_i64].as_slice(), false)?.f_mul_scalar(2.0)?;
            parts.push(twice.f_sub(&once)?);
        }
        match parts.is_empty() {
            true => Ok(Tensor::f_zeros([0], (kind, decoder.device()))?),
            false => Ok(Tensor::f_cat(&parts, 0)?),
        }
    })
}

fn head(
    decoder: &Decoder,
    hidden: &Tensor,
    label_rows: &Tensor,
    label_ids: &Tensor,
    temperature: f64,
) -> Result<ChunkedHead> {
    if !(temperature.is_finite() && 0.0 < temperature) {
        let reason = "must be positive and finite; greedy choice has no log-probability".into();
        return Err(Error::Argument { name: "temperature", value: temperature.to_string(), reason });
    }
    let (rows, ids) = (label_rows.size1()?, label_ids.size1()?);
    if rows != ids {
        let reason = format!("one id is needed for each of the {rows} rows");
        return Err(Error::Argument { name: "label_ids", value: format!("{ids} ids"), reason });
    }
    let vocab_size = decoder.config().vocab_size;
    if label_ids.device() == Device::Cpu && 0 < ids {
        for id in [label_ids.f_min()?.f_int64_value(&[])?, label_ids.f_max()?.f_int64_value(&[])?] {
            if id < 0 || vocab_size <= id {
                return Err(Error::TokenOutOfRange { id, vocab_size });
            }
        }
    }
    Ok(ChunkedHead {
        hidden: hidden.shallow_clone(),
        weight: decoder.head_weight()?.shallow_clone(),
        rows: label_rows.shallow_clone(),
        ids: label_ids.shallow_clone(),
        temperature,
        tile_bytes: if decoder.device() == Device::Cpu { TILE_BYTES } else { ACCELERATOR_TILE_BYTES },
    })
}
