//! Rotary position embedding.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::Result;

unsafe extern "C" {
    fn reins_rotary(
        xs: *const C_tensor,
        cos: *const C_tensor,
        sin: *const C_tensor,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// `xs * cos + turn(xs) * sin` of `xs` `[tokens, heads, head_dim]` with `cos` and `sin` `[tokens, 1, head_dim]`, where
/// `turn` swaps the halves of a head and negates the new first half: the layout of Hugging Face checkpoints.
///
/// The fused backward pass keeps nothing but `cos` and `sin`.
///
/// Su et al. 2021, eq. 34: <https://arxiv.org/abs/2104.09864>.
///
/// # Errors
/// [`crate::Error::Shim`] when shapes or kinds do not fit, or `head_dim` is odd.
pub fn rotary(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Result<Tensor> {
    // SAFETY: three live tensors and room for one result.
    super::produce(|result| unsafe { reins_rotary(xs.as_ptr(), cos.as_ptr(), sin.as_ptr(), result) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{F32_TOLERANCE, check_gradients, error, numbers};
    use super::*;
    use tch::Kind;

    fn plain(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
        let half = xs.size()[2] / 2;
        let turned = Tensor::cat(&[-xs.narrow(2, half, half), xs.narrow(2, 0, half)], 2);
        xs * cos + turned * sin
    }

    fn inputs(tokens: i64, heads: i64, head_dim: i64) -> [Tensor; 3] {
        // Halves of the tables differ, which no model needs, so that a mixed-up half shows.
        [
            numbers(&[tokens, heads, head_dim], 1, 1.0),
            numbers(&[tokens, 1, head_dim], 2, 1.0),
            numbers(&[tokens, 1, head_dim], 3, 1.0),
        ]
    }

    #[test]
    fn every_head_dim_agrees_with_f64() {
        for (tokens, heads, head_dim) in [(1, 9, 64), (200, 3, 64), (4, 2, 128), (3, 1, 6), (2, 2, 34), (0, 2, 64)] {
            let [xs, cos, sin] = inputs(tokens, heads, head_dim);
            let wide = [&xs, &cos, &sin].map(|t| t.to_kind(Kind::Double));
            let expected = plain(&wide[0], &wide[1], &wide[2]);
            assert!(error(&rotary(&xs, &cos, &sin).unwrap(), &expected) < F32_TOLERANCE);
        }
    }

    #[test]
    fn gradients_equal_the_plain_ones_and_finite_differences() {
        for (tokens, heads, head_dim) in [(3, 2, 32), (5, 1, 10)] {
            check_gradients(
                |t| rotary(&t[0], &t[1], &t[2]).unwrap(),
                |t| plain(&t[0], &t[1], &t[2]),
                &inputs(tokens, heads, head_dim),
                1,
            );
        }
    }

    #[test]
    fn strides_trained_tables_and_misfits() {
        let [xs, cos, sin] = inputs(4, 3, 16);
        let strided = numbers(&[3, 4, 16], 7, 1.0).transpose(0, 1);
        assert!(error(&rotary(&strided, &cos, &sin).unwrap(), &plain(&strided, &cos, &sin)) < F32_TOLERANCE);
        let trained = cos.copy().set_requires_grad(true);
        rotary(&xs, &trained, &sin).unwrap().sum(Kind::Float).backward();
        assert!(error(&trained.grad(), &xs.sum_dim_intlist(1, true, Kind::Float)) < F32_TOLERANCE);
        for (xs, cos) in [
            (&xs.narrow(0, 0, 3), &cos),
            (&xs, &cos.narrow(2, 0, 8)),
            (&xs, &cos.squeeze_dim(1)),
            (&xs.view([4, 48]), &cos),
            (&xs.narrow(2, 0, 15), &cos.narrow(2, 0, 15)),
        ] {
            assert!(rotary(xs, cos, &sin.narrow(2, 0, *cos.size().last().unwrap())).is_err());
        }
    }
}
