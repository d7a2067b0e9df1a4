//! Sequences that share a prefix are the sequences one by one, in value and in gradient.

use std::collections::BTreeMap;

use rl_core::random::RandomKey;
use rl_models::{Decoder, LoraConfig, ModelConfig, Packed, RewardModel, SharedRows, TargetModules, token_log_probs};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::tiny;

/// Relative to the largest number of a tensor: the same sums in another order.
const F64: f64 = 1e-10;
const F32: f64 = 1e-5;

const VOCAB: i64 = 60;

/// A small model of a family, its norms and biases no longer at 1 and 0.
fn decoder(family: Value, kind: Kind) -> Decoder {
    rl_torch::set_num_threads(1);
    let mut config = json!({
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": VOCAB, "max_position_embeddings": 64, "rms_norm_eps": 1e-6,
        "initializer_range": 0.2, "tie_word_embeddings": true,
    });
    config.as_object_mut().unwrap().extend(family.as_object().unwrap().clone());
    let config: ModelConfig = serde_json::from_value(config).unwrap();
    let random = Decoder::random(config.clone(), 7, Device::Cpu).unwrap();
    let tensors = random.parameters().into_iter().enumerate().map(|(index, (name, tensor))| {
        let noise: Vec<f32> = (0..tensor.numel()).map(|i| 0.1 * ((i * 5 + index) as f32 * 1.7).sin()).collect();
        (name, tensor.detach() + Tensor::from_slice(&noise).view(tensor.size().as_slice()))
    });
    let decoder = Decoder::from_tensors(config, tensors.collect(), kind, Device::Cpu).unwrap();
    decoder.set_trainable(true);
    decoder
}

fn families() -> [(&'static str, Value); 4] {
    let window = |tokens: i64, first_layer: i64| {
        json!({
            "model_type": "qwen2", "use_sliding_window": true, "sliding_window": tokens,
            "max_window_layers": first_layer,
        })
    };
    [
        ("llama", json!({"model_type": "llama"})),
        ("qwen3", json!({"model_type": "qwen3", "head_dim": 16})),
        ("qwen2, a short window", window(5, 0)),
        ("qwen2, a window in some layers", window(13, 1)),
    ]
}

/// Prefixes and lengths of what continues them: uneven groups, one token, no prefix, one continuation, equal prefixes.
const GROUPS: [(usize, &[usize]); 6] =
    [(11, &[7, 1, 20, 6, 19]), (0, &[4, 9]), (3, &[1, 1]), (11, &[2, 7]), (6, &[5]), (1, &[30, 3, 1])];

/// Prefix and continuations of each group.
fn groups() -> Vec<(Vec<i64>, Vec<Vec<i64>>)> {
    let ids = |seed: i64, length: usize| -> Vec<i64> {
        (0..length as i64).map(|i| (seed * 31 + i * 17 + i * i * 7) % VOCAB).collect()
    };
    let group = |(index, (prefix, lengths)): (usize, &(usize, &[usize]))| {
        let continuations = lengths.iter().enumerate().map(|(n, &length)| ids((index * 10 + n + 1) as i64, length));
        (ids(100 + index as i64, *prefix), continuations.collect())
    };
    GROUPS.iter().enumerate().map(group).collect()
}

fn whole_sequences() -> Vec<Vec<i64>> {
    groups()
        .into_iter()
        .flat_map(|(prefix, continuations)| continuations.into_iter().map(move |ids| [prefix.clone(), ids].concat()))
        .collect()
}

fn pack(decoder: &Decoder, shared: bool) -> Packed {
    if !shared {
        let whole = whole_sequences();
        return decoder.pack(&whole.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    }
    let groups = groups();
    let rows = groups.iter().map(|(prefix, continuations)| SharedRows {
        prefix,
        continuations: continuations.iter().map(Vec::as_slice).collect(),
    });
    decoder.pack_shared(&rows.collect::<Vec<_>>()).unwrap()
}

fn numbers(tensor: &Tensor) -> Vec<f64> {
    Vec::<f64>::try_from(tensor.detach().to_kind(Kind::Double).contiguous().view([-1])).unwrap()
}

/// Log-probabilities of every token but the first of each sequence, then the gradients of their weighted sum by name.
fn results(decoder: &Decoder, shared: bool) -> BTreeMap<String, Vec<f64>> {
    let packed = pack(decoder, shared);
    let (mut rows, mut labels) = (Vec::new(), Vec::new());
    for (sequence, ids) in whole_sequences().iter().enumerate() {
        for (position, &id) in ids.iter().enumerate().skip(1) {
            let start = packed.boundaries[sequence];
            let row = if shared { packed.row_of(sequence, position - 1).unwrap() } else { start + position - 1 };
            rows.push(row as i64);
            labels.push(id);
        }
    }
    for (_, parameter) in decoder.trainable_parameters() {
        parameter.shallow_clone().zero_grad();
    }
    let hidden = decoder.hidden_states(&packed).unwrap();
    let (rows, labels) = (Tensor::from_slice(&rows), Tensor::from_slice(&labels));
    let log_probs = token_log_probs(decoder, &hidden, &rows, &labels, 0.8).unwrap();
    let weights: Vec<f64> = (0..labels.numel()).map(|i| (i as f64 * 0.7).cos()).collect();
    (&log_probs * Tensor::from_slice(&weights).to_kind(log_probs.kind())).sum(log_probs.kind()).backward();
    let gradients = decoder.trainable_parameters().into_iter().map(|(name, tensor)| (name, numbers(&tensor.grad())));
    gradients.chain([("log-probabilities".to_owned(), numbers(&log_probs))]).collect()
}

#[track_caller]
fn assert_same(found: &BTreeMap<String, Vec<f64>>, expected: &BTreeMap<String, Vec<f64>>, tolerance: f64, what: &str) {
    assert!(found.keys().eq(expected.keys()), "{what}");
    for (name, found) in found {
        let expected = &expected[name];
        let scale = expected.iter().fold(0.0_f64, |greatest, x| greatest.max(x.abs()));
        assert!(0.0 < scale && found.len() == expected.len(), "{what}: {name}");
        for (found, expected) in found.iter().zip(expected) {
            let apart = (found - expected).abs() / scale;
            assert!(apart <= tolerance, "{what}: {name} is off by {apart:e} of its largest number");
        }
    }
}

fn add_adapters(decoder: &mut Decoder) {
    let target_modules = TargetModules::Word("all-linear".to_owned());
    let config = LoraConfig { rank: 4, alpha: 8.0, dropout: 0.0, target_modules, use_rslora: false };
    decoder.add_lora(config, RandomKey::new(1, "adapters")).unwrap();
    for (index, (_, tensor)) in decoder.trainable_parameters().into_iter().enumerate() {
        let values: Vec<f32> = (0..tensor.numel()).map(|i| 0.1 * ((i * 7 + index) as f32 * 1.3).sin()).collect();
        tch::no_grad(|| tensor.shallow_clone().copy_(&Tensor::from_slice(&values).view(tensor.size().as_slice())));
    }
}

#[test]
fn log_probs_and_gradients_are_those_of_whole_sequences() {
    for (name, family) in families() {
        for (kind, tolerance) in [(Kind::Double, F64), (Kind::Float, F32)] {
            let mut decoder = decoder(family.clone(), kind);
            for adapters in [false, true] {
                if adapters {
                    add_adapters(&mut decoder);
                }
                let expected = results(&decoder, false);
                assert!(adapters || expected.len() == decoder.parameters().len() + 1);
                for checkpointing in [false, true] {
                    decoder.set_gradient_checkpointing(checkpointing);
                    let what = format!("{name}, {kind:?}, adapters {adapters}, checkpointing {checkpointing}");
                    assert_same(&results(&decoder, true), &expected, tolerance, &what);
                }
                decoder.set_gradient_checkpointing(false);
            }
        }
    }
}

#[test]
fn a_prefix_is_laid_out_once() {
    let decoder = decoder(families()[0].1.clone(), Kind::Float);
    let (packed, whole) = (pack(&decoder, true), whole_sequences());
    // Once for each group with several continuations; the group of one and the one without a prefix are whole sequences.
    let rows = GROUPS.iter().map(|(prefix, lengths)| prefix + lengths.iter().sum::<usize>()).sum::<usize>();
    assert_eq!((packed.num_tokens(), packed.num_sequences()), (rows, whole.len()));
    assert_eq!(packed.ids.size(), [rows as i64]);
    let (ids, positions) =
        (Vec::<i64>::try_from(&packed.ids).unwrap(), Vec::<i64>::try_from(&packed.positions).unwrap());
    for (sequence, expected) in whole.iter().enumerate() {
        assert_eq!(packed.length_of(sequence).unwrap(), expected.len());
        let rows: Vec<usize> = (0..expected.len()).map(|i| packed.row_of(sequence, i).unwrap()).collect();
        assert_eq!(rows.iter().map(|&row| ids[row]).collect::<Vec<_>>(), *expected);
        assert!(rows.iter().enumerate().all(|(position, &row)| positions[row] == position as i64));
        assert_eq!(packed.last_rows()[sequence] as usize, rows[expected.len() - 1]);
    }
    // The first group: one prefix of 11 rows, then five continuations.
    assert_eq!(packed.boundaries[..7], [0, 11, 18, 19, 39, 45, 64]);
    assert_eq!((packed.row_of(3, 10).unwrap(), packed.row_of(3, 11).unwrap()), (10, 39));
    let message = packed.row_of(1, 12).unwrap_err().to_string();
    assert!(message.contains("12") && message.contains("sequence 1 has 12 tokens"), "{message}");
    assert!(packed.row_of(99, 0).unwrap_err().to_string().contains("99"));
}

#[test]
fn a_reward_model_scores_every_continuation() {
    let expected = decoder(families()[0].1.clone(), Kind::Float);
    let model = RewardModel::new(expected, 3);
    let scores = |shared: bool| numbers(&tch::no_grad(|| model.scores(&pack(&model.decoder, shared))).unwrap());
    let (found, expected) = (scores(true), scores(false));
    assert_eq!(found.len(), whole_sequences().len());
    let named = |scores: Vec<f64>| BTreeMap::from([("scores".to_owned(), scores)]);
    assert_same(&named(found), &named(expected), F32, "scores");
}

#[test]
fn unusable_groups_are_refused() {
    let decoder = tiny::decoder("tiny-tied");
    const LONG: [i64; 40] = [1; 40];
    let group = |prefix, continuations: &[&'static [i64]]| SharedRows { prefix, continuations: continuations.to_vec() };
    let cases = [
        (group(&[1, 2], &[]), "a prefix is packed with what continues it"),
        (group(&[1, 2], &[&[3], &[]]), "every continuation needs a token"),
        (group(&[1, 64], &[&[3], &[4]]), "token id 64 is out of range"),
        (group(&[1, 2], &[&[3], &[-1]]), "token id -1 is out of range"),
        (group(&LONG, &[&[3], &LONG[..25]]), "65 tokens is too long: at most 64 fit"),
    ];
    for (group, expected) in cases {
        let message = decoder.pack_shared(&[group]).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
    }
}
