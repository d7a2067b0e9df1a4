//! Projections, straight from the checkpoint's `[out, in]` layout.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{Result, ffi};

unsafe extern "C" {
    fn reins_linears(
        xs: *const C_tensor,
        weights: *const *mut C_tensor,
        biases: *const *mut C_tensor,
        count: i64,
        results: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn reins_linear_most_rows(result: *mut i64) -> *mut c_char;
}

/// `xs weight^T + bias`: `xs` `[rows, in]`, `weight` `[out, in]`, `bias` `[out]`, result `[rows, out]`.
///
/// Up to [`linear_most_rows`] rows of f32 on the CPU run an own kernel; it sums each output in an order that depends on
/// `in` alone, so **a row's result has the same bits whatever the other rows and however many**. Everything else is
/// `at::linear`, where that does not hold. Which of the two does not depend on whether the call is recorded for a backward
/// pass: **a pass without gradients has the bits of one with them**.
///
/// The kernel's backward pass is libtorch's products. It adds to a weight's gradient in place where there is one already;
/// there are no second derivatives.
///
/// # Errors
/// [`crate::Error::Shim`] when shapes, kinds or devices do not fit.
pub fn linear(xs: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    super::produce(|result| {
        let (weights, biases) = ([pointer(Some(weight))], [pointer(bias)]);
        // SAFETY: lists of one live (or null, for the bias) tensor each, and room for one result.
        unsafe { reins_linears(xs.as_ptr(), weights.as_ptr(), biases.as_ptr(), 1, result) }
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
        reins_linears(xs.as_ptr(), matrices.as_ptr(), biases.as_ptr(), weights.len() as i64, results.as_mut_ptr())
    })?;
    // SAFETY: each result is a new tensor that the call gave to us alone.
    Ok(results.into_iter().filter_map(|result| unsafe { ffi::take(result) }).collect())
}

fn pointer(tensor: Option<&Tensor>) -> *mut C_tensor {
    tensor.map_or(std::ptr::null_mut(), |tensor| tensor.as_ptr().cast_mut())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{F32_TOLERANCE, check_gradients, error, numbers};
    use super::*;
    use crate::autograd::{backward, grad};
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
    fn recorded_products_have_the_bits_of_unrecorded_ones() {
        for rows in [1, 3, 31, 33, 300] {
            let xs = numbers(&[rows, 768], 1, 1.0);
            let weight = numbers(&[256, 768], 2, 1.0).set_requires_grad(true);
            let bias = numbers(&[256], 3, 1.0);
            for bias in [None, Some(&bias)] {
                let recorded = linear(&xs, &weight, bias).unwrap();
                let unrecorded = tch::no_grad(|| linear(&xs, &weight, bias).unwrap());
                assert!(recorded.requires_grad() && !unrecorded.requires_grad());
                assert!(recorded.detach().equal(&unrecorded), "{rows} rows");
            }
        }
    }

    #[test]
    fn gradients_are_those_of_the_product() {
        let inputs = [
            numbers(&[5, 12], 1, 1.0),
            numbers(&[7, 12], 2, 1.0),
            numbers(&[7], 3, 1.0),
            numbers(&[3, 12], 4, 1.0),
            numbers(&[2, 12], 5, 1.0),
            numbers(&[2], 6, 1.0),
        ];
        let run = |inputs: &[Tensor]| {
            let [xs, a, bias, b, c, other] = inputs else { panic!("six inputs") };
            Tensor::cat(&linears(xs, &[(a, Some(bias)), (b, None), (c, Some(other))]).unwrap(), 1)
        };
        let plain = |inputs: &[Tensor]| {
            let [xs, a, bias, b, c, other] = inputs else { panic!("six inputs") };
            let product = |weight: &Tensor| xs.matmul(&weight.tr());
            Tensor::cat(&[product(a) + bias, product(b), product(c) + other], 1)
        };
        for num_trained in [6, 3, 2, 1] {
            check_gradients(run, plain, &inputs, num_trained);
        }
        // The input frozen, as below the first layer.
        let trained = |tensor: &Tensor| tensor.copy().set_requires_grad(true);
        let (weight, bias) = (trained(&inputs[1]), trained(&inputs[2]));
        linear(&inputs[0], &weight, Some(&bias)).unwrap().sum(Kind::Float).backward();
        let expected = inputs[0].sum_dim_intlist(0, false, Kind::Float).expand([7, 12], false);
        assert!(error(&weight.grad(), &expected) < F32_TOLERANCE);
        assert!(bias.grad().equal(&Tensor::full([7], 5.0, (Kind::Float, tch::Device::Cpu))));
    }

    #[test]
    fn gradients_are_added_in_place_to_leaves_only() {
        let xs = numbers(&[5, 12], 1, 1.0);
        let weight = numbers(&[7, 12], 2, 1.0).set_requires_grad(true);
        let sum = || linear(&xs, &weight, None).unwrap().sum(Kind::Float);
        sum().backward();
        let (once, place) = (weight.grad().copy(), weight.grad().data_ptr());
        // A product that nobody uses, a graph kept for another pass, and a weight used twice.
        let unused = numbers(&[2, 12], 3, 1.0).set_requires_grad(true);
        let some = linears(&xs, &[(&weight, None), (&unused, None)]).unwrap();
        some[0].sum(Kind::Float).backward();
        assert!(error(&weight.grad(), &(&once * 2.0)) < F32_TOLERANCE);
        assert!(!unused.grad().defined());
        let kept = [sum()];
        let one = [Tensor::ones_like(&kept[0])];
        backward(&kept, &one, true).unwrap();
        backward(&kept, &one, false).unwrap();
        (sum() + sum()).backward();
        assert!(error(&weight.grad(), &(&once * 6.0)) < F32_TOLERANCE);
        assert_eq!(weight.grad().data_ptr(), place);
        // Gradients that are given out are not added, and a computed weight passes its own on.
        let given = grad(&[sum()], &[weight.shallow_clone()], &one, false).unwrap().remove(0).unwrap();
        assert!(error(&given, &once) < F32_TOLERANCE);
        assert!(error(&weight.grad(), &(&once * 6.0)) < F32_TOLERANCE);
        linear(&xs, &(&weight * 2.0), None).unwrap().sum(Kind::Float).backward();
        assert!(error(&weight.grad(), &(&once * 8.0)) < F32_TOLERANCE);
    }

    #[test]
    fn other_kinds_and_layouts_are_libtorchs() {
        let xs = numbers(&[3, 8], 1, 1.0);
        let weight = numbers(&[4, 8], 2, 1.0);
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
