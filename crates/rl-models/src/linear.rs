//! A projection of the decoder, with or without an adapter beside it.

use std::collections::BTreeMap;

use rl_torch::kernels;
use tch::Tensor;

use crate::lora::Lora;
use crate::{Result, take};

/// A projection with an optional bias and an optional adapter.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
    lora: Option<Lora>,
}

impl Linear {
    pub fn take(tensors: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Self> {
        let bias = tensors.remove(&format!("{name}.bias"));
        Ok(Linear { weight: take(tensors, &format!("{name}.weight"))?, bias, lora: None })
    }

    /// The same weights, shared; the adapter's switches stay as they are now.
    pub fn shallow_clone(&self) -> Self {
        Linear {
            weight: self.weight.shallow_clone(),
            bias: self.bias.as_ref().map(Tensor::shallow_clone),
            lora: self.lora.as_ref().map(Lora::shallow_clone),
        }
    }

    /// `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        self.adapt(xs, kernels::linear(xs, &self.weight, self.bias.as_ref())?)
    }

    /// Several projections of one input `[tokens, in]`, in order, in one call.
    pub fn forward_many<const N: usize>(xs: &Tensor, linears: [&Linear; N]) -> Result<[Tensor; N]> {
        let projected = kernels::linears(xs, &linears.map(|linear| (&linear.weight, linear.bias.as_ref())))?;
        let mut outputs = linears.map(|_| Tensor::new());
        for ((output, linear), ys) in outputs.iter_mut().zip(linears).zip(projected) {
            *output = linear.adapt(xs, ys)?;
        }
        Ok(outputs)
    }

    /// Adds the adapter's update of `xs` `[tokens, in]` to `ys` `[tokens, out]` where there is one that is switched on.
    fn adapt(&self, xs: &Tensor, ys: Tensor) -> Result<Tensor> {
        match &self.lora {
            Some(lora) if lora.is_active() => lora.add_update(xs, ys),
            _ => Ok(ys),
        }
    }

    /// `[out, in]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    pub fn lora(&self) -> Option<&Lora> {
        self.lora.as_ref()
    }

    pub fn set_lora(&mut self, lora: Option<Lora>) {
        self.lora = lora;
    }

    /// Weight, bias and adapter.
    pub fn tensors(&self) -> Vec<Tensor> {
        let lora = self.lora.iter().flat_map(|lora| [&lora.a, &lora.b]);
        std::iter::once(&self.weight).chain(&self.bias).chain(lora).map(Tensor::shallow_clone).collect()
    }
}
