//! Llama 2, 3, 3.1 and 3.2, and what took over its layout, such as SmolLM2.
//!
//! The plain course of the decoder. Touvron et al. 2023: <https://arxiv.org/abs/2302.13971>; Grattafiori et al. 2024:
//! <https://arxiv.org/abs/2407.21783>. Rotary scaling is not the family's own: see `src/rope/scaling.rs`.

use crate::family::{AttentionBias, Family};

/// `LlamaConfig`.
pub(crate) static LLAMA: Family = Family {
    model_type: "llama",
    attention_bias: AttentionBias::AsConfigured,
    has_mlp_bias: true,
    qk_norm: false,
    has_sliding_window: false,
    default_num_key_value_heads: None,
    default_head_dim: None,
    default_max_position_embeddings: 2048,
    default_bos_token_id: Some(1),
    default_eos_token_id: Some(2),
};
