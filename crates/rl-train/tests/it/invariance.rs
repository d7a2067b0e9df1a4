//! What must not change a run: starting it twice, and the size of the micro-batches.

use approx::assert_relative_eq;
use rl_train::{Rl, Sft};

use crate::fixtures::*;

/// Relative; sums in f32 over other groupings of the same tokens.
const FIRST_STEP: f64 = 1e-5;

#[test]
fn the_same_seed_twice_gives_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let sft = |name| {
        train::<Sft>(sft_config(folder.path(), name, &data, &[]));
        metrics(&folder.path().join(name))
    };
    let first = sft("a");
    assert_eq!(first.len(), 8);
    assert_eq!(first, sft("b"));
    train::<Sft>(sft_config(folder.path(), "c", &data, &["seed=4"]));
    assert_ne!(first, metrics(&folder.path().join("c")));

    for (algorithm, names) in [(GRPO, ["grpo-a", "grpo-b"]), (PPO, ["ppo-a", "ppo-b"])] {
        let [first, second] = names.map(|name| {
            train::<Rl>(rl_config(folder.path(), name, &half_trained(), algorithm, &["training.max_steps=3"]));
            metrics(&folder.path().join(name))
        });
        assert_eq!(first.len(), 3);
        assert_eq!(first, second);
    }
}

#[test]
fn micro_batches_do_not_change_the_gradient() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let mut first: Option<(f64, f64)> = None;
    for tokens in ["4096", "70", "1"] {
        let size = format!("training.micro_batch_tokens={tokens}");
        let config = sft_config(folder.path(), &format!("sft-{tokens}"), &data, &["training.max_steps=1", &size]);
        let run = config.run.clone();
        train::<Sft>(config);
        let (loss, norm) = (curve(&run, "train", "loss")[0], curve(&run, "train", "grad_norm")[0]);
        let (expected_loss, expected_norm) = *first.get_or_insert((loss, norm));
        assert_relative_eq!(loss, expected_loss, max_relative = FIRST_STEP);
        assert_relative_eq!(norm, expected_norm, max_relative = FIRST_STEP);
    }
    assert!(first.is_some_and(|(_, norm)| 0.1 < norm), "the norm says something");

    for (name, algorithm) in [("grpo", GRPO), ("ppo", PPO)] {
        let mut first: Option<f64> = None;
        for tokens in ["4096", "150", "1"] {
            let size = format!("training.micro_batch_tokens={tokens}");
            let config = rl_config(
                folder.path(),
                &format!("{name}-{tokens}"),
                &half_trained(),
                algorithm,
                &["training.max_steps=1", &size],
            );
            let run = config.run.clone();
            train::<Rl>(config);
            let norm = curve(&run, "train", "first_grad_norm")[0];
            assert_relative_eq!(norm, *first.get_or_insert(norm), max_relative = FIRST_STEP);
        }
        assert!(first.is_some_and(|norm| 1e-3 < norm), "{name}: the norm says something: {first:?}");
    }
}

/// The sampler's log-probabilities of the sampled tokens against the trainer's of the trained ones, in episodes with
/// feedback turns: one token too many or too few, and they would belong to different tokens.
#[test]
fn the_trained_tokens_are_the_sampled_ones() {
    const SAMPLER_GAP: f64 = 1e-4;
    let folder = tempfile::tempdir().unwrap();
    train::<Rl>(rl_config(
        folder.path(),
        "run",
        &half_trained(),
        PPO,
        &["training.max_steps=3", "rollout.prompts_per_step=16"],
    ));
    let run = folder.path().join("run");
    assert!(curve(&run, "train", "turns_per_episode").iter().all(|&turns| 1.0 < turns));
    for (gap, ratio) in
        curve(&run, "train", "sampler_gap_max").iter().zip(curve(&run, "train", "response_tokens_per_turn"))
    {
        assert!(*gap < SAMPLER_GAP, "{gap}");
        assert!((1.0..=24.0).contains(&ratio));
    }
}
