//! The same numbers as transformers for a tiny checkpoint of every family and option: logits, decoding, gradients.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_core::random::RandomKey;
use rl_models::checkpoint::{self, SideFiles, save_folder};
use rl_models::generate::{Request, SamplingConfig, generate};
use rl_models::{Decoder, ModelConfig};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::tiny::{assert_close, golden, golden_json, ids, load, numbers};

/// Logits of up to 5 after two or three layers, both sides in f32.
const LOGITS: f32 = 2e-5;
/// The same in bf16: the mean and the largest distance, in units of what transformers' own bf16 is off from its f32.
/// With the matrix kernels that wrote the numbers the distance is 0; one cast in another place gives a mean above 0.3.
const BF16_MEAN: f64 = 0.2;
const BF16_MAX: f64 = 0.4;
/// Gradients in f64 on both sides; transformers normalises and takes softmaxes in f32 even then. Relative to the
/// tensor's norm.
const GRADIENT: f64 = 1e-5;
/// Gradients of a f32 model against those of the f64 one, relative to the tensor's norm.
const GRADIENT_F32: f64 = 1e-4;
/// Gradients in f64 against central differences, relative to the tensor's norm.
const DIFFERENCES: f64 = 1e-7;
/// Half the distance of two losses in a central difference.
const STEP: f64 = 1e-5;
/// Cases of `families.py`.
const NUM_CASES: usize = 16;
const NUM_BF16: usize = 5;
const NUM_GRADIENTS: usize = 6;

struct Goldens {
    cases: BTreeMap<String, Value>,
    tensors: BTreeMap<String, Tensor>,
}

fn goldens() -> Goldens {
    // Tests run beside each other; with threads of their own, tiny tensors would mostly wait.
    rl_torch::set_num_threads(1);
    let cases: BTreeMap<String, Value> = serde_json::from_value(golden_json("families.json")["cases"].clone()).unwrap();
    assert_eq!(cases.len(), NUM_CASES);
    Goldens { cases, tensors: checkpoint::load_tensors(&golden("families.safetensors"), Device::Cpu).unwrap() }
}

impl Goldens {
    fn floats(&self, name: &str) -> Vec<f32> {
        numbers(&self.tensors[name])
    }
}

/// Number `position` of tensor `index`: the `weight` of `families.py`.
fn weight(index: u64, position: u64, is_norm: bool) -> f32 {
    let x = (position + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(index.wrapping_mul(0xD1B5_4A32_D192_ED03));
    let x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let number = ((x ^ (x >> 31)) >> 40) as f64 / f64::from(1 << 23) - 1.0;
    (if is_norm { 1.0 + 0.5 * number } else { 0.35 * number }) as f32
}

fn decoder(case: &Value, kind: Kind) -> Decoder {
    let config: ModelConfig = serde_json::from_value(case["config"].clone()).unwrap();
    let mut expected = config.expected_tensors();
    expected.sort();
    let tensors = expected.into_iter().enumerate().map(|(index, (name, shape))| {
        let is_norm = name.ends_with("norm.weight");
        let len: i64 = shape.iter().product();
        let values: Vec<f32> = (0..len as u64).map(|position| weight(index as u64, position, is_norm)).collect();
        (name, Tensor::from_slice(&values).view(&shape[..]))
    });
    Decoder::from_tensors(config, tensors.collect(), kind, Device::Cpu).unwrap()
}

/// Logits of packed sequences at every position, as f32 `[tokens * vocab]`.
fn logits(decoder: &Decoder, sequences: &[Vec<i64>]) -> Vec<f32> {
    let borrowed: Vec<&[i64]> = sequences.iter().map(Vec::as_slice).collect();
    tch::no_grad(|| {
        let hidden = decoder.hidden_states(&decoder.pack(&borrowed).unwrap()).unwrap();
        assert_eq!(hidden.kind(), decoder.kind());
        numbers(&decoder.logits(&hidden).unwrap())
    })
}

fn sequences(case: &Value) -> Vec<Vec<i64>> {
    let sequences: Vec<Vec<i64>> = serde_json::from_value(case["sequences"].clone()).unwrap();
    assert_eq!(sequences.len(), 3);
    sequences
}

#[test]
fn every_family_and_option_agrees_with_transformers() {
    let goldens = goldens();
    for (name, case) in &goldens.cases {
        let decoder = decoder(case, Kind::Float);
        assert_eq!(decoder.config().num_parameters(), case["num_parameters"].as_i64().unwrap(), "{name}");
        let found = logits(&decoder, &[ids(&case["ids"])]);
        assert_close(&found, &goldens.floats(&format!("{name}.logits")), LOGITS, name);
        let found = logits(&decoder, &sequences(case));
        assert_close(&found, &goldens.floats(&format!("{name}.packed_logits")), LOGITS, &format!("{name}, packed"));
    }
}

/// The cached path, with windows that slide while decoding.
#[test]
fn decoding_agrees_with_transformers() {
    for (name, case) in &goldens().cases {
        let decoder = decoder(case, Kind::Float);
        let case = &case["greedy"];
        let expected = ids(&case["response_ids"]);
        let key = RandomKey::new(0, "unused by greedy decoding");
        let request = Request::new(ids(&case["prompt_ids"]), key);
        let config = SamplingConfig::greedy(expected.len(), 2);
        let found = generate(&decoder, &[request.clone(), request], &[], &config, &mut |_| ()).unwrap();
        for response in found {
            assert_eq!(response.ids, expected, "{name}; gap {}", case["smallest_gap"]);
        }
    }
}

#[test]
fn half_precision_rounds_where_transformers_does() {
    let goldens = goldens();
    let mut num_found = 0;
    for (name, case) in &goldens.cases {
        let Some(rounding) = case.get("bf16_rounding") else { continue };
        num_found += 1;
        let found = logits(&decoder(case, Kind::BFloat16), &[ids(&case["ids"])]);
        let expected = goldens.floats(&format!("{name}.bf16_logits"));
        assert_eq!(found.len(), expected.len());
        let apart: Vec<f64> = found.iter().zip(&expected).map(|(a, b)| f64::from((a - b).abs())).collect();
        let mean = apart.iter().sum::<f64>() / apart.len() as f64 / rounding["mean"].as_f64().unwrap();
        let max = apart.iter().copied().fold(0.0, f64::max) / rounding["max"].as_f64().unwrap();
        assert!(mean <= BF16_MEAN && max <= BF16_MAX, "{name}: mean {mean}, largest {max}");
        // f16 has three more bits: nearer to f32 than bf16 is.
        let exact = goldens.floats(&format!("{name}.logits"));
        let half = logits(&decoder(case, Kind::Half), &[ids(&case["ids"])]);
        assert_close(&half, &exact, 0.5 * rounding["max"].as_f64().unwrap() as f32, &format!("{name} in f16"));
    }
    assert_eq!(num_found, NUM_BF16);
}

/// Negative log-likelihood of all next tokens, divided by `num_labels`.
fn loss(decoder: &Decoder, sequences: &[Vec<i64>], num_labels: f64) -> Tensor {
    let borrowed: Vec<&[i64]> = sequences.iter().map(Vec::as_slice).collect();
    let packed = decoder.pack(&borrowed).unwrap();
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for (ids, &start) in sequences.iter().zip(&packed.boundaries) {
        rows.extend((1..ids.len()).map(|position| (start + position - 1) as i64));
        labels.extend_from_slice(&ids[1..]);
    }
    let hidden = decoder.hidden_states(&packed).unwrap().index_select(0, &Tensor::from_slice(&rows));
    let log_probs = decoder.logits(&hidden).unwrap().log_softmax(-1, None);
    let chosen = log_probs.gather(1, &Tensor::from_slice(&labels).unsqueeze(1), false);
    chosen.sum(None) / -num_labels
}

fn gradients(decoder: &Decoder, micro_batches: &[&[Vec<i64>]]) -> BTreeMap<String, Vec<f64>> {
    let num_labels: usize = micro_batches.iter().flat_map(|batch| batch.iter()).map(|ids| ids.len() - 1).sum();
    decoder.set_trainable(true);
    for batch in micro_batches {
        loss(decoder, batch, num_labels as f64).backward();
    }
    let host = |tensor: Tensor| Vec::<f64>::try_from(tensor.to_kind(Kind::Double).contiguous().view([-1])).unwrap();
    decoder.parameters().into_iter().map(|(name, parameter)| (name, host(parameter.grad()))).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

#[test]
fn gradients_of_a_packed_batch_agree_with_transformers() {
    let mut num_found = 0;
    for (name, case) in &goldens().cases {
        let Some(golden) = case.get("gradients") else { continue };
        num_found += 1;
        let sequences = sequences(case);
        let exact = gradients(&decoder(case, Kind::Double), &[&sequences]);
        let expected = golden["tensors"].as_object().unwrap();
        assert_eq!(exact.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        for (parameter, expected) in expected {
            let what = format!("{name}: {parameter}");
            let grad = &exact[parameter];
            let size = expected["norm"].as_f64().unwrap();
            assert!(0.0 < size && (norm(grad) - size).abs() <= GRADIENT * size, "{what}: {} {size}", norm(grad));
            let positions: Vec<usize> = serde_json::from_value(expected["positions"].clone()).unwrap();
            let values: Vec<f64> = serde_json::from_value(expected["values"].clone()).unwrap();
            assert_eq!(positions.len(), values.len());
            for (&position, value) in positions.iter().zip(values) {
                assert!((grad[position] - value).abs() <= GRADIENT * size, "{what} at {position}: {value}");
            }
        }
        // In f32, at once and in uneven micro-batches.
        let splits: [Vec<&[Vec<i64>]>; 2] = [vec![&sequences], vec![&sequences[..1], &sequences[1..]]];
        for split in splits {
            for (parameter, grad) in gradients(&decoder(case, Kind::Float), &split) {
                let apart: Vec<f64> = grad.iter().zip(&exact[&parameter]).map(|(a, b)| a - b).collect();
                let relative = norm(&apart) / norm(&exact[&parameter]);
                assert!(relative <= GRADIENT_F32, "{name}: {parameter} off by {relative:e} in {} parts", split.len());
            }
        }
    }
    assert_eq!(num_found, NUM_GRADIENTS);
}

/// One layer of each family, windows included, in f64.
#[test]
fn gradients_of_one_layer_agree_with_central_differences() {
    let mut num_checked = 0;
    for name in ["llama-attention-bias", "llama3-rope", "qwen2-layer-types", "qwen3"] {
        let mut case = goldens().cases[name].clone();
        case["config"]["num_hidden_layers"] = json!(1);
        if let Some(types) = case["config"].get_mut("layer_types").and_then(Value::as_array_mut) {
            types.truncate(1);
        }
        let sequences = sequences(&case);
        let decoder = decoder(&case, Kind::Double);
        let grads = gradients(&decoder, &[&sequences]);
        let num_labels: usize = sequences.iter().map(|ids| ids.len() - 1).sum();
        for (parameter, tensor) in decoder.parameters() {
            let (grad, flat) = (&grads[&parameter], tensor.detach().view([-1]));
            for position in [0, grad.len() / 3, grad.len() - 1] {
                let mut entry = flat.narrow(0, position as i64, 1);
                let mut loss_at = |change: f64| {
                    tch::no_grad(|| {
                        let _ = entry.f_add_scalar_(change).unwrap();
                        f64::try_from(loss(&decoder, &sequences, num_labels as f64)).unwrap()
                    })
                };
                let difference = (loss_at(STEP) - loss_at(-2.0 * STEP)) / (2.0 * STEP);
                loss_at(STEP);
                let apart = (difference - grad[position]).abs() / norm(grad);
                assert!(apart <= DIFFERENCES, "{name}: {parameter} at {position}: {difference} {}", grad[position]);
                num_checked += 1;
            }
        }
    }
    // Embedding, two norms, final norm and seven projections, three numbers each; four biases, three biases, two norms.
    assert_eq!(num_checked, 3 * (4 * 11 + 4 + 3 + 2));
}

/// `REINS_KEEP_SAVED=FOLDER` keeps what this test writes, for `tests/golden/check_saved.py FOLDER` to read with
/// transformers.
#[test]
fn saved_families_are_the_same_models() {
    let temporary = tempfile::tempdir().unwrap();
    let root = std::env::var_os("REINS_KEEP_SAVED").map_or(temporary.path().to_path_buf(), PathBuf::from);
    for (name, case) in &goldens().cases {
        let decoder = decoder(case, Kind::Float);
        let parameters = decoder.parameters();
        let tensors: Vec<(&str, &Tensor)> = parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let folder = root.join("families").join(name);
        save_folder(&folder, decoder.config(), &tensors, &SideFiles::default()).unwrap();
        let again = load(&folder);
        assert_eq!(again.config(), decoder.config());
        assert_eq!(logits(&again, &[ids(&case["ids"])]), logits(&decoder, &[ids(&case["ids"])]), "{name}");
    }
}
