//! Numbers that are not finite, from the weights to the end of the run.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rl_data::{ChatRecord, Message, write_jsonl};
use rl_models::ChatModel;
use rl_models::checkpoint::{load_tensors, save_tensors};
use rl_track::Progress;
use rl_train::{
    CriticConfig, CriticStart, Error, Interrupt, Method, ModelConfig, Preference, RewardModel, Rl, Sft, SftConfig,
    Trainer, Unpaired,
};
use tch::{Device, Tensor};

use crate::fixtures::*;
use crate::preference_fixtures::{self as pairs, DPO, KTO};

/// A copy of the checkpoint `model` with other weights.
pub fn changed(model: &Path, target: &Path, change: impl FnOnce(&mut BTreeMap<String, Tensor>)) -> PathBuf {
    fs::create_dir(target).unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
    }
    let weights = target.join("model.safetensors");
    let mut tensors = load_tensors(&weights, Device::Cpu).unwrap();
    change(&mut tensors);
    let borrowed: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    save_tensors(&weights, &borrowed).unwrap();
    target.to_path_buf()
}

pub fn set_one(tensors: &mut BTreeMap<String, Tensor>, name: &str, value: f64) {
    let _ = tensors.get_mut(name).unwrap().get(0).fill_(value);
}

fn error_of<M: Method>(config: M::Config) -> String {
    let run = |mut trainer: Trainer<M>| trainer.run(&Interrupt::manual(), &Progress::hidden());
    Trainer::<M>::new(config).and_then(run).unwrap_err().to_string()
}

#[test]
fn one_weight_that_is_not_a_number_ends_the_first_step_with_rows_and_tensor() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let data = root.join("copy.jsonl");
    write_copy_task(&data);
    let broken = changed(&half_trained(), &root.join("broken"), |tensors| {
        set_one(tensors, "model.norm.weight", f64::NAN);
    });
    let mut config = sft_config(root, "sft", &data, &[]);
    config.model = ModelConfig::from_path(&broken);
    let mut critic = rl_config(root, "critic", &half_trained(), &token_ppo(), &[]);
    if let Some(CriticConfig::Own { start, .. }) = &mut critic.critic {
        *start = CriticStart::LanguageModel(broken.clone());
    }
    let files = pairs::files();
    let broken_pairs = changed(&pairs::small_policy(), &root.join("broken-pairs"), |tensors| {
        set_one(tensors, "model.norm.weight", f64::NAN);
    });
    let model = format!("model.path=\"{}\"", broken_pairs.display());
    let start = "training.evaluation={ every = 3 }";
    for (name, message) in [
        ("sft", error_of::<Sft>(config)),
        ("grpo", error_of::<Rl>(rl_config(root, "grpo", &broken, GRPO, &[]))),
        ("critic", error_of::<Rl>(critic)),
        ("preference", error_of::<Preference>(files.preference("dpo", DPO, &[&model, start]))),
        ("unpaired", error_of::<Unpaired>(files.unpaired("kto", KTO, &[&model, start]))),
        ("reward model", error_of::<RewardModel>(files.reward_model("rm", &[&model, start]))),
    ] {
        eprintln!("{name}: {message}");
        for part in ["step 1: ", "rows ", "NaN"] {
            assert!(message.contains(part), "{name}: `{message}` should contain `{part}`");
        }
    }
    for run in ["sft", "grpo"] {
        assert!(!root.join(run).join("checkpoints").exists());
    }
}

/// A run on 40 rows, eight a step; one row holds a token whose embedding is infinite, in a model whose output weights are
/// its own.
fn one_bad_row(root: &Path, name: &str, changes: &[&str]) -> SftConfig {
    let (data, model) = (root.join("data.jsonl"), root.join("model"));
    if !model.exists() {
        let id = ChatModel::load(&half_trained(), Device::Cpu).unwrap().renderer.tokenizer().encode("@").unwrap()[0];
        changed(&half_trained(), &model, |tensors| {
            let embeddings = tensors["model.embed_tokens.weight"].copy();
            tensors.insert("lm_head.weight".into(), embeddings);
            let _ = tensors.get_mut("model.embed_tokens.weight").unwrap().get(i64::from(id)).fill_(f64::INFINITY);
        });
        let config = model.join("config.json");
        let text = fs::read_to_string(&config).unwrap();
        let untied = text.replace("\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
        assert_ne!(untied, text);
        fs::write(&config, untied).unwrap();
        let row = |index: usize| {
            let prompt = if index == 17 { "@" } else { "10" };
            ChatRecord::new(vec![Message::user(prompt), Message::assistant(format!("{}", index % 7))])
        };
        write_jsonl(&data, (0..40).map(row).collect::<Vec<_>>()).unwrap();
    }
    let base = ["batch_size=8", "training.micro_batch_tokens=60", "training.max_steps=30"];
    let mut config = sft_config(root, name, &data, &[&base[..], changes].concat());
    config.model = ModelConfig::from_path(model);
    config
}

#[test]
fn a_row_that_is_not_finite_is_named_or_skipped_and_counted_up_to_the_limit() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let message = error_of::<Sft>(one_bad_row(root, "error", &[]));
    assert!(message.contains("rows ") && message.contains("17") && message.contains("log_probs"), "{message}");

    let skip = ["training.non_finite={ policy = \"skip\", max_skipped = 2 }", "training.checkpoints.every=1"];
    let message = error_of::<Sft>(one_bad_row(root, "skip", &skip));
    assert!(message.contains("over the limit of 2") && message.contains("17"), "{message}");
    // Five steps see every row once; the third visit is one too many.
    let rows = metrics(&root.join("skip"));
    assert!((10..15).contains(&rows.len()), "{}", rows.len());
    assert!(message.contains(&format!("step {}: ", rows.len() + 1)), "{message}");
    let counts: Vec<u64> = rows.iter().map(|row| row["nonfinite_skipped"].as_f64().unwrap_or(0.0) as u64).collect();
    assert!(counts.is_sorted() && counts.contains(&1) && counts.last() == Some(&2), "{counts:?}");
    assert!(rows.iter().all(|row| row["loss"].is_number() && row["grad_norm"].is_number()));

    // The count outlives the process.
    let error = loop {
        let interrupt = Interrupt::manual();
        interrupt.raise();
        let mut trainer = Trainer::<Sft>::new(one_bad_row(root, "again", &skip)).unwrap();
        if let Err(error) = trainer.run(&interrupt, &Progress::hidden()) {
            break error;
        }
    };
    assert!(matches!(error, Error::AtStep { .. }) && error.to_string() == message, "{error}");
    assert_eq!(metrics(&root.join("again")), rows);
}

#[test]
fn a_held_out_row_that_is_not_finite_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let held_out = format!("held_out.all=\"{}\"", root.join("data.jsonl").display());
    one_bad_row(root, "unused", &[]);
    let at_start = "training.evaluation={ every = 1, at_start = true }";
    let message = error_of::<Sft>(one_bad_row(root, "run", &[&held_out, at_start]));
    assert!(message.contains("step 0") && message.contains("rows ") && message.contains("17"), "{message}");
}
