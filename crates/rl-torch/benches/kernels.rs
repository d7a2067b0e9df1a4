//! Each kernel beside the plain tch composition it stands for, on the shapes of SmolLM2-135M.
//!
//! `cargo bench -p rl-torch --bench kernels`; the number of threads is libtorch's (`OMP_NUM_THREADS`).
#![allow(missing_docs)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use rl_torch::kernels;
use tch::{Device, Kind, Tensor};

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);
const HIDDEN: i64 = 576;
const INNER: i64 = 1536;
const HEADS: i64 = 9;
const KV_HEADS: i64 = 3;
const HEAD_DIM: i64 = 64;
const EPS: f64 = 1e-5;

fn plain_rms_norm(xs: &Tensor, weight: &Tensor) -> Tensor {
    xs * (xs.square().mean_dim(-1, true, Kind::Float) + EPS).rsqrt() * weight
}

fn plain_rotary(xs: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
    let half = HEAD_DIM / 2;
    let turned = Tensor::cat(&[-xs.narrow(2, half, half), xs.narrow(2, 0, half)], 2);
    xs * cos + turned * sin
}

/// Weights of 64 MB in all, so that each call finds them outside the caches, as decoding does.
fn linear(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("linear");
    for (inputs, outputs) in [(HIDDEN, 2 * INNER), (INNER, HIDDEN), (HIDDEN, 49152)] {
        let copies = (1 << 24) / (inputs * outputs);
        let weights: Vec<Tensor> = (0..copies.max(1)).map(|_| Tensor::randn([outputs, inputs], CPU)).collect();
        for rows in [1, 8, 32, 128] {
            let xs = Tensor::randn([rows, inputs], CPU);
            let name = format!("{rows}x{inputs}x{outputs}");
            let mut turn = weights.iter().cycle();
            group.bench_function(BenchmarkId::new("kernel", &name), |b| {
                b.iter(|| kernels::linear(black_box(&xs), turn.next().expect("a cycle"), None).expect("shapes fit"))
            });
            group.bench_function(BenchmarkId::new("plain", &name), |b| {
                b.iter(|| black_box(&xs).linear(turn.next().expect("a cycle"), None::<&Tensor>))
            });
        }
    }
    group.finish();
}

/// Forward alone on few rows, forward and backward on a training batch.
fn elementwise(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("elementwise");
    type Pair<'a> = (&'a str, Vec<Tensor>, Box<dyn Fn(&[Tensor]) -> Tensor>, Box<dyn Fn(&[Tensor]) -> Tensor>);
    for (rows, backward) in [(32, false), (2000, false), (2000, true)] {
        let table = || Tensor::randn([rows, 1, HEAD_DIM], CPU);
        let (cos, sin) = (table(), table());
        let tables = [cos.shallow_clone(), sin.shallow_clone()];
        let pairs: Vec<Pair> = vec![
            (
                "rms_norm",
                vec![Tensor::randn([rows, HIDDEN], CPU), Tensor::randn([HIDDEN], CPU)],
                Box::new(|t| kernels::rms_norm(&t[0], &t[1], EPS).expect("shapes fit")),
                Box::new(|t| plain_rms_norm(&t[0], &t[1])),
            ),
            (
                "swiglu",
                vec![Tensor::randn([rows, INNER], CPU), Tensor::randn([rows, INNER], CPU)],
                Box::new(|t| kernels::swiglu(&t[0], &t[1]).expect("shapes fit")),
                Box::new(|t| t[0].silu() * &t[1]),
            ),
            (
                "rotary",
                vec![Tensor::randn([rows, HEADS, HEAD_DIM], CPU)],
                Box::new(move |t| kernels::rotary(&t[0], &cos, &sin).expect("shapes fit")),
                Box::new(move |t| plain_rotary(&t[0], &tables[0], &tables[1])),
            ),
        ];
        for (name, inputs, kernel, plain) in pairs {
            let inputs: Vec<Tensor> = inputs.into_iter().map(|t| t.set_requires_grad(backward)).collect();
            let upstream = Tensor::ones_like(&kernel(&inputs)).detach();
            let pass = if backward { "backward" } else { "forward" };
            for (which, function) in [("kernel", &kernel), ("plain", &plain)] {
                group.bench_function(BenchmarkId::new(which, format!("{name}-{pass}-{rows}")), |b| {
                    b.iter(|| {
                        let out = function(black_box(&inputs));
                        if backward {
                            let outputs = [out];
                            let upstream = [upstream.shallow_clone()];
                            let found = rl_torch::autograd::grad(&outputs, &inputs, &upstream, false);
                            black_box(found.expect("a graph"));
                        }
                    })
                });
            }
        }
    }
    group.finish();
}

fn cached_attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("cached_attention");
    for (slots, length) in [(1, 200), (8, 200), (32, 200), (128, 100)] {
        let q = Tensor::randn([slots, HEADS, HEAD_DIM], CPU);
        let cache = || Tensor::randn([slots, KV_HEADS, 256, HEAD_DIM], CPU);
        let (keys, values) = (cache(), cache());
        let lengths: Vec<i64> = (0..slots).map(|slot| length - slot % 32).collect();
        let beyond =
            Tensor::arange(length, (Kind::Int64, Device::Cpu)).ge_tensor(&Tensor::from_slice(&lengths).unsqueeze(1));
        let mask = Tensor::zeros([slots, length], CPU).masked_fill(&beyond, f64::NEG_INFINITY);
        let mask = mask.view([slots, 1, 1, length]).expand([slots, KV_HEADS, HEADS / KV_HEADS, length], false);
        let name = format!("{slots}x{length}");
        group.bench_function(BenchmarkId::new("kernel", &name), |b| {
            b.iter(|| kernels::cached_attention(&q, &keys, &values, &lengths, None).expect("shapes fit"))
        });
        group.bench_function(BenchmarkId::new("plain", &name), |b| {
            b.iter(|| {
                let q = q.view([slots, KV_HEADS, HEADS / KV_HEADS, HEAD_DIM]);
                let (keys, values) = (keys.narrow(2, 0, length), values.narrow(2, 0, length));
                Tensor::scaled_dot_product_attention(&q, &keys, &values, Some(&mask), 0.0, false, None, false)
            })
        });
    }
    group.finish();
}

fn settings() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(200), Duration::from_millis(700));
    Criterion::default().sample_size(10).warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! { name = benches; config = settings(); targets = linear, elementwise, cached_attention }
criterion_main!(benches);
