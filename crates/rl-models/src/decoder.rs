//! One decoder for every family: the forward pass that training, scoring and generation share.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rl_core::random::RandomKey;
use rl_torch::autograd::checkpoint;
use tch::{Device, Kind, Tensor};

use crate::attention::{Attention, AttentionContext, PackedAttention};
use crate::checkpoint::{check_tensors, read_config, read_tensors};
use crate::config::ModelConfig;
use crate::embedding::embed;
use crate::linear::Linear;
use crate::lora::{LoraConfig, base_and_adapters};
use crate::mlp::Mlp;
use crate::norm::RmsNorm;
use crate::packed::{Packed, SharedRows};
use crate::rope::RotaryEmbedding;
use crate::{Error, Result, take};

/// A causal language model: embeddings, decoder layers, final norm, and an output head that may be tied.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    kind: Kind,
    device: Device,
    rope: RotaryEmbedding,
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: RmsNorm,
    /// None in a model that scores instead of predicting.
    lm_head: Option<Tensor>,
    parameters: Vec<(String, Tensor)>,
    gradient_checkpointing: Cell<bool>,
    /// Settings of the adapters that the projections hold.
    pub(crate) lora: Option<LoraConfig>,
}

const LM_HEAD: &str = "lm_head.weight";

/// One decoder layer; its forward pass is a function of its weights, its input, the rotation and the context alone.
#[derive(Debug)]
pub(crate) struct Layer {
    input_layernorm: RmsNorm,
    self_attn: Attention,
    post_attention_layernorm: RmsNorm,
    mlp: Mlp,
}

impl Decoder {
    /// Loads the weights of a folder alone, as [`ChatModel::load_as`](crate::ChatModel::load_as) does with tokenizer and
    /// chat template.
    ///
    /// # Errors
    /// A missing folder or file, tensors that do not match the config; [`Error::Argument`] for a `kind` other than f32,
    /// bf16 and f16.
    pub fn load(folder: &Path, kind: Kind, device: Device) -> Result<Self> {
        let (base, adapters) = base_and_adapters(folder)?;
        Self::load_merged(&base, &adapters, kind, device)
    }

    /// A model with adapters merged into it one after the other.
    pub(crate) fn load_merged(base: &Path, adapters: &[PathBuf], kind: Kind, device: Device) -> Result<Self> {
        let mut decoder = Self::from_tensors(read_config(base)?, read_tensors(base, device)?, kind, device)?;
        for folder in adapters {
            decoder.load_adapter(folder)?;
            decoder.merge_adapters()?;
            decoder.remove_adapters();
        }
        Ok(decoder)
    }

    /// Builds the model from tensors under the checkpoint's names, with weights of type `kind` on `device`.
    ///
    /// Activations have the same type: f32, bf16 or f16; f64 is for checks of gradients. Whatever the type, the norms'
    /// statistics and the rotations' angles are f32 and cast back, as in transformers.
    ///
    /// # Errors
    /// [`Error::TensorMismatch`] unless the tensors are exactly those the config asks for; [`Error::Argument`] for
    /// another `kind`.
    pub fn from_tensors(
        config: ModelConfig,
        tensors: BTreeMap<String, Tensor>,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        let expected = config.expected_tensors();
        check_tensors(&tensors, &expected)?;
        Self::from_checked(config, tensors, expected, kind, device)
    }

    /// As [`Decoder::from_tensors`], for a model that has no output projection; other tensors than
    /// [`Decoder::expected_without_head`] are the caller's to refuse.
    pub(crate) fn without_head(
        config: ModelConfig,
        tensors: BTreeMap<String, Tensor>,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        config.validate()?;
        let expected = Self::expected_without_head(&config);
        let mut decoder = Self::from_checked(config, tensors, expected, kind, device)?;
        decoder.remove_head();
        Ok(decoder)
    }

    /// [`ModelConfig::expected_tensors`] but for the output projection.
    pub(crate) fn expected_without_head(config: &ModelConfig) -> Vec<(String, Vec<i64>)> {
        config.expected_tensors().into_iter().filter(|(name, _)| name != LM_HEAD).collect()
    }

    /// Drops the output projection; a tied embedding stays the embedding.
    pub(crate) fn remove_head(&mut self) {
        self.lm_head = None;
        self.parameters.retain(|(name, _)| name != LM_HEAD);
    }

    fn from_checked(
        config: ModelConfig,
        tensors: BTreeMap<String, Tensor>,
        expected: Vec<(String, Vec<i64>)>,
        kind: Kind,
        device: Device,
    ) -> Result<Self> {
        if !matches!(kind, Kind::Float | Kind::BFloat16 | Kind::Half | Kind::Double) {
            return Err(Error::Argument {
                name: "kind",
                value: format!("{kind:?}"),
                reason: "weights are f32, bf16, f16 or f64".into(),
            });
        }
        let mut parameters = Vec::with_capacity(expected.len());
        for (name, _) in expected {
            if let Some(tensor) = tensors.get(&name) {
                let tensor = tensor.f_to_kind(kind)?.f_to_device(device)?.detach();
                parameters.push((name, tensor));
            }
        }
        // Layers hold shallow clones of the same storage, so an optimizer over `parameters` trains the layers.
        let mut by_name = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let embed_tokens = take(&mut by_name, "model.embed_tokens.weight")?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::take(&mut by_name, index as usize, &config))
            .collect::<Result<_>>()?;
        let norm = RmsNorm::new(take(&mut by_name, "model.norm.weight")?, config.rms_norm_eps);
        let lm_head = by_name.remove(LM_HEAD).unwrap_or_else(|| embed_tokens.shallow_clone());
        let rope = RotaryEmbedding::new(&config, kind, device)?;
        Ok(Decoder {
            config,
            kind,
            device,
            rope,
            embed_tokens,
            layers,
            norm,
            lm_head: Some(lm_head),
            parameters,
            gradient_checkpointing: Cell::new(false),
            lora: None,
        })
    }

    /// A new f32 model with weights drawn from `N(0, initializer_range^2)`, norms at 1 and biases at 0, a function of `seed` alone.
    ///
    /// # Errors
    /// As [`Decoder::from_tensors`], for an invalid config.
    pub fn random(config: ModelConfig, seed: u64, device: Device) -> Result<Self> {
        config.validate()?;
        let std = config.initializer_range;
        let mut tensors = BTreeMap::new();
        for (index, (name, shape)) in config.expected_tensors().into_iter().enumerate() {
            let key = RandomKey::new(seed, "initial weights").at(index as u64);
            let len: i64 = shape.iter().product();
            let values: Vec<f32> = if name.ends_with("norm.weight") {
                vec![1.0; len as usize]
            } else if name.ends_with(".bias") {
                vec![0.0; len as usize]
            } else {
                (0..len as u64).map(|position| (std * key.normal(position)) as f32).collect()
            };
            tensors.insert(name, Tensor::from_slice(&values).view(shape.as_slice()));
        }
        Self::from_tensors(config, tensors, Kind::Float, device)
    }

    /// The checkpoint's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The type of weights and activations.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All weights by their checkpoint names; shallow clones, so writing to one changes the model.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Turns gradients of [`Decoder::trainable_parameters`] on or off; beside adapters all weights are frozen.
    pub fn set_trainable(&self, trainable: bool) {
        for (_, parameter) in &self.parameters {
            let _ = parameter.set_requires_grad(trainable && self.lora.is_none());
        }
        if self.lora.is_some() {
            for (_, parameter) in self.trainable_parameters() {
                let _ = parameter.set_requires_grad(trainable);
            }
        }
    }

    /// Whether training keeps each layer's input only and computes the layer again in the backward pass; off at first.
    ///
    /// Costs one more forward pass of the layers per backward pass; gradients are the same.
    pub fn set_gradient_checkpointing(&self, on: bool) {
        self.gradient_checkpointing.set(on);
    }

    /// Packs `sequences` for this model, checking every id and length.
    ///
    /// # Errors
    /// As [`Packed::new`].
    pub fn pack(&self, sequences: &[&[i64]]) -> Result<Packed> {
        Packed::new(sequences, self.config.vocab_size, self.config.max_positions() as usize, self.device)
    }

    /// Packs sequences that share prefixes for this model: each prefix goes through it once.
    ///
    /// # Errors
    /// As [`Packed::shared`].
    pub fn pack_shared(&self, groups: &[SharedRows]) -> Result<Packed> {
        Packed::shared(groups, self.config.vocab_size, self.config.max_positions() as usize, self.device)
    }

    /// Final-norm hidden states of packed sequences, `[tokens, hidden]`.
    ///
    /// Under [`tch::no_grad`] they have the bits of a recorded pass over the same packing: old and reference
    /// log-probabilities need no graph.
    ///
    /// # Errors
    /// [`Error::Tch`] when libtorch refuses an operation, as for want of memory.
    pub fn hidden_states(&self, packed: &Packed) -> Result<Tensor> {
        if !self.gradient_checkpointing.get() {
            return self.forward(&packed.ids, &packed.positions, &mut PackedAttention(packed));
        }
        self.through_layers(&packed.ids, &packed.positions, |layer, xs, rope| {
            layer.forward_recomputed(&xs, rope, packed)
        })
    }

    /// Logits of hidden states, `[rows, hidden]` to `[rows, vocab]`, of the weights' type; cast them to f32 before a
    /// softmax.
    ///
    /// # Errors
    /// As [`Decoder::hidden_states`].
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(rl_torch::kernels::linear(hidden, self.head_weight()?, None)?)
    }

    /// Weight of the output projection, `[vocab, hidden]`; the embedding where they are tied.
    pub(crate) fn head_weight(&self) -> Result<&Tensor> {
        self.lm_head.as_ref().ok_or_else(|| Error::Argument {
            name: LM_HEAD,
            value: "none".into(),
            reason: "this model scores sequences; load a causal language model to predict tokens".into(),
        })
    }

    /// Every projection of every layer under its full name.
    pub(crate) fn linears(&self) -> Vec<(String, &Linear)> {
        let mut linears = Vec::new();
        for (index, layer) in self.layers.iter().enumerate() {
            let attention = layer.self_attn.linears().map(|(name, linear)| ("self_attn", name, linear));
            let mlp = layer.mlp.linears().map(|(name, linear)| ("mlp", name, linear));
            let both = attention.into_iter().chain(mlp);
            linears.extend(both.map(|(part, name, linear)| (full_name(index, part, name), linear)));
        }
        linears
    }

    /// As [`Decoder::linears`], to change them.
    pub(crate) fn linears_mut(&mut self) -> Vec<(String, &mut Linear)> {
        let mut linears = Vec::new();
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let attention = layer.self_attn.linears_mut().map(|(name, linear)| ("self_attn", name, linear));
            let mlp = layer.mlp.linears_mut().map(|(name, linear)| ("mlp", name, linear));
            let both = attention.into_iter().chain(mlp);
            linears.extend(both.map(|(part, name, linear)| (full_name(index, part, name), linear)));
        }
        linears
    }

    /// Hidden states `[tokens, hidden]` of `ids` at `positions`, both `[tokens]`, with keys and values from `context`.
    pub(crate) fn forward(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        context: &mut dyn AttentionContext,
    ) -> Result<Tensor> {
        self.through_layers(ids, positions, |layer, xs, rope| layer.forward(&xs, rope, context))
    }

    /// Embedding, every layer by `run`, final norm.
    fn through_layers(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        mut run: impl FnMut(&Layer, Tensor, (&Tensor, &Tensor)) -> Result<Tensor>,
    ) -> Result<Tensor> {
        let (cos, sin) = self.rope.at(positions)?;
        let mut xs = embed(&self.embed_tokens, ids)?; // [tokens, hidden]
        for layer in &self.layers {
            xs = run(layer, xs, (&cos, &sin))?;
        }
        self.norm.forward(&xs)
    }
}

impl Layer {
    fn take(tensors: &mut BTreeMap<String, Tensor>, index: usize, config: &ModelConfig) -> Result<Self> {
        let prefix = format!("model.layers.{index}");
        let eps = config.rms_norm_eps;
        Ok(Layer {
            input_layernorm: RmsNorm::new(take(tensors, &format!("{prefix}.input_layernorm.weight"))?, eps),
            self_attn: Attention::take(tensors, &format!("{prefix}.self_attn"), index, config)?,
            post_attention_layernorm: RmsNorm::new(
                take(tensors, &format!("{prefix}.post_attention_layernorm.weight"))?,
                eps,
            ),
            mlp: Mlp::take(tensors, &format!("{prefix}.mlp"))?,
        })
    }

    /// `xs` `[tokens, hidden]` to `[tokens, hidden]`; `rope` from [`RotaryEmbedding::at`].
    pub fn forward(&self, xs: &Tensor, rope: (&Tensor, &Tensor), context: &mut dyn AttentionContext) -> Result<Tensor> {
        let xs = xs.f_add(&self.self_attn.forward(&self.input_layernorm.forward(xs)?, rope, context)?)?;
        Ok(xs.f_add(&self.mlp.forward(&self.post_attention_layernorm.forward(&xs)?)?)?)
    }

    /// As [`Layer::forward`] over packed sequences, keeping nothing between but `xs`: the backward pass computes the layer
    /// again, with its adapters' switches as they are now.
    fn forward_recomputed(&self, xs: &Tensor, (cos, sin): (&Tensor, &Tensor), packed: &Packed) -> Result<Tensor> {
        let (layer, packed) = (self.shallow_clone(), packed.shallow_clone());
        let (cos, sin) = (cos.shallow_clone(), sin.shallow_clone());
        let trained = self.tensors().into_iter().filter(Tensor::requires_grad).collect();
        let mut outputs = checkpoint(&[xs], trained, move |xs| {
            Ok::<_, Error>(vec![layer.forward(&xs[0], (&cos, &sin), &mut PackedAttention(&packed))?])
        })?;
        Ok(outputs.remove(0))
    }

    /// Weights, biases and adapters.
    fn tensors(&self) -> Vec<Tensor> {
        let norms = [&self.input_layernorm, &self.post_attention_layernorm].into_iter().chain(self.self_attn.norms());
        let linears = self.self_attn.linears().into_iter().chain(self.mlp.linears());
        norms
            .map(|norm| norm.weight().shallow_clone())
            .chain(linears.flat_map(|(_, linear)| linear.tensors()))
            .collect()
    }

    /// The same weights, shared: for a backward pass that computes the layer again.
    pub fn shallow_clone(&self) -> Self {
        Layer {
            input_layernorm: self.input_layernorm.shallow_clone(),
            self_attn: self.self_attn.shallow_clone(),
            post_attention_layernorm: self.post_attention_layernorm.shallow_clone(),
            mlp: self.mlp.shallow_clone(),
        }
    }
}

fn full_name(layer: usize, part: &str, name: &str) -> String {
    format!("model.layers.{layer}.{part}.{name}")
}
