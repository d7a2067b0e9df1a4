//! The models of a run, from their folders: configuration, tokenizer, names and shapes of the weights; no numbers are read.

use std::path::{Path, PathBuf};

use rl_data::Renderer;
use rl_models::checkpoint::{Weights, read_config};
use rl_models::{LoraConfig, ModelConfig};

use crate::config::{Dtype, ModelConfig as RunModel, ParameterGroup};
use crate::reward_model::scorer::{ADAPTER_FILE, SCORE, SCORE_FILE, base_of, is_classification, local};
use crate::{Error, Result};

const F32_BYTES: u64 = 4;
const LM_HEAD: &str = "lm_head.weight";

/// One tensor of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedTensor {
    /// Its name in the checkpoint.
    pub name: String,
    /// Its numbers.
    pub numel: u64,
    /// Bytes of one of them while training.
    pub bytes_each: u64,
    /// Whether the run changes it.
    pub is_trained: bool,
}

/// A model that a run holds.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedModel {
    /// What it does in the run: `policy`, `reference`, `teacher`, `critic`, `reward model NAME`.
    pub role: String,
    /// Its configuration.
    pub config: ModelConfig,
    /// Type of its weights.
    pub dtype: Dtype,
    /// Its adapters.
    pub lora: Option<LoraConfig>,
    /// Whether its layers are computed again in the backward pass.
    pub gradient_checkpointing: bool,
    /// Its weights, with heads and adapters.
    pub tensors: Vec<PlannedTensor>,
}

/// A model's folder, read but for its weights.
pub(crate) struct ModelFiles {
    pub config: ModelConfig,
    pub renderer: Renderer,
    is_reward_model: bool,
}

impl ModelFiles {
    /// Reads the folder or repository at `path`, which the configuration names under `key`, and checks that configuration,
    /// weights, tokenizer and template belong together.
    pub fn open(key: &str, path: &Path) -> Result<Self> {
        Self::read(path).map_err(Error::input(key, path, "give the folder of a whole checkpoint".into()))
    }

    fn read(path: &Path) -> Result<Self> {
        let folder = &local(path)?;
        if folder.join(ADAPTER_FILE).exists() {
            let base = Self::read(&base_of(folder)?)?;
            let is_reward_model = folder.join(SCORE_FILE).exists();
            return Ok(ModelFiles { is_reward_model: is_reward_model || base.is_reward_model, ..base });
        }
        let config = read_config(folder)?;
        let is_reward_model = is_classification(folder)?;
        let renderer = Renderer::from_folder(folder)?;
        let mut expected = config.expected_tensors();
        if is_reward_model {
            expected.retain(|(name, _)| name != LM_HEAD);
            expected.push((SCORE.into(), vec![1, config.hidden_size]));
        }
        Weights::open(folder)?.check(&expected)?;
        check_tokens(&config, &renderer)?;
        Ok(ModelFiles { config, renderer, is_reward_model })
    }

    /// As [`ModelFiles::open`], for a model that predicts tokens.
    pub fn open_language_model(key: &str, path: &Path) -> Result<Self> {
        let files = Self::open(key, path)?;
        if !files.is_reward_model {
            return Ok(files);
        }
        let message = "is a reward model, which scores and does not write; give a causal language model".into();
        Err(rl_track::ConfigError { key: key.into(), value: path.display().to_string(), message }.into())
    }

    /// Whether the folder scores sequences.
    pub fn is_reward_model(&self) -> bool {
        self.is_reward_model
    }
}

/// Tokenizer and model must have one vocabulary, and a turn must end with a token that the model knows as an end.
pub(crate) fn check_tokens(config: &ModelConfig, renderer: &Renderer) -> Result<()> {
    let (tokenizer_vocab, model_vocab) = (renderer.tokenizer().vocab_size() as i64, config.vocab_size);
    if model_vocab < tokenizer_vocab {
        return Err(rl_models::Error::TokenizerMismatch { tokenizer_vocab, model_vocab }.into());
    }
    let named = |key: &'static str, id: i64| -> Result<()> {
        let known = u32::try_from(id).ok().and_then(|id| renderer.tokenizer().id_to_token(id));
        if known.is_some() {
            return Ok(());
        }
        let reason = "is no token of this tokenizer; take configuration and tokenizer from one model".into();
        Err(rl_models::Error::Config { key, value: id.to_string(), reason }.into())
    };
    config.eos_token_id.iter().try_for_each(|&id| named("eos_token_id", id))?;
    config.pad_token_id.filter(|&id| 0 <= id).map_or(Ok(()), |id| named("pad_token_id", id))
}

impl PlannedModel {
    /// A model whose weights stay as they are, or all are trained.
    pub(crate) fn new(role: impl Into<String>, config: &ModelConfig, dtype: Dtype, is_trained: bool) -> Self {
        let tensor = |(name, shape): (String, Vec<i64>)| PlannedTensor {
            name,
            numel: shape.iter().product::<i64>().unsigned_abs(),
            bytes_each: bytes_of(dtype),
            is_trained,
        };
        PlannedModel {
            role: role.into(),
            config: config.clone(),
            dtype,
            lora: None,
            gradient_checkpointing: false,
            tensors: config.expected_tensors().into_iter().map(tensor).collect(),
        }
    }

    /// The trained model of a run: all its weights, or its adapters.
    pub(crate) fn trained(role: &str, config: &ModelConfig, model: &RunModel) -> Result<Self> {
        let mut planned = PlannedModel::new(role, config, model.dtype, model.lora.is_none());
        planned.gradient_checkpointing = model.gradient_checkpointing;
        if let Some(lora) = &model.lora {
            planned.add_adapters("model.lora.target_modules", lora)?;
        }
        Ok(planned)
    }

    /// Adapters on the projections that `lora` names; `key` is where the configuration names them.
    pub(crate) fn add_adapters(&mut self, key: &str, lora: &LoraConfig) -> Result<()> {
        let mut adapters = Vec::new();
        let mut used = Vec::new();
        for (name, shape) in self.config.expected_tensors() {
            let Some(module) = name.strip_suffix("_proj.weight").map(|module| format!("{module}_proj")) else {
                continue;
            };
            let ([outputs, inputs], true) = (&shape[..], lora.targets(&module)) else { continue };
            for (part, numel) in [("A", lora.rank * inputs), ("B", lora.rank * outputs)] {
                let name = format!("{module}.lora_{part}.weight");
                let numel = numel.unsigned_abs();
                adapters.push(PlannedTensor { name, numel, bytes_each: F32_BYTES, is_trained: true });
            }
            used.push(module);
        }
        if let rl_models::TargetModules::Names(names) = &lora.target_modules {
            let fits = |name: &str| used.iter().any(|module| module.ends_with(name));
            if let Some(name) = names.iter().find(|name| !fits(name)) {
                let message = "fits no projection of the model; such are `q_proj`, `v_proj`, `down_proj`".into();
                return Err(rl_track::ConfigError { key: key.into(), value: format!("\"{name}\""), message }.into());
            }
        }
        self.tensors.extend(adapters);
        self.lora = Some(lora.clone());
        Ok(())
    }

    /// Takes the output projection away and puts a head of `[1, hidden]` there.
    pub(crate) fn with_score(mut self, is_trained: bool) -> Self {
        self.tensors.retain(|tensor| tensor.name != LM_HEAD);
        self.add_head(SCORE, self.config.hidden_size.unsigned_abs(), is_trained);
        self
    }

    /// A further f32 tensor.
    pub(crate) fn add_head(&mut self, name: &str, numel: u64, is_trained: bool) {
        self.tensors.push(PlannedTensor { name: name.into(), numel, bytes_each: F32_BYTES, is_trained });
    }

    /// Freezes what the groups of the configuration freeze.
    ///
    /// # Errors
    /// [`Error::EmptyGroup`] for a group that names nothing; [`Error::NothingToTrain`] when nothing is left.
    pub(crate) fn apply_groups(&mut self, groups: &[ParameterGroup]) -> Result<()> {
        let mut used = vec![false; groups.len()];
        for tensor in self.tensors.iter_mut().filter(|tensor| tensor.is_trained) {
            let fits = |group: &ParameterGroup| group.parameters.iter().any(|part| tensor.name.contains(part.as_str()));
            if let Some(index) = groups.iter().position(fits) {
                used[index] = true;
                tensor.is_trained = !groups[index].frozen;
            }
        }
        if let Some(index) = used.iter().position(|used| !used) {
            return Err(Error::EmptyGroup { parameters: groups[index].parameters.join(", ") });
        }
        match self.num_trained() {
            0 => Err(Error::NothingToTrain),
            _ => Ok(()),
        }
    }

    /// Weights, adapters and heads included.
    pub fn num_parameters(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.numel).sum()
    }

    /// Those that the run changes.
    pub fn num_trained(&self) -> u64 {
        self.tensors.iter().filter(|tensor| tensor.is_trained).map(|tensor| tensor.numel).sum()
    }

    /// Bytes of all weights.
    pub fn weight_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.numel * tensor.bytes_each).sum()
    }
}

/// The trained model of a run that begins at a checkpoint, with its tokenizer and template.
pub(crate) fn policy(model: &RunModel) -> Result<(PlannedModel, Renderer)> {
    let path = model.path.as_deref().ok_or(Error::NothingToTrain)?;
    let files = ModelFiles::open_language_model("model.path", path)?;
    Ok((PlannedModel::trained("policy", &files.config, model)?, files.renderer))
}

/// The reference of a run: weights of its own, or none beside adapters that are switched off.
pub(crate) fn reference(
    key: &str,
    path: Option<&Path>,
    model: &RunModel,
    policy: &ModelConfig,
) -> Result<Option<PlannedModel>> {
    let config = match (path, model.lora.is_some()) {
        (None, true) => return Ok(None),
        (None, false) => policy.clone(),
        (Some(path), _) => {
            let found = ModelFiles::open_language_model(key, path)?.config;
            same_vocabulary(key, path, &found, policy)?;
            found
        }
    };
    Ok(Some(PlannedModel::new("reference", &config, model.dtype, false)))
}

/// Refuses a second model with other tokens than the policy's.
pub(crate) fn same_vocabulary(key: &str, path: &Path, found: &ModelConfig, policy: &ModelConfig) -> Result<()> {
    let (found, needed) = (found.vocab_size, policy.vocab_size);
    if found == needed {
        return Ok(());
    }
    let error = Error::ReferenceVocabulary { path: PathBuf::from(path), found, needed };
    Err(Error::input(key, path, "take a model of the same family".into())(error))
}

/// Bytes of a weight while training.
pub(crate) fn bytes_of(dtype: Dtype) -> u64 {
    match dtype {
        Dtype::F32 => F32_BYTES,
        Dtype::Bf16 => 2,
    }
}
