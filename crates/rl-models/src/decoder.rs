//! One Llama-family decoder: the forward pass that training, scoring and generation share.

use std::collections::BTreeMap;

use rl_core::random::RandomKey;
use tch::{Device, Kind, Tensor};

use crate::attention::{Attention, AttentionContext, PackedAttention};
use crate::checkpoint::check_tensors;
use crate::config::ModelConfig;
use crate::linear::Linear;
use crate::packed::Packed;
use crate::rope::RotaryTable;
use crate::{Result, take};

/// A causal language model: embeddings, decoder layers, final norm, and an output head that may be tied.
#[derive(Debug)]
pub struct Decoder {
    config: ModelConfig,
    device: Device,
    rope: RotaryTable,
    embed_tokens: Tensor,
    layers: Vec<Layer>,
    norm: Tensor,
    lm_head: Tensor,
    parameters: Vec<(String, Tensor)>,
}

#[derive(Debug)]
struct Layer {
    input_layernorm: Tensor,
    self_attn: Attention,
    post_attention_layernorm: Tensor,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Decoder {
    /// Builds the model from tensors under the checkpoint's names, in f32 on `device`.
    ///
    /// # Errors
    /// [`crate::Error::TensorMismatch`] unless the tensors are exactly those the config asks for.
    pub fn from_tensors(config: ModelConfig, tensors: BTreeMap<String, Tensor>, device: Device) -> Result<Self> {
        config.validate()?;
        check_tensors(&tensors, &config.expected_tensors())?;
        let expected: Vec<String> = config.expected_tensors().into_iter().map(|(name, _)| name).collect();
        let mut parameters = Vec::with_capacity(expected.len());
        for name in expected {
            if let Some(tensor) = tensors.get(&name) {
                let tensor = tensor.f_to_kind(Kind::Float)?.f_to_device(device)?.detach();
                parameters.push((name, tensor));
            }
        }
        // Layers hold shallow clones of the same storage, so an optimizer over `parameters` trains the layers.
        let mut by_name = parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let embed_tokens = take(&mut by_name, "model.embed_tokens.weight")?;
        let layers = (0..config.num_hidden_layers)
            .map(|index| Layer::take(&mut by_name, &format!("model.layers.{index}"), &config))
            .collect::<Result<_>>()?;
        let norm = take(&mut by_name, "model.norm.weight")?;
        let lm_head = by_name.remove("lm_head.weight").unwrap_or_else(|| embed_tokens.shallow_clone());
        let rope = RotaryTable::new(&config, device);
        Ok(Decoder { config, device, rope, embed_tokens, layers, norm, lm_head, parameters })
    }

    /// A new model with weights drawn from `N(0, initializer_range^2)`, norms at 1 and biases at 0, a function of `seed` alone.
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
        Self::from_tensors(config, tensors, device)
    }

    /// The checkpoint's configuration.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// Where the weights are.
    pub fn device(&self) -> Device {
        self.device
    }

    /// All weights by their checkpoint names; shallow clones, so writing to one changes the model.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Turns gradients of all weights on or off.
    pub fn set_trainable(&self, trainable: bool) {
        for (_, parameter) in &self.parameters {
            let _ = parameter.set_requires_grad(trainable);
        }
    }

    /// Packs `sequences` for this model, checking every id and length.
    ///
    /// # Errors
    /// As [`Packed::new`].
    pub fn pack(&self, sequences: &[&[i64]]) -> Result<Packed> {
        Packed::new(sequences, self.config.vocab_size, self.config.max_position_embeddings as usize, self.device)
    }

    /// Final-norm hidden states of packed sequences, `[tokens, hidden]`.
    ///
    /// # Errors
    /// [`crate::Error::Torch`] when libtorch refuses an operation, as for want of memory.
    pub fn hidden_states(&self, packed: &Packed) -> Result<Tensor> {
        self.forward(&packed.ids, &packed.positions, &mut PackedAttention(packed))
    }

    /// Logits of hidden states, `[rows, hidden]` to `[rows, vocab]`.
    ///
    /// # Errors
    /// As [`Decoder::hidden_states`].
    pub fn logits(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.f_linear(&self.lm_head, None::<&Tensor>)?)
    }

    /// Weight of the output projection, `[vocab, hidden]`; the embedding where they are tied.
    pub(crate) fn head_weight(&self) -> &Tensor {
        &self.lm_head
    }

    /// Hidden states `[tokens, hidden]` of `ids` at `positions`, both `[tokens]`, with keys and values from `context`.
    pub(crate) fn forward(
        &self,
        ids: &Tensor,
        positions: &Tensor,
        context: &mut dyn AttentionContext,
    ) -> Result<Tensor> {
        let (cos, sin) = self.rope.at(positions)?;
        let mut xs = self.embed_tokens.f_index_select(0, ids)?; // [tokens, hidden]
        for (index, layer) in self.layers.iter().enumerate() {
            xs = layer.forward(index, &xs, (&cos, &sin), self.config.rms_norm_eps, context)?;
        }
        rms_norm(&xs, &self.norm, self.config.rms_norm_eps)
    }
}

impl Layer {
    fn take(tensors: &mut BTreeMap<String, Tensor>, prefix: &str, config: &ModelConfig) -> Result<Self> {
        Ok(Layer {
            input_layernorm: take(tensors, &format!("{prefix}.input_layernorm.weight"))?,
            self_attn: Attention::take(tensors, &format!("{prefix}.self_attn"), config)?,
            post_attention_layernorm: take(tensors, &format!("{prefix}.post_attention_layernorm.weight"))?,
            gate_proj: Linear::take(tensors, &format!("{prefix}.mlp.gate_proj"))?,
            up_proj: Linear::take(tensors, &format!("{prefix}.mlp.up_proj"))?,
            down_proj: Linear::take(tensors, &format!("{prefix}.mlp.down_proj"))?,
        })
    }

    fn forward(
        &self,
        index: usize,
        xs: &Tensor,
        rope: (&Tensor, &Tensor),
        eps: f64,
        context: &mut dyn AttentionContext,
    ) -> Result<Tensor> {
        let normed = rms_norm(xs, &self.input_layernorm, eps)?;
        let xs = xs.f_add(&self.self_attn.forward(index, &normed, rope, context)?)?;
        let normed = rms_norm(&xs, &self.post_attention_layernorm, eps)?;
        let activated = self.gate_proj.forward(&normed)?.f_silu()?.f_mul(&self.up_proj.forward(&normed)?)?;
        Ok(xs.f_add(&self.down_proj.forward(&activated)?)?)
    }
}

/// Zhang and Sennrich 2019, eq. 4: <https://arxiv.org/abs/1910.07467>.
fn rms_norm(xs: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    let mean_square = xs.f_square()?.f_mean_dim(-1, true, Kind::Float)?;
    let scale = mean_square.f_add_scalar(eps)?.f_rsqrt()?;
    Ok(xs.f_mul(&scale)?.f_mul(weight)?)
}
