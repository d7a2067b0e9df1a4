//! Log-probabilities of chosen tokens: the head runs on labelled rows only, in chunks.

use tch::{Kind, Tensor};

use crate::Result;
use crate::decoder::Decoder;

/// Rows of the vocabulary projection that are made at a time.
const CHUNK_ROWS: i64 = 1024;

/// Log-probabilities of `label_ids` `[labels]` at the hidden rows `label_rows` `[labels]`, f32 `[labels]`.
///
/// `hidden` `[tokens, hidden]` is the output of [`Decoder::hidden_states`]; row `r` predicts the token after `r`. The
/// distribution is that of the logits divided by `temperature`. Gradients flow to `hidden` and the head.
///
/// # Errors
/// [`crate::Error::Torch`] when libtorch refuses an operation, as for want of memory.
pub fn token_log_probs(
    decoder: &Decoder,
    hidden: &Tensor,
    label_rows: &Tensor,
    label_ids: &Tensor,
    temperature: f64,
) -> Result<Tensor> {
    let chunks = chunk_bounds(label_rows.size1()?).map(|(start, len)| {
        let log_softmax = chunk_log_softmax(decoder, hidden, &label_rows.f_narrow(0, start, len)?, temperature)?;
        let labels = label_ids.f_narrow(0, start, len)?.f_unsqueeze(1)?;
        Ok(log_softmax.f_gather(1, &labels, false)?.f_squeeze_dim(1)?)
    });
    Ok(Tensor::f_cat(&chunks.collect::<Result<Vec<_>>>()?, 0)?)
}

/// Entropies in nats of the next-token distributions at `rows` `[labels]` of `hidden`, f32 `[labels]`, without gradient.
///
/// # Errors
/// As [`token_log_probs`].
pub fn token_entropies(decoder: &Decoder, hidden: &Tensor, rows: &Tensor, temperature: f64) -> Result<Tensor> {
    tch::no_grad(|| {
        let chunks = chunk_bounds(rows.size1()?).map(|(start, len)| {
            let log_softmax = chunk_log_softmax(decoder, hidden, &rows.f_narrow(0, start, len)?, temperature)?;
            let surprise = log_softmax.f_exp()?.f_mul(&log_softmax)?;
            Ok(surprise.f_sum_dim_intlist(-1, false, Kind::Float)?.f_neg()?)
        });
        Ok(Tensor::f_cat(&chunks.collect::<Result<Vec<_>>>()?, 0)?)
    })
}

/// Log-softmax in f32 of the logits at `rows` `[len]` of `hidden`, `[len, vocab]`.
fn chunk_log_softmax(decoder: &Decoder, hidden: &Tensor, rows: &Tensor, temperature: f64) -> Result<Tensor> {
    let mut logits = decoder.logits(&hidden.f_index_select(0, rows)?)?.f_to_kind(Kind::Float)?;
    if temperature != 1.0 {
        logits = logits.f_div_scalar(temperature)?;
    }
    Ok(logits.f_log_softmax(-1, Kind::Float)?)
}

fn chunk_bounds(rows: i64) -> impl Iterator<Item = (i64, i64)> {
    // At least one chunk, so that no labels give an empty tensor rather than no tensor.
    let num_chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    (0..num_chunks.max(1)).map(move |chunk| {
        let start = chunk * CHUNK_ROWS;
        (start, CHUNK_ROWS.min(rows - start))
    })
}
