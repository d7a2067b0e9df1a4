//! Attention of one new token per slot over a key/value cache.

use std::ffi::c_char;

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{Error, Result};

unsafe extern "C" {
    fn reins_cached_attention(
        q: *const C_tensor,
        keys: *const C_tensor,
        values: *const C_tensor,
        lengths: *const i64,
        num_lengths: i64,
        window: i64,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
}

/// Softmax attention of `q` `[slots, heads, head_dim]`, one new token per slot, over the first `lengths[slot]` tokens of
/// `keys` and `values` `[slots or more, kv_heads, capacity, head_dim]`; result `[slots, heads, head_dim]`.
///
/// Query head `h` reads key/value head `h / (heads / kv_heads)`; scores are divided by `sqrt(head_dim)`. The new token's
/// own key and value are already in the cache and counted in `lengths`. With a `window`, only its last `window` tokens
/// are seen. Nothing past a length is read, so it may hold anything. Nothing is recorded for a backward pass.
///
/// A slot's result does not depend on the other slots. The fused kernel serves f32 on the CPU with a `head_dim` that is
/// a multiple of 16.
///
/// # Errors
/// [`Error::Argument`] for a window that is not positive, [`Error::Shim`] when shapes or kinds do not fit or a length is
/// not in `1..=capacity`.
pub fn cached_attention(
    q: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    lengths: &[i64],
    window: Option<i64>,
) -> Result<Tensor> {
    if let Some(window) = window.filter(|window| *window < 1) {
        let (value, reason) = (window.to_string(), "must be positive".to_string());
        return Err(Error::Argument { name: "window", value, reason });
    }
    super::produce(|result| {
        let (count, window) = (lengths.len() as i64, window.unwrap_or(0));
        // SAFETY: three live tensors, a list of `count` lengths, and room for one result.
        unsafe {
            reins_cached_attention(q.as_ptr(), keys.as_ptr(), values.as_ptr(), lengths.as_ptr(), count, window, result)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{F32_TOLERANCE, error, numbers};
    use super::*;
    use tch::Kind;

    /// Slot by slot and head by head in f64.
    fn plain(q: &Tensor, keys: &Tensor, values: &Tensor, lengths: &[i64], window: Option<i64>) -> Tensor {
        let [q, keys, values] = [q, keys, values].map(|t| t.to_kind(Kind::Double));
        let (slots, heads, head_dim) = q.size3().unwrap();
        let shared = heads / keys.size()[1];
        let mut rows = Vec::new();
        for slot in 0..slots {
            for head in 0..heads {
                let length = lengths[slot as usize];
                let count = window.map_or(length, |window| window.min(length));
                let part = |cache: &Tensor| {
                    cache.get(slot).get(head / shared).narrow(0, length - count, count).shallow_clone()
                };
                let scores = part(&keys).matmul(&q.get(slot).get(head)) / (head_dim as f64).sqrt();
                rows.push(scores.softmax(0, Kind::Double).matmul(&part(&values)));
            }
        }
        Tensor::stack(&rows, 0).view([slots, heads, head_dim])
    }

    /// The numbers after each length become NaN, which must never be read.
    fn poison(cache: &Tensor, lengths: &[i64]) -> Tensor {
        let cache = cache.copy();
        let capacity = cache.size()[2];
        for (slot, &length) in lengths.iter().enumerate() {
            let _ = cache.get(slot as i64).narrow(1, length, capacity - length).fill_(f64::NAN);
        }
        cache
    }

    #[test]
    fn every_shape_agrees_with_f64() {
        let lengths = [1, 2, 3, 4, 5, 15, 16, 17, 100];
        for (heads, kv_heads, head_dim) in [(9, 3, 64), (4, 1, 64), (7, 1, 64), (2, 2, 64), (14, 2, 128), (6, 2, 32)] {
            let q = numbers(&[9, heads, head_dim], 1, 3.0);
            let keys = poison(&numbers(&[10, kv_heads, 101, head_dim], 2, 2.0), &lengths);
            let values = poison(&numbers(&[10, kv_heads, 101, head_dim], 3, 1.0), &lengths);
            for window in [None, Some(1), Some(7), Some(1000)] {
                let found = cached_attention(&q, &keys, &values, &lengths, window).unwrap();
                let error = error(&found, &plain(&q, &keys, &values, &lengths, window));
                assert!(error < F32_TOLERANCE, "{heads} heads of {head_dim}, window {window:?}: {error}");
            }
        }
    }

    #[test]
    fn other_kinds_and_layouts_run_the_plain_formula() {
        let lengths = [3, 20];
        let q = numbers(&[2, 4, 20], 1, 2.0);
        let keys = numbers(&[2, 2, 20, 20], 2, 2.0);
        let values = numbers(&[2, 2, 20, 20], 3, 1.0);
        let expected = plain(&q, &keys, &values, &lengths, Some(5));
        assert!(error(&cached_attention(&q, &keys, &values, &lengths, Some(5)).unwrap(), &expected) < F32_TOLERANCE);
        let double = [&q, &keys, &values].map(|t| t.to_kind(Kind::Double));
        let found = cached_attention(&double[0], &double[1], &double[2], &lengths, Some(5)).unwrap();
        assert!(error(&found, &expected) < 1e-14);
        let strided = [&keys, &values].map(|t| t.transpose(2, 3).contiguous().transpose(2, 3));
        let found = cached_attention(&q, &strided[0], &strided[1], &lengths, Some(5)).unwrap();
        assert!(error(&found, &expected) < F32_TOLERANCE);
    }

    #[test]
    fn a_slot_has_the_same_bits_in_any_company() {
        let lengths = [40, 7, 64];
        let q = numbers(&[3, 9, 64], 1, 2.0);
        let keys = numbers(&[3, 3, 64, 64], 2, 2.0);
        let values = numbers(&[3, 3, 64, 64], 3, 1.0);
        let all = cached_attention(&q, &keys, &values, &lengths, None).unwrap();
        for slot in 0..3 {
            let one = |t: &Tensor| t.narrow(0, slot, 1);
            let length = &lengths[slot as usize..slot as usize + 1];
            let alone = cached_attention(&one(&q), &one(&keys), &one(&values), length, None).unwrap();
            assert!(alone.equal(&one(&all)));
        }
    }

    #[test]
    fn hostile_lengths_and_misfits_are_refused() {
        let q = numbers(&[2, 4, 16], 1, 1.0);
        let cache = numbers(&[2, 2, 8, 16], 2, 1.0);
        for lengths in [&[1, 9][..], &[0, 1], &[-1, 1], &[i64::MIN, 1], &[i64::MAX, 1], &[1], &[1, 1, 1], &[]] {
            assert!(matches!(cached_attention(&q, &cache, &cache, lengths, None), Err(Error::Shim(_))), "{lengths:?}");
        }
        for window in [0, -1, i64::MIN] {
            assert!(matches!(cached_attention(&q, &cache, &cache, &[1, 1], Some(window)), Err(Error::Argument { .. })));
        }
        let refused = |q: &Tensor, keys: &Tensor, values: &Tensor| {
            let lengths = vec![1; q.size()[0] as usize];
            assert!(cached_attention(q, keys, values, &lengths, None).is_err());
        };
        refused(&numbers(&[3, 4, 16], 1, 1.0), &cache, &cache);
        refused(&numbers(&[2, 3, 16], 1, 1.0), &cache, &cache);
        refused(&numbers(&[2, 4, 8], 1, 1.0), &cache, &cache);
        refused(&q, &cache, &cache.narrow(2, 0, 4));
        refused(&q, &cache.to_kind(Kind::Double), &cache.to_kind(Kind::Double));
        refused(&q.view([2, 64]), &cache, &cache);
    }

    #[test]
    fn a_nan_in_the_filled_part_is_not_hidden() {
        let cache = numbers(&[1, 1, 8, 16], 2, 1.0);
        let keys = cache.copy();
        let _ = keys.get(0).get(0).get(2).get(3).fill_(f64::NAN);
        let out = cached_attention(&numbers(&[1, 1, 16], 1, 1.0), &keys, &cache, &[5], None).unwrap();
        assert_eq!(out.isnan().all().double_value(&[]), 1.0);
    }
}
