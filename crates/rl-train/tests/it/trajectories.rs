//! Five optimizer steps against TRL's trainers: the same rows, weights and optimizer, so the same losses and the same end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use approx::assert_relative_eq;
use rl_models::checkpoint::load_tensors;
use rl_train::batch::TrainingRow;
use rl_train::{Method, Preference, RewardModel, Sft, TrainingAnswer, TrainingPair, Unpaired};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

/// Absolute, of every step's loss; relative to it for losses above 1.
const LOSS: f64 = 1e-4;
/// Relative, of every step's gradient norm.
const GRAD_NORM: f64 = 1e-4;
/// Relative, of every tensor's 2-norm after the last step.
const WEIGHTS: f64 = 1e-4;
const STEPS: usize = 5;
const ROWS: usize = 20;
const SEED: u64 = 1;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/trajectories")
}

fn recorded() -> Value {
    serde_json::from_slice(&std::fs::read(folder().join("trajectories.json")).unwrap()).unwrap()
}

/// The configuration of a run with TRL's settings; `own` is what the method adds.
fn config<T: serde::de::DeserializeOwned>(run: &Value, own: &str) -> T {
    rl_torch::set_num_threads(1);
    let text = format!(
        r#"
        run = "unused"
        seed = {SEED}
        device = "cpu"
        data = "unused"
        selection = {{ max_length = 64, too_long = "error", unusable = "error" }}
        batch_size = 4
        model = {{ path = "{model}" }}
        {own}
        [training]
        max_steps = {STEPS}
        micro_batch_tokens = 64
        optimizer = {{ beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = {decay} }}
        learning_rate = {{ kind = "constant", learning_rate = 1e-3 }}
        groups = [{{ parameters = ["norm"], weight_decay = 0.0 }}]
        max_grad_norm = 1.0
        checkpoints = {{ every = {STEPS} }}
        "#,
        model = folder().join(run["model"].as_str().unwrap()).display(),
        decay = run["settings"]["weight_decay"].as_f64().unwrap(),
    );
    rl_track::config::parse(&text, "trajectory.toml", &[]).unwrap()
}

fn ids(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|id| id.as_i64().unwrap()).collect()
}

/// The rows of a run in the order trained, put where the visit of the first epoch finds them in that order.
fn rows<T>(run: &Value, row: impl Fn(u64, &Value) -> T) -> Vec<T> {
    let steps = run["steps"].as_array().unwrap();
    assert_eq!(steps.len(), STEPS);
    let micro_batches = steps.iter().flat_map(|step| step["micro_batches"].as_array().unwrap());
    let rows = micro_batches.flat_map(|micro| micro["rows"].as_array().unwrap());
    let mut placed: BTreeMap<usize, T> = BTreeMap::new();
    for (index, (place, value)) in rl_data::epoch_order(SEED, 0, ROWS).into_iter().zip(rows).enumerate() {
        placed.insert(place, row(index as u64, value));
    }
    assert_eq!(placed.len(), ROWS);
    placed.into_values().collect()
}

fn pair(id: u64, row: &Value) -> TrainingPair {
    let [prompt, chosen, rejected] = ["prompt_ids", "chosen_ids", "rejected_ids"].map(|name| ids(&row[name]));
    TrainingPair::new(id, &prompt, &chosen, &rejected, row["margin"].as_f64())
}

/// Trains five steps and compares every loss, every gradient norm and the weights at the end.
fn check<M: Method>(name: &str, run: &Value, mut method: M) {
    let mut worst = [0.0_f64; 2];
    for (step, expected) in run["steps"].as_array().unwrap().iter().enumerate() {
        let report = method.step(step as u64).unwrap();
        let [loss, norm] = ["loss", "grad_norm"].map(|metric| report.row.get(metric).unwrap());
        let [expected_loss, expected_norm] = ["loss", "grad_norm"].map(|metric| expected[metric].as_f64().unwrap());
        worst[0] = worst[0].max((loss - expected_loss).abs());
        worst[1] = worst[1].max((norm / expected_norm - 1.0).abs());
        assert_relative_eq!(loss, expected_loss, epsilon = LOSS, max_relative = LOSS);
        assert_relative_eq!(norm, expected_norm, max_relative = GRAD_NORM);
    }
    let target = tempfile::tempdir().unwrap();
    method.save(target.path()).unwrap();
    let ours = load_tensors(&target.path().join("model.safetensors"), Device::Cpu).unwrap();
    let theirs = load_tensors(&folder().join(run["weights"].as_str().unwrap()), Device::Cpu).unwrap();
    let norm = |tensor: &Tensor| tensor.to_kind(Kind::Double).norm().double_value(&[]);
    let mut largest = 0.0_f64;
    for (tensor_name, expected) in &theirs {
        let difference = norm(&(&ours[tensor_name] - expected)) / norm(expected);
        largest = largest.max(difference);
        assert!(difference < WEIGHTS, "{name}: {tensor_name} is off by {difference:e}");
    }
    assert_eq!(ours.len(), theirs.len());
    assert!(100.0 * WEIGHTS < run["moved"].as_f64().unwrap(), "{name}: the weights moved");
    eprintln!("{name}: loss {:.1e}, gradient norm {:.1e}, weights {largest:.1e}", worst[0], worst[1]);
}

#[test]
fn sft_follows_trl() {
    let run = &recorded()["runs"]["sft"];
    let row = |id, row: &Value| TrainingRow {
        id,
        ids: ids(&row["ids"]),
        trainable: row["trainable"].as_array().unwrap().iter().map(|flag| flag.as_bool().unwrap()).collect(),
        group: None,
    };
    let config = config(run, r#"train_on = "assistant""#);
    check("sft", run, Sft::from_rows(&config, rows(run, row), Vec::new(), Device::Cpu, None).unwrap());
}

#[test]
fn preference_losses_follow_trl() {
    let reference = r#"reference = { log_probs = "live" }"#;
    let objectives = [
        (
            "dpo-sigmoid",
            format!("{reference}\nobjective = {{ losses = [{{ loss = {{ kind = \"sigmoid\", beta = 0.1 }} }}] }}"),
        ),
        (
            "dpo-ipo",
            format!(
                "{reference}\nobjective = {{ losses = [{{ loss = {{ kind = \"ipo\", beta = 0.1, scale = \"mean\" }} }}] }}"
            ),
        ),
        (
            "orpo",
            r#"[objective]
            losses = [{ loss = { kind = "orpo", beta = 0.1 } }]
            nll = { coef = 1.0, reduction = { kind = "token_mean" }, tokens = "prompt_and_response" }"#
                .into(),
        ),
        ("simpo", r#"objective = { losses = [{ loss = { kind = "simpo", beta = 2.0, gamma = 0.5 } }] }"#.into()),
    ];
    for (name, own) in objectives {
        let run = &recorded()["runs"][name];
        let config = config(run, &format!("seams = \"error\"\n{own}"));
        check(name, run, Preference::from_pairs(&config, rows(run, pair), Vec::new(), Device::Cpu, None).unwrap());
    }
}

#[test]
fn the_reward_model_follows_trl() {
    let run = &recorded()["runs"]["reward"];
    let own = "seams = \"error\"\nhead = \"initializer_range\"\nmargins = true\ncentering_coef = 0.01";
    let config = config(run, own);
    check("reward", run, RewardModel::from_pairs(&config, rows(run, pair), Vec::new(), Device::Cpu, None).unwrap());
}

#[test]
fn kto_follows_trl() {
    let run = &recorded()["runs"]["kto"];
    let own = r#"
        seams = "error"
        objective = { loss = { kind = "kto", beta = 0.1 }, undesirable_weight = 1.5 }"#;
    let answer = |id, row: &Value| {
        TrainingAnswer::new(
            id,
            &ids(&row["prompt_ids"]),
            &ids(&row["response_ids"]),
            row["desirable"].as_bool().unwrap(),
        )
    };
    let config = config(run, own);
    check("kto", run, Unpaired::from_answers(&config, rows(run, answer), Vec::new(), Device::Cpu, None).unwrap());
}
