//! The critic at work: reading values, and learning from returns.

use std::collections::BTreeMap;
use std::path::Path;

use rl_core::random::RandomKey;
use rl_models::checkpoint::{load_tensors, save_tensors};
use rl_models::{Decoder, RewardModel, ValueHead};
use tch::{Device, Tensor};

use crate::batch::MicroBatch;
use crate::checkpoint::Saved;
use crate::config::{CriticConfig, CriticStart, TrainingConfig, ValueHeadConfig};
use crate::learner::{Learner, LearnerConfig, LearnerState};
use crate::reward_model::scorer::finished_reward_model;
use crate::{Error, Result};

/// The head's file in a checkpoint.
const VALUE_HEAD_FILE: &str = "value_head.safetensors";
/// Trained layers of a critic of its own.
const CRITIC_FILE: &str = "critic.safetensors";
/// Its moments; only the newest checkpoints keep them.
const CRITIC_OPTIMIZER_FILE: &str = "critic.optimizer.safetensors";

/// A critic.
pub(crate) enum Critic {
    /// A head on the policy's layers. Its parameters are the policy's learner's.
    Shared { head: ValueHead, value_coef: f64, detached: bool },
    /// A model of its own.
    Own(Box<OwnCritic>),
}

pub(crate) struct OwnCritic {
    pub decoder: Decoder,
    pub head: ValueHead,
    pub learner: Learner,
    pub policy_frozen_steps: u64,
}

impl Critic {
    /// Makes the critic of `config` for this policy, or takes up the one of `resume`.
    pub fn new(
        config: &CriticConfig,
        policy: &Decoder,
        training: &TrainingConfig,
        seed: u64,
        device: Device,
        resume: Option<(&Saved, LearnerState)>,
    ) -> Result<Self> {
        match config {
            CriticConfig::Shared { head, value_coef, detached, .. } => {
                let hidden = policy.config().hidden_size as usize;
                let head = match head {
                    ValueHeadConfig::Linear => ValueHead::linear(hidden, device),
                    ValueHeadConfig::Network => ValueHead::new(hidden, seed, device),
                };
                if let Some((saved, _)) = resume {
                    head.restore(&load_tensors(&saved.folder().join(VALUE_HEAD_FILE), Device::Cpu)?)?;
                }
                Ok(Critic::Shared { head, value_coef: *value_coef, detached: *detached })
            }
            CriticConfig::Own {
                start,
                dtype,
                lora,
                optimizer,
                learning_rate,
                max_grad_norm,
                policy_frozen_steps,
                ..
            } => {
                let (mut decoder, head) = start_of(start, dtype.kind(), device)?;
                let (found, needed) = (decoder.config().vocab_size, policy.config().vocab_size);
                if found != needed {
                    return Err(Error::CriticVocabulary { path: start.path().into(), found, needed });
                }
                match lora {
                    Some(lora) => decoder.add_lora(lora.clone(), RandomKey::new(seed, "critic adapters"))?,
                    None => decoder.set_trainable(true),
                }
                if let Some((saved, _)) = resume {
                    let tensors = load_tensors(&saved.folder().join(CRITIC_FILE), Device::Cpu)?;
                    copy_into(&decoder.trainable_parameters(), tensors, &saved.folder().join(CRITIC_FILE))?;
                    head.restore(&load_tensors(&saved.folder().join(VALUE_HEAD_FILE), Device::Cpu)?)?;
                }
                let mut parameters = decoder.trainable_parameters();
                parameters.extend(head.parameters());
                let config = LearnerConfig {
                    optimizer: *optimizer,
                    learning_rate: *learning_rate,
                    run_steps: training.max_steps.unwrap_or(0),
                    groups: Vec::new(),
                    max_grad_norm: *max_grad_norm,
                    ema_decay: None,
                    non_finite: training.non_finite,
                };
                let mut learner = Learner::new(parameters, &config)?;
                if let Some((saved, state)) = resume {
                    learner.restore(&saved.folder().join(CRITIC_OPTIMIZER_FILE), state)?;
                }
                let policy_frozen_steps = *policy_frozen_steps;
                Ok(Critic::Own(Box::new(OwnCritic { decoder, head, learner, policy_frozen_steps })))
            }
        }
    }

    /// What the policy's learner trains of it.
    pub fn shared_parameters(&self) -> Vec<(String, Tensor)> {
        match self {
            Critic::Shared { head, .. } => head.parameters(),
            Critic::Own(_) => Vec::new(),
        }
    }

    /// Counts of its own optimizer.
    pub fn state(&self) -> LearnerState {
        match self {
            Critic::Shared { .. } => LearnerState::default(),
            Critic::Own(own) => own.learner.state(),
        }
    }

    /// Writes head, layers and moments into the folder of a checkpoint.
    pub fn save(&self, folder: &Path) -> Result<()> {
        let save = |name: &str, tensors: Vec<(String, Tensor)>| -> Result<()> {
            let borrowed: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            Ok(save_tensors(&folder.join(name), &borrowed)?)
        };
        match self {
            Critic::Shared { head, .. } => save(VALUE_HEAD_FILE, head.parameters()),
            Critic::Own(own) => {
                save(VALUE_HEAD_FILE, own.head.parameters())?;
                save(CRITIC_FILE, own.decoder.trainable_parameters())?;
                own.learner.save(&folder.join(CRITIC_OPTIMIZER_FILE))
            }
        }
    }

    /// Values at the hidden rows `rows`, f32 `[rows]`. `policy_hidden` are the policy's states of the same micro-batch.
    pub fn values(&self, micro: &MicroBatch, rows: &[i64], policy_hidden: Option<&Tensor>) -> Result<Tensor> {
        let read = |head: &ValueHead, hidden: &Tensor| -> Result<Tensor> {
            let rows = Tensor::from_slice(rows).f_to_device(hidden.device())?;
            Ok(head.forward(&hidden.f_index_select(0, &rows)?)?)
        };
        match self {
            Critic::Own(own) => read(&own.head, &own.decoder.hidden_states(&micro.packed)?),
            Critic::Shared { head, detached, .. } => {
                let hidden = policy_hidden.ok_or(Error::NothingToTrain)?;
                if *detached { read(head, &hidden.f_detach()?) } else { read(head, hidden) }
            }
        }
    }
}

/// Layers and a linear head.
fn start_of(start: &CriticStart, kind: tch::Kind, device: Device) -> Result<(Decoder, ValueHead)> {
    match start {
        CriticStart::LanguageModel(path) => {
            let decoder = Decoder::load(path, kind, device)?;
            let hidden = decoder.config().hidden_size as usize;
            Ok((decoder, ValueHead::linear(hidden, device)))
        }
        CriticStart::RewardModel(path) => {
            let RewardModel { decoder, head: score } = finished_reward_model(path, kind, device)?;
            let head = ValueHead::linear(decoder.config().hidden_size as usize, device);
            let bias = Tensor::f_zeros([1], (tch::Kind::Float, Device::Cpu))?;
            let weights = [("value_head.weight".to_owned(), score.weight()), ("value_head.bias".to_owned(), bias)];
            head.restore(&BTreeMap::from(weights))?;
            Ok((decoder, head))
        }
    }
}

fn copy_into(parameters: &[(String, Tensor)], mut saved: BTreeMap<String, Tensor>, path: &Path) -> Result<()> {
    for (name, parameter) in parameters {
        let tensor = saved.remove(name).filter(|tensor| tensor.size() == parameter.size());
        let tensor = tensor.ok_or_else(|| Error::Resume {
            path: path.into(),
            reason: format!("has no `{name}` of shape {:?}", parameter.size()),
        })?;
        tch::no_grad(|| parameter.shallow_clone().f_copy_(&tensor))?;
    }
    match saved.first_key_value() {
        Some((name, _)) => {
            Err(Error::Resume { path: path.into(), reason: format!("holds `{name}`, which this run does not train") })
        }
        None => Ok(()),
    }
}
