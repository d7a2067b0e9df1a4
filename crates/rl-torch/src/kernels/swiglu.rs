//! The gated activation of Llama and Qwen.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::Result;

unsafe extern "C" {
    fn reins_swiglu(gate: *const C_tensor, up: *const C_tensor, result: *mut *mut C_tensor) -> *mut c_char;
}

/// `silu(gate) * up`, of equal shape `[...]` and kind. The fused backward pass keeps `gate` and `up` alone.
///
/// Shazeer 2020, section 2: <https://arxiv.org/abs/2002.05202>.
///
/// # Errors
/// [`crate::Error::Shim`] when shapes or kinds differ.
pub fn swiglu(gate: &Tensor, up: &Tensor) -> Result<Tensor> {
    // SAFETY: two live tensors and room for one result.
    super::produce(|result| unsafe { reins_swiglu(gate.as_ptr(), up.as_ptr(), result) })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{F32_TOLERANCE, check_gradients, error, numbers};
    use super::*;
    use tch::Kind;

    fn plain(gate: &Tensor, up: &Tensor) -> Tensor {
        gate.silu() * up
    }

    #[test]
    fn every_count_agrees_with_f64() {
        for shape in [vec![1], vec![15], vec![2, 1536], vec![100, 1537], vec![0, 4], vec![2, 3, 5]] {
            let (gate, up) = (numbers(&shape, 1, 20.0), numbers(&shape, 2, 1.0));
            let expected = plain(&gate.to_kind(Kind::Double), &up.to_kind(Kind::Double));
            assert!(error(&swiglu(&gate, &up).unwrap(), &expected) < F32_TOLERANCE);
        }
    }

    #[test]
    fn gradients_equal_the_plain_ones_and_finite_differences() {
        for shape in [[3, 16], [70, 37]] {
            let inputs = [numbers(&shape, 1, 4.0), numbers(&shape, 2, 1.0)];
            check_gradients(|t| swiglu(&t[0], &t[1]).unwrap(), |t| plain(&t[0], &t[1]), &inputs, 2);
        }
    }

    #[test]
    fn extremes_strides_kinds_and_misfits() {
        let gate = Tensor::from_slice(&[-200.0_f32, 200.0, f32::NAN]);
        let found = Vec::<f32>::try_from(swiglu(&gate, &gate.ones_like()).unwrap()).unwrap();
        assert!(found[0] == 0.0 && found[1] == 200.0 && found[2].is_nan(), "{found:?}");
        let (gate, up) = (numbers(&[6, 9], 1, 2.0), numbers(&[9, 6], 2, 1.0));
        assert!(error(&swiglu(&gate.tr(), &up).unwrap(), &plain(&gate.tr(), &up)) < F32_TOLERANCE);
        let half = (gate.to_kind(Kind::BFloat16), gate.to_kind(Kind::BFloat16));
        assert!(swiglu(&half.0, &half.1).unwrap().equal(&plain(&half.0, &half.1)));
        assert!(swiglu(&gate, &up).is_err());
        assert!(swiglu(&gate, &gate.to_kind(Kind::Double)).is_err());
    }
}
