//! Claims from hand-made results, and whole reports from hand-made records.

use std::collections::BTreeMap;
use std::path::Path;

use rl_analysis::{AnalysisConfig, compare_checkpoints};
use rl_eval::{AnswerLength, Evaluation, EvaluationConfig, PairedTest, Proportion, SplitResult, Summary, Transcript};
use rl_track::config::parse;
use rl_track::{Manifest, MetricsRow, MetricsWriter, Run};
use tch::{Kind, Tensor};

use super::claims::{self, LossMinimum};
use super::weights::{rotating_vectors, stable_values};
use super::*;

/// Rounding of f64 arithmetic in expected values.
const TOLERANCE: f64 = 1e-12;

/// A result in which the hands `solved` out of `num_hands` were solved.
fn played(split: &str, solved: impl IntoIterator<Item = u64>, num_hands: u64) -> SplitResult {
    let solved: Vec<u64> = solved.into_iter().collect();
    let share = |count: usize| Proportion::new(count as u64, num_hands).unwrap();
    let outcome = |hand: u64| if solved.contains(&hand) { "correct" } else { "wrong_total" };
    let transcript = |hand: u64| Transcript {
        task: hand,
        messages: Vec::new(),
        outcomes: vec![outcome(hand).to_owned()],
        reward: 0.0,
    };
    SplitResult {
        split: split.to_owned(),
        decoding: "greedy".to_owned(),
        first_attempt: share(solved.len()),
        within_attempts: share(solved.len()),
        max_attempts: 1,
        by_kind: BTreeMap::new(),
        process_accuracy: None,
        outcomes: BTreeMap::from([("correct".to_owned(), solved.len() as u64)]),
        reward_mean: 0.5,
        answer_length: AnswerLength { mean_tokens: 8.0, truncated: share(0) },
        model_rewards: None,
        seen_in_training: Some(share(num_hands as usize / 2)),
        first_attempt_unseen: None,
        solved_first: solved.clone(),
        transcripts: (0..4).map(transcript).collect(),
    }
}

/// `before` alone solved the first hands, `after` alone the next ones, both the ones after that; 100 hands.
fn test(only_before: u64, only_after: u64, both: u64) -> PairedTest {
    let shared = only_before + only_after..only_before + only_after + both;
    let before = played("ood", (0..only_before).chain(shared.clone()), 100);
    let after = played("ood", (only_before..only_before + only_after).chain(shared), 100);
    PairedTest::new(("before", &before), ("after", &after)).unwrap()
}

#[test]
fn forgetting_has_all_three_verdicts() {
    let id = test(0, 20, 40);
    let verdict = |is_same, ood: &PairedTest| claims::forgetting(is_same, &test(0, 10, 30), ood, &id);
    let shown = verdict(false, &test(10, 0, 30));
    assert_eq!(shown.verdict, Verdict::Shown);
    assert!(shown.evidence.contains("before 40.0 % [30.9, 49.8], after 30.0 % [21.9, 39.6]"), "{}", shown.evidence);
    assert!(shown.evidence.contains("so SFT first raised it"), "{}", shown.evidence);
    let no_peak = claims::forgetting(false, &test(10, 0, 30), &test(10, 0, 30), &id);
    assert!(no_peak.evidence.contains("has no peak of its own"), "{}", no_peak.evidence);
    // 6 against 4: mid-p is far above the level
    let not_shown = verdict(false, &test(6, 4, 30));
    assert_eq!(not_shown.verdict, Verdict::NotShown);
    assert!(not_shown.evidence.contains("not beyond chance"), "{}", not_shown.evidence);
    let rose = verdict(false, &test(0, 10, 30));
    assert_eq!(rose.verdict, Verdict::NotShown);
    assert!(rose.evidence.contains("rose"), "{}", rose.evidence);
    assert_eq!(verdict(false, &test(3, 0, 30)).verdict, Verdict::NotDecidable);
    let same = verdict(true, &test(0, 0, 30));
    assert_eq!(same.verdict, Verdict::NotShown);
    assert!(same.evidence.contains("is the last one"), "{}", same.evidence);
}

#[test]
fn recovery_needs_a_loss_and_a_gain() {
    let peak = test(10, 5, 30);
    let recovery = |forgotten, change: &PairedTest| claims::recovery(forgotten, change, &peak);
    let shown = recovery(Verdict::Shown, &test(0, 10, 20));
    assert_eq!(shown.verdict, Verdict::Shown);
    // peak 40, end 20, after RL 30
    assert!(shown.evidence.contains("regained 10.0 of the 20.0 points lost"), "{}", shown.evidence);
    assert_eq!(recovery(Verdict::Shown, &test(4, 6, 20)).verdict, Verdict::NotShown);
    assert!(recovery(Verdict::Shown, &test(10, 0, 20)).evidence.contains("lost more"));
    assert_eq!(recovery(Verdict::Shown, &test(0, 4, 20)).verdict, Verdict::NotDecidable);
    assert_eq!(recovery(Verdict::NotShown, &test(0, 10, 20)).verdict, Verdict::NotDecidable);
    assert_eq!(recovery(Verdict::NotDecidable, &test(0, 10, 20)).verdict, Verdict::NotDecidable);
}

#[test]
fn no_difference_from_the_peak_does_not_show_a_ceiling() {
    assert_eq!(claims::ceiling(&test(10, 0, 20)).verdict, Verdict::Shown);
    assert_eq!(claims::ceiling(&test(5, 5, 20)).verdict, Verdict::NotShown);
    let above = claims::ceiling(&test(0, 10, 20));
    assert_eq!(above.verdict, Verdict::NotShown);
    assert!(above.evidence.contains("does exceed"), "{}", above.evidence);
    assert_eq!(claims::ceiling(&test(1, 1, 20)).verdict, Verdict::NotDecidable);
    assert_eq!(claims::early_start(&test(10, 0, 20)).verdict, Verdict::Shown);
    assert_eq!(claims::early_start(&test(0, 10, 20)).verdict, Verdict::NotShown);
    assert_eq!(claims::early_start(&test(0, 0, 20)).verdict, Verdict::NotDecidable);
}

#[test]
fn loss_misses_the_peak_only_after_correction() {
    let minimum = |step, test| LossMinimum { split: "ood".into(), step, loss: 0.5, test };
    let verdict = |num, minima: &[LossMinimum]| claims::loss_misses_peak(50, num, minima).verdict;
    // mid-p 2^-10, times 10 is still below 0.05
    assert_eq!(verdict(11, &[minimum(20, test(10, 0, 20))]), Verdict::Shown);
    // 2^-10 times 60 is 0.059
    assert_eq!(verdict(61, &[minimum(20, test(10, 0, 20))]), Verdict::NotShown);
    // one loss of two finds it
    assert_eq!(verdict(11, &[minimum(20, test(10, 0, 20)), minimum(50, test(0, 0, 20))]), Verdict::NotShown);
    assert_eq!(verdict(11, &[minimum(20, test(3, 0, 20))]), Verdict::NotDecidable);
    assert_eq!(verdict(11, &[]), Verdict::NotDecidable);
    assert_eq!(claims::window(&[("a", Some(-1.5)), ("b", None)]).verdict, Verdict::NotDecidable);
}

fn weights(drift: f64, above_rounding: f64, unrelated: f64) -> WeightNumbers {
    let pair = PairNumbers {
        matrices: 4,
        sigma_drift: drift,
        relative_update: 0.1,
        angle: 10.0,
        rounding_angle: Some(0.001),
        independent_angle: Some(50.0),
        share_above_rounding: Some(above_rounding),
        share_unrelated: Some(unrelated),
    };
    let updates = UpdateNumbers { sides: 0, angle: None, share_below_shared_term: None, share_above_shared_term: None };
    WeightNumbers {
        sft: pair.clone(),
        rl: pair.clone(),
        both: pair,
        updates,
        weight_sha256: BTreeMap::new(),
        fresh_init_flagged: BTreeMap::new(),
        looks_fresh: false,
    }
}

#[test]
fn weights_have_all_three_verdicts() {
    assert_eq!(stable_values(&weights(0.003, 1.0, 0.0)).verdict, Verdict::Shown);
    assert_eq!(stable_values(&weights(0.02, 1.0, 0.0)).verdict, Verdict::NotShown);
    assert_eq!(rotating_vectors(&weights(0.003, 1.0, 0.0)).verdict, Verdict::Shown);
    // nothing but rounding, and nothing but unrelated matrices
    assert_eq!(rotating_vectors(&weights(0.003, 0.0, 0.0)).verdict, Verdict::NotShown);
    assert_eq!(rotating_vectors(&weights(0.003, 1.0, 1.0)).verdict, Verdict::NotShown);

    let mut fresh = weights(0.003, 1.0, 0.0);
    fresh.looks_fresh = true;
    let mut still = weights(0.003, 1.0, 0.0);
    still.sft.relative_update = 0.0;
    for numbers in [fresh, still] {
        assert_eq!(stable_values(&numbers).verdict, Verdict::NotDecidable);
        assert_eq!(rotating_vectors(&numbers).verdict, Verdict::NotDecidable);
    }
    let mut without_null = weights(0.003, 1.0, 0.0);
    without_null.rl.share_above_rounding = None;
    assert_eq!(rotating_vectors(&without_null).verdict, Verdict::NotDecidable);
}

#[test]
fn the_paragraph_sorts_claims_by_verdict() {
    let id = test(0, 20, 40);
    let claims = [claims::forgetting(false, &id, &test(10, 0, 30), &id), claims::ceiling(&test(5, 5, 20))];
    let text = claims::paragraph(&claims);
    assert!(text.starts_with("Shown in this run: SFT on one rule"), "{text}");
    assert!(
        text.contains("Not shown: RL does not exceed the OOD peak of SFT (C2b). Not decidable at this size: none."),
        "{text}"
    );
}

#[test]
fn moments_are_those_worked_by_hand() {
    let shape = AdvantageNumbers::new(&[1.0, 2.0, 3.0, 6.0]).unwrap();
    // mean 3, second to fourth central moments 3.5, 4.5, 24.5
    assert_eq!((shape.count, shape.mean, shape.share_positive), (4, 3.0, 1.0));
    assert!((shape.std - 3.5_f64.sqrt()).abs() < TOLERANCE);
    assert!((shape.skewness.unwrap() - 4.5 / 3.5_f64.powf(1.5)).abs() < TOLERANCE);
    assert!((shape.excess_kurtosis.unwrap() + 1.0).abs() < TOLERANCE);
    let flat = AdvantageNumbers::new(&[2.0, 2.0]).unwrap();
    assert_eq!((flat.std, flat.skewness, flat.excess_kurtosis), (0.0, None, None));
}

const EVALUATION: &str = r#"
device = "cpu"
num_tasks = 100
transcripts = 4
select = { split = "ood", decoding = "greedy" }
splits = [
    { name = "id", environment = { name = "general_points", num_cards = 3, target = 24, template = "compact" } },
    { name = "ood", environment = { name = "general_points", num_cards = 3, target = 24, template = "compact", treat_face_cards_as_10 = false, ood = true } },
]
decodings = [{ name = "greedy", sampling = { max_new_tokens = 8, temperature = 0.0, num_slots = 4 } }]
models = { any = "any" }
"#;

/// Writes the records of an experiment in which success out of distribution falls from 40 to 20 hands and comes back to
/// 30.
fn write_records(root: &Path, seconds: f64) -> ReportConfig {
    write_records_of(root, seconds, EVALUATION)
}

/// [`write_records`] with other settings of the evaluations.
fn write_records_of(root: &Path, seconds: f64, settings: &str) -> ReportConfig {
    let folder = |name: &str| root.join(name);
    let evaluation = |name: &str, step: Option<u64>, id: u64, ood: u64| Evaluation {
        name: name.to_owned(),
        step,
        path: folder(name),
        results: vec![played("id", 0..id, 100), played("ood", 0..ood, 100)],
    };
    let summaries = [
        (
            "evaluate-sft",
            4,
            Summary {
                num_tasks: 100,
                evaluations: vec![
                    evaluation("step-000010", Some(10), 30, 40),
                    evaluation("step-000020", Some(20), 60, 20),
                    evaluation("pretrained", None, 5, 5),
                ],
                best: "step-000010".into(),
                last: "step-000020".into(),
            },
        ),
        (
            "evaluate-final",
            6,
            Summary {
                num_tasks: 100,
                evaluations: vec![
                    evaluation("pretrained", None, 5, 5),
                    evaluation("sft_best", None, 30, 40),
                    evaluation("sft_last", None, 60, 20),
                    evaluation("rl_from_best", None, 40, 35),
                    evaluation("rl_from_last", None, 65, 30),
                ],
                best: "sft_best".into(),
                last: "sft_last".into(),
            },
        ),
    ];
    for (name, seed, summary) in &summaries {
        let text = format!("run = {:?}\nseed = {seed}\n{settings}", folder(name).display().to_string());
        let config: EvaluationConfig = parse(&text, "evaluation", &[]).unwrap();
        Run::open(&folder(name), &config, Manifest::new().seed("seed", *seed)).unwrap();
        std::fs::write(folder(name).join("evaluation.json"), serde_json::to_vec(summary).unwrap()).unwrap();
    }
    for name in ["sft", "rl-from-best", "rl-from-last"] {
        let settings: BTreeMap<&str, u64> = BTreeMap::new();
        let run = Run::open(&folder(name), &settings, Manifest::new().seed("seed", 2).input("data", "ab")).unwrap();
        write_metrics(&run, name, seconds);
        std::fs::create_dir_all(folder(name).join("advantages")).unwrap();
        let record = r#"{"step":1,"advantages":[-1.0,0.5,0.5,2.0],"rewards":[-1.0,5.0,5.0,5.0]}"#;
        std::fs::write(folder(name).join("advantages/step-000001.json"), record).unwrap();
    }
    write_comparison(&folder("comparison.json"));
    ReportConfig {
        run: folder("report"),
        title: "A <small> experiment".into(),
        scaled_down: vec!["All of it is made up.".into()],
        sft: folder("sft"),
        sft_evaluation: folder("evaluate-sft"),
        final_evaluation: folder("evaluate-final"),
        rl: RlRuns { from_best: folder("rl-from-best"), from_last: folder("rl-from-last") },
        comparison: folder("comparison.json"),
        stages: Stages {
            pretrained: "pretrained".into(),
            best: "sft_best".into(),
            last: "sft_last".into(),
            rl_from_best: "rl_from_best".into(),
            rl_from_last: "rl_from_last".into(),
        },
        splits: Splits { id: "id".into(), ood: "ood".into() },
        decoding: "greedy".into(),
    }
}

fn write_metrics(run: &Run, name: &str, seconds: f64) {
    let mut writer: MetricsWriter = run.metrics().unwrap();
    for step in 1..=20 {
        let value = step as f64;
        let row = MetricsRow::new(step, "train").with_timing("seconds", seconds);
        let row = match name {
            "sft" => row.with("loss", 1.0 / value),
            _ => row.with("reward_mean", value).with("first_attempt_success_rate", value / 40.0),
        };
        writer.write(&row).unwrap();
        if name == "sft" && step % 10 == 0 {
            // the loss in distribution goes on falling, the other one rises: it finds the peak
            writer.write(&MetricsRow::new(step, "id").with("loss", 2.0 - value / 20.0)).unwrap();
            writer.write(&MetricsRow::new(step, "ood").with("loss", 1.0 + value / 20.0)).unwrap();
        }
    }
}

fn write_comparison(path: &Path) {
    let matrix = |scale: f64, turn: f64| {
        let values: Vec<f64> = (0..24 * 16).map(|i| (scale * i as f64 + turn * (i % 7) as f64).sin()).collect();
        let weight = Tensor::from_slice(&values).view([24, 16]).to_kind(Kind::Float);
        BTreeMap::from([("model.layers.0.self_attn.q_proj.weight".to_owned(), weight)])
    };
    let mut config = AnalysisConfig { suffixes: vec!["q_proj.weight".into()], ..AnalysisConfig::default() };
    config.fresh_init.max_share = 1.0;
    let checkpoints = [matrix(0.37, 0.0), matrix(0.37, 0.05), matrix(0.37, 0.08)];
    let comparison = compare_checkpoints(&checkpoints[0], &checkpoints[1], &checkpoints[2], &config, &|_| ()).unwrap();
    comparison.write_json(path).unwrap();
}

fn summary(config: &ReportConfig) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(config.run.join("summary.json")).unwrap()).unwrap()
}

#[test]
fn a_report_says_what_the_records_hold() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path(), 1.5);
    let (numbers, path) = write_report(&config).unwrap();
    let verdicts: BTreeMap<&str, Verdict> = numbers.claims.iter().map(|claim| (claim.id, claim.verdict)).collect();
    // hands are nested, so 20 were lost and 10 of them came back
    assert_eq!(verdicts["C1"], Verdict::Shown);
    assert_eq!(verdicts["C2a"], Verdict::Shown);
    assert_eq!(verdicts["C2b"], Verdict::Shown);
    assert_eq!(verdicts["C2c"], Verdict::Shown); // 5 hands, all one way
    assert_eq!(verdicts["C4"], Verdict::NotShown); // the loss out of distribution is least at the peak
    assert_eq!((numbers.sft.best_step, numbers.headline.first_attempt.successes), (10, 60));
    assert_eq!(numbers.sft.checkpoints["ood"].iter().map(|row| row.step).collect::<Vec<_>>(), [0, 10, 20]);
    assert_eq!(numbers.rl["from_last"].last_steps["reward_mean"], 18.0); // mean of 16 to 20

    let html = std::fs::read_to_string(path).unwrap();
    assert!(html.contains("A &lt;small&gt; experiment") && html.contains("All of it is made up."));
    assert!(html.contains("60.0\u{a0}%\u{a0}[50.2,\u{a0}69.1] of 100 new ID hands"), "Wilson's interval of 60 of 100");
    assert!(html.matches("<svg").count() >= 7 + 4, "{}", html.matches("<svg").count());
    for outside in ["<script", "<link", "src=", "url("] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn a_report_on_walks_speaks_of_points_and_not_of_cards() {
    let cards = "name = \"general_points\", num_cards = 3, target = 24";
    let settings = EVALUATION
        .replace(cards, "name = \"virl\", episode = \"point\"")
        .replace("treat_face_cards_as_10 = false, ood = true", "absolute_action = false");
    let folder = tempfile::tempdir().unwrap();
    let config = write_records_of(folder.path(), 1.5, &settings);
    let (numbers, path) = write_report(&config).unwrap();
    let html = std::fs::read_to_string(path).unwrap();
    assert!(html.contains("of 100 new ID points") && html.contains("V-IRL"));
    for word in ["face cards", "formula", "new hands", "unseen values", "values seen", "format errors"] {
        assert!(!html.contains(word), "{word}");
    }
    assert!(numbers.stages.iter().all(|stage| stage.format_errors.is_none()));
    assert_eq!(numbers.provenance.template_sha256.len(), 64);
}

#[test]
fn only_timing_depends_on_the_clock() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path(), 1.5);
    write_report(&config).unwrap();
    let bytes = std::fs::read(config.run.join("summary.json")).unwrap();
    let first = summary(&config);
    write_report(&config).unwrap();
    assert_eq!(std::fs::read(config.run.join("summary.json")).unwrap(), bytes);

    let other_folder = tempfile::tempdir().unwrap();
    let other_config = write_records(other_folder.path(), 2.5);
    write_report(&other_config).unwrap();
    let mut other = summary(&other_config);
    assert_ne!(other, first);
    assert_eq!(other["timing"]["sft"], 50.0);
    other["timing"] = first["timing"].clone();
    assert_eq!(other, first);
}

#[test]
fn missing_records_and_names_are_errors_that_name_them() {
    let folder = tempfile::tempdir().unwrap();
    let config = write_records(folder.path(), 1.0);
    let error = |config: &ReportConfig| format!("{:#}", write_report(config).unwrap_err());
    let absent = ReportConfig { comparison: folder.path().join("absent.json"), ..config.clone() };
    assert!(error(&absent).contains("absent.json"));
    let mut misnamed = config.clone();
    misnamed.stages.last = "sft_lst".into();
    assert!(error(&misnamed).contains("\"sft_lst\"") && error(&misnamed).contains("sft_last"));
    let undecoded = ReportConfig { decoding: "beam".into(), ..config.clone() };
    assert!(error(&undecoded).contains("id/beam") && error(&undecoded).contains("id/greedy"));
    let blank = ReportConfig { scaled_down: vec![" ".into()], ..config.clone() };
    assert!(error(&blank).contains("scaled_down.0"));
    assert!(!config.run.join("summary.json").exists() && !config.run.join("report.html").exists());
}

#[test]
fn a_run_stands_for_its_last_checkpoint() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    for step in ["step-000010", "step-000030"] {
        let checkpoint = run.join("checkpoints").join(step);
        std::fs::create_dir_all(&checkpoint).unwrap();
        std::fs::write(checkpoint.join("config.json"), "{}").unwrap();
    }
    let last = run.join("checkpoints/step-000030");
    assert_eq!(checkpoint_of(&run).unwrap(), last);
    assert_eq!(checkpoint_of(&last).unwrap(), last);
    assert!(checkpoint_of(&folder.path().join("none")).unwrap_err().to_string().contains("there is no folder"));
    assert!(checkpoint_of(folder.path()).unwrap_err().to_string().contains("neither a checkpoint"));
}

#[test]
fn configurations_in_the_repository_are_valid() {
    let configs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs");
    for name in ["tiny.toml", "smollm2.toml"] {
        let file = configs.join("report").join(name);
        let crate::report::ReportConfig::RlHeals(report) = rl_track::config::load(&file, &[]).unwrap() else {
            panic!("{} is another report", file.display());
        };
        report.validate().unwrap();
        let angles: AnglesConfig = rl_track::config::load(&configs.join("angles").join(name), &[]).unwrap();
        angles.analysis.validate().unwrap();
        assert!(report.comparison.starts_with(&angles.run));
    }
}
