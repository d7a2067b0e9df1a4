//! An allocator that counts, for tests of what code may allocate.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The system's allocator, counting what each thread holds.
///
/// Made the global allocator of a test binary, it lets tests bound what a parser allocates on hostile input. Memory that
/// libtorch allocates on its own is not seen.
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: rl_torch::CountingAllocator = rl_torch::CountingAllocator;
///
/// let (length, peak) = rl_torch::CountingAllocator::peak_of(|| vec![0u8; 1000].len());
/// assert_eq!((length, peak), (1000, 1000));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct CountingAllocator;

thread_local! {
    // Constant and without destructors, so that reading them allocates nothing.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

impl CountingAllocator {
    /// Runs `work`; beside its result gives the most bytes that this thread held at once beyond what it held before.
    ///
    /// Zero unless a `CountingAllocator` is the global allocator. Calls do not nest.
    pub fn peak_of<T>(work: impl FnOnce() -> T) -> (T, usize) {
        let before = LIVE.get();
        PEAK.set(before);
        let result = work();
        (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
    }
}

/// Counts bytes that came or went. A thread that is ending counts no more.
fn count(bytes: isize) {
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every call goes unchanged to the system's allocator, whose results are returned unchanged; counting neither
// allocates nor panics, since a layout's size fits in `isize` and a thread never holds more than the address space.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is that of `System`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is that of `System`, and `pointer` came from it.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // Both may exist while the numbers are moved.
        count(new_size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is that of `System`, and `pointer` came from it.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}
