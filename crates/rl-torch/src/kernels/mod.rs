//! Fused kernels of the decoder: projections, normalisation, gated activation, rotation, and attention over
//! a cache, each in one pass over its numbers.
//!
//! On the CPU in f32 they run the shim's own code, chosen for the processor when the process starts (AVX-512, AVX2, or
//! portable); every other kind and device runs the same formula as ATen operations. Where a backward pass is promised it
//! is written by hand and saves little; there are no second derivatives of the fused ones.
//!
//! No result depends on the number of threads. A row's result depends on the other rows only where [`linear`] says so.
//! Deliberately absent: copies of weights in another layout, which would go stale when training writes to them.

mod attention;
mod linear;
mod rms_norm;
mod rotary;
mod swiglu;

use std::ffi::{CStr, c_char};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{Error, Result, ffi};

pub use attention::cached_attention;
pub use linear::{linear, linear_most_rows, linears};
pub use rms_norm::rms_norm;
pub use rotary::rotary;
pub use swiglu::swiglu;

/// The instruction set that the kernels use in this process: `AVX-512`, `AVX2` or `portable`. It is the newest that the
/// processor has, or the one that the environment variable `REINS_KERNELS` names: an older one gives the same bits on
/// every machine that has it.
///
/// # Errors
/// [`Error::Shim`] when `REINS_KERNELS` names one that this processor does not have; so does every kernel then.
pub fn instruction_set() -> Result<&'static str> {
    let mut name = std::ptr::null();
    // SAFETY: room for one pointer, which the shim points to a C string constant.
    let name = unsafe {
        ffi::check(reins_kernels_name(&mut name))?;
        CStr::from_ptr(name)
    };
    Ok(name.to_str().unwrap_or("unknown"))
}

unsafe extern "C" {
    fn reins_kernels_name(result: *mut *const c_char) -> *mut c_char;
}

/// Runs a shim function that gives out one tensor.
fn produce(call: impl FnOnce(*mut *mut C_tensor) -> *mut c_char) -> Result<Tensor> {
    let mut result = std::ptr::null_mut();
    ffi::check(call(&mut result))?;
    // SAFETY: after success the shim has given out a new tensor that is ours alone.
    unsafe { ffi::take(result) }.ok_or_else(|| Error::Shim("a kernel gave out no tensor".into()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use tch::{Device, Kind};

    /// Differences between a kernel and the same formula over ATen in f32, relative to numbers around 1.
    pub(super) const F32_TOLERANCE: f64 = 2e-6;
    /// Relative error of an f32 result against f64.
    pub(super) const F64_TOLERANCE: f64 = 1e-6;
    /// Central differences in f64 with a step of 1e-5.
    pub(super) const FINITE_DIFFERENCE_TOLERANCE: f64 = 1e-7;

    /// Numbers between -`scale` and `scale` that look random and are the same everywhere.
    pub(crate) fn numbers(shape: &[i64], seed: u64, scale: f64) -> Tensor {
        let count: i64 = shape.iter().product();
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let values: Vec<f32> = (0..count)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (((state >> 11) as f64 / (1_u64 << 53) as f64 * 2.0 - 1.0) * scale) as f32
            })
            .collect();
        Tensor::from_slice(&values).view(shape)
    }

    /// Largest `|found - expected|` over the largest `|expected|`, in f64; shapes must agree.
    pub(super) fn error(found: &Tensor, expected: &Tensor) -> f64 {
        assert_eq!(found.size(), expected.size());
        if expected.numel() == 0 {
            return 0.0;
        }
        let (found, expected) = (found.to_kind(Kind::Double), expected.to_kind(Kind::Double));
        ((&found - &expected).abs().max().double_value(&[])) / expected.abs().max().double_value(&[]).max(1e-30)
    }

    /// Checks the gradients of `function` at `inputs` (f32) against those of `plain`, and those of `function` in f64
    /// against central differences.
    pub(super) fn check_gradients(
        function: impl Fn(&[Tensor]) -> Tensor,
        plain: impl Fn(&[Tensor]) -> Tensor,
        inputs: &[Tensor],
        num_trained: usize,
    ) {
        let gradients = |function: &dyn Fn(&[Tensor]) -> Tensor, kind: Kind| -> Vec<Tensor> {
            let leaves: Vec<Tensor> = inputs
                .iter()
                .enumerate()
                .map(|(i, t)| t.to_kind(kind).copy().detach().set_requires_grad(i < num_trained))
                .collect();
            let out = function(&leaves);
            let upstream = numbers(&out.size(), 99, 1.0).to_kind(kind);
            (out * upstream).sum(kind).backward();
            leaves[..num_trained].iter().map(Tensor::grad).collect()
        };
        for (i, (found, expected)) in
            gradients(&function, Kind::Float).iter().zip(gradients(&plain, Kind::Double)).enumerate()
        {
            let error = error(found, &expected);
            assert!(error < F32_TOLERANCE, "input {i}: {error}");
        }
        let analytic = gradients(&function, Kind::Double);
        let step = 1e-5;
        for (i, gradient) in analytic.iter().enumerate() {
            for at in (0..inputs[i].numel() as i64).step_by(7) {
                let value = |sign: f64| {
                    let moved: Vec<Tensor> = inputs.iter().map(|t| t.to_kind(Kind::Double).copy()).collect();
                    let _ = moved[i].view([-1]).get(at).g_add_scalar_(sign * step);
                    let out = function(&moved);
                    (&out * numbers(&out.size(), 99, 1.0)).sum(Kind::Double).double_value(&[])
                };
                let expected = (value(1.0) - value(-1.0)) / (2.0 * step);
                let found = gradient.view([-1]).double_value(&[at]);
                assert!(
                    (found - expected).abs() < FINITE_DIFFERENCE_TOLERANCE,
                    "input {i} at {at}: {found} {expected}"
                );
            }
        }
    }

    #[test]
    fn the_exponential_is_accurate_over_its_whole_range() {
        unsafe extern "C" {
            fn reins_kernel_exp(xs: *const C_tensor, result: *mut *mut C_tensor) -> *mut c_char;
        }
        let xs = Tensor::linspace(-87.3, 88.7, 1_000_003, (Kind::Float, Device::Cpu));
        // SAFETY: one live tensor and room for one result.
        let run = |xs: &Tensor| produce(|result| unsafe { reins_kernel_exp(xs.as_ptr(), result) }).unwrap();
        let expected = xs.to_kind(Kind::Double).exp();
        let error = ((run(&xs).to_kind(Kind::Double) - &expected) / &expected).abs().max().double_value(&[]);
        assert!(error < F64_TOLERANCE / 4.0, "{error}");
        let edges = Tensor::from_slice(&[0.0_f32, -0.0, f32::NEG_INFINITY, -200.0, 89.0, f32::INFINITY, f32::NAN]);
        let edges = Vec::<f32>::try_from(run(&edges)).unwrap();
        assert_eq!(edges[..6], [1.0, 1.0, 0.0, 0.0, f32::INFINITY, f32::INFINITY]);
        assert!(edges[6].is_nan());
        // Subnormal results lose bits, not their size.
        let small = Vec::<f32>::try_from(run(&Tensor::from_slice(&[-100.0_f32]))).unwrap();
        assert!((f64::from(small[0]) - (-100.0_f64).exp()).abs() < 1e-45);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn one_openmp_runtime_is_loaded() {
        let _ = linear(&numbers(&[8, 576], 1, 1.0), &numbers(&[3072, 576], 2, 1.0), None).unwrap();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let runtimes: std::collections::BTreeSet<&str> = maps
            .lines()
            .filter_map(|line| line.split_whitespace().nth(5))
            .filter(|path| ["libgomp", "libomp", "libiomp"].iter().any(|name| path.contains(name)))
            .collect();
        assert_eq!(runtimes.len(), 1, "{runtimes:?}");
    }

    /// This test binary again, with `REINS_KERNELS` set, on the tests whose names hold `filter`.
    fn rerun(instruction_set: &str, filter: &str) -> std::process::Output {
        let mut command = std::process::Command::new(std::env::current_exe().unwrap());
        command.args([filter, "--skip", "older_instruction_sets"]).env("REINS_KERNELS", instruction_set);
        command.output().unwrap()
    }

    #[test]
    fn older_instruction_sets_pass_the_same_tests() {
        let sets = ["portable", "AVX2", "AVX-512"];
        let newest = sets.iter().position(|name| *name == instruction_set().unwrap()).unwrap();
        for name in &sets[..newest] {
            let output = rerun(name, "kernels::");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains("26 passed"), "{name}: {text}");
        }
        let refused = rerun("AVX-1024", "kernels::swiglu::");
        let text = String::from_utf8_lossy(&refused.stdout);
        assert!(!refused.status.success() && text.contains("this processor has portable"), "{text}");
    }
}
