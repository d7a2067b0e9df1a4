//! The gated feed-forward layer.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::Result;
use crate::linear::Linear;

/// `down_proj(silu(gate_proj(x)) * up_proj(x))`. Shazeer 2020, eq. 6: <https://arxiv.org/abs/2002.05202>.
#[derive(Debug)]
pub(crate) struct Mlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    pub fn take(tensors: &mut BTreeMap<String, Tensor>, prefix: &str) -> Result<Self> {
        let mut linear = |name: &str| Linear::take(tensors, &format!("{prefix}.{name}"));
        Ok(Mlp { gate_proj: linear("gate_proj")?, up_proj: linear("up_proj")?, down_proj: linear("down_proj")? })
    }

    /// `[tokens, hidden]` to `[tokens, hidden]`.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let [gate, up] = Linear::forward_many(xs, [&self.gate_proj, &self.up_proj])?;
        self.down_proj.forward(&rl_torch::kernels::swiglu(&gate, &up)?)
    }

    /// The projections under their names.
    pub fn linears(&self) -> [(&'static str, &Linear); 3] {
        [("gate_proj", &self.gate_proj), ("up_proj", &self.up_proj), ("down_proj", &self.down_proj)]
    }

    /// As [`Mlp::linears`], to change them.
    pub fn linears_mut(&mut self) -> [(&'static str, &mut Linear); 3] {
        [("gate_proj", &mut self.gate_proj), ("up_proj", &mut self.up_proj), ("down_proj", &mut self.down_proj)]
    }

    /// The same weights, shared.
    pub fn shallow_clone(&self) -> Self {
        Mlp {
            gate_proj: self.gate_proj.shallow_clone(),
            up_proj: self.up_proj.shallow_clone(),
            down_proj: self.down_proj.shallow_clone(),
        }
    }
}
