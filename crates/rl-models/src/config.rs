//! The model configuration: a checkpoint's `config.json`.
//!
//! Field names are the checkpoint's own. Fields that the model does not use are kept in [`ModelConfig::extra`], so
//! reading and writing a configuration loses nothing. Where a field is absent, the value is the one that transformers'
//! `LlamaConfig` documents for it. Not here: configurations of training runs.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, Result};

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

/// Shape and constants of a Llama-family decoder, as in `config.json`.
///
/// Reading through serde checks what [`ModelConfig::validate`] checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct ModelConfig {
    /// The family; `llama` is supported.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Decoder layers.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads; divides `num_attention_heads`. Absent in the file: one per query head.
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
    /// Whether the output projection is the embedding. Absent in the file: false.
    pub tie_word_embeddings: bool,
    /// Whether the four attention projections have biases. Absent in the file: false.
    pub attention_bias: bool,
    /// Whether the three feed-forward projections have biases. Absent in the file: false.
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

    /// Checks what types cannot: signs, divisibility, supported variants, token ids within the vocabulary.
    ///
    /// # Errors
    /// [`Error::Config`] with the key, its value and the limit.
    pub fn validate(&self) -> Result<()> {
        ensure(self.model_type == "llama", "model_type", &self.model_type, "only `llama` is supported")?;
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
        check_rope_scaling(&self.extra)
    }

    /// Weights of the model; a tied embedding counts once.
    pub fn num_parameters(&self) -> i64 {
        self.expected_tensors().iter().map(|(_, shape)| shape.iter().product::<i64>()).sum()
    }

    /// Names and shapes of every tensor of a checkpoint, in the order of the layers.
    ///
    /// Projections are `[out, in]`. `lm_head.weight` is listed only when the embeddings are not tied.
    pub fn expected_tensors(&self) -> Vec<(String, Vec<i64>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let queries = self.num_attention_heads * self.head_dim();
        let keys = self.num_key_value_heads * self.head_dim();
        let projections = [
            ("self_attn.q_proj", queries, hidden, self.attention_bias),
            ("self_attn.k_proj", keys, hidden, self.attention_bias),
            ("self_attn.v_proj", keys, hidden, self.attention_bias),
            ("self_attn.o_proj", hidden, queries, self.attention_bias),
            ("mlp.gate_proj", inner, hidden, self.mlp_bias),
            ("mlp.up_proj", inner, hidden, self.mlp_bias),
            ("mlp.down_proj", hidden, inner, self.mlp_bias),
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

const DEFAULT_ROPE_THETA: f64 = 10_000.0;
const DEFAULT_INITIALIZER_RANGE: f64 = 0.02;

/// `config.json` field by field, before the variants of its writers are resolved.
#[derive(Clone, Serialize, Deserialize)]
struct RawConfig {
    model_type: String,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    num_key_value_heads: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    head_dim: Option<i64>,
    vocab_size: i64,
    max_position_embeddings: i64,
    rms_norm_eps: f64,
    rope_theta: Option<f64>,
    tie_word_embeddings: Option<bool>,
    attention_bias: Option<bool>,
    mlp_bias: Option<bool>,
    hidden_act: Option<String>,
    bos_token_id: Option<i64>,
    eos_token_id: Option<TokenIds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pad_token_id: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    torch_dtype: Option<Dtype>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dtype: Option<Dtype>,
    initializer_range: Option<f64>,
    #[serde(flatten)]
    extra: Map<String, Value>,
}

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum TokenIds {
    One(i64),
    Many(Vec<i64>),
}

impl TryFrom<RawConfig> for ModelConfig {
    type Error = Error;

    fn try_from(raw: RawConfig) -> Result<Self> {
        if let (Some(old), Some(new)) = (raw.torch_dtype, raw.dtype) {
            ensure(old == new, "dtype", format!("{new:?}"), &format!("contradicts torch_dtype, which is {old:?}"))?;
        }
        let rope_theta = rope_theta(raw.rope_theta, &raw.extra)?;
        let config = ModelConfig {
            model_type: raw.model_type,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: raw.num_key_value_heads.unwrap_or(raw.num_attention_heads),
            head_dim: raw.head_dim,
            vocab_size: raw.vocab_size,
            max_position_embeddings: raw.max_position_embeddings,
            rms_norm_eps: raw.rms_norm_eps,
            rope_theta,
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            attention_bias: raw.attention_bias.unwrap_or(false),
            mlp_bias: raw.mlp_bias.unwrap_or(false),
            hidden_act: raw.hidden_act.unwrap_or_else(|| "silu".to_owned()),
            bos_token_id: raw.bos_token_id,
            eos_token_id: match raw.eos_token_id {
                None => Vec::new(),
                Some(TokenIds::One(id)) => vec![id],
                Some(TokenIds::Many(ids)) => ids,
            },
            pad_token_id: raw.pad_token_id,
            torch_dtype: raw.torch_dtype.or(raw.dtype),
            initializer_range: raw.initializer_range.unwrap_or(DEFAULT_INITIALIZER_RANGE),
            extra: raw.extra,
        };
        config.validate()?;
        Ok(config)
    }
}

impl From<ModelConfig> for RawConfig {
    fn from(config: ModelConfig) -> Self {
        let mut extra = config.extra;
        // Newer files say the base twice; both places must follow a change of the field.
        if let Some(theta) = extra.get_mut("rope_parameters").and_then(|p| p.get_mut("rope_theta")) {
            *theta = config.rope_theta.into();
        }
        RawConfig {
            model_type: config.model_type,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: Some(config.num_key_value_heads),
            head_dim: config.head_dim,
            vocab_size: config.vocab_size,
            max_position_embeddings: config.max_position_embeddings,
            rms_norm_eps: config.rms_norm_eps,
            rope_theta: Some(config.rope_theta),
            tie_word_embeddings: Some(config.tie_word_embeddings),
            attention_bias: Some(config.attention_bias),
            mlp_bias: Some(config.mlp_bias),
            hidden_act: Some(config.hidden_act),
            bos_token_id: config.bos_token_id,
            eos_token_id: match config.eos_token_id[..] {
                [] => None,
                [id] => Some(TokenIds::One(id)),
                _ => Some(TokenIds::Many(config.eos_token_id)),
            },
            pad_token_id: config.pad_token_id,
            torch_dtype: config.torch_dtype,
            dtype: None,
            initializer_range: Some(config.initializer_range),
            extra,
        }
    }
}

/// The rotary base: the field of its own, or the one inside `rope_parameters`; both must agree.
fn rope_theta(field: Option<f64>, extra: &Map<String, Value>) -> Result<f64> {
    let nested = match extra.get("rope_parameters").and_then(|p| p.get("rope_theta")) {
        None | Some(Value::Null) => None,
        Some(value) => {
            let theta = value.as_f64();
            Some(theta.ok_or_else(|| config_error("rope_parameters", value, "rope_theta must be a number".into()))?)
        }
    };
    if let (Some(a), Some(b)) = (field, nested) {
        ensure(a == b, "rope_theta", a, &format!("contradicts rope_parameters, which says {b}"))?;
    }
    Ok(field.or(nested).unwrap_or(DEFAULT_ROPE_THETA))
}

fn check_rope_scaling(extra: &Map<String, Value>) -> Result<()> {
    for key in ["rope_scaling", "rope_parameters"] {
        let value = match extra.get(key) {
            None | Some(Value::Null) => continue,
            Some(value) => value,
        };
        let object = value.as_object();
        let object = object.ok_or_else(|| config_error(key, value, "must be an object or null".into()))?;
        let kind = object.get("rope_type").or_else(|| object.get("type"));
        let plain = kind.is_none_or(|k| k == "default") && object.get("factor").is_none_or(|f| f == 1.0);
        ensure(plain, key, value, "scaled rotary embeddings are not supported; only the type `default` is")?;
    }
    Ok(())
}

fn ensure(ok: bool, key: &'static str, value: impl ToString, reason: &str) -> Result<()> {
    if ok { Ok(()) } else { Err(config_error(key, value, reason.to_owned())) }
}

fn config_error(key: &'static str, value: impl ToString, reason: String) -> Error {
    Error::Config { key, value: value.to_string(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// The shape of SmolLM2-135M, in the words of an older writer.
    fn smollm2() -> Value {
        json!({
            "architectures": ["LlamaForCausalLM"], "attention_dropout": 0.0, "model_type": "llama",
            "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
            "num_key_value_heads": 3, "vocab_size": 49152, "max_position_embeddings": 8192, "rms_norm_eps": 1e-05,
            "rope_theta": 100000, "rope_scaling": null, "tie_word_embeddings": true, "attention_bias": false,
            "mlp_bias": false, "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
            "torch_dtype": "bfloat16", "initializer_range": 0.041666666666666664,
            "transformers.js_config": { "kv_cache_dtype": { "q4f16": "float16" } },
        })
    }

    fn changed(key: &str, value: Value) -> serde_json::Result<ModelConfig> {
        let mut config = smollm2();
        config[key] = value;
        serde_json::from_value(config)
    }

    #[test]
    fn counts_parameters_and_tensors() {
        let config: ModelConfig = serde_json::from_value(smollm2()).unwrap();
        // 49152 * 576 + 30 * (2 * 576^2 + 2 * 192 * 576 + 3 * 1536 * 576 + 2 * 576) + 576
        assert_eq!(config.num_parameters(), 134_515_008);
        let tensors = config.expected_tensors();
        assert_eq!(tensors.len(), 1 + 30 * 9 + 1);
        let shape = |name: &str| tensors.iter().find(|(n, _)| n == name).map(|(_, shape)| shape.clone());
        assert_eq!(shape("model.layers.29.self_attn.k_proj.weight"), Some(vec![192, 576]));
        assert_eq!(shape("model.layers.0.mlp.down_proj.weight"), Some(vec![576, 1536]));
        assert_eq!(shape("lm_head.weight"), None);
        let untied = changed("tie_word_embeddings", json!(false)).unwrap();
        assert_eq!(untied.expected_tensors().len(), 273);
        let biased = changed("attention_bias", json!(true)).unwrap();
        assert_eq!(biased.num_parameters() - config.num_parameters(), 30 * (576 + 192 + 192 + 576));
    }

    #[test]
    fn a_round_trip_loses_nothing() {
        let config: ModelConfig = serde_json::from_value(smollm2()).unwrap();
        let written: Value = serde_json::from_str(&config.to_json().unwrap()).unwrap();
        let mut expected = smollm2();
        expected["rope_theta"] = json!(100000.0);
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<ModelConfig>(written).unwrap(), config);
        let several = changed("eos_token_id", json!([2, 0])).unwrap();
        assert_eq!(several.eos_token_id, [2, 0]);
        assert_eq!(serde_json::to_value(several).unwrap()["eos_token_id"], json!([2, 0]));
    }

    #[test]
    fn newer_files_say_some_things_elsewhere() {
        let mut config = smollm2();
        let fields = config.as_object_mut().unwrap();
        fields.shift_remove("rope_theta");
        fields.shift_remove("torch_dtype");
        config["dtype"] = json!("float16");
        config["rope_parameters"] = json!({ "rope_type": "default", "rope_theta": 5000.0 });
        let mut config: ModelConfig = serde_json::from_value(config).unwrap();
        assert_eq!((config.rope_theta, config.torch_dtype), (5000.0, Some(Dtype::Float16)));
        config.rope_theta = 6000.0;
        let again: ModelConfig = serde_json::from_str(&config.to_json().unwrap()).unwrap();
        assert_eq!(again.rope_theta, 6000.0);
    }

    #[test]
    fn values_that_cannot_be_used_name_the_key_and_the_limit() {
        let cases = [
            ("model_type", json!("mamba"), "`model_type` is mamba: only `llama`"),
            ("hidden_act", json!("gelu"), "`hidden_act` is gelu"),
            ("num_key_value_heads", json!(2), "must divide num_attention_heads, which is 9"),
            ("num_attention_heads", json!(0), "must be between 1 and"),
            ("hidden_size", json!(-576), "`hidden_size` is -576"),
            ("num_hidden_layers", json!(1u64 << 40), "must be between 1 and 1024"),
            ("num_attention_heads", json!(15), "must divide hidden_size, which is 576"),
            ("head_dim", json!(63), "must be even"),
            ("rms_norm_eps", json!(0.0), "must be positive and finite"),
            ("bos_token_id", json!(49152), "between 0 and 49151"),
            ("eos_token_id", json!([2, 60000]), "between 0 and 49151"),
            ("rope_scaling", json!({ "type": "linear", "factor": 2.0 }), "scaled rotary embeddings are not supported"),
            ("rope_scaling", json!({ "rope_type": "llama3", "factor": 8.0 }), "only the type `default` is"),
            ("rope_parameters", json!({ "rope_type": "default", "rope_theta": 1.0 }), "contradicts rope_parameters"),
            ("dtype", json!("float32"), "contradicts torch_dtype"),
        ];
        for (key, value, expected) in cases {
            let message = changed(key, value).unwrap_err().to_string();
            assert!(message.contains(expected), "`{message}` should contain `{expected}`");
        }
    }
}
