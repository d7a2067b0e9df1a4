//! The same numbers as transformers: two tiny checkpoints always, SmolLM2 where its folder is present.

use std::path::{Path, PathBuf};

use rl_core::random::RandomKey;
use rl_data::Message;
use rl_models::checkpoint::{SideFiles, save_folder};
use rl_models::generate::{Request, SamplingConfig, generate};
use rl_models::{ChatModel, Decoder, token_log_probs};
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::tiny::{self, assert_close, golden_json, ids, load, logits, numbers};

/// Logits of up to 5.4 after two layers, both sides in f32.
const TINY_LOGITS: f32 = 1e-5;
/// Logits of up to 30 after thirty layers, both sides in f32.
const SMOLLM2_LOGITS: f32 = 2e-3;
/// Log-probabilities of a text, both sides in f32.
const SMOLLM2_LOG_PROBS: f32 = 1e-3;

fn greedy(decoder: &Decoder, prompts: &[Vec<i64>], stop_ids: &[i64], max_new_tokens: usize) -> Vec<Vec<i64>> {
    let key = RandomKey::new(0, "unused by greedy decoding");
    let requests: Vec<Request> = prompts.iter().map(|prompt_ids| Request::new(prompt_ids.clone(), key)).collect();
    let config = SamplingConfig::greedy(max_new_tokens, prompts.len());
    let responses = generate(decoder, &requests, stop_ids, &config, &mut |_| ()).unwrap();
    responses.into_iter().map(|response| response.ids).collect()
}

#[test]
fn tiny_checkpoints_agree_with_transformers() {
    let reference = golden_json("tiny_llama.json");
    for name in tiny::NAMES {
        let expected = &reference["models"][name];
        let decoder = tiny::decoder(name);
        assert_eq!(json!(decoder.config().num_parameters()), expected["num_parameters"]);
        let rows: Vec<Vec<f32>> = serde_json::from_value(expected["logits"].clone()).unwrap();
        assert_eq!(rows.len(), 20);
        assert_close(&logits(&decoder, &ids(&expected["ids"])), &rows.concat(), TINY_LOGITS, name);

        let cases = expected["greedy"].as_array().unwrap();
        assert_eq!(cases.len(), 3);
        let prompts: Vec<Vec<i64>> = cases.iter().map(|case| ids(&case["prompt_ids"])).collect();
        let responses: Vec<Vec<i64>> = cases.iter().map(|case| ids(&case["response_ids"])).collect();
        assert_eq!(greedy(&decoder, &prompts, &[], responses[0].len()), responses, "{name}");
    }
}

/// `REINS_KEEP_SAVED=FOLDER` keeps what this test writes, for `tests/golden/check_saved.py FOLDER` to read with
/// transformers.
#[test]
fn a_saved_model_is_the_same_model() {
    let temporary = tempfile::tempdir().unwrap();
    let root = std::env::var_os("REINS_KEEP_SAVED").map_or(temporary.path().to_path_buf(), PathBuf::from);
    for name in tiny::NAMES {
        let decoder = tiny::decoder(name);
        let parameters = decoder.parameters();
        let tensors: Vec<(&str, &Tensor)> = parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let folder = root.join(name);
        save_folder(&folder, decoder.config(), &tensors, &SideFiles::default()).unwrap();
        let ids: Vec<i64> = (0..40).map(|i| (i * 37 + 5) % 64).collect();
        let expected = logits(&decoder, &ids);
        assert_eq!(logits(&load(&folder), &ids), expected, "{name}");
        let record = json!({ "ids": ids, "logits": expected });
        std::fs::write(root.join(format!("{name}.json")), record.to_string()).unwrap();
    }
}

/// Runs where `data/models/smollm2-135m` of the workspace, or the folder in `REINS_SMOLLM2`, is present.
#[test]
fn smollm2_agrees_with_transformers() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/smollm2-135m");
    let folder = std::env::var_os("REINS_SMOLLM2").map_or(workspace, PathBuf::from);
    if !folder.exists() {
        eprintln!("skipped: {} is absent; `cargo xtask model smollm2-135m` makes it", folder.display());
        return;
    }
    let reference = golden_json("smollm2_reference.json");
    let model = ChatModel::load(&folder, Device::Cpu).unwrap();

    let cases = reference["greedy"].as_array().unwrap();
    assert_eq!(cases.len(), 10);
    let mut prompts = Vec::new();
    for case in cases {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let dialogue = model.dialogue(messages).unwrap();
        assert_eq!(dialogue.ids, ids(&case["prompt_ids"]), "{}", case["prompt"]);
        prompts.push(dialogue.ids);
    }
    let responses: Vec<Vec<i64>> = cases.iter().map(|case| ids(&case["response_ids"])).collect();
    for (case, (found, expected)) in
        cases.iter().zip(greedy(&model.decoder, &prompts, &model.stop_ids(), 64).iter().zip(&responses))
    {
        assert_eq!(found, expected, "{}; smallest gap {}", case["prompt"], case["smallest_gap"]);
    }

    let sequence = ids(&reference["logits"]["ids"]);
    let fixed = ids(&reference["logits"]["fixed_ids"]);
    let positions = reference["logits"]["positions"].as_array().unwrap();
    assert_eq!(positions.len(), sequence.len());
    let vocab = model.decoder.config().vocab_size as usize;
    let found = logits(&model.decoder, &sequence);
    for (position, (row, expected)) in found.chunks_exact(vocab).zip(positions).enumerate() {
        let at = |ids: &[i64]| -> Vec<f32> { ids.iter().map(|&id| row[id as usize]).collect() };
        let floats = |key: &str| -> Vec<f32> { serde_json::from_value(expected[key].clone()).unwrap() };
        let what = format!("position {position}");
        assert_close(&at(&ids(&expected["top_ids"])), &floats("top_logits"), SMOLLM2_LOGITS, &what);
        assert_close(&at(&fixed), &floats("fixed_logits"), SMOLLM2_LOGITS, &what);
        let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&x| f64::from(x - greatest).exp()).sum();
        let log_sum_exp = (f64::from(greatest) + sum.ln()) as f32;
        let expected = expected["log_sum_exp"].as_f64().unwrap() as f32;
        assert_close(&[log_sum_exp], &[expected], SMOLLM2_LOGITS, &what);
    }

    let text = ids(&reference["text"]["ids"]);
    let expected: Vec<f32> = serde_json::from_value(reference["text"]["log_probs"].clone()).unwrap();
    assert_eq!((text.len(), expected.len()), (512, 511));
    let (rows, labels) = (Tensor::arange(511, (Kind::Int64, Device::Cpu)), Tensor::from_slice(&text[1..]));
    let found = tch::no_grad(|| {
        let hidden = model.decoder.hidden_states(&model.decoder.pack(&[&text]).unwrap()).unwrap();
        numbers(&token_log_probs(&model.decoder, &hidden, &rows, &labels, 1.0).unwrap())
    });
    assert_close(&found, &expected, SMOLLM2_LOG_PROBS, "log-probabilities of the text");
}
