//! A projection of the decoder, with or without an adapter beside it.

use std::collections::BTreeMap;

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
        let ys = xs.f_linear(&self.weight, self.bias.as_ref())?;
        match &self.lora {
            Some(lora) if lora.is_active() => lora.add_update(xs, ys),
            _ => Ok(ys),
        }
    }

    /// Several projections of one input `[tokens, in]`, in order: the place where they can share a call.
    pub fn forward_many<const N: usize>(xs: &Tensor, linears: [&Linear; N]) -> Result<[Tensor; N]> {
        let mut outputs = linears.map(|_| Tensor::new());
        for (output, linear) in outputs.iter_mut().zip(linears) {
            *output = linear.forward(xs)?;
        }
        Ok(outputs)
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
