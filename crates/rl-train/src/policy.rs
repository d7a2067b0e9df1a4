//! The trained language model: how it is loaded, what of it is trained, how a checkpoint holds it.

use std::path::{Path, PathBuf};

use rl_core::random::RandomKey;
use rl_models::checkpoint::write_into;
use rl_models::{ChatModel, Decoder};
use tch::{Device, Tensor};

use crate::checkpoint::Saved;
use crate::config::ModelConfig;
use crate::{Error, Result};

/// A chat model whose weights, or adapters, are trained.
pub(crate) struct Policy {
    pub chat: ChatModel,
    /// The path of the base model, when adapters are trained.
    base: Option<PathBuf>,
}

impl Policy {
    /// Loads what `config` names, or what `resume` holds; `new` makes the model of `config.new`.
    pub fn load(
        config: &ModelConfig,
        resume: Option<&Saved>,
        seed: u64,
        device: Device,
        new: impl FnOnce() -> Result<ChatModel>,
    ) -> Result<Self> {
        let kind = config.dtype.kind();
        let saved = resume.map(Saved::folder);
        let policy = match (&config.lora, config.path.as_deref()) {
            (Some(lora), Some(base)) => {
                let mut chat = ChatModel::load_as(base, kind, device)?;
                match saved {
                    Some(folder) => chat.decoder.load_adapter(folder)?,
                    None => chat.decoder.add_lora(lora.clone(), RandomKey::new(seed, "adapters"))?,
                }
                Policy { chat, base: Some(base.to_path_buf()) }
            }
            (_, path) => {
                let chat = match saved.or(path) {
                    Some(folder) => ChatModel::load_as(folder, kind, device)?,
                    None => new()?,
                };
                chat.decoder.set_trainable(true);
                Policy { chat, base: None }
            }
        };
        policy.chat.decoder.set_gradient_checkpointing(config.gradient_checkpointing);
        Ok(policy)
    }

    /// The layers.
    pub fn decoder(&self) -> &Decoder {
        &self.chat.decoder
    }

    /// What is trained, by name.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.decoder().trainable_parameters()
    }

    /// Sets the draws of adapter dropout for the passes of a micro-batch; none for scoring and sampling.
    pub fn set_dropout(&self, key: Option<RandomKey>) {
        if self.decoder().lora_config().is_some_and(|lora| 0.0 < lora.dropout) {
            self.decoder().set_adapter_dropout(key);
        }
    }

    /// Runs `f` with the adapters merged into the weights, for the plain model's speed; the weights come back to the bit.
    pub fn sampling<T>(&self, f: impl FnOnce(&ChatModel) -> Result<T>) -> Result<T> {
        if self.base.is_none() {
            return f(&self.chat);
        }
        self.decoder().merge_adapters()?;
        let result = f(&self.chat);
        self.decoder().unmerge_adapters()?;
        result
    }

    /// Writes the model, or its adapters, with tokenizer and template into a folder under construction.
    pub fn write_into(&self, folder: &Path) -> Result<()> {
        let Some(base) = &self.base else {
            let tensors = self.decoder().checkpoint_tensors()?;
            let borrowed: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            return Ok(write_into(folder, self.decoder().config(), &borrowed, &self.chat.side_files)?);
        };
        let base = base.to_str().ok_or_else(|| Error::Resume {
            path: base.clone(),
            reason: "is not UTF-8, and the adapters must name their base; move the model".into(),
        })?;
        self.decoder().write_adapter_into(folder, base)?;
        for (name, contents) in self.chat.side_files.iter() {
            let file = folder.join(name);
            std::fs::write(&file, contents).map_err(Error::file("write", &file))?;
        }
        Ok(())
    }
}

/// The frozen policy that a method compares with.
pub(crate) enum Reference {
    /// The policy itself with its adapters switched off.
    WithoutAdapters,
    /// Weights of its own.
    Own(Box<Decoder>),
}

impl Reference {
    /// The reference at `path`; absent, the policy as it was before training: without its adapters when it has some,
    /// else a second copy of `start`.
    pub fn load(policy: &Policy, path: Option<&Path>, start: &ModelConfig, device: Device) -> Result<Self> {
        let path = match (path, policy.base.is_some(), start.path.as_deref()) {
            (None, true, _) => return Ok(Reference::WithoutAdapters),
            (Some(path), _, _) | (None, false, Some(path)) => path,
            (None, false, None) => return Err(Error::NoReference),
        };
        let decoder = Decoder::load(path, start.dtype.kind(), device)?;
        decoder.set_trainable(false);
        let (own, needed) = (decoder.config().vocab_size, policy.decoder().config().vocab_size);
        if own != needed {
            return Err(Error::ReferenceVocabulary { path: path.into(), found: own, needed });
        }
        Ok(Reference::Own(Box::new(decoder)))
    }

    /// Runs `f` on the reference's layers.
    pub fn run<T>(&self, policy: &Policy, f: impl FnOnce(&Decoder) -> Result<T>) -> Result<T> {
        match self {
            Reference::Own(decoder) => f(decoder),
            Reference::WithoutAdapters => {
                let mut result = None;
                policy.decoder().with_adapters_off(|decoder| {
                    result = Some(f(decoder));
                    Ok(())
                })?;
                result.unwrap_or(Err(Error::NoReference))
            }
        }
    }
}
