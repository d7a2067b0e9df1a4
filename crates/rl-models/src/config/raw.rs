//! `config.json` field by field, before absent fields and the variants of its writers are resolved, and back.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::{Dtype, LayerType, ModelConfig, SlidingWindow, config_error, ensure};
use crate::error::{Error, Result};
use crate::family::{AttentionBias, FAMILIES, Family};
use crate::rope::{read_scaling, write_scaling};

const DEFAULT_RMS_NORM_EPS: f64 = 1e-6;
const DEFAULT_ROPE_THETA: f64 = 10_000.0;
const DEFAULT_INITIALIZER_RANGE: f64 = 0.02;
const DEFAULT_SLIDING_WINDOW: i64 = 4096;
const DEFAULT_MAX_WINDOW_LAYERS: i64 = 28;

/// The fields as they stand in the file. Two options, one in the other, tell an absent field from `null`, which mean
/// different things.
#[derive(Clone, Serialize, Deserialize)]
pub(super) struct RawConfig {
    model_type: String,
    hidden_size: i64,
    intermediate_size: i64,
    num_hidden_layers: i64,
    num_attention_heads: i64,
    #[serde(default, deserialize_with = "stated")]
    num_key_value_heads: Option<Option<i64>>,
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    head_dim: Option<Option<i64>>,
    vocab_size: i64,
    max_position_embeddings: Option<i64>,
    rms_norm_eps: Option<f64>,
    rope_theta: Option<f64>,
    tie_word_embeddings: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    attention_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mlp_bias: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    use_sliding_window: Option<bool>,
    #[serde(default, deserialize_with = "stated", skip_serializing_if = "Option::is_none")]
    sliding_window: Option<Option<i64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_window_layers: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layer_types: Option<Vec<LayerType>>,
    hidden_act: Option<String>,
    #[serde(default, deserialize_with = "stated")]
    bos_token_id: Option<Option<i64>>,
    #[serde(default, deserialize_with = "stated")]
    eos_token_id: Option<Option<TokenIds>>,
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

/// A field that is there, be it `null`.
fn stated<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> std::result::Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

impl TryFrom<RawConfig> for ModelConfig {
    type Error = Error;

    fn try_from(raw: RawConfig) -> Result<Self> {
        if let (Some(old), Some(new)) = (raw.torch_dtype, raw.dtype) {
            ensure(old == new, "dtype", format!("{new:?}"), &format!("contradicts torch_dtype, which is {old:?}"))?;
        }
        let family = FAMILIES.into_iter().find(|family| family.model_type == raw.model_type);
        // An unknown family is refused below, with its name; until then Llama's defaults stand in.
        let family = family.unwrap_or(&crate::llama::LLAMA);
        let max_position_embeddings = raw.max_position_embeddings.unwrap_or(family.default_max_position_embeddings);
        let rope_theta = rope_theta(raw.rope_theta, &raw.extra)?;
        let rope_scaling = read_scaling(&raw.extra, max_position_embeddings)?;
        let default_kv_heads = family.default_num_key_value_heads.unwrap_or(raw.num_attention_heads);
        let config = ModelConfig {
            sliding_window: sliding_window(&raw, family),
            model_type: raw.model_type,
            hidden_size: raw.hidden_size,
            intermediate_size: raw.intermediate_size,
            num_hidden_layers: raw.num_hidden_layers,
            num_attention_heads: raw.num_attention_heads,
            num_key_value_heads: raw
                .num_key_value_heads
                .map_or(default_kv_heads, |n| n.unwrap_or(raw.num_attention_heads)),
            head_dim: raw.head_dim.unwrap_or(family.default_head_dim),
            vocab_size: raw.vocab_size,
            max_position_embeddings,
            rms_norm_eps: raw.rms_norm_eps.unwrap_or(DEFAULT_RMS_NORM_EPS),
            rope_theta,
            rope_scaling,
            tie_word_embeddings: raw.tie_word_embeddings.unwrap_or(false),
            attention_bias: raw.attention_bias.unwrap_or(false),
            mlp_bias: raw.mlp_bias.unwrap_or(false),
            hidden_act: raw.hidden_act.unwrap_or_else(|| "silu".to_owned()),
            bos_token_id: raw.bos_token_id.unwrap_or(family.default_bos_token_id),
            eos_token_id: match raw.eos_token_id {
                None => family.default_eos_token_id.into_iter().collect(),
                Some(None) => Vec::new(),
                Some(Some(TokenIds::One(id))) => vec![id],
                Some(Some(TokenIds::Many(ids))) => ids,
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
        // Fields that the family does not have are written only where they say something.
        let family = config.family();
        let has_window = family.is_some_and(|family| family.has_sliding_window);
        let has_mlp_bias = family.is_none_or(|family| family.has_mlp_bias);
        let reads_bias = family.is_none_or(|family| family.attention_bias == AttentionBias::AsConfigured);
        let window = config.sliding_window;
        let mut extra = config.extra;
        write_scaling(&mut extra, config.rope_scaling, config.max_position_embeddings, config.rope_theta);
        RawConfig {
            model_type: config.model_type,
            hidden_size: config.hidden_size,
            intermediate_size: config.intermediate_size,
            num_hidden_layers: config.num_hidden_layers,
            num_attention_heads: config.num_attention_heads,
            num_key_value_heads: Some(Some(config.num_key_value_heads)),
            // `null` where absence would mean another width.
            head_dim: match (config.head_dim, family.and_then(|family| family.default_head_dim)) {
                (None, None) => None,
                (head_dim, _) => Some(head_dim),
            },
            vocab_size: config.vocab_size,
            max_position_embeddings: Some(config.max_position_embeddings),
            rms_norm_eps: Some(config.rms_norm_eps),
            rope_theta: Some(config.rope_theta),
            tie_word_embeddings: Some(config.tie_word_embeddings),
            attention_bias: (reads_bias || config.attention_bias).then_some(config.attention_bias),
            mlp_bias: (has_mlp_bias || config.mlp_bias).then_some(config.mlp_bias),
            use_sliding_window: (has_window || window.sliding_window.is_some()).then_some(window.use_sliding_window),
            sliding_window: (has_window || window.sliding_window.is_some()).then_some(window.sliding_window),
            max_window_layers: has_window.then_some(window.max_window_layers),
            layer_types: window.layer_types,
            hidden_act: Some(config.hidden_act),
            bos_token_id: Some(config.bos_token_id),
            eos_token_id: Some(match config.eos_token_id[..] {
                [] => None,
                [id] => Some(TokenIds::One(id)),
                _ => Some(TokenIds::Many(config.eos_token_id)),
            }),
            pad_token_id: config.pad_token_id,
            torch_dtype: config.torch_dtype,
            dtype: None,
            initializer_range: Some(config.initializer_range),
            extra,
        }
    }
}

fn sliding_window(raw: &RawConfig, family: &Family) -> SlidingWindow {
    // A family without windows has no switch either: there a window that is stated is meant.
    let meant = !family.has_sliding_window && raw.sliding_window.flatten().is_some();
    SlidingWindow {
        use_sliding_window: raw.use_sliding_window.unwrap_or(meant),
        sliding_window: raw.sliding_window.unwrap_or(family.has_sliding_window.then_some(DEFAULT_SLIDING_WINDOW)),
        max_window_layers: raw.max_window_layers.unwrap_or(DEFAULT_MAX_WINDOW_LAYERS),
        layer_types: raw.layer_types.clone(),
    }
}

/// The rotary base: the field of its own, or the one inside `rope_parameters` or `rope_scaling`; all must agree.
fn rope_theta(field: Option<f64>, extra: &Map<String, Value>) -> Result<f64> {
    let mut found = field;
    for key in ["rope_parameters", "rope_scaling"] {
        let nested = match extra.get(key).and_then(|parameters| parameters.get("rope_theta")) {
            None | Some(Value::Null) => continue,
            Some(value) => {
                value.as_f64().ok_or_else(|| config_error(key, value, "rope_theta must be a number".into()))?
            }
        };
        if let Some(found) = found {
            ensure(found == nested, "rope_theta", found, &format!("contradicts {key}, which says {nested}"))?;
        }
        found = Some(nested);
    }
    Ok(found.unwrap_or(DEFAULT_ROPE_THETA))
}

/// Refuses rotations of a part of each head; `extra` may say so outside the rotary parameters.
pub(super) fn refuse_partial_rotation(extra: &Map<String, Value>) -> Result<()> {
    match extra.get("partial_rotary_factor") {
        None | Some(Value::Null) => Ok(()),
        Some(value) if value.as_f64() == Some(1.0) => Ok(()),
        Some(value) => Err(config_error("partial_rotary_factor", value, "only whole heads are rotated: 1".into())),
    }
}
