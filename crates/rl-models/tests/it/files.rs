//! Safetensors files and checkpoint folders: read, written and matched.

use std::collections::BTreeMap;

use rl_models::checkpoint::{self, SideFiles};
use rl_models::config::Dtype;
use rl_models::error::{Error, ShapeMismatch};
use rl_models::{ModelConfig, Result};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

pub fn tiny_config() -> ModelConfig {
    serde_json::from_value(json!({
        "model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 11, "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": [2, 3], "torch_dtype": "bfloat16",
        "architectures": ["LlamaForCausalLM"], "pretraining_tp": 1,
    }))
    .unwrap()
}

/// Tensors that fit [`tiny_config`]: every number distinct within its tensor.
pub fn tiny_tensors(kind: Kind) -> BTreeMap<String, Tensor> {
    let fill = |(name, shape): (String, Vec<i64>)| {
        let numel: i64 = shape.iter().product();
        (name, (Tensor::arange(numel, (Kind::Float, Device::Cpu)) * 0.37 - 3.0).to_kind(kind).reshape(shape))
    };
    tiny_config().expected_tensors().into_iter().map(fill).collect()
}

pub fn borrow(tensors: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}

pub fn bits(tensor: &Tensor) -> Vec<u8> {
    let tensor = tensor.contiguous();
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.copy_data_u8(&mut bytes, tensor.numel());
    bytes
}

#[test]
fn tensors_round_trip_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.safetensors");
    let odd = Tensor::from_slice(&[f32::NAN, -0.0, f32::INFINITY, 1e-40, 65504.0, 0.1]).reshape([2, 3]);
    let mut tensors: BTreeMap<String, Tensor> = BTreeMap::from([
        ("half".into(), odd.to_kind(Kind::Half)),
        ("bf16".into(), odd.to_kind(Kind::BFloat16)),
        ("f64".into(), odd.to_kind(Kind::Double)),
        ("steps".into(), Tensor::from_slice(&[i64::MAX, -1])),
        ("scalar".into(), Tensor::from(2.5f32)),
        ("empty".into(), Tensor::zeros([0, 4], (Kind::Float, Device::Cpu))),
        ("transposed".into(), odd.tr()),
        ("trained".into(), odd.shallow_clone().set_requires_grad(true)),
    ]);
    tensors.insert("f32".into(), odd);
    checkpoint::save_tensors(&path, &borrow(&tensors)).unwrap();
    let loaded = checkpoint::load_tensors(&path, Device::Cpu).unwrap();
    assert_eq!(loaded.len(), tensors.len());
    for (name, tensor) in &tensors {
        assert_eq!(loaded[name].kind(), tensor.kind(), "{name}");
        assert_eq!(loaded[name].size(), tensor.size(), "{name}");
        assert_eq!(bits(&loaded[name]), bits(&tensor.detach()), "{name}");
    }
    // Only the finished file is there.
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    let bytes = std::fs::read(&path).unwrap();
    let (header_len, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
    assert_eq!(header_len % 8, 0);

    let twice = [("f32", &tensors["f32"]), ("f32", &tensors["half"])];
    let message = checkpoint::save_tensors(&path, &twice).unwrap_err().to_string();
    assert!(message.contains("f32 given twice"), "{message}");
}

#[test]
fn a_folder_round_trips_and_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("made/on/the/way/step-1");
    let mut side_files = SideFiles::default();
    side_files.insert("tokenizer.json", b"{}".to_vec()).unwrap();
    side_files.insert("chat_template.jinja", b"{{ messages }}".to_vec()).unwrap();
    assert!(side_files.insert("../escape", Vec::new()).is_err());
    for kind in [Kind::Float, Kind::Half, Kind::BFloat16] {
        let out = out.with_file_name(format!("{kind:?}"));
        let tensors = tiny_tensors(kind);
        checkpoint::save_folder(&out, &tiny_config(), &borrow(&tensors), &side_files).unwrap();
        // The configuration says what is stored, whatever it said before.
        let stored = ModelConfig { torch_dtype: Dtype::from_kind(kind), ..tiny_config() };
        assert_eq!(checkpoint::read_config(&out).unwrap(), stored);
        assert_eq!(SideFiles::from_folder(&out).unwrap(), side_files);
        let loaded = checkpoint::read_tensors(&out, Device::Cpu).unwrap();
        checkpoint::check_tensors(&loaded, &tiny_config().expected_tensors()).unwrap();
        for (name, tensor) in &tensors {
            assert_eq!(bits(&loaded[name]), bits(tensor), "{name}");
        }
        let again = checkpoint::save_folder(&out, &tiny_config(), &borrow(&tensors), &side_files);
        let message = again.unwrap_err().to_string();
        assert!(message.contains("exists already"), "{message}");
    }
    let mut incomplete = tiny_tensors(Kind::Float);
    incomplete.remove("model.norm.weight");
    let result = checkpoint::save_folder(&out, &tiny_config(), &borrow(&incomplete), &side_files);
    assert!(matches!(result, Err(Error::TensorMismatch(_))));
    // The failed attempt left nothing, hidden or not.
    assert_eq!(std::fs::read_dir(out.parent().unwrap()).unwrap().count(), 3);
}

#[test]
fn the_report_names_every_difference() {
    let expected = tiny_config().expected_tensors();
    let mut tensors = tiny_tensors(Kind::Float);
    let renamed = tensors.remove("model.layers.1.mlp.up_proj.weight").unwrap();
    tensors.insert("model.layers.1.mlp.up.weight".into(), renamed);
    tensors.insert("model.norm.weight".into(), Tensor::ones([9], (Kind::Float, Device::Cpu)));
    let Err(Error::TensorMismatch(report)) = checkpoint::check_tensors(&tensors, &expected) else {
        panic!("a renamed tensor went unnoticed")
    };
    assert_eq!(report.missing, ["model.layers.1.mlp.up_proj.weight"]);
    assert_eq!(report.unexpected, ["model.layers.1.mlp.up.weight"]);
    let misshapen = ShapeMismatch { name: "model.norm.weight".into(), found: vec![9], expected: vec![8] };
    assert_eq!(report.misshapen, [misshapen]);
    let message = report.to_string();
    assert_eq!(
        message,
        "the tensors found are not those the configuration asks for: 1 missing (model.layers.1.mlp.up_proj.weight); \
         1 unexpected (model.layers.1.mlp.up.weight); 1 wrong shape (model.norm.weight [9] instead of [8]). Take the \
         configuration and all weight files from the same model, and download again what is missing"
    );
    // Long lists are cut and counted.
    let message = checkpoint::check_tensors(&BTreeMap::new(), &expected).unwrap_err().to_string();
    let rest = expected.len() - 8;
    assert!(message.contains(&format!("{} missing (", expected.len())), "{message}");
    assert!(message.contains(&format!(", and {rest} more).")) && message.matches(".weight").count() == 8, "{message}");
}

#[test]
fn a_tied_output_is_allowed_only_when_it_equals_the_embedding() {
    let expected = tiny_config().expected_tensors();
    let mut tensors = tiny_tensors(Kind::Float);
    let embedding = tensors["model.embed_tokens.weight"].shallow_clone();
    tensors.insert("model.layers.0.self_attn.rotary_emb.inv_freq".into(), Tensor::from_slice(&[1f32]));
    tensors.insert("lm_head.weight".into(), embedding.copy());
    checkpoint::check_tensors(&tensors, &expected).unwrap();
    tensors.insert("lm_head.weight".into(), &embedding + 1e-3);
    let message = checkpoint::check_tensors(&tensors, &expected).unwrap_err().to_string();
    assert!(message.contains("differs from the embedding"), "{message}");
}

#[test]
fn a_tensor_with_nan_is_named() {
    let mut tensors = tiny_tensors(Kind::BFloat16);
    checkpoint::check_finite(&tensors).unwrap();
    let _ = tensors.get_mut("model.norm.weight").unwrap().get(3).fill_(f64::NAN);
    let message = checkpoint::check_finite(&tensors).unwrap_err().to_string();
    assert_eq!(message, "`model.norm.weight` holds NaN or infinite values");
}

#[test]
fn shards_are_read_through_their_index() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let tensors = tiny_tensors(Kind::BFloat16);
    let all = borrow(&tensors);
    let (first, second) = all.split_at(all.len() / 2);
    checkpoint::save_tensors(&path("model-00001-of-00002.safetensors"), first).unwrap();
    checkpoint::save_tensors(&path("model-00002-of-00002.safetensors"), second).unwrap();
    let index = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
        let place = |part: &[(&str, &Tensor)], shard: &str| -> Vec<_> {
            part.iter().map(|(name, _)| ((*name).to_owned(), json!(shard))).collect()
        };
        let mut map = serde_json::Map::from_iter(place(first, "model-00001-of-00002.safetensors"));
        map.extend(place(second, "model-00002-of-00002.safetensors"));
        change(&mut map);
        let text = json!({ "metadata": { "total_size": 1 }, "weight_map": map }).to_string();
        std::fs::write(path("model.safetensors.index.json"), text).unwrap();
        checkpoint::read_tensors(folder.path(), Device::Cpu)
    };
    let loaded = index(&|_| ()).unwrap();
    assert_eq!(loaded.len(), tensors.len());
    assert!(tensors.iter().all(|(name, tensor)| bits(&loaded[name]) == bits(tensor)));

    let message = |result: Result<BTreeMap<String, Tensor>>| result.unwrap_err().to_string();
    let ghost = message(index(&|map| drop(map.insert("ghost".into(), json!("model-00001-of-00002.safetensors")))));
    assert!(ghost.contains("tensor `ghost` is not in"), "{ghost}");
    let outside = message(index(&|map| drop(map.insert("x".into(), json!("../secret.safetensors")))));
    assert!(outside.contains("not the name of a file in this folder"), "{outside}");
    let absent = message(index(&|map| drop(map.insert("x".into(), json!("model-00003.safetensors")))));
    assert!(absent.contains("names files that are not there: model-00003.safetensors; download them"), "{absent}");
    let elsewhere = message(index(&|map| drop(map.remove("model.norm.weight"))));
    assert!(elsewhere.contains("which the index places elsewhere"), "{elsewhere}");
}

#[test]
fn a_truncated_or_foreign_weights_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    let read = || checkpoint::read_tensors(folder.path(), Device::Cpu).unwrap_err().to_string();
    assert!(read().contains("holds neither"), "{}", read());
    checkpoint::save_tensors(&path, &borrow(&tiny_tensors(Kind::Float))).unwrap();
    let whole = std::fs::read(&path).unwrap();
    for len in [0, 7, 8, 100, whole.len() - 1] {
        std::fs::write(&path, &whole[..len]).unwrap();
        assert!(read().contains("model.safetensors: not a readable safetensors file"), "{len}: {}", read());
    }
    checkpoint::save_tensors(&path, &[("ids", &Tensor::from_slice(&[1i64]))]).unwrap();
    assert!(read().contains("tensor `ids` has type I64; F32, F16 or BF16 can be read"), "{}", read());
}
