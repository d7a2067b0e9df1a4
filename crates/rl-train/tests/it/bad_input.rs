//! Wrong input ends with one error that names it, and leaves nothing half made.

use std::fs;
use std::path::{Path, PathBuf};

use rl_train::batch::TrainingRow;
use rl_train::{Finish, Method, Rl, RlConfig, Sft, SftConfig, Trainer};
use tch::Device;
use tempfile::TempDir;

use crate::fixtures::*;

fn copy_task() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    (folder, data)
}

/// A copy of a checkpoint, to be damaged.
fn copy_of(model: &Path, target: &Path) {
    fs::create_dir(target).unwrap();
    for entry in fs::read_dir(model).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, target.join(path.file_name().unwrap())).unwrap();
    }
}

/// The error of a configuration whose fresh run folder must hold no checkpoint and no metrics afterwards.
#[track_caller]
fn refused<M: Method>(config: M::Config, run: &Path, expected: &[&str]) {
    let message = match Trainer::<M>::new(config) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    for part in expected {
        assert!(message.contains(part), "`{message}` should contain `{part}`");
    }
    for name in ["manifest.json", "config.toml", "checkpoints", "metrics.jsonl", "samples.jsonl"] {
        assert!(!run.join(name).exists(), "{name} was made");
    }
}

#[test]
fn models_that_cannot_be_loaded_are_named() {
    let (folder, data) = copy_task();
    let root = folder.path();
    let missing = root.join("missing");
    let truncated = root.join("truncated");
    copy_of(&half_trained(), &truncated);
    let weights = truncated.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..bytes.len() / 2]).unwrap();
    // A tokenizer with one token more than the model has rows.
    let foreign = root.join("foreign");
    copy_of(&half_trained(), &foreign);
    let tokenizer = foreign.join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&tokenizer).unwrap()).unwrap();
    let vocab = json["model"]["vocab"].as_object_mut().unwrap();
    let added = 3; // special tokens, counted in the vocabulary too or beside it
    vocab.insert("zzzz".into(), (vocab.len() + added).into());
    vocab.insert("zzzzz".into(), (vocab.len() + added).into());
    for i in 0..added {
        vocab.insert(format!("zzzzzz{i}"), (vocab.len() + added).into());
    }
    fs::write(&tokenizer, json.to_string()).unwrap();

    let cases: [(&str, &Path, &[&str]); 3] = [
        ("missing", &missing, &["missing"]),
        ("truncated", &truncated, &["truncated/model.safetensors", "not a readable safetensors file"]),
        ("foreign", &foreign, &["this tokenizer does not belong to this model"]),
    ];
    for (name, model, expected) in cases {
        let run = format!("{name}-rl");
        refused::<Rl>(rl_config(root, &run, model, GRPO, &[]), &root.join(&run), expected);
        let run = format!("{name}-sft");
        let mut config = sft_config(root, &run, &data, &[]);
        config.model = rl_train::ModelConfig::from_path(model);
        refused::<Sft>(config, &root.join(&run), expected);
    }
}

#[test]
fn the_mend_of_a_bad_model_needs_no_other_run_folder() {
    let (folder, data) = copy_task();
    let root = folder.path();
    let model = root.join("model");
    copy_of(&half_trained(), &model);
    let weights = model.join("model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    fs::write(&weights, &bytes[..100]).unwrap();
    let config = rl_config(root, "rl", &model, GRPO, &["training.max_steps=1"]);
    refused::<Rl>(config.clone(), &root.join("rl"), &["model.safetensors"]);
    fs::write(&weights, bytes).unwrap();
    train::<Rl>(config);

    let short = sft_config(root, "sft", &data, &["training.max_steps=1", "selection.max_length=4"]);
    refused::<Sft>(short, &root.join("sft"), &["4"]);
    train::<Sft>(sft_config(root, "sft", &data, &["training.max_steps=1"]));
}

#[test]
fn unknown_keys_and_values_out_of_range_are_named() {
    let (folder, data) = copy_task();
    let root = folder.path();
    let sft = rl_track::config::to_toml(&sft_config(root, "run", &data, &[])).unwrap();
    let rl = rl_track::config::to_toml(&rl_config(root, "run", &half_trained(), GRPO, &[])).unwrap();
    let overridden = |text: &str| vec![text.to_string()];
    let error = rl_track::config::parse::<SftConfig>(&sft, "sft.toml", &overridden("batch_sise=4")).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("batch_sise") && message.contains("`batch_size`"), "{message}");
    let error = rl_track::config::parse::<RlConfig>(&rl, "rl.toml", &overridden("updates.epoch=1")).unwrap_err();
    assert!(error.to_string().contains("updates.epoch"), "{error}");

    let cases: [(&str, &[&str]); 8] = [
        ("rollout.sampling.top_p=0.9", &["sampling", "must not truncate"]),
        ("rollout.sampling.top_k=5", &["sampling", "must not truncate"]),
        ("rollout.sampling.temperature=0.0", &["rollout.sampling.temperature", "must be positive"]),
        ("rollout.sampling.num_slots=0", &["num_slots", "must be positive"]),
        ("rollout.group_size=1", &["group_size", "at least 2"]),
        ("updates.per_epoch=33", &["updates.per_epoch", "33", "must not exceed"]),
        ("rollout.task.environment.num_cards=9", &["num_cards", "9"]),
        ("device=\"gpu\"", &["gpu"]),
    ];
    for (change, expected) in cases {
        let config = rl_config(root, "refused", &half_trained(), GRPO, &[change]);
        refused::<Rl>(config, &root.join("refused"), expected);
        assert!(!root.join("refused").exists(), "{change}: refused before the run folder is made");
    }
    let by_token = "shaping={ steps = [{ kind = \"token_kl\" }] }";
    let config = rl_config(root, "refused", &half_trained(), PPO, &[by_token]);
    refused::<Rl>(config, &root.join("refused"), &["shaping.steps", "TokenKl", "turn_advantage"]);
    let rejection = "selection.max_off_policy_kl=0.1";
    let config = rl_config(root, "refused", &half_trained(), GRPO, &[rejection, "rollout.log_prob_temperature=0.5"]);
    refused::<Rl>(config, &root.join("refused"), &["rollout.log_prob_temperature", "0.5", "sampler"]);
    let mut config = sft_config(root, "refused", &data, &[]);
    config.model.path = Some(half_trained());
    refused::<Sft>(config, &root.join("refused"), &["model", "give either model.path or model.new"]);
    let config = sft_config(root, "refused", &data, &["training.checkpoints.every=0"]);
    refused::<Sft>(config, &root.join("refused"), &["training.checkpoints.every"]);
    let config = sft_config(root, "refused", &data, &["selection.max_length=4"]);
    refused::<Sft>(config, &root.join("refused"), &["4"]);
}

#[test]
fn data_that_cannot_be_trained_on_is_named() {
    let (folder, _) = copy_task();
    let root = folder.path();
    let cases = [
        ("missing", None, "missing.jsonl"),
        ("empty", Some(""), ""),
        ("torn", Some("{\"messages\": [{\"role\": \"user\", \"con"), "torn.jsonl"),
    ];
    for (name, text, expected) in cases {
        let data = root.join(format!("{name}.jsonl"));
        if let Some(text) = text {
            fs::write(&data, text).unwrap();
        }
        refused::<Sft>(sft_config(root, name, &data, &[]), &root.join(name), &[expected]);
    }
}

#[test]
fn a_run_folder_that_cannot_be_written_is_named() {
    let (folder, data) = copy_task();
    let file = folder.path().join("file");
    fs::write(&file, b"").unwrap();
    // Below a file, and in a file system that nobody may write to.
    for root in [file.as_path(), Path::new("/proc")] {
        let config = sft_config(root, "reins-run", &data, &[]);
        refused::<Sft>(config, &root.join("reins-run"), &["reins-run"]);
        let config = rl_config(root, "reins-run", &half_trained(), PPO, &[]);
        refused::<Rl>(config, &root.join("reins-run"), &["reins-run"]);
    }
}

#[test]
fn another_configuration_in_the_same_folder_is_refused() {
    let (folder, data) = copy_task();
    train::<Sft>(sft_config(folder.path(), "run", &data, &["training.max_steps=1"]));
    let before = metrics(&folder.path().join("run"));
    let error =
        match Trainer::<Sft>::new(sft_config(folder.path(), "run", &data, &["training.max_steps=1", "batch_size=8"])) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        };
    assert!(error.contains("batch_size"), "{error}");
    assert_eq!(metrics(&folder.path().join("run")), before);
}

/// An evaluation that decides and is not there is named before anything is read.
#[test]
fn a_metric_that_nobody_measures_is_named() {
    let (folder, data) = copy_task();
    let changes = [
        r#"training.evaluation={ every = 1, at_start = true, best = { metric = "seeen/loss", goal = "min" } }"#,
        &format!("held_out.seen=\"{}\"", data.display()),
    ];
    let config = sft_config(folder.path(), "run", &data, &changes);
    refused::<Sft>(
        config,
        &folder.path().join("run"),
        &["training.evaluation.best.metric", "seeen/loss", "`seen/loss`"],
    );
}

#[test]
fn a_step_without_a_label_names_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = sft_config(folder.path(), "run", &folder.path().join("unused.jsonl"), &[]);
    (config.model.path, config.model.new) = (Some(half_trained()), None);
    let row = TrainingRow { id: 7, ids: vec![1, 2, 3], trainable: vec![false; 3], group: None };
    let message = match Sft::from_rows(&config, vec![row], Vec::new(), Device::Cpu, None).unwrap().step(0) {
        Ok(_) => panic!("a step of nothing"),
        Err(error) => error.to_string(),
    };
    assert!(message.contains("rows 7") && message.contains("labels"), "{message}");
}

/// A rate of 0 leaves every evaluation as it was at the start, which is measured and has no checkpoint.
#[test]
fn the_best_step_has_a_checkpoint_also_when_the_start_is_no_worse() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let held_out = format!("held_out.seen=\"{}\"", data.display());
    let best = r#"training.evaluation={ every = 1, at_start = true, best = { metric = "seen/loss", goal = "min", patience = 2 } }"#;
    let rate = "training.learning_rate={ kind = \"constant\", learning_rate = 0.0 }";
    let config = sft_config(folder.path(), "run", &data, &[&held_out, best, rate, "training.max_steps=9"]);
    assert!(matches!(train::<Sft>(config), Finish::EndedEarly { step: 3, best: 1 }));
    let run = folder.path().join("run");
    assert_eq!(curve(&run, "seen", "loss").len(), 4);
    assert!(run.join("checkpoints/step-000001/model.safetensors").exists());
}
