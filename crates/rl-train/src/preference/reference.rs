//! The frozen policy of the log-ratios: run beside the policy, or once before training, and moved by TR-DPO.

use std::path::Path;

use rl_core::preference_loss::ReferenceUpdate;
use rl_models::checkpoint::{check_tensors, load_tensors, save_tensors};
use rl_torch::foreach;
use tch::{Device, Tensor};

use crate::batch::{MicroBatch, to_host};
use crate::checkpoint::Saved;
use crate::config::ModelConfig;
use crate::policy::{Policy, Reference};
use crate::{Error, Result};

/// Weights of a reference that has moved. The name's end makes it go with the moments from checkpoints that are kept as
/// models alone.
const FILE: &str = "reference.optimizer.safetensors";

/// A reference policy in use.
pub(crate) struct FrozenReference {
    reference: Reference,
    update: Option<ReferenceUpdate>,
}

impl FrozenReference {
    /// The reference at `path`, or the policy as it was before training, as it stood in `resume`.
    pub fn load(
        policy: &Policy,
        path: Option<&Path>,
        start: &ModelConfig,
        update: Option<ReferenceUpdate>,
        device: Device,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        let own = FrozenReference { reference: Reference::load(policy, path, start, device)?, update };
        if let (Some(_), Some(saved)) = (update, resume) {
            let file = saved.folder().join(FILE);
            let tensors = load_tensors(&file, Device::Cpu)?;
            let parameters = own.parameters()?;
            let expected: Vec<_> = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
            check_tensors(&tensors, &expected)?;
            let saved: Vec<Tensor> = parameters.iter().map(|(name, _)| tensors[name].shallow_clone()).collect();
            foreach::copy(&detached(&parameters), &saved)?;
        }
        Ok(own)
    }

    /// Log-probabilities of the labels of `micro`, `[labels]`, with the bits that a recorded pass of the same weights gives.
    pub fn log_probs(&self, policy: &Policy, micro: &MicroBatch) -> Result<Vec<f32>> {
        to_host(&tch::no_grad(|| self.reference.run(policy, |decoder| micro.log_probs(decoder, 1.0)))?)
    }

    /// Moves towards the policy where that is due after `steps_done` steps.
    pub fn follow(&self, policy: &Policy, steps_done: u64) -> Result<()> {
        let Some(update) = self.update.filter(|update| update.should_update(steps_done)) else { return Ok(()) };
        let (own, leader) = (self.parameters()?, policy.decoder().parameters());
        Ok(foreach::lerp(&detached(&own), &detached(&leader), update.mixup_alpha)?)
    }

    /// Writes what moves into the folder of a checkpoint.
    pub fn save(&self, folder: &Path) -> Result<()> {
        if self.update.is_none() {
            return Ok(());
        }
        let parameters = self.parameters()?;
        let named: Vec<(&str, &Tensor)> = parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        Ok(save_tensors(&folder.join(FILE), &named)?)
    }

    fn parameters(&self) -> Result<Vec<(String, Tensor)>> {
        match &self.reference {
            Reference::Own(decoder) => Ok(decoder.parameters()),
            Reference::WithoutAdapters => Err(Error::NoReference),
        }
    }
}

fn detached(parameters: &[(String, Tensor)]) -> Vec<Tensor> {
    parameters.iter().map(|(_, tensor)| tensor.detach()).collect()
}
