//! The tiled head against finite differences, against libtorch's log-softmax, and against itself in other tiles.

use tch::Device;

use super::*;

/// Central differences of a smooth function in f64 with steps of 1e-5, relative to the largest entry.
const DIFFERENCES: f64 = 1e-7;
/// f64 sums in another order.
const DOUBLE: f64 = 1e-12;
/// Six digits.
const BY_HAND: f64 = 1e-5;
/// bf16 products of size about 5: eight bits.
const HALF: f64 = 6e-2;

const TOKENS: i64 = 7;
const HIDDEN: i64 = 5;
const VOCAB: i64 = 23;
/// One row twice, one row never; ids at both ends.
const ROWS: [i64; 6] = [0, 2, 2, 3, 5, 6];
const IDS: [i64; 6] = [22, 0, 7, 11, 1, 22];

/// Numbers of size about 1 that repeat nowhere.
fn numbers(shape: [i64; 2], phase: f64) -> Tensor {
    let values: Vec<f64> = (0..shape[0] * shape[1]).map(|i| 1.3 * (i as f64 * 1.7 + phase).sin()).collect();
    Tensor::from_slice(&values).view(shape)
}

fn head(hidden: &Tensor, weight: &Tensor, tile_bytes: i64) -> ChunkedHead {
    ChunkedHead {
        hidden: hidden.shallow_clone(),
        weight: weight.shallow_clone(),
        rows: Tensor::from_slice(&ROWS),
        ids: Tensor::from_slice(&IDS),
        temperature: 0.7,
        tile_bytes,
    }
}

/// Worked by hand: of the logits 2, 1, 0 and -1 the log-normaliser is 2.44019 and the entropy 0.947537.
#[test]
fn four_logits_by_hand() {
    let (hidden, weight) =
        (Tensor::from_slice(&[1.0]).view([1, 1]), Tensor::from_slice(&[2.0, 1.0, 0.0, -1.0]).view([4, 1]));
    let (rows, ids) = (Tensor::from_slice(&[0_i64; 4]), Tensor::arange(4, (Kind::Int64, Device::Cpu)));
    let head = ChunkedHead { hidden, weight, rows, ids, temperature: 1.0, tile_bytes: 16 };
    let (log_probs, entropies) = head.run(true).unwrap();
    for (index, logit) in [2.0, 1.0, 0.0, -1.0].into_iter().enumerate() {
        let found = [&log_probs, entropies.as_ref().unwrap()].map(|numbers| numbers.double_value(&[index as i64]));
        for (found, expected) in found.into_iter().zip([logit - 2.440_19, 0.947_537]) {
            assert!((found - expected).abs() < BY_HAND, "{found} {expected}");
        }
    }
}

/// Upstream gradients of both outputs.
fn upstream() -> (Tensor, Tensor) {
    (Tensor::from_slice(&[0.3, -1.0, 2.0, 0.5, 0.0, -0.7]), Tensor::from_slice(&[1.0, 0.4, -0.6, 0.0, 2.0, -1.5]))
}

/// Log-probabilities, entropies and the gradients of hidden and weight from the plain softmax.
fn plain(hidden: &Tensor, weight: &Tensor) -> [Tensor; 4] {
    let (hidden, weight) = (leaf(hidden), leaf(weight));
    let logits = hidden.index_select(0, &Tensor::from_slice(&ROWS)).matmul(&weight.tr()) / 0.7;
    let log_softmax = logits.log_softmax(-1, None::<Kind>);
    let log_probs = log_softmax.gather(1, &Tensor::from_slice(&IDS).unsqueeze(1), false).squeeze_dim(1);
    let entropies = -(log_softmax.exp() * &log_softmax).sum_dim_intlist(-1, false, None::<Kind>);
    let (g, h) = upstream();
    (&log_probs * g + &entropies * h).sum(Kind::Double).backward();
    [log_probs.detach(), entropies.detach(), hidden.grad(), weight.grad()]
}

fn tiled(hidden: &Tensor, weight: &Tensor, tile_bytes: i64) -> [Tensor; 4] {
    let (hidden, weight) = (leaf(hidden), leaf(weight));
    let (log_probs, entropies) = head(&hidden, &weight, tile_bytes).run(true).unwrap();
    let entropies = entropies.unwrap();
    let (g, h) = upstream();
    (&log_probs * g + &entropies * h).sum(Kind::Double).backward();
    [log_probs.detach(), entropies.detach(), hidden.grad(), weight.grad()]
}

fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().copy().set_requires_grad(true)
}

fn deviation(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

/// Bytes of tiles that hold everything, several columns of all rows, and one column.
const TILES: [i64; 3] = [TILE_BYTES, 6 * 8 * 4, 1];

#[test]
fn every_tile_size_gives_the_plain_softmax_and_its_gradients() {
    let (hidden, weight) = (numbers([TOKENS, HIDDEN], 0.0), numbers([VOCAB, HIDDEN], 0.5));
    let expected = plain(&hidden, &weight);
    for tile_bytes in TILES {
        let found = tiled(&hidden, &weight, tile_bytes);
        for (name, (found, expected)) in
            ["log-probs", "entropies", "hidden", "weight"].iter().zip(found.iter().zip(&expected))
        {
            let deviation = deviation(found, expected);
            assert!(deviation < DOUBLE, "{name}, tiles of {tile_bytes} bytes: {deviation:e}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let (hidden, weight) = (numbers([TOKENS, HIDDEN], 0.0), numbers([VOCAB, HIDDEN], 0.5));
    let loss = |hidden: &Tensor, weight: &Tensor| {
        let (log_probs, entropies) = head(hidden, weight, TILES[1]).run(true).unwrap();
        let (g, h) = upstream();
        (log_probs * g + entropies.unwrap() * h).sum(Kind::Double).double_value(&[])
    };
    let [_, _, hidden_grad, weight_grad] = tiled(&hidden, &weight, TILES[1]);
    let differences = |which: usize| {
        let at = [&hidden, &weight][which];
        let step = 1e-5;
        let slopes: Vec<f64> = (0..at.numel() as i64)
            .map(|i| {
                let moved = |by: f64| {
                    let moved = at.copy();
                    let _ = moved.view([-1]).narrow(0, i, 1).g_add_scalar_(by);
                    if which == 0 { loss(&moved, &weight) } else { loss(&hidden, &moved) }
                };
                (moved(step) - moved(-step)) / (2.0 * step)
            })
            .collect();
        Tensor::from_slice(&slopes).view(at.size().as_slice())
    };
    for (which, grad) in [(0, hidden_grad), (1, weight_grad)] {
        let scale = grad.abs().max().double_value(&[]);
        assert!(0.1 < scale);
        let deviation = deviation(&grad, &differences(which)) / scale;
        assert!(deviation < DIFFERENCES, "input {which}: {deviation:e}");
    }
}

#[test]
fn each_output_alone_has_its_gradient_and_frozen_inputs_have_none() {
    let (hidden, weight) = (numbers([TOKENS, HIDDEN], 0.0), numbers([VOCAB, HIDDEN], 0.5));
    let (g, h) = upstream();
    let grads = |use_log_probs: bool, use_entropies: bool| {
        let hidden = leaf(&hidden);
        let (log_probs, entropies) = head(&hidden, &weight, TILES[1]).run(use_entropies).unwrap();
        let mut loss = Tensor::zeros([], (Kind::Double, Device::Cpu));
        if use_log_probs {
            loss += (log_probs * &g).sum(Kind::Double);
        }
        if let Some(entropies) = entropies {
            loss += (entropies * &h).sum(Kind::Double);
        }
        loss.backward();
        hidden.grad()
    };
    assert!(deviation(&(grads(true, false) + grads(false, true)), &plain(&hidden, &weight)[2]) < DOUBLE);
    let frozen = head(&hidden, &weight, TILES[1]).run(true).unwrap();
    assert!(!frozen.0.requires_grad() && !frozen.1.unwrap().requires_grad());
}

#[test]
fn half_precision_weights_are_multiplied_as_they_are_and_summed_in_f32() {
    let (hidden, weight) = (numbers([TOKENS, HIDDEN], 0.0), numbers([VOCAB, HIDDEN], 0.5));
    let half = |tensor: &Tensor| tensor.to_kind(Kind::BFloat16);
    let expected = plain(&hidden, &weight);
    let found = tiled(&half(&hidden), &half(&weight), TILES[1]);
    let kinds: Vec<Kind> = found.iter().map(Tensor::kind).collect();
    assert_eq!(kinds, [Kind::Float, Kind::Float, Kind::BFloat16, Kind::BFloat16]);
    for (found, expected) in found.iter().zip(&expected) {
        let scale = expected.abs().max().double_value(&[]);
        assert!(deviation(found, expected) < HALF * scale, "{:e} of {scale}", deviation(found, expected));
    }
}

#[test]
fn more_rows_than_a_tile_has_are_split() {
    let (hidden, weight) = (numbers([TOKENS, HIDDEN], 0.0), numbers([VOCAB, HIDDEN], 0.5));
    let labels = 2 * MAX_TILE_ROWS + 3;
    let rows: Vec<i64> = (0..labels).map(|i| i % TOKENS).collect();
    let ids: Vec<i64> = (0..labels).map(|i| i / TOKENS % VOCAB).collect();
    let hidden = leaf(&hidden);
    let many = ChunkedHead {
        rows: Tensor::from_slice(&rows),
        ids: Tensor::from_slice(&ids),
        ..head(&hidden, &weight, TILES[1])
    };
    let log_softmax = (hidden.matmul(&weight.tr()) / 0.7).log_softmax(-1, None::<Kind>);
    let index = Tensor::from_slice(&rows) * VOCAB + Tensor::from_slice(&ids);
    let expected = log_softmax.view([-1]).index_select(0, &index);
    let found = many.run(false).unwrap().0;
    assert!(deviation(&found, &expected) < DOUBLE);
    let grad = |output: &Tensor| Tensor::run_backward(&[output.sum(Kind::Double)], &[&hidden], true, false).remove(0);
    // Each of about 294 repetitions of a row adds a gradient of about 1.
    assert!(deviation(&grad(&found), &grad(&expected)) < 1e3 * DOUBLE);
}

#[test]
fn an_id_that_does_not_exist_is_nan_and_not_a_number() {
    let (hidden, weight) = (numbers([TOKENS, HIDDEN], 0.0), numbers([VOCAB, HIDDEN], 0.5));
    let strange = ChunkedHead { ids: Tensor::from_slice(&[0, VOCAB, -1, 3, 4, 5]), ..head(&hidden, &weight, TILES[1]) };
    let found = Vec::<f64>::try_from(strange.run(false).unwrap().0).unwrap();
    assert_eq!(found.iter().map(|x| x.is_nan()).collect::<Vec<_>>(), [false, true, true, false, false, false]);
}
