//! Memory: bytes of tensors allocated in a scope, an accelerator's allocator, and the peak of the whole process.
//!
//! Deliberately absent: limits and plans; those who plan read these numbers.

use std::ffi::c_void;
use std::marker::PhantomData;

use tch::Device;

use crate::{Result, ffi, runtime};

/// What a [`MemoryTracker`] saw.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryReport {
    /// Largest sum of bytes that were alive at one time, of blocks allocated since the start.
    pub peak_bytes: i64,
    /// Bytes of those blocks that are still alive.
    pub current_bytes: i64,
    /// Blocks allocated.
    pub num_allocations: i64,
}

/// Counts the bytes of tensors that this thread allocates from now on, on any device, until it is stopped or dropped.
///
/// The backward pass counts too: on the CPU libtorch runs it on the thread that asks for it, and it carries the tracker
/// to its own threads for other devices. What was allocated before counts neither when it is alive nor when it is
/// freed. Trackers nest; each sees what happens inside it. Not seen: scratch that a kernel's worker threads allocate by
/// themselves, memory that does not belong to tensors (thread stacks, buffers inside BLAS), and the freeing of a block
/// on a thread without the tracker (it stays in `current_bytes`). Each allocation takes a lock and a hash table entry:
/// a tool for tests and plans.
///
/// ```
/// use rl_torch::memory::MemoryTracker;
/// use tch::{Device, Kind, Tensor};
///
/// let tracker = MemoryTracker::start()?;
/// let kept = Tensor::zeros([256], (Kind::Float, Device::Cpu));
/// drop(Tensor::zeros([1024], (Kind::Float, Device::Cpu)));
/// let report = tracker.stop()?;
/// assert_eq!((report.peak_bytes, report.current_bytes), (4 * (256 + 1024), 4 * 256));
/// # drop(kept);
/// # Ok::<(), rl_torch::Error>(())
/// ```
#[derive(Debug)]
pub struct MemoryTracker {
    /// The shim's tracker; null once stopped.
    handle: *mut c_void,
    /// A tracker belongs to the thread that started it.
    not_send: PhantomData<*const ()>,
}

impl MemoryTracker {
    /// Starts counting on this thread.
    ///
    /// # Errors
    /// [`crate::Error::Shim`] if libtorch refuses.
    pub fn start() -> Result<Self> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: on success the call writes a tracker that is ours to stop once; a failure writes nothing.
        ffi::check(unsafe { reins_memory_tracker_start(&mut handle) })?;
        Ok(MemoryTracker { handle, not_send: PhantomData })
    }

    /// The numbers so far.
    pub fn report(&self) -> MemoryReport {
        let mut report = MemoryReport::default();
        // SAFETY: the handle is live until `stop` or `drop`, which take `self`; the report is laid out as the shim's.
        unsafe { reins_memory_tracker_report(self.handle, &mut report) };
        report
    }

    /// Stops counting.
    ///
    /// # Errors
    /// [`crate::Error::Shim`] if libtorch refuses.
    pub fn stop(mut self) -> Result<MemoryReport> {
        let mut report = MemoryReport::default();
        let handle = std::mem::replace(&mut self.handle, std::ptr::null_mut());
        // SAFETY: the handle is live and, now null in `self`, is never used again; `self` cannot have left its thread.
        ffi::check(unsafe { reins_memory_tracker_stop(handle, &mut report) })?;
        Ok(report)
    }
}

impl Drop for MemoryTracker {
    fn drop(&mut self) {
        if !self.handle.is_null() {
            let mut report = MemoryReport::default();
            // SAFETY: as in `stop`. A failure has no one to be told to; its text is freed by `check`.
            let _ = ffi::check(unsafe { reins_memory_tracker_stop(self.handle, &mut report) });
        }
    }
}

/// Statistics of the caching allocator of one accelerator, over the whole process.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AcceleratorMemory {
    /// Bytes of live tensors.
    pub allocated_bytes: i64,
    /// Largest `allocated_bytes` since the start or [`reset_accelerator_peak`].
    pub peak_allocated_bytes: i64,
    /// Bytes taken from the device, in use or kept for later.
    pub reserved_bytes: i64,
    /// Largest `reserved_bytes` since the start or [`reset_accelerator_peak`].
    pub peak_reserved_bytes: i64,
    /// Allocations that first had to give kept memory back to the device: a sign of a nearly full device.
    pub num_alloc_retries: i64,
    /// Allocations that failed.
    pub num_out_of_memory: i64,
}

/// Allocator statistics of `device`; `None` for the CPU and when libtorch has no accelerator.
///
/// # Errors
/// [`crate::Error::Shim`] with libtorch's reason, as for an index that the machine lacks.
pub fn accelerator_memory(device: Device) -> Result<Option<AcceleratorMemory>> {
    let Some(index) = accelerator_index(device) else { return Ok(None) };
    let mut memory = AcceleratorMemory::default();
    // SAFETY: the call writes plain numbers into a struct laid out as the shim's.
    ffi::check(unsafe { reins_accelerator_memory(index, &mut memory) })?;
    Ok(Some(memory))
}

/// Sets the peaks of `device` to the current numbers; `false` where there is nothing to set.
///
/// # Errors
/// As [`accelerator_memory`].
pub fn reset_accelerator_peak(device: Device) -> Result<bool> {
    let Some(index) = accelerator_index(device) else { return Ok(false) };
    // SAFETY: takes a number only.
    ffi::check(unsafe { reins_reset_accelerator_peak(index) })?;
    Ok(true)
}

/// Gives memory that the accelerator's allocator keeps for later back to the device; `false` where there is none.
///
/// # Errors
/// [`crate::Error::Shim`] with libtorch's reason.
pub fn release_accelerator_cache() -> Result<bool> {
    if !has_accelerator() {
        return Ok(false);
    }
    // SAFETY: takes nothing; libtorch's allocator has locks of its own.
    ffi::check(unsafe { reins_release_accelerator_cache() })?;
    Ok(true)
}

/// Largest resident memory of this process so far, in bytes: `VmHWM` of `/proc/self/status`; `None` where the system
/// does not say.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

fn accelerator_index(device: Device) -> Option<i32> {
    let index = match device {
        Device::Cuda(index) => i32::try_from(index).ok()?,
        Device::Mps | Device::Vulkan | Device::Cpu => return None,
    };
    has_accelerator().then_some(index)
}

fn has_accelerator() -> bool {
    // SAFETY: takes nothing and gives a flag.
    runtime::open_cuda().is_ok() && unsafe { reins_has_accelerator() }
}

unsafe extern "C" {
    fn reins_memory_tracker_start(tracker: *mut *mut c_void) -> *mut std::ffi::c_char;
    fn reins_memory_tracker_report(tracker: *mut c_void, report: *mut MemoryReport);
    fn reins_memory_tracker_stop(tracker: *mut c_void, report: *mut MemoryReport) -> *mut std::ffi::c_char;
    fn reins_has_accelerator() -> bool;
    fn reins_accelerator_memory(device: i32, memory: *mut AcceleratorMemory) -> *mut std::ffi::c_char;
    fn reins_reset_accelerator_peak(device: i32) -> *mut std::ffi::c_char;
    fn reins_release_accelerator_cache() -> *mut std::ffi::c_char;
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Kind, Tensor};

    const FLOAT: (Kind, Device) = (Kind::Float, Device::Cpu);
    const KIB: i64 = 1024;

    #[test]
    fn peak_and_current_are_the_sums_of_the_tensors_sizes() {
        let before = Tensor::zeros([512 * KIB], FLOAT); // not counted
        let tracker = MemoryTracker::start().unwrap();
        let a = Tensor::zeros([KIB], FLOAT);
        let b = Tensor::zeros([2 * KIB], (Kind::Double, Device::Cpu));
        assert_eq!(
            tracker.report(),
            MemoryReport { peak_bytes: 20 * KIB, current_bytes: 20 * KIB, num_allocations: 2 }
        );
        drop(b);
        drop(before);
        let c = Tensor::zeros([3 * KIB], (Kind::Int8, Device::Cpu));
        let report = tracker.stop().unwrap();
        assert_eq!(report, MemoryReport { peak_bytes: 20 * KIB, current_bytes: 7 * KIB, num_allocations: 3 });
        drop((a, c));
    }

    /// `square` keeps its input; its backward makes `2 x` and the product with the upstream gradient.
    #[test]
    fn the_backward_pass_is_seen() {
        let x = Tensor::ones([KIB], FLOAT).set_requires_grad(true);
        let loss = x.square().sum(Kind::Float);
        let tracker = MemoryTracker::start().unwrap();
        loss.backward();
        let report = tracker.stop().unwrap();
        assert!(4 * KIB <= report.current_bytes, "the gradient itself: {report:?}");
        assert!(8 * KIB <= report.peak_bytes, "and an intermediate: {report:?}");
        assert_eq!(x.grad().size(), [KIB]);
    }

    #[test]
    fn trackers_nest_and_may_end_in_any_order() {
        let outer = MemoryTracker::start().unwrap();
        let a = Tensor::zeros([KIB], FLOAT);
        let inner = MemoryTracker::start().unwrap();
        let b = Tensor::zeros([2 * KIB], FLOAT);
        assert_eq!(inner.report().peak_bytes, 8 * KIB);
        assert_eq!(outer.stop().unwrap().peak_bytes, 12 * KIB);
        let c = Tensor::zeros([4 * KIB], FLOAT);
        assert_eq!(inner.stop().unwrap().peak_bytes, 24 * KIB);
        let after = MemoryTracker::start().unwrap();
        drop((a, b, c));
        assert_eq!(after.stop().unwrap(), MemoryReport::default());
    }

    #[test]
    fn another_thread_and_a_dropped_tracker_count_nothing() {
        let tracker = MemoryTracker::start().unwrap();
        std::thread::spawn(|| drop(Tensor::zeros([KIB], FLOAT))).join().unwrap();
        assert_eq!(tracker.report(), MemoryReport::default());
        drop(tracker);
        let second = MemoryTracker::start().unwrap();
        assert_eq!(second.stop().unwrap(), MemoryReport::default());
    }

    #[test]
    fn the_peak_of_the_process_grows_with_a_touched_block() {
        const SIZE: i64 = 64 * KIB * KIB;
        let Some(before) = peak_resident_bytes() else { return };
        let block = Tensor::ones([SIZE], (Kind::Int8, Device::Cpu));
        let after = peak_resident_bytes().unwrap();
        assert!(SIZE as u64 <= after && before <= after, "{before} {after}");
        drop(block);
    }

    #[test]
    fn without_an_accelerator_there_are_no_statistics() {
        assert_eq!(accelerator_memory(Device::Cpu).unwrap(), None);
        assert!(!reset_accelerator_peak(Device::Cpu).unwrap());
        if !has_accelerator() {
            assert_eq!(accelerator_memory(Device::Cuda(0)).unwrap(), None);
            assert!(!release_accelerator_cache().unwrap());
        }
    }
}
