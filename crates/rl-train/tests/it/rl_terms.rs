//! Which tokens have which term of the RL loss, what is said of tokens that have none, and numbers and rewards that fail
//! in the middle of a step.

use std::sync::Arc;
use std::time::Duration;

use approx::assert_relative_eq;
use rl_core::random::RandomKey;
use rl_models::ChatModel;
use rl_models::checkpoint::save_tensors;
use rl_train::reward::{CustomRewards, Prompt, Reward, RewardRequest};
use rl_train::{Error, Interrupt, Rl, RlConfig, RlTrainer, Trainer};
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use crate::fixtures::*;
use crate::non_finite::{changed, set_one};
use crate::rl_fixtures::*;

/// Relative; the same operations on the same numbers, in other passes.
const SAME: f64 = 1e-5;
/// A reward that is worth nothing: all advantages are 0.
const WORTHLESS: &str = r#"reward.sources=[{ name = "none", weight = 0.0, source = { kind = "match", field = "answer", extract = "whole", compare = "exact" } }]"#;
const NO_BASELINE: &str = "shaping={ steps = [] }";
const KL_IN_LOSS: &str =
    r#"kl={ place = "loss", penalty = { estimator = "k1" }, controller = { kind = "fixed", kl_coef = 0.5 } }"#;

fn error(config: RlConfig) -> Error {
    Trainer::<Rl>::new(config)
        .and_then(|mut run| run.run(&Interrupt::manual(), &rl_track::Progress::hidden()))
        .unwrap_err()
}

/// A choice of tokens by entropy is one of the policy loss. Without advantages the gradient is the divergence's alone.
#[test]
fn tokens_of_low_entropy_keep_divergence_and_values() {
    let folder = tempfile::tempdir().unwrap();
    let rows: [(&str, &str, &[&str], &str, bool); 3] = [
        ("divergence", GROUP, &[WORTHLESS, KL_IN_LOSS], "first_grad_norm", true),
        ("values", TOKEN_SHARED, &[NO_BASELINE], "value_loss", true),
        ("policy", GROUP, &[], "first_grad_norm", false),
    ];
    for (name, algorithm, changes, metric, is_same) in rows {
        let measured = |run: &str, more: &[&str]| {
            let run = format!("{name}-{run}");
            train::<Rl>(words_config(folder.path(), &run, algorithm, &[changes, more].concat()));
            curve(&folder.path().join(run), "train", metric)[0]
        };
        let (all, few) = (measured("all", &[]), measured("few", &["selection.top_entropy_fraction=0.1"]));
        assert!(1e-3 < all, "{name}: {metric} says something");
        let difference = (all - few).abs() / all;
        assert!(if is_same { difference < SAME } else { 1e-2 < difference }, "{name}: {all} {few}");
    }
}

/// The answers are the same ones in all runs: the most probable.
#[test]
fn entropies_are_those_of_the_logits_that_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let entropy = |name: &str, temperature: &str, logits: &str| {
        let temperature = format!("rollout.log_prob_temperature={temperature}");
        let logits = format!("entropy_logits=\"{logits}\"");
        let measured = r#"entropy={ kind = "fixed", entropy_coef = 0.0 }"#;
        let changes = ["rollout.sampling.temperature=1e-4", measured, &temperature, &logits];
        train::<Rl>(words_config(folder.path(), name, REINFORCE, &[&changes[..], &[NO_BASELINE]].concat()));
        curve(&folder.path().join(name), "train", "entropy")[0]
    };
    let plain = entropy("plain", "1.0", "scaled");
    assert_relative_eq!(entropy("unscaled", "0.5", "unscaled"), plain, max_relative = SAME);
    let scaled = entropy("scaled", "0.5", "scaled");
    assert!(0.0 < scaled && scaled < 0.9 * plain, "{scaled} {plain}");
}

/// With the divergence in the reward the shares of a pass are cut before the rewards are shaped, and here shaping takes the
/// answers of some shares out.
#[test]
fn an_update_without_a_token_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let changes = [
        "rollout.group_size=1",
        "rollout.sampling.max_new_tokens=2",
        "updates={ epochs = 1, per_epoch = 8 }",
        r#"kl={ place = "reward", penalty = { estimator = "k1" }, controller = { kind = "fixed", kl_coef = 0.1 } }"#,
        r#"shaping={ steps = [{ kind = "mask_truncated" }, { kind = "token_kl" }] }"#,
    ];
    train::<Rl>(words_config(folder.path(), "run", REINFORCE, &changes));
    let run = folder.path().join("run");
    let truncated = curve(&run, "train", "truncated_fraction")[0];
    assert!(0.0 < truncated && truncated < 1.0, "{truncated}");
    assert_eq!(curve(&run, "train", "empty_updates"), [8.0 * truncated]);
}

#[test]
fn a_reference_or_critic_that_is_not_finite_is_named_or_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let broken = changed(&half_copying(), &folder.path().join("broken"), |tensors| {
        set_one(tensors, "model.norm.weight", f64::NAN);
    });
    let path = broken.display().to_string();
    let reference = format!("reference=\"{path}\"");
    let own = token_own(1e-3).replace(&half_copying().display().to_string(), &path);
    assert!(own.contains(&path));
    let skip = r#"training.non_finite={ policy = "skip", max_skipped = 9 }"#;
    let small = "training.micro_batch_tokens=150";
    for (name, tensor, algorithm, changes) in [
        ("reference", "ref_log_probs", GROUP, vec![KL_IN_LOSS, &reference, small]),
        ("critic", "values", own.as_str(), vec![NO_BASELINE, small]),
    ] {
        let config = |run: &str, more: &[&str]| {
            words_config(folder.path(), &format!("{name}-{run}"), algorithm, &[&changes[..], more].concat())
        };
        let message = error(config("error", &[])).to_string();
        for part in ["step 1: ", "rows ", tensor, "NaN"] {
            assert!(message.contains(part), "{name}: `{message}` should contain `{part}`");
        }
        train::<Rl>(config("skip", &[skip]));
        let row = &metrics(&folder.path().join(format!("{name}-skip")))[0];
        assert!(1.0 < row["nonfinite_skipped"].as_f64().unwrap(), "{name}: {row}");
        assert_eq!((row["grad_norm"].as_f64(), row["policy_loss"].as_f64()), (Some(0.0), Some(0.0)), "{name}");
        let message = error(config("twice", &[skip, "training.max_steps=3"])).to_string();
        assert!(message.contains("step 2: "), "{name}: {message}");
    }
}

/// Late for one word, no number for another, a panic for a third.
struct Unruly;

const LATE_SECONDS: f64 = 4.0;

impl Reward for Unruly {
    fn score(&self, request: &RewardRequest) -> Result<f64, String> {
        let Prompt::Messages(messages) = &request.prompt else { return Err("no messages".into()) };
        match messages[0].content.strip_prefix("Say ").unwrap_or_default() {
            "sun." => std::thread::sleep(Duration::from_secs_f64(LATE_SECONDS)),
            "six." => return Ok(f64::NAN),
            "cat." => panic!("no reward for cats"),
            _ => {}
        }
        Ok(request.response.len() as f64 + 1e-3 * (request.sample % 4) as f64)
    }
}

#[test]
fn a_step_outlives_its_rewards() {
    let folder = tempfile::tempdir().unwrap();
    let changes = [
        r#"reward.sources=[{ name = "unruly", source = { kind = "custom" } }]"#,
        "reward.workers=8",
        "reward.deadline_seconds=1.0",
        "reward.step_deadline_seconds=1.5",
        "reward.max_abandoned=16",
        "training.max_steps=2",
        "rollout.samples_per_step=32",
    ];
    let config = words_config(folder.path(), "run", GROUP, &changes);
    let rewards: CustomRewards = [("unruly".to_owned(), Arc::new(Unruly) as Arc<dyn Reward>)].into();
    RlTrainer::with_rewards(config, rewards).unwrap().run(&Interrupt::manual(), &rl_track::Progress::hidden()).unwrap();
    let run = folder.path().join("run");
    // Four answers to each of eight prompts.
    for (metric, expected) in [
        ("reward/unruly/timed_out", 4.0),
        ("reward/unruly/invalid", 8.0),
        ("unscorable", 12.0),
        ("reward_threads_abandoned", 4.0),
    ] {
        assert_eq!(curve(&run, "train", metric), [expected; 2], "{metric}");
    }
    let text = std::fs::read_to_string(run.join("metrics.jsonl")).unwrap();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let seconds = row["timing"]["reward_seconds"].as_f64().unwrap();
        assert!(seconds < 1.5 + 1.0, "{seconds} s");
    }
    // Every answer has a number of its own, by which a reward can tell the answers to one prompt apart.
    let fractions = |sample: &Value| (sample["reward"].as_f64()? * 1e3).round().rem_euclid(1e3).into();
    let found: Vec<f64> = samples(&run).iter().filter_map(fractions).collect();
    assert_eq!(found.len(), 40);
    assert!(found.chunks(4).all(|group| group == [0.0, 1.0, 2.0, 3.0]), "{found:?}");
}

#[test]
fn a_critic_starts_from_adapters_of_a_reward_model_and_reads_the_policys_tokens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapters");
    let mut decoder = ChatModel::load_as(&half_copying(), Kind::Float, Device::Cpu).unwrap().decoder;
    decoder.add_lora(lora(0.0), RandomKey::new(1, "adapters")).unwrap();
    decoder.save_adapter(&path, half_copying().to_str().unwrap()).unwrap();
    let score = Tensor::full([1, decoder.config().hidden_size], 0.1, (Kind::Float, Device::Cpu));
    save_tensors(&path.join("score.safetensors"), &[("score.weight", &score)]).unwrap();
    let start = |path: &std::path::Path| {
        token_own(1e-3).replace(
            &format!("language_model = \"{}\"", half_copying().display()),
            &format!("reward_model = \"{}\"", path.display()),
        )
    };
    train::<Rl>(words_config(folder.path(), "run", &start(&path), &[NO_BASELINE]));
    let run = folder.path().join("run");
    assert!(1e-3 < curve(&run, "train", "value_mean")[0].abs(), "its head is not fresh");
    assert!(0.0 < curve(&run, "train", "critic_grad_norm")[0]);
    let manifest: Value = serde_json::from_slice(&std::fs::read(run.join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["files"]["critic"]["adapter_model.safetensors"].is_string(), "{manifest}");

    let other = token_own(1e-3).replace(&half_copying().display().to_string(), &half_trained().display().to_string());
    let error = error(words_config(folder.path(), "other", &other, &[NO_BASELINE]));
    assert!(matches!(error, Error::CriticVocabulary { found, needed, .. } if found != needed), "{error}");
}

/// Adapters on the policy and on a critic of its own: both learn, and the first ratio is 1.
#[test]
fn policy_and_critic_learn_by_adapters() {
    let folder = tempfile::tempdir().unwrap();
    const ADAPTERS: &str = r#"{ rank = 4, alpha = 8.0, target_modules = ["q_proj", "v_proj", "down_proj"] }"#;
    let (policy, critic) = (format!("model.lora={ADAPTERS}"), format!("critic.lora={ADAPTERS}"));
    let changes = [NO_BASELINE, &policy, &critic, "training.max_steps=3"];
    train::<Rl>(words_config(folder.path(), "run", &token_own(1e-3), &changes));
    let run = folder.path().join("run");
    for norm in ["grad_norm", "critic_grad_norm"] {
        assert!(curve(&run, "train", norm).iter().all(|&norm| 1e-4 < norm), "{norm}");
    }
    assert_eq!(curve(&run, "train", "ratio_max"), [1.0; 3]);
    let checkpoint = run.join("checkpoints/step-000003");
    assert!(checkpoint.join("adapter_model.safetensors").exists() && !checkpoint.join("model.safetensors").exists());
    let whole = std::fs::metadata(half_copying().join("model.safetensors")).unwrap().len();
    assert!(std::fs::metadata(checkpoint.join("critic.safetensors")).unwrap().len() < whole, "adapters alone");
}
