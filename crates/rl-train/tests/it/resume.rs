//! A run that was interrupted or killed ends as one that was not: every byte but the clock's.

use std::fs;
use std::path::Path;

use rl_train::{Distill, Finish, Method, Preference, RewardModel, Rl, Sft, Unpaired};

use crate::distill::{distill_config, student};
use crate::fixtures::*;
use crate::preference_fixtures::*;
use crate::record::{assert_same, contents};

/// What a process leaves behind that dies some time after its last checkpoint: lines of later steps, the last one torn, a
/// checkpoint half written.
fn pretend_to_be_killed(run: &Path, step: u64) {
    let metrics = run.join("metrics.jsonl");
    let mut text = fs::read_to_string(&metrics).unwrap();
    text.push_str(&format!("{{\"step\":{},\"split\":\"train\",\"loss\":0.5}}\n", step + 1));
    text.push_str(&format!("{{\"step\":{},\"split\":\"tr", step + 2));
    fs::write(&metrics, text).unwrap();
    let partial = run.join(format!("checkpoints/.step-{:06}.partial-1-0", step + 1));
    fs::create_dir(&partial).unwrap();
    fs::write(partial.join("model.safetensors"), b"half").unwrap();
    fs::write(partial.join(".lock"), b"").unwrap();
}

/// `config(name)` gives the configuration of a run into `folder/name`.
fn check<M: Method>(folder: &Path, max_steps: u64, config: impl Fn(&str) -> M::Config) {
    assert_eq!(train::<M>(config("whole")), Finish::Complete { step: max_steps });

    // By signals: after the first step, after the second, then to the end.
    assert_eq!(train_one_step::<M>(config("signals")), Finish::Interrupted { step: 1 });
    assert_eq!(train_one_step::<M>(config("signals")), Finish::Interrupted { step: 2 });
    assert_eq!(train::<M>(config("signals")), Finish::Complete { step: max_steps });
    assert_same(&folder.join("signals"), &folder.join("whole"));

    // By a kill before the first checkpoint that counts, and again later.
    assert_eq!(train_one_step::<M>(config("killed")), Finish::Interrupted { step: 1 });
    fs::remove_dir_all(folder.join("killed/checkpoints/step-000001")).unwrap();
    pretend_to_be_killed(&folder.join("killed"), 1);
    for step in 1..=4 {
        assert_eq!(train_one_step::<M>(config("killed")), Finish::Interrupted { step });
    }
    pretend_to_be_killed(&folder.join("killed"), 4);
    assert_eq!(train::<M>(config("killed")), Finish::Complete { step: max_steps });
    assert_same(&folder.join("killed"), &folder.join("whole"));

    // A finished run has nothing left to do.
    assert_eq!(train::<M>(config("killed")), Finish::Complete { step: max_steps });
    assert_same(&folder.join("killed"), &folder.join("whole"));
}

#[test]
fn sft_resumes_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let held_out = format!("held_out.seen=\"{}\"", data.display());
    check::<Sft>(folder.path(), 8, |name| {
        sft_config(folder.path(), name, &data, &[&held_out, "training.checkpoints.every=2"])
    });
    assert_eq!(curve(&folder.path().join("whole"), "seen", "loss").len(), 4);
    let files = contents(&folder.path().join("whole"));
    assert!(files.contains_key("checkpoints/step-000008/optimizer.safetensors"));
    assert!(files.contains_key("checkpoints/step-000006/optimizer.safetensors"), "kept in case the last is damaged");
    assert!(
        !files.contains_key("checkpoints/step-000004/optimizer.safetensors"),
        "moments are kept for the last two alone"
    );
    assert!(files.contains_key("checkpoints/step-000004/model.safetensors"));
}

#[test]
fn grpo_resumes_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    check::<Rl>(folder.path(), 6, |name| rl_config(folder.path(), name, &half_trained(), GRPO, &[]));
}

#[test]
fn ppo_resumes_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    check::<Rl>(folder.path(), 6, |name| rl_config(folder.path(), name, &half_trained(), PPO, &[]));
    assert!(contents(&folder.path().join("whole")).contains_key("checkpoints/step-000006/value_head.safetensors"));
}

#[test]
fn shuffled_shares_and_supervised_rows_resume_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let mix = pretrain_mix(&data, 3, 0.05);
    let changes = ["updates.shuffle=true", mix.as_str()];
    check::<Rl>(folder.path(), 6, |name| rl_config(folder.path(), name, &half_trained(), PPO, &changes));
    check_replay::<Rl>(&rl_config(folder.path(), "whole", &half_trained(), PPO, &changes));
    assert_eq!(curve(&folder.path().join("whole"), "train", "pretrain_loss").len(), 6);
}

#[test]
fn distillation_resumes_to_the_bit() {
    let folder = tempfile::tempdir().unwrap();
    for (name, fraction) in [("given", "on_policy_fraction=0.0"), ("mixed", "on_policy_fraction=0.5")] {
        let folder = folder.path().join(name);
        let config = |name: &str| distill_config(&folder, name, &student(), &[fraction]);
        check::<Distill>(&folder, 6, config);
        check_replay::<Distill>(&config("whole"));
        let on_policy = curve(&folder.join("whole"), "train", "on_policy");
        assert_eq!(on_policy.contains(&1.0), name == "mixed");
        assert!(on_policy.contains(&0.0));
    }
}

/// The last step of a finished run, computed again from the checkpoint before it.
fn check_replay<M: Method>(config: &M::Config) {
    let replayed = rl_train::replay::<M>(config, 6).unwrap();
    assert_eq!((replayed.from, replayed.agreed), (3, vec![4, 5, 6]));
}

#[test]
fn preference_runs_resume_to_the_bit() {
    for (objective, changes) in [
        (DPO, vec![]),
        (PRECOMPUTED, vec![LORA]),
        (FOLLOWING, vec!["reference.update.mixup_alpha=0.5", "reference.update.every_steps=2", "model.dtype=\"bf16\""]),
        (AOT, vec![LORA]),
    ] {
        let files = files();
        check::<Preference>(files.root(), 6, |name| files.preference(name, objective, &changes));
        check_replay::<Preference>(&files.preference("whole", objective, &changes));
        assert_eq!(curve(&files.root().join("whole"), "unseen", "margin").len(), 2);
    }
}

#[test]
fn unpaired_runs_resume_to_the_bit() {
    for (objective, changes) in [(KTO, vec![]), (KTO_EVEN, vec![LORA])] {
        let files = files();
        check::<Unpaired>(files.root(), 6, |name| files.unpaired(name, objective, &changes));
        check_replay::<Unpaired>(&files.unpaired("whole", objective, &changes));
    }
}

#[test]
fn reward_models_resume_to_the_bit() {
    for changes in [vec!["training.ema_decay=0.9", "model.dtype=\"bf16\""], vec![LORA]] {
        let files = files();
        check::<RewardModel>(files.root(), 6, |name| files.reward_model(name, &changes));
        check_replay::<RewardModel>(&files.reward_model("whole", &changes));
        let files = contents(&files.root().join("whole"));
        assert!(files.contains_key("checkpoints/step-000006/reward_statistics.json"));
    }
}
