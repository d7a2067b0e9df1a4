//! From a GGUF file to a checkpoint folder in the Hugging Face layout.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::architecture::{self, Architecture};
use super::dequantise::TensorType;
use super::reader::{Gguf, TensorInfo};
use super::{rope, tokenizer};
use crate::checkpoint::{Entry, SaveOptions, SavedWeights, encode_values, publish, write_files};
use crate::config::{Dtype, ModelConfig};
use crate::error::{Error, Result, ShapeMismatch, TensorMismatch};

/// What a conversion wrote.
#[derive(Debug, Clone)]
pub struct ConvertReport {
    /// The folder written.
    pub folder: PathBuf,
    /// The configuration written.
    pub config: ModelConfig,
    /// Tensors per storage type in the GGUF file.
    pub tensor_types: BTreeMap<TensorType, usize>,
    /// The weight files written.
    pub saved: SavedWeights,
    /// Numbers written.
    pub num_parameters: i64,
    /// Tokens in the vocabulary, added tokens included.
    pub vocab_size: usize,
    /// Control and user-defined tokens.
    pub num_added_tokens: usize,
    /// Whether the file carried a chat template.
    pub has_chat_template: bool,
}

impl fmt::Display for ConvertReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let config = &self.config;
        let types: Vec<String> = self.tensor_types.iter().map(|(t, count)| format!("{count} {t}")).collect();
        writeln!(f, "wrote      {}", self.folder.display())?;
        writeln!(
            f,
            "model      {}: {} layers, hidden {}, {} heads ({} key-value), {} positions",
            config.model_type,
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.max_position_embeddings,
        )?;
        writeln!(f, "weights    {}: {} numbers, from {}", self.saved, self.num_parameters, types.join(", "))?;
        let template = if self.has_chat_template { "with" } else { "without" };
        write!(f, "tokenizer  {} tokens, {} added, {template} chat template", self.vocab_size, self.num_added_tokens)
    }
}

/// Converts a GGUF file into a new checkpoint folder: weights, `config.json`, tokenizer and template files.
///
/// Without a type in `options` the weights become f32, which keeps every dequantised number exactly. One tensor is in
/// memory at a time, and the folder appears under its name only when complete.
///
/// # Errors
/// Every error names the file it is about. [`Error::Gguf`] and [`Error::GgufKey`] for what cannot be read;
/// [`Error::TensorMismatch`] when the tensors are not those of the configuration; [`Error::NonFinite`] for NaN or
/// infinite weights; [`Error::Overflow`]; [`Error::TokenizerMismatch`]; [`Error::Checkpoint`] when `folder` exists.
pub fn convert_gguf(file: &Path, folder: &Path, options: &SaveOptions) -> Result<ConvertReport> {
    let map = rl_torch::MappedFile::open(file)?;
    convert(&map, folder, options).map_err(|error| error.in_file(file))
}

fn convert(bytes: &[u8], folder: &Path, options: &SaveOptions) -> Result<ConvertReport> {
    let gguf = Gguf::parse(bytes)?;
    let architecture = Architecture::of(&gguf.metadata)?;
    let config = architecture.config(&gguf)?;
    let sources = match_tensors(&gguf, &config)?;
    let tokens = tokenizer::tokenizer_files(&gguf.metadata, config.max_position_embeddings)?;
    if config.vocab_size < tokens.vocab_size as i64 {
        let (tokenizer_vocab, model_vocab) = (tokens.vocab_size as i64, config.vocab_size);
        return Err(Error::TokenizerMismatch { tokenizer_vocab, model_vocab });
    }
    let dtype = options.dtype.unwrap_or(Dtype::Float32);
    let entries: Vec<Entry> = sources.iter().map(|(name, info)| Entry::new(name, dtype, &info.shape)).collect();
    let mut values = Vec::new();
    let saved = publish(folder, |temporary| {
        write_files(temporary, &config, &tokens.side_files, &entries, options, |index, out| {
            let (name, info) = &sources[index];
            weights(&gguf, info, architecture, &config, &mut values)?;
            encode_values(name, &values, dtype, out)
        })
    })?;
    let mut tensor_types = BTreeMap::new();
    for tensor in &gguf.tensors {
        *tensor_types.entry(tensor.tensor_type).or_default() += 1;
    }
    Ok(ConvertReport {
        folder: folder.to_path_buf(),
        num_parameters: config.num_parameters(),
        saved,
        tensor_types,
        vocab_size: tokens.vocab_size,
        num_added_tokens: tokens.num_added_tokens,
        has_chat_template: tokens.has_chat_template,
        config: ModelConfig { torch_dtype: Some(dtype), ..config },
    })
}

/// The source of each tensor of the checkpoint, in its order.
fn match_tensors<'a>(gguf: &'a Gguf, config: &ModelConfig) -> Result<Vec<(String, &'a TensorInfo)>> {
    let mut found = BTreeMap::new();
    let mut report = TensorMismatch::default();
    for tensor in &gguf.tensors {
        // It became a part of the configuration.
        if tensor.name == rope::FREQUENCIES {
            continue;
        }
        match architecture::checkpoint_name(&tensor.name) {
            Some(name) => drop(found.insert(name, tensor)),
            None => report.unexpected.push(tensor.name.clone()),
        }
    }
    let mut sources = Vec::new();
    for (name, expected) in config.expected_tensors() {
        match found.remove(&name) {
            None => report.missing.push(name),
            Some(info) if info.shape != expected => {
                report.misshapen.push(ShapeMismatch { name, found: info.shape.clone(), expected })
            }
            Some(info) => sources.push((name, info)),
        }
    }
    report.unexpected.extend(found.into_keys());
    if report.is_empty() { Ok(sources) } else { Err(Error::TensorMismatch(report)) }
}

/// Puts the numbers of a tensor, in the checkpoint's order, in place of what `values` holds.
fn weights(
    gguf: &Gguf,
    info: &TensorInfo,
    architecture: &Architecture,
    config: &ModelConfig,
    values: &mut Vec<f32>,
) -> Result<()> {
    gguf.read_into(info, values)?;
    if values.iter().any(|x| !x.is_finite()) {
        return Err(Error::NonFinite { what: info.name.clone() });
    }
    if let Some(heads) = architecture.permuted_heads(&info.name, config) {
        let row_len = if info.shape.len() == 2 { info.shape[1] as usize } else { 1 };
        *values = architecture::unpermute(values, heads, row_len);
    }
    Ok(())
}
