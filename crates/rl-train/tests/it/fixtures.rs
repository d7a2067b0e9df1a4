//! Tiny data, tiny models and short runs; configurations are TOML, as users write them.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rl_data::{ChatRecord, Message, write_jsonl};
use rl_envs::general_points::{DatasetConfig, DatasetRow};
use rl_track::Progress;
use rl_train::{Finish, Interrupt, Method, RlConfig, Sft, SftConfig, Trainer};
use serde_json::Value;
use tempfile::TempDir;

/// The game of every test here: one card that counts 10, asked for up to twice.
pub const GAME: &str = r#"{ num_cards = 1, target = 10, template = "compact", max_attempts = 2 }"#;

/// Eight words to be said again, 40 rows.
pub fn write_copy_task(file: &Path) {
    let words = ["dog", "cat", "sun", "sea", "red", "six", "oak", "map"];
    let row = |i: usize| {
        let word = words[(i * 5 + i / 8) % 8];
        ChatRecord::new(vec![Message::user(format!("Say {word}.")), Message::assistant(word)])
    };
    write_jsonl(file, (0..40).map(row).collect::<Vec<_>>()).unwrap();
}

/// The section that mixes the rows of `data` into RL.
pub fn pretrain_mix(data: &Path, batch_size: usize, coef: f64) -> String {
    let selection = "selection = { max_length = 128, too_long = \"error\", unusable = \"error\" }";
    let data = data.display();
    format!(
        "pretrain={{ data = \"{data}\", train_on = \"assistant\", {selection}, batch_size = {batch_size}, coef = {coef:?} }}"
    )
}

/// Expert answers of [`GAME`].
pub fn write_expert_answers(file: &Path) {
    let text = format!(
        "out = \"unused\"\nseed = 1\n[[parts]]\nkind = \"expert\"\nnum_rows = 64\nenvironment = {}",
        GAME.replace(", max_attempts = 2", "")
    );
    let config: DatasetConfig = rl_track::config::parse(&text, "dataset", &[]).unwrap();
    let rows: Vec<DatasetRow> = config.rows().unwrap();
    write_jsonl(file, &rows).unwrap();
}

fn overrides(text: &[&str]) -> Vec<String> {
    text.iter().map(|line| line.to_string()).collect()
}

/// Trains from scratch on `data` into `folder/<name>`.
pub fn sft_config(folder: &Path, name: &str, data: &Path, changes: &[&str]) -> SftConfig {
    // Tests run beside each other; with threads of their own, tiny tensors would mostly wait.
    rl_torch::set_num_threads(1);
    let text = format!(
        r#"
        run = "{run}"
        seed = 3
        device = "cpu"
        data = "{data}"
        train_on = "assistant"
        selection = {{ max_length = 128, too_long = "error", unusable = "error" }}
        batch_size = 16
        [training]
        max_steps = 8
        micro_batch_tokens = 4096
        optimizer = {{ beta1 = 0.9, beta2 = 0.98, eps = 1e-7, weight_decay = 0.01 }}
        learning_rate = {{ kind = "constant", learning_rate = 4e-3 }}
        max_grad_norm = 1.0
        checkpoints = {{ every = 4 }}
        [model.new]
        vocab_size = 400
        hidden_size = 32
        intermediate_size = 64
        num_hidden_layers = 2
        num_attention_heads = 4
        num_key_value_heads = 2
        max_position_embeddings = 192
        initializer_range = 0.08
        "#,
        run = folder.join(name).display(),
        data = data.display(),
    );
    rl_track::config::parse(&text, "sft.toml", &overrides(changes)).unwrap()
}

pub const GRPO: &str = r#"
shaping = { steps = [{ kind = "baseline" }] }
advantage = { kind = "group", estimator = { kind = "group_relative", std_epsilon = 1e-6 } }
rollout.group_size = 4
"#;
pub const PPO: &str = r#"
shaping = { steps = [] }
turn_advantage = { gamma = 0.9, gae_lambda = 0.95, boundary = "terminated_or_truncated", whitening = { variance = "unbiased", floor = { add_to_std = 1e-5 }, shift_mean = true, divide_by_std = true } }
critic = { kind = "shared", head = "network", value_coef = 0.5, value_clip = 1.0 }
rollout.group_size = 1
"#;

/// PPO by tokens with a critic of its own, the divergence from the reference in the reward, its coefficient steered.
pub fn token_ppo() -> String {
    format!(
        r#"
        shaping = {{ steps = [{{ kind = "token_kl" }}] }}
        kl = {{ controller = {{ kind = "adaptive", kl_coef = 0.05, target = 0.01, horizon = 50.0 }}, penalty = {{ estimator = "k1" }}, place = "reward" }}
        advantage = {{ kind = "gae", gamma = 1.0, gae_lambda = 0.95, whitening = {{ variance = "unbiased", floor = {{ add_to_std = 1e-5 }}, shift_mean = true, divide_by_std = true }} }}
        rollout.group_size = 1
        [critic]
        kind = "own"
        start = {{ language_model = "{}" }}
        optimizer = {{ beta1 = 0.9, beta2 = 0.999, eps = 1e-7, weight_decay = 0.0 }}
        learning_rate = {{ kind = "constant", learning_rate = 2e-3 }}
        max_grad_norm = 1.0
        value_clip = 0.5
        policy_frozen_steps = 1
        "#,
        half_trained().display()
    )
}

/// Adapters of rank 2 on every projection.
pub fn lora(dropout: f64) -> rl_models::LoraConfig {
    rl_models::LoraConfig {
        rank: 2,
        alpha: 4.0,
        dropout,
        target_modules: rl_models::TargetModules::Word("all-linear".into()),
        use_rslora: false,
    }
}

/// Plays [`GAME`] from the checkpoint `model` into `folder/<name>`.
pub fn rl_config(folder: &Path, name: &str, model: &Path, algorithm: &str, changes: &[&str]) -> RlConfig {
    rl_torch::set_num_threads(1);
    let text = format!(
        r#"
        run = "{run}"
        seed = 5
        device = "cpu"
        model = {{ path = "{model}" }}
        objective = {{ kind = "clipped", ratio = {{ level = "token" }}, clip = {{ low = 0.2, high = 0.2 }} }}
        reduction = {{ kind = "token_mean" }}
        updates = {{ epochs = 2, per_epoch = 2 }}
        rollout.task = {{ kind = "environment", environment = {game} }}
        rollout.prompts_per_step = 8
        rollout.sampling = {{ max_new_tokens = 24, temperature = 1.0, num_slots = 16 }}
        rollout.samples_per_step = 1
        {algorithm}
        [training]
        max_steps = 6
        micro_batch_tokens = 4096
        optimizer = {{ beta1 = 0.9, beta2 = 0.999, eps = 1e-7, weight_decay = 0.0 }}
        learning_rate = {{ kind = "constant", learning_rate = 1e-3 }}
        max_grad_norm = 1.0
        checkpoints = {{ every = 3 }}
        "#,
        run = folder.join(name).display(),
        model = model.display(),
        game = GAME.replacen('{', "{ name = \"general_points\",", 1),
    );
    rl_track::config::parse(&text, "rl.toml", &overrides(changes)).unwrap()
}

/// Runs to the end.
pub fn train<M: Method>(config: M::Config) -> Finish {
    Trainer::<M>::new(config).unwrap().run(&Interrupt::manual(), &Progress::hidden()).unwrap()
}

/// Runs one step, as if a signal came during it.
pub fn train_one_step<M: Method>(config: M::Config) -> Finish {
    let interrupt = Interrupt::manual();
    interrupt.raise();
    Trainer::<M>::new(config).unwrap().run(&interrupt, &Progress::hidden()).unwrap()
}

/// Lines of `metrics.jsonl` without what depends on the clock.
pub fn metrics(run: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    let row = |line: &str| {
        let mut row: Value = serde_json::from_str(line).unwrap();
        row.as_object_mut().unwrap().remove("timing");
        row
    };
    text.lines().map(row).collect()
}

/// One value of every line of `split`, in the order of steps.
pub fn curve(run: &Path, split: &str, name: &str) -> Vec<f64> {
    let rows = metrics(run).into_iter().filter(|row| row["split"] == split);
    rows.map(|row| row[name].as_f64().unwrap()).collect()
}

/// A policy that solves [`GAME`] sometimes: a short SFT run, made once for all tests.
pub fn half_trained() -> PathBuf {
    static MODEL: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("expert.jsonl");
        write_expert_answers(&data);
        train::<Sft>(sft_config(
            folder.path(),
            "sft",
            &data,
            &["training.max_steps=45", "training.checkpoints.every=45"],
        ));
        folder
    });
    MODEL.path().join("sft/checkpoints/step-000045")
}
