//! Files: safetensors and GGUF, read, written, matched and attacked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use proptest::prelude::*;
use rl_models::checkpoint::{self, SideFiles};
use rl_models::error::{Error, ShapeMismatch};
use rl_models::gguf::{Gguf, convert_gguf};
use rl_models::{ModelConfig, Result};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// Sums of up to 28 million f32 numbers, in f64, relative to the sum of their magnitudes.
const SUM_TOLERANCE: f64 = 1e-12;

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden_json(name: &str) -> Value {
    serde_json::from_slice(&std::fs::read(golden(name)).unwrap()).unwrap()
}

fn tiny_config() -> ModelConfig {
    serde_json::from_value(json!({
        "model_type": "llama", "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 11, "max_position_embeddings": 16,
        "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "eos_token_id": [2, 3], "torch_dtype": "bfloat16",
        "architectures": ["LlamaForCausalLM"], "pretraining_tp": 1,
    }))
    .unwrap()
}

/// Tensors that fit [`tiny_config`]: every number distinct within its tensor.
fn tiny_tensors(kind: Kind) -> BTreeMap<String, Tensor> {
    let fill = |(name, shape): (String, Vec<i64>)| {
        let numel: i64 = shape.iter().product();
        (name, (Tensor::arange(numel, (Kind::Float, Device::Cpu)) * 0.37 - 3.0).to_kind(kind).reshape(shape))
    };
    tiny_config().expected_tensors().into_iter().map(fill).collect()
}

fn borrow(tensors: &BTreeMap<String, Tensor>) -> Vec<(&str, &Tensor)> {
    tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect()
}

fn bits(tensor: &Tensor) -> Vec<u8> {
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
        assert_eq!(checkpoint::read_config(&out).unwrap(), tiny_config());
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
    assert!(message.contains("1 wrong shape (model.norm.weight [9] instead of [8])"), "{message}");
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
    assert!(absent.contains("model-00003.safetensors"), "{absent}");
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

static SMALL_SAFETENSORS: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t.safetensors");
    checkpoint::save_tensors(&path, &borrow(&tiny_tensors(Kind::Float))).unwrap();
    std::fs::read(path).unwrap()
});
static TINY_GGUF: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read(golden("tiny.gguf")).unwrap());

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_damaged_safetensors_header_never_panics(changes in prop::collection::vec((0usize..2000, any::<u8>()), 1..4)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let mut bytes = SMALL_SAFETENSORS.clone();
        changes.iter().for_each(|&(at, value)| bytes[at] = value);
        std::fs::write(&path, bytes).unwrap();
        let _ = checkpoint::load_tensors(&path, Device::Cpu);
    }

    #[test]
    fn a_damaged_gguf_never_panics(changes in prop::collection::vec((0usize..12_000, any::<u8>()), 1..6)) {
        let mut bytes = TINY_GGUF.clone();
        changes.iter().for_each(|&(at, value)| bytes[at] = value);
        if let Ok(gguf) = Gguf::parse(&bytes) {
            gguf.tensors.iter().for_each(|tensor| drop(gguf.read(tensor)));
        }
    }

    #[test]
    fn a_truncated_gguf_is_an_error(len in 0usize..36_288) {
        prop_assert!(Gguf::parse(&TINY_GGUF[..len.min(TINY_GGUF.len() - 1)]).is_err());
    }
}

/// A GGUF head: version 3, then what the caller adds.
fn gguf_head(num_tensors: u64, num_pairs: u64) -> Vec<u8> {
    [&b"GGUF"[..], &3u32.to_le_bytes(), &num_tensors.to_le_bytes(), &num_pairs.to_le_bytes()].concat()
}

fn gguf_string(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// One tensor in the list: dimensions as the file orders them, type and offset.
fn gguf_tensor(name: &str, dimensions: &[u64], type_id: u32, offset: u64) -> Vec<u8> {
    let mut bytes = gguf_string(name);
    bytes.extend((dimensions.len() as u32).to_le_bytes());
    dimensions.iter().for_each(|d| bytes.extend(d.to_le_bytes()));
    bytes.extend(type_id.to_le_bytes());
    bytes.extend(offset.to_le_bytes());
    bytes
}

#[test]
fn hostile_gguf_files_are_errors() {
    let pair = |key: &str, type_id: u32, value: &[u8]| [&gguf_string(key), &type_id.to_le_bytes()[..], value].concat();
    let array = |type_id: u32, count: u64| [&type_id.to_le_bytes()[..], &count.to_le_bytes()].concat();
    let nested: Vec<u8> = std::iter::repeat_n(array(9, 1), 6).flatten().collect();
    let one = |tensor: Vec<u8>| [gguf_head(1, 0), tensor, vec![0; 96]].concat();
    let two = |tensor: Vec<u8>| [gguf_head(2, 0), tensor.clone(), tensor, vec![0; 96]].concat();
    let cases = [
        (b"GGML....".to_vec(), "does not begin with `GGUF`"),
        (b"GG".to_vec(), "4 bytes wanted, 2 left"),
        ([&b"GGUF"[..], &3u32.to_be_bytes(), &[0; 16]].concat(), "big-endian"),
        ([&b"GGUF"[..], &1u32.to_le_bytes(), &[0; 16]].concat(), "version 1 is not supported"),
        (gguf_head(u64::MAX, 0), "18446744073709551615 tensors announced"),
        (gguf_head(0, 1 << 40), "1099511627776 metadata pairs announced"),
        ([gguf_head(0, 1), u64::MAX.to_le_bytes().to_vec(), vec![0; 32]].concat(), "bytes of text announced"),
        ([gguf_head(0, 1), pair("a", 9, &array(4, 1 << 60))].concat(), "array entries announced"),
        ([gguf_head(0, 1), pair("a", 9, &nested)].concat(), "nested more than 3 deep"),
        ([gguf_head(0, 1), pair("a", 13, &[0; 8])].concat(), "metadata type 13 is not known"),
        ([gguf_head(0, 1), pair("a", 7, &[2; 8])].concat(), "must be 0 or 1"),
        ([gguf_head(0, 1), pair("a", 8, &[&2u64.to_le_bytes()[..], &[0xff; 8]].concat())].concat(), "not UTF-8"),
        ([gguf_head(0, 2), pair("a", 0, &[1]), pair("a", 0, &[1])].concat(), "key `a` is given twice"),
        ([gguf_head(0, 1), pair("general.alignment", 4, &33u32.to_le_bytes())].concat(), "must be a power of two"),
        ([gguf_head(0, 1), pair("general.alignment", 4, &0u32.to_le_bytes())].concat(), "must be a power of two"),
        (one(gguf_tensor("t", &[4; 5], 0, 0)), "has 5 dimensions"),
        (one(gguf_tensor("t", &[4, 0], 0, 0)), "unusable dimension"),
        (one(gguf_tensor("t", &[1 << 62, 4], 0, 0)), "lies outside the file"),
        (one(gguf_tensor("t", &[4], 0, 1 << 20)), "lies outside the file"),
        (one(gguf_tensor("t", &[4], 0, u64::MAX - 31)), "lies outside the file"),
        (one(gguf_tensor("t", &[4], 0, 4)), "not a multiple of the alignment 32"),
        (one(gguf_tensor("t", &[33], 8, 0)), "not a multiple of Q8_0's block of 32"),
        (one(gguf_tensor("t", &[256], 12, 0)), "has type 12; F32, F16"),
        (two(gguf_tensor("t", &[4], 0, 0)), "listed twice"),
    ];
    for (bytes, expected) in cases {
        let message = Gguf::parse(&bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "`{message}` should contain `{expected}`");
    }
    // The same builder makes a file that is read: dimensions reversed, data at the next multiple of 32.
    let head = [gguf_head(1, 0), gguf_tensor("t", &[2, 1], 0, 0)].concat();
    let mut good = head.clone();
    good.resize(head.len().next_multiple_of(32), 0xee);
    good.extend([1.5f32, -2.0].iter().flat_map(|x| x.to_le_bytes()));
    let gguf = Gguf::parse(&good).unwrap();
    assert_eq!(gguf.tensors[0].shape, [1, 2]);
    assert_eq!(gguf.read(&gguf.tensors[0]).unwrap(), [1.5, -2.0]);
}

fn check_summaries(folder: &Path, expected: &Value) {
    let tensors = checkpoint::read_tensors(folder, Device::Cpu).unwrap();
    let config = checkpoint::read_config(folder).unwrap();
    checkpoint::check_tensors(&tensors, &config.expected_tensors()).unwrap();
    assert_eq!(json!(config.num_parameters()), expected["num_parameters"]);
    for (name, summary) in expected["tensors"].as_object().unwrap() {
        let tensor = &tensors[name];
        assert_eq!(json!(tensor.size()), summary["shape"], "{name}");
        let values = Vec::<f32>::try_from(tensor.reshape([-1])).unwrap();
        let first: Vec<f64> = values[..6].iter().map(|&x| f64::from(x)).collect();
        assert_eq!(json!(first), summary["first"], "{name}");
        let weight = |i: usize| (i % 1009 + 1) as f64;
        let weighted = values.iter().enumerate().map(|(i, &x)| f64::from(x) * weight(i));
        let (sum, weighted_sum): (f64, f64) = (values.iter().map(|&x| f64::from(x)).sum(), weighted.clone().sum());
        let scale: f64 = weighted.map(f64::abs).sum();
        for (found, key) in [(sum, "sum"), (weighted_sum, "weighted_sum")] {
            let expected = summary[key].as_f64().unwrap();
            assert!((found - expected).abs() <= SUM_TOLERANCE * scale, "{name}: {key} {found}, expected {expected}");
        }
    }
}

#[test]
fn a_converted_gguf_equals_what_transformers_reads_from_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("tiny");
    let report = convert_gguf(&golden("tiny.gguf"), &out).unwrap();
    assert_eq!((report.num_tensors, report.vocab_size, report.num_added_tokens), (20, 267, 4));
    let expected = golden_json("tiny_gguf.json");
    assert_eq!(expected["tensors"].as_object().unwrap().len(), 20);
    check_summaries(&out, &expected);
    assert!(checkpoint::read_config(&out).unwrap().tie_word_embeddings);

    let tokenizer = tokenizers::Tokenizer::from_file(out.join("tokenizer.json")).unwrap();
    let texts = expected["texts"].as_array().unwrap();
    assert_eq!(texts.len(), 3);
    for text in texts {
        let encoding = tokenizer.encode(text["text"].as_str().unwrap(), true).unwrap();
        assert_eq!(json!(encoding.get_ids()), text["ids"], "{text}");
        assert_eq!(tokenizer.decode(encoding.get_ids(), false).unwrap(), text["text"].as_str().unwrap());
    }
    let side_files = SideFiles::from_folder(&out).unwrap();
    let config: Value = serde_json::from_slice(side_files.get("tokenizer_config.json").unwrap()).unwrap();
    assert_eq!((&config["eos_token"], &config["unk_token"]), (&json!("<|im_end|>"), &json!("<|endoftext|>")));
    let template = std::str::from_utf8(side_files.get("chat_template.jinja").unwrap()).unwrap();
    assert!(template.starts_with("{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n'"), "{template}");
    assert_eq!(json!(template), config["chat_template"]);
    assert_eq!(side_files.iter().count(), SideFiles::NAMES.len());
}

/// Replaces `from` by `to`, of equal length, once.
fn patched(from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = TINY_GGUF.clone();
    assert_eq!(from.len(), to.len());
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    bytes[at..at + to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn a_gguf_that_would_be_misread_is_refused() {
    let f16_nan = {
        let mut bytes = TINY_GGUF.clone();
        let offset = Gguf::parse(&TINY_GGUF).unwrap().tensor("blk.0.attn_q.weight").unwrap().offset;
        bytes[offset + 10..offset + 12].copy_from_slice(&[0x00, 0x7e]);
        bytes
    };
    let cases = [
        (patched(b"smollm", b"custom"), "is `custom`; known are"),
        (patched(b"blk.1.ffn_up.weight", b"blk.1.ffn_xx.weight"), "1 missing (model.layers.1.mlp.up_proj.weight)"),
        (patched(b"output_norm.weight", b"rope__freqs.weight"), "1 unexpected (rope__freqs.weight)"),
        (patched("Ġt he".as_bytes(), "Ġt hz".as_bytes()), "does not join two tokens into a third"),
        (patched(b"llama.block_count", b"llama.block_comnt"), "key `llama.block_count`: is missing"),
        (f16_nan, "`blk.0.attn_q.weight` holds NaN"),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (index, (bytes, expected)) in cases.into_iter().enumerate() {
        let file = folder.path().join("in.gguf");
        std::fs::write(&file, bytes).unwrap();
        let out = folder.path().join(format!("out-{index}"));
        let message = convert_gguf(&file, &out).unwrap_err().to_string();
        assert!(message.contains(expected) && message.contains("in.gguf"), "`{message}` should contain `{expected}`");
        assert!(!out.exists());
    }
}

/// Runs when `REINS_SMOLLM2_GGUF` names SmolLM2-135M-Instruct.Q4_1.gguf.
#[test]
fn smollm2_equals_the_reference_reader() {
    let Some(file) = std::env::var_os("REINS_SMOLLM2_GGUF") else { return };
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("smollm2");
    convert_gguf(Path::new(&file), &out).unwrap();
    let expected = golden_json("smollm2_tensors.json");
    assert_eq!(expected["tensors"].as_object().unwrap().len(), 11);
    check_summaries(&out, &expected);
}
