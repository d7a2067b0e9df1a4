//! What a plan says, against counts by hand and against the run it is of.

use std::path::{Path, PathBuf};

use rl_data::write_jsonl;
use rl_models::checkpoint::save_folder;
use rl_models::{Decoder, ModelConfig};
use rl_torch::memory::MemoryTracker;
use rl_train::plan::{Plan, Planned, plan};
use rl_train::{Distill, Method, Preference, RewardModel, Rl, RunConfig, Sft, Trainer, Unpaired};
use serde::de::DeserializeOwned;
use serde_json::json;
use tch::Device;

use crate::distill::{distill_config, student};
use crate::fixtures::*;
use crate::preference_fixtures::{DPO, KTO, LORA, WPO, files, small_policy};
use crate::rl_fixtures::{GROUP, words_config};

/// Predicted over measured bytes of tensors that a pass makes, up or down.
const TENSOR_BYTES: f64 = 0.05;
/// What a screen holds.
const COLUMNS: usize = 80;
const LINES: usize = 42;

fn planned<C: Planned>(config: &C) -> Plan {
    plan(config).unwrap()
}

#[test]
fn rows_tokens_and_steps_are_those_of_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let changes =
        ["-max_steps", "training.epochs=2", "selection={ max_length = 128, too_long = \"drop\", unusable = \"drop\" }"];
    let mut config = sft_config(folder.path(), "run", &data, &changes[2..]);
    config.training.max_steps = None;
    config.training.epochs = Some(2);
    let expected = planned(&config);
    // 40 rows twice, 16 at a time.
    assert_eq!((expected.steps, expected.files[0].rows, expected.files[0].kept), (5, 40, 40));
    train::<Sft>(config);
    let rows = metrics(&folder.path().join("run"));
    assert_eq!(rows.len(), 5);
    let sum = |name: &str| rows.iter().map(|row| row[name].as_f64().unwrap()).sum::<f64>();
    let file = &expected.files[0];
    assert_eq!((sum("num_tokens"), sum("num_labels")), (2.0 * file.tokens as f64, 2.0 * file.trained as f64));
}

#[test]
fn dropped_rows_are_counted_by_reason() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("mixed.jsonl");
    let row = |answer: &str| json!({ "messages": [{ "role": "user", "content": "Say dog." }, { "role": "assistant", "content": answer }] });
    let long = "dog ".repeat(80);
    let unanswered = json!({ "messages": [{ "role": "user", "content": "Say dog." }] });
    write_jsonl(&data, [row("dog"), row(&long), unanswered, row("cat"), row(&long)]).unwrap();
    let selection = "selection={ max_length = 40, too_long = \"drop\", unusable = \"drop\" }";
    let mut config = sft_config(folder.path(), "run", &data, &[selection]);
    config.model = rl_train::ModelConfig::from_path(small_policy());
    let found = planned(&config);
    let file = &found.files[0];
    assert_eq!((file.rows, file.kept), (5, 2));
    assert_eq!(file.dropped, ["2 too long", "1 not renderable"]);
    let screen = found.to_string();
    for part in ["2 of 5 rows kept (2 too long, 1 not renderable)", "first failure: row 2"] {
        assert!(screen.contains(part), "{part} in\n{screen}");
    }
}

/// Every trainer's plan fits a screen and says what there is to say.
#[test]
fn a_plan_is_one_screen() {
    let fixtures = files();
    let root = fixtures.root();
    let chats = root.join("copy.jsonl");
    write_copy_task(&chats);
    let screens = [
        planned(&sft_config(root, "sft", &chats, &[])),
        planned(&fixtures.reward_model("reward", &[LORA])),
        planned(&fixtures.preference("dpo", DPO, &["training.ema_decay=0.9"])),
        planned(&fixtures.unpaired("kto", KTO, &[])),
        planned(&words_config(root, "rl", GROUP, &[])),
        planned(&rl_config(root, "game", &half_trained(), &token_ppo(), &[])),
        planned(&distill_config(root, "distill", &student(), &["on_policy_fraction=0.5"])),
    ];
    for found in screens {
        let screen = found.to_string();
        assert!(screen.lines().count() <= LINES, "{screen}");
        assert!(screen.lines().all(|line| line.chars().count() <= COLUMNS), "{screen}");
        for part in ["models", "data", "steps", "largest pass", "memory", "weights", "disk", "fits", "#"] {
            assert!(screen.contains(part), "{part} in\n{screen}");
        }
        found.check().unwrap();
    }
}

/// A checkpoint whose passes are large enough beside everything that is not counted; with the tokenizer of the small policy.
fn wide_model(folder: &Path) -> PathBuf {
    let target = folder.join("wide");
    let bytes = std::fs::read(small_policy().join("config.json")).unwrap();
    let mut config: ModelConfig = serde_json::from_slice(&bytes).unwrap();
    (config.hidden_size, config.intermediate_size, config.num_hidden_layers) = (128, 320, 6);
    (config.num_attention_heads, config.num_key_value_heads) = (8, 2);
    let decoder = Decoder::random(config, 1, Device::Cpu).unwrap();
    let chat = rl_models::ChatModel::load(&small_policy(), Device::Cpu).unwrap();
    let tensors = decoder.parameters();
    let named: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    save_folder(&target, decoder.config(), &named, &chat.side_files).unwrap();
    target
}

/// Peak of the tensors that the second step makes beyond those that were there, and what the plan says of its phases.
fn tensor_bytes<M: Method>(config: &M::Config) -> (f64, f64) {
    let expected = plan(config).unwrap().memory.largest_phase().unwrap().bytes();
    let mut method = M::build(config, Device::Cpu, None).unwrap();
    method.step(0).unwrap();
    let tracker = MemoryTracker::start().unwrap();
    method.step(1).unwrap();
    (expected as f64, tracker.stop().unwrap().peak_bytes as f64)
}

/// What is wrong with the prediction for a configuration, if anything.
fn complaint<M: Method>(
    name: &str,
    model: &Path,
    mut config: M::Config,
    set: impl FnOnce(&mut M::Config, &Path),
) -> Option<String> {
    set(&mut config, model);
    config.validate().unwrap();
    let (expected, found) = tensor_bytes::<M>(&config);
    let ratio = expected / found;
    let line = format!("{name}: {expected} predicted, {found} found: {ratio:.3}");
    println!("{line}");
    (TENSOR_BYTES < (ratio - 1.0).abs()).then_some(line)
}

/// The terms of a pass are counted to the tensor, so they hold on a model of any size.
#[test]
fn a_pass_makes_the_tensors_that_are_predicted() {
    let fixtures = files();
    let root = fixtures.root();
    let model = wide_model(root);
    let long = root.join("long.jsonl");
    let words = |row: u64| ["dog", "cat", "sun", "sea"][row as usize % 4].to_owned() + " red";
    let chat = |row: u64| {
        let text = vec![words(row); 6 + row as usize % 7].join(" ");
        json!({ "messages": [{ "role": "user", "content": text }, { "role": "assistant", "content": text }] })
    };
    write_jsonl(&long, (0..16).map(chat).collect::<Vec<_>>()).unwrap();
    let one_pass = "training.micro_batch_tokens=100000";
    let lengths = "selection.max_length=190";
    let sft = |name: &str, further: &[&str]| sft_config(root, name, &long, &[&[one_pass, lengths], further].concat());
    let base = |config: &mut rl_train::SftConfig, model: &Path| {
        config.model = rl_train::ModelConfig { new: None, path: Some(model.into()), ..config.model.clone() };
    };
    let complaints: Vec<String> = [
        complaint::<Sft>("sft", &model, sft("sft", &[]), base),
        complaint::<Sft>(
            "sft, checkpointed",
            &model,
            sft("checkpointed", &["model.gradient_checkpointing=true"]),
            base,
        ),
        complaint::<Sft>("sft, adapters", &model, sft("adapters", &[]), |config, model| {
            base(config, model);
            config.model.lora = Some(lora(0.0));
        }),
        complaint::<Sft>("sft, adapters with dropout", &model, sft("dropout", &[]), |config, model| {
            base(config, model);
            config.model.lora = Some(lora(0.1));
        }),
        complaint::<Preference>(
            "dpo",
            &model,
            fixtures.preference("dpo", DPO, &[one_pass, "batch_size=24"]),
            |config, model| {
                config.model.path = Some(model.into());
            },
        ),
        complaint::<Preference>(
            "wpo",
            &model,
            fixtures.preference("wpo", WPO, &[one_pass, "batch_size=24"]),
            |config, model| {
                config.model.path = Some(model.into());
            },
        ),
        complaint::<RewardModel>(
            "reward",
            &model,
            fixtures.reward_model("reward", &[one_pass, "batch_size=24"]),
            |config, model| {
                config.model.path = Some(model.into());
            },
        ),
        complaint::<Unpaired>(
            "kto",
            &model,
            fixtures.unpaired("kto", KTO, &[one_pass, "batch_size=48"]),
            |config, model| {
                config.model.path = Some(model.into());
            },
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
}

fn refused<C: Planned + DeserializeOwned>(config: &C) -> String {
    plan(config).and_then(|plan| plan.check()).unwrap_err().to_string()
}

/// 90 layers of adapters over nothing would take days; a limit below what the process holds refuses any run.
#[test]
fn a_run_that_cannot_fit_is_refused_and_the_refusal_can_be_overruled() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    // Weights of 2^24 by 2^13 in f32 take half a terabyte, with gradients and moments four times that.
    let huge =
        ["model.new.hidden_size=1048576", "model.new.intermediate_size=1048576", "model.new.num_hidden_layers=16"];
    let config = sft_config(folder.path(), "run", &data, &huge);
    let message = refused(&config);
    for part in
        ["memory", "available", "training.micro_batch_tokens", "gradient_checkpointing", "training.memory_check"]
    {
        assert!(message.contains(part), "{part} in {message}");
    }
    let error = match Trainer::<Sft>::new(config) {
        Ok(_) => panic!("accepted"),
        Err(error) => error.to_string(),
    };
    assert!(error.contains("training.memory_check"), "{error}");
    assert!(!folder.path().join("run").exists());
    // Overruled, the plan speaks of the disk next, which is as little.
    let config = sft_config(folder.path(), "run", &data, &[&huge[..], &["training.memory_check=off"]].concat());
    let message = refused(&config);
    assert!(message.contains("`run`") && message.contains("keep_last"), "{message}");
}

/// The switch moves no result, so it is no part of the record and a run may go on under another one.
#[test]
fn a_run_goes_on_under_another_memory_check() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    train_one_step::<Sft>(sft_config(folder.path(), "run", &data, &["training.max_steps=2"]));
    train::<Sft>(sft_config(folder.path(), "run", &data, &["training.max_steps=2", "training.memory_check=off"]));
    assert_eq!(metrics(&folder.path().join("run")).len(), 2);
}

/// The metrics that a configuration may name are those that an evaluation gives.
#[test]
fn evaluations_give_the_metrics_that_are_announced() {
    fn check<M: Method>(config: M::Config) {
        let mut method = M::build(&config, Device::Cpu, None).unwrap();
        let rows = method.evaluate(0).unwrap();
        let mut given: Vec<String> =
            rows.iter().flat_map(|row| row.values.iter().map(|(name, _)| format!("{}/{name}", row.split))).collect();
        let mut announced = config.metrics();
        given.sort();
        announced.sort();
        assert_eq!(given, announced);
    }
    let fixtures = files();
    let root = fixtures.root();
    let chats = root.join("copy.jsonl");
    write_copy_task(&chats);
    check::<Sft>(sft_config(root, "sft", &chats, &[&format!("held_out.seen=\"{}\"", chats.display())]));
    check::<RewardModel>(fixtures.reward_model("reward", &[]));
    check::<Preference>(fixtures.preference("dpo", DPO, &[]));
    check::<Preference>(fixtures.preference("combined", crate::preference_fixtures::COMBINED, &[]));
    check::<Unpaired>(fixtures.unpaired("kto", KTO, &[]));
    check::<Distill>(distill_config(root, "distill", &student(), &[]));
    let sampling = "sampling = { max_new_tokens = 6, temperature = 0.0, num_slots = 8 }";
    let prompts = format!(
        "{{ kind = \"prompts\", data = \"{}\", max_length = 64, too_long = \"error\" }}",
        root.join("prompts.jsonl").display()
    );
    let validation = |task: &str| format!("validation={{ task = {task}, seed = 9, num_prompts = 4, {sampling} }}");
    let game = format!(
        "{{ kind = \"environment\", environment = {} }}",
        GAME.replacen('{', "{ name = \"general_points\",", 1)
    );
    check::<Rl>(rl_config(root, "game", &half_trained(), GRPO, &[&validation(&game)]));
    let mut config = words_config(root, "words", GROUP, &[&validation(&prompts)]);
    config.reward.iter_mut().for_each(|reward| reward.deadline_seconds = 20.0);
    let mut method = Rl::build(&config, Device::Cpu, None).unwrap();
    method.connect().unwrap();
    let given = method.evaluate(0).unwrap();
    let names: std::collections::BTreeSet<String> =
        given.iter().flat_map(|row| row.values.iter().map(|(name, _)| format!("{}/{name}", row.split))).collect();
    assert_eq!(names, config.metrics().into_iter().collect());
}

/// `measure` takes real steps of every trainer and leaves nothing.
#[test]
fn the_largest_step_is_measured() {
    let fixtures = files();
    let root = fixtures.root();
    let chats = root.join("copy.jsonl");
    write_copy_task(&chats);
    let mut sft = sft_config(root, "sft", &chats, &[]);
    sft.model = rl_train::ModelConfig::from_path(small_policy());
    let measured = [
        sft.measure(Device::Cpu).unwrap(),
        fixtures.reward_model("reward", &[]).measure(Device::Cpu).unwrap(),
        fixtures.preference("dpo", DPO, &[]).measure(Device::Cpu).unwrap(),
        fixtures.unpaired("kto", KTO, &[]).measure(Device::Cpu).unwrap(),
        rl_config(root, "rl", &half_trained(), GRPO, &[]).measure(Device::Cpu).unwrap(),
        distill_config(root, "distill", &student(), &[]).measure(Device::Cpu).unwrap(),
    ];
    for found in measured {
        assert!(0.0 < found.seconds && 0 < found.peak, "{found:?}");
    }
    for name in ["sft", "reward", "dpo", "kto", "rl", "distill"] {
        assert!(!root.join(name).exists(), "{name} was made");
    }
    let new = sft_config(root, "sft", &chats, &[]).measure(Device::Cpu).unwrap_err().to_string();
    assert!(new.contains("model.new"), "{new}");
}
