//! Qwen2, Qwen2.5 and Qwen3 (dense).
//!
//! Qwen2 adds biases to query, key and value: <https://arxiv.org/abs/2407.10671>. Qwen3 has none but normalises each
//! query and key head, and states its head width: <https://arxiv.org/abs/2505.09388>. Both may give their upper layers a
//! sliding window. Mixtures of experts are other families.

use crate::family::{AttentionBias, Family};

/// `Qwen2Config`, also that of Qwen2.5.
pub(crate) static QWEN2: Family = Family {
    model_type: "qwen2",
    attention_bias: AttentionBias::QueryKeyValue,
    has_mlp_bias: false,
    qk_norm: false,
    has_sliding_window: true,
    default_num_key_value_heads: Some(32),
    default_head_dim: None,
    default_max_position_embeddings: 32768,
    default_bos_token_id: None,
    default_eos_token_id: None,
};

/// `Qwen3Config`.
pub(crate) static QWEN3: Family = Family {
    model_type: "qwen3",
    attention_bias: AttentionBias::AsConfigured,
    qk_norm: true,
    default_head_dim: Some(128),
    ..QWEN2
};
