//! Root-mean-square normalisation.

use tch::Tensor;

use crate::Result;

/// Divides by the root of the mean square over the last dimension, then multiplies by a weight.
///
/// Zhang and Sennrich 2019, eq. 4: <https://arxiv.org/abs/1910.07467>.
#[derive(Debug)]
pub(crate) struct RmsNorm {
    weight: Tensor,
    eps: f64,
}

impl RmsNorm {
    /// `weight` `[width]`; `eps` is added to the mean square.
    pub fn new(weight: Tensor, eps: f64) -> Self {
        RmsNorm { weight, eps }
    }

    /// `[..., width]` to the same shape and type.
    ///
    /// As in transformers the normalisation runs in f32 (or f64 for f64) and its result is cast back before the weight
    /// multiplies it.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        Ok(rl_torch::kernels::rms_norm(xs, &self.weight, self.eps)?)
    }

    /// `[width]`.
    pub fn weight(&self) -> &Tensor {
        &self.weight
    }

    /// The same weight, shared.
    pub fn shallow_clone(&self) -> Self {
        RmsNorm { weight: self.weight.shallow_clone(), eps: self.eps }
    }
}
