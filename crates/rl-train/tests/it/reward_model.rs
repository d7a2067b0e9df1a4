//! The reward model learns, stores what its rewards look like, and is used by its path.

use std::path::Path;

use approx::assert_relative_eq;
use rl_core::reward_loss::RewardNormalizer;
use rl_core::statistics::{Variance, mean, standard_deviation};
use rl_data::{Message, PreferenceRecord};
use rl_train::{Dtype, RewardModel, RewardSource};
use tch::Device;

use crate::fixtures::*;
use crate::preference_fixtures::*;

/// Absolute; other groupings of the same sequences in f32.
const REGROUPED: f64 = 2e-5;

fn source(folder: &Path) -> RewardSource {
    RewardSource::load(folder, Dtype::F32, Device::Cpu).unwrap()
}

/// Rewards of the chosen and the rejected answers of some pairs.
fn rewards(source: &RewardSource, pairs: &[PreferenceRecord]) -> Vec<f64> {
    let sides = pairs.iter().flat_map(|pair| [(&pair.prompt, &pair.chosen), (&pair.prompt, &pair.rejected)]);
    let answers: Vec<(&[Message], &str)> =
        sides.map(|(prompt, answer)| (prompt.as_slice(), answer[0].content.as_str())).collect();
    source.score_responses(&answers).unwrap()
}

#[test]
fn separable_pairs_are_told_apart_and_the_model_is_found_by_its_path() {
    let files = files();
    let full = vec!["training.learning_rate.learning_rate=4e-3"];
    for (name, changes) in [("full", full), ("lora", vec![LORA, "training.learning_rate.learning_rate=2e-2"])] {
        let changes = [changes, vec!["training.max_steps=40", "training.checkpoints.every=40"]].concat();
        train::<RewardModel>(files.reward_model(name, &changes));
        let run = files.root().join(name);
        let accuracy = curve(&run, "unseen", "accuracy")[0];
        eprintln!("{name}: accuracy {accuracy}, loss {:?}", curve(&run, "unseen", "loss"));
        assert!(0.9 <= accuracy, "{name}: {accuracy}");

        // What the run measured on the held-out pairs, from the checkpoint alone.
        let folder = run.join("checkpoints/step-000040");
        let pairs = pairs(12, 1);
        let raw = rewards(&source(&folder), &pairs);
        let correct = raw.chunks(2).filter(|pair| pair[0] > pair[1]).count();
        assert_eq!(correct as f64 / 12.0, accuracy);
        let (mean, std) = (mean(&raw).unwrap(), standard_deviation(&raw, Variance::Unbiased).unwrap());
        assert_relative_eq!(curve(&run, "unseen", "reward_mean")[0], mean, epsilon = REGROUPED);
        assert_relative_eq!(curve(&run, "unseen", "reward_std")[0], std, epsilon = REGROUPED);
        let normalised = rewards(&source(&folder).normalized().unwrap(), &pairs);
        for (raw, normalised) in raw.iter().zip(&normalised) {
            assert_relative_eq!(*normalised, (raw - mean) / std, epsilon = REGROUPED, max_relative = 1e-4);
        }
        let one_by_one = rewards(&source(&folder).with_micro_batch_tokens(1), &pairs);
        for (together, alone) in raw.iter().zip(&one_by_one) {
            assert_relative_eq!(*together, *alone, epsilon = REGROUPED);
        }
    }
}

#[test]
fn training_goes_on_from_a_reward_model_with_its_head() {
    let files = files();
    train::<RewardModel>(files.reward_model("first", &["training.max_steps=12", "training.checkpoints.every=12"]));
    let folder = files.root().join("first/checkpoints/step-000012");
    let path = format!("model.path=\"{}\"", folder.display());
    let changes = [path.as_str(), "training.max_steps=1", "training.evaluation={ every = 1, at_start = true }"];
    for (name, change) in [("full", "seed=5"), ("lora", LORA)] {
        train::<RewardModel>(files.reward_model(name, &[changes.as_slice(), &[change]].concat()));
        let end = *curve(&files.root().join("first"), "unseen", "loss").last().unwrap();
        let start = curve(&files.root().join(name), "unseen", "loss")[0];
        assert_relative_eq!(start, end, max_relative = 1e-6);
    }
    // Adapters over a reward model are a reward model too.
    let lora = source(&files.root().join("lora/checkpoints/step-000001"));
    let run = files.root().join("lora");
    let measured = *curve(&run, "unseen", "reward_mean").last().unwrap();
    assert_relative_eq!(mean(&rewards(&lora, &pairs(12, 1))).unwrap(), measured, epsilon = REGROUPED);
}

#[test]
fn what_is_no_reward_model_or_has_no_statistics_is_said() {
    let error = RewardSource::load(&small_policy(), Dtype::F32, Device::Cpu).err().unwrap().to_string();
    assert!(error.contains("is no reward model"), "{error}");
    let files = files();
    train::<RewardModel>(files.reward_model("run", &["training.max_steps=1", "held_out={}"]));
    let source = source(&files.root().join("run/checkpoints/step-000001"));
    assert!(source.statistics().is_none());
    let error = source.normalized().err().unwrap().to_string();
    assert!(error.contains("held_out"), "{error}");
}

#[test]
fn margins_and_centring_enter_the_loss() {
    let files = files();
    let with_margins: Vec<PreferenceRecord> =
        pairs(24, 0).into_iter().map(|pair| PreferenceRecord { margin: Some(1.0), ..pair }).collect();
    rl_data::write_jsonl(&files.pairs, with_margins).unwrap();
    let first = |name: &str, changes: &[&str]| {
        train::<RewardModel>(files.reward_model(name, &[&["training.max_steps=1"], changes].concat()));
        let run = files.root().join(name);
        let [loss, margin] = ["loss", "margin"].map(|metric| curve(&run, "train", metric)[0]);
        (loss, margin)
    };
    let (plain, margin) = first("plain", &[]);
    let (with_margin, _) = first("margin", &["margins=true"]);
    let (centred, _) = first("centred", &["centering_coef=10.0"]);
    // A fresh head says almost nothing: softplus(1 - d) against softplus(-d) with d about `margin`.
    let softplus = |x: f64| x.exp().ln_1p();
    assert_relative_eq!(plain, softplus(-margin), max_relative = 0.02);
    assert_relative_eq!(with_margin, softplus(1.0 - margin), max_relative = 0.02);
    assert!(plain < centred);
}

/// Also between evaluations, and of the running average.
#[test]
fn every_checkpoint_has_the_mean_and_spread_of_its_own_rewards() {
    let files = files();
    let evaluation = "training.evaluation={ every = 3 }";
    let changes = ["training.max_steps=3", "training.checkpoints={ every = 1 }", evaluation, "training.ema_decay=0.5"];
    train::<RewardModel>(files.reward_model("run", &changes));
    for step in 1..=3 {
        let folder = files.root().join(format!("run/checkpoints/step-{step:06}"));
        for folder in [folder.clone(), folder.join("ema")] {
            let text = std::fs::read_to_string(folder.join("reward_statistics.json")).unwrap();
            let statistics: RewardNormalizer = serde_json::from_str(&text).unwrap();
            let expected = rewards(&source(&folder), &pairs(12, 1));
            assert_relative_eq!(statistics.mean, mean(&expected).unwrap(), epsilon = REGROUPED);
            assert_relative_eq!(
                statistics.std,
                standard_deviation(&expected, Variance::Unbiased).unwrap(),
                epsilon = REGROUPED
            );
        }
    }
}
