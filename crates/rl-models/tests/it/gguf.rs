//! GGUF files: read, dequantised, converted and refused.

use std::path::Path;
use std::sync::LazyLock;

use rl_models::checkpoint::{self, SaveOptions, SideFiles};
use rl_models::gguf::{Gguf, TensorType, convert_gguf, dequantise, dequantise_into};
use serde_json::{Value, json};
use tch::Device;

use crate::tiny::{golden, golden_json};

/// Sums of up to 28 million f32 numbers, in f64, relative to the sum of their magnitudes.
const SUM_TOLERANCE: f64 = 1e-12;

static TINY_GGUF: LazyLock<Vec<u8>> = LazyLock::new(|| std::fs::read(golden("tiny.gguf")).unwrap());

/// Equal bit for bit: the arithmetic is that of the reference, operation by operation.
#[test]
fn blocks_of_every_type_equal_the_reference() {
    use TensorType::*;
    let golden = checkpoint::load_tensors(&golden("quant_blocks.safetensors"), Device::Cpu).unwrap();
    let types = [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K];
    assert_eq!(golden.len(), 2 * types.len());
    for kind in types {
        let blocks = Vec::<u8>::try_from(golden[&format!("{kind}.blocks")].reshape([-1])).unwrap();
        let expected = Vec::<f32>::try_from(&golden[&format!("{kind}.values")]).unwrap();
        let found = dequantise(kind, &blocks).unwrap();
        assert_eq!(found.len(), expected.len(), "{kind}");
        let bits = |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&found), bits(&expected), "{kind}");
    }
}

/// Megabytes per second into memory that is used again: printed, not judged.
#[test]
#[ignore = "a measurement: run it with --release, --ignored and --nocapture"]
fn dequantising_speed() {
    use TensorType::*;
    for kind in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K] {
        let blocks = vec![0x11u8; (4 << 20) / kind.block_len() * kind.block_bytes()];
        let mut values = Vec::new();
        let mut best = f64::INFINITY;
        for _ in 0..8 {
            let start = std::time::Instant::now();
            dequantise_into(kind, &blocks, &mut values).unwrap();
            best = best.min(start.elapsed().as_secs_f64());
        }
        let (read, written) = (blocks.len() as f64 / 1e6, values.len() as f64 * 4.0 / 1e6);
        println!("{kind}: {:.0} MB/s read, {:.0} MB/s written", read / best, written / best);
    }
}

/// The source arrays, the configuration and the token ids of each architecture and rotary scaling.
///
/// `REINS_KEEP_CONVERTED=FOLDER` keeps the folders for `tests/golden/check_converted.py`, which asks transformers.
#[test]
fn every_architecture_equals_its_source() {
    let golden_files = golden_json("gguf_families.json");
    let files = golden_files["files"].as_object().unwrap();
    assert_eq!(files.len(), 4);
    for (name, expected) in files {
        let temporary = tempfile::tempdir().unwrap();
        let kept = std::env::var_os("REINS_KEEP_CONVERTED").map(std::path::PathBuf::from);
        let out = kept.as_deref().unwrap_or(temporary.path()).join(name);
        let file = golden("gguf").join(format!("{name}.gguf"));
        convert_gguf(&file, &out, &SaveOptions::default()).unwrap();
        let source =
            checkpoint::load_tensors(&golden("gguf").join(format!("{name}.safetensors")), Device::Cpu).unwrap();
        let found = checkpoint::read_tensors(&out, Device::Cpu).unwrap();
        assert!(found.keys().eq(source.keys()), "{name}: {:?}", found.keys());
        for (tensor, values) in &source {
            assert_eq!(found[tensor].size(), values.size(), "{name} {tensor}");
            assert!(found[tensor].equal(values), "{name} {tensor}");
        }
        let config: Value = serde_json::from_slice(&std::fs::read(out.join("config.json")).unwrap()).unwrap();
        for (key, value) in expected["config"].as_object().unwrap() {
            assert_eq!(config.get(key).unwrap_or(&Value::Null), value, "{name} {key}");
        }
        let json = std::fs::read(out.join("tokenizer.json")).unwrap();
        let tokenizer = tokenizers::Tokenizer::from_bytes(json).unwrap();
        for text in expected["texts"].as_array().unwrap() {
            let ids = tokenizer.encode(text["text"].as_str().unwrap(), true).unwrap();
            assert_eq!(json!(ids.get_ids()), text["ids"], "{name} {}", text["text"]);
        }
    }
}

#[test]
fn rotary_scaling_that_is_not_known_is_refused() {
    let read = |name: &str| std::fs::read(golden("gguf").join(name)).unwrap();
    let refused = |bytes: &[u8]| Gguf::parse(bytes).unwrap().config().unwrap_err().to_string();

    let mut bytes = read("llama-linear.gguf");
    let at = bytes.windows(6).position(|window| window == b"linear").unwrap();
    bytes[at..at + 6].copy_from_slice(b"spiral");
    let message = refused(&bytes);
    assert!(message.contains("key `llama.rope.scaling.type`: is `spiral`; only `linear`"), "{message}");

    // Four divisors: 1, 1, a blend, 8. One of them changed is no scaling of Llama 3; all ones are none at all.
    let mut bytes = read("llama3.gguf");
    let at = Gguf::parse(&bytes).unwrap().tensor("rope_freqs.weight").unwrap().offset;
    bytes[at + 8..at + 12].copy_from_slice(&7f32.to_le_bytes());
    let message = refused(&bytes);
    assert!(message.contains("`rope_freqs.weight`: holds divisors up to 8 that Llama 3's scaling"), "{message}");
    (0..4).for_each(|pair| bytes[at + 4 * pair..][..4].copy_from_slice(&1f32.to_le_bytes()));
    let config = serde_json::to_value(Gguf::parse(&bytes).unwrap().config().unwrap()).unwrap();
    assert_eq!(config.get("rope_scaling").unwrap_or(&Value::Null), &Value::Null);
}

#[test]
fn a_gguf_is_stored_in_the_type_and_files_asked_for() {
    use rl_models::config::Dtype;
    let folder = tempfile::tempdir().unwrap();
    let out = |name: &str| folder.path().join(name);
    let options = |dtype| SaveOptions { dtype, max_shard_size: 30_000 };
    let plain = convert_gguf(&golden("tiny.gguf"), &out("f32"), &SaveOptions::default()).unwrap();
    let sharded = convert_gguf(&golden("tiny.gguf"), &out("bf16"), &options(Some(Dtype::BFloat16))).unwrap();
    assert_eq!((plain.saved.files.len(), sharded.saved.num_bytes), (1, plain.saved.num_bytes / 2));
    assert!(1 < sharded.saved.files.len());
    let (full, half) = (out("f32"), out("bf16"));
    assert_eq!(checkpoint::read_config(&half).unwrap().torch_dtype, Some(Dtype::BFloat16));
    let full = checkpoint::read_tensors(&full, Device::Cpu).unwrap();
    let half = checkpoint::read_tensors(&half, Device::Cpu).unwrap();
    assert_eq!(full.len(), half.len());
    assert!(full.iter().all(|(name, tensor)| half[name].equal(&tensor.to_kind(tch::Kind::BFloat16))));
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
    let share = [gguf_head(2, 0), gguf_tensor("a", &[16], 0, 0), gguf_tensor("b", &[4], 0, 32), vec![0; 128]].concat();
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
        (one(gguf_tensor("t", &[256], 10, 0)), "has type 10; F32, F16"),
        (one(gguf_tensor("t", &[128], 12, 0)), "not a multiple of Q4_K's block of 256"),
        (share, "tensors `a` and `b` share bytes"),
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
    let report = convert_gguf(&golden("tiny.gguf"), &out, &SaveOptions::default()).unwrap();
    assert_eq!((report.saved.num_tensors, report.vocab_size, report.num_added_tokens), (20, 267, 4));
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
        let message = convert_gguf(&file, &out, &SaveOptions::default()).unwrap_err().to_string();
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
    convert_gguf(Path::new(&file), &out, &SaveOptions::default()).unwrap();
    let expected = golden_json("smollm2_tensors.json");
    assert_eq!(expected["tensors"].as_object().unwrap().len(), 11);
    check_summaries(&out, &expected);
}
