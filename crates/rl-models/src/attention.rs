//! Grouped-query self-attention, over packed sequences or against a key/value cache.

use std::collections::BTreeMap;

use tch::Tensor;

use crate::Result;
use crate::config::ModelConfig;
use crate::linear::Linear;
use crate::packed::{LengthGroup, Packed};
use crate::rope::rotate;

/// Projections of one attention layer, `[out, in]` each, under the checkpoint's own names.
#[derive(Debug)]
pub(crate) struct Attention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    num_heads: i64,
    num_kv_heads: i64,
    head_dim: i64,
}

/// Where keys and values come from: the packed input itself, or a cache of earlier tokens.
pub(crate) trait AttentionContext {
    /// Attention output `[tokens, heads, head_dim]` from rotated `q` `[tokens, heads, head_dim]` and rotated `k`, `v`
    /// `[tokens, kv_heads, head_dim]` of layer `layer`.
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor>;
}

impl Attention {
    pub fn take(tensors: &mut BTreeMap<String, Tensor>, prefix: &str, config: &ModelConfig) -> Result<Self> {
        let mut linear = |name: &str| Linear::take(tensors, &format!("{prefix}.{name}"));
        Ok(Attention {
            q_proj: linear("q_proj")?,
            k_proj: linear("k_proj")?,
            v_proj: linear("v_proj")?,
            o_proj: linear("o_proj")?,
            num_heads: config.num_attention_heads,
            num_kv_heads: config.num_key_value_heads,
            head_dim: config.head_dim(),
        })
    }

    /// `xs` `[tokens, hidden]` to `[tokens, hidden]`; `rope` from [`crate::rope::RotaryTable::at`].
    pub fn forward(
        &self,
        layer: usize,
        xs: &Tensor,
        rope: (&Tensor, &Tensor),
        context: &mut dyn AttentionContext,
    ) -> Result<Tensor> {
        let tokens = xs.size()[0];
        let heads = |projected: Tensor, num_heads: i64| projected.f_view([tokens, num_heads, self.head_dim]);
        let q = rotate(&heads(self.q_proj.forward(xs)?, self.num_heads)?, rope)?;
        let k = rotate(&heads(self.k_proj.forward(xs)?, self.num_kv_heads)?, rope)?;
        let v = heads(self.v_proj.forward(xs)?, self.num_kv_heads)?;
        let attended = context.attend(layer, &q, &k, &v)?; // [tokens, heads, head_dim]
        self.o_proj.forward(&attended.f_reshape([tokens, self.num_heads * self.head_dim])?)
    }
}

/// Causal attention inside each sequence of a packed batch.
pub(crate) struct PackedAttention<'a>(pub &'a Packed);

impl AttentionContext for PackedAttention<'_> {
    fn attend(&mut self, _layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let plan = &self.0.plan;
        let outputs = plan.groups.iter().map(|group| attend_group(group, q, k, v)).collect::<Result<Vec<_>>>()?;
        match &plan.restore {
            Some(restore) => Ok(Tensor::f_cat(&outputs, 0)?.f_index_select(0, restore)?),
            None => Ok(outputs[0].shallow_clone()),
        }
    }
}

/// Output of one rectangle, `[num_sequences * length, heads, head_dim]`.
fn attend_group(group: &LengthGroup, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let LengthGroup { num_sequences, length, gather } = group;
    let (_, num_heads, head_dim) = q.size3()?;
    let rectangle = |xs: &Tensor| -> Result<Tensor> {
        let rows = gather.as_ref().map_or_else(|| Ok(xs.shallow_clone()), |index| xs.f_index_select(0, index))?;
        let rows = repeat_heads(rows, num_heads)?;
        Ok(rows.f_view([*num_sequences, *length, num_heads, head_dim])?.f_transpose(1, 2)?)
    };
    let (q, k, v) = (rectangle(q)?, rectangle(k)?, rectangle(v)?); // [num_sequences, heads, length, head_dim]
    let attended = Tensor::f_scaled_dot_product_attention(&q, &k, &v, None::<&Tensor>, 0.0, true, None, false)?;
    Ok(attended.f_transpose(1, 2)?.f_reshape([num_sequences * length, num_heads, head_dim])?)
}

/// Repeats each key/value head for the query heads that share it.
fn repeat_heads(xs: Tensor, num_heads: i64) -> Result<Tensor> {
    let (rows, kv_heads, head_dim) = xs.size3()?;
    if kv_heads == num_heads {
        return Ok(xs);
    }
    let repeats = num_heads / kv_heads;
    let repeated = xs.f_unsqueeze(2)?.f_expand([rows, kv_heads, repeats, head_dim], false)?;
    Ok(repeated.f_reshape([rows, num_heads, head_dim])?)
}
