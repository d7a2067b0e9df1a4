//! `replay`: agrees with an honest record, names the first step that does not, writes nothing, asks nobody.

use std::fs;
use std::path::Path;

use rl_data::{PromptRecord, write_jsonl};
use rl_models::checkpoint::{load_tensors, save_tensors};
use rl_train::{Error, ModelConfig, Rl, RunConfig, Sft, SftConfig, Trainer, replay};
use tch::{Device, Tensor};

use crate::fixtures::*;
use crate::kill::check_replay;
use crate::record::*;

/// Adds to one weight.
fn change_one_weight(file: &Path) {
    let tensors = load_tensors(file, Device::Cpu).unwrap();
    let _ = tensors["model.layers.0.mlp.up_proj.weight"].get(0).get(0).g_add_scalar_(0.25);
    let borrowed: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    save_tensors(file, &borrowed).unwrap();
}

fn config(root: &Path, name: &str, changes: &[&str]) -> SftConfig {
    let (data, model) = (root.join("copy.jsonl"), root.join("model"));
    if !model.exists() {
        write_copy_task(&data);
        copy_folder(&half_trained(), &model);
    }
    let base = ["training.max_steps=4", "training.checkpoints.every=2"];
    let mut config = sft_config(root, name, &data, &[&base[..], changes].concat());
    config.model = ModelConfig::from_path(model);
    config
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[track_caller]
fn assert_diverges(config: &SftConfig, step: u64, first: u64) {
    let before = files(config.run());
    match replay::<Sft>(config, step) {
        Err(Error::Diverged { step, .. }) => assert_eq!(step, first),
        other => panic!("step {step}: {other:?}"),
    }
    assert_same_files(&files(config.run()), &before);
}

#[test]
fn a_changed_digit_of_the_record_or_a_lost_line_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "run", &[]);
    train::<Sft>(config.clone());
    check_replay::<Sft>(&config);
    let file = folder.path().join("run/metrics.jsonl");
    let text = fs::read_to_string(&file).unwrap();
    let digest = metrics(config.run())[2]["digest"].as_str().unwrap().to_owned();
    let last = if digest.ends_with('0') { '1' } else { '0' };
    fs::write(&file, text.replace(&digest, &format!("{}{last}", &digest[..digest.len() - 1]))).unwrap();
    assert_diverges(&config, 3, 3);
    assert_diverges(&config, 4, 3);
    assert_eq!(replay::<Sft>(&config, 2).unwrap().agreed, [1, 2]);

    let without: Vec<&str> = text.lines().filter(|line| !line.contains(&digest)).collect();
    fs::write(&file, without.join("\n") + "\n").unwrap();
    for step in [3, 4, 5] {
        let missing = step.max(3).min(if step == 5 { 5 } else { 3 });
        let error = replay::<Sft>(&config, step).unwrap_err();
        assert!(matches!(error, Error::NotRecorded { step } if step == missing), "{error}");
    }
}

#[test]
fn a_changed_token_of_the_data_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "run", &[]);
    train::<Sft>(config.clone());
    let data = config.data.datasets("data").next().unwrap().1.path.clone();
    let text = fs::read_to_string(&data).unwrap();
    // The first answer: 40 rows in steps of 16, so one of the first three has it.
    let changed = text.replacen("\"dog\"", "\"dig\"", 1);
    assert_ne!(changed, text);
    fs::write(&data, changed).unwrap();
    let Err(Error::Diverged { step, .. }) = replay::<Sft>(&config, 4).or_else(|_| replay::<Sft>(&config, 2)) else {
        panic!("the replay should diverge")
    };
    assert!((1..=4).contains(&step));
    fs::write(&data, text).unwrap();
    check_replay::<Sft>(&config);
}

#[test]
fn a_changed_weight_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "run", &[]);
    train::<Sft>(config.clone());
    // Of a checkpoint: it is passed over for the start.
    let weights = config.run().join("checkpoints/step-000002/model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    change_one_weight(&weights);
    let (replayed, log) = logged(|| replay::<Sft>(&config, 3).unwrap());
    assert_eq!((replayed.from, replayed.agreed.len()), (0, 3));
    assert!(log.contains("step-000002/model.safetensors"), "{log}");
    // And with a hash that fits.
    let sums = config.run().join("checkpoints/step-000002/checksums.json");
    let hash = |bytes: &[u8]| rl_track::hash::sha256_bytes(bytes);
    let text = fs::read_to_string(&sums).unwrap();
    fs::write(&sums, text.replace(&hash(&bytes), &hash(&fs::read(&weights).unwrap()))).unwrap();
    assert_diverges(&config, 3, 3);
    assert_diverges(&config, 4, 3);
    // Of the model that the run began with.
    change_one_weight(&folder.path().join("model/model.safetensors"));
    assert_diverges(&config, 2, 1);
}

#[test]
fn a_run_can_be_replayed_while_it_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), "run", &[]);
    train::<Sft>(config.clone());
    let open = Trainer::<Sft>::new(config.clone()).unwrap();
    let error = Trainer::<Sft>::new(config.clone()).err().unwrap().to_string();
    assert!(error.contains("run"), "{error}");
    check_replay::<Sft>(&config);
    drop(open);
}

fn digests(run: &Path) -> Vec<String> {
    let rows = metrics(run).into_iter().filter(|row| row["split"] == "train");
    rows.map(|row| row["digest"].as_str().unwrap().to_owned()).collect()
}

/// A digest stands for what a step read and computed: its loss, gradient and rate, and not who measured beside it.
#[test]
fn evaluations_leave_the_digests_alone_and_rates_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let held_out = format!("held_out.seen=\"{}\"", root.join("copy.jsonl").display());
    let without = config(root, "without", &[]);
    let with = config(root, "with", &[&held_out, "training.evaluation={ every = 1, at_start = true }"]);
    let slower = config(root, "slower", &["training.learning_rate={ kind = \"constant\", learning_rate = 3.9e-3 }"]);
    for config in [&without, &with, &slower] {
        train::<Sft>(config.clone());
    }
    assert_eq!(digests(with.run()), digests(without.run()));
    assert_eq!(curve(with.run(), "seen", "loss").len(), 5);
    for (slower, base) in digests(slower.run()).iter().zip(digests(without.run())) {
        assert_ne!(*slower, base);
    }
    for row in metrics(without.run()) {
        assert!(row["loss"].is_number() && row["grad_norm"].is_number() && row["learning_rate"].is_number());
    }
}

/// Scores of a program that never answers the same twice come from the record; the program is not even started.
#[test]
fn scores_from_outside_are_read_from_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (prompts, program) = (root.join("prompts.jsonl"), root.join("judge.py"));
    write_jsonl(&prompts, ["10", "J", "Q", "K", "9"].map(PromptRecord::new)).unwrap();
    let judge = "import json, random, sys\nprint('{\"ready\": true}', flush=True)\nfor line in sys.stdin:\n    \
                 print(json.dumps({'id': json.loads(line)['id'], 'score': random.random()}), flush=True)\n";
    fs::write(&program, judge).unwrap();
    let task = format!(
        "rollout.task={{ kind = \"prompts\", data = \"{}\", max_length = 64, too_long = \"error\" }}",
        prompts.display()
    );
    let reward = format!(
        "reward={{ workers = 1, deadline_seconds = 30, max_abandoned = 1, sources = [{{ name = \"judge\", source = {{ kind = \
         \"command\", argv = [\"python3\", \"{}\"], lifetime = {{ persistent = {{ start_seconds = 60 }} }} }} }}] }}",
        program.display()
    );
    let changes = [
        &task,
        &reward,
        "training.max_steps=3",
        "training.checkpoints.every=2",
        "rollout.prompts_per_step=3",
        "rollout.dynamic_sampling={ filter = { kind = \"mean_inside\", low = 0.3, high = 0.7 }, max_rounds = 50 }",
    ];
    let config = rl_config(root, "run", &half_trained(), GRPO, &changes);
    train::<Rl>(config.clone());
    fs::remove_file(&program).unwrap();
    check_replay::<Rl>(&config);

    let record = config.run().join("rewards/step-000002.json");
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains("\"ok\":0."), "{text}");
    // The first answer to each prompt, so little that the same groups are kept.
    let mut changed: serde_json::Value = serde_json::from_str(&text).unwrap();
    for call in changed["calls"].as_array_mut().unwrap() {
        for total in call["totals"].as_array_mut().unwrap().iter_mut().step_by(4) {
            *total = (total.as_f64().unwrap() + 1e-6).into();
        }
    }
    fs::write(&record, changed.to_string()).unwrap();
    let error = replay::<Rl>(&config, 2).unwrap_err();
    assert!(matches!(error, Error::Diverged { step: 2, .. }), "{error}");
    fs::remove_file(&record).unwrap();
    let error = replay::<Rl>(&config, 2).unwrap_err().to_string();
    assert!(error.contains("step 2") && error.contains("rewards/step-000002.json"), "{error}");
}
