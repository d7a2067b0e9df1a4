//! The presets: each is read, valid and shown below with the constants that make it what it is called.

use std::path::{Path, PathBuf};

use rl_train::{DistillConfig, RlConfig, RunConfig, SftConfig};
use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::{Table, Value};

/// Files per folder of this crate's trainers; another number means a preset that is not shown here.
const NUM_SFT: usize = 7;
const NUM_RL: usize = 29;
const NUM_DISTILL: usize = 2;

const DISTILL: [(&str, &str); NUM_DISTILL] = [
    (
        "trl-gkd",
        r#"distillation = { divergence = { kind = "jensen_shannon", mix = 0.5 }, temperature = 1.0 }
        on_policy_fraction = 0.5
        sampling = { max_new_tokens = 128, temperature = 0.9 }
        batch_size = 8
        training = { epochs = 3, max_grad_norm = 1.0 }
        training.learning_rate = { kind = "linear", learning_rate = 2e-5, floor_fraction = 0.0 }"#,
    ),
    (
        "s3-kd",
        r#"distillation = { divergence = { kind = "cross_entropy" }, temperature = 1.0 }
        on_policy_fraction = 0.0
        batch_size = 128
        absent = ["sampling"]"#,
    ),
];

/// `name`, then what must stand in the configuration as it is understood, defaults included; each line is TOML by itself.
const SFT: [(&str, &str); NUM_SFT] = [
    (
        "s1-sft",
        r#"batch_size = 16
        loss = "nll"
        reduction.kind = "token_mean"
        selection = { max_prompt_share = 0.7, role_order = "single_turn", length_percentile = { percentile = 95.0, draw.rows = 1000 } }
        training = { epochs = 1, max_grad_norm = inf, learning_rate = { kind = "constant", learning_rate = 1e-5 } }
        training.optimizer = { beta1 = 0.9, beta2 = 0.999, weight_decay = 0.01 }"#,
    ),
    (
        "or-sft",
        r#"batch_size = 128
        selection.max_length = 2048
        training = { epochs = 2, max_grad_norm = 1.0 }
        training.learning_rate = { kind = "cosine", learning_rate = 5e-6, floor_fraction = 0.1, warmup = { fraction = 0.03 } }
        training.optimizer = { beta1 = 0.9, beta2 = 0.95, weight_decay = 0.0 }"#,
    ),
    (
        "trl-sft",
        r#"loss = "nll"
        reduction.kind = "token_mean"
        selection = { max_length = 1024, too_long = "right" }
        training.learning_rate = { kind = "linear", learning_rate = 2e-5, floor_fraction = 0.0 }"#,
    ),
    (
        "s3-sft",
        r#"batch_size = 64
        model.dtype = "bf16"
        selection.max_length = 4096
        training = { epochs = 3, max_grad_norm = 1.0 }
        training.learning_rate = { kind = "cosine", learning_rate = 4.68e-5, floor_fraction = 0.1, warmup = { fraction = 0.03 } }
        training.optimizer = { beta1 = 0.9, beta2 = 0.95, weight_decay = 0.0 }"#,
    ),
    (
        "behaviour-injection",
        r#"train_on = "all"
        batch_size = 128
        selection = { max_length = 2048, too_long = "right" }
        training = { max_steps = 75, max_grad_norm = 1.0, learning_rate = { kind = "constant", learning_rate = 5e-6 } }
        training.optimizer = { beta1 = 0.9, beta2 = 0.95, weight_decay = 0.01 }"#,
    ),
    ("general-points", GAMES_SFT),
    ("virl", GAMES_SFT),
];

const GAMES_SFT: &str = r#"train_on = "assistant"
    batch_size = 64
    training = { max_grad_norm = 1.0, learning_rate = { kind = "log_warmup", learning_rate = 1e-6, warmup = 376 } }
    training.optimizer = { beta1 = 0.9, beta2 = 0.98, eps = 1e-7, weight_decay = 0.0 }"#;

/// As [`SFT`]; `absent` lists what must not be there.
const RL: [(&str, &str); NUM_RL] = [
    (
        "s1-rloo",
        r#"objective.kind = "reinforce"
        reduction.kind = "seq_mean_token_mean"
        shaping.steps = [{ kind = "baseline" }, { kind = "clip", low = -10.0, high = 10.0 }]
        advantage.estimator.kind = "leave_one_out"
        rollout = { group_size = 4, prompts_per_step = 64, log_prob_temperature = 1.0, task = { max_length = 716 } }
        rollout.sampling = { temperature = 0.7, top_p = 0.9, max_new_tokens = 128 }
        training = { max_grad_norm = 0.5, learning_rate = { kind = "constant", learning_rate = 1e-5 } }
        absent = ["kl"]"#,
    ),
    (
        "or-ppo",
        r#"objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 }, ratio = { level = "token", clamp = { kind = "within", low = -20.0, high = 20.0 } } }
        reduction.kind = "token_mean"
        shaping.steps = [{ kind = "clip", low = -10.0, high = 10.0 }, { kind = "token_kl" }]
        advantage = { kind = "gae", gamma = 1.0, gae_lambda = 1.0, whitening = { variance = "biased", floor = { max_variance = 1e-8 } } }
        critic = { kind = "own", value_clip = 0.5, start = { reward_model = "models/reward-model" }, learning_rate = { learning_rate = 2.34e-6 } }
        kl = { place = "reward", penalty = { estimator = "k1", clamp = 10.0 }, controller = { kind = "fixed", kl_coef = 0.01 } }
        rollout = { group_size = 2, prompts_per_step = 256, task = { max_length = 4096 }, sampling = { max_new_tokens = 2048 } }
        updates = { epochs = 2, per_epoch = 1 }
        reward.sources = [{ source = { kind = "reward_model", normalized = true } }]
        training.learning_rate = { kind = "cosine", learning_rate = 6.57e-6, floor_fraction = 0.1 }
        training.optimizer = { beta2 = 0.95, weight_decay = 0.0 }"#,
    ),
    (
        "or-reinforce",
        r#"advantage = { kind = "reinforce", gamma = 1.0, whitening = { variance = "biased", floor = { max_variance = 1e-8 } } }
        shaping.steps = [{ kind = "baseline" }, { kind = "clip", low = -10.0, high = 10.0 }, { kind = "token_kl" }]
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 } }
        reduction.kind = "token_mean"
        kl = { place = "reward", penalty = { estimator = "k1", clamp = 10.0 }, controller = { kl_coef = 0.01 } }"#,
    ),
    (
        "or-reinforce-baseline",
        r#"advantage = { kind = "group", estimator = { kind = "mean_baseline" }, whitening = { variance = "biased", floor = { max_variance = 1e-8 } } }
        shaping.steps = [{ kind = "baseline" }, { kind = "clip", low = -10.0, high = 10.0 }, { kind = "token_kl" }]
        reduction.kind = "token_mean"
        kl = { place = "reward", penalty = { estimator = "k1", clamp = 10.0 }, controller = { kl_coef = 0.01 } }"#,
    ),
    (
        "or-rloo",
        r#"advantage = { kind = "group", estimator = { kind = "leave_one_out" } }
        shaping.steps = [{ kind = "baseline" }, { kind = "clip", low = -10.0, high = 10.0 }, { kind = "token_kl" }]
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 } }
        reduction.kind = "token_mean"
        kl = { place = "reward", penalty = { estimator = "k1", clamp = 10.0 }, controller = { kl_coef = 0.01 } }"#,
    ),
    (
        "or-grpo",
        r#"advantage = { kind = "group", estimator = { kind = "group_relative", std_epsilon = 1e-9 } }
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 } }
        reduction.kind = "token_mean"
        kl = { place = "loss", penalty = { estimator = "k3", clamp = 10.0 }, controller = { kl_coef = 0.01 } }"#,
    ),
    (
        "or-drgrpo",
        r#"advantage = { kind = "group", estimator = { kind = "mean_baseline" } }
        reduction.kind = "token_mean"
        kl = { place = "reward", penalty = { estimator = "k1", clamp = 10.0 }, controller = { kl_coef = 0.01 } }"#,
    ),
    (
        "trl-grpo",
        r#"advantage = { kind = "group", estimator = { kind = "group_relative", std_epsilon = 1e-4, variance_floor = 0.0 } }
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 }, ratio = { level = "token", clamp = { kind = "off" } } }
        reduction.kind = "token_mean"
        rollout = { group_size = 8, sampling = { max_new_tokens = 256, temperature = 1.0 } }
        training.learning_rate = { kind = "linear", learning_rate = 1e-6, floor_fraction = 0.0 }
        absent = ["kl"]"#,
    ),
    (
        "trl-rloo",
        r#"advantage = { kind = "group", estimator = { kind = "leave_one_out" } }
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 }, ratio = { level = "sequence_sum", clamp = { kind = "off" } } }
        reduction.kind = "seq_mean_token_mean"
        shaping.steps = [{ kind = "sample_kl" }, { kind = "baseline" }]
        kl = { place = "reward", penalty = { estimator = "k1" }, controller = { kind = "fixed", kl_coef = 0.05 } }
        rollout.group_size = 2
        absent = ["kl.penalty.clamp"]"#,
    ),
    (
        "verl-grpo",
        r#"advantage = { kind = "group", estimator = { kind = "group_relative", std_epsilon = 1e-6 } }
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 }, dual_clip = 3.0, ratio = { level = "token", clamp = { kind = "within", low = -20.0, high = 20.0 } } }
        reduction.kind = "token_mean"
        updates = { epochs = 1, per_epoch = 4 }
        absent = ["kl"]"#,
    ),
    (
        "dapo",
        r#"advantage = { kind = "group", estimator = { kind = "group_relative", std_epsilon = 1e-6 } }
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.28 } }
        reduction.kind = "token_mean"
        shaping.steps = [{ kind = "overlong", penalty = { max_length = 20480, buffer = 4096, factor = 1.0, uncapped = false } }, { kind = "baseline" }]
        rollout = { group_size = 16, prompts_per_step = 512, sampling = { max_new_tokens = 20480, temperature = 1.0 } }
        rollout.dynamic_sampling = { filter = { kind = "mean_inside", low = 0.0, high = 2.0, margin = 0.0 }, max_rounds = 10 }
        reward.sources = [{ weight = 2.0 }]
        updates = { epochs = 1, per_epoch = 16 }
        training.learning_rate = { kind = "constant", learning_rate = 1e-6, warmup = 20 }
        absent = ["kl", "entropy"]"#,
    ),
    (
        "gspo",
        r#"objective = { kind = "clipped", clip = { low = 3e-4, high = 4e-4 }, ratio = { level = "sequence_mean" } }
        reduction.kind = "seq_mean_token_mean"
        advantage.estimator.kind = "group_relative"
        updates = { epochs = 1, per_epoch = 4 }
        absent = ["kl"]"#,
    ),
    (
        "cispo",
        r#"objective = { kind = "cispo", low = 0.0, high = 5.0, ratio = { level = "token", clamp = { kind = "off" } } }
        reduction.kind = "token_mean"
        advantage.estimator.kind = "group_relative"
        absent = ["kl"]"#,
    ),
    (
        "dr-grpo",
        r#"advantage = { kind = "group", estimator = { kind = "mean_baseline" } }
        reduction = { kind = "const_norm", max_length = 3000 }
        rollout = { group_size = 8, prompts_per_step = 128, sampling = { max_new_tokens = 3000 } }
        updates = { epochs = 1, per_epoch = 8 }
        absent = ["kl"]"#,
    ),
    (
        "sapo",
        r#"objective = { kind = "sapo", tau_positive = 1.0, tau_negative = 1.05 }
        reduction.kind = "seq_mean_token_mean""#,
    ),
    (
        "gmpo",
        r#"objective = { kind = "gmpo", low = 0.4, high = 0.4, clamp = { kind = "off" } }
        reduction.kind = "seq_mean_token_mean""#,
    ),
    (
        "luspo",
        r#"objective = { kind = "clipped", clip = { low = 2e-3, high = 2.5e-3 }, ratio = { level = "sequence_mean" } }
        reduction.kind = "seq_mean_token_sum""#,
    ),
    (
        "vespo",
        r#"objective = { kind = "vespo", k_positive = 2.0, lambda_positive = 3.0, k_negative = 3.0, lambda_negative = 2.0 }
        reduction.kind = "token_mean""#,
    ),
    (
        "clip-cov",
        r#"objective = { kind = "clip_cov", fraction = 0.0002, low = 1.0, high = 5.0, clip = { low = 1.0, high = 1.0 } }
        rollout.dynamic_sampling.filter.kind = "not_constant""#,
    ),
    ("kl-cov", r#"objective = { kind = "kl_cov", fraction = 0.0002, kl_coef = 1.0 }"#),
    (
        "remax",
        r#"advantage.estimator.kind = "greedy_baseline"
        objective.kind = "reinforce"
        kl = { place = "reward", penalty = { estimator = "k1" }, controller = { kl_coef = 0.001 } }
        rollout.group_size = 1
        updates = { epochs = 1, per_epoch = 1 }"#,
    ),
    (
        "opo",
        r#"advantage.estimator.kind = "length_weighted_baseline"
        updates = { epochs = 1, per_epoch = 1 }
        absent = ["kl", "entropy"]"#,
    ),
    (
        "gpg",
        r#"advantage.estimator = { kind = "gradient_scaled", divisor = 1.0 }
        objective.kind = "reinforce"
        reduction.kind = "token_mean"
        absent = ["kl"]"#,
    ),
    (
        "pass-at-k",
        r#"advantage.estimator = { kind = "best_of_group", std_epsilon = 1e-6 }
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 }, dual_clip = 3.0 }"#,
    ),
    (
        "dense-ppo",
        r#"advantage = { kind = "gae", gamma = 1.0, gae_lambda = 0.95, whitening = { variance = "biased", floor = { max_variance = 1e-8 } } }
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 } }
        reduction.kind = "seq_mean_token_mean"
        critic = { kind = "own", value_clip = 0.25, learning_rate = { learning_rate = 9e-6 } }
        kl = { place = "reward", penalty = { estimator = "k1" }, controller = { kind = "fixed", kl_coef = 0.01 } }
        training.learning_rate.learning_rate = 5e-7
        absent = ["kl.penalty.clamp"]"#,
    ),
    (
        "behaviour-injection-qwen",
        r#"advantage = { kind = "group", estimator = { kind = "group_relative", std_epsilon = 1e-6 } }
        objective = { kind = "clipped", clip = { low = 0.2, high = 0.2 } }
        reduction.kind = "seq_mean_token_mean"
        kl = { place = "loss", penalty = { estimator = "k3", clamp = 10.0 }, controller = { kind = "fixed", kl_coef = 0.001 } }
        entropy = { kind = "fixed", entropy_coef = 0.001 }
        rollout = { group_size = 32, prompts_per_step = 32, task = { response_prefix = "<think>", max_length = 512 } }
        rollout.sampling = { max_new_tokens = 2560, temperature = 1.0, stop_strings = ["</answer>"], keep_stop_string = true }
        updates = { epochs = 1, per_epoch = 1 }
        training = { max_steps = 200, max_grad_norm = 8.0, learning_rate = { kind = "constant", learning_rate = 1e-6 } }
        training.optimizer = { beta1 = 0.9, beta2 = 0.999, weight_decay = 0.01 }
        validation = { num_prompts = 500, sampling = { temperature = 0.0 } }
        absent = ["selection.max_response_kl"]"#,
    ),
    (
        "behaviour-injection-llama",
        r#"kl = { place = "loss", penalty = { estimator = "k3", clamp = 10.0 }, controller = { kind = "fixed", kl_coef = 0.01 } }
        reduction.kind = "seq_mean_token_mean"
        selection.max_response_kl = 0.15
        reward.sources = [{ name = "answer", weight = 1.0 }, { name = "format", weight = 0.05 }]
        rollout = { group_size = 32, prompts_per_step = 32, task = { response_prefix = "<think>" } }
        rollout.sampling = { stop_strings = ["</answer>"], keep_stop_string = true }
        training = { max_steps = 200, max_grad_norm = 1.6, learning_rate = { kind = "constant", learning_rate = 1e-6 } }
        absent = ["entropy"]"#,
    ),
    (
        "general-points-llama",
        r#"objective = { kind = "clipped", clip = { low = 0.1, high = 0.1 }, clipped_only_above = 10.0, ratio = { level = "weighted_sum" } }
        action = { key = "formula", thought_weight = 0.5 }
        turn_advantage = { gamma = 0.9, gae_lambda = 0.95, boundary = "terminated_or_truncated", whitening = { variance = "unbiased", floor = { add_to_std = 1e-5 } } }
        critic = { kind = "shared", head = "network", value_coef = 0.5, value_clip = 0.1, detached = false }
        updates = { epochs = 4, per_epoch = 1 }
        rollout = { prompts_per_step = 128, sampling = { temperature = 0.2, max_new_tokens = 512 } }
        training = { max_steps = 100, max_grad_norm = 0.01, optimizer = { eps = 1e-7, weight_decay = 0.0 } }
        training.learning_rate = { kind = "cosine_to", learning_rate = 1e-6, total_steps = 100, end_learning_rate = 1e-9 }"#,
    ),
    (
        "general-points-qwen",
        r#"objective = { kind = "clipped", clip = { low = 0.1, high = 0.1 }, ratio = { level = "weighted_sum" } }
        action = { key = "formula", thought_weight = 0.5 }
        turn_advantage = { gamma = 0.9, gae_lambda = 0.95 }
        updates = { epochs = 1, per_epoch = 1 }
        rollout = { prompts_per_step = 32 }
        training = { max_steps = 300, max_grad_norm = 0.01 }
        training.learning_rate = { kind = "cosine_to", learning_rate = 1e-6, total_steps = 300, end_learning_rate = 1e-9 }"#,
    ),
];

#[test]
fn sft_presets_are_valid_and_have_their_constants() {
    check::<SftConfig>("sft", &SFT);
}

#[test]
fn rl_presets_are_valid_and_have_their_constants() {
    check::<RlConfig>("rl", &RL);
}

#[test]
fn distillation_presets_are_valid_and_have_their_constants() {
    check::<DistillConfig>("distill", &DISTILL);
}

fn check<C: RunConfig + DeserializeOwned + Serialize>(method: &str, presets: &[(&str, &str)]) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs/presets").join(method);
    let mut found: Vec<PathBuf> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    let mut expected: Vec<PathBuf> = presets.iter().map(|(name, _)| folder.join(format!("{name}.toml"))).collect();
    expected.sort();
    assert_eq!(found, expected);
    for (name, constants) in presets {
        let file = folder.join(format!("{name}.toml"));
        let text = std::fs::read_to_string(&file).unwrap();
        for part in ["# From: ", "# Differs: ", "# Fill in: ", &format!("configs/presets/{method}/{name}.toml")] {
            assert!(text.contains(part), "{name}: its head lacks {part}");
        }
        let config: C = rl_track::config::load(&file, &[]).unwrap();
        config.validate().unwrap();
        assert_eq!(config.run(), Path::new("runs/presets").join(name));
        let whole = Value::Table(Table::try_from(&config).unwrap());
        for line in constants.lines() {
            let mut expected: Table = line.parse().unwrap();
            if let Some(Value::Array(absent)) = expected.remove("absent") {
                for path in absent.iter().filter_map(Value::as_str) {
                    let found = path.split('.').try_fold(&whole, |at, key| at.get(key));
                    assert_eq!(found, None, "{name}: {path} must be absent");
                }
            }
            compare(name, &Value::Table(expected), &whole);
        }
    }
}

/// Whether everything in `expected` stands in `found`; numbers are compared as numbers.
fn compare(at: &str, expected: &Value, found: &Value) {
    match (expected, found) {
        (Value::Table(expected), Value::Table(found)) => {
            for (key, value) in expected {
                let found = found.get(key).unwrap_or_else(|| panic!("{at}.{key} is absent"));
                compare(&format!("{at}.{key}"), value, found);
            }
        }
        (Value::Array(expected), Value::Array(found)) => {
            assert_eq!(expected.len(), found.len(), "{at}");
            expected.iter().zip(found).enumerate().for_each(|(i, (e, f))| compare(&format!("{at}[{i}]"), e, f));
        }
        _ => assert_eq!(number(expected), number(found), "{at}"),
    }
}

fn number(value: &Value) -> Value {
    match value {
        Value::Integer(value) => Value::Float(*value as f64),
        other => other.clone(),
    }
}
