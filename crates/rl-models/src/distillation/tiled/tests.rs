//! The tiled divergence against a plain loop over slices, finite differences, other implementations, and itself in other
//! tiles.

use serde_json::Value;
use tch::{Device, Tensor};

use super::*;
use crate::chunked_head::TILE_BYTES;

/// Central differences of a smooth function in f64 with steps of 1e-5, relative to the largest entry.
const DIFFERENCES: f64 = 1e-7;
/// f64 sums in another order.
const DOUBLE: f64 = 1e-12;
/// Worked numbers have five digits; other implementations in f32.
const VECTOR: f64 = 1e-5;
/// Other implementations in f64.
const GOLDEN: f64 = 1e-10;
/// bf16 products of size about 5: eight bits.
const HALF: f64 = 6e-2;

const TOKENS: i64 = 7;
const VOCAB: i64 = 23;
/// One row twice, one row never.
const ROWS: [i64; 6] = [0, 2, 2, 3, 5, 6];
/// Labels of the step, some of which are elsewhere.
const NUM_LABELS: f64 = 9.0;
const TEMPERATURE: f64 = 0.7;

const DIVERGENCES: [Divergence; 5] = [
    Divergence::ForwardKl,
    Divergence::ReverseKl,
    Divergence::JensenShannon { mix: 0.5 },
    Divergence::JensenShannon { mix: 0.9 },
    Divergence::CrossEntropy,
];

/// Bytes of tiles that hold everything, several columns of all rows, and one column.
const TILES: [i64; 3] = [TILE_BYTES, 6 * 8 * 4, 1];

/// Numbers of size about 1 that repeat nowhere.
fn numbers(shape: [i64; 2], phase: f64) -> Tensor {
    let values: Vec<f64> = (0..shape[0] * shape[1]).map(|i| 1.3 * (i as f64 * 1.7 + phase).sin()).collect();
    Tensor::from_slice(&values).view(shape)
}

/// Student hidden and head, teacher hidden and head: hidden sizes 5 and 4.
fn inputs() -> [Tensor; 4] {
    [numbers([TOKENS, 5], 0.0), numbers([VOCAB, 5], 0.5), numbers([TOKENS, 4], 1.1), numbers([VOCAB, 4], 2.3)]
}

fn divergence(inputs: &[Tensor; 4], divergence: Divergence, tile_bytes: i64) -> TiledDivergence {
    let at = |hidden: usize| Projection {
        hidden: inputs[hidden].shallow_clone(),
        weight: inputs[hidden + 1].shallow_clone(),
    };
    TiledDivergence {
        student: at(0),
        teacher: at(2),
        rows: Tensor::from_slice(&ROWS),
        settings: DistillationSettings { divergence, temperature: TEMPERATURE },
        divisor: NUM_LABELS,
        tile_bytes,
    }
}

fn leaf(tensor: &Tensor) -> Tensor {
    tensor.detach().copy().set_requires_grad(true)
}

/// Loss, gradient of the student's hidden states, gradient of its head; the upstream gradient is 3.
fn tiled(inputs: &[Tensor; 4], kind: Divergence, tile_bytes: i64) -> (f64, Tensor, Tensor) {
    let [hidden, weight, teacher_hidden, teacher_weight] = inputs;
    let inputs = [leaf(hidden), leaf(weight), leaf(teacher_hidden), leaf(teacher_weight)];
    let loss = divergence(&inputs, kind, tile_bytes).run().unwrap();
    (&loss * 3.0).backward();
    let [hidden, weight, teacher_hidden, teacher_weight] = inputs;
    assert!(!teacher_hidden.grad().defined() && !teacher_weight.grad().defined(), "the teacher learns nothing");
    (loss.double_value(&[]), hidden.grad() / 3.0, weight.grad() / 3.0)
}

fn rows_of(matrix: &Tensor) -> Vec<Vec<f64>> {
    Vec::<Vec<f64>>::try_from(matrix.to_kind(Kind::Double)).unwrap()
}

fn log_softmax(logits: &[f64], temperature: f64) -> Vec<f64> {
    let scaled: Vec<f64> = logits.iter().map(|z| z / temperature).collect();
    let greatest = scaled.iter().fold(f64::NEG_INFINITY, |greatest, &z| greatest.max(z));
    let total = scaled.iter().map(|z| (z - greatest).exp()).sum::<f64>().ln() + greatest;
    scaled.iter().map(|z| z - total).collect()
}

/// The definition, one row of logits of each.
fn plain_row(kind: Divergence, student: &[f64], teacher: &[f64], temperature: f64) -> f64 {
    let (s, t) = (log_softmax(student, temperature), log_softmax(teacher, temperature));
    let kl = |p: &[f64], q: &[f64]| p.iter().zip(q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
    match kind {
        Divergence::ForwardKl => kl(&t, &s),
        Divergence::ReverseKl => kl(&s, &t),
        Divergence::JensenShannon { mix } => {
            let mixture: Vec<f64> =
                s.iter().zip(&t).map(|(s, t)| (mix * t.exp() + (1.0 - mix) * s.exp()).ln()).collect();
            mix * kl(&t, &mixture) + (1.0 - mix) * kl(&s, &mixture)
        }
        Divergence::CrossEntropy => -s.iter().zip(&t).map(|(s, t)| t.exp() * s).sum::<f64>(),
    }
}

fn plain(inputs: &[Tensor; 4], kind: Divergence) -> f64 {
    let student = rows_of(&inputs[0].matmul(&inputs[1].tr()));
    let teacher = rows_of(&inputs[2].matmul(&inputs[3].tr()));
    let row = |&row: &i64| plain_row(kind, &student[row as usize], &teacher[row as usize], TEMPERATURE);
    ROWS.iter().map(row).sum::<f64>() / NUM_LABELS
}

fn deviation(a: &Tensor, b: &Tensor) -> f64 {
    (a.to_kind(Kind::Double) - b.to_kind(Kind::Double)).abs().max().double_value(&[])
}

#[test]
fn every_tile_size_gives_the_definition() {
    let inputs = inputs();
    for kind in DIVERGENCES {
        let expected = plain(&inputs, kind);
        let (_, hidden, weight) = tiled(&inputs, kind, TILES[0]);
        for tile_bytes in TILES {
            let found = tiled(&inputs, kind, tile_bytes);
            assert!((found.0 - expected).abs() < DOUBLE, "{kind:?}: {}, expected {expected}", found.0);
            assert!(deviation(&found.1, &hidden) < DOUBLE && deviation(&found.2, &weight) < DOUBLE, "{kind:?}");
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let inputs = inputs();
    let step = 1e-5;
    for kind in DIVERGENCES {
        let (_, hidden, weight) = tiled(&inputs, kind, TILES[1]);
        for (which, grad) in [(0, hidden), (1, weight)] {
            let scale = grad.abs().max().double_value(&[]);
            assert!(1e-3 < scale, "{kind:?}: {scale}");
            let slopes: Vec<f64> = (0..inputs[which].numel() as i64)
                .map(|i| {
                    let moved = |by: f64| {
                        let mut moved = inputs.each_ref().map(Tensor::shallow_clone);
                        moved[which] = inputs[which].copy();
                        let _ = moved[which].view([-1]).narrow(0, i, 1).g_add_scalar_(by);
                        plain(&moved, kind)
                    };
                    (moved(step) - moved(-step)) / (2.0 * step)
                })
                .collect();
            let differences = Tensor::from_slice(&slopes).view(grad.size().as_slice());
            let deviation = deviation(&grad, &differences) / scale;
            assert!(deviation < DIFFERENCES, "{kind:?}, input {which}: {deviation:e}");
        }
    }
}

/// A divergence of given logits: the head is the identity.
fn of_logits(student: &Tensor, teacher: &Tensor, rows: &[i64], settings: DistillationSettings) -> (f64, Tensor) {
    let columns = student.size()[1];
    let eye = Tensor::eye(columns, (student.kind(), Device::Cpu));
    let hidden = leaf(student);
    let divergence = TiledDivergence {
        student: Projection { hidden: hidden.shallow_clone(), weight: eye.shallow_clone() },
        teacher: Projection { hidden: teacher.shallow_clone(), weight: eye },
        rows: Tensor::from_slice(rows),
        settings,
        divisor: rows.len() as f64,
        tile_bytes: TILES[1],
    };
    let loss = divergence.run().unwrap();
    loss.backward();
    (loss.double_value(&[]), hidden.grad())
}

#[test]
fn worked_numbers() {
    let student = Tensor::from_slice(&[1.0, 0.0, -1.0]).view([1, 3]);
    let teacher = Tensor::from_slice(&[0.5, 0.5, 0.0]).view([1, 3]);
    for (divergence, expected) in [
        (Divergence::ForwardKl, 0.182282),
        (Divergence::JensenShannon { mix: 0.1 }, 0.016162),
        (Divergence::JensenShannon { mix: 0.5 }, 0.0432),
        (Divergence::JensenShannon { mix: 0.9 }, 0.015354),
        (Divergence::ReverseKl, 0.17064),
    ] {
        let settings = DistillationSettings { divergence, temperature: 1.0 };
        let (loss, _) = of_logits(&student, &teacher, &[0], settings);
        assert!((loss - expected).abs() < VECTOR, "{divergence:?}: {loss}, expected {expected}");
        let (same, grad) = of_logits(&teacher, &teacher, &[0], settings);
        assert!(same.abs() < DOUBLE && grad.abs().max().double_value(&[]) < DOUBLE, "{divergence:?}: {same}");
    }
}

/// Numbers of a fixture; those that were infinite are absent, and one there overflows.
fn fixture(value: &Value, columns: i64, kind: Kind) -> Tensor {
    let numbers: Vec<f64> = value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap_or(-1e40)).collect();
    Tensor::from_slice(&numbers).view([-1, columns]).to_kind(kind)
}

#[test]
fn other_implementations_agree() {
    let fixtures: Value = serde_json::from_str(include_str!("../../../tests/golden/distillation.json")).unwrap();
    let cases = fixtures["cases"].as_array().unwrap();
    assert_eq!(cases.len(), 17);
    let mut num_infinite = 0;
    for case in cases {
        let columns = case["shape"][2].as_i64().unwrap();
        let divergence = match case["divergence"].as_f64() {
            None => Divergence::CrossEntropy,
            Some(0.0) => Divergence::ForwardKl,
            Some(1.0) => Divergence::ReverseKl,
            Some(mix) => Divergence::JensenShannon { mix },
        };
        let settings = DistillationSettings { divergence, temperature: case["temperature"].as_f64().unwrap() };
        let labels = case["labels"].as_array().unwrap().iter().enumerate();
        let rows: Vec<i64> = labels.filter(|(_, label)| **label != -100).map(|(row, _)| row as i64).collect();
        let (kind, tolerance) = if case["reference"] == "TRL" { (Kind::Double, GOLDEN) } else { (Kind::Float, VECTOR) };
        let teacher = fixture(&case["teacher"], columns, kind);
        let expected = fixture(&case["gradient"], columns, kind);
        let infinite = case["student"].as_array().unwrap().iter().filter(|x| x.is_null()).count();
        let (loss, grad) = if infinite == 0 {
            of_logits(&fixture(&case["student"], columns, kind), &teacher, &rows, settings)
        } else {
            num_infinite += infinite;
            overflowing(case, &teacher, &rows, settings, columns)
        };
        let reference = case["loss"].as_f64().unwrap();
        assert!((loss - reference).abs() <= tolerance * reference.abs(), "{divergence:?}: {loss} against {reference}");
        let scale = expected.abs().max().double_value(&[]);
        let deviation = deviation(&grad, &expected) / scale;
        assert!(deviation < tolerance, "{divergence:?}: {deviation:e}");
    }
    assert_eq!(num_infinite, 2);
}

/// As [`of_logits`], with column 5 through a weight so large that its logit overflows to minus infinity where the fixture
/// has that; an infinite hidden state would spoil the other columns of an identity.
fn overflowing(
    case: &Value,
    teacher: &Tensor,
    rows: &[i64],
    settings: DistillationSettings,
    columns: i64,
) -> (f64, Tensor) {
    let factor = 1e30;
    let mut scale = vec![1.0_f64; columns as usize];
    scale[5] = factor;
    let scale = Tensor::from_slice(&scale);
    // -1e40 becomes -1e10 in the hidden state and overflows again in the product.
    let hidden = leaf(&(fixture(&case["student"], columns, Kind::Double) / &scale).to_kind(Kind::Float));
    let divergence = TiledDivergence {
        student: Projection { hidden: hidden.shallow_clone(), weight: scale.diag(0).to_kind(Kind::Float) },
        teacher: Projection {
            hidden: teacher.shallow_clone(),
            weight: Tensor::eye(columns, (Kind::Float, Device::Cpu)),
        },
        rows: Tensor::from_slice(rows),
        settings,
        divisor: rows.len() as f64,
        tile_bytes: TILES[0],
    };
    let loss = divergence.run().unwrap();
    loss.backward();
    (loss.double_value(&[]), hidden.grad().to_kind(Kind::Double) / &scale)
}

#[test]
fn half_precision_weights_are_close_and_keep_their_type() {
    let inputs = inputs();
    let halves = inputs.each_ref().map(|tensor| tensor.to_kind(Kind::BFloat16));
    for kind in DIVERGENCES {
        let (exact, hidden, _) = tiled(&inputs, kind, TILES[0]);
        let (loss, half_hidden, half_weight) = tiled(&halves, kind, TILES[1]);
        assert!((loss - exact).abs() < HALF, "{kind:?}: {loss} against {exact}");
        assert!(deviation(&half_hidden, &hidden) < HALF, "{kind:?}");
        assert_eq!((half_hidden.kind(), half_weight.kind()), (Kind::BFloat16, Kind::BFloat16));
    }
}

#[test]
fn a_frozen_head_and_a_step_without_labels() {
    let [hidden, weight, teacher_hidden, teacher_weight] = inputs();
    let inputs = [leaf(&hidden), weight, teacher_hidden, teacher_weight];
    let loss = divergence(&inputs, Divergence::ReverseKl, TILES[1]).run().unwrap();
    loss.backward();
    assert!(inputs[0].grad().abs().max().double_value(&[]) > 0.0 && !inputs[1].grad().defined());
    // Rows that carry no label get exactly nothing.
    for row in [1, 4] {
        assert_eq!(inputs[0].grad().get(row).abs().max().double_value(&[]), 0.0);
    }
    let empty = TiledDivergence {
        rows: Tensor::from_slice::<i64>(&[]),
        ..divergence(&inputs, Divergence::ForwardKl, TILES[0])
    };
    assert_eq!(empty.run().unwrap().double_value(&[]), 0.0);
}

#[test]
fn the_head_gradient_adds_up_over_micro_batches() {
    let inputs = inputs();
    let (whole, _, whole_weight) = tiled(&inputs, DIVERGENCES[2], TILES[1]);
    let [hidden, weight, teacher_hidden, teacher_weight] = &inputs;
    let leaves = [leaf(hidden), leaf(weight), teacher_hidden.shallow_clone(), teacher_weight.shallow_clone()];
    let mut total = 0.0;
    for part in [&ROWS[..1], &ROWS[1..]] {
        let part = TiledDivergence { rows: Tensor::from_slice(part), ..divergence(&leaves, DIVERGENCES[2], TILES[1]) };
        let loss = part.run().unwrap();
        loss.backward();
        total += loss.double_value(&[]);
    }
    assert!((total - whole).abs() < DOUBLE && deviation(&leaves[1].grad(), &whole_weight) < DOUBLE);
}
