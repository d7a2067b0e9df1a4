//! One call over many tensors: norms, and updates in place. Nothing here is recorded for a backward pass.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{Error, Result, ffi};

/// How the squares of a norm are summed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accumulate {
    /// In f32 within a tensor, on the CPU within blocks of 65,536 elements, and in f64 over them, at the speed of memory.
    /// Relative error about `1e-7` on random numbers and below `1e-4` on equal ones (one f32 sum over 28 M random
    /// numbers: `8e-4`).
    F32,
    /// In f64 throughout; on the CPU about 30 times slower, with an f64 copy of the tensors along the way.
    F64,
}

/// L2 norm of each tensor of any shape, `[tensors]`; one device synchronisation. An empty tensor has norm 0.
///
/// # Errors
/// [`Error::Shim`] with libtorch's reason, as for integers or tensors on several devices.
pub fn norms(tensors: &[Tensor], accumulate: Accumulate) -> Result<Vec<f64>> {
    let mut norms = vec![0.0; tensors.len()];
    let list = ffi::pointers(tensors);
    let in_f64 = accumulate == Accumulate::F64;
    // SAFETY: the list holds as many live tensors as the call is told, and `norms` has room for one number each.
    ffi::check(unsafe { reins_foreach_norm(list.as_ptr(), list.len() as i64, in_f64, norms.as_mut_ptr()) })?;
    Ok(norms)
}

/// L2 norm over all elements of all tensors; see [`norms`].
///
/// # Errors
/// As [`norms`].
pub fn norm(tensors: &[Tensor], accumulate: Accumulate) -> Result<f64> {
    Ok(norms(tensors, accumulate)?.iter().map(|norm| norm * norm).sum::<f64>().sqrt())
}

/// Multiplies each tensor by `factor`, in place.
///
/// # Errors
/// [`Error::Shim`] with libtorch's reason.
pub fn scale(tensors: &[Tensor], factor: f64) -> Result<()> {
    if tensors.is_empty() {
        return Ok(()); // libtorch refuses an empty list
    }
    let list = ffi::pointers(tensors);
    // SAFETY: the list holds as many live tensors as the call is told.
    ffi::check(unsafe { reins_foreach_scale(list.as_ptr(), list.len() as i64, factor) })
}

/// Sets each tensor to zero, in place.
///
/// # Errors
/// [`Error::Shim`] with libtorch's reason.
pub fn zero(tensors: &[Tensor]) -> Result<()> {
    if tensors.is_empty() {
        return Ok(());
    }
    let list = ffi::pointers(tensors);
    // SAFETY: the list holds as many live tensors as the call is told.
    ffi::check(unsafe { reins_foreach_zero(list.as_ptr(), list.len() as i64) })
}

/// Copies `sources` into `targets`, pairwise of one shape; kinds and devices may differ.
///
/// # Errors
/// [`Error::Argument`] when the lists differ in length or a pair in shape; [`Error::Shim`] with libtorch's reason
/// otherwise.
pub fn copy(targets: &[Tensor], sources: &[Tensor]) -> Result<()> {
    check_pairs(targets, sources)?;
    if targets.is_empty() {
        return Ok(());
    }
    let (to, from) = (ffi::pointers(targets), ffi::pointers(sources));
    // SAFETY: both lists hold as many live tensors as the call is told.
    ffi::check(unsafe { reins_foreach_copy(to.as_ptr(), from.as_ptr(), to.len() as i64) })
}

/// Moves `targets` towards `sources`, pairwise of one shape and kind: `target += weight * (source - target)`. With
/// `weight = 1 - decay` an exponential moving average.
///
/// # Errors
/// As [`copy`].
pub fn lerp(targets: &[Tensor], sources: &[Tensor], weight: f64) -> Result<()> {
    check_pairs(targets, sources)?;
    if targets.is_empty() {
        return Ok(());
    }
    let (to, from) = (ffi::pointers(targets), ffi::pointers(sources));
    // SAFETY: both lists hold as many live tensors as the call is told.
    ffi::check(unsafe { reins_foreach_lerp(to.as_ptr(), from.as_ptr(), to.len() as i64, weight) })
}

fn check_pairs(targets: &[Tensor], sources: &[Tensor]) -> Result<()> {
    if targets.len() != sources.len() {
        let (value, reason) = (format!("{} tensors", sources.len()), format!("there are {} targets", targets.len()));
        return Err(Error::Argument { name: "sources", value, reason });
    }
    for (index, (target, source)) in targets.iter().zip(sources).enumerate() {
        if target.size() != source.size() {
            let reason = format!("target {index} is {:?}", target.size());
            return Err(Error::Argument { name: "sources", value: format!("{:?}", source.size()), reason });
        }
    }
    Ok(())
}

unsafe extern "C" {
    fn reins_foreach_norm(tensors: *const *mut C_tensor, count: i64, in_f64: bool, norms: *mut f64) -> *mut c_char;
    fn reins_foreach_scale(tensors: *const *mut C_tensor, count: i64, factor: f64) -> *mut c_char;
    fn reins_foreach_zero(tensors: *const *mut C_tensor, count: i64) -> *mut c_char;
    fn reins_foreach_copy(targets: *const *mut C_tensor, sources: *const *mut C_tensor, count: i64) -> *mut c_char;
    fn reins_foreach_lerp(
        targets: *const *mut C_tensor,
        sources: *const *mut C_tensor,
        count: i64,
        weight: f64,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::numbers;
    use tch::{Device, Kind};

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);
    const F32_TOLERANCE: f64 = 2e-6;
    const EQUAL_ELEMENTS_TOLERANCE: f64 = 1e-4;
    const F64_TOLERANCE: f64 = 1e-12;

    /// Several blocks, one element over; a view that is not contiguous; nothing; one number.
    fn mixed() -> Vec<Tensor> {
        let large = numbers(&[3 * 65_536 + 1], 1, 2e-3);
        vec![large, numbers(&[70, 1000], 2, 2.0).transpose(0, 1), Tensor::zeros([0], FLOAT), Tensor::from(-3.0_f32)]
    }

    #[test]
    fn norms_equal_those_of_the_f64_tensors() {
        let tensors = mixed();
        let expected: Vec<f64> = tensors
            .iter()
            .map(|t| t.to_kind(Kind::Double).square().sum(Kind::Double).sqrt().double_value(&[]))
            .collect();
        for (accumulate, tolerance) in [(Accumulate::F32, F32_TOLERANCE), (Accumulate::F64, F64_TOLERANCE)] {
            let found = norms(&tensors, accumulate).unwrap();
            for (found, expected) in found.iter().zip(&expected) {
                assert!((found - expected).abs() <= tolerance * expected, "{accumulate:?}: {found} {expected}");
            }
        }
        assert_eq!(
            norm(&[Tensor::from_slice(&[3.0_f32]), Tensor::from_slice(&[4.0_f32])], Accumulate::F32).unwrap(),
            5.0
        );
        assert_eq!(norm(&[], Accumulate::F64).unwrap(), 0.0);
    }

    /// A plain f32 sum over many equal elements rounds the same way each time and loses digits; blocks bound that.
    #[test]
    fn the_norm_of_a_long_tensor_keeps_its_digits() {
        let long = Tensor::full([1 << 23], 1e-3, FLOAT);
        let expected = f64::from(1e-3_f32) * f64::from(1 << 23).sqrt();
        let error = |found: f64| (found / expected - 1.0).abs();
        let blocked = error(norm(&[long.shallow_clone()], Accumulate::F32).unwrap());
        let plain = error(long.norm().double_value(&[]));
        assert!(blocked < EQUAL_ELEMENTS_TOLERANCE && blocked < 0.1 * plain, "{blocked} {plain}");
    }

    #[test]
    fn updates_in_place_equal_plain_operations_and_leave_no_graph() {
        let leaf = Tensor::from_slice(&[1.0_f32, -2.0]).set_requires_grad(true);
        let tensors = [leaf, Tensor::from_slice(&[4.0_f32])];
        let numbers = |tensors: &[Tensor]| -> Vec<f32> { Tensor::cat(tensors, 0).detach().try_into().unwrap() };
        scale(&tensors, 0.5).unwrap();
        assert_eq!(numbers(&tensors), [0.5, -1.0, 2.0]);
        let sources = [Tensor::from_slice(&[1.5_f32, 1.0]), Tensor::from_slice(&[6.0_f32])];
        lerp(&tensors, &sources, 0.25).unwrap();
        assert_eq!(numbers(&tensors), [0.75, -0.5, 3.0]);
        copy(&tensors, &[sources[0].to_kind(Kind::Double), sources[1].to_kind(Kind::Half)]).unwrap();
        assert_eq!(numbers(&tensors), [1.5, 1.0, 6.0]);
        zero(&tensors).unwrap();
        assert_eq!(numbers(&tensors), [0.0; 3]);
        assert!(tensors[0].is_leaf() && tensors[0].requires_grad());
        for empty in [scale(&[], 2.0), zero(&[]), copy(&[], &[]), lerp(&[], &[], 0.5)] {
            empty.unwrap();
        }
    }

    #[test]
    fn pairs_that_do_not_fit_are_refused() {
        let (one, two) = ([Tensor::zeros([1], FLOAT)], [Tensor::zeros([2], FLOAT)]);
        assert!(copy(&one, &[]).unwrap_err().to_string().contains("0 tensors"));
        assert!(lerp(&one, &two, 0.5).unwrap_err().to_string().contains("[2]"));
        let other_kind = [Tensor::zeros([1], (Kind::Double, Device::Cpu))];
        assert!(matches!(lerp(&one, &other_kind, 0.5), Err(Error::Shim(_))));
        assert!(matches!(norms(&[Tensor::from_slice(&[1_i64])], Accumulate::F32), Err(Error::Shim(_))));
    }
}
