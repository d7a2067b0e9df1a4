//! Projections, straight from the checkpoint's `[out, in]` layout.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use super::training_numerics::is_on;
use crate::{Result, ffi};

unsafe extern "C" {
    fn reins_linears(
        xs: *const C_tensor,
        weights: *const *mut C_tensor,
        biases: *const *mut C_tensor,
        count: i64,
        own_kernel: bool,
        results: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn reins_linear_most_rows(result: *mut i64) -> *mut c_char;
}

/// `xs weight^T + bias`: `xs` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]`, result `[rows, out]`.
///
/// Up to [`linear_most_rows`] rows of f32 on the CPU run an own kernel when nothing is recorded for a backward pass and
/// [`super::training_numerics`] is off; it sums each output in an order that depends on `in` alone, so **a row's result has the same bits whatever the other
/// rows and however many**. Everything else is `at::linear`, where that does not hold.
///
/// # Errors
/// [`crate::Error::Shim`] when shapes, kinds or devices do not fit.
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    super::produce(|result| {
        let (weights, biases) = ([pointer(Some(weight))], [pointer(bias)]);
        // SAFETY: lists of one live (or null, for the bias) tensor each, and room for one result.
        unsafe { reins_linears(xs.as_ptr(), weights.as_ptr(), biases.as_ptr(), 1, !is_on(), result) }
    })
}

/// Rows up to which [`linear`] runs its own kernel, whose rows do not depend on each other: no limit with AVX-512, else
/// where libtorch's matrix product becomes faster.
///
/// # Errors
/// As [`super::instruction_set`].
pub fn linear_most_rows() -> Result<i64> {
    let mut rows = 0;
    // SAFETY: room for one number.
    ffi::check(unsafe { reins_linear_most_rows(&mut rows) })?;
    Ok(rows)
}

/// [`linear`] of one `xs` `[rows, in]` with several weights (query, key and value; gate and up), in one parallel region.
///
/// # Errors
/// As [`linear`].
pub fn linears(xs: &Tensor, weights: &[(&Tensor, Option<&Tensor>)]) -> Result<Vec<Tensor>> {
    let matrices: Vec<_> = weights.iter().map(|(weight, _)| pointer(Some(weight))).collect();
    let biases: Vec<_> = weights.iter().map(|(_, bias)| pointer(*bias)).collect();
    let mut results = vec![std::ptr::null_mut(); weights.len()];
    // SAFETY: both lists hold as many live (or null, for a bias) tensors as the call is told, and `results` has room
    // for one each.
    ffi::check(unsafe {
        let count = weights.len() as i64;
        reins_linears(xs.as_ptr(), matrices.as_ptr(), biases.as_ptr(), count, !is_on(), results.as_mut_ptr())
    })?;
    // SAFETY: each result is a new tensor that the call gave to us alone.
    Ok(results.into_iter().filter_map(|result| unsafe { ffi::take(result) }).collect())
}

fn pointer(tensor: Option<&Tensor>) -> *mut C_tensor {
    tensor.map_or(std::ptr::null_mut(), |tensor| tensor.as_ptr().cast_mut())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{F32_TOLERANCE, error, numbers};
    use super::*;
    use tch::Kind;

    fn plain(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        xs.to_kind(Kind::Double)
            .linear(&weight.to_kind(Kind::Double), bias.map(|bias| bias.to_kind(Kind::Double)).as_ref())
    }

    #[test]
    fn every_row_count_and_odd_shape_agrees_with_f64() {
        for (inputs, outputs) in
            [(576, 192), (64, 6), (1, 1), (15, 7), (16, 5), (17, 13), (63, 1), (130, 100), (4500, 20)]
        {
            let weight = numbers(&[outputs, inputs], 1, 1.0);
            let bias = numbers(&[outputs], 2, 1.0);
            for rows in [0, 1, 2, 3, 4, 5, 7, 8, 33, 129] {
                let xs = numbers(&[rows, inputs], 3, 1.0);
                for bias in [None, Some(&bias)] {
                    let error = error(&linear(&xs, &weight, bias).unwrap(), &plain(&xs, &weight, bias));
                    assert!(error < F32_TOLERANCE, "{rows} x {inputs} x {outputs}: {error}");
                }
            }
        }
    }

    #[test]
    fn a_row_has_the_same_bits_in_any_company_and_on_any_number_of_threads() {
        let most = linear_most_rows().unwrap().min(300);
        for (inputs, outputs) in [(200, 205), (4200, 31)] {
            let weight = numbers(&[outputs, inputs], 1, 1.0);
            let xs = numbers(&[most, inputs], 2, 1.0);
            let all = linear(&xs, &weight, None).unwrap();
            for rows in (1..40).chain([64, 127, 128, 255]).filter(|rows| *rows < most) {
                let first = most - rows;
                let some = linear(&xs.narrow(0, first, rows), &weight, None).unwrap();
                assert!(some.equal(&all.narrow(0, first, rows)), "{rows} rows");
            }
        }
        let weight = numbers(&[2050, 200], 1, 1.0);
        let xs = numbers(&[most, 200], 2, 1.0);
        let all = linear(&xs, &weight, None).unwrap();
        let threads = tch::get_num_threads();
        for count in [1, 2, 3] {
            tch::set_num_threads(count);
            assert!(linear(&xs, &weight, None).unwrap().equal(&all), "{count} threads");
        }
        tch::set_num_threads(threads);
    }

    #[test]
    fn several_projections_equal_each_alone() {
        let xs = numbers(&[5, 96], 1, 1.0);
        let (q, k, v) = (numbers(&[100, 96], 2, 1.0), numbers(&[33, 96], 3, 1.0), numbers(&[1, 96], 4, 1.0));
        let bias = numbers(&[33], 5, 1.0);
        let together = linears(&xs, &[(&q, None), (&k, Some(&bias)), (&v, None)]).unwrap();
        for (found, (weight, bias)) in together.iter().zip([(&q, None), (&k, Some(&bias)), (&v, None)]) {
            assert!(found.equal(&linear(&xs, weight, bias).unwrap()));
        }
        assert!(linears(&xs, &[]).unwrap().is_empty());
    }

    #[test]
    fn recorded_and_wide_products_are_libtorchs() {
        let xs = numbers(&[3, 8], 1, 1.0);
        let weight = numbers(&[4, 8], 2, 1.0).set_requires_grad(true);
        linear(&xs, &weight, None).unwrap().sum(Kind::Float).backward();
        assert!(
            error(&weight.grad(), &xs.sum_dim_intlist(0, false, Kind::Float).expand([4, 8], false)) < F32_TOLERANCE
        );
        let frozen = tch::no_grad(|| linear(&xs, &weight, None).unwrap());
        assert!(!frozen.requires_grad());
        let half = linear(&xs.to_kind(Kind::BFloat16), &weight.detach().to_kind(Kind::BFloat16), None).unwrap();
        assert_eq!(half.kind(), Kind::BFloat16);
        let transposed = numbers(&[8, 4], 3, 1.0).tr();
        assert!(error(&linear(&xs, &transposed, None).unwrap(), &plain(&xs, &transposed, None)) < F32_TOLERANCE);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let xs = numbers(&[3, 8], 1, 1.0);
        let weight = numbers(&[4, 8], 2, 1.0);
        for (xs, weight, bias) in [
            (&xs, &numbers(&[4, 7], 2, 1.0), None),
            (&xs, &numbers(&[8], 2, 1.0), None),
            (&numbers(&[8], 2, 1.0), &weight, None),
            (&xs, &weight, Some(numbers(&[3], 1, 1.0))),
            (&xs, &weight, Some(numbers(&[4, 1], 1, 1.0))),
            (&xs, &weight.to_kind(Kind::Double), None),
        ] {
            assert!(matches!(linear(xs, weight, bias.as_ref()), Err(crate::Error::Shim(_))));
        }
    }
}
