//! What one family of checkpoints may do differently from another; the decoder reads it and knows no family by name.

use crate::{llama, qwen};

/// How a family differs from the decoder's plain course, and what an absent field of its `config.json` means.
///
/// The defaults are those that transformers documents for the family's configuration class.
#[derive(Debug)]
pub struct Family {
    /// The name in `config.json`.
    pub model_type: &'static str,
    /// Which attention projections have biases.
    pub attention_bias: AttentionBias,
    /// Whether the field `mlp_bias` counts; without it the feed-forward projections have none.
    pub has_mlp_bias: bool,
    /// Whether every query and key head is normalised before its rotation (`q_norm`, `k_norm` `[head_dim]`).
    pub qk_norm: bool,
    /// Whether the family knows sliding windows (`use_sliding_window`, `max_window_layers`, `layer_types`).
    pub has_sliding_window: bool,
    /// `num_key_value_heads` where the field is absent; `None`: one per query head.
    pub default_num_key_value_heads: Option<i64>,
    /// `head_dim` where the field is absent; `None`: `hidden_size / num_attention_heads`.
    pub default_head_dim: Option<i64>,
    /// `max_position_embeddings` where the field is absent.
    pub default_max_position_embeddings: i64,
    /// `bos_token_id` where the field is absent.
    pub default_bos_token_id: Option<i64>,
    /// `eos_token_id` where the field is absent.
    pub default_eos_token_id: Option<i64>,
}

/// Which attention projections of a family have biases.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionBias {
    /// All four or none, as the field `attention_bias` says.
    AsConfigured,
    /// Query, key and value always, the output never; the field is not read.
    QueryKeyValue,
}

/// Every supported family.
pub static FAMILIES: [&Family; 3] = [&llama::LLAMA, &qwen::QWEN2, &qwen::QWEN3];

impl AttentionBias {
    /// Whether query, key and value have a bias, and whether the output has, given the field `attention_bias`.
    pub fn resolve(self, attention_bias: bool) -> (bool, bool) {
        match self {
            AttentionBias::AsConfigured => (attention_bias, attention_bias),
            AttentionBias::QueryKeyValue => (true, false),
        }
    }
}
