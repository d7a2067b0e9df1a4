//! The architectures: configuration, tensor names, and the order of query and key rows.

use serde_json::{Value, json};

use super::metadata::{Metadata, key_error, required};
use super::reader::Gguf;
use super::rope;
use crate::config::ModelConfig;
use crate::error::Result;

/// What differs between the architectures that can be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Architecture {
    /// `general.architecture`, the prefix of the keys, and the `model_type` of a configuration.
    name: &'static str,
    /// The class that transformers has for it.
    class: &'static str,
    /// Whether rows of query and key projections are stored in the order of another rotary layout.
    permuted: bool,
    /// Configuration fields that say which projections have biases.
    bias_fields: &'static [(&'static str, &'static str)],
}

const ARCHITECTURES: [Architecture; 3] = [
    Architecture {
        name: "llama",
        class: "LlamaForCausalLM",
        permuted: true,
        bias_fields: &[("attention_bias", "blk.0.attn_q.bias"), ("mlp_bias", "blk.0.ffn_up.bias")],
    },
    // Its query, key and value projections always have biases.
    Architecture { name: "qwen2", class: "Qwen2ForCausalLM", permuted: false, bias_fields: &[] },
    Architecture {
        name: "qwen3",
        class: "Qwen3ForCausalLM",
        permuted: false,
        bias_fields: &[("attention_bias", "blk.0.attn_q.bias")],
    },
];

impl Architecture {
    /// The architecture that a file names.
    pub(super) fn of(metadata: &Metadata) -> Result<&'static Self> {
        let key = "general.architecture";
        let name = required(key, metadata.string(key)?)?;
        ARCHITECTURES.iter().find(|architecture| architecture.name == name).ok_or_else(|| {
            let known: Vec<String> = ARCHITECTURES.iter().map(|known| format!("`{}`", known.name)).collect();
            key_error(key, format!("is `{name}`; only {} are supported", known.join(", ")))
        })
    }

    /// The configuration that the metadata describes. `torch_dtype` is f32, which holds every number of the file.
    pub(super) fn config(&self, gguf: &Gguf) -> Result<ModelConfig> {
        self.refuse_variants(&gguf.metadata)?;
        let json = self.config_json(gguf)?;
        let config: ModelConfig = serde_json::from_value(json)
            .map_err(|error| key_error("general.architecture", format!("is `{}`, and its {error}", self.name)))?;
        self.check_head_sizes(&gguf.metadata, &config)?;
        Ok(config)
    }

    /// The same as the fields of a `config.json`.
    fn config_json(&self, gguf: &Gguf) -> Result<Value> {
        let metadata = &gguf.metadata;
        let integer = |key: &str| {
            let key = self.key(key);
            required(&key, metadata.integer(&key)?)
        };
        let tokens = "tokenizer.ggml.tokens";
        let vocab_size = match metadata.integer(&self.key("vocab_size"))? {
            Some(size) => size,
            None => required(tokens, metadata.strings(tokens)?)?.len() as i64,
        };
        let eps_key = self.key("attention.layer_norm_rms_epsilon");
        let num_attention_heads = integer("attention.head_count")?;
        let head_dim = metadata.integer(&self.key("attention.key_length"))?;
        let hidden_size = integer("embedding_length")?;
        let rope_theta = metadata.float(&self.key("rope.freq_base"))?.unwrap_or(10_000.0); // the format's default
        let rope_head_dim = head_dim.or_else(|| hidden_size.checked_div(num_attention_heads));
        let mut config = json!({
            "architectures": [self.class],
            "model_type": self.name,
            "hidden_size": hidden_size,
            "intermediate_size": integer("feed_forward_length")?,
            "num_hidden_layers": integer("block_count")?,
            "num_attention_heads": num_attention_heads,
            // The format's default: without the key, one key head per query head.
            "num_key_value_heads":
                metadata.integer(&self.key("attention.head_count_kv"))?.unwrap_or(num_attention_heads),
            "vocab_size": vocab_size,
            "max_position_embeddings": integer("context_length")?,
            "rms_norm_eps": required(&eps_key, metadata.float(&eps_key)?)?,
            "rope_theta": rope_theta,
            "rope_scaling": rope::scaling(gguf, &|key| self.key(key), rope_theta, rope_head_dim)?,
            "tie_word_embeddings": gguf.tensor("output.weight").is_none(),
            "hidden_act": "silu",
            "bos_token_id": metadata.integer("tokenizer.ggml.bos_token_id")?,
            "eos_token_id": metadata.integer("tokenizer.ggml.eos_token_id")?,
            "torch_dtype": "float32",
            // The file does not say how fresh weights were drawn; this is the value `config.json` implies when silent.
            "initializer_range": 0.02,
        });
        if let Some(head_dim) = head_dim {
            config["head_dim"] = json!(head_dim);
        }
        if let Some(id) = metadata.integer("tokenizer.ggml.padding_token_id")? {
            config["pad_token_id"] = json!(id);
        }
        let biases = self.bias_fields.iter().map(|(field, tensor)| (*field, gguf.tensor(tensor).is_some()));
        biases.for_each(|(field, present)| config[field] = json!(present));
        Ok(config)
    }

    /// Heads whose rows the file stores in another order; none for tensors that are stored as they are.
    pub(super) fn permuted_heads(&self, name: &str, config: &ModelConfig) -> Option<usize> {
        let part = name.strip_prefix("blk.")?.split_once('.')?.1;
        match part {
            _ if !self.permuted => None,
            "attn_q.weight" | "attn_q.bias" => Some(config.num_attention_heads as usize),
            "attn_k.weight" | "attn_k.bias" => Some(config.num_key_value_heads as usize),
            _ => None,
        }
    }

    fn key(&self, rest: &str) -> String {
        format!("{}.{rest}", self.name)
    }

    /// Refuses what a plain decoder would compute wrongly.
    fn refuse_variants(&self, metadata: &Metadata) -> Result<()> {
        let variants = [
            ("expert_count", "mixtures of experts are"),
            ("attention.sliding_window", "attention windows in GGUF files are"),
        ];
        for (key, what) in variants {
            let key = self.key(key);
            if let Some(value) = metadata.integer(&key)?.filter(|value| *value != 0) {
                return Err(key_error(&key, format!("is {value}; {what} not supported")));
            }
        }
        Ok(())
    }

    fn check_head_sizes(&self, metadata: &Metadata, config: &ModelConfig) -> Result<()> {
        for key in ["rope.dimension_count", "attention.key_length", "attention.value_length"] {
            let (key, head_dim) = (self.key(key), config.head_dim());
            if let Some(size) = metadata.integer(&key)?.filter(|size| *size != head_dim) {
                return Err(key_error(&key, format!("is {size}, must be the head size {head_dim}")));
            }
        }
        Ok(())
    }
}

/// The checkpoint name of a tensor; none when these decoders have no such tensor.
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
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{kind}"))
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
        assert_eq!(name("blk.3.attn_k_norm.weight"), "model.layers.3.self_attn.k_norm.weight");
        assert_eq!(name("blk.3.attn_q.bias"), "model.layers.3.self_attn.q_proj.bias");
        for unknown in ["rope_freqs.weight", "blk.x.attn_q.weight", "blk.1.attn_q", "blk.1.ffn_gate_exps.weight"] {
            assert_eq!(checkpoint_name(unknown), None, "{unknown}");
        }
    }
}
