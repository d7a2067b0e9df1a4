//! Scalar heads on the decoder's hidden states.

use std::collections::BTreeMap;

use rl_core::random::RandomKey;
use tch::{Device, Kind, Tensor};

use crate::{Error, Result};

/// Critic head `hidden -> hidden/4 -> hidden/8 -> 1` with ReLU between, in f32.
///
/// The last layer starts at zero, so an untrained critic says 0 everywhere instead of adding noise to the first
/// advantages.
#[derive(Debug)]
pub struct ValueHead {
    parameters: Vec<(String, Tensor)>,
}

impl ValueHead {
    /// A new head for `hidden` features, a function of `seed` alone.
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

    /// Values of `hidden` `[rows, hidden]`, f32 `[rows]`.
    ///
    /// # Errors
    /// [`Error::Torch`] when `hidden` has another width.
    pub fn forward(&self, hidden: &Tensor) -> Result<Tensor> {
        let mut xs = hidden.f_to_kind(Kind::Float)?;
        for layer in 0..3 {
            let (weight, bias) = (&self.parameters[2 * layer].1, &self.parameters[2 * layer + 1].1);
            xs = xs.f_linear(weight, Some(bias))?;
            if layer < 2 {
                xs = xs.f_relu()?;
            }
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
