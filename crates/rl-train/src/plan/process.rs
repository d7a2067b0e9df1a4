//! What the process itself takes: program, libraries, buffers of the matrix products, and the data read so far.

use std::sync::OnceLock;

use rl_models::{Decoder, token_log_probs};
use tch::{Device, Kind};

use super::system::resident_bytes;
use crate::Result;
use crate::config::NewModelConfig;
use crate::new_model::new_config;

/// Tokens of the warming pass.
const TOKENS: i64 = 256;
/// Its decoder: small enough to be drawn in a few hundredths of a second.
const SHAPE: NewModelConfig = NewModelConfig {
    vocab_size: 2048,
    tokenizer_data: None,
    hidden_size: 128,
    intermediate_size: 512,
    num_hidden_layers: 1,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    max_position_embeddings: TOKENS,
    initializer_range: 0.02,
};

/// Memory that the process holds, measured, once libtorch has computed a pass forwards and backwards: that brings in the code and
/// the buffers that every run needs. The pass is taken once per process.
pub(super) fn process_bytes() -> Result<u64> {
    static WARM: OnceLock<()> = OnceLock::new();
    if WARM.get().is_none() {
        tch::with_grad(warm_up)?;
        let _ = WARM.set(()); // another thread may have been here too
    }
    Ok(resident_bytes().unwrap_or(0))
}

fn warm_up() -> Result<()> {
    let vocab = SHAPE.vocab_size as i64;
    let decoder = Decoder::random(new_config(&SHAPE, vocab), 0, Device::Cpu)?;
    decoder.set_trainable(true);
    let ids: Vec<i64> = (0..TOKENS).map(|place| place % vocab).collect();
    let packed = decoder.pack(&[&ids])?;
    let hidden = decoder.hidden_states(&packed)?;
    let log_probs = token_log_probs(&decoder, &hidden, &packed.positions, &packed.ids, 1.0)?;
    Ok(log_probs.f_sum(Kind::Float)?.f_backward()?)
}
