//! What the system's allocator does with memory that tensors on the CPU give back.
//!
//! Deliberately absent: an allocator of our own; libtorch asks the C library for every tensor.

use std::sync::OnceLock;

/// Lets the process keep the memory of freed tensors for the next ones, instead of giving it back to the kernel and getting it
/// anew, page by page and zeroed. A training step frees and allocates the same gigabytes over and over; without this, about a
/// twentieth of the processor's time in a step of SmolLM2-135M goes into that. Blocks above 32 MiB go back to the kernel as ever:
/// kept, glibc would leave up to seven of each size unused beside the one in use.
///
/// Holds for the whole process; call it before large tensors are made. Gives whether it is so: not where the C library is
/// another than glibc, nor when the environment sets glibc's allocator (`MALLOC_*`, `GLIBC_TUNABLES`), which wins.
///
/// ```standalone_crate
/// # // A program of its own: tests run on other threads than a program's first, with other parts of the heap.
/// # fn minor_faults() -> Option<u64> {
/// #     let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
/// #     stat.rsplit_once(')')?.1.split_whitespace().nth(7)?.parse().ok()
/// # }
/// let is_kept = rl_torch::keep_freed_memory();
/// let step = || drop(tch::Tensor::ones([16 << 20], (tch::Kind::Uint8, tch::Device::Cpu)));
/// (0..20).for_each(|_| step());
/// # let before = minor_faults();
/// (0..10).for_each(|_| step()); // take no new pages
/// # if let (true, Some(before), Some(after)) = (is_kept, before, minor_faults()) {
/// #     let faults = after - before;
/// #     assert!(faults < 1000, "{faults} page faults for 40960 pages");
/// # }
/// ```
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
    const M_MMAP_THRESHOLD: c_int = -3;
    /// Free memory at the heap's end that is kept: as much as the call can say.
    const KEPT_BYTES: c_int = c_int::MAX;
    /// What the heap grows by beyond each request.
    const GROWTH_BYTES: c_int = 64 << 20;
    /// The most that glibc takes: blocks from here on come from the kernel, each by itself.
    const OWN_BLOCK_BYTES: c_int = 32 << 20;
    let settings = [(M_TRIM_THRESHOLD, KEPT_BYTES), (M_TOP_PAD, GROWTH_BYTES), (M_MMAP_THRESHOLD, OWN_BLOCK_BYTES)];
    // SAFETY: takes and gives plain numbers; the allocator takes its own lock.
    settings.into_iter().all(|(parameter, value)| unsafe { mallopt(parameter, value) } == 1)
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn configure() -> bool {
    false
}
