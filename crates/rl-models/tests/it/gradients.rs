//! Gradients of a whole model against transformers, with every combination of what saves memory; and the memory saved.

use std::collections::BTreeMap;

use rl_models::{Decoder, ModelConfig, token_log_probs};
use rl_torch::memory::MemoryTracker;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::tiny::{self, assert_close, golden_json, numbers};

/// Relative to the largest entry of a tensor; both sides in f32.
const TRANSFORMERS: f32 = 1e-4;
/// Relative; the same operations on the same numbers, parameters' gradients summed in another order.
const RECOMPUTED: f32 = 1e-5;

pub fn sequences() -> Vec<Vec<i64>> {
    serde_json::from_value(golden_json("adapters.json")["sequences"].clone()).unwrap()
}

/// Adds the gradients of the summed next-token log-probabilities of `sequences`.
pub fn backward(decoder: &Decoder, sequences: &[Vec<i64>]) {
    let borrowed: Vec<&[i64]> = sequences.iter().map(Vec::as_slice).collect();
    let packed = decoder.pack(&borrowed).unwrap();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for (ids, &start) in sequences.iter().zip(&packed.boundaries) {
        rows.extend((1..ids.len()).map(|position| (start + position - 1) as i64));
        labels.extend_from_slice(&ids[1..]);
    }
    let hidden = decoder.hidden_states(&packed).unwrap();
    let (rows, labels) = (Tensor::from_slice(&rows), Tensor::from_slice(&labels));
    token_log_probs(decoder, &hidden, &rows, &labels, 1.0).unwrap().sum(Kind::Float).backward();
}

pub fn gradients(parameters: &[(String, Tensor)]) -> BTreeMap<String, Vec<f32>> {
    parameters.iter().map(|(name, parameter)| (name.clone(), numbers(&parameter.grad()))).collect()
}

#[track_caller]
pub fn assert_gradients(
    found: &BTreeMap<String, Vec<f32>>,
    expected: &BTreeMap<String, Vec<f32>>,
    tolerance: f32,
    what: &str,
) {
    assert!(found.keys().eq(expected.keys()), "{what}: {:?} and {:?}", found.keys(), expected.keys());
    for (name, grad) in found {
        let scale = expected[name].iter().fold(0.0_f32, |greatest, x| greatest.max(x.abs()));
        assert!(0.0 < scale, "{what}: no gradient of {name}");
        assert_close(grad, &expected[name], tolerance * scale, &format!("{what}: {name}"));
    }
}

/// One pass with the logits of every row at once, as a check of the tiles: labelled rows only, plain softmax.
fn backward_unchunked(decoder: &Decoder, sequences: &[Vec<i64>]) {
    for ids in sequences {
        let hidden = decoder.hidden_states(&decoder.pack(&[ids]).unwrap()).unwrap();
        let log_softmax = decoder.logits(&hidden).unwrap().log_softmax(-1, Kind::Float);
        let labels = Tensor::from_slice(&ids[1..]).unsqueeze(1);
        let rows = log_softmax.narrow(0, 0, ids.len() as i64 - 1);
        rows.gather(1, &labels, false).sum(Kind::Float).backward();
    }
}

#[test]
fn full_gradients_agree_with_transformers_however_memory_is_saved() {
    let sequences = sequences();
    for name in tiny::NAMES {
        let path = tiny::golden(&format!("gradients-{name}.safetensors"));
        let expected = rl_models::checkpoint::load_tensors(&path, Device::Cpu).unwrap();
        let expected = expected.iter().map(|(name, tensor)| (name.clone(), numbers(tensor))).collect();
        let mut plain = None;
        for checkpointing in [false, true] {
            for chunked in [false, true] {
                for micro_batches in [&[3][..], &[1, 2], &[2, 1], &[1, 1, 1]] {
                    let decoder = tiny::decoder(name);
                    decoder.set_trainable(true);
                    decoder.set_gradient_checkpointing(checkpointing);
                    let mut rest = &sequences[..];
                    for &size in micro_batches {
                        let (now, later) = rest.split_at(size);
                        if chunked {
                            backward(&decoder, now)
                        } else {
                            backward_unchunked(&decoder, now)
                        }
                        rest = later;
                    }
                    let found = gradients(&decoder.parameters());
                    let what = format!("{name}, checkpointing {checkpointing}, chunked {chunked}, {micro_batches:?}");
                    assert_gradients(&found, &expected, TRANSFORMERS, &what);
                    let plain = plain.get_or_insert_with(|| found.clone());
                    assert_gradients(&found, plain, RECOMPUTED, &what);
                }
            }
        }
    }
}

#[test]
fn checkpointing_changes_nothing_without_gradients() {
    let decoder = tiny::decoder("tiny-tied");
    let hidden = || numbers(&decoder.hidden_states(&decoder.pack(&[&[1, 2, 3], &[4, 5]]).unwrap()).unwrap());
    let plain = hidden();
    decoder.set_gradient_checkpointing(true);
    assert_eq!(hidden(), plain);
}

fn llama(layers: i64, hidden: i64, vocab: i64) -> ModelConfig {
    serde_json::from_value(json!({
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": 3 * hidden, "num_hidden_layers": layers,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": vocab, "max_position_embeddings": 4096,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": false,
    }))
    .unwrap()
}

/// Peak bytes of tensors made by a forward and a backward pass over `tokens` tokens.
fn peak(decoder: &Decoder, tokens: i64) -> i64 {
    let vocab = decoder.config().vocab_size;
    let sequence: Vec<i64> = (0..tokens).map(|i| i * i % vocab).collect();
    let tracker = MemoryTracker::start().unwrap();
    backward(decoder, &[sequence]);
    tracker.stop().unwrap().peak_bytes
}

/// Bytes of one `[vocab, hidden]` tensor in f32.
fn matrix(vocab: i64, hidden: i64) -> i64 {
    4 * vocab * hidden
}

#[test]
fn a_step_needs_no_memory_for_the_vocabulary_beyond_its_gradients() {
    rl_torch::set_num_threads(1);
    let (hidden, tokens) = (8, 1500);
    let excess = |vocab: i64| {
        let decoder = Decoder::random(llama(1, hidden, vocab), 0, Device::Cpu).unwrap();
        decoder.set_trainable(true);
        let gradients = 2 * matrix(vocab, hidden); // embedding and head
        // The second pass adds to the gradients that the first one made.
        (peak(&decoder, tokens) - gradients, peak(&decoder, tokens))
    };
    let (small, large) = (excess(8_000), excess(150_000));
    println!("beyond weights and gradients: {small:?} bytes at 8k, {large:?} at 150k");
    let logits = 4 * tokens * 150_000;
    for (small, large) in [(small.0, large.0), (small.1, large.1)] {
        assert!(large as f64 <= 1.02 * small as f64, "{small} bytes at 8k, {large} at 150k");
        assert!(8 * large < logits, "{large} bytes, where the logits alone are {logits}");
    }
}

#[test]
fn a_step_needs_no_memory_for_labels_times_vocabulary() {
    rl_torch::set_num_threads(1);
    let decoder = Decoder::random(llama(1, 8, 50_000), 0, Device::Cpu).unwrap();
    decoder.set_trainable(true);
    let per_token = (peak(&decoder, 4000) - peak(&decoder, 2000)) as f64 / 2000.0;
    // One row of logits is 200 kB; the activations of one token of this model are a few kB, attention included.
    assert!(per_token < 20e3, "{per_token} bytes a token");
}

#[test]
fn checkpointing_cuts_the_memory_of_activations() {
    rl_torch::set_num_threads(1);
    let activations = |checkpointing: bool| {
        let decoder = Decoder::random(llama(16, 64, 100), 0, Device::Cpu).unwrap();
        decoder.set_trainable(true);
        decoder.set_gradient_checkpointing(checkpointing);
        let sequence: Vec<i64> = (0..1024).map(|i| i * i % 100).collect();
        let packed = decoder.pack(&[&sequence]).unwrap();
        let tracker = MemoryTracker::start().unwrap();
        let hidden = decoder.hidden_states(&packed).unwrap();
        let kept = tracker.report().current_bytes;
        hidden.sum(Kind::Float).backward();
        let peak = tracker.stop().unwrap().peak_bytes;
        let weights: usize = decoder.parameters().iter().map(|(_, tensor)| 4 * tensor.numel()).sum();
        (kept, peak - weights as i64)
    };
    let (plain, recomputed) = (activations(false), activations(true));
    println!("kept by the forward pass, peak beyond gradients: {plain:?} plain, {recomputed:?} recomputed");
    assert!(4 * recomputed.0 < plain.0, "kept: {} and {}", recomputed.0, plain.0);
    assert!(4 * recomputed.1 < plain.1, "peak: {} and {}", recomputed.1, plain.1);
}
