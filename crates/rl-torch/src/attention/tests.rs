//! Attention against its definition.

use tch::Device;

use super::*;
use crate::MemoryTracker;

const TOLERANCE: f64 = 2e-5;
const HALF_TOLERANCE: f64 = 3e-2;

/// Attention of each sequence by itself, from its definition: scores, mask, softmax, sum.
fn plain(q: &Tensor, k: &Tensor, v: &Tensor, sequences: &Sequences, window: Option<i64>) -> Tensor {
    let (_, num_heads, head_dim) = q.size3().unwrap();
    let repeats = num_heads / k.size()[1];
    let boundaries = sequences.boundaries();
    let rows = |xs: &Tensor, sequence: usize| {
        let (start, end) = (boundaries[sequence] as i64, boundaries[sequence + 1] as i64);
        xs.narrow(0, start, end - start).transpose(0, 1) // [heads, length, head_dim]
    };
    let outputs: Vec<Tensor> = (0..boundaries.len() - 1)
        .map(|sequence| {
            let seen = |xs: &Tensor| {
                let parts: Vec<Tensor> =
                    sequences.continues()[sequence].into_iter().chain([sequence]).map(|part| rows(xs, part)).collect();
                Tensor::cat(&parts, 1).repeat_interleave_self_int(repeats, 0, None)
            };
            let (q, k, v) = (rows(q, sequence), seen(k), seen(v));
            let (length, keys) = (q.size()[1], k.size()[1]);
            let scores = q.matmul(&k.transpose(1, 2)) / (head_dim as f64).sqrt();
            let hidden: Vec<bool> = (0..length * keys)
                .map(|cell| {
                    let (query, key) = (cell / keys + keys - length, cell % keys);
                    query < key || window.is_some_and(|window| key + window <= query)
                })
                .collect();
            let hidden = Tensor::from_slice(&hidden).view([length, keys]).to_device(q.device());
            let scores = scores.masked_fill(&hidden, f64::NEG_INFINITY);
            scores.softmax(-1, q.kind()).matmul(&v).transpose(0, 1)
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

/// Sequences of a length each, and what each continues.
type Layout = [(usize, Option<usize>)];

fn sequences(layout: &Layout, device: Device) -> Result<Sequences> {
    let mut boundaries = vec![0];
    for (length, _) in layout {
        boundaries.push(boundaries[boundaries.len() - 1] + length);
    }
    Sequences::continuing(&boundaries, &layout.iter().map(|(_, continues)| *continues).collect::<Vec<_>>(), device)
}

fn check(layout: &Layout, heads: i64, kv_heads: i64, window: Option<i64>, kind: Kind, device: Device) {
    let sequences = sequences(layout, device).unwrap();
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
    let expected = plain(&other[0], &other[1], &other[2], &sequences, window);
    let expected = results(expected, other);
    let tolerance = if kind == Kind::Float { TOLERANCE } else { HALF_TOLERANCE };
    for (name, (found, expected)) in ["output", "dq", "dk", "dv"].iter().zip(found.iter().zip(&expected)) {
        let scale = expected.abs().max().double_value(&[]).max(1.0);
        let error = (found - expected).abs().max().double_value(&[]);
        assert!(error <= tolerance * scale, "{name} of {layout:?}, window {window:?}, {kind:?}: {error}");
    }
}

fn check_all(kind: Kind, device: Device) {
    let alone = |lengths: &[usize]| lengths.iter().map(|&length| (length, None)).collect::<Vec<_>>();
    let layouts = [
        (alone(&[5, 5, 5]), 6, 2),
        (alone(&[31, 3, 30, 1, 28, 7]), 6, 2),
        (alone(&[9]), 4, 4),
        (alone(&[2, 11]), 3, 1),
        // One prefix; several of unequal lengths beside sequences that continue nothing;
        // prefixes of one length; a prefix after what continues it.
        (vec![(7, None), (3, Some(0)), (1, Some(0)), (12, Some(0)), (11, Some(0))], 6, 2),
        (vec![(7, None), (3, Some(0)), (20, None), (1, Some(2)), (1, Some(2)), (4, None), (9, Some(5))], 4, 4),
        (vec![(5, None), (5, None), (6, Some(1)), (6, Some(0)), (5, Some(0)), (30, None)], 3, 1),
        (vec![(4, Some(2)), (1, Some(2)), (1, None), (1, Some(2))], 6, 2),
    ];
    for window in [None, Some(1), Some(4), Some(10), Some(40)] {
        for (layout, heads, kv_heads) in &layouts {
            check(layout, *heads, *kv_heads, window, kind, device);
        }
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
    let refused = |continues: &[Option<usize>]| {
        Sequences::continuing(&[0, 2, 5, 6], continues, Device::Cpu).unwrap_err().to_string()
    };
    assert!(refused(&[None, Some(0)]).contains("each of the 3"));
    assert!(refused(&[None, Some(3), None]).contains("there are 3"));
    assert!(refused(&[None, Some(0), Some(1)]).contains("it continues 0"));
    assert!(refused(&[Some(0), None, None]).contains("it continues 0"));
    let shared = Sequences::continuing(&[0, 2, 5, 6], &[None, Some(0), Some(0)], Device::Cpu).unwrap();
    assert_eq!((shared.max_length(), shared.max_keys(), shared.continues()), (3, 5, &[None, Some(0), Some(0)][..]));
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
