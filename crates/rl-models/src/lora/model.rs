//! What a decoder does with its adapters: add, switch, merge, list.

use std::path::Path;

use rl_core::random::RandomKey;
use tch::Tensor;

use super::{Lora, LoraConfig, peft};
use crate::checkpoint::publish;
use crate::linear::Linear;
use crate::{Decoder, Error, Result};

impl Decoder {
    /// Adds fresh adapters, drawn from `key`, and freezes everything else. The model's outputs do not change yet.
    ///
    /// # Errors
    /// [`Error::Argument`] when there are adapters already, when [`LoraConfig::validate`] refuses, or when a listed
    /// name fits no projection.
    pub fn add_lora(&mut self, config: LoraConfig, key: RandomKey) -> Result<()> {
        self.attach(config, |config, _, linear, module| Lora::new(config, linear.weight(), module, key))
    }

    /// Adds the adapters of a folder in PEFT's layout, `adapter_config.json` and `adapter_model.safetensors`, and
    /// freezes everything else.
    ///
    /// # Errors
    /// As [`Decoder::add_lora`]; [`Error::TensorMismatch`] unless the tensors are exactly those the settings ask for;
    /// [`Error::Checkpoint`] for settings that would change the numbers and are not supported; [`Error::NonFinite`].
    pub fn load_adapter(&mut self, folder: &Path) -> Result<()> {
        let config = peft::read_config(folder)?;
        let mut tensors = peft::read_tensors(folder, &config, &self.linears())?;
        self.attach(config, |config, name, linear, module| {
            let mut take = |part: &str| -> Result<Tensor> {
                let tensor = crate::take(&mut tensors, &peft::tensor_name(name, part))?;
                Ok(tensor.f_to_kind(Lora::kind_for(linear.weight()))?.f_to_device(linear.weight().device())?)
            };
            Lora::from_tensors(config, take("A")?, take("B")?, module)
        })
    }

    /// Writes the adapters as a new folder that PEFT loads; `base_model` is what its `base_model_name_or_path` says.
    ///
    /// # Errors
    /// [`Error::Argument`] without adapters; [`Error::Checkpoint`] when the folder exists; [`Error::Io`] with the path.
    pub fn save_adapter(&self, folder: &Path, base_model: &str) -> Result<()> {
        let config = self.lora_config().ok_or_else(no_adapters)?;
        publish(folder, |folder| peft::write(folder, config, base_model, &self.linears()))
    }

    /// As [`Decoder::save_adapter`], into a folder that exists; not atomic.
    ///
    /// # Errors
    /// [`Error::Argument`] without adapters; [`Error::Io`] with the path.
    pub fn write_adapter_into(&self, folder: &Path, base_model: &str) -> Result<()> {
        peft::write(folder, self.lora_config().ok_or_else(no_adapters)?, base_model, &self.linears())
    }

    /// Settings of the adapters, if there are any.
    pub fn lora_config(&self) -> Option<&LoraConfig> {
        self.lora.as_ref()
    }

    /// Adds the adapters' updates to the weights: the same outputs at the plain model's speed, but nothing to train.
    ///
    /// A copy of every weight that changes is kept, so that [`Decoder::unmerge_adapters`] restores it to the bit.
    ///
    /// # Errors
    /// [`Error::Argument`] without adapters; [`Error::Tch`] for want of memory.
    pub fn merge_adapters(&self) -> Result<()> {
        self.each_adapter(|linear, lora| lora.merge(linear.weight()))
    }

    /// Undoes [`Decoder::merge_adapters`].
    ///
    /// # Errors
    /// As [`Decoder::merge_adapters`].
    pub fn unmerge_adapters(&self) -> Result<()> {
        self.each_adapter(|linear, lora| lora.unmerge(linear.weight()))
    }

    /// Drops the adapters. Merged updates stay in the weights for good; unmerged ones are lost. All weights stay frozen
    /// until [`Decoder::set_trainable`].
    pub fn remove_adapters(&mut self) {
        self.lora = None;
        for (_, linear) in self.linears_mut() {
            linear.set_lora(None);
        }
    }

    /// Switches the adapters on or off, until the next call. Without adapters nothing happens.
    ///
    /// A backward pass follows the switches as they were in its forward pass.
    pub fn set_adapters_enabled(&self, enabled: bool) {
        for (_, linear) in self.linears() {
            linear.lora().inspect(|lora| lora.set_enabled(enabled));
        }
    }

    /// Runs `f` on the base model: the frozen reference of a policy that trains adapters. They are on again afterwards.
    ///
    /// # Errors
    /// [`Error::Argument`] without adapters or while they are merged: the result would be the policy itself; otherwise
    /// the error of `f`.
    pub fn with_adapters_off<T>(&self, f: impl FnOnce(&Decoder) -> Result<T>) -> Result<T> {
        /// Switches on again, also when `f` panics.
        struct On<'a>(&'a Decoder);
        impl Drop for On<'_> {
            fn drop(&mut self) {
                self.0.set_adapters_enabled(true);
            }
        }
        self.lora_config().ok_or_else(no_adapters)?;
        if self.has_merged_adapters() {
            let reason = "the base model is not there while they are merged; call `unmerge_adapters` first".into();
            return Err(Error::Argument { name: "adapters", value: "merged".into(), reason });
        }
        let _on = On(self);
        self.set_adapters_enabled(false);
        f(self)
    }

    /// Sets the draws of the adapters' dropout for the forward passes from here on; `None` (at first) is no dropout.
    ///
    /// The mask is a function of `key`, the projection, the row of the packed input and the feature: narrow the key by
    /// step and micro-batch. Recomputation in the backward pass uses the key of its forward pass. Every forward pass drops
    /// while a key is set: set `None` before sampling and scoring.
    pub fn set_adapter_dropout(&self, key: Option<RandomKey>) {
        for (_, linear) in self.linears() {
            linear.lora().inspect(|lora| lora.set_dropout_key(key));
        }
    }

    /// What training changes: with adapters, their tensors (`model.layers.0.self_attn.q_proj.lora_A.weight`, ...); else
    /// all weights, as [`Decoder::parameters`]. Shallow clones.
    pub fn trainable_parameters(&self) -> Vec<(String, Tensor)> {
        if self.lora.is_none() {
            return self.parameters();
        }
        let tensors = self.linears().into_iter().filter_map(|(name, linear)| {
            let lora = linear.lora()?;
            let tensor = |part: &str, tensor: &Tensor| (format!("{name}.lora_{part}.weight"), tensor.shallow_clone());
            Some([tensor("A", &lora.a), tensor("B", &lora.b)])
        });
        tensors.flatten().collect()
    }

    /// The weights as a checkpoint of the whole model holds them, merged updates included.
    ///
    /// # Errors
    /// [`Error::Argument`] while there are adapters that are not merged: they would be lost.
    pub fn checkpoint_tensors(&self) -> Result<Vec<(String, Tensor)>> {
        if self.lora.is_some() && !self.has_merged_adapters() {
            let reason = "a checkpoint of the whole model would lose them; call `merge_adapters`, or write them with \
                          `save_adapter`";
            return Err(Error::Argument { name: "adapters", value: "not merged".into(), reason: reason.into() });
        }
        Ok(self.parameters())
    }

    fn has_merged_adapters(&self) -> bool {
        self.linears().iter().any(|(_, linear)| linear.lora().is_some_and(Lora::is_merged))
    }

    fn each_adapter(&self, apply: impl Fn(&Linear, &Lora) -> Result<()>) -> Result<()> {
        self.lora_config().ok_or_else(no_adapters)?;
        for (_, linear) in self.linears() {
            if let Some(lora) = linear.lora() {
                apply(linear, lora)?;
            }
        }
        Ok(())
    }

    /// Gives each targeted projection what `make` makes of it, its name and its number; all or none.
    fn attach(
        &mut self,
        config: LoraConfig,
        mut make: impl FnMut(&LoraConfig, &str, &Linear, u64) -> Result<Lora>,
    ) -> Result<()> {
        config.validate()?;
        let refuse = |name, value: String, reason: &str| Err(Error::Argument { name, value, reason: reason.into() });
        if self.lora.is_some() {
            return refuse("adapters", "there already".into(), "one set at a time; call `remove_adapters` first");
        }
        let names: Vec<String> = self.linears().into_iter().map(|(name, _)| name).collect();
        let unmatched = config.unmatched(&names);
        if !unmatched.is_empty() {
            let reason = "no projection of a layer has this name; they are q_proj, k_proj, v_proj, o_proj, gate_proj, \
                          up_proj and down_proj";
            return refuse("target_modules", unmatched.join(", "), reason);
        }
        let mut adapters = Vec::with_capacity(names.len());
        for (module, (name, linear)) in self.linears().into_iter().enumerate() {
            let targeted = config.targets(&name);
            adapters.push(if targeted { Some(make(&config, &name, linear, module as u64)?) } else { None });
        }
        for ((_, linear), lora) in self.linears_mut().into_iter().zip(adapters) {
            linear.set_lora(lora);
        }
        self.lora = Some(config);
        self.set_trainable(true);
        Ok(())
    }
}

fn no_adapters() -> Error {
    let reason = "this model has none; call `add_lora` or `load_adapter` first".into();
    Error::Argument { name: "adapters", value: "none".into(), reason }
}
