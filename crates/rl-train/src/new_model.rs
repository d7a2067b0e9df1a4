//! A decoder from scratch, with a tokenizer of its own.

use std::collections::BTreeMap;

use rl_data::{CHATML, ChatRecord, ChatTemplate, Renderer, train_tokenizer};
use rl_models::checkpoint::SideFiles;
use rl_models::{ChatModel, Decoder, ModelConfig};
use tch::Device;

use crate::config::{DataConfig, NewModelConfig, SftConfig, TOKENIZER_DATA};
use crate::data::training_records;
use crate::{Error, Result};

/// Special tokens of a tokenizer trained here; the ChatML template uses the last two.
const SPECIAL_TOKENS: [&str; 3] = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"];
/// Conversations that a new tokenizer is trained on at most.
const TOKENIZER_RECORDS: usize = 20_000;

/// The decoder that `run` asks for with `model.new`: fresh weights, and a tokenizer trained on assistant and user text.
pub(crate) fn new_model(shape: &NewModelConfig, run: &SftConfig, device: Device) -> Result<ChatModel> {
    let (seed, kind) = (run.seed, run.model.dtype.kind());
    let (config, renderer) = new_parts(shape, run)?;
    let folder = tempfile::tempdir().map_err(Error::file("make a temporary folder in", &std::env::temp_dir()))?;
    renderer.save(folder.path())?;
    let side_files = SideFiles::from_folder(folder.path())?;
    let mut decoder = Decoder::random(config.clone(), seed, device)?;
    if kind != decoder.kind() {
        decoder = Decoder::from_tensors(config, decoder.checkpoint_tensors()?.into_iter().collect(), kind, device)?;
    }
    Ok(ChatModel::new(decoder, renderer, side_files)?)
}

/// Everything of a new model but its weights: its configuration and a tokenizer with the ChatML template.
pub(crate) fn new_parts(shape: &NewModelConfig, run: &SftConfig) -> Result<(ModelConfig, Renderer)> {
    let records: Vec<ChatRecord> = match &shape.tokenizer_data {
        Some(dataset) => training_records(TOKENIZER_DATA, &DataConfig::One(dataset.clone()), &BTreeMap::new())?,
        None => training_records("data", &run.data, &run.held_out)?,
    };
    let texts: Vec<&str> = records
        .iter()
        .take(TOKENIZER_RECORDS)
        .flat_map(|record| record.messages.iter().map(|message| message.content.as_str()))
        .collect();
    let tokenizer = train_tokenizer(&texts, shape.vocab_size, &SPECIAL_TOKENS)?;
    let mut config = new_config(shape, tokenizer.vocab_size() as i64);
    let id = |token: &str| tokenizer.token_to_id(token).map(i64::from);
    config.pad_token_id = id(SPECIAL_TOKENS[0]);
    config.bos_token_id = id(SPECIAL_TOKENS[1]);
    config.eos_token_id = id(SPECIAL_TOKENS[2]).into_iter().collect();
    config.validate()?;
    let template = ChatTemplate::new(CHATML, Some(SPECIAL_TOKENS[1]), Some(SPECIAL_TOKENS[2]))?;
    Ok((config, Renderer::new(tokenizer, template)?))
}

/// The configuration of a new model with `vocab_size` tokens, its special tokens left out.
pub(crate) fn new_config(shape: &NewModelConfig, vocab_size: i64) -> ModelConfig {
    ModelConfig {
        model_type: "llama".into(),
        hidden_size: shape.hidden_size,
        intermediate_size: shape.intermediate_size,
        num_hidden_layers: shape.num_hidden_layers,
        num_attention_heads: shape.num_attention_heads,
        num_key_value_heads: shape.num_key_value_heads,
        head_dim: None,
        vocab_size,
        max_position_embeddings: shape.max_position_embeddings,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        rope_scaling: Default::default(),
        sliding_window: Default::default(),
        tie_word_embeddings: true,
        attention_bias: false,
        mlp_bias: false,
        hidden_act: "silu".into(),
        bos_token_id: None,
        eos_token_id: Vec::new(),
        pad_token_id: None,
        torch_dtype: Some(rl_models::config::Dtype::Float32),
        initializer_range: shape.initializer_range,
        extra: Default::default(),
    }
}
