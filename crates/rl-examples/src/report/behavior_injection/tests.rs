//! A whole report from hand-made records.

use std::collections::BTreeMap;
use std::path::Path;

use rl_eval::{AnswerLength, Evaluation, Proportion, SplitResult, Summary};
use rl_track::{Manifest, MetricsRow, Run};

use super::*;

/// Rounding of f64 arithmetic in expected values.
const TOLERANCE: f64 = 1e-12;

/// A model that solved these of 20 problems, of which the first five have the answer 0.
fn evaluation(name: &str, solved: std::ops::Range<u64>) -> Evaluation {
    let share = |successes, trials| Proportion::new(successes, trials).unwrap();
    let count = solved.end - solved.start;
    let zeros = solved.clone().filter(|&task| task < 5).count() as u64;
    let result = |split: &str| SplitResult {
        split: split.into(),
        decoding: "greedy".into(),
        first_attempt: share(count, 20),
        within_attempts: share(count, 20),
        max_attempts: 1,
        by_kind: BTreeMap::from([
            ("zero_answer".into(), share(zeros, 5)),
            ("nonzero_answer".into(), share(count - zeros, 15)),
        ]),
        process_accuracy: Some(share(count / 2, 20)),
        outcomes: BTreeMap::from([
            ("correct".into(), count),
            ("wrong_answer".into(), 18 - count),
            ("no_answer".into(), 2),
        ]),
        reward_mean: 0.0,
        answer_length: AnswerLength { mean_tokens: 17.5, truncated: share(1, 20) },
        model_rewards: None,
        seen_in_training: None,
        first_attempt_unseen: None,
        solved_first: solved.clone().collect(),
        transcripts: Vec::new(),
    };
    Evaluation { name: name.into(), step: None, path: name.into(), results: vec![result("id"), result("ood")] }
}

/// Records in which RL gains two problems after plain solutions and nine after solutions with behaviours.
fn write_records(root: &Path) -> ReportConfig {
    let run = |name: &str| {
        let settings: BTreeMap<&str, u64> = BTreeMap::new();
        Run::open(&root.join(name), &settings, Manifest::new().seed("seed", 2).input("data", "ab")).unwrap()
    };
    run("evaluate");
    let evaluations = vec![
        evaluation("base", 0..1),
        evaluation("bridge_rl", 2..15),
        evaluation("bridge_sft", 2..6),
        evaluation("vanilla_rl", 0..8),
        evaluation("vanilla_sft", 0..6),
    ];
    let summary = Summary { num_tasks: 20, evaluations, best: "bridge_rl".into(), last: "bridge_rl".into() };
    std::fs::write(root.join("evaluate/evaluation.json"), serde_json::to_vec(&summary).unwrap()).unwrap();
    for name in ["vanilla-sft", "vanilla-rl", "bridge-sft", "bridge-rl"] {
        let mut writer = run(name).metrics().unwrap();
        for step in 1..=8 {
            let row = MetricsRow::new(step, "train").with_timing("seconds", 0.5);
            let row = match name.ends_with("sft") {
                true => row.with("loss", 1.0 / step as f64),
                false => row.with("success_rate", step as f64 / 8.0).with("zero_advantage_fraction", 0.25),
            };
            writer.write(&row).unwrap();
        }
    }
    let trained = |name: &str| Trained { run: root.join(name), model: name.replace('-', "_") };
    let variant = |name: &str| Variant {
        label: name.to_uppercase(),
        sft: trained(&format!("{name}-sft")),
        rl: trained(&format!("{name}-rl")),
    };
    let split = |name: &str| Split { name: name.into(), label: format!("the {name} problems") };
    ReportConfig {
        run: root.join("report"),
        title: "An <experiment>".into(),
        notes: vec!["All of it is made up.".into()],
        evaluation: root.join("evaluate"),
        decoding: "greedy".into(),
        base: "base".into(),
        splits: vec![split("id"), split("ood")],
        variants: vec![variant("vanilla"), variant("bridge")],
    }
}

#[test]
fn a_report_says_what_the_records_hold() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path());
    let (numbers, path) = write_report(&config).unwrap();
    let [split, _] = &numbers.splits[..] else { panic!("two splits") };
    assert_eq!(split.always_zero.unwrap().successes, 5);
    assert_eq!(split.base.accuracy.successes, 1);
    let [vanilla, bridge] = &split.variants[..] else { panic!("two variants") };
    assert_eq!((vanilla.gain.only_before, vanilla.gain.only_after), (0, 2));
    assert_eq!((bridge.gain.only_before, bridge.gain.only_after), (0, 9));
    assert_eq!(vanilla.beyond_first, None);
    assert_eq!(bridge.sft.nonzero_accuracy.unwrap().successes, 1, "problem 5 alone");
    assert_eq!(bridge.rl.process_accuracy.unwrap().successes, 6, "half of 13, rounded down");
    assert_eq!(bridge.rl.no_answer.successes, 2);
    // Tasks 6 and 7 are won by both, 8 to 14 by the second alone.
    let beyond = bridge.beyond_first.unwrap();
    assert!((beyond.difference - 7.0 / 20.0).abs() < TOLERANCE);
    assert!(beyond.is_decided());
    assert_eq!(numbers.timing["BRIDGE, RL"], 4.0);

    let html = std::fs::read_to_string(path).unwrap();
    assert!(html.contains("An &lt;experiment&gt;") && html.contains("All of it is made up."));
    assert!(html.contains("beyond VANILLA (points)"));
    assert!(html.contains("Answering 0 to every one would get 25.0 % right."));
    assert_eq!(html.matches("<figure>").count(), 6, "accuracy twice, gains, loss, and two of RL");
    assert_eq!(std::fs::read_dir(config.run.join("figures")).unwrap().count(), 6);
    let lines = numbers.lines();
    assert!(lines.iter().any(|line| line.contains("after BRIDGE RL gains more than after VANILLA")), "{lines:?}");
}

#[test]
fn the_same_records_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path());
    let bytes = || {
        write_report(&config).unwrap();
        ["summary.json", "report.html"].map(|name| std::fs::read(config.run.join(name)).unwrap())
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn missing_names_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path());
    let error = |config: &ReportConfig| format!("{:#}", write_report(config).unwrap_err());
    let mut unknown = config.clone();
    unknown.variants[1].rl.model = "brige_rl".into();
    assert!(error(&unknown).contains("\"brige_rl\"") && error(&unknown).contains("bridge_rl"));
    let mut twice = config.clone();
    twice.variants[1].label = "VANILLA".into();
    assert!(error(&twice).contains("variants.label"));
    let unbased = ReportConfig { base: "bse".into(), ..config.clone() };
    assert!(error(&unbased).contains("\"bse\""));
    std::fs::remove_file(folder.path().join("bridge-rl/metrics.jsonl")).unwrap();
    assert!(error(&config).contains("bridge-rl/metrics.jsonl"));
    assert!(!config.run.join("summary.json").exists());
}

#[test]
fn configurations_in_the_repository_are_valid() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    for scale in ["tiny", "small", "paper"] {
        let name = format!("behavior-injection-{scale}.toml");
        let file = configs.join("report").join(&name);
        let crate::report::ReportConfig::BehaviorInjection(report) = rl_track::config::load(&file, &[]).unwrap() else {
            panic!("{} is another report", file.display());
        };
        report.validate().unwrap();
        let evaluation: rl_eval::EvaluationConfig =
            rl_track::config::load(&configs.join("evaluate").join(&name), &[]).unwrap();
        evaluation.validate().unwrap();
        assert_eq!(report.evaluation, evaluation.run);
        let mut models: Vec<&String> = vec![&report.base];
        models.extend(report.variants.iter().flat_map(|variant| [&variant.sft.model, &variant.rl.model]));
        models.sort();
        assert_eq!(models, evaluation.models.keys().collect::<Vec<_>>());
        let splits: Vec<&String> = evaluation.splits.iter().map(|split| &split.name).collect();
        assert_eq!(report.splits.iter().map(|split| &split.name).collect::<Vec<_>>(), splits);
    }
}
