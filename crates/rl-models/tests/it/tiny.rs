//! The two tiny checkpoints of `tests/golden`, and short ways to ask a decoder things.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rl_models::{Decoder, checkpoint};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// One tied, one with its own head, biases and head width.
pub const NAMES: [&str; 2] = ["tiny-tied", "tiny-untied"];

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn golden_json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

pub fn load(folder: &Path) -> Decoder {
    // Tests run beside each other; with threads of their own, tiny tensors would mostly wait.
    rl_torch::set_num_threads(1);
    let config = checkpoint::read_config(folder).unwrap();
    let tensors = checkpoint::read_tensors(folder, Device::Cpu).unwrap();
    Decoder::from_tensors(config, tensors, Kind::Float, Device::Cpu).unwrap()
}

pub fn decoder(name: &str) -> Decoder {
    load(&golden(name))
}

/// A tiny checkpoint with one weight changed by `change`.
pub fn decoder_with(name: &str, tensor: &str, change: impl FnOnce(&Tensor) -> Tensor) -> Decoder {
    let folder = golden(name);
    let mut tensors: BTreeMap<String, Tensor> = checkpoint::read_tensors(&folder, Device::Cpu).unwrap();
    let changed = change(&tensors[tensor]);
    tensors.insert(tensor.to_string(), changed);
    Decoder::from_tensors(checkpoint::read_config(&folder).unwrap(), tensors, Kind::Float, Device::Cpu).unwrap()
}

/// Logits of one sequence at every position, `[seq * vocab]`.
pub fn logits(decoder: &Decoder, ids: &[i64]) -> Vec<f32> {
    tch::no_grad(|| {
        let packed = decoder.pack(&[ids]).unwrap();
        numbers(&decoder.logits(&decoder.hidden_states(&packed).unwrap()).unwrap())
    })
}

pub fn numbers(tensor: &Tensor) -> Vec<f32> {
    Vec::<f32>::try_from(tensor.detach().to_kind(Kind::Float).contiguous().view([-1])).unwrap()
}

pub fn ids(value: &Value) -> Vec<i64> {
    serde_json::from_value(value.clone()).unwrap()
}

/// Largest absolute difference.
pub fn deviation(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    assert!(!a.is_empty());
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |greatest: f32, x| if x.is_nan() { f32::NAN } else { greatest.max(x) })
}

/// Asserts that two slices agree to `tolerance` everywhere; NaN never agrees.
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    let deviation = deviation(found, expected);
    assert!(deviation <= tolerance, "{what}: off by {deviation:e}, allowed {tolerance:e}");
}
