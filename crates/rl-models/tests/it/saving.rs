//! Saving in several types and files, converting folders, and checksums.

use std::collections::BTreeMap;
use std::path::Path;

use rl_models::checkpoint::{self, SaveOptions, SideFiles};
use rl_models::config::Dtype;
use rl_models::{Decoder, ModelConfig};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

use crate::files::{bits, borrow, tiny_config, tiny_tensors};
use crate::tiny;

/// The ways to store a model that are shown to be the same model: name, options, type of the numbers.
const LAYOUTS: [(&str, SaveOptions, Kind); 3] = [
    ("f32", SaveOptions { dtype: None, max_shard_size: 5_000_000_000 }, Kind::Float),
    ("f32-sharded", SaveOptions { dtype: None, max_shard_size: 9_000 }, Kind::Float),
    ("bf16", SaveOptions { dtype: Some(Dtype::BFloat16), max_shard_size: 5_000_000_000 }, Kind::BFloat16),
];

/// Every layout reads back as the weights it was made from, and gives their logits bit for bit.
///
/// `REINS_KEEP_SAVED=FOLDER` keeps the folders and the logits for `tests/golden/check_saved.py`, which asks transformers.
#[test]
fn every_layout_is_the_same_model() {
    let temporary = tempfile::tempdir().unwrap();
    let kept = std::env::var_os("REINS_KEEP_SAVED").map(std::path::PathBuf::from);
    let root = kept.as_deref().unwrap_or(temporary.path());
    let ids: Vec<i64> = (3..23).collect();
    for name in tiny::NAMES {
        let config = checkpoint::read_config(&tiny::golden(name)).unwrap();
        let golden = checkpoint::read_tensors(&tiny::golden(name), Device::Cpu).unwrap();
        for (layout, options, kind) in LAYOUTS {
            let folder = root.join(format!("{name}-{layout}"));
            let side_files = SideFiles::default();
            let saved = checkpoint::save_folder_as(&folder, &config, &borrow(&golden), &side_files, &options).unwrap();
            assert_eq!(1 < saved.files.len(), layout.ends_with("sharded"), "{saved:?}");
            assert_eq!(checkpoint::read_config(&folder).unwrap().torch_dtype.map(Dtype::kind), Some(kind));
            let expected: BTreeMap<String, Tensor> =
                golden.iter().map(|(name, tensor)| (name.clone(), tensor.to_kind(kind))).collect();
            let found = checkpoint::read_tensors(&folder, Device::Cpu).unwrap();
            assert!(found.keys().eq(expected.keys()));
            assert!(found.iter().all(|(name, tensor)| bits(tensor) == bits(&expected[name])));

            let logits = tiny::logits(&tiny::load(&folder), &ids);
            let config = ModelConfig { torch_dtype: Dtype::from_kind(kind), ..config.clone() };
            let reference = Decoder::from_tensors(config, expected, tch::Kind::Float, Device::Cpu).unwrap();
            assert_eq!(logits, tiny::logits(&reference, &ids), "{name} {layout}");
            if kept.is_some() {
                let record = json!({ "golden": name, "ids": ids, "logits": logits }).to_string();
                std::fs::write(root.join(format!("{name}-{layout}.record.json")), record).unwrap();
            }
        }
    }
}

/// The layout that transformers writes: names, index, sizes, metadata.
#[test]
fn shards_follow_the_layout_of_the_hub() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("sharded");
    let tensors = tiny_tensors(Kind::Float);
    let limit = 500; // the largest tensor takes 4 * 12 * 8 = 384 bytes
    let options = SaveOptions { dtype: Some(Dtype::Float16), max_shard_size: limit };
    let saved =
        checkpoint::save_folder_as(&out, &tiny_config(), &borrow(&tensors), &SideFiles::default(), &options).unwrap();
    let index: Value =
        serde_json::from_slice(&std::fs::read(out.join("model.safetensors.index.json")).unwrap()).unwrap();
    let numbers: u64 = tensors.values().map(|tensor| tensor.numel() as u64).sum();
    assert_eq!(index["metadata"]["total_size"], json!(2 * numbers));
    assert_eq!(saved.num_bytes, 2 * numbers);
    let count = saved.files.len();
    assert!(2 < count, "{saved:?}");
    let map = index["weight_map"].as_object().unwrap();
    assert_eq!(map.len(), tensors.len());
    for (number, file) in saved.files.iter().enumerate() {
        assert_eq!(*file, format!("model-{:05}-of-{count:05}.safetensors", number + 1));
        // Read by the format's own crate.
        let bytes = std::fs::read(out.join(file)).unwrap();
        let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let (_, metadata) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
        assert_eq!(metadata.metadata().as_ref().unwrap()["format"], "pt");
        assert!(parsed.tensors().iter().map(|(_, view)| view.data().len() as u64).sum::<u64>() <= limit);
        for (name, view) in parsed.tensors() {
            assert_eq!(map[&name], json!(file));
            assert_eq!(view.data(), bits(&tensors[&name].to_kind(Kind::Half)));
        }
    }
    // Configuration, index and shards, and nothing else.
    assert_eq!(std::fs::read_dir(&out).unwrap().count(), 2 + count);
    let zero = SaveOptions { dtype: None, max_shard_size: 0 };
    let again = folder.path().join("zero");
    let result = checkpoint::save_folder_as(&again, &tiny_config(), &borrow(&tensors), &SideFiles::default(), &zero);
    assert!(result.unwrap_err().to_string().contains("`max_shard_size` is 0"));
    assert!(!again.exists());
}

#[test]
fn a_number_that_does_not_fit_names_its_tensor_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("out");
    let mut tensors = tiny_tensors(Kind::Float);
    let _ = tensors.get_mut("model.norm.weight").unwrap().get(2).fill_(-1e6);
    let options = SaveOptions { dtype: Some(Dtype::Float16), ..SaveOptions::default() };
    let result = checkpoint::save_folder_as(&out, &tiny_config(), &borrow(&tensors), &SideFiles::default(), &options);
    let message = result.unwrap_err().to_string();
    let expected = "tensor `model.norm.weight` holds a number of size 1000000, and f16 ends at 65504";
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_folder_is_converted_to_other_types_and_files_and_back() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let mut tensors = tiny_tensors(Kind::BFloat16);
    let config = tiny_config();
    let mut side_files = SideFiles::default();
    side_files.insert("tokenizer.json", b"{}".to_vec()).unwrap();
    checkpoint::save_folder(&at("bf16"), &config, &borrow(&tensors), &side_files).unwrap();
    let f32_sharded = SaveOptions { dtype: Some(Dtype::Float32), max_shard_size: 700 };
    let saved = checkpoint::convert_folder(&at("bf16"), &at("f32"), &f32_sharded).unwrap();
    assert!(1 < saved.files.len());
    let back = SaveOptions { dtype: Some(Dtype::BFloat16), ..SaveOptions::default() };
    checkpoint::convert_folder(&at("f32"), &at("back"), &back).unwrap();
    // bf16 to f32 and back loses nothing, so every file is the same again.
    assert_eq!(
        checkpoint::checksums(&at("back")).unwrap()["config.json"],
        checkpoint::checksums(&at("bf16")).unwrap()["config.json"]
    );
    let found = checkpoint::read_tensors(&at("back"), Device::Cpu).unwrap();
    assert!(tensors.iter().all(|(name, tensor)| bits(&found[name]) == bits(tensor)));
    assert_eq!(SideFiles::from_folder(&at("back")).unwrap(), side_files);

    // A folder that contradicts its configuration is not converted.
    tensors.remove("model.norm.weight");
    std::fs::remove_file(at("bf16").join("model.safetensors")).unwrap();
    checkpoint::save_tensors(&at("bf16").join("model.safetensors"), &borrow(&tensors)).unwrap();
    let message = checkpoint::convert_folder(&at("bf16"), &at("broken"), &back).unwrap_err().to_string();
    assert!(message.contains("1 missing (model.norm.weight)"), "{message}");
    assert!(!at("broken").exists());
}

#[test]
fn checksums_find_what_changed() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("a", "abc");
    write("b", "");
    std::fs::create_dir(folder.path().join("inner")).unwrap();
    let recorded = checkpoint::checksums(folder.path()).unwrap();
    // FIPS 180-2, appendix B.1, and the digest of nothing.
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    assert_eq!(recorded, BTreeMap::from([("a".into(), abc.into()), ("b".into(), nothing.into())]));
    checkpoint::verify_checksums(folder.path(), &recorded).unwrap();
    write("a", "abd");
    write("c", "new");
    std::fs::remove_file(folder.path().join("b")).unwrap();
    let message = checkpoint::verify_checksums(folder.path(), &recorded).unwrap_err().to_string();
    assert!(message.ends_with("not the files that were recorded: 1 changed (a); 1 missing (b); 1 not recorded (c)"));
    assert!(checkpoint::checksums(Path::new("no-such-folder")).is_err());
}
