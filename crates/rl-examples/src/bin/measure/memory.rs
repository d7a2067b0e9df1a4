//! Memory of one training step of a small decoder, apart from weights, gradients and optimizer state.

use anyhow::Result;
use rl_core::random::RandomKey;
use rl_models::{Decoder, ModelConfig};
use rl_torch::{AdamW, AdamWConfig, clip_grad_norm};
use tch::Device;

use crate::process::{peak_bytes, reset_peak, resident_bytes};
use crate::{Measured, training};

/// Sequences and tokens of each; together 2 048 tokens.
const SEQUENCES: (usize, usize) = (8, 256);
/// Weight, gradient and two moments of a parameter in f32.
const STATE_BYTES: f64 = 16.0;

/// A step at a vocabulary size: what it takes beyond weights, gradients and moments, for its two halves.
///
/// `backward` covers forward and backward, `update` clipping and the optimizer. The kernel's peak is reset before each.
pub fn step(vocab_size: i64) -> Result<Measured> {
    let before_model = resident_bytes()?;
    let decoder = Decoder::random(config(vocab_size)?, 0, Device::Cpu)?;
    decoder.set_trainable(true);
    let mut optimizer = AdamW::new(decoder.parameters(), AdamWConfig::default());
    let (count, length) = SEQUENCES;
    let key = RandomKey::new(0, "bench memory");
    let token = |at: usize| (key.uniform(at as u64) * vocab_size as f64) as i64;
    let sequences: Vec<Vec<i64>> =
        (0..count).map(|row| (0..length).map(|column| token(row * length + column)).collect()).collect();
    let sequences: Vec<&[i64]> = sequences.iter().map(Vec::as_slice).collect();
    let num_labels = count * (length - 1);

    let (mut backward, mut update) = (0, 0);
    // Gradients and moments come into being in the first step; the second one is counted.
    for _ in 0..2 {
        optimizer.zero_grad()?;
        reset_peak()?;
        training::backward(&decoder, &sequences, num_labels)?;
        backward = peak_bytes()?;
        reset_peak()?;
        clip_grad_norm(optimizer.parameters(), 1.0)?;
        optimizer.step(1e-4)?;
        update = peak_bytes()?;
    }
    let state_bytes = STATE_BYTES * decoder.config().num_parameters() as f64;
    let beyond = |peak: u64| peak as f64 - before_model as f64 - state_bytes;
    let values = [
        ("parameters", decoder.config().num_parameters() as f64),
        // The kernel's peak was reset on the way, so it is said here.
        ("peak_bytes", backward.max(update) as f64),
        ("state_bytes", state_bytes),
        ("backward_bytes_beyond_state", beyond(backward)),
        ("update_bytes_beyond_state", beyond(update)),
        ("one_logits_matrix_bytes", (count * length) as f64 * vocab_size as f64 * 4.0),
    ];
    Ok(Measured { values: values.into(), ..Default::default() })
}

/// Four layers of width 256, tied embeddings: all that differs between two vocabularies is the embedding matrix.
fn config(vocab_size: i64) -> Result<ModelConfig> {
    let json = serde_json::json!({
        "model_type": "llama",
        "hidden_size": 256,
        "intermediate_size": 688,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": vocab_size,
        "max_position_embeddings": 1024,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": true,
        "hidden_act": "silu",
        "initializer_range": 0.02
    });
    Ok(serde_json::from_value(json)?)
}
