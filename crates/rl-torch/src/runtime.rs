//! Devices and threads. CUDA is opened at run time, so one binary serves CPU and GPU.
//!
//! Choose the device before any other work: libtorch looks for accelerators once, at the first operation that asks, and
//! does not see a library that is opened later.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;

use tch::{Cuda, Device};

use crate::{Error, Result};

/// The device that a name means: `auto` (CUDA when it works, else the CPU), `cpu`, `cuda`, `cuda:N`.
///
/// # Errors
/// [`Error::UnknownDevice`] for any other name, [`Error::NoCuda`] when a CUDA device is named and there is none.
pub fn parse_device(name: &str) -> Result<Device> {
    let index = match name {
        "auto" => return Ok(default_device()),
        "cpu" => return Ok(Device::Cpu),
        "cuda" => 0,
        other => other
            .strip_prefix("cuda:")
            .and_then(|index| index.parse::<usize>().ok())
            .ok_or_else(|| Error::UnknownDevice(other.to_string()))?,
    };
    open_cuda().map_err(|reason| Error::NoCuda { device: name.to_string(), reason })?;
    let count = Cuda::device_count();
    if !Cuda::is_available() || count <= index as i64 {
        let reason = format!(
            "libtorch sees {count} CUDA devices; check the NVIDIA driver with nvidia-smi, and choose the device before any other work"
        );
        return Err(Error::NoCuda { device: name.to_string(), reason });
    }
    Ok(Device::Cuda(index))
}

/// The first CUDA device when libtorch has one, else the CPU.
pub fn default_device() -> Device {
    if open_cuda().is_ok() && Cuda::is_available() { Device::Cuda(0) } else { Device::Cpu }
}

/// One line about the devices libtorch can use, for reports.
pub fn describe_devices() -> String {
    match open_cuda() {
        Ok(()) => format!("cpu with {} threads, {} CUDA devices", tch::get_num_threads(), Cuda::device_count()),
        Err(reason) => format!("cpu with {} threads, no CUDA ({reason})", tch::get_num_threads()),
    }
}

/// Threads that one tensor operation may use, of which there is always one. Results on the CPU are reproducible for a fixed number of threads.
pub fn set_num_threads(num_threads: usize) {
    tch::set_num_threads(num_threads.max(1) as i32);
}

/// Opens `libtorch_cuda.so` once; its load registers the CUDA kernels with libtorch's dispatcher.
pub(crate) fn open_cuda() -> std::result::Result<(), String> {
    static OPENED: OnceLock<std::result::Result<(), String>> = OnceLock::new();
    OPENED.get_or_init(|| open_library("libtorch_cuda.so")).clone()
}

#[cfg(unix)]
fn open_library(name: &str) -> std::result::Result<(), String> {
    unsafe extern "C" {
        fn dlopen(file: *const c_char, mode: c_int) -> *mut c_void;
        fn dlerror() -> *mut c_char;
    }
    const RTLD_NOW: c_int = 2;
    const RTLD_GLOBAL: c_int = 0x100;
    let file = CString::new(name).map_err(|error| error.to_string())?;
    // SAFETY: `file` is a live C string; dlopen and dlerror are the C library's own, and the handle is kept for the life
    // of the process (never closed), as registered kernels must stay. The search uses this binary's run path.
    let handle = unsafe { dlopen(file.as_ptr(), RTLD_NOW | RTLD_GLOBAL) };
    if !handle.is_null() {
        return Ok(());
    }
    // SAFETY: after a failed dlopen, dlerror returns null or a C string that stays valid until the next dl call.
    let message = unsafe {
        let text = dlerror();
        if text.is_null() { "unknown reason".into() } else { CStr::from_ptr(text).to_string_lossy().into_owned() }
    };
    Err(format!("{message}; `cargo xtask setup --cuda` installs the CUDA parts"))
}

#[cfg(not(unix))]
fn open_library(name: &str) -> std::result::Result<(), String> {
    Err(format!("opening {name} at run time is supported on Unix only"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names() {
        assert_eq!(parse_device("cpu").unwrap(), Device::Cpu);
        for name in ["gpu", "cuda:", "cuda:x", "", "CPU"] {
            assert!(matches!(parse_device(name), Err(Error::UnknownDevice(_))), "{name}");
        }
    }

    #[test]
    fn a_missing_library_is_a_message_not_a_crash() {
        let message = open_library("libdoes_not_exist_anywhere.so").unwrap_err();
        assert!(message.contains("libdoes_not_exist_anywhere"), "{message}");
    }
}
