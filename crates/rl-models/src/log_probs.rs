//! Log-probabilities of chosen tokens: the head runs on labelled rows only, in chunks.

use tch::{Kind, Tensor};

use crate::decoder::Decoder;

/// Rows of the vocabulary projection that are made at a time.
const CHUNK_ROWS: i64 = 1024;

/// Log-probabilities of `label_ids` `[labels]` at the hidden rows `label_rows` `[labels]`, f32 `[labels]`.
///
/// `hidden` `[tokens, hidden]` is the output of [`Decoder::hidden_states`]; row `r` predicts the token after `r`. The
/// distribution is that of the logits divided by `temperature`. Gradients flow to `hidden` and the head.
pub fn token_log_probs(
    decoder: &Decoder,
    hidden: &Tensor,
    label_rows: &Tensor,
    label_ids: &Tensor,
    temperature: f64,
) -> Tensor {
    let chunks = chunk_bounds(label_rows.size()[0]).map(|(start, len)| {
        let rows = hidden.index_select(0, &label_rows.narrow(0, start, len));
        let log_softmax = scaled(decoder.logits(&rows), temperature).log_softmax(-1, Kind::Float); // [len, vocab]
        log_softmax.gather(1, &label_ids.narrow(0, start, len).unsqueeze(1), false).squeeze_dim(1)
    });
    Tensor::cat(&chunks.collect::<Vec<_>>(), 0)
}

/// Entropies in nats of the next-token distributions at `rows` `[labels]` of `hidden`, f32 `[labels]`, without gradient.
pub fn token_entropies(decoder: &Decoder, hidden: &Tensor, rows: &Tensor, temperature: f64) -> Tensor {
    tch::no_grad(|| {
        let chunks = chunk_bounds(rows.size()[0]).map(|(start, len)| {
            let hidden = hidden.index_select(0, &rows.narrow(0, start, len));
            let log_softmax = scaled(decoder.logits(&hidden), temperature).log_softmax(-1, Kind::Float);
            -(log_softmax.exp() * log_softmax).sum_dim_intlist(-1, false, Kind::Float)
        });
        Tensor::cat(&chunks.collect::<Vec<_>>(), 0)
    })
}

fn scaled(logits: Tensor, temperature: f64) -> Tensor {
    if temperature == 1.0 { logits } else { logits / temperature }
}

fn chunk_bounds(rows: i64) -> impl Iterator<Item = (i64, i64)> {
    // At least one chunk, so that no labels give an empty tensor rather than no tensor.
    let num_chunks = (rows + CHUNK_ROWS - 1) / CHUNK_ROWS;
    (0..num_chunks.max(1)).map(move |chunk| {
        let start = chunk * CHUNK_ROWS;
        (start, CHUNK_ROWS.min(rows - start))
    })
}
