//! The model configuration: a checkpoint's `config.json`.
//!
//! Field names are the checkpoint's own. Fields that the model does not use are kept in [`ModelConfig::extra`], so
//! reading and writing a configuration loses nothing. Where a field is absent, the value is the one that transformers
//! documents for the family (`src/llama.rs`, `src/qwen.rs`); the five sizes that every file states are never guessed.
//! Not here: configurations of training runs.

mod raw;
mod window;

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::family::{FAMILIES, Family};
pub use crate::rope::RopeScaling;
use raw::RawConfig;
pub use window::{LayerType, SlidingWindow};

/// The type in which a checkpoint stores its weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32-bit floats.
    Float32,
    /// 16-bit IEEE floats.
    Float16,
    /// 16-bit floats with the exponent of f32.
    BFloat16,
}

impl Dtype {
    /// The same type in libtorch's words.
    pub fn kind(self) -> tch::Kind {
        match self {
            Dtype::Float32 => tch::Kind::Float,
            Dtype::Float16 => tch::Kind::Half,
            Dtype::BFloat16 => tch::Kind::BFloat16,
        }
    }

    /// The type of a tensor; none when a checkpoint cannot declare it.
    pub fn from_kind(kind: tch::Kind) -> Option<Self> {
        match kind {
            tch::Kind::Float => Some(Dtype::Float32),
            tch::Kind::Half => Some(Dtype::Float16),
            tch::Kind::BFloat16 => Some(Dtype::BFloat16),
            _ => None,
        }
    }
}

/// Shape and constants of a decoder, as in `config.json`.
///
/// Reading through serde checks what [`ModelConfig::validate`] checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct ModelConfig {
    /// The family: `llama`, `qwen2` or `qwen3`.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Decoder layers.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; divides `num_attention_heads`. Absent in a Llama file: one per query head.
    pub num_key_value_heads: i64,
    /// Width of one head where the file says so; see [`ModelConfig::head_dim`].
    pub head_dim: Option<i64>,
    /// Rows of the embedding.
    pub vocab_size: i64,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: i64,
    /// Added to the mean square before its root.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies. Absent in the file: 10000.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched past the original context (`rope_scaling` or `rope_parameters`).
    pub rope_scaling: RopeScaling,
    /// Which layers see only the latest tokens (`use_sliding_window` and its neighbours).
    pub sliding_window: SlidingWindow,
    /// Whether the output projection is the embedding. Absent in the file: false.
    pub tie_word_embeddings: bool,
    /// Whether the four attention projections have biases. Absent in the file: false. Qwen2 does not ask: its query,
    /// key and value projections always have one, its output projection never.
    pub attention_bias: bool,
    /// Whether the three feed-forward projections have biases; only Llama asks. Absent in the file: false.
    pub mlp_bias: bool,
    /// Activation of the feed-forward layer; `silu` is supported.
    pub hidden_act: String,
    /// Begin-of-sequence token.
    pub bos_token_id: Option<i64>,
    /// Tokens that end a sequence. One id in the file, or a list.
    pub eos_token_id: Vec<i64>,
    /// Padding token.
    pub pad_token_id: Option<i64>,
    /// Type of the stored weights (`torch_dtype`, or `dtype` in newer files).
    pub torch_dtype: Option<Dtype>,
    /// Standard deviation of fresh weights. Absent in the file: 0.02.
    pub initializer_range: f64,
    /// Every other field, in the file's order.
    pub extra: Map<String, Value>,
}

impl ModelConfig {
    /// Reads a `config.json`.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Json`] with line and column, or [`Error::Config`] when a value cannot be used.
    pub fn from_file(path: &Path) -> Result<Self> {
        let bytes = std::fs::read(path).map_err(Error::io("read", path))?;
        let raw: RawConfig =
            serde_json::from_slice(&bytes).map_err(|source| Error::Json { path: path.to_path_buf(), source })?;
        ModelConfig::try_from(raw).map_err(|error| error.in_file(path))
    }

    /// The text of a `config.json`, indented, with a final newline.
    ///
    /// # Errors
    /// [`Error::Config`] when [`ModelConfig::validate`] refuses it.
    pub fn to_json(&self) -> Result<String> {
        self.validate()?;
        let text = serde_json::to_string_pretty(self);
        let text = text.map_err(|e| config_error("extra", "not JSON", e.to_string()))?;
        Ok(text + "\n")
    }

    /// Width of one attention head: `head_dim`, or `hidden_size / num_attention_heads` where that is absent.
    pub fn head_dim(&self) -> i64 {
        self.head_dim.unwrap_or_else(|| self.hidden_size / self.num_attention_heads.max(1))
    }

    /// The family that `model_type` names; none when it is not supported.
    pub fn family(&self) -> Option<&'static Family> {
        FAMILIES.into_iter().find(|family| family.model_type == self.model_type)
    }

    /// Longest sequence in tokens.
    ///
    /// That is `max_position_embeddings`, which for the rotary type `linear` is the length before scaling and counts
    /// `factor` times.
    pub fn max_positions(&self) -> i64 {
        match self.rope_scaling {
            RopeScaling::Linear { factor } => (self.max_position_embeddings as f64 * factor) as i64,
            RopeScaling::Default | RopeScaling::Llama3 { .. } => self.max_position_embeddings,
        }
    }

    /// Checks what types cannot: signs, divisibility, supported variants, token ids within the vocabulary.
    ///
    /// # Errors
    /// [`Error::Config`] with the key, its value and the limit.
    pub fn validate(&self) -> Result<()> {
        let family = self.family().ok_or_else(|| {
            let known: Vec<String> = FAMILIES.iter().map(|family| format!("`{}`", family.model_type)).collect();
            config_error("model_type", &self.model_type, format!("only {} are supported", known.join(", ")))
        })?;
        ensure(self.hidden_act == "silu", "hidden_act", &self.hidden_act, "only `silu` is supported")?;
        let sizes = [
            ("hidden_size", self.hidden_size, MAX_SIZE),
            ("intermediate_size", self.intermediate_size, MAX_SIZE),
            ("num_hidden_layers", self.num_hidden_layers, MAX_LAYERS),
            ("num_attention_heads", self.num_attention_heads, MAX_SIZE),
            ("num_key_value_heads", self.num_key_value_heads, MAX_SIZE),
            ("vocab_size", self.vocab_size, MAX_SIZE),
            ("max_position_embeddings", self.max_position_embeddings, i64::from(i32::MAX)),
        ];
        for (key, value, limit) in sizes {
            ensure((1..=limit).contains(&value), key, value, &format!("must be between 1 and {limit}"))?;
        }
        ensure(
            self.num_attention_heads % self.num_key_value_heads == 0,
            "num_key_value_heads",
            self.num_key_value_heads,
            &format!("must divide num_attention_heads, which is {}", self.num_attention_heads),
        )?;
        ensure(
            self.head_dim.is_some() || self.hidden_size % self.num_attention_heads == 0,
            "num_attention_heads",
            self.num_attention_heads,
            &format!("must divide hidden_size, which is {}, or head_dim must be given", self.hidden_size),
        )?;
        let (head_dim, limit) = (self.head_dim(), MAX_SIZE / self.num_attention_heads);
        ensure(
            head_dim % 2 == 0 && (2..=limit).contains(&head_dim),
            "head_dim",
            head_dim,
            &format!("must be even, because rotary embeddings turn pairs, and between 2 and {limit}"),
        )?;
        let positive = "must be positive and finite";
        let is_positive = |x: f64| x.is_finite() && 0.0 < x;
        ensure(is_positive(self.rms_norm_eps), "rms_norm_eps", self.rms_norm_eps, positive)?;
        ensure(is_positive(self.rope_theta), "rope_theta", self.rope_theta, positive)?;
        ensure(is_positive(self.initializer_range), "initializer_range", self.initializer_range, positive)?;
        let ids = self.bos_token_id.iter().map(|id| ("bos_token_id", id));
        let ids = ids.chain(self.eos_token_id.iter().map(|id| ("eos_token_id", id)));
        for (key, id) in ids {
            let limit = format!("must be a token id: between 0 and {}", self.vocab_size - 1);
            ensure((0..self.vocab_size).contains(id), key, id, &limit)?;
        }
        // Some published configurations mark "no padding" with -1.
        if let Some(id) = self.pad_token_id {
            let limit = format!("must be a token id (at most {}) or -1 for none", self.vocab_size - 1);
            ensure((-1..self.vocab_size).contains(&id), "pad_token_id", id, &limit)?;
        }
        self.rope_scaling.validate()?;
        raw::refuse_partial_rotation(&self.extra)?;
        self.sliding_window.validate(family, self.num_hidden_layers)
    }

    /// Weights of the model; a tied embedding counts once.
    pub fn num_parameters(&self) -> i64 {
        self.expected_tensors().iter().map(|(_, shape)| shape.iter().product::<i64>()).sum()
    }

    /// Names and shapes of every tensor of a checkpoint, in the order of the layers.
    ///
    /// Projections are `[out, in]`. `lm_head.weight` is listed only when the embeddings are not tied. Empty for a family
    /// that [`ModelConfig::validate`] refuses.
    pub fn expected_tensors(&self) -> Vec<(String, Vec<i64>)> {
        let Some(family) = self.family() else { return Vec::new() };
        let (qkv_bias, o_bias) = family.attention_bias.resolve(self.attention_bias);
        let mlp_bias = family.has_mlp_bias && self.mlp_bias;
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let queries = self.num_attention_heads * self.head_dim();
        let keys = self.num_key_value_heads * self.head_dim();
        let projections = [
            ("self_attn.q_proj", queries, hidden, qkv_bias),
            ("self_attn.k_proj", keys, hidden, qkv_bias),
            ("self_attn.v_proj", keys, hidden, qkv_bias),
            ("self_attn.o_proj", hidden, queries, o_bias),
            ("mlp.gate_proj", inner, hidden, mlp_bias),
            ("mlp.up_proj", inner, hidden, mlp_bias),
            ("mlp.down_proj", hidden, inner, mlp_bias),
        ];
        let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            let prefix = format!("model.layers.{layer}");
            tensors.push((format!("{prefix}.input_layernorm.weight"), vec![hidden]));
            for (name, out, input, bias) in projections {
                tensors.push((format!("{prefix}.{name}.weight"), vec![out, input]));
                if bias {
                    tensors.push((format!("{prefix}.{name}.bias"), vec![out]));
                }
            }
            if family.qk_norm {
                for name in ["q_norm", "k_norm"] {
                    tensors.push((format!("{prefix}.self_attn.{name}.weight"), vec![self.head_dim()]));
                }
            }
            tensors.push((format!("{prefix}.post_attention_layernorm.weight"), vec![hidden]));
        }
        tensors.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            tensors.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        tensors
    }
}

/// Largest size of one dimension: products of two, over all layers, still fit in 63 bits.
const MAX_SIZE: i64 = 1 << 24;
const MAX_LAYERS: i64 = 1 << 10;

pub(crate) fn ensure(ok: bool, key: &'static str, value: impl ToString, reason: &str) -> Result<()> {
    if ok { Ok(()) } else { Err(config_error(key, value, reason.to_owned())) }
}

pub(crate) fn config_error(key: &'static str, value: impl ToString, reason: String) -> Error {
    Error::Config { key, value: value.to_string(), reason }
}

#[cfg(test)]
mod tests;
