//! A whole report from hand-made records.

use std::collections::BTreeMap;
use std::path::Path;

use rl_eval::{AnswerLength, Evaluation, Proportion, SplitResult, Summary, Transcript};
use rl_track::{Manifest, MetricsRow, Run};

use super::*;

/// A model that obeyed the first `obeyed` of 20 instructions, half of them of each kind, with these rewards.
fn evaluation(name: &str, obeyed: u64, reward: f64) -> Evaluation {
    let share = |successes, trials| Proportion::new(successes, trials).unwrap();
    let transcript = Transcript { task: 0, messages: Vec::new(), outcomes: vec!["off_topic".into()], reward: 0.0 };
    let result = SplitResult {
        split: "held_out".into(),
        decoding: "greedy".into(),
        first_attempt: share(obeyed, 20),
        within_attempts: share(obeyed, 20),
        max_attempts: 1,
        by_kind: BTreeMap::from([
            ("lower_case".into(), share(obeyed.min(10), 10)),
            ("json_keys".into(), share(obeyed.saturating_sub(10), 10)),
        ]),
        process_accuracy: None,
        outcomes: BTreeMap::from([("obeyed".into(), obeyed), ("violated".into(), 20 - obeyed)]),
        reward_mean: obeyed as f64 / 20.0,
        answer_length: AnswerLength { mean_tokens: 17.5, truncated: share(1, 20) },
        model_rewards: Some(vec![reward; 20]),
        seen_in_training: None,
        first_attempt_unseen: None,
        solved_first: (0..obeyed).collect(),
        transcripts: vec![transcript],
    };
    Evaluation { name: name.into(), step: None, path: name.into(), results: vec![result] }
}

/// Records of a pipeline in which SFT raises obedience from 4 to 12 of 20 and RL on to 16.
fn write_records(root: &Path, seconds: f64) -> ReportConfig {
    let run = |name: &str| {
        let settings: BTreeMap<&str, u64> = BTreeMap::new();
        Run::open(&root.join(name), &settings, Manifest::new().seed("seed", 2).input("data", "ab")).unwrap()
    };
    run("evaluate");
    let summary = Summary {
        num_tasks: 20,
        evaluations: vec![evaluation("base", 4, 0.0), evaluation("rl", 16, 3f64.ln()), evaluation("sft", 12, 0.0)],
        best: "rl".into(),
        last: "sft".into(),
    };
    std::fs::write(root.join("evaluate/evaluation.json"), serde_json::to_vec(&summary).unwrap()).unwrap();
    for name in ["sft", "reward-model", "dpo", "rloo"] {
        let mut writer = run(name).metrics().unwrap();
        for step in 1..=8 {
            let value = step as f64;
            let row = MetricsRow::new(step, "train").with_timing("seconds", seconds);
            let row = match name {
                "sft" => row.with("loss", 1.0 / value),
                "rloo" => row.with("reward_mean", value).with("success_rate", 0.5).with("ref_kl", 0.01 * value),
                _ => row.with("loss", 0.7).with("accuracy", value / 8.0).with("margin", value),
            };
            writer.write(&row).unwrap();
            let held_out = MetricsRow::new(step, "held_out");
            match name {
                "sft" => writer.write(&held_out.with("loss", 2.0)).unwrap(),
                "rloo" => {}
                // The last row counts: 6 of 8 pairs.
                _ => {
                    let accuracy = if step == 8 { 0.75 } else { 0.25 };
                    let row = held_out.with("loss", 0.6).with("accuracy", accuracy).with("margin", -1.5);
                    writer.write(&row.with("num_pairs", 8.0)).unwrap();
                }
            }
        }
    }
    let stage = |model: &str, label: &str| Stage { model: model.into(), label: label.into() };
    ReportConfig {
        run: root.join("report"),
        title: "An <experiment>".into(),
        notes: vec!["All of it is made up.".into()],
        evaluation: root.join("evaluate"),
        split: "held_out".into(),
        decoding: "greedy".into(),
        sft: root.join("sft"),
        reward_model: root.join("reward-model"),
        dpo: root.join("dpo"),
        rl: vec![RlRun { run: root.join("rloo"), label: "RLOO".into() }],
        stages: vec![stage("base", "before training"), stage("sft", "SFT"), stage("rl", "RLOO")],
        comparisons: vec![["base".into(), "sft".into()], ["sft".into(), "rl".into()]],
    }
}

#[test]
fn a_report_says_what_the_records_hold() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path(), 1.5);
    let (numbers, path) = write_report(&config).unwrap();
    let obeyed: Vec<u64> = numbers.stages.iter().map(|stage| stage.obedience.successes).collect();
    assert_eq!(obeyed, [4, 12, 16]);
    let [first, second] = &numbers.comparisons[..] else { panic!("two comparisons") };
    // Tasks are nested: the second model obeys 8 more, and then 4 more.
    assert_eq!((first.test.only_before, first.test.only_after), (0, 8));
    assert!(first.test.rose() && !second.test.rose());
    let win = second.win_rate.unwrap();
    assert_eq!((win.wins, win.ties), (20, 0));
    assert!((win.probability - 0.75).abs() < 1e-12, "odds of 3 to 1");
    assert_eq!(first.win_rate.unwrap().ties, 20);
    for run in [&numbers.reward_model, &numbers.dpo] {
        let pairs = run.held_out["held_out"];
        assert_eq!((pairs.accuracy.successes, pairs.accuracy.trials, pairs.margin), (6, 8, -1.5));
    }
    assert_eq!(numbers.rl[0].1.train("reward_mean").unwrap().len(), 8);
    assert_eq!(numbers.timing["sft"], 12.0);

    let html = std::fs::read_to_string(path).unwrap();
    assert!(html.contains("An &lt;experiment&gt;") && html.contains("All of it is made up."));
    assert!(html.contains("20.0\u{a0}[8.1,\u{a0}41.6]"), "Wilson's interval of 4 of 20");
    assert!(html.contains("6.000"), "the mean reward of steps 4 to 8");
    assert_eq!(html.matches("<figure>").count(), 7, "obedience twice, loss, pairs, and three of RL");
    for outside in ["<script", "<link", "src=", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
    assert_eq!(std::fs::read_dir(config.run.join("figures")).unwrap().count(), 7);
    assert!(numbers.lines().iter().any(|line| line.contains("RLOO") && line.contains("80.0 %")));
}

#[test]
fn the_same_records_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path(), 1.5);
    let bytes = || {
        write_report(&config).unwrap();
        ["summary.json", "report.html"].map(|name| std::fs::read(config.run.join(name)).unwrap())
    };
    assert_eq!(bytes(), bytes());
}

#[test]
fn missing_names_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path(), 1.0);
    let error = |config: &ReportConfig| format!("{:#}", write_report(config).unwrap_err());
    let mut unknown = config.clone();
    unknown.stages[0].model = "bse".into();
    unknown.comparisons.clear();
    assert!(error(&unknown).contains("\"bse\"") && error(&unknown).contains("base"));
    let mut uncompared = config.clone();
    uncompared.comparisons[0][0] = "bse".into();
    assert!(error(&uncompared).contains("comparisons"));
    let undecoded = ReportConfig { decoding: "beam".into(), ..config.clone() };
    assert!(error(&undecoded).contains("held_out/beam"));
    std::fs::remove_file(folder.path().join("dpo/metrics.jsonl")).unwrap();
    assert!(error(&config).contains("dpo/metrics.jsonl"));
    assert!(!config.run.join("summary.json").exists());
}

#[test]
fn configurations_in_the_repository_are_valid() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    for name in ["alignment-smollm2", "alignment-tiny"] {
        let file = configs.join("report").join(format!("{name}.toml"));
        let crate::report::ReportConfig::Alignment(report) = rl_track::config::load(&file, &[]).unwrap() else {
            panic!("{} is another report", file.display());
        };
        report.validate().unwrap();
        let file = configs.join("evaluate").join(format!("{name}.toml"));
        let evaluation: rl_eval::EvaluationConfig = rl_track::config::load(&file, &[]).unwrap();
        assert_eq!(report.evaluation, evaluation.run);
        let models: Vec<&String> = report.stages.iter().map(|stage| &stage.model).collect();
        assert!(evaluation.models.keys().all(|model| models.contains(&model)), "{models:?}");
        assert_eq!(models.len(), evaluation.models.len());
    }
}
