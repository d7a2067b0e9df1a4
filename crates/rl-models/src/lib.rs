//! Llama and Qwen decoders on libtorch: checkpoints and GGUF files, log-probabilities, generation.
//!
//! One model code serves sampling and training: [`Decoder`] runs packed sequences for training and prefill, and the same
//! layers against a key/value cache while decoding. A [`ChatModel`] adds tokenizer and
//! chat template, and plays environments. Absent on purpose: losses (rl-core), but for those over the whole vocabulary
//! ([`distillation_loss`]), and training loops (rl-train).

mod attention;
mod chat_model;
pub mod checkpoint;
mod chunked_head;
pub mod config;
mod decoder;
mod distillation;
mod embedding;
mod episode;
pub mod error;
pub mod family;
pub mod generate;
pub mod gguf;
mod heads;
mod linear;
mod llama;
mod log_probs;
mod lora;
mod mlp;
mod norm;
mod packed;
mod qwen;
mod reward_model;
mod rope;

use std::collections::BTreeMap;

pub use chat_model::{ChatModel, Dialogue, Reply, Turn};
pub use config::ModelConfig;
pub use decoder::Decoder;
pub use distillation::{DistillationSettings, Divergence, distillation_loss};
pub use episode::{Episode, play_episodes};
pub use error::{Error, Result};
pub use heads::{RewardHead, ValueHead};
pub use log_probs::{token_entropies, token_log_probs, token_log_probs_and_entropies, token_log_sum_squares};
pub use lora::{LoraConfig, TargetModules};
pub use packed::{Packed, SharedRows};
pub use reward_model::RewardModel;

/// Moves the tensor `name` out of `tensors`.
fn take(tensors: &mut BTreeMap<String, tch::Tensor>, name: &str) -> Result<tch::Tensor> {
    tensors.remove(name).ok_or_else(|| {
        let missing = vec![name.to_string()];
        Error::TensorMismatch(error::TensorMismatch { missing, ..Default::default() })
    })
}

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
