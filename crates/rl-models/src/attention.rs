//! Grouped-query self-attention, over packed sequences or against a key/value cache.

use std::collections::BTreeMap;

use rl_torch::attention::varlen_attention;
use tch::Tensor;

use crate::config::ModelConfig;
use crate::linear::Linear;
use crate::norm::RmsNorm;
use crate::packed::Packed;
use crate::rope::rotate;
use crate::{Result, take};

/// Projections of one attention layer, `[out, in]` each, under the checkpoint's own names.
#[derive(Debug)]
pub(crate) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    /// Per head, `[head_dim]`; in families that normalise queries and keys.
    q_norm: Option<RmsNorm>,
    k_norm: Option<RmsNorm>,
    num_heads: i64,
    num_kv_heads: i64,
    head_dim: i64,
    shape: AttentionShape,
}

/// Which layer attends, and how far back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttentionShape {
    /// Index of the layer.
    pub layer: usize,
    /// Tokens that each token sees, itself included; none: all up to itself.
    pub window: Option<i64>,
}

/// Where keys and values come from: the packed input itself, or a cache of earlier tokens.
pub(crate) trait AttentionContext {
    /// Attention output `[tokens, heads, head_dim]` from rotated `q` `[tokens, heads, head_dim]` and rotated `k`, `v`
    /// `[tokens, kv_heads, head_dim]` of the layer that `shape` names.
    fn attend(&mut self, shape: AttentionShape, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor>;
}

impl Attention {
    /// Moves the weights of layer `layer` out of `tensors`; `prefix` is the name they share.
    pub fn take(
        tensors: &mut BTreeMap<String, Tensor>,
        prefix: &str,
        layer: usize,
        config: &ModelConfig,
    ) -> Result<Self> {
        let qk_norm = config.family().is_some_and(|family| family.qk_norm);
        let mut norm = |name: &str| match qk_norm {
            true => Ok::<_, crate::Error>(Some(RmsNorm::new(
                take(tensors, &format!("{prefix}.{name}.weight"))?,
                config.rms_norm_eps,
            ))),
            false => Ok(None),
        };
        let (q_norm, k_norm) = (norm("q_norm")?, norm("k_norm")?);
        let mut linear = |name: &str| Linear::take(tensors, &format!("{prefix}.{name}"));
        Ok(Attention {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            o_proj: linear("o_proj")?,
            q_norm,
            k_norm,
            num_heads: config.num_attention_heads,
            num_kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim(),
            shape: AttentionShape { layer, window: config.sliding_window.of_layer(layer) },
        })
    }

    /// The same weights, shared.
    pub fn shallow_clone(&self) -> Self {
        Attention {
            q_proj: self.q_proj.shallow_clone(),
            k_proj: self.k_proj.shallow_clone(),
            v_proj: self.v_proj.shallow_clone(),
            o_proj: self.o_proj.shallow_clone(),
            q_norm: self.q_norm.as_ref().map(RmsNorm::shallow_clone),
            k_norm: self.k_norm.as_ref().map(RmsNorm::shallow_clone),
            ..*self
        }
    }

    /// The projections under their names.
    pub fn linears(&self) -> [(&'static str, &Linear); 4] {
        [("q_proj", &self.q_proj), ("k_proj", &self.k_proj), ("v_proj", &self.v_proj), ("o_proj", &self.o_proj)]
    }

    /// As [`Attention::linears`], to change them.
    pub fn linears_mut(&mut self) -> [(&'static str, &mut Linear); 4] {
        [
            ("q_proj", &mut self.q_proj),
            ("k_proj", &mut self.k_proj),
            ("v_proj", &mut self.v_proj),
            ("o_proj", &mut self.o_proj),
        ]
    }

    /// The norms of queries and keys, in families that have them.
    pub fn norms(&self) -> impl Iterator<Item = &RmsNorm> {
        self.q_norm.iter().chain(&self.k_norm)
    }

    /// `xs` `[tokens, hidden]` to `[tokens, hidden]`; `rope` from [`crate::rope::RotaryEmbedding::at`].
    pub fn forward(&self, xs: &Tensor, rope: (&Tensor, &Tensor), context: &mut dyn AttentionContext) -> Result<Tensor> {
        let tokens = xs.size()[0];
        let heads = |projected: Tensor, num_heads: i64| projected.f_view([tokens, num_heads, self.head_dim]);
        let turned = |projected: Tensor, num_heads: i64, norm: &Option<RmsNorm>| match norm {
            Some(norm) => rotate(&norm.forward(&heads(projected, num_heads)?)?, rope),
            None => rotate(&heads(projected, num_heads)?, rope),
        };
        let [q, k, v] = Linear::forward_many(xs, [&self.q_proj, &self.k_proj, &self.v_proj])?;
        let q = turned(q, self.num_heads, &self.q_norm)?;
        let k = turned(k, self.num_kv_heads, &self.k_norm)?;
        let v = heads(v, self.num_kv_heads)?;
        let attended = context.attend(self.shape, &q, &k, &v)?; // [tokens, heads, head_dim]
        self.o_proj.forward(&attended.f_reshape([tokens, self.num_heads * self.head_dim])?)
    }
}

/// Causal attention inside each sequence of a packed batch.
pub(crate) struct PackedAttention<'a>(pub &'a Packed);

impl AttentionContext for PackedAttention<'_> {
    fn attend(&mut self, shape: AttentionShape, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        Ok(varlen_attention(q, k, v, &self.0.sequences, shape.window)?)
    }
}
