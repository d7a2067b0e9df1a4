//! Settings of libtorch that hold for the whole process: determinism, reduced precision, threads, attention kernels.
//!
//! Deliberately absent: seeds, since every draw of the workspace is counter-based and asks no generator of libtorch.

use std::ffi::c_char;

use serde::{Deserialize, Serialize};

use crate::{Error, Result, ffi};

/// What an operation does that gives different numbers from run to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Determinism {
    /// Runs.
    #[default]
    Off,
    /// Runs in its reproducible form where there is one, else warns and runs.
    Warn,
    /// Runs in its reproducible form where there is one, else fails. On CUDA, matrix products also need the environment
    /// variable `CUBLAS_WORKSPACE_CONFIG=:4096:8` from the start of the process; libtorch says so.
    On,
}

/// Kernels that `scaled_dot_product_attention` may choose from, where a device has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionKernels {
    /// Flash attention.
    pub flash: bool,
    /// Memory-efficient attention (CUDA).
    pub mem_efficient: bool,
    /// cuDNN's (CUDA).
    pub cudnn: bool,
    /// Plain matrix products, which hold all scores.
    pub math: bool,
}

impl Default for AttentionKernels {
    fn default() -> Self {
        AttentionKernels { flash: true, mem_efficient: true, cudnn: true, math: true }
    }
}

/// Settings for the whole process; the default is full precision and every kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeSettings {
    /// Whether operations must be reproducible. With `Warn` and `On`, cuDNN is held to reproducible algorithms too.
    pub determinism: Determinism,
    /// Whether f32 matrix products on CUDA may round their inputs to TF32 (10 bits of mantissa).
    pub tf32_matmul: bool,
    /// The same for cuDNN's convolutions and recurrent layers; libtorch's own default is true.
    pub tf32_cudnn: bool,
    /// Threads of one operation on the CPU; absent: left as they are. Results are reproducible for a fixed number.
    pub num_threads: Option<usize>,
    /// Kernels of attention.
    pub attention_kernels: AttentionKernels,
}

impl RuntimeSettings {
    /// Sets everything, for all threads. Not to be called while others compute.
    ///
    /// # Errors
    /// [`Error::Argument`] for 0 threads, more than an i32 counts, or no attention kernel at all; nothing is set then.
    /// [`Error::Shim`] if libtorch refuses.
    pub fn apply(&self) -> Result<()> {
        let refuse = |name, value: String, reason: &str| Err(Error::Argument { name, value, reason: reason.into() });
        let kernels = self.attention_kernels;
        if !(kernels.flash || kernels.mem_efficient || kernels.cudnn || kernels.math) {
            return refuse("attention_kernels", "all false".into(), "one kernel at least must stay");
        }
        let num_threads = match self.num_threads {
            None => None,
            Some(count) => match i32::try_from(count) {
                Ok(count) if 0 < count => Some(count),
                _ => return refuse("num_threads", count.to_string(), "1 to 2147483647 threads can be set"),
            },
        };
        let deterministic = self.determinism != Determinism::Off;
        let switches = Switches {
            deterministic,
            deterministic_warn_only: self.determinism == Determinism::Warn,
            tf32_matmul: self.tf32_matmul,
            tf32_cudnn: self.tf32_cudnn,
            cudnn_deterministic: deterministic,
            cudnn_benchmark: false,
            sdp_flash: kernels.flash,
            sdp_mem_efficient: kernels.mem_efficient,
            sdp_cudnn: kernels.cudnn,
            sdp_math: kernels.math,
        };
        // SAFETY: the call reads a struct laid out as the shim's and keeps nothing.
        ffi::check(unsafe { reins_set_switches(&switches) })?;
        if let Some(count) = num_threads {
            tch::set_num_threads(count);
        }
        Ok(())
    }

    /// What libtorch says is set now; `num_threads` is always given.
    ///
    /// # Errors
    /// [`Error::Shim`] if libtorch refuses.
    pub fn current() -> Result<Self> {
        let mut switches = Switches::default();
        // SAFETY: the call writes a struct laid out as the shim's.
        ffi::check(unsafe { reins_get_switches(&mut switches) })?;
        let determinism = match (switches.deterministic, switches.deterministic_warn_only) {
            (false, _) => Determinism::Off,
            (true, true) => Determinism::Warn,
            (true, false) => Determinism::On,
        };
        Ok(RuntimeSettings {
            determinism,
            tf32_matmul: switches.tf32_matmul,
            tf32_cudnn: switches.tf32_cudnn,
            num_threads: usize::try_from(tch::get_num_threads()).ok(),
            attention_kernels: AttentionKernels {
                flash: switches.sdp_flash,
                mem_efficient: switches.sdp_mem_efficient,
                cudnn: switches.sdp_cudnn,
                math: switches.sdp_math,
            },
        })
    }
}

/// `Switches` of `csrc/settings.cpp`.
#[repr(C)]
#[derive(Default)]
struct Switches {
    deterministic: bool,
    deterministic_warn_only: bool,
    tf32_matmul: bool,
    tf32_cudnn: bool,
    cudnn_deterministic: bool,
    cudnn_benchmark: bool,
    sdp_flash: bool,
    sdp_mem_efficient: bool,
    sdp_cudnn: bool,
    sdp_math: bool,
}

unsafe extern "C" {
    fn reins_set_switches(switches: *const Switches) -> *mut c_char;
    fn reins_get_switches(switches: *mut Switches) -> *mut c_char;
}
