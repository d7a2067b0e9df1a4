//! Packed sequences are the sequences one by one, in value and in gradient; heads and log-probabilities.

use std::collections::BTreeMap;

use rl_models::{Decoder, Error, ValueHead, token_entropies, token_log_probs, token_log_probs_and_entropies};
use tch::{Device, Kind, Tensor};

use crate::tiny::{self, assert_close, numbers};

/// Hidden states of size about 1, in f32, summed in another order.
const FORWARD: f32 = 1e-5;
/// Gradients relative to the largest of their tensor.
const GRADIENT: f32 = 1e-5;

/// Lengths that need one rectangle, several, and filling inside a rectangle.
const LENGTHS: [&[usize]; 5] = [&[5], &[7, 7, 7], &[1, 30, 2], &[20, 19, 17, 3, 16, 1, 20], &[9, 10, 11, 12, 13, 1, 1]];

fn sequences(lengths: &[usize]) -> Vec<Vec<i64>> {
    let id = |row: usize, position: usize| ((row * 31 + position * 17 + position * position * 7) % 64) as i64;
    lengths.iter().enumerate().map(|(row, &length)| (0..length).map(|position| id(row, position)).collect()).collect()
}

fn borrowed(sequences: &[Vec<i64>]) -> Vec<&[i64]> {
    sequences.iter().map(Vec::as_slice).collect()
}

#[test]
fn packed_forward_equals_one_by_one() {
    for name in tiny::NAMES {
        let decoder = tiny::decoder(name);
        for lengths in LENGTHS {
            let sequences = sequences(lengths);
            let packed = decoder.pack(&borrowed(&sequences)).unwrap();
            assert_eq!(packed.num_tokens(), lengths.iter().sum::<usize>());
            let together = numbers(&tch::no_grad(|| decoder.hidden_states(&packed)).unwrap());
            let alone: Vec<f32> = sequences
                .iter()
                .flat_map(|ids| {
                    numbers(&tch::no_grad(|| decoder.hidden_states(&decoder.pack(&[ids]).unwrap())).unwrap())
                })
                .collect();
            assert_close(&together, &alone, FORWARD, &format!("{name} {lengths:?}"));
        }
    }
}

/// Gradients of the summed log-probabilities of all next tokens, by parameter.
fn gradients(decoder: &Decoder, sequences: &[&[i64]]) -> BTreeMap<String, Vec<f32>> {
    let packed = decoder.pack(sequences).unwrap();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for (ids, &start) in sequences.iter().zip(&packed.boundaries) {
        rows.extend((1..ids.len()).map(|position| (start + position - 1) as i64));
        labels.extend_from_slice(&ids[1..]);
    }
    decoder.set_trainable(true);
    for (_, parameter) in decoder.parameters() {
        parameter.shallow_clone().zero_grad();
    }
    let (rows, labels) = (Tensor::from_slice(&rows), Tensor::from_slice(&labels));
    token_log_probs(decoder, &decoder.hidden_states(&packed).unwrap(), &rows, &labels, 0.7)
        .unwrap()
        .sum(Kind::Float)
        .backward();
    decoder.parameters().into_iter().map(|(name, parameter)| (name, numbers(&parameter.grad()))).collect()
}

#[test]
fn the_gradient_of_a_pack_is_the_sum_of_the_gradients() {
    for name in tiny::NAMES {
        let sequences = sequences(&[12, 11, 3, 25, 2]);
        let together = gradients(&tiny::decoder(name), &borrowed(&sequences));
        let mut sum: BTreeMap<String, Vec<f32>> = BTreeMap::new();
        for ids in &sequences {
            for (parameter, grad) in gradients(&tiny::decoder(name), &[ids]) {
                let total = sum.entry(parameter).or_insert_with(|| vec![0.0; grad.len()]);
                total.iter_mut().zip(grad).for_each(|(total, x)| *total += x);
            }
        }
        assert_eq!(together.len(), tiny::decoder(name).parameters().len());
        for (parameter, grad) in together {
            let scale = grad.iter().fold(0.0_f32, |greatest, x| greatest.max(x.abs()));
            assert!(0.0 < scale, "{parameter} has no gradient");
            assert_close(&grad, &sum[&parameter], GRADIENT * scale.max(1.0), &parameter);
        }
    }
}

#[test]
fn log_probs_and_entropies_are_those_of_the_softmax() {
    let decoder = tiny::decoder("tiny-tied");
    let ids: Vec<i64> = (0..9).map(|i| i * 7 % 64).collect();
    let temperature = 0.6;
    let rows: Vec<Vec<f64>> = tiny::logits(&decoder, &ids)
        .chunks_exact(64)
        .map(|row| {
            let weights: Vec<f64> = row.iter().map(|&x| (f64::from(x) / temperature).exp()).collect();
            let total: f64 = weights.iter().sum();
            weights.into_iter().map(|weight| weight / total).collect()
        })
        .collect();
    let (at, labels) = ([0_i64, 3, 3, 8], [63_i64, 0, 41, 5]);
    let expected: Vec<f32> = at.iter().zip(labels).map(|(&r, id)| rows[r as usize][id as usize].ln() as f32).collect();
    let hidden = tch::no_grad(|| decoder.hidden_states(&decoder.pack(&[&ids]).unwrap())).unwrap();
    let (at_tensor, labels) = (Tensor::from_slice(&at), Tensor::from_slice(&labels));
    let found = token_log_probs(&decoder, &hidden, &at_tensor, &labels, temperature).unwrap();
    assert_close(&numbers(&found), &expected, FORWARD, "log-probabilities");

    let entropy = |row: &Vec<f64>| -row.iter().map(|p| p * p.ln()).sum::<f64>() as f32;
    let expected: Vec<f32> = at.iter().map(|&r| entropy(&rows[r as usize])).collect();
    assert_close(
        &numbers(&token_entropies(&decoder, &hidden, &at_tensor, temperature).unwrap()),
        &expected,
        FORWARD,
        "entropy",
    );

    // Both at once, the entropies at a temperature of their own; and what flows back is what flows back from each.
    let leaf = || hidden.copy().set_requires_grad(true);
    let (both, first, second) = (leaf(), leaf(), leaf());
    let of = |hidden: &Tensor, temperature, own| {
        token_log_probs_and_entropies(&decoder, hidden, &at_tensor, &labels, temperature, own).unwrap()
    };
    let (log_probs, entropies) = of(&both, 1.7, temperature);
    let alone = [of(&first, 1.7, 1.7).0, of(&second, temperature, temperature).1];
    assert_eq!((numbers(&log_probs), numbers(&entropies)), (numbers(&alone[0]), numbers(&alone[1])));
    (log_probs.sum(None) + entropies.sum(None)).backward();
    alone.into_iter().for_each(|numbers| numbers.sum(None).backward());
    assert_close(&numbers(&both.grad()), &numbers(&(first.grad() + second.grad())), FORWARD, "gradient");

    let none = Tensor::from_slice::<i64>(&[]);
    assert_eq!(token_log_probs(&decoder, &hidden, &none, &none, 1.0).unwrap().size(), [0]);
}

/// More labels than one chunk of the vocabulary projection holds.
#[test]
fn chunks_of_the_projection_do_not_show() {
    let decoder = tiny::decoder("tiny-untied");
    let ids: Vec<i64> = (0..11).collect();
    let hidden = tch::no_grad(|| decoder.hidden_states(&decoder.pack(&[&ids]).unwrap())).unwrap();
    let rows: Vec<i64> = (0..2500).map(|i| i % 11).collect();
    let labels: Vec<i64> = (0..2500).map(|i| (i / 11) % 64).collect();
    let (rows_tensor, labels_tensor) = (Tensor::from_slice(&rows), Tensor::from_slice(&labels));
    let found = numbers(&token_log_probs(&decoder, &hidden, &rows_tensor, &labels_tensor, 1.0).unwrap());
    let table = numbers(&decoder.logits(&hidden).unwrap().log_softmax(-1, Kind::Float));
    let expected: Vec<f32> = rows.iter().zip(&labels).map(|(r, id)| table[(r * 64 + id) as usize]).collect();
    assert_close(&found, &expected, FORWARD, "chunked");
}

#[test]
fn unusable_sequences_are_refused() {
    let decoder = tiny::decoder("tiny-tied");
    let long = vec![1_i64; 65];
    let cases: [(&[i64], &str); 4] = [
        (&[], "an empty sequence"),
        (&[3, 64], "token id 64 is out of range: the model's vocabulary has 64 entries (0 to 63)"),
        (&[-1], "token id -1 is out of range"),
        (&long, "a prompt of 65 tokens is too long: at most 64 fit"),
    ];
    for (ids, expected) in cases {
        let message = decoder.pack(&[&[1, 2], ids]).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
    }
}

#[test]
fn a_value_head_starts_at_zero_and_round_trips() {
    let hidden = Tensor::from_slice(&(0..48).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>()).view([2, 24]);
    let head = ValueHead::new(24, 5, Device::Cpu);
    let shapes: Vec<Vec<i64>> = head.parameters().iter().map(|(_, tensor)| tensor.size()).collect();
    assert_eq!(shapes, [vec![6, 24], vec![6], vec![3, 6], vec![3], vec![1, 3], vec![1]]);
    assert_eq!(numbers(&head.forward(&hidden).unwrap()), [0.0, 0.0]);

    // With ones everywhere, one positive feature of 2 gives 2 -> six times 2 + 1 -> three times 18 + 1 -> 57 + 1.
    tch::no_grad(|| head.parameters().iter().for_each(|(_, tensor)| drop(tensor.shallow_clone().fill_(1.0))));
    let single = Tensor::zeros([1, 24], (Kind::Float, Device::Cpu));
    let _ = single.get(0).narrow(0, 0, 1).fill_(2.0);
    assert_eq!(numbers(&head.forward(&single).unwrap()), [58.0]);

    let saved: BTreeMap<String, Tensor> =
        head.parameters().into_iter().map(|(name, tensor)| (name, tensor.detach().copy())).collect();
    let other = ValueHead::new(24, 6, Device::Cpu);
    other.restore(&saved).unwrap();
    assert_eq!(numbers(&other.forward(&hidden).unwrap()), numbers(&head.forward(&hidden).unwrap()));
    let error = ValueHead::new(32, 6, Device::Cpu).restore(&saved).unwrap_err();
    assert!(matches!(error, Error::TensorMismatch(_)), "{error}");
}
