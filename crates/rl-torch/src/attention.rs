//! Causal attention over sequences laid end to end without padding: each sees itself, and the one it continues.
//!
//! Deliberately absent: attention against a cache of earlier tokens, positions and projections.

mod rectangles;
mod sequences;

use std::ffi::c_char;

use tch::{Kind, Tensor};
use torch_sys::C_tensor;

use crate::{Error, Result, ffi};

pub use rectangles::AttentionCells;
pub use sequences::Sequences;

/// Largest head dimension of the CUDA flash kernel, and what it must be a multiple of.
const FLASH_HEAD_DIM: (i64, i64) = (256, 8);

/// Causal grouped-query attention inside each sequence, scaled by `1 / sqrt(head_dim)`, with a backward pass. A sequence
/// that continues another sees all of that one first; gradients of shared keys and values add up, in their own type.
///
/// `q` is `[tokens, heads, head_dim]`; `k` and `v` are `[tokens, kv_heads, head_dim]`, where query head `h` reads
/// key/value head `h / (heads / kv_heads)`; the result is `[tokens, heads, head_dim]`. With `window`, a token sees itself
/// and the `window - 1` tokens before it, in what its sequence continues too (Beltagy et al. 2020: <https://arxiv.org/abs/2004.05150>).
///
/// CUDA in half precision runs the variable-length flash kernel; CUDA in f32 the variable-length memory-efficient one,
/// unless the window is shorter than a sequence. All else, the CPU first, runs
/// `scaled_dot_product_attention` on rectangles of sequences of similar length: a shorter sequence is filled up on the
/// right, where under the causal mask its own tokens never look, so the result is exact.
///
/// # Errors
/// [`Error::Argument`] names a shape, kind, device or window that does not fit; [`Error::Torch`] and [`Error::Shim`]
/// carry libtorch's reason otherwise.
pub fn varlen_attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    sequences: &Sequences,
    window: Option<i64>,
) -> Result<Tensor> {
    check_arguments(q, k, v, sequences, window)?;
    if sequences.num_tokens() == 0 {
        return Ok(q.shallow_clone());
    }
    let (_, num_heads, head_dim) = q.size3()?;
    let window = window.filter(|&window| window < sequences.max_keys() as i64);
    let half = matches!(q.kind(), Kind::BFloat16 | Kind::Half);
    let (max_head_dim, multiple) = FLASH_HEAD_DIM;
    let flash = half && head_dim <= max_head_dim && head_dim % multiple == 0;
    let efficient = q.kind() == Kind::Float && window.is_none() && head_dim % 4 == 0;
    if q.device().is_cuda() && (flash || efficient) {
        let (k, v) = (sequences.keys_of(k)?, sequences.keys_of(v)?);
        if flash {
            return flash_attention(q, &k, &v, sequences, window);
        }
        return efficient_attention(q, &repeat_heads(&k, num_heads)?, &repeat_heads(&v, num_heads)?, sequences);
    }
    // Kernels of the CPU share a key/value head among its query heads by themselves; those of CUDA in f32 do not.
    if q.device().is_cuda() {
        let (k, v) = (repeat_heads(k, num_heads)?, repeat_heads(v, num_heads)?);
        return sequences.rectangles()?.attend(q, &k, &v, window);
    }
    sequences.rectangles()?.attend(q, k, v, window)
}

/// Repeats each key/value head for the query heads that share it.
fn repeat_heads(xs: &Tensor, num_heads: i64) -> Result<Tensor> {
    let (rows, kv_heads, head_dim) = xs.size3()?;
    if kv_heads == num_heads {
        return Ok(xs.shallow_clone());
    }
    let repeats = num_heads / kv_heads;
    let repeated = xs.f_unsqueeze(2)?.f_expand([rows, kv_heads, repeats, head_dim], false)?;
    Ok(repeated.f_reshape([rows, num_heads, head_dim])?)
}

fn flash_attention(q: &Tensor, k: &Tensor, v: &Tensor, sequences: &Sequences, window: Option<i64>) -> Result<Tensor> {
    let mut result = std::ptr::null_mut();
    // SAFETY: the tensors live through the call, which writes one new tensor into `result` on success.
    ffi::check(unsafe {
        reins_flash_attention(
            q.as_ptr(),
            k.as_ptr(),
            v.as_ptr(),
            sequences.cu_seqlens().as_ptr(),
            sequences.cu_seqlens_of_keys().as_ptr(),
            sequences.max_length() as i64,
            sequences.max_keys() as i64,
            window.unwrap_or(-1),
            &mut result,
        )
    })?;
    // SAFETY: a tensor that the call gave to us alone.
    unsafe { ffi::take(result) }.ok_or_else(|| Error::Shim("flash attention gave no tensor".into()))
}

fn efficient_attention(q: &Tensor, k: &Tensor, v: &Tensor, sequences: &Sequences) -> Result<Tensor> {
    let mut result = std::ptr::null_mut();
    // SAFETY: the tensors live through the call, which writes one new tensor into `result` on success.
    ffi::check(unsafe {
        reins_efficient_attention(
            q.as_ptr(),
            k.as_ptr(),
            v.as_ptr(),
            sequences.cu_seqlens().as_ptr(),
            sequences.cu_seqlens_of_keys().as_ptr(),
            sequences.max_length() as i64,
            sequences.max_keys() as i64,
            &mut result,
        )
    })?;
    // SAFETY: a tensor that the call gave to us alone.
    unsafe { ffi::take(result) }.ok_or_else(|| Error::Shim("efficient attention gave no tensor".into()))
}

fn check_arguments(q: &Tensor, k: &Tensor, v: &Tensor, sequences: &Sequences, window: Option<i64>) -> Result<()> {
    let refuse = |name, value: String, reason: String| Err(Error::Argument { name, value, reason });
    let (q_size, k_size) = (q.size(), k.size());
    let num_tokens = sequences.num_tokens() as i64;
    if q_size.len() != 3 || q_size[0] != num_tokens {
        return refuse("q", format!("{q_size:?}"), format!("[{num_tokens}, heads, head_dim] is needed"));
    }
    if k_size.len() != 3 || k_size[0] != num_tokens || k_size[2] != q_size[2] {
        return refuse("k", format!("{k_size:?}"), format!("[{num_tokens}, kv_heads, {}] is needed", q_size[2]));
    }
    if v.size() != k_size {
        return refuse("v", format!("{:?}", v.size()), format!("k is {k_size:?}"));
    }
    if k_size[1] == 0 || q_size[1] % k_size[1] != 0 {
        return refuse("k", format!("{k_size:?}"), format!("{} heads of q must be a multiple of kv_heads", q_size[1]));
    }
    let device = sequences.cu_seqlens().device();
    for (name, tensor) in [("q", q), ("k", k), ("v", v)] {
        if tensor.device() != device {
            return refuse(name, format!("on {:?}", tensor.device()), format!("the sequences are on {device:?}"));
        }
        if tensor.kind() != q.kind() {
            return refuse(name, format!("{:?}", tensor.kind()), format!("q is {:?}", q.kind()));
        }
    }
    match window {
        Some(window) if window < 1 => refuse("window", window.to_string(), "a token sees at least itself".into()),
        _ => Ok(()),
    }
}

unsafe extern "C" {
    fn reins_flash_attention(
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        cu_seqlens: *const C_tensor,
        cu_seqlens_of_keys: *const C_tensor,
        max_length: i64,
        max_keys: i64,
        window: i64,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn reins_efficient_attention(
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        cu_seqlens: *const C_tensor,
        cu_seqlens_of_keys: *const C_tensor,
        max_length: i64,
        max_keys: i64,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests;
