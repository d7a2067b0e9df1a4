//! A reward model with its tokenizer: how it is loaded, what of it is trained, how a checkpoint holds it.

use std::path::{Path, PathBuf};

use rl_core::random::RandomKey;
use rl_data::Renderer;
use rl_models::checkpoint::{SideFiles, load_tensors, read_config, resolve_model, save_tensors};
use rl_models::{ChatModel, RewardHead, RewardModel};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::Saved;
use crate::config::{HeadInit, RewardModelConfig};
use crate::{Error, Result};

/// The head of a checkpoint that holds adapters alone.
pub(crate) const SCORE_FILE: &str = "score.safetensors";
pub(crate) const SCORE: &str = "score.weight";
/// What marks a folder as adapters over a base.
pub(crate) const ADAPTER_FILE: &str = "adapter_config.json";

/// A reward model with the tokenizer that its sequences are made with.
pub(super) struct Scorer {
    pub model: RewardModel,
    pub renderer: Renderer,
    side_files: SideFiles,
    /// The path of the base model, when adapters are trained.
    base: Option<PathBuf>,
    /// Whether the head was drawn just now.
    is_fresh: bool,
}

impl Scorer {
    /// What `config` names, or what `resume` holds, ready to be trained.
    pub fn load(config: &RewardModelConfig, resume: Option<&Saved>, device: Device) -> Result<Self> {
        let kind = config.model.dtype.kind();
        let path = config.model.path.as_deref().ok_or(Error::NothingToTrain)?;
        let saved = resume.map(Saved::folder);
        let start = if config.model.lora.is_some() { path } else { saved.unwrap_or(path) };
        let mut scorer = Self::open(start, config.seed, kind, device)?;
        if scorer.is_fresh && config.head == HeadInit::InverseWidth {
            let hidden = scorer.model.decoder.config().hidden_size as usize;
            scorer.model.head = RewardHead::new(1, hidden, 1.0 / (hidden as f64 + 1.0), config.seed, device);
        }
        let decoder = &mut scorer.model.decoder;
        match (&config.model.lora, saved) {
            (None, _) => decoder.set_trainable(true),
            (Some(_), Some(folder)) => {
                decoder.load_adapter(folder)?;
                scorer.model.head = load_head(folder, device)?;
            }
            (Some(lora), None) => decoder.add_lora(lora.clone(), RandomKey::new(config.seed, "adapters"))?,
        }
        scorer.base = config.model.lora.is_some().then(|| path.to_path_buf());
        scorer.model.decoder.set_gradient_checkpointing(config.model.gradient_checkpointing);
        Ok(scorer)
    }

    /// A finished reward model: a sequence-classification folder, or adapters and head as [`Scorer::write_into`] leaves them;
    /// nothing of it is trained.
    pub fn finished(path: &Path, kind: Kind, device: Device) -> Result<Self> {
        let scorer = Self::open(path, 0, kind, device)?;
        if scorer.is_fresh {
            return Err(Error::NotARewardModel { path: path.into() });
        }
        scorer.model.decoder.set_trainable(false);
        Ok(scorer)
    }

    /// Layers and head of a folder with the adapters that it may hold merged; a language model gets a fresh head.
    fn open(path: &Path, seed: u64, kind: Kind, device: Device) -> Result<Self> {
        let folder = &local(path)?;
        let is_adapter = folder.join(ADAPTER_FILE).exists();
        if is_adapter && folder.join(SCORE_FILE).exists() {
            let mut scorer = Self::open(&base_of(folder)?, seed, kind, device)?;
            let decoder = &mut scorer.model.decoder;
            decoder.load_adapter(folder)?;
            decoder.merge_adapters()?;
            decoder.remove_adapters();
            scorer.model.head = load_head(folder, device)?;
            scorer.is_fresh = false;
            return Ok(scorer);
        }
        if !is_adapter && is_classification(folder)? {
            let model = RewardModel::load(folder, kind, device)?;
            let (renderer, side_files) = (Renderer::from_folder(folder)?, SideFiles::from_folder(folder)?);
            return Ok(Scorer { model, renderer, side_files, base: None, is_fresh: false });
        }
        let ChatModel { decoder, renderer, side_files } = ChatModel::load_as(folder, kind, device)?;
        Ok(Scorer { model: RewardModel::new(decoder, seed), renderer, side_files, base: None, is_fresh: true })
    }

    /// Sets the draws of adapter dropout for the passes of a micro-batch; none for scoring.
    pub fn set_dropout(&self, key: Option<RandomKey>) {
        if self.model.decoder.lora_config().is_some_and(|lora| 0.0 < lora.dropout) {
            self.model.decoder.set_adapter_dropout(key);
        }
    }

    /// Writes the sequence-classification folder, or adapters and head, with tokenizer and template into a folder under
    /// construction.
    pub fn write_into(&self, folder: &Path) -> Result<()> {
        let Some(base) = &self.base else { return Ok(self.model.write_into(folder, &self.side_files)?) };
        let base = base.to_str().ok_or_else(|| Error::Resume {
            path: base.clone(),
            reason: "is not UTF-8, and the adapters must name their base; move the model".into(),
        })?;
        self.model.decoder.write_adapter_into(folder, base)?;
        save_tensors(&folder.join(SCORE_FILE), &[(SCORE, &self.model.head.weight())])?;
        for (name, contents) in self.side_files.iter() {
            let file = folder.join(name);
            std::fs::write(&file, contents).map_err(Error::file("write", &file))?;
        }
        Ok(())
    }
}

/// Layers and head of a finished reward model, as [`Scorer::finished`].
pub(crate) fn finished_reward_model(path: &Path, kind: Kind, device: Device) -> Result<RewardModel> {
    Ok(Scorer::finished(path, kind, device)?.model)
}

fn load_head(folder: &Path, device: Device) -> Result<RewardHead> {
    let file = folder.join(SCORE_FILE);
    let mut tensors = load_tensors(&file, Device::Cpu)?;
    let weight: Tensor = tensors
        .remove(SCORE)
        .ok_or_else(|| Error::Resume { path: file, reason: format!("has no `{SCORE}`: it is no reward head") })?;
    Ok(RewardHead::from_weight(&weight, device)?)
}

/// Whether the checkpoint is of the sequence-classification layout.
pub(crate) fn is_classification(folder: &Path) -> Result<bool> {
    let config = read_config(folder)?;
    let names = config.extra.get("architectures").and_then(Value::as_array);
    let is_one = |name: &Value| name.as_str().is_some_and(|name| name.ends_with("ForSequenceClassification"));
    Ok(names.is_some_and(|names| names.iter().any(is_one)))
}

/// The base that the adapters of `folder` name.
pub(crate) fn base_of(folder: &Path) -> Result<PathBuf> {
    let path = folder.join(ADAPTER_FILE);
    let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
    let damaged = |reason: String| Error::Resume { path: path.clone(), reason };
    let settings: Value = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    let base = settings.get("base_model_name_or_path").and_then(Value::as_str);
    base.map(PathBuf::from).ok_or_else(|| damaged("does not name its `base_model_name_or_path`".into()))
}

/// The folder at `path`, or that of the repository `ORG/NAME` in the cache.
pub(crate) fn local(path: &Path) -> Result<PathBuf> {
    match path.to_str() {
        Some(name) if !path.exists() => Ok(resolve_model(name)?),
        _ => Ok(path.to_path_buf()),
    }
}
