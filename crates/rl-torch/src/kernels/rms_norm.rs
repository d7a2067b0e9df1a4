//! Root mean square normalisation.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::Result;

unsafe extern "C" {
    fn reins_rms_norm(
        xs: *const C_tensor,
        weight: *const C_tensor,
        eps: f64,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// `xs / sqrt(mean(xs^2) + eps) * weight` over the rows of `xs` `[rows, hidden]`, with `weight` `[hidden]`.
///
/// The statistic is in f32 (f64 for f64), and the normalised row is cast back to the kind of `xs` before the weight
/// multiplies it, as transformers does. The fused backward pass keeps `xs` and one number per row.
///
/// Zhang and Sennrich 2019, eq. 4: <https://arxiv.org/abs/1910.07467>.
///
/// # Errors
/// [`crate::Error::Shim`] when shapes or kinds do not fit.
pub fn rms_norm(xs: &Tensor, weight: &Tensor, eps: f64) -> Result<Tensor> {
    // SAFETY: two live tensors and room for one result.
    super::produce(|result| unsafe { reins_rms_norm(xs.as_ptr(), weight.as_ptr(), eps, result) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{F32_TOLERANCE, check_gradients, error, numbers};
    use super::*;
    use tch::Kind;

    const EPS: f64 = 1e-5;

    fn plain(xs: &Tensor, weight: &Tensor) -> Tensor {
        let scale = (xs.square().mean_dim(-1, true, xs.kind()) + EPS).rsqrt();
        xs * scale * weight
    }

    #[test]
    fn every_width_agrees_with_f64() {
        for (rows, hidden) in [(1, 576), (40, 576), (300, 64), (3, 1), (5, 15), (2, 17), (7, 100), (0, 8)] {
            let (xs, weight) = (numbers(&[rows, hidden], 1, 3.0), numbers(&[hidden], 2, 1.0));
            let expected = plain(&xs.to_kind(Kind::Double), &weight.to_kind(Kind::Double));
            assert!(error(&rms_norm(&xs, &weight, EPS).unwrap(), &expected) < F32_TOLERANCE);
        }
    }

    #[test]
    fn gradients_equal_the_plain_ones_and_finite_differences() {
        for (rows, hidden) in [(2, 16), (130, 33), (3, 5)] {
            let inputs = [numbers(&[rows, hidden], 1, 2.0), numbers(&[hidden], 2, 1.0)];
            check_gradients(|t| rms_norm(&t[0], &t[1], EPS).unwrap(), |t| plain(&t[0], &t[1]), &inputs, 2);
        }
    }

    #[test]
    fn only_the_gradients_that_are_asked_for_flow() {
        let xs = numbers(&[4, 20], 1, 1.0).set_requires_grad(true);
        let weight = numbers(&[20], 2, 1.0);
        rms_norm(&xs, &weight, EPS).unwrap().sum(Kind::Float).backward();
        assert!(xs.grad().defined() && !weight.grad().defined());
    }

    #[test]
    fn half_precision_multiplies_by_the_weight_after_the_cast() {
        let xs = numbers(&[4, 64], 1, 1.0).to_kind(Kind::BFloat16);
        let weight = numbers(&[64], 2, 1.0).to_kind(Kind::BFloat16);
        let wide = xs.to_kind(Kind::Float);
        let normed = &wide * (wide.square().mean_dim(-1, true, Kind::Float) + EPS).rsqrt();
        let expected = normed.to_kind(Kind::BFloat16) * &weight;
        assert!(rms_norm(&xs, &weight, EPS).unwrap().equal(&expected));
    }

    #[test]
    fn strided_input_nan_and_misfits() {
        let wide = numbers(&[6, 40], 1, 1.0);
        let weight = numbers(&[6], 2, 1.0);
        let error = error(&rms_norm(&wide.tr(), &weight, EPS).unwrap(), &plain(&wide.tr(), &weight));
        assert!(error < F32_TOLERANCE, "{error}");
        let nan = Tensor::from_slice(&[1.0_f32, f32::NAN]).view([1, 2]);
        assert!(rms_norm(&nan, &numbers(&[2], 1, 1.0), EPS).unwrap().isnan().all().double_value(&[]) == 1.0);
        assert!(rms_norm(&wide, &weight, EPS).is_err());
        assert!(rms_norm(&weight, &weight, EPS).is_err());
    }
}
