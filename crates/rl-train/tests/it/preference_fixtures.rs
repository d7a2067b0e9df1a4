//! Synthetic preferences with a known truth, a small policy for them, and configurations of the three methods.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rl_core::random::RandomKey;
use rl_data::{ChatRecord, Message, PreferenceRecord, write_jsonl};
use rl_train::{PreferenceConfig, RewardModelConfig, Sft, UnpairedConfig};
use tempfile::TempDir;

use crate::fixtures::*;

/// Preferred words, and the others.
const GOOD: [&str; 4] = ["dog", "cat", "sun", "sea"];
const BAD: [&str; 4] = ["red", "six", "oak", "map"];

pub const DPO: &str = r#"
    objective = { losses = [{ loss = { kind = "sigmoid", beta = 0.1 } }] }
    reference = { log_probs = "live" }"#;
pub const PRECOMPUTED: &str = r#"
    objective = { losses = [{ loss = { kind = "sigmoid", beta = 0.1 } }] }
    reference = { log_probs = "precomputed" }"#;
pub const SIMPO: &str = r#"
    objective = { losses = [{ loss = { kind = "simpo", beta = 2.0, gamma = 0.5 } }] }"#;
pub const ORPO: &str = r#"
    [objective]
    losses = [{ loss = { kind = "orpo", beta = 0.1 } }]
    nll = { coef = 1.0, reduction = { kind = "token_mean" }, tokens = "prompt_and_response" }"#;
pub const AOT: &str = r#"
    objective = { losses = [{ loss = { kind = "aot", beta = 0.1, label_smoothing = 0.0 } }] }
    reference = { log_probs = "live" }"#;
pub const WPO: &str = r#"
    objective = { losses = [{ loss = { kind = "sigmoid", beta = 0.1 } }], wpo = true }
    reference = { log_probs = "live" }"#;
/// RPO's supervised term, LD-DPO's weights, and a second loss.
pub const COMBINED: &str = r#"
    reference = { log_probs = "live" }
    [objective]
    losses = [{ loss = { kind = "sigmoid", beta = 0.1 } }, { loss = { kind = "bco_pair", beta = 0.1 }, weight = 0.5 }]
    ld_alpha = 0.5
    nll = { coef = 0.2, reduction = { kind = "seq_mean_token_mean" } }"#;
/// TR-DPO with a reference that becomes the policy after every step.
pub const FOLLOWING: &str = r#"
    objective = { losses = [{ loss = { kind = "sigmoid", beta = 0.1 } }] }
    reference = { log_probs = "live", update = { mixup_alpha = 1.0, every_steps = 1 } }"#;

pub const KTO: &str = r#"objective = { loss = { kind = "kto", beta = 0.1 }, undesirable_weight = 1.25 }"#;
pub const KTO_EVEN: &str = r#"objective = { loss = { kind = "kto_even_sampling", beta = 0.1 } }"#;
pub const KTO_EVEN_GRADIENT: &str =
    r#"objective = { loss = { kind = "kto_even_sampling", beta = 0.1, baseline_gradient = true } }"#;
pub const APO_UNPAIRED: &str = r#"objective = { loss = { kind = "apo_zero_unpaired", beta = 0.1 } }"#;

pub const LORA: &str =
    r#"model.lora={ rank = 4, alpha = 8.0, dropout = 0.1, target_modules = ["q_proj", "v_proj", "down_proj"] }"#;

/// Pairs of a preferred and another answer, of one to three words each; prompts tell nothing. Each part has draws of its own.
pub fn pairs(count: usize, part: u64) -> Vec<PreferenceRecord> {
    let pair = |index: u64| {
        let key = RandomKey::new(1, "pairs").at(part).at(index);
        let word = |words: [&'static str; 4], position: u64| words[key.below(position, 4) as usize];
        let answer =
            |words, position: u64| vec![word(words, position); 1 + key.below(position + 1, 3) as usize].join(" ");
        let asked = word(if key.below(0, 2) == 0 { GOOD } else { BAD }, 1);
        PreferenceRecord::new(format!("Say {asked}."), answer(GOOD, 2), answer(BAD, 4))
    };
    (0..count as u64).map(pair).collect()
}

/// A policy that knows the words.
pub fn small_policy() -> PathBuf {
    sft_run().join("checkpoints/step-000012")
}

/// The same half way there: a reference that differs from [`small_policy`].
pub fn earlier_policy() -> PathBuf {
    sft_run().join("checkpoints/step-000006")
}

/// A short SFT run, made once for all tests.
fn sft_run() -> PathBuf {
    static MODEL: LazyLock<TempDir> = LazyLock::new(|| {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path().join("words.jsonl");
        let both = |pair: PreferenceRecord| {
            let prompt = pair.prompt[0].clone();
            let answer = |side: &Message| ChatRecord::new(vec![prompt.clone(), side.clone()]);
            [answer(&pair.chosen[0]), answer(&pair.rejected[0])]
        };
        write_jsonl(&data, pairs(32, 0).into_iter().flat_map(both).collect::<Vec<_>>()).unwrap();
        let changes = ["training.max_steps=12", "training.checkpoints.every=6"];
        train::<Sft>(sft_config(folder.path(), "sft", &data, &changes));
        folder
    });
    MODEL.path().join("sft")
}

/// Files of pairs and of single answers to train on and to hold out.
pub struct Files {
    pub folder: TempDir,
    pub pairs: PathBuf,
    pub held_out_pairs: PathBuf,
    pub answers: PathBuf,
    pub held_out_answers: PathBuf,
}

pub fn files() -> Files {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let files = Files {
        pairs: path("pairs.jsonl"),
        held_out_pairs: path("held-out-pairs.jsonl"),
        answers: path("answers.jsonl"),
        held_out_answers: path("held-out-answers.jsonl"),
        folder,
    };
    for (count, part, pair_file, answer_file) in
        [(24, 0, &files.pairs, &files.answers), (12, 1, &files.held_out_pairs, &files.held_out_answers)]
    {
        let pairs = pairs(count, part);
        let answers: Vec<_> = pairs.iter().flat_map(PreferenceRecord::unpaired).collect();
        write_jsonl(pair_file, pairs).unwrap();
        write_jsonl(answer_file, answers).unwrap();
    }
    files
}

impl Files {
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// The configuration of a preference run into `<root>/<name>`.
    pub fn preference(&self, name: &str, objective: &str, changes: &[&str]) -> PreferenceConfig {
        self.parse(name, objective, &self.pairs, &self.held_out_pairs, changes)
    }

    pub fn unpaired(&self, name: &str, objective: &str, changes: &[&str]) -> UnpairedConfig {
        self.parse(name, objective, &self.answers, &self.held_out_answers, changes)
    }

    pub fn reward_model(&self, name: &str, changes: &[&str]) -> RewardModelConfig {
        self.parse(name, r#"head = "inverse_width""#, &self.pairs, &self.held_out_pairs, changes)
    }

    fn parse<T: serde::de::DeserializeOwned>(
        &self,
        name: &str,
        objective: &str,
        data: &Path,
        held_out: &Path,
        changes: &[&str],
    ) -> T {
        rl_torch::set_num_threads(1);
        let text = format!(
            r#"
            run = "{run}"
            seed = 11
            device = "cpu"
            data = "{data}"
            held_out = {{ unseen = "{held_out}" }}
            seams = "error"
            selection = {{ max_length = 64, too_long = "error", unusable = "error" }}
            batch_size = 8
            model = {{ path = "{model}" }}
            {objective}
            [training]
            max_steps = 6
            micro_batch_tokens = 80
            optimizer = {{ beta1 = 0.9, beta2 = 0.98, eps = 1e-7, weight_decay = 0.01 }}
            learning_rate = {{ kind = "constant", learning_rate = 1e-3 }}
            max_grad_norm = 1.0
            checkpoints = {{ every = 3 }}
            "#,
            run = self.root().join(name).display(),
            data = data.display(),
            held_out = held_out.display(),
            model = small_policy().display(),
        );
        let changes: Vec<String> = changes.iter().map(|line| line.to_string()).collect();
        rl_track::config::parse(&text, "run.toml", &changes).unwrap()
    }
}
