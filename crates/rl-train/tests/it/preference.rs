//! Preference optimisation on pairs and on single answers: the start, the denominators, what is learned, what is refused.

use approx::assert_relative_eq;
use rl_models::{ChatModel, token_log_sum_squares};
use rl_train::{Interrupt, Method, Preference, RewardModel, RunConfig, Trainer, Unpaired};
use tch::{Device, Kind, Tensor};

use crate::fixtures::*;
use crate::preference_fixtures::*;

/// Relative; sums in f32 over other groupings of the same tokens.
const REGROUPED: f64 = 2e-5;
/// Relative; one logarithm in f32.
const LOG: f64 = 1e-6;

#[test]
fn before_the_first_update_every_margin_is_exactly_zero() {
    let files = files();
    for (name, objective, changes) in [
        ("full", DPO, vec![]),
        ("lora", DPO, vec![LORA, "model.lora.dropout=0.0"]),
        ("full-known", PRECOMPUTED, vec![]),
        ("lora-known", PRECOMPUTED, vec![LORA, "model.lora.dropout=0.0"]),
        ("bf16", DPO, vec!["model.dtype=\"bf16\""]),
        ("recomputed", DPO, vec!["model.gradient_checkpointing=true"]),
    ] {
        let changes = [changes, vec!["training.max_steps=1"]].concat();
        train::<Preference>(files.preference(name, objective, &changes));
        let run = files.root().join(name);
        for metric in ["margin", "rewards_chosen", "rewards_rejected"] {
            assert_eq!(curve(&run, "train", metric), [0.0], "{name}: {metric}");
        }
        assert_relative_eq!(curve(&run, "train", "loss")[0], 2f64.ln(), max_relative = 1e-12);
        assert_ne!(curve(&run, "unseen", "margin"), [0.0], "{name}: an update moves the policy");
    }
    train::<Unpaired>(files.unpaired("kto", KTO, &["training.max_steps=1"]));
    let run = files.root().join("kto");
    for metric in ["rewards_desirable", "rewards_undesirable", "kl_desirable"] {
        assert_eq!(curve(&run, "train", metric), [0.0], "{metric}");
    }
}

/// The first step of a run with micro-batches of another size.
#[track_caller]
fn check_micro_batches<M: Method>(name: &str, config: impl Fn(&str, &str) -> M::Config) {
    let mut first: Option<(f64, f64)> = None;
    for tokens in ["4096", "60", "1"] {
        let size = format!("training.micro_batch_tokens={tokens}");
        let config = config(&format!("{name}-{tokens}"), &size);
        let run = config.run().to_path_buf();
        train::<M>(config);
        let (loss, norm) = (curve(&run, "train", "loss")[0], curve(&run, "train", "grad_norm")[0]);
        let (expected_loss, expected_norm) = *first.get_or_insert((loss, norm));
        assert_relative_eq!(loss, expected_loss, max_relative = REGROUPED);
        assert_relative_eq!(norm, expected_norm, max_relative = REGROUPED);
    }
    assert!(first.is_some_and(|(_, norm)| 1e-3 < norm), "{name}: the norm says something: {first:?}");
}

#[test]
fn micro_batches_do_not_change_the_gradient() {
    let files = files();
    // A reference that differs from the policy, so that log-ratios, baselines and ranks say something at once.
    let path = earlier_policy().display().to_string();
    let (of_pairs, of_answers) = (format!("reference.path=\"{path}\""), format!("reference=\"{path}\""));
    let objectives = [("dpo", DPO), ("orpo", ORPO), ("aot", AOT), ("wpo", WPO), ("combined", COMBINED)];
    for (name, objective) in objectives {
        check_micro_batches::<Preference>(name, |name, size| {
            let own = if objective.contains("reference") { of_pairs.as_str() } else { "seed=11" };
            files.preference(name, objective, &["training.max_steps=1", own, size])
        });
    }
    let losses = [("kto", KTO), ("even", KTO_EVEN), ("even-gradient", KTO_EVEN_GRADIENT), ("apo", APO_UNPAIRED)];
    for (name, objective) in losses {
        check_micro_batches::<Unpaired>(name, |name, size| {
            files.unpaired(name, objective, &["training.max_steps=1", &of_answers, size])
        });
        let baseline = curve(&files.root().join(format!("{name}-60")), "train", "kl_desirable")[0];
        assert_eq!(name != "apo", 0.0 < baseline, "{name}: {baseline}");
    }
    check_micro_batches::<RewardModel>("reward", |name, size| {
        files.reward_model(name, &["training.max_steps=1", "centering_coef=0.01", size])
    });
}

#[test]
fn a_reference_known_from_before_gives_the_numbers_of_a_live_one() {
    let files = files();
    // 24 pairs in steps of 8: three steps are the first pass over the data.
    train::<Preference>(files.preference("live", DPO, &[]));
    train::<Preference>(files.preference("known", PRECOMPUTED, &[]));
    let [live, known] = ["live", "known"].map(|name| metrics(&files.root().join(name)));
    let steps = |rows: &[serde_json::Value]| -> Vec<serde_json::Value> {
        rows.iter().filter(|row| row["split"] == "train").cloned().collect()
    };
    let (live, known) = (steps(&live), steps(&known));
    assert_eq!(live.len(), 6);
    assert_eq!(live[..3], known[..3], "to the bit in the first pass");
    for (live, known) in live[3..].iter().zip(&known[3..]) {
        for name in ["loss", "margin", "grad_norm"] {
            let [live, known] = [live, known].map(|row| row[name].as_f64().unwrap());
            assert_relative_eq!(live, known, max_relative = 1e-4);
        }
    }
}

#[test]
fn a_reference_that_becomes_the_policy_leaves_no_margin() {
    let files = files();
    train::<Preference>(files.preference("run", FOLLOWING, &[]));
    assert_eq!(curve(&files.root().join("run"), "train", "margin"), [0.0; 6]);
    train::<Preference>(files.preference("still", DPO, &[]));
    assert!(0.0 < curve(&files.root().join("still"), "train", "margin")[5]);
}

#[test]
fn preferences_are_learned_from_pairs() {
    let files = files();
    for (name, objective) in [("dpo", DPO), ("orpo", ORPO), ("simpo", SIMPO)] {
        let changes = [
            "training.max_steps=40",
            "training.learning_rate.learning_rate=4e-3",
            "training.checkpoints.every=40",
            "training.evaluation={ every = 40, at_start = true }",
        ];
        train::<Preference>(files.preference(name, objective, &changes));
        let run = files.root().join(name);
        let (accuracy, margin) = (curve(&run, "unseen", "accuracy"), curve(&run, "unseen", "margin"));
        eprintln!("{name}: accuracy {accuracy:?}, margin {margin:?}");
        assert!(margin[0] < margin[1], "{name}: margin {margin:?}");
        assert!(0.9 <= accuracy[1], "{name}: accuracy {accuracy:?}");
    }
}

#[test]
fn preferences_are_learned_from_single_answers() {
    let files = files();
    for (name, objective) in [("kto", KTO), ("even", KTO_EVEN), ("apo", APO_UNPAIRED)] {
        let changes = ["training.max_steps=24", "training.checkpoints.every=24", "batch_size=12"];
        train::<Unpaired>(files.unpaired(name, objective, &changes));
        let run = files.root().join(name);
        let margin = curve(&run, "unseen", "margin");
        eprintln!("{name}: margin {margin:?}");
        assert!(0.3 < margin[0], "{name}: margin {margin:?}");
        assert!(curve(&run, "unseen", "rewards_undesirable")[0] < 0.0, "{name}");
    }
}

#[test]
fn the_sum_of_squared_probabilities_is_that_of_the_softmax() {
    let model = ChatModel::load(&small_policy(), Device::Cpu).unwrap();
    let ids: Vec<i64> = (3..23).collect();
    let packed = model.decoder.pack(&[&ids]).unwrap();
    let hidden = tch::no_grad(|| model.decoder.hidden_states(&packed)).unwrap();
    let rows = Tensor::from_slice(&[0_i64, 7, 19]);
    let ours = token_log_sum_squares(&model.decoder, &hidden, &rows).unwrap();
    let probabilities = model.decoder.logits(&hidden.index_select(0, &rows)).unwrap().softmax(-1, Kind::Double);
    let expected = probabilities.square().sum_dim_intlist([-1_i64].as_slice(), false, Kind::Double).log();
    assert_eq!(ours.size(), [3]);
    for index in 0..3 {
        let [ours, expected] = [&ours, &expected].map(|tensor| tensor.double_value(&[index]));
        assert_relative_eq!(ours, expected, max_relative = LOG, epsilon = LOG);
    }
}

/// A rate at which the first update destroys the model.
const DESTRUCTIVE: &str = "training.learning_rate.learning_rate=3e38";

#[track_caller]
fn failure<M: Method>(config: M::Config) -> String {
    let mut trainer = Trainer::<M>::new(config).unwrap();
    trainer.run(&Interrupt::manual(), &rl_track::Progress::hidden()).unwrap_err().to_string()
}

#[test]
fn numbers_that_are_not_finite_end_the_run_or_are_counted() {
    let files = files();
    let skip = "training.non_finite={ policy = \"skip\", max_skipped = 100 }";
    // Evaluation comes at step 3 at the earliest, after the failure.
    let messages = [
        failure::<Preference>(files.preference("dpo", DPO, &[DESTRUCTIVE])),
        failure::<Preference>(files.preference("aot", AOT, &[DESTRUCTIVE])),
        failure::<Unpaired>(files.unpaired("kto", KTO, &[DESTRUCTIVE])),
        failure::<RewardModel>(files.reward_model("reward", &[DESTRUCTIVE])),
    ];
    for message in &messages {
        assert!(message.contains("step 2: rows ") && message.contains("is NaN"), "{message}");
    }
    let messages = [
        failure::<Preference>(files.preference("dpo-skip", DPO, &[DESTRUCTIVE, skip])),
        failure::<Preference>(files.preference("aot-skip", AOT, &[DESTRUCTIVE, skip])),
        failure::<Unpaired>(files.unpaired("kto-skip", KTO, &[DESTRUCTIVE, skip])),
        failure::<RewardModel>(files.reward_model("reward-skip", &[DESTRUCTIVE, skip])),
    ];
    for message in &messages {
        assert!(message.contains("step 3: 2 optimizer steps in a row"), "{message}");
    }
    let skipped = metrics(&files.root().join("dpo-skip"))[1]["nonfinite_skipped"].as_f64().unwrap();
    assert!(1.0 <= skipped, "{skipped}");
}

#[test]
fn configurations_that_contradict_themselves_are_refused() {
    let files = files();
    let following = r#"reference.update={ mixup_alpha = 0.5, every_steps = 2 }"#;
    for (objective, change, expected) in [
        (SIMPO, "reference={ log_probs = \"live\" }", "leave the section out"),
        (PRECOMPUTED, following, "cannot be precomputed"),
        (DPO, "objective.length_norm=true", ""),
        (DPO, "objective.ratio_clamp=-1.0", "ratio_clamp"),
        (AOT, "objective.wpo=true", "sorted ranks"),
    ] {
        let result = files.preference("refused", objective, &[change]).validate();
        match expected {
            "" => result.unwrap(),
            part => assert!(result.unwrap_err().to_string().contains(part), "{change}"),
        }
    }
    let error = files.preference("refused", FOLLOWING, &[LORA]).validate().unwrap_err().to_string();
    assert!(error.contains("adapters share"), "{error}");
    let mut config = files.preference("refused", DPO, &[]);
    config.reference = None;
    assert!(config.validate().unwrap_err().to_string().contains("give the section"));
    let error = files.unpaired("refused", KTO, &["batch_size=1"]).validate().unwrap_err().to_string();
    assert!(error.contains("two or more"), "{error}");
    let error = files.unpaired("refused", KTO_EVEN, &["batch_size=3"]).validate().unwrap_err().to_string();
    assert!(error.contains("even"), "{error}");
    // 48 answers in steps of 47 leave one that has no other to be mismatched with.
    let changes = ["batch_size=47", "training.micro_batch_tokens=4096"];
    let mut config = files.unpaired("refused", KTO, &changes);
    (config.training.max_steps, config.training.epochs) = (None, Some(1));
    let error = Trainer::<Unpaired>::new(config).err().unwrap().to_string();
    assert!(error.contains("mismatches"), "{error}");
}
