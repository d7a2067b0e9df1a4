//! A task with a known best reward, a policy that half knows it, and short RL runs on it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rl_data::write_jsonl;
use rl_train::{RlConfig, Sft};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::fixtures::*;

/// The words to be said again; the best reward is 1.
pub const WORDS: [&str; 8] = ["dog", "cat", "sun", "sea", "red", "six", "oak", "map"];

/// All draws are the most probable token: answers depend on the prompt alone.
pub const DETERMINISTIC: [&str; 2] = ["rollout.sampling.temperature=1e-4", "rollout.log_prob_temperature=1.0"];
pub const GROUP: &str =
    r#"advantage = { kind = "group", estimator = { kind = "group_relative", std_epsilon = 1e-6 } }"#;
pub const MEAN: &str = r#"advantage = { kind = "group", estimator = { kind = "mean_baseline" } }"#;
pub const REINFORCE: &str = r#"advantage = { kind = "reinforce", gamma = 1.0 }"#;
pub const TOKEN_SHARED: &str = r#"
advantage = { kind = "gae", gamma = 1.0, gae_lambda = 0.95, whitening = { variance = "biased", floor = { max_variance = 1e-8 }, shift_mean = true, divide_by_std = true } }
critic = { kind = "shared", head = "network", value_coef = 0.5, value_clip = 0.5 }"#;
pub const TURN_SHARED: &str = r#"
turn_advantage = { gamma = 0.9, gae_lambda = 0.95, boundary = "terminated_or_truncated", whitening = { variance = "unbiased", floor = { add_to_std = 1e-5 }, shift_mean = true, divide_by_std = true } }
critic = { kind = "shared", head = "network", value_coef = 0.5, value_clip = 0.5 }"#;

/// Token advantages from a critic of its own that starts from the policy.
pub fn token_own(learning_rate: f64) -> String {
    format!(
        r#"
advantage = {{ kind = "gae", gamma = 1.0, gae_lambda = 1.0, whitening = {{ variance = "biased", floor = {{ max_variance = 1e-8 }}, shift_mean = true, divide_by_std = true }} }}
critic = {{ kind = "own", start = {{ language_model = "{}" }}, optimizer = {{ beta1 = 0.9, beta2 = 0.99, eps = 1e-8, weight_decay = 0.0 }}, learning_rate = {{ kind = "constant", learning_rate = {learning_rate:e} }}, max_grad_norm = inf }}"#,
        half_copying().display()
    )
}

/// One prompt for each word, with the answer that `answer` gives.
pub fn write_prompts(file: &Path, words: &[&str], answer: impl for<'a> Fn(&'a str) -> Option<&'a str>) {
    let row = |word: &&str| match answer(word) {
        Some(answer) => json!({ "prompt": format!("Say {word}."), "answer": answer }),
        None => json!({ "prompt": format!("Say {word}.") }),
    };
    write_jsonl(file, words.iter().map(row).collect::<Vec<Value>>()).unwrap();
}

/// A policy that says the right word sometimes: a short SFT run, made once for all tests.
pub fn half_copying() -> PathBuf {
    static MODEL: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("copy.jsonl");
        write_copy_task(&data);
        train::<Sft>(sft_config(
            folder.path(),
            "sft",
            &data,
            &["training.max_steps=40", "training.checkpoints.every=40"],
        ));
        folder
    });
    MODEL.path().join("sft/checkpoints/step-000040")
}

/// RL on the words from [`half_copying`] into `folder/<name>`; `algorithm` gives advantage and critic.
pub fn words_config(folder: &Path, name: &str, algorithm: &str, changes: &[&str]) -> RlConfig {
    rl_torch::set_num_threads(1);
    let data = folder.join("prompts.jsonl");
    if !data.exists() {
        write_prompts(&data, &WORDS, |word| Some(word));
    }
    let text = format!(
        r#"
        run = "{run}"
        seed = 5
        device = "cpu"
        model = {{ path = "{model}" }}
        objective = {{ kind = "clipped", ratio = {{ level = "token" }}, clip = {{ low = 0.2, high = 0.2 }} }}
        reduction = {{ kind = "token_mean" }}
        shaping = {{ steps = [{{ kind = "baseline" }}] }}
        updates = {{ epochs = 1, per_epoch = 1 }}
        {algorithm}
        [rollout]
        task = {{ kind = "prompts", data = "{data}", max_length = 64, too_long = "error" }}
        prompts_per_step = 8
        group_size = 4
        sampling = {{ max_new_tokens = 6, temperature = 1.0, num_slots = 64 }}
        samples_per_step = 0
        [reward]
        workers = 2
        deadline_seconds = 20
        max_abandoned = 0
        [[reward.sources]]
        name = "word"
        source = {{ kind = "match", field = "answer", extract = "whole", compare = "exact" }}
        [training]
        max_steps = 1
        micro_batch_tokens = 4096
        optimizer = {{ beta1 = 0.9, beta2 = 0.99, eps = 1e-8, weight_decay = 0.0 }}
        learning_rate = {{ kind = "constant", learning_rate = 2e-3 }}
        max_grad_norm = 1.0
        checkpoints = {{ every = 1000 }}
        "#,
        run = folder.join(name).display(),
        model = half_copying().display(),
        data = data.display(),
    );
    let changes: Vec<String> = changes.iter().map(|change| change.to_string()).collect();
    rl_track::config::parse(&text, "rl.toml", &changes).unwrap()
}

/// Advantages and rewards of the answers of one step.
pub fn answers(run: &Path, step: usize) -> (Vec<f64>, Vec<Option<f64>>) {
    let text = std::fs::read_to_string(run.join(format!("advantages/step-{step:06}.json"))).unwrap();
    let record: Value = serde_json::from_str(&text).unwrap();
    let numbers = |name: &str| record[name].as_array().unwrap().iter().map(Value::as_f64).collect::<Vec<_>>();
    (numbers("advantages").into_iter().map(Option::unwrap).collect(), numbers("rewards"))
}

/// The transcripts of a run.
pub fn samples(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("samples.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["sample"].clone()).collect()
}

/// What the last message of a sample says.
pub fn said(sample: &Value) -> &str {
    sample["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap()
}
