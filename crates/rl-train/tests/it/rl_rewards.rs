//! Rewards of every kind inside an RL run: written in Rust, by a program, by a reward model.

use std::path::Path;
use std::sync::Arc;

use rl_core::reward_loss::RewardNormalizer;
use rl_data::Message;
use rl_models::{ChatModel, RewardModel};
use rl_train::reward::{CustomRewards, Reward, RewardRequest};
use rl_train::{Dtype, Error, Interrupt, RewardSource, Rl, RlTrainer, Trainer};
use serde_json::Value;
use tch::{Device, Kind};

use crate::fixtures::*;
use crate::rl_fixtures::*;

/// Answers are scored in other batches than alone.
const SAME_SCORE: f64 = 1e-5;

struct Vowels;

fn vowels(text: &str) -> f64 {
    text.chars().filter(|letter| "aeiou".contains(*letter)).count() as f64
}

impl Reward for Vowels {
    fn score(&self, request: &RewardRequest) -> Result<f64, String> {
        Ok(vowels(&request.response))
    }
}

/// Every reward of the one step is what `expected` says of the answer.
fn assert_rewards(run: &Path, expected: impl Fn(&Value) -> f64) {
    let samples = samples(run);
    assert_eq!(samples.len(), 32);
    for sample in &samples {
        approx::assert_abs_diff_eq!(sample["reward"].as_f64().unwrap(), expected(sample), epsilon = SAME_SCORE);
    }
    let different: std::collections::BTreeSet<String> =
        samples.iter().map(|sample| sample["reward"].to_string()).collect();
    assert!(1 < different.len(), "the rewards say something: {different:?}");
}

#[test]
fn a_reward_in_rust() {
    let folder = tempfile::tempdir().unwrap();
    let custom = r#"reward.sources=[{ name = "vowels", source = { kind = "custom" } }]"#;
    let config = |name: &str| words_config(folder.path(), name, GROUP, &[custom, "rollout.samples_per_step=32"]);
    let rewards: CustomRewards = [("vowels".to_owned(), Arc::new(Vowels) as Arc<dyn Reward>)].into();
    let mut trainer = RlTrainer::with_rewards(config("run"), rewards).unwrap();
    trainer.run(&Interrupt::manual(), &rl_track::Progress::hidden()).unwrap();
    assert_rewards(&folder.path().join("run"), |sample| vowels(said(sample)));

    let error = Trainer::<Rl>::new(config("without")).err().unwrap();
    assert!(matches!(&error, Error::RewardSource { name, .. } if name == "vowels"), "{error}");
}

/// A score ten times as large at a tenth of the weight, subtracted: the sum says nothing. Each taken within its group
/// first, both count alike and their weights stay: 0.9 of the group-relative advantage of one.
#[test]
fn rewards_that_are_normalised_before_they_are_summed() {
    struct TenTimes;
    impl Reward for TenTimes {
        fn score(&self, request: &RewardRequest) -> Result<f64, String> {
            Ok(10.0 * vowels(&request.response))
        }
    }
    const SMALL: f64 = 1e-9;
    let sources = r#"reward.sources=[{ name = "vowels", source = { kind = "custom" } }, { name = "ten", weight = -0.1, source = { kind = "custom" } }]"#;
    let folder = tempfile::tempdir().unwrap();
    let run = |name: &str, aggregation: &str| {
        let changes = [sources, aggregation, "shaping={ steps = [] }", "rollout.samples_per_step=32"];
        let config = words_config(folder.path(), name, REINFORCE, &changes);
        let ten: Arc<dyn Reward> = Arc::new(TenTimes);
        let rewards: CustomRewards =
            [("vowels".to_owned(), Arc::new(Vowels) as Arc<dyn Reward>), ("ten".to_owned(), ten)].into();
        let mut trainer = RlTrainer::with_rewards(config, rewards).unwrap();
        trainer.run(&Interrupt::manual(), &rl_track::Progress::hidden()).unwrap();
        (answers(&folder.path().join(name), 1), samples(&folder.path().join(name)))
    };
    let ((advantages, _), _) = run("sum", "reward.aggregation={ kind = \"sum_then_normalize\" }");
    assert!(advantages.iter().all(|advantage| advantage.abs() < SMALL), "{advantages:?}");

    let aggregation = "reward.aggregation={ kind = \"normalize_then_sum\", std_epsilon = 1e-4 }";
    let ((advantages, rewards), samples) = run("parts", aggregation);
    assert!(rewards.iter().all(|reward| reward.unwrap().abs() < SMALL), "the record keeps the sum: {rewards:?}");
    let mut differ = 0;
    for (group, found) in samples.chunks(4).zip(advantages.chunks(4)) {
        let scores: Vec<f64> = group.iter().map(|sample| vowels(said(sample))).collect();
        let mean = scores.iter().sum::<f64>() / 4.0;
        let std = (scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
        for (score, found) in scores.iter().zip(found) {
            let expected = (score - mean) / (std + 1e-4) - 0.1 * 10.0 * (score - mean) / (10.0 * std + 1e-4);
            approx::assert_abs_diff_eq!(*found, expected, epsilon = SAME_SCORE);
            differ += usize::from(0.1 < expected.abs());
        }
    }
    assert!(0 < differ, "some group has different scores");
}

#[test]
fn a_program_as_reward() {
    const PROGRAM: &str = r#"
import json, sys
print('{"ready": true}', flush=True)
for line in sys.stdin:
    ask = json.loads(line)
    right = ask["metadata"]["answer"] in ask["response"]
    print(json.dumps({"id": ask["id"], "score": 2.0 * right - 0.25}), flush=True)
"#;
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("score.py");
    std::fs::write(&program, PROGRAM).unwrap();
    let source = format!(
        r#"reward.sources=[{{ name = "program", source = {{ kind = "command", argv = ["python3", "{}"], memory_mib = 256, lifetime = {{ persistent = {{ start_seconds = 60 }} }} }} }}]"#,
        program.display()
    );
    train::<Rl>(words_config(folder.path(), "run", GROUP, &[&source, "rollout.samples_per_step=32"]));
    let run = folder.path().join("run");
    assert_rewards(&run, |sample| match said(sample).contains(sample["answer"].as_str().unwrap()) {
        true => 1.75,
        false => -0.25,
    });
    assert_eq!(curve(&run, "train", "reward/program/mean"), curve(&run, "train", "reward_mean"));
}

/// A reward model of the policy's layers with a fresh head.
fn write_reward_model(folder: &Path) {
    let chat = ChatModel::load_as(&half_copying(), Kind::Float, Device::Cpu).unwrap();
    RewardModel::new(chat.decoder, 3).save(folder, &chat.side_files).unwrap();
}

#[test]
fn a_reward_model_as_reward_and_as_the_start_of_the_critic() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("reward-model");
    write_reward_model(&path);
    let statistics = RewardNormalizer { mean: 0.25, std: 0.5 };
    std::fs::write(path.join("reward_statistics.json"), serde_json::to_vec(&statistics).unwrap()).unwrap();
    let model = RewardSource::load(&path, Dtype::F32, Device::Cpu).unwrap();
    let alone = |sample: &Value| {
        let messages: Vec<Message> = serde_json::from_value(sample["messages"].clone()).unwrap();
        let (answer, prompt) = messages.split_last().unwrap();
        model.score_responses(&[(prompt, answer.content.as_str())]).unwrap()[0]
    };
    let algorithm = token_own(1e-3).replace(
        &format!("language_model = \"{}\"", half_copying().display()),
        &format!("reward_model = \"{}\"", path.display()),
    );
    assert!(algorithm.contains("reward_model"));
    for normalized in [false, true] {
        let source = format!(
            r#"reward.sources=[{{ name = "model", weight = 2.0, source = {{ kind = "reward_model", path = "{}", normalized = {normalized} }} }}]"#,
            path.display()
        );
        let name = format!("run-{normalized}");
        let changes = [source.as_str(), "rollout.samples_per_step=32", "shaping={ steps = [] }"];
        train::<Rl>(words_config(folder.path(), &name, &algorithm, &changes));
        let run = folder.path().join(name);
        assert_rewards(&run, |sample| match normalized {
            true => 2.0 * (alone(sample) - 0.25) / 0.5,
            false => 2.0 * alone(sample),
        });
        let manifest = std::fs::read_to_string(run.join("manifest.json")).unwrap();
        assert!(manifest.contains("reward.model"), "{manifest}");
        assert!(0.0 < curve(&run, "train", "critic_grad_norm")[0]);
    }
    // Answers that the model cannot hold have no reward.
    let source = format!(
        r#"reward.sources=[{{ name = "model", source = {{ kind = "reward_model", path = "{}" }} }}]"#,
        path.display()
    );
    let config = std::fs::read_to_string(path.join("config.json")).unwrap();
    let mut config: Value = serde_json::from_str(&config).unwrap();
    config["max_position_embeddings"] = 4.into();
    std::fs::write(path.join("config.json"), config.to_string()).unwrap();
    let config = words_config(folder.path(), "short", REINFORCE, &[&source, "shaping={ steps = [] }"]);
    let error = Trainer::<Rl>::new(config).unwrap().run(&Interrupt::manual(), &rl_track::Progress::hidden());
    let error = error.err().unwrap().to_string();
    assert!(error.contains("none of the 32 answers"), "{error}");
}
