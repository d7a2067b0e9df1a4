//! The shim as Rust sees it: declarations, and how errors and tensors cross.

use std::ffi::{CStr, c_char, c_void};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{Error, Result};

/// Runs the backward closure at `closure`; see `csrc/autograd.cpp`.
pub(crate) type CallBackward = unsafe extern "C" fn(
    closure: *mut c_void,
    grads: *const *mut C_tensor,
    num_grads: i64,
    input_grads: *mut *mut C_tensor,
    num_inputs: i64,
) -> *mut c_char;
/// Frees the backward closure.
pub(crate) type DropBackward = unsafe extern "C" fn(closure: *mut c_void);

unsafe extern "C" {
    pub(crate) fn reins_free_text(text: *mut c_char);
    pub(crate) fn reins_grad_enabled() -> bool;
    pub(crate) fn reins_leaf_grad(leaf: *const C_tensor, result: *mut *mut C_tensor) -> *mut c_char;
    pub(crate) fn reins_with_backward(
        inputs: *const *mut C_tensor,
        num_inputs: i64,
        outputs: *const *mut C_tensor,
        num_outputs: i64,
        closure: *mut c_void,
        call: CallBackward,
        drop: DropBackward,
        results: *mut *mut C_tensor,
    ) -> *mut c_char;
    pub(crate) fn reins_backward(
        outputs: *const *mut C_tensor,
        grad_outputs: *const *mut C_tensor,
        num_outputs: i64,
        retain_graph: bool,
    ) -> *mut c_char;
    pub(crate) fn reins_grad(
        outputs: *const *mut C_tensor,
        grad_outputs: *const *mut C_tensor,
        num_outputs: i64,
        inputs: *const *mut C_tensor,
        num_inputs: i64,
        retain_graph: bool,
        results: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// The result of a shim call: null is success, anything else is the text of the failure.
pub(crate) fn check(failure: *mut c_char) -> Result<()> {
    if failure.is_null() {
        return Ok(());
    }
    // SAFETY: a non-null result of the shim is a C string of its own allocation that nobody else holds.
    let message = unsafe {
        let message = CStr::from_ptr(failure).to_string_lossy().into_owned();
        reins_free_text(failure);
        message
    };
    Err(Error::Shim(message))
}

/// Pointers of `tensors`, for the time of one call. The shim reads through them and keeps none.
pub(crate) fn pointers<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> Vec<*mut C_tensor> {
    tensors.into_iter().map(|tensor| tensor.as_ptr().cast_mut()).collect()
}

/// Takes over a tensor that the shim gave out; null is an undefined tensor.
///
/// # Safety
/// `pointer` is null or a tensor of the shim that nobody else owns.
pub(crate) unsafe fn take(pointer: *mut C_tensor) -> Option<Tensor> {
    // SAFETY: by this function's contract the tensor is ours alone.
    (!pointer.is_null()).then(|| unsafe { Tensor::from_ptr(pointer) })
}
