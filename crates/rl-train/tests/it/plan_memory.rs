//! Predicted peaks against those of real runs of SmolLM2-135M, each in a process of its own, since a peak is a process's.
//!
//! Runs when REINS_SLOW=1 is set and the weights are there (`cargo xtask model smollm2-135m`).

use std::path::{Path, PathBuf};
use std::process::Command;

use rl_data::write_jsonl;
use rl_train::plan::plan;
use rl_train::{Method, Preference, PreferenceConfig, Rl, RlConfig, Sft, SftConfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tch::Device;

const METHOD: &str = "RL_TRAIN_TEST_PEAK_METHOD";
const CONFIG: &str = "RL_TRAIN_TEST_PEAK_CONFIG";
/// `plan` or `run`.
const WHAT: &str = "RL_TRAIN_TEST_PEAK_OF";
/// Predicted over measured peak of the process, up or down.
const PEAK: f64 = 0.10;
/// In the second step gradients and moments are there.
const STEPS: u64 = 2;

/// Not a test by itself: the process whose peak is predicted or measured. Prints bytes.
#[test]
#[ignore = "started by the test of this module"]
fn child() {
    let (Ok(method), Ok(config), Ok(what)) = (std::env::var(METHOD), std::env::var(CONFIG), std::env::var(WHAT)) else {
        return;
    };
    let config = Path::new(&config);
    let bytes = match method.as_str() {
        "sft" => bytes::<Sft>(config, &what),
        "dpo" => bytes::<Preference>(config, &what),
        "grpo" => bytes::<Rl>(config, &what),
        other => panic!("{other}"),
    };
    println!("bytes {bytes}");
}

fn bytes<M: Method>(config: &Path, what: &str) -> u64
where
    M::Config: DeserializeOwned,
{
    rl_torch::set_num_threads(2);
    let config: M::Config = rl_track::config::load(config, &[]).unwrap();
    if what == "plan" {
        let plan = plan(&config).unwrap();
        eprintln!("{plan}");
        return plan.memory.peak();
    }
    let mut method = M::build(&config, Device::Cpu, None).unwrap();
    method.connect().unwrap();
    for step in 0..STEPS {
        method.step(step).unwrap();
    }
    rl_torch::peak_resident_bytes().unwrap()
}

fn in_a_process(method: &str, config: &Path, what: &str) -> u64 {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["plan_memory::child", "--exact", "--include-ignored", "--nocapture", "--test-threads=1"]);
    let output = command.env(METHOD, method).env(CONFIG, config).env(WHAT, what).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    let line = text.lines().find_map(|line| line.split("bytes ").nth(1));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or_else(|| panic!("{method} {what}: {text}"))
}

/// The least peak of up to three runs. How much the allocator leaves unused between the tensors of several threads depends
/// on when each of them runs, and it is most where other programs want the cores too.
fn least_peak(method: &str, config: &Path, predicted: f64) -> u64 {
    let mut least = u64::MAX;
    for _ in 0..3 {
        least = least.min(in_a_process(method, config, "run"));
        if (least as f64) < predicted * (1.0 + PEAK) {
            break;
        }
    }
    least
}

fn smollm2() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../data/models/smollm2-135m");
    folder.join("config.json").exists().then_some(folder)
}

/// About `words` words of text, other ones for each row.
fn text(row: usize, words: usize) -> String {
    const WORDS: [&str; 12] =
        ["river", "stone", "quickly", "seven", "follows", "a", "bright", "garden", "under", "the", "old", "market"];
    (0..words).map(|word| WORDS[(row * 5 + word * 7 + word / 5) % WORDS.len()]).collect::<Vec<_>>().join(" ")
}

fn config(folder: &Path, model: &Path, own: &str, micro_batch_tokens: usize) -> String {
    format!(
        r#"
        run = "{run}"
        seed = 1
        device = "cpu"
        model = {{ path = "{model}" }}
        {own}
        [training]
        max_steps = 8
        micro_batch_tokens = {micro_batch_tokens}
        optimizer = {{ beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0 }}
        learning_rate = {{ kind = "constant", learning_rate = 1e-6 }}
        max_grad_norm = 1.0
        checkpoints = {{ every = 8 }}
        "#,
        run = folder.join("run").display(),
        model = model.display(),
    )
}

fn sft(folder: &Path, model: &Path) -> String {
    let row = |row: usize| -> Value {
        let words = 20 + 50 * (row % 7);
        json!({ "messages": [{ "role": "user", "content": text(row, 20) }, { "role": "assistant", "content": text(row + 1, words) }] })
    };
    let data = folder.join("chats.jsonl");
    write_jsonl(&data, (0..8).map(row).collect::<Vec<_>>()).unwrap();
    let own = format!(
        r#"data = "{}"
        train_on = "assistant"
        selection = {{ max_length = 600, too_long = "right", unusable = "error" }}
        batch_size = 8"#,
        data.display()
    );
    config(folder, model, &own, 512)
}

fn dpo(folder: &Path, model: &Path) -> String {
    let row = |row: usize| -> Value {
        let words = 30 + 60 * row;
        json!({ "prompt": text(row, words), "chosen": text(row + 1, words + 40), "rejected": text(row + 2, words) })
    };
    let data = folder.join("pairs.jsonl");
    write_jsonl(&data, (0..4).map(row).collect::<Vec<_>>()).unwrap();
    let own = format!(
        r#"data = "{}"
        seams = "response"
        selection = {{ max_length = 1024, too_long = "error", unusable = "error" }}
        batch_size = 4
        objective = {{ losses = [{{ loss = {{ kind = "sigmoid", beta = 0.1 }} }}] }}
        reference = {{ log_probs = "live" }}"#,
        data.display()
    );
    config(folder, model, &own, 512)
}

fn grpo(folder: &Path, model: &Path) -> String {
    let data = folder.join("prompts.jsonl");
    write_jsonl(&data, (0..8).map(|row| json!({ "prompt": text(row, 30) })).collect::<Vec<Value>>()).unwrap();
    let own = format!(
        r#"objective = {{ kind = "clipped", ratio = {{ level = "token" }}, clip = {{ low = 0.2, high = 0.2 }} }}
        reduction = {{ kind = "token_mean" }}
        shaping = {{ steps = [{{ kind = "baseline" }}] }}
        advantage = {{ kind = "group", estimator = {{ kind = "group_relative", std_epsilon = 1e-4 }} }}
        updates = {{ epochs = 1, per_epoch = 1 }}
        rollout.task = {{ kind = "prompts", data = "{}", max_length = 256, too_long = "error" }}
        rollout.prompts_per_step = 2
        rollout.group_size = 8
        rollout.sampling = {{ max_new_tokens = 96, temperature = 1.0, num_slots = 16 }}
        rollout.samples_per_step = 0
        reward = {{ workers = 1, deadline_seconds = 20.0, max_abandoned = 0, sources = [{{ name = "short", source = {{ kind = "length", unit = "characters", free = 0, limit = 2000 }} }}] }}"#,
        data.display()
    );
    config(folder, model, &own, 1024)
}

#[test]
fn predicted_peaks_are_within_a_tenth_of_measured_ones() {
    if std::env::var("REINS_SLOW").is_ok_and(|value| value == "1") {
        let model = smollm2().expect("the weights: cargo xtask model smollm2-135m");
        let mut complaints = Vec::new();
        for (name, config) in [("sft", sft as fn(&Path, &Path) -> String), ("dpo", dpo), ("grpo", grpo)] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("run.toml");
            std::fs::write(&file, config(folder.path(), &model)).unwrap();
            let predicted = in_a_process(name, &file, "plan") as f64;
            let measured = least_peak(name, &file, predicted) as f64;
            let line = format!("{name}: {:.3} GB predicted, {:.3} measured", predicted / 1e9, measured / 1e9);
            eprintln!("{line}");
            if PEAK < (predicted / measured - 1.0).abs() {
                complaints.push(line);
            }
        }
        assert!(complaints.is_empty(), "{complaints:?}");
    }
}

/// The configurations of the slow test are valid.
#[test]
fn the_measured_configurations_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new("model");
    let read = |text: String| text;
    rl_track::config::parse::<SftConfig>(&read(sft(folder.path(), model)), "sft", &[]).unwrap();
    rl_track::config::parse::<PreferenceConfig>(&read(dpo(folder.path(), model)), "dpo", &[]).unwrap();
    rl_track::config::parse::<RlConfig>(&read(grpo(folder.path(), model)), "grpo", &[]).unwrap();
}
