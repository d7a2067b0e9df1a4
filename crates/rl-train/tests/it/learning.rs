//! Both trainers learn something small.

use rl_core::random::RandomKey;
use rl_data::Message;
use rl_models::ChatModel;
use rl_models::generate::SamplingConfig;
use rl_train::{Finish, Rl, Sft};
use tch::Device;

use crate::fixtures::*;

#[test]
fn sft_learns_to_copy_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let config = sft_config(folder.path(), "run", &data, &["training.max_steps=80", "training.checkpoints.every=80"]);
    assert_eq!(train::<Sft>(config), Finish::Complete { step: 80 });
    let run = folder.path().join("run");
    let loss = curve(&run, "train", "loss");
    assert_eq!(loss.len(), 80);
    assert!(loss[79] < 0.1 * loss[0], "loss {} to {}", loss[0], loss[79]);

    let model = ChatModel::load(&run.join("checkpoints/step-000080"), Device::Cpu).unwrap();
    for word in ["dog", "six", "map"] {
        let mut dialogue = model.dialogue(vec![Message::user(format!("Say {word}."))]).unwrap();
        let key = RandomKey::new(0, "unused by greedy decoding");
        model.respond(&mut [&mut dialogue], &[key], &SamplingConfig::greedy(8, 1), &mut |_| ()).unwrap();
        assert_eq!(dialogue.turns[0].text, word);
    }
}

#[test]
fn rl_raises_the_reward() {
    const RISE: f64 = 1.0;
    for algorithm in [GRPO, PPO] {
        let folder = tempfile::tempdir().unwrap();
        let changes = ["training.max_steps=16", "training.checkpoints.every=16", "rollout.prompts_per_step=16"];
        let config = rl_config(folder.path(), "run", &half_trained(), algorithm, &changes);
        train::<Rl>(config);
        let rewards = curve(&folder.path().join("run"), "train", "reward_mean");
        let mean = |rewards: &[f64]| rewards.iter().sum::<f64>() / rewards.len() as f64;
        let (first, last) = (mean(&rewards[..4]), mean(&rewards[12..]));
        eprintln!("{first} {last} {:?}", curve(&folder.path().join("run"), "train", "success_rate"));
        assert!(first + RISE < last, "{algorithm}: reward {first} to {last}");
    }
}
