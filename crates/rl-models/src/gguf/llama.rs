//! The `llama` architecture: configuration, tensor names, and the order of query and key rows.

use serde_json::{Map, json};

use super::metadata::{Metadata, key_error, required};
use super::reader::Gguf;
use crate::config::{Dtype, ModelConfig};
use crate::error::Result;

/// The configuration that the metadata describes. `torch_dtype` is f32, the type that conversion writes.
pub(super) fn config(gguf: &Gguf) -> Result<ModelConfig> {
    let metadata = &gguf.metadata;
    let architecture = required("general.architecture", metadata.string("general.architecture")?)?;
    if architecture != "llama" {
        let reason = format!("is `{architecture}`; only `llama` is supported");
        return Err(key_error("general.architecture", reason));
    }
    refuse_variants(metadata)?;
    let integer = |key: &str| required(key, metadata.integer(key)?);
    let num_attention_heads = integer("llama.attention.head_count")?;
    let vocab_size = match metadata.integer("llama.vocab_size")? {
        Some(size) => size,
        None => required("tokenizer.ggml.tokens", metadata.strings("tokenizer.ggml.tokens")?)?.len() as i64,
    };
    let eps_key = "llama.attention.layer_norm_rms_epsilon";
    let config = ModelConfig {
        model_type: "llama".to_owned(),
        hidden_size: integer("llama.embedding_length")?,
        intermediate_size: integer("llama.feed_forward_length")?,
        num_hidden_layers: integer("llama.block_count")?,
        num_attention_heads,
        // The format's default: without the key, one key head per query head.
        num_key_value_heads: metadata.integer("llama.attention.head_count_kv")?.unwrap_or(num_attention_heads),
        head_dim: metadata.integer("llama.attention.key_length")?,
        vocab_size,
        max_position_embeddings: integer("llama.context_length")?,
        rms_norm_eps: required(eps_key, metadata.float(eps_key)?)?,
        rope_theta: metadata.float("llama.rope.freq_base")?.unwrap_or(10_000.0), // the format's default
        rope_scaling: Default::default(),
        sliding_window: Default::default(),
        tie_word_embeddings: gguf.tensor("output.weight").is_none(),
        attention_bias: gguf.tensor("blk.0.attn_q.bias").is_some(),
        mlp_bias: gguf.tensor("blk.0.ffn_up.bias").is_some(),
        hidden_act: "silu".to_owned(),
        bos_token_id: metadata.integer("tokenizer.ggml.bos_token_id")?,
        eos_token_id: metadata.integer("tokenizer.ggml.eos_token_id")?.into_iter().collect(),
        pad_token_id: metadata.integer("tokenizer.ggml.padding_token_id")?,
        torch_dtype: Some(Dtype::Float32),
        // The file does not say how fresh weights were drawn; this is the value `config.json` implies when silent.
        initializer_range: 0.02,
        extra: Map::from_iter([("architectures".to_owned(), json!(["LlamaForCausalLM"]))]),
    };
    config.validate()?;
    check_head_sizes(metadata, &config)?;
    Ok(config)
}

/// Refuses what a plain Llama decoder would compute wrongly.
fn refuse_variants(metadata: &Metadata) -> Result<()> {
    let key = "llama.rope.scaling.type";
    if let Some(kind) = metadata.string(key)?.filter(|kind| *kind != "none") {
        return Err(key_error(key, format!("is `{kind}`; scaled rotary embeddings are not supported")));
    }
    for key in ["llama.rope.scaling.factor", "llama.rope.scale_linear"] {
        if let Some(factor) = metadata.float(key)?.filter(|factor| *factor != 1.0) {
            return Err(key_error(key, format!("is {factor}; scaled rotary embeddings are not supported")));
        }
    }
    let key = "llama.expert_count";
    if let Some(experts) = metadata.integer(key)?.filter(|experts| *experts != 0) {
        return Err(key_error(key, format!("is {experts}; mixtures of experts are not supported")));
    }
    Ok(())
}

fn check_head_sizes(metadata: &Metadata, config: &ModelConfig) -> Result<()> {
    for key in ["llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"] {
        let head_dim = config.head_dim();
        if let Some(size) = metadata.integer(key)?.filter(|size| *size != head_dim) {
            return Err(key_error(key, format!("is {size}, must be the head size {head_dim}")));
        }
    }
    Ok(())
}

/// The checkpoint name of a tensor; none when a Llama decoder has no such tensor.
pub(super) fn checkpoint_name(name: &str) -> Option<String> {
    let whole = match name {
        "token_embd.weight" => Some("model.embed_tokens.weight"),
        "output_norm.weight" => Some("model.norm.weight"),
        "output.weight" => Some("lm_head.weight"),
        _ => None,
    };
    if let Some(whole) = whole {
        return Some(whole.to_owned());
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: u32 = layer.parse().ok()?;
    let (part, kind) = part.rsplit_once('.')?;
    if kind != "weight" && kind != "bias" {
        return None;
    }
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}

/// Heads whose rows GGUF stores in another order; none for tensors that are stored as they are.
pub(super) fn permuted_heads(name: &str, config: &ModelConfig) -> Option<usize> {
    let part = name.strip_prefix("blk.")?.split_once('.')?.1;
    match part {
        "attn_q.weight" | "attn_q.bias" => Some(config.num_attention_heads as usize),
        "attn_k.weight" | "attn_k.bias" => Some(config.num_key_value_heads as usize),
        _ => None,
    }
}

/// Puts query or key rows back into the checkpoint's order, head by head.
///
/// GGUF keeps the two numbers that a rotation turns side by side: within a head its row `2 j + half` is the
/// checkpoint's row `half * head_dim / 2 + j`. `rows` is `[heads * head_dim, row_len]`, row-major.
pub(super) fn unpermute(rows: &[f32], heads: usize, row_len: usize) -> Vec<f32> {
    let head_dim = rows.len() / (heads * row_len);
    let mut out = Vec::with_capacity(rows.len());
    for head in rows.chunks_exact(head_dim * row_len) {
        for half in 0..2 {
            for j in 0..head_dim / 2 {
                let row = (2 * j + half) * row_len;
                out.extend_from_slice(&head[row..row + row_len]);
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_return_to_the_two_halves_of_each_head() {
        // Two heads of four rows of two numbers. A checkpoint's head [a0 a1 b0 b1] is stored as [a0 b0 a1 b1].
        let stored = [0., 0., 2., 2., 1., 1., 3., 3., 10., 10., 12., 12., 11., 11., 13., 13.];
        let expected = [0., 0., 1., 1., 2., 2., 3., 3., 10., 10., 11., 11., 12., 12., 13., 13.];
        assert_eq!(unpermute(&stored, 2, 2), expected);
    }

    #[test]
    fn names_map_to_the_checkpoint_and_others_to_nothing() {
        let name = |name| checkpoint_name(name).unwrap_or_default();
        assert_eq!(name("blk.12.attn_output.weight"), "model.layers.12.self_attn.o_proj.weight");
        assert_eq!(name("blk.0.ffn_norm.weight"), "model.layers.0.post_attention_layernorm.weight");
        assert_eq!(name("output.weight"), "lm_head.weight");
        for unknown in ["rope_freqs.weight", "blk.x.attn_q.weight", "blk.1.attn_q", "blk.1.ffn_gate_exps.weight"] {
            assert_eq!(checkpoint_name(unknown), None, "{unknown}");
        }
    }
}
