//! Causal attention over sequences laid end to end without padding: each sees itself alone.
//!
//! Deliberately absent: attention against a cache of earlier tokens, positions and projections.

use std::cell::OnceCell;
use std::ffi::c_char;

use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::{Error, Result, ffi};

/// Sequences shorter than this share of the longest in their rectangle start a rectangle of their own; the waste inside
/// one rectangle stays small while the number of attention calls does too.
const MIN_LENGTH_SHARE: f64 = 0.8;

/// Largest head dimension of the CUDA flash kernel, and what it must be a multiple of.
const FLASH_HEAD_DIM: (i64, i64) = (256, 8);

/// Where each of several sequences laid end to end begins, and the plans by which attention keeps them apart. Made once
/// per batch, used by every layer.
#[derive(Debug)]
pub struct Sequences {
    boundaries: Vec<usize>,
    max_length: usize,
    cu_seqlens: Tensor,
    /// Made at once on the CPU and at the first use elsewhere, since the kernels of CUDA devices do without.
    rectangles: OnceCell<Rectangles>,
}

impl Sequences {
    /// Sequences of at least one token each; `boundaries` `[sequences + 1]` holds the start of each, then the total.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the boundaries begin with 0, rise, and fit int32.
    pub fn new(boundaries: &[usize], device: Device) -> Result<Self> {
        let refuse = |value: String, reason: &str| Error::Argument { name: "boundaries", value, reason: reason.into() };
        if boundaries.first() != Some(&0) {
            return Err(refuse(format!("{:?}", boundaries.first()), "the first must be 0"));
        }
        if let Some(pair) = boundaries.windows(2).find(|pair| pair[1] <= pair[0]) {
            return Err(refuse(format!("{} then {}", pair[0], pair[1]), "every sequence needs a token"));
        }
        let as_int32 = |&boundary: &usize| i32::try_from(boundary);
        let starts = boundaries.iter().map(as_int32).collect::<std::result::Result<Vec<i32>, _>>();
        let starts =
            starts.map_err(|_| refuse(format!("{:?}", boundaries.last()), "the limit is 2147483647 tokens"))?;
        let sequences = Sequences {
            boundaries: boundaries.to_vec(),
            max_length: boundaries.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0),
            cu_seqlens: Tensor::f_from_slice(&starts)?.f_to_device(device)?,
            rectangles: OnceCell::new(),
        };
        if device == Device::Cpu {
            sequences.rectangles()?;
        }
        Ok(sequences)
    }

    /// The same plans, shared.
    pub fn shallow_clone(&self) -> Self {
        let rectangles = OnceCell::new();
        if let Some(made) = self.rectangles.get() {
            let _ = rectangles.set(made.shallow_clone()); // a new cell is empty
        }
        let (boundaries, cu_seqlens) = (self.boundaries.clone(), self.cu_seqlens.shallow_clone());
        Sequences { boundaries, cu_seqlens, rectangles, max_length: self.max_length }
    }

    /// Start of each sequence, then the total, `[sequences + 1]`.
    pub fn boundaries(&self) -> &[usize] {
        &self.boundaries
    }

    /// Tokens over all sequences.
    pub fn num_tokens(&self) -> usize {
        self.boundaries[self.boundaries.len() - 1]
    }

    /// Tokens of the longest sequence; 0 without sequences.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// The boundaries on the device, `[sequences + 1]`, int32.
    pub fn cu_seqlens(&self) -> &Tensor {
        &self.cu_seqlens
    }

    fn rectangles(&self) -> Result<&Rectangles> {
        if self.rectangles.get().is_none() {
            let made = Rectangles::new(&self.boundaries, self.cu_seqlens.device())?;
            let _ = self.rectangles.set(made); // empty, as just seen, and not shared between threads
        }
        self.rectangles.get().ok_or_else(|| Error::Shim("the attention plan was not kept".into()))
    }
}

/// Causal grouped-query attention inside each sequence, scaled by `1 / sqrt(head_dim)`, with a backward pass.
///
/// `q` is `[tokens, heads, head_dim]`; `k` and `v` are `[tokens, kv_heads, head_dim]`, where query head `h` reads
/// key/value head `h / (heads / kv_heads)`; the result is `[tokens, heads, head_dim]`. With `window`, a token sees itself
/// and the `window - 1` tokens before it (Beltagy et al. 2020: <https://arxiv.org/abs/2004.05150>).
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
    let window = window.filter(|&window| window < sequences.max_length as i64);
    let half = matches!(q.kind(), Kind::BFloat16 | Kind::Half);
    let (max_head_dim, multiple) = FLASH_HEAD_DIM;
    if q.device().is_cuda() && half && head_dim <= max_head_dim && head_dim % multiple == 0 {
        return flash_attention(q, k, v, sequences, window);
    }
    if q.device().is_cuda() && q.kind() == Kind::Float && window.is_none() && head_dim % 4 == 0 {
        return efficient_attention(q, &repeat_heads(k, num_heads)?, &repeat_heads(v, num_heads)?, sequences);
    }
    let rectangles = sequences.rectangles()?;
    let attend = |rectangle| attend_rectangle(rectangle, q, k, v, window);
    let outputs = rectangles.list.iter().map(attend).collect::<Result<Vec<_>>>()?;
    match &rectangles.restore {
        Some(restore) => Ok(Tensor::f_cat(&outputs, 0)?.f_index_select(0, restore)?),
        None => Ok(outputs[0].shallow_clone()),
    }
}

/// How rows are regrouped into rectangles of similar lengths.
#[derive(Debug)]
struct Rectangles {
    list: Vec<Rectangle>,
    /// Row of the concatenated outputs that holds each token, `[tokens]`; `None` when already in order.
    restore: Option<Tensor>,
}

/// Sequences of similar length.
#[derive(Debug)]
struct Rectangle {
    num_sequences: i64,
    length: i64,
    /// Token of each cell, `[num_sequences * length]`; `None` when the rectangle is the input itself.
    gather: Option<Tensor>,
}

impl Rectangles {
    fn new(boundaries: &[usize], device: Device) -> Result<Self> {
        let lengths: Vec<usize> = boundaries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
            let length = lengths.first().copied().unwrap_or(0) as i64;
            let all = Rectangle { num_sequences: lengths.len() as i64, length, gather: None };
            return Ok(Rectangles { list: vec![all], restore: None });
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));

        let mut list = Vec::new();
        let mut restore = vec![0_i64; boundaries[lengths.len()]];
        let mut num_cells = 0_usize;
        let mut rest = order.as_slice();
        while let Some(&longest) = rest.first() {
            let length = lengths[longest];
            let fits = |&index: &usize| MIN_LENGTH_SHARE * length as f64 <= lengths[index] as f64;
            let num_sequences = rest.iter().take_while(|&index| fits(index)).count();
            let mut gather = Vec::with_capacity(num_sequences * length);
            for &sequence in &rest[..num_sequences] {
                let start = boundaries[sequence];
                for offset in 0..length {
                    if offset < lengths[sequence] {
                        restore[start + offset] = (num_cells + gather.len()) as i64;
                        gather.push((start + offset) as i64);
                    } else {
                        gather.push(start as i64); // filling: any row will do, nothing reads it
                    }
                }
            }
            num_cells += gather.len();
            let gather = Some(Tensor::f_from_slice(&gather)?.f_to_device(device)?);
            list.push(Rectangle { num_sequences: num_sequences as i64, length: length as i64, gather });
            rest = &rest[num_sequences..];
        }
        Ok(Rectangles { list, restore: Some(Tensor::f_from_slice(&restore)?.f_to_device(device)?) })
    }

    fn shallow_clone(&self) -> Self {
        let share = |index: &Option<Tensor>| index.as_ref().map(Tensor::shallow_clone);
        let list = self.list.iter().map(|rectangle| Rectangle { gather: share(&rectangle.gather), ..*rectangle });
        Rectangles { list: list.collect(), restore: share(&self.restore) }
    }
}

/// Output of one rectangle, `[num_sequences * length, heads, head_dim]`.
fn attend_rectangle(rectangle: &Rectangle, q: &Tensor, k: &Tensor, v: &Tensor, window: Option<i64>) -> Result<Tensor> {
    let Rectangle { num_sequences, length, gather } = rectangle;
    let (_, num_heads, head_dim) = q.size3()?;
    // Kernels of the CPU share a key/value head among its query heads by themselves; those of CUDA in f32 do not.
    let shared = k.size()[1] != num_heads && !q.device().is_cuda();
    let rows = |xs: &Tensor| -> Result<Tensor> {
        let rows = gather.as_ref().map_or_else(|| Ok(xs.shallow_clone()), |index| xs.f_index_select(0, index))?;
        let rows = if shared { rows } else { repeat_heads(&rows, num_heads)? };
        Ok(rows.f_view([*num_sequences, *length, rows.size()[1], head_dim])?.f_transpose(1, 2)?)
    };
    // The query's rows come as they are: it has all heads.
    let (q, k, v) = (rows(q)?, rows(k)?, rows(v)?); // [num_sequences, heads or kv_heads, length, head_dim]
    let window = window.filter(|window| window < length);
    let mask = window.map(|window| window_mask(*length, window, q.device())).transpose()?;
    let causal = mask.is_none();
    let attended = Tensor::f_scaled_dot_product_attention(&q, &k, &v, mask.as_ref(), 0.0, causal, None, shared)?;
    Ok(attended.f_transpose(1, 2)?.f_reshape([num_sequences * length, num_heads, head_dim])?)
}

/// True where a token looks, `[length, length]`: itself and the `window - 1` tokens before it.
fn window_mask(length: i64, window: i64, device: Device) -> Result<Tensor> {
    Ok(Tensor::f_ones([length, length], (Kind::Bool, device))?.f_tril(0)?.f_triu(1 - window)?)
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
            sequences.cu_seqlens.as_ptr(),
            sequences.max_length as i64,
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
            sequences.cu_seqlens.as_ptr(),
            sequences.max_length as i64,
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
    let device = sequences.cu_seqlens.device();
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
        max_length: i64,
        window: i64,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
    fn reins_efficient_attention(
        q: *const C_tensor,
        k: *const C_tensor,
        v: *const C_tensor,
        cu_seqlens: *const C_tensor,
        max_length: i64,
        result: *mut *mut C_tensor,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryTracker;

    const TOLERANCE: f64 = 2e-5;
    const HALF_TOLERANCE: f64 = 3e-2;

    /// Attention of each sequence by itself, from its definition: scores, mask, softmax, sum.
    fn plain(q: &Tensor, k: &Tensor, v: &Tensor, boundaries: &[usize], window: Option<i64>) -> Tensor {
        let (_, num_heads, head_dim) = q.size3().unwrap();
        let repeats = num_heads / k.size()[1];
        let outputs: Vec<Tensor> = boundaries
            .windows(2)
            .map(|pair| {
                let length = (pair[1] - pair[0]) as i64;
                let rows = |xs: &Tensor| xs.narrow(0, pair[0] as i64, length).transpose(0, 1); // [heads, length, head_dim]
                let shared = |xs: &Tensor| rows(xs).repeat_interleave_self_int(repeats, 0, None);
                let scores = rows(q).matmul(&shared(k).transpose(1, 2)) / (head_dim as f64).sqrt();
                let hidden: Vec<bool> = (0..length * length)
                    .map(|cell| {
                        let (query, key) = (cell / length, cell % length);
                        query < key || window.is_some_and(|window| key + window <= query)
                    })
                    .collect();
                let hidden = Tensor::from_slice(&hidden).view([length, length]).to_device(q.device());
                let scores = scores.masked_fill(&hidden, f64::NEG_INFINITY);
                scores.softmax(-1, q.kind()).matmul(&shared(v)).transpose(0, 1)
            })
            .collect();
        Tensor::cat(&outputs, 0)
    }

    fn inputs(num_tokens: i64, heads: i64, kv_heads: i64, kind: Kind, device: Device) -> [Tensor; 3] {
        let mut seed = 0;
        [heads, kv_heads, kv_heads].map(|heads| {
            seed += 1;
            let values = crate::kernels::tests::numbers(&[num_tokens, heads, 16], seed, 2.0);
            values.to_device(device).to_kind(kind).set_requires_grad(true)
        })
    }

    fn check(lengths: &[usize], heads: i64, kv_heads: i64, window: Option<i64>, kind: Kind, device: Device) {
        let mut boundaries = vec![0];
        for length in lengths {
            boundaries.push(boundaries[boundaries.len() - 1] + length);
        }
        let sequences = Sequences::new(&boundaries, device).unwrap();
        let num_tokens = sequences.num_tokens() as i64;
        let upstream = inputs(num_tokens, heads, heads, kind, device)[0].detach();
        let results = |attended: Tensor, inputs: [Tensor; 3]| -> Vec<Tensor> {
            crate::autograd::backward(&[attended.shallow_clone()], &[upstream.shallow_clone()], false).unwrap();
            let grads = inputs.into_iter().map(|input| input.grad());
            std::iter::once(attended.detach()).chain(grads).map(|tensor| tensor.to_kind(Kind::Double)).collect()
        };
        let own = inputs(num_tokens, heads, kv_heads, kind, device);
        let found = varlen_attention(&own[0], &own[1], &own[2], &sequences.shallow_clone(), window).unwrap();
        let found = results(found, own);
        let other = inputs(num_tokens, heads, kv_heads, kind, device);
        let expected = plain(&other[0], &other[1], &other[2], &boundaries, window);
        let expected = results(expected, other);
        let tolerance = if kind == Kind::Float { TOLERANCE } else { HALF_TOLERANCE };
        for (name, (found, expected)) in ["output", "dq", "dk", "dv"].iter().zip(found.iter().zip(&expected)) {
            let scale = expected.abs().max().double_value(&[]).max(1.0);
            let error = (found - expected).abs().max().double_value(&[]);
            assert!(error <= tolerance * scale, "{name} of {lengths:?}, window {window:?}, {kind:?}: {error}");
        }
    }

    fn check_all(kind: Kind, device: Device) {
        for window in [None, Some(1), Some(4), Some(40)] {
            check(&[5, 5, 5], 6, 2, window, kind, device);
            check(&[31, 3, 30, 1, 28, 7], 6, 2, window, kind, device);
            check(&[9], 4, 4, window, kind, device);
            check(&[2, 11], 3, 1, window, kind, device);
        }
    }

    #[test]
    fn output_and_gradients_equal_the_definition() {
        check_all(Kind::Float, Device::Cpu);
        check_all(Kind::BFloat16, Device::Cpu);
    }

    /// Needs a CUDA device and its libtorch; without one there is nothing to run.
    #[test]
    fn output_and_gradients_equal_the_definition_on_cuda() {
        let device = crate::default_device();
        if !device.is_cuda() {
            println!("skipped: there is no CUDA device");
            return;
        }
        for kind in [Kind::Float, Kind::BFloat16, Kind::Half] {
            check_all(kind, device);
        }
    }

    /// The scores of one sequence, `[heads, length, length]`, would take 9 MiB; attention never holds them.
    #[test]
    fn scores_are_never_held_as_a_whole() {
        let length = 512;
        let [q, k, v] = inputs(length, 9, 3, Kind::Float, Device::Cpu);
        let sequences = Sequences::new(&[0, length as usize], Device::Cpu).unwrap();
        let tracker = MemoryTracker::start().unwrap();
        varlen_attention(&q, &k, &v, &sequences, None).unwrap().sum(Kind::Float).backward();
        let report = tracker.stop().unwrap();
        assert!(report.peak_bytes < 9 * length * length * 4, "{report:?}");
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let refused = |boundaries: &[usize]| Sequences::new(boundaries, Device::Cpu).unwrap_err().to_string();
        assert!(refused(&[]).contains("first"));
        assert!(refused(&[1, 2]).contains("first"));
        assert!(refused(&[0, 3, 3]).contains("3 then 3"));
        assert!(refused(&[0, 1 << 31]).contains("2147483647"));
        let sequences = Sequences::new(&[0, 2, 5], Device::Cpu).unwrap();
        assert_eq!((sequences.num_tokens(), sequences.max_length(), sequences.boundaries()), (5, 3, &[0, 2, 5][..]));
        assert_eq!(sequences.cu_seqlens(), &Tensor::from_slice(&[0_i32, 2, 5]));
        let [q, k, v] = inputs(5, 6, 2, Kind::Float, Device::Cpu);
        let refused = |q: &Tensor, k: &Tensor, v: &Tensor, window| {
            varlen_attention(q, k, v, &sequences, window).unwrap_err().to_string()
        };
        assert!(refused(&q.narrow(0, 0, 4), &k, &v, None).starts_with("`q`"));
        assert!(refused(&q, &k.narrow(2, 0, 8), &v, None).starts_with("`k`"));
        assert!(refused(&q, &k, &v.narrow(1, 0, 1), None).starts_with("`v`"));
        assert!(refused(&q.narrow(1, 0, 5), &k, &v, None).contains("multiple"));
        assert!(refused(&q, &k, &v.to_kind(Kind::Double), None).contains("Double"));
        assert!(refused(&q, &k, &v, Some(0)).starts_with("`window`"));
    }
}
