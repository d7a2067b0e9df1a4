//! Low-rank adapters against PEFT and against what they promise; the reward head against transformers.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rl_core::random::RandomKey;
use rl_models::checkpoint::{SideFiles, load_tensors, read_config, read_tensors};
use rl_models::{Decoder, Error, LoraConfig, RewardModel, TargetModules, ValueHead};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::gradients::{assert_gradients, backward, gradients, sequences};
use crate::tiny::{self, assert_close, golden, golden_json, logits, numbers};

/// Logits of up to 30 with large random adapters, both sides in f32.
const PEFT_LOGITS: f32 = 3e-5;
/// Gradients relative to the largest of their tensor.
const PEFT_GRADIENTS: f32 = 1e-4;
/// A merged update, rounded once with its weight, against a separate product; relative to the largest logit.
const MERGED: f32 = 1e-5;
/// Relative; the same operations on the same numbers.
const RECOMPUTED: f32 = 1e-5;
/// Scores of about 1, both sides in f32.
const SCORES: f32 = 1e-5;

fn all_linear(dropout: f64) -> LoraConfig {
    let target_modules = TargetModules::Word("all-linear".to_owned());
    LoraConfig { rank: 4, alpha: 6.0, dropout, target_modules, use_rslora: false }
}

fn with_adapter(name: &str) -> Decoder {
    let mut decoder = tiny::decoder(name);
    decoder.load_adapter(&golden(&format!("lora-{name}"))).unwrap();
    decoder
}

fn record(name: &str) -> BTreeMap<String, Tensor> {
    load_tensors(&golden(&format!("lora-{name}/record.safetensors")), Device::Cpu).unwrap()
}

fn bits(decoder: &Decoder) -> Vec<(String, Vec<u32>)> {
    let of = |tensor: &Tensor| numbers(tensor).iter().map(|x| x.to_bits()).collect();
    decoder.parameters().iter().map(|(name, tensor)| (name.clone(), of(tensor))).collect()
}

#[test]
fn adapters_of_peft_give_its_logits_and_gradients() {
    for (name, modules) in [("tiny-tied", 4), ("tiny-untied", 14)] {
        let mut expected = record(name);
        let expected_logits = numbers(&expected.remove("logits").unwrap());
        for checkpointing in [false, true] {
            let decoder = with_adapter(name);
            decoder.set_gradient_checkpointing(checkpointing);
            assert_close(&logits(&decoder, &sequences()[0]), &expected_logits, PEFT_LOGITS, name);
            assert!(PEFT_LOGITS < tiny::deviation(&logits(&tiny::decoder(name), &sequences()[0]), &expected_logits));

            backward(&decoder, &sequences());
            let trained = decoder.trainable_parameters();
            assert_eq!(trained.len(), 2 * modules);
            let found = gradients(&trained).into_iter().map(|(key, grad)| (format!("base_model.model.{key}"), grad));
            let expected = expected.iter().map(|(key, tensor)| (key.clone(), numbers(tensor))).collect();
            assert_gradients(&found.collect(), &expected, PEFT_GRADIENTS, name);
            let frozen = decoder.parameters();
            assert!(frozen.iter().all(|(_, tensor)| !tensor.requires_grad() && !tensor.grad().defined()));
        }
    }
}

#[test]
fn fresh_adapters_change_nothing_and_start_within_their_bound() {
    let mut decoder = tiny::decoder("tiny-untied");
    let before = logits(&decoder, &sequences()[0]);
    decoder.add_lora(all_linear(0.0), RandomKey::new(1, "adapters")).unwrap();
    assert_eq!(logits(&decoder, &sequences()[0]), before);
    for (name, tensor) in decoder.trainable_parameters() {
        let values = numbers(&tensor);
        if name.ends_with("lora_B.weight") {
            assert!(values.iter().all(|&x| x == 0.0), "{name}");
        } else {
            // Uniform on +-1/sqrt(in): its standard deviation is the bound over sqrt(3).
            let bound = 1.0 / (tensor.size()[1] as f32).sqrt();
            assert!(values.iter().all(|x| x.abs() <= bound), "{name}");
            let mean_square = values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32;
            assert!((mean_square.sqrt() / (bound / 3_f32.sqrt()) - 1.0).abs() < 0.2, "{name}");
        }
    }
    let mut again = tiny::decoder("tiny-untied");
    again.add_lora(all_linear(0.0), RandomKey::new(1, "adapters")).unwrap();
    assert_eq!(gradients_free(&again), gradients_free(&decoder));
}

fn gradients_free(decoder: &Decoder) -> Vec<(String, Vec<f32>)> {
    decoder.trainable_parameters().iter().map(|(name, tensor)| (name.clone(), numbers(tensor))).collect()
}

/// bf16 keeps eight bits; two layers of sums of about a hundred products, relative to the largest logit.
const BF16: f32 = 5e-2;

#[test]
fn half_precision_models_have_f32_adapters() {
    let folder = golden("tiny-untied");
    let tensors = read_tensors(&folder, Device::Cpu).unwrap();
    let mut decoder =
        Decoder::from_tensors(read_config(&folder).unwrap(), tensors, Kind::BFloat16, Device::Cpu).unwrap();
    decoder.load_adapter(&golden("lora-tiny-untied")).unwrap();
    let expected = numbers(&record("tiny-untied")["logits"]);
    let scale = expected.iter().fold(0.0_f32, |greatest, x| greatest.max(x.abs()));
    assert_close(&logits(&decoder, &sequences()[0]), &expected, BF16 * scale, "bf16");
    backward(&decoder, &sequences());
    for (name, tensor) in decoder.trainable_parameters() {
        assert_eq!((tensor.kind(), tensor.grad().kind()), (Kind::Float, Kind::Float), "{name}");
    }
    let before = bits(&decoder);
    decoder.merge_adapters().unwrap();
    assert_close(&logits(&decoder, &sequences()[0]), &expected, BF16 * scale, "merged bf16");
    decoder.unmerge_adapters().unwrap();
    assert_eq!(bits(&decoder), before);
}

#[test]
fn merging_keeps_the_outputs_and_unmerging_restores_every_bit() {
    for name in tiny::NAMES {
        let decoder = with_adapter(name);
        let before = bits(&decoder);
        let apart = logits(&decoder, &sequences()[0]);
        decoder.merge_adapters().unwrap();
        decoder.merge_adapters().unwrap(); // once is enough
        let scale = apart.iter().fold(0.0_f32, |greatest, x| greatest.max(x.abs()));
        assert_close(&logits(&decoder, &sequences()[0]), &apart, MERGED * scale, name);
        assert_ne!(bits(&decoder), before);
        assert!(decoder.with_adapters_off(|_| Ok(())).unwrap_err().to_string().contains("unmerge_adapters"));
        decoder.unmerge_adapters().unwrap();
        assert_eq!(bits(&decoder), before);
        assert_eq!(logits(&decoder, &sequences()[0]), apart);
    }
}

#[test]
fn the_reference_is_the_base_model_even_between_forward_and_backward() {
    for checkpointing in [false, true] {
        let base = logits(&tiny::decoder("tiny-untied"), &sequences()[0]);
        let decoder = with_adapter("tiny-untied");
        decoder.set_gradient_checkpointing(checkpointing);
        backward(&decoder, &sequences());
        let expected = gradients(&decoder.trainable_parameters());
        for (_, parameter) in decoder.trainable_parameters() {
            parameter.shallow_clone().zero_grad();
        }
        let packed = decoder.pack(&sequences().iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
        let hidden = decoder.hidden_states(&packed).unwrap();
        assert_eq!(decoder.with_adapters_off(|base| Ok(logits(base, &sequences()[0]))).unwrap(), base);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            decoder.with_adapters_off(|_| -> rl_models::Result<()> { panic!("inside") })
        }));
        assert!(caught.is_err());
        assert_ne!(logits(&decoder, &sequences()[0]), base, "adapters are on again after a panic");
        // The backward pass of `hidden` runs with the adapters off: it must not notice.
        decoder.set_adapters_enabled(false);
        let (mut rows, mut labels) = (Vec::new(), Vec::new());
        for (ids, &start) in sequences().iter().zip(&packed.boundaries) {
            rows.extend((1..ids.len()).map(|position| (start + position - 1) as i64));
            labels.extend_from_slice(&ids[1..]);
        }
        let (rows, labels) = (Tensor::from_slice(&rows), Tensor::from_slice(&labels));
        rl_models::token_log_probs(&decoder, &hidden, &rows, &labels, 1.0).unwrap().sum(Kind::Float).backward();
        let found = gradients(&decoder.trainable_parameters());
        assert_gradients(&found, &expected, RECOMPUTED, "reference in between");
    }
    let error = tiny::decoder("tiny-tied").with_adapters_off(|_| Ok(())).unwrap_err();
    assert!(error.to_string().contains("this model has none"), "{error}");
}

#[test]
fn dropout_is_a_function_of_its_key_also_when_a_layer_is_computed_again() {
    let run = |checkpointing: bool, key: Option<RandomKey>| {
        let mut decoder = tiny::decoder("tiny-untied");
        decoder.add_lora(all_linear(0.4), RandomKey::new(1, "adapters")).unwrap();
        for (index, (_, tensor)) in decoder.trainable_parameters().into_iter().enumerate() {
            let values: Vec<f32> = (0..tensor.numel()).map(|i| 0.3 * ((i * 7 + index) as f32 * 1.3).sin()).collect();
            tch::no_grad(|| tensor.shallow_clone().copy_(&Tensor::from_slice(&values).view(tensor.size().as_slice())));
        }
        decoder.set_gradient_checkpointing(checkpointing);
        decoder.set_adapter_dropout(key);
        backward(&decoder, &sequences());
        gradients(&decoder.trainable_parameters())
    };
    let key = RandomKey::new(5, "dropout").at(3);
    let plain = run(false, Some(key));
    assert_gradients(&run(true, Some(key)), &plain, RECOMPUTED, "recomputed");
    assert_ne!(run(false, Some(key.at(1))), plain);
    assert_ne!(run(false, None), plain);
}

/// `REINS_KEEP_SAVED=FOLDER` keeps what this test writes, for `tests/golden/check_adapters.py FOLDER` to read with PEFT
/// and transformers.
#[test]
fn saved_adapters_and_reward_models_are_the_same_again() {
    let temporary = tempfile::tempdir().unwrap();
    let root = std::env::var_os("REINS_KEEP_SAVED").map_or(temporary.path().to_path_buf(), PathBuf::from);
    let ids = &sequences()[0];
    for name in tiny::NAMES {
        let mut decoder = tiny::decoder(name);
        decoder.add_lora(all_linear(0.1), RandomKey::new(2, "adapters")).unwrap();
        for (index, (_, tensor)) in decoder.trainable_parameters().into_iter().enumerate() {
            let values: Vec<f32> = (0..tensor.numel()).map(|i| 0.2 * ((i * 3 + index) as f32 * 0.9).cos()).collect();
            tch::no_grad(|| tensor.shallow_clone().copy_(&Tensor::from_slice(&values).view(tensor.size().as_slice())));
        }
        let folder = root.join(format!("lora-{name}"));
        decoder.save_adapter(&folder, name).unwrap();
        let expected = logits(&decoder, ids);
        let mut other = tiny::decoder(name);
        other.load_adapter(&folder).unwrap();
        assert_eq!(logits(&other, ids), expected);
        let record = json!({ "ids": ids, "logits": expected });
        std::fs::write(root.join(format!("lora-{name}.json")), record.to_string()).unwrap();

        let error = decoder.checkpoint_tensors().unwrap_err().to_string();
        assert!(error.contains("merge_adapters") && error.contains("save_adapter"), "{error}");
        decoder.merge_adapters().unwrap();
        assert_eq!(decoder.checkpoint_tensors().unwrap().len(), decoder.parameters().len());

        let mut reward = RewardModel::new(tiny::decoder(name), 3);
        assert_eq!(reward.head.weight().size(), [1, reward.decoder.config().hidden_size]);
        let folder = root.join(format!("reward-{name}"));
        reward.save(&folder, &SideFiles::default()).unwrap();
        let expected = scores(&reward);
        reward = RewardModel::load(&folder, Kind::Float, Device::Cpu).unwrap();
        assert_eq!(scores(&reward), expected);
        let record = json!({ "sequences": sequences(), "scores": expected });
        std::fs::write(root.join(format!("reward-{name}.json")), record.to_string()).unwrap();
    }
}

fn scores(model: &RewardModel) -> Vec<f32> {
    let sequences = sequences();
    let packed = model.decoder.pack(&sequences.iter().map(Vec::as_slice).collect::<Vec<_>>()).unwrap();
    numbers(&tch::no_grad(|| model.scores(&packed)).unwrap())
}

#[test]
fn adapter_files_that_mean_something_else_are_refused() {
    let source = golden("lora-tiny-tied");
    let config: Value = serde_json::from_slice(&std::fs::read(source.join("adapter_config.json")).unwrap()).unwrap();
    let load = |key: &str, value: Value, name: &str| {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config.clone();
        config[key] = value;
        std::fs::write(folder.path().join("adapter_config.json"), config.to_string()).unwrap();
        std::fs::copy(source.join("adapter_model.safetensors"), folder.path().join("adapter_model.safetensors"))
            .unwrap();
        tiny::decoder(name).load_adapter(folder.path()).unwrap_err().to_string()
    };
    for (key, value, expected) in [
        ("peft_type", json!("LOHA"), "only LORA"),
        ("bias", json!("all"), "trained biases"),
        ("use_dora", json!(true), "`use_dora` is true"),
        ("rank_pattern", json!({ "q_proj": 8 }), "`rank_pattern`"),
        ("modules_to_save", json!(["lm_head"]), "`modules_to_save`"),
        ("a_field_of_the_future", json!(1), "`a_field_of_the_future` is 1"),
        ("init_lora_weights", json!("pissa"), "changes the base weights"),
        ("target_modules", json!(".*q_proj"), "patterns are not supported"),
        ("target_modules", json!(["q_proj", "v_proj", "query"]), "`target_modules` is query"),
        ("target_modules", json!(["q_proj"]), "4 unexpected"),
        ("target_modules", json!(["q_proj", "k_proj", "v_proj"]), "4 missing"),
        ("r", json!(5), "8 wrong shape"),
        ("r", json!("four"), "whole number"),
        ("lora_dropout", json!(1.0), "below 1"),
    ] {
        let message = load(key, value, "tiny-tied");
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
    }
    assert!(load("r", json!(4), "tiny-untied").contains("wrong shape"));
    let mut twice = with_adapter("tiny-tied");
    assert!(twice.load_adapter(&source).unwrap_err().to_string().contains("remove_adapters"));
    twice.remove_adapters();
    twice.load_adapter(&source).unwrap();
    let error = tiny::decoder("tiny-tied").save_adapter("unused".as_ref(), "base").unwrap_err();
    assert!(matches!(error, Error::Argument { name: "adapters", .. }), "{error}");
}

/// Adapters trained on a model that is itself a folder of adapters.
#[test]
fn weights_are_loaded_from_the_model_up_through_its_adapters() {
    let root = tempfile::tempdir().unwrap();
    let source = golden("lora-tiny-tied");
    let folder = |name: &str, base: &Path| {
        let folder = root.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut config: Value =
            serde_json::from_slice(&std::fs::read(source.join("adapter_config.json")).unwrap()).unwrap();
        config["base_model_name_or_path"] = json!(base);
        std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
        std::fs::copy(source.join("adapter_model.safetensors"), folder.join("adapter_model.safetensors")).unwrap();
        folder
    };
    let load = |folder: &Path| Decoder::load(folder, Kind::Float, Device::Cpu);

    let second = folder("second", &folder("first", &golden("tiny-tied")));
    let mut expected = tiny::decoder("tiny-tied");
    for _ in 0..2 {
        expected.load_adapter(&source).unwrap();
        expected.merge_adapters().unwrap();
        expected.remove_adapters();
    }
    let ids = &sequences()[0];
    assert_eq!(logits(&load(&second).unwrap(), ids), logits(&expected, ids));
    assert_eq!(logits(&load(&golden("tiny-tied")).unwrap(), ids), logits(&tiny::decoder("tiny-tied"), ids));

    let there = folder("there", &root.path().join("back"));
    let back = folder("back", &there);
    let message = load(&back).unwrap_err().to_string();
    assert!(message.contains("back") && message.contains("leads back to this folder"), "{message}");
}

#[test]
fn reward_models_of_transformers_give_its_scores() {
    let expected: Vec<f32> = serde_json::from_value(golden_json("adapters.json")["scores"].clone()).unwrap();
    let model = RewardModel::load(&golden("tiny-reward"), Kind::Float, Device::Cpu).unwrap();
    assert_close(&scores(&model), &expected, SCORES, "scores");

    let hidden = model.decoder.hidden_states(&model.decoder.pack(&[&[1, 2]]).unwrap()).unwrap();
    let error = model.decoder.logits(&hidden).unwrap_err().to_string();
    assert!(error.contains("this model scores sequences"), "{error}");
    let causal = RewardModel::load(&golden("tiny-untied"), Kind::Float, Device::Cpu).unwrap_err().to_string();
    assert!(causal.contains("score.weight") && causal.contains("lm_head.weight"), "{causal}");
    let config = read_config(&golden("tiny-reward")).unwrap();
    let tensors = read_tensors(&golden("tiny-reward"), Device::Cpu).unwrap();
    let error = Decoder::from_tensors(config, tensors, Kind::Float, Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("missing (lm_head.weight)") && error.contains("unexpected (score.weight)"), "{error}");
}

#[test]
fn every_parameter_of_a_reward_model_has_a_gradient() {
    let model = RewardModel::load(&golden("tiny-reward"), Kind::Float, Device::Cpu).unwrap();
    model.decoder.set_trainable(true);
    let packed = model.decoder.pack(&[&[1, 2, 3], &[4, 5]]).unwrap();
    model.scores(&packed).unwrap().sum(Kind::Float).backward();
    let parameters = model.trainable_parameters();
    assert_eq!(parameters.len(), model.decoder.config().expected_tensors().len()); // score for lm_head
    for (name, parameter) in parameters {
        assert!(parameter.grad().defined(), "{name}");
    }
}

#[test]
fn a_linear_value_head_is_one_product() {
    let head = ValueHead::linear(3, Device::Cpu);
    let hidden = Tensor::from_slice(&[1.0_f32, 2.0, 3.0, -1.0, 0.5, 0.0]).view([2, 3]);
    assert_eq!(numbers(&head.forward(&hidden).unwrap()), [0.0, 0.0]);
    let parameters = head.parameters();
    let names: Vec<&str> = parameters.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["value_head.weight", "value_head.bias"]);
    tch::no_grad(|| {
        parameters[0].1.shallow_clone().copy_(&Tensor::from_slice(&[2.0_f32, -1.0, 0.5]).view([1, 3]));
        let _ = parameters[1].1.shallow_clone().fill_(0.25);
    });
    assert_eq!(numbers(&head.forward(&hidden).unwrap()), [1.75, -2.25]); // 2 - 2 + 1.5 + 0.25; -2 - 0.5 + 0.25
}
