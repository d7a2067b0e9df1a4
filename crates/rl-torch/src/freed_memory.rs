//! What the system's allocator does with memory that tensors on the CPU give back.
//!
//! Deliberately absent: an allocator of our own; libtorch asks the C library for every tensor.

use std::sync::OnceLock;

/// Lets the process keep the memory of freed tensors for the next ones, instead of giving it back to the kernel and getting
/// it anew, page by page and zeroed. A training step frees and allocates the same gigabytes over and over: without this, a
/// seventh of a step of SmolLM2-135M on the CPU goes into page faults. The peak stays what it was; after it, the process
/// holds on to its memory, as with PyTorch's allocator on CUDA.
///
/// Holds for the whole process; call it before large tensors are made. Gives whether it is so: not where the C library is
/// another than glibc, nor when the environment sets glibc's allocator (`MALLOC_*`, `GLIBC_TUNABLES`), which wins.
pub fn keep_freed_memory() -> bool {
    static KEPT: OnceLock<bool> = OnceLock::new();
    *KEPT.get_or_init(|| !is_set_by_environment() && configure())
}

fn is_set_by_environment() -> bool {
    let of_allocator = |name: &str, value: &str| {
        name.starts_with("MALLOC_") || (name == "GLIBC_TUNABLES" && value.contains("glibc.malloc."))
    };
    std::env::vars_os().any(|(name, value)| of_allocator(&name.to_string_lossy(), &value.to_string_lossy()))
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn configure() -> bool {
    use std::ffi::c_int;

    unsafe extern "C" {
        fn mallopt(parameter: c_int, value: c_int) -> c_int;
    }
    // Of <malloc.h>.
    const M_TRIM_THRESHOLD: c_int = -1;
    const M_TOP_PAD: c_int = -2;
    const M_MMAP_MAX: c_int = -4;
    /// Free memory at the heap's end that is kept: as much as the call can say.
    const KEPT_BYTES: c_int = c_int::MAX;
    /// What the heap grows by beyond each request.
    const GROWTH_BYTES: c_int = 64 << 20;
    let settings = [(M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, GROWTH_BYTES), (M_MMAP_MAX, 0)];
    // SAFETY: takes and gives plain numbers; the allocator takes its own lock.
    settings.into_iter().all(|(parameter, value)| unsafe { mallopt(parameter, value) } == 1)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn configure() -> bool {
    false
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::*;

    /// Pages of this process that were filled so far without reading a file: the tenth number of `/proc/self/stat`.
    fn minor_faults() -> u64 {
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
        let after_name = stat.rsplit_once(')').unwrap().1;
        after_name.split_whitespace().nth(7).unwrap().parse().unwrap()
    }

    #[test]
    fn a_freed_tensor_s_pages_are_used_again() {
        // The test process has no such settings of its own, so this decides.
        if is_set_by_environment() {
            return;
        }
        assert!(keep_freed_memory());
        const BYTES: i64 = 256 << 20;
        const PAGE_BYTES: u64 = 4096;
        let fill = || drop(tch::Tensor::ones([BYTES], (tch::Kind::Uint8, tch::Device::Cpu)));
        fill();
        let before = minor_faults();
        (0..4).for_each(|_| fill());
        let faults = minor_faults() - before;
        // Given back and taken anew, each of the four would fault once per page.
        assert!(faults < BYTES as u64 / PAGE_BYTES, "{faults} page faults");
    }
}
