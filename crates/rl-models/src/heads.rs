//! Heads on the decoder's hidden states: values of a critic, scores of a reward model.

use std::collections::BTreeMap;

use rl_core::random::RandomKey;
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Critic head in f32: one projection, or a small network with ReLU between its layers.
///
/// The last layer starts at zero, so an untrained critic says 0 everywhere instead of adding noise to the first
/// advantages.
#[derive(Debug)]
pub struct ValueHead {
    /// Weight and bias of each layer, in turn.
    parameters: Vec<(String, Tensor)>,
}

impl ValueHead {
    /// A new network `hidden -> hidden/4 -> hidden/8 -> 1`, a function of `seed` alone.
    pub fn new(hidden: usize, seed: u64, device: Device) -> Self {
        let widths = [hidden, (hidden / 4).max(1), (hidden / 8).max(1), 1];
        let mut parameters = Vec::new();
        for layer in 0..3 {
            let (inputs, outputs) = (widths[layer], widths[layer + 1]);
            let key = RandomKey::new(seed, "value head").at(layer as u64);
            let bound = if layer == 2 { 0.0 } else { (2.0 / inputs as f64).sqrt() };
            let weight: Vec<f32> = (0..inputs * outputs).map(|i| (bound * key.normal(i as u64)) as f32).collect();
            let weight = Tensor::from_slice(&weight).view([outputs as i64, inputs as i64]).to_device(device);
            let bias = Tensor::zeros([outputs as i64], (Kind::Float, device));
            parameters.push((format!("value_head.{layer}.weight"), weight.set_requires_grad(true)));
            parameters.push((format!("value_head.{layer}.bias"), bias.set_requires_grad(true)));
        }
        ValueHead { parameters }
    }

    /// A new head `hidden -> 1`: weights `[1, hidden]` and bias `[1]`, zero at first.
    pub fn linear(hidden: usize, device: Device) -> Self {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Float, device)).set_requires_grad(true);
        let weight = ("value_head.weight".to_owned(), zeros(&[1, hidden as i64]));
        ValueHead { parameters: vec![weight, ("value_head.bias".to_owned(), zeros(&[1]))] }
    }

    /// Values of `hidden` `[rows, hidden]`, f32 `[rows]`.
    ///
    /// # Errors
    /// [`Error::Tch`] when `hidden` has another width.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let mut xs = hidden.f_to_kind(Kind::Float)?;
        for (layer, pair) in self.parameters.chunks_exact(2).enumerate() {
            if 0 < layer {
                xs = xs.f_relu()?;
            }
            xs = xs.f_linear(&pair[0].1, Some(&pair[1].1))?;
        }
        Ok(xs.f_squeeze_dim(1)?)
    }

    /// The weights by name.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect()
    }

    /// Copies saved weights in.
    ///
    /// # Errors
    /// [`Error::TensorMismatch`] unless names and shapes are exactly those of this head.
    pub fn restore(&self, saved: &BTreeMap<String, Tensor>) -> Result<()> {
        let expected: Vec<_> = self.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        crate::checkpoint::check_tensors(saved, &expected)?;
        tch::no_grad(|| {
            for (name, parameter) in &self.parameters {
                if let Some(tensor) = saved.get(name) {
                    parameter.shallow_clone().f_copy_(tensor)?;
                }
            }
            Ok::<_, Error>(())
        })
    }
}

/// Score head of the sequence-classification layout: a projection without bias, `score.weight` `[labels, hidden]`, in f32.
#[derive(Debug)]
pub struct RewardHead {
    weight: Tensor,
}

impl RewardHead {
    /// Weights drawn from `N(0, std^2)`, a function of `seed` alone.
    pub fn new(num_labels: usize, hidden: usize, std: f64, seed: u64, device: Device) -> Self {
        let key = RandomKey::new(seed, "reward head");
        let weight: Vec<f32> = (0..(num_labels * hidden) as u64).map(|i| (std * key.normal(i)) as f32).collect();
        let weight = Tensor::from_slice(&weight).view([num_labels as i64, hidden as i64]).to_device(device);
        RewardHead { weight: weight.set_requires_grad(true) }
    }

    /// The head of a saved `score.weight` `[labels, hidden]`.
    ///
    /// # Errors
    /// [`Error::Tch`] when libtorch cannot convert it.
    pub fn from_weight(weight: &Tensor, device: Device) -> Result<Self> {
        let weight = weight.f_to_kind(Kind::Float)?.f_to_device(device)?.f_detach()?;
        Ok(RewardHead { weight: weight.f_set_requires_grad(true)? })
    }

    /// Scores of `hidden` `[rows, hidden]`, f32 `[rows, labels]`.
    ///
    /// # Errors
    /// [`Error::Tch`] when `hidden` has another width.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        Ok(hidden.f_to_kind(Kind::Float)?.f_linear(&self.weight, None::<&Tensor>)?)
    }

    /// `[labels, hidden]`; a shallow clone, so writing to it changes the head.
    pub fn weight(&self) -> Tensor {
        self.weight.shallow_clone()
    }
}
