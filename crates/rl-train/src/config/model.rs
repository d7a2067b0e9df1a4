//! What is trained: where the weights come from, their precision, and which of them move.

use std::path::PathBuf;

use rl_data::DatasetConfig;
use rl_models::LoraConfig;
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use super::data::validate_dataset;

/// Key of [`NewModelConfig::tokenizer_data`].
pub(crate) const TOKENIZER_DATA: &str = "model.new.tokenizer_data";

/// The model of a run. Exactly one of `path` and `new` is given.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelConfig {
    /// A checkpoint folder, a folder of adapters (merged into their base), or `ORG/NAME` in the Hugging Face cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// A new decoder with a tokenizer of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<NewModelConfig>,
    /// Type of the weights while training; with a half type the optimizer keeps f32 masters.
    #[serde(default)]
    pub dtype: Dtype,
    /// Low-rank adapters: they alone are trained, and a checkpoint holds them alone. Absent, all weights are trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lora: Option<LoraConfig>,
    /// Forget activations in the forward pass and make them again in the backward pass: less memory, more time.
    #[serde(default)]
    pub gradient_checkpointing: bool,
}

/// Type of the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// 32 bits.
    #[default]
    F32,
    /// The upper half of f32.
    Bf16,
}

impl Dtype {
    /// libtorch's name.
    pub fn kind(self) -> tch::Kind {
        match self {
            Dtype::F32 => tch::Kind::Float,
            Dtype::Bf16 => tch::Kind::BFloat16,
        }
    }
}

/// Shape of a decoder trained from scratch; the names are those of a checkpoint's `config.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewModelConfig {
    /// Most entries of the tokenizer that is trained.
    pub vocab_size: usize,
    /// Rows that the tokenizer is trained on, where the run's own lack what the model is to read later. Absent, the run's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokenizer_data: Option<Box<DatasetConfig>>,
    /// Width of the residual stream.
    pub hidden_size: i64,
    /// Width of the feed-forward layer.
    pub intermediate_size: i64,
    /// Decoder layers.
    pub num_hidden_layers: i64,
    /// Query heads.
    pub num_attention_heads: i64,
    /// Key and value heads.
    pub num_key_value_heads: i64,
    /// Longest context.
    pub max_position_embeddings: i64,
    /// Standard deviation of the fresh weights.
    pub initializer_range: f64,
}

impl ModelConfig {
    /// The checkpoint at `path`, all its weights trained in f32.
    pub fn from_path(path: impl Into<PathBuf>) -> Self {
        ModelConfig { path: Some(path.into()), new: None, dtype: Dtype::F32, lora: None, gradient_checkpointing: false }
    }

    /// Checks what types cannot; keys begin with `model`.
    ///
    /// # Errors
    /// The key, its value and its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let given = usize::from(self.path.is_some()) + usize::from(self.new.is_some());
        ensure(given == 1, "model", format!("{given} sources"), "give either model.path or model.new")?;
        if let Some(dataset) = self.new.as_ref().and_then(|new| new.tokenizer_data.as_ref()) {
            validate_dataset(TOKENIZER_DATA, dataset)?;
        }
        let Some(lora) = &self.lora else { return Ok(()) };
        ensure(
            self.path.is_some(),
            "model.lora",
            "given",
            "adapters need the trained model of `model.path` under them",
        )?;
        lora.validate().map_err(|error| ConfigError {
            key: "model.lora".into(),
            value: format!("{lora:?}"),
            message: error.to_string(),
        })
    }

    /// As [`ModelConfig::validate`], for trainers that start from a checkpoint.
    ///
    /// # Errors
    /// As [`ModelConfig::validate`]; `model.new` is refused.
    pub fn validate_pretrained(&self) -> Result<(), ConfigError> {
        self.validate()?;
        ensure(self.new.is_none(), "model.new", "given", "this trainer starts from a checkpoint; give model.path")
    }
}
