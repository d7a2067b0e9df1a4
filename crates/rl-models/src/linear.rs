//! A projection of the decoder.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::{Result, take};

/// A projection with an optional bias.
#[derive(Debug)]
pub(crate) struct Linear {
    weight: Tensor,
    bias: Option<Tensor>,
}

impl Linear {
    pub fn take(tensors: &mut BTreeMap<String, Tensor>, name: &str) -> Result<Self> {
        let bias = tensors.remove(&format!("{name}.bias"));
        Ok(Linear { weight: take(tensors, &format!("{name}.weight"))?, bias })
    }

    /// The same weights, shared.
    pub fn shallow_clone(&self) -> Self {
        Linear { weight: self.weight.shallow_clone(), bias: self.bias.as_ref().map(Tensor::shallow_clone) }
    }

    /// `[tokens, in]` to `[tokens, out]`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Ok(xs.f_linear(&self.weight, self.bias.as_ref())?)
    }
}
