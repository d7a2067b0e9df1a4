//! What must hold in the RL loop whatever is learned: which answers and tokens take part, and that what changes memory
//! alone changes nothing else.

use approx::assert_relative_eq;
use rl_core::random::RandomKey;
use rl_data::Message;
use rl_models::ChatModel;
use rl_models::generate::SamplingConfig;
use rl_train::{Error, Interrupt, Rl, RlConfig, Sft, Trainer};
use tch::Device;

use crate::fixtures::*;
use crate::rl_fixtures::*;

/// Relative; sums in f32 over other groupings of the same tokens.
const SAME_GRADIENT: f64 = 1e-5;
/// The same after further updates, whose weights differ by rounding already.
const SAME_UPDATES: f64 = 1e-3;

const NO_BASELINE: &str = "shaping={ steps = [] }";
/// The error that ends a run.
fn error(config: RlConfig) -> Error {
    Trainer::<Rl>::new(config).unwrap().run(&Interrupt::manual(), &rl_track::Progress::hidden()).err().unwrap()
}

#[test]
fn micro_batches_do_not_change_the_gradient_of_critics_and_sequence_ratios() {
    let own = token_own(1e-3);
    let (gspo, luspo) = (r#"objective.ratio.level="sequence_mean""#, r#"reduction={ kind = "seq_mean_token_sum" }"#);
    let rows: [(&str, &str, &[&str]); 5] = [
        ("token critic, shared", TOKEN_SHARED, &[NO_BASELINE]),
        ("token critic of its own", &own, &[NO_BASELINE]),
        ("turn critic, shared", TURN_SHARED, &[NO_BASELINE]),
        ("sequence ratios", GROUP, &[gspo, r#"reduction={ kind = "seq_mean_token_mean" }"#]),
        ("sequence ratios, sums", GROUP, &[gspo, luspo]),
    ];
    for (name, algorithm, changes) in rows {
        let folder = tempfile::tempdir().unwrap();
        let mut first: Option<[f64; 3]> = None;
        for tokens in ["4096", "100", "1"] {
            let size = format!("training.micro_batch_tokens={tokens}");
            let shared = [size.as_str(), "updates={ epochs = 2, per_epoch = 1 }"];
            let config = words_config(folder.path(), tokens, algorithm, &[&shared[..], changes].concat());
            train::<Rl>(config);
            let run = folder.path().join(tokens);
            let critic = metrics(&run)[0]["critic_grad_norm"].as_f64().unwrap_or(1.0);
            let found = [curve(&run, "train", "first_grad_norm")[0], curve(&run, "train", "grad_norm")[0], critic];
            let expected = *first.get_or_insert(found);
            eprintln!("{name}, {tokens}: {found:?}");
            assert_relative_eq!(found[0], expected[0], max_relative = SAME_GRADIENT);
            assert_relative_eq!(found[1], expected[1], max_relative = SAME_UPDATES);
            assert_relative_eq!(found[2], expected[2], max_relative = SAME_UPDATES);
        }
        assert!(first.is_some_and(|norms| norms.iter().all(|&norm| 1e-3 < norm)), "{name}: the norms say something");
    }
}

/// A pass over all answers is one sum whatever their order; shares of a pass are other sums.
#[test]
fn shuffling_changes_the_shares_of_a_pass_and_not_the_pass() {
    let folder = tempfile::tempdir().unwrap();
    let first_norm = |per_epoch: usize, shuffle: bool| {
        let name = format!("{per_epoch}-{shuffle}");
        let updates = format!("updates={{ epochs = 1, per_epoch = {per_epoch}, shuffle = {shuffle} }}");
        train::<Rl>(words_config(folder.path(), &name, GROUP, &[&updates, "training.max_grad_norm=inf"]));
        curve(&folder.path().join(name), "train", "first_grad_norm")[0]
    };
    let whole = first_norm(1, false);
    assert_relative_eq!(first_norm(1, true), whole, max_relative = SAME_GRADIENT);
    let (contiguous, shuffled) = (first_norm(2, false), first_norm(2, true));
    assert!(1e-3 < (contiguous - shuffled).abs() / contiguous, "{contiguous} {shuffled}");
}

/// Where all answers are worth the same, only the supervised rows teach: the step is that of supervised fine-tuning.
#[test]
fn supervised_rows_add_the_gradient_of_supervised_fine_tuning() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("copy.jsonl");
    write_copy_task(&data);
    let mut config = sft_config(
        folder.path(),
        "sft",
        &data,
        &["batch_size=40", "training.max_steps=1", "training.max_grad_norm=inf"],
    );
    (config.model.path, config.model.new) = (Some(half_copying()), None);
    train::<Sft>(config);
    let mix = pretrain_mix(&data, 40, 1.0);
    let changes = [
        mix.as_str(),
        "training.max_grad_norm=inf",
        r#"reward.sources=[{ name = "none", weight = 0.0, source = { kind = "match", field = "answer", extract = "whole", compare = "exact" } }]"#,
    ];
    train::<Rl>(words_config(folder.path(), "rl", GROUP, &changes));
    let (sft, rl) = (folder.path().join("sft"), folder.path().join("rl"));
    let number = |run, name| curve(run, "train", name)[0];
    assert_relative_eq!(number(&rl, "grad_norm"), number(&sft, "grad_norm"), max_relative = SAME_GRADIENT);
    assert_relative_eq!(number(&rl, "pretrain_loss"), number(&sft, "loss"), max_relative = SAME_GRADIENT);
    assert!(1e-3 < number(&sft, "grad_norm"), "the norm says something");
}

/// Two of eight prompts have no answer to be compared with, so their samples have no reward; the gradient is that of a run
/// on the other six.
#[test]
fn answers_without_a_reward_take_no_part() {
    let own = token_own(1e-3);
    let length = r#"reward.sources=[{ name = "word", source = { kind = "match", field = "answer", extract = "whole", compare = "exact" } }, { name = "length", weight = 0.3, source = { kind = "length", unit = "characters", free = 0, limit = 9 } }]"#;
    for (name, algorithm) in [("none", REINFORCE), ("own", &own), ("token", TOKEN_SHARED), ("turn", TURN_SHARED)] {
        let folder = tempfile::tempdir().unwrap();
        let (all, some) = (folder.path().join("all.jsonl"), folder.path().join("some.jsonl"));
        // Most words are said right already: some answers are wrong by definition, so that rewards differ.
        fn answer(word: &str) -> Option<&str> {
            match word {
                "sun" | "six" => None,
                "cat" | "oak" | "map" => Some("nothing"),
                _ => Some(word),
            }
        }
        let kept: Vec<&str> = WORDS.into_iter().filter(|word| answer(word).is_some()).collect();
        write_prompts(&all, &WORDS, answer);
        write_prompts(&some, &kept, answer);
        let run = |run: &str, data: &std::path::Path, prompts: usize| {
            let (data, count) =
                (format!("rollout.task.data=\"{}\"", data.display()), format!("rollout.prompts_per_step={prompts}"));
            let changes = [NO_BASELINE, "rollout.group_size=1", length, &data, &count];
            train::<Rl>(words_config(folder.path(), run, algorithm, &[&changes[..], &DETERMINISTIC].concat()));
            metrics(&folder.path().join(run))[0].clone()
        };
        let (with, without) = (run("with", &all, 8), run("without", &some, 6));
        assert_eq!((with["unscorable"].as_f64(), without["unscorable"].as_f64()), (Some(2.0), Some(0.0)));
        assert_eq!(with["reward/word/invalid"].as_f64(), Some(2.0));
        for metric in ["first_grad_norm", "reward_mean", "policy_loss", "critic_grad_norm", "value_loss"] {
            let (Some(with), Some(without)) = (with[metric].as_f64(), without[metric].as_f64()) else {
                assert!(with[metric].is_null() && metric != "first_grad_norm", "{name}: {metric}");
                continue;
            };
            eprintln!("{name} {metric}: {with} {without}");
            assert_relative_eq!(with, without, max_relative = SAME_GRADIENT);
            assert!(1e-3 < with.abs() || metric == "policy_loss", "{name}: {metric} says something");
        }
    }
}

/// Answers of advantage 0 do not go through the model when nothing else needs them; a limit that nothing reaches forces
/// them through.
#[test]
fn skipping_answers_of_advantage_zero_leaves_the_gradient() {
    for reduction in ["token_mean", "token_mean_local", "seq_mean_token_mean"] {
        let folder = tempfile::tempdir().unwrap();
        let run = |name: &str, more: &[&str]| {
            let reduction = format!("reduction={{ kind = \"{reduction}\" }}");
            let shared = ["rollout.group_size=2", "training.micro_batch_tokens=100", &reduction];
            train::<Rl>(words_config(folder.path(), name, GROUP, &[&shared[..], more].concat()));
            folder.path().join(name)
        };
        let skipping = run("skipping", &[]);
        let full = run("full", &["selection.max_off_policy_kl=1e9"]);
        assert_eq!(answers(&skipping, 1), answers(&full, 1));
        let (advantages, rewards) = answers(&skipping, 1);
        let zeros = advantages.iter().filter(|&&advantage| advantage == 0.0).count();
        assert!(0 < zeros && zeros < advantages.len(), "{advantages:?}");
        let equal = rewards.chunks(2).filter(|group| group[0] == group[1]).count();
        assert_eq!(curve(&skipping, "train", "frac_zero_std"), [equal as f64 / 8.0]);
        let norms = [&skipping, &full].map(|run| curve(run, "train", "first_grad_norm")[0]);
        assert_relative_eq!(norms[0], norms[1], max_relative = SAME_GRADIENT);
        assert!(1e-3 < norms[0]);
        // How far sampler and trainer are apart is known of the answers that go through the model.
        let gaps = [&skipping, &full].map(|run| curve(run, "train", "sampler_gap_max")[0]);
        assert!(0.0 < gaps[0] && gaps[0] <= gaps[1] && gaps[1] < 1e-4, "{gaps:?}");
    }
}

#[test]
fn the_first_ratio_is_one_to_the_bit() {
    const LORA: &str = r#"model.lora={ rank = 4, alpha = 8.0, target_modules = ["q_proj", "v_proj", "down_proj"] }"#;
    const BF16: &str = r#"model.dtype="bf16""#;
    const CHECKPOINTING: &str = "model.gradient_checkpointing=true";
    let rows: [(&str, &[&str]); 4] = [
        ("lora", &[LORA]),
        ("bf16", &[BF16]),
        ("checkpointing", &[CHECKPOINTING]),
        ("all", &[LORA, BF16, CHECKPOINTING]),
    ];
    for (name, changes) in rows {
        let folder = tempfile::tempdir().unwrap();
        // Weights against the sampler need old log-probabilities, which are so computed apart from the update.
        let weights = r#"importance={ judged = "token", weight = "token", outside = "truncate", high = 2.0 }"#;
        let shared = [weights, "training.max_steps=3", "training.micro_batch_tokens=150"];
        train::<Rl>(words_config(folder.path(), "run", GROUP, &[&shared[..], changes].concat()));
        let run = folder.path().join("run");
        for metric in ["ratio_min", "ratio_max"] {
            assert_eq!(curve(&run, "train", metric), [1.0; 3], "{name}: {metric}");
        }
        assert!(curve(&run, "train", "grad_norm").iter().all(|&norm| 1e-4 < norm), "{name}: it learns");
        assert!(curve(&run, "train", "sampler_gap_max").iter().all(|gap| gap.is_finite()));
    }
}

#[test]
fn dynamic_sampling_keeps_the_groups_that_differ_and_gives_up_in_time() {
    let folder = tempfile::tempdir().unwrap();
    let dynamic = r#"rollout.dynamic_sampling={ filter = { kind = "not_constant" }, max_rounds = 20 }"#;
    let group = "rollout.group_size=2";
    train::<Rl>(words_config(folder.path(), "plain", GROUP, &[group]));
    train::<Rl>(words_config(folder.path(), "dynamic", GROUP, &[group, dynamic]));
    let rewards = |run: &str| -> Vec<[f64; 2]> {
        let (_, rewards) = answers(&folder.path().join(run), 1);
        rewards.chunks(2).map(|group| [group[0].unwrap(), group[1].unwrap()]).collect()
    };
    let (plain, kept) = (rewards("plain"), rewards("dynamic"));
    assert_eq!((plain.len(), kept.len()), (8, 8));
    assert!(kept.iter().all(|group| group[0] != group[1]), "{kept:?}");
    // The first round asks what the other run asked, with the same draws.
    let differing: Vec<[f64; 2]> = plain.iter().copied().filter(|group| group[0] != group[1]).collect();
    assert!(!differing.is_empty() && differing.len() < 8, "{plain:?}");
    assert_eq!(kept[..differing.len()], differing);
    let dropped = curve(&folder.path().join("dynamic"), "train", "groups_dropped")[0];
    assert!((8 - differing.len()) as f64 <= dropped, "{dropped}");

    let changes = [&DETERMINISTIC[..], &[group, dynamic, "rollout.dynamic_sampling.max_rounds=3"]].concat();
    let error = error(words_config(folder.path(), "hopeless", GROUP, &changes));
    let Error::AtStep { step: 1, source } = &error else { panic!("{error}") };
    assert!(matches!(**source, Error::TooFewGroups { found: 0, wanted: 8, rounds: 3 }), "{error}");
}

#[test]
fn the_greedy_baseline_is_the_reward_of_the_greedy_answer() {
    let folder = tempfile::tempdir().unwrap();
    let greedy = r#"advantage = { kind = "group", estimator = { kind = "greedy_baseline" } }"#;
    train::<Rl>(words_config(folder.path(), "run", greedy, &["rollout.samples_per_step=32"]));
    let run = folder.path().join("run");
    let model = ChatModel::load(&half_copying(), Device::Cpu).unwrap();
    let baseline = |word: &str| {
        let mut dialogue = model.dialogue(vec![Message::user(format!("Say {word}."))]).unwrap();
        let key = RandomKey::new(0, "unused by greedy decoding");
        model.respond(&mut [&mut dialogue], &[key], &SamplingConfig::greedy(6, 1), &mut |_| ()).unwrap();
        f64::from(u8::from(dialogue.turns[0].text.trim() == word))
    };
    let (advantages, rewards) = answers(&run, 1);
    let samples = samples(&run);
    assert_eq!(samples.len(), 32);
    let mut differ = 0;
    for ((sample, advantage), reward) in samples.iter().zip(&advantages).zip(rewards) {
        let word = sample["answer"].as_str().unwrap();
        let expected = f64::from(u8::from(said(sample).trim() == word));
        assert_eq!(reward, Some(expected), "{sample}");
        assert_eq!(*advantage, expected - baseline(word), "{sample}");
        differ += usize::from(*advantage != 0.0);
    }
    assert!(0 < differ, "{advantages:?}");
}

#[test]
fn the_prefix_of_a_response_is_given_and_not_trained() {
    let folder = tempfile::tempdir().unwrap();
    let prefix = r#"rollout.task.response_prefix="Say so""#;
    let weights = r#"importance={ judged = "token", weight = "token", outside = "truncate", high = 2.0 }"#;
    let changes = [prefix, weights, "rollout.sampling.max_new_tokens=1", "rollout.samples_per_step=32"];
    train::<Rl>(words_config(folder.path(), "run", REINFORCE, &changes));
    let run = folder.path().join("run");
    // One sampled token per answer, and no other has a loss.
    assert_eq!(curve(&run, "train", "num_tokens"), [32.0]);
    let samples = samples(&run);
    assert!(samples.len() == 32 && samples.iter().all(|sample| said(sample).starts_with("Say so")));
    // The trainer's log-probabilities are those of the sampled tokens, after the prefix.
    let gap = curve(&run, "train", "sampler_gap_max")[0];
    assert!(gap < 1e-4, "{gap}");
}
