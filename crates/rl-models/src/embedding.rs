//! The rows of the embedding that a sequence of token ids names.

use rl_torch::autograd::{leaf_grad, with_backward};
use tch::Tensor;

use crate::Result;

/// Rows `ids` `[tokens]` of `weight` `[vocab, hidden]`: `[tokens, hidden]`.
///
/// As `index_select`, but the backward pass adds the few rows it has to the weight's gradient instead of making another
/// `[vocab, hidden]` tensor first.
pub(crate) fn embed(weight: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let rows = tch::no_grad(|| weight.f_index_select(0, ids))?;
    let (leaf, ids) = (weight.shallow_clone(), ids.shallow_clone());
    let mut outputs = with_backward(&[weight], vec![rows], move |grads| {
        let Some(rows_grad) = &grads[0] else { return Ok(vec![None]) };
        tch::no_grad(|| match leaf_grad(&leaf)? {
            Some(mut sum) => {
                let _ = sum.f_index_add_(0, &ids, rows_grad)?;
                Ok(vec![None])
            }
            None => Ok(vec![Some(leaf.f_zeros_like()?.f_index_add_(0, &ids, rows_grad)?)]),
        })
    })?;
    Ok(outputs.remove(0))
}
