//! Files of rows, splits, templates, figures, the environment, and the distributions the published generator is known by.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use rayon::prelude::*;
use rl_envs::igsm::dataset::{ConversationInfo, DatasetRow};
use rl_envs::igsm::figure::dependency_svg;
use rl_envs::igsm::splits::{SplitKind, SplitOperations, SplitSizes, check_disjoint, published};
use rl_envs::igsm::template::{template_bin, template_hash};
use rl_envs::igsm::*;
use rl_envs::wrappers::AttemptLimit;
use rl_envs::{Environment, EnvironmentConfig, Error, Role};

use super::igsm::{problems, solved, tier};

fn config(rows: RowKind, num_problems: u64) -> DatasetConfig {
    DatasetConfig {
        out: "igsm.jsonl".into(),
        seed: 100,
        num_problems,
        first_index: 0,
        rows,
        problems: ProblemConfig::default(),
        trace: TraceConfig::VANILLA,
        augmentation: Augmentation::None,
        content_mask: false,
    }
}

fn lines(dataset: &Dataset) -> Vec<String> {
    dataset.rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect()
}

#[test]
fn rows_have_the_columns_of_the_published_tables() {
    let dataset = config(RowKind::Conversations, 3).build().unwrap();
    let row = serde_json::to_value(&dataset.rows[0]).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&row), ["data_source", "messages", "extra_info", "origin"]);
    assert_eq!(row["data_source"], "igsm");
    let roles: Vec<&str> = (0..3).map(|turn| row["messages"][turn]["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant"]);
    assert_eq!(row["messages"][1]["content"], dataset.problems[0].question());
    assert_eq!(keys(&row["extra_info"]), ["num_ops", "final_answer", "answer_with_mask"]);
    assert!(row["extra_info"]["answer_with_mask"].is_null());
    assert_eq!(row["extra_info"]["final_answer"], dataset.problems[0].final_answer());
    assert_eq!(row["origin"]["problem_id"], "igsm-100-0");

    let prompts = DatasetConfig { trace: TraceConfig::PLAIN, ..config(RowKind::Prompts, 3) };
    let row = serde_json::to_value(&prompts.rows().unwrap()[1]).unwrap();
    assert_eq!(keys(&row), ["data_source", "prompt", "ability", "reward_model", "extra_info", "origin"]);
    assert_eq!((row["ability"].as_str(), row["reward_model"]["style"].as_str()), (Some("math"), Some("rule")));
    assert!(row["reward_model"]["ground_truth"].is_i64());
    assert_eq!(row["prompt"].as_array().unwrap().len(), 2);
    assert_eq!(keys(&row["extra_info"]), ["num_ops", "answer"]);

    let raw = config(RowKind::Raw, 3);
    let row = serde_json::to_value(&raw.rows().unwrap()[2]).unwrap();
    assert_eq!(keys(&row), ["query", "response", "num_ops", "final_answer", "origin"]);
    let masked = DatasetConfig { content_mask: true, ..raw };
    let row = serde_json::to_value(&masked.rows().unwrap()[2]).unwrap();
    assert!(row["response_with_mask"].as_str().unwrap().contains("<<"));
}

/// P23: rows of one problem have the same conditions in other orders, and the same solution.
#[test]
fn premise_permutations_change_the_order_of_conditions_alone() {
    let augmentation = Augmentation::PremisePermutation { rows: 4 };
    let dataset = DatasetConfig { augmentation, ..config(RowKind::Raw, 40) }.build().unwrap();
    assert_eq!(dataset.rows.len(), 160);
    for rows in dataset.rows.chunks(4) {
        let mut orders = HashSet::new();
        let mut seen = BTreeSet::new();
        for (place, row) in rows.iter().enumerate() {
            let DatasetRow::Raw { query, response, final_answer, origin, .. } = row else { panic!() };
            let mut conditions: Vec<&str> = query.lines().collect();
            let question = conditions.pop();
            orders.insert(conditions.clone());
            conditions.sort_unstable();
            seen.insert((conditions, question, response, final_answer));
            assert_eq!(origin.row, place as u64);
        }
        assert_eq!(seen.len(), 1);
        assert!(1 < orders.len());
    }
}

/// P24: the same problem, solutions in other orders with other letters.
#[test]
fn reasoning_orders_change_the_solution_alone() {
    let augmentation = Augmentation::ReasoningOrder { rows: 4 };
    let dataset = DatasetConfig { augmentation, ..config(RowKind::Raw, 40) }.build().unwrap();
    for (rows, problem) in dataset.rows.chunks(4).zip(&dataset.problems) {
        let (_, solution) = solved(problem);
        let mut responses = HashSet::new();
        for row in rows {
            let DatasetRow::Raw { query, response, .. } = row else { panic!() };
            assert_eq!(query, &problem.question());
            assert!(StepVerifier::new(&solution, problem.vocabulary()).verify(response).process_correct());
            responses.insert(response);
        }
        assert_eq!(responses.len(), 4);
    }
    // The first row is the row of the file without augmentation.
    let plain = config(RowKind::Raw, 40).rows().unwrap();
    for (row, plain) in dataset.rows.iter().step_by(4).zip(&plain) {
        assert_eq!(row, plain);
    }
}

/// All ways to fine-tune share their problems, and an item is the same from its seed and index alone.
#[test]
fn files_are_rebuilt_byte_by_byte_with_any_number_of_threads() {
    let injected = DatasetConfig { trace: TraceConfig::BRIDGE, ..config(RowKind::Conversations, tier(300, 2_000)) };
    let dataset = injected.build().unwrap();
    let expected = lines(&dataset);
    for threads in [1, 2, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let again = pool.install(|| injected.build().unwrap());
        assert_eq!(lines(&again), expected);
        assert_eq!(again.manifest, dataset.manifest);
    }
    let vanilla = config(RowKind::Conversations, injected.num_problems).build().unwrap();
    for (a, b) in vanilla.problems.iter().zip(&dataset.problems) {
        assert_eq!(a.question(), b.question());
    }
    // Any row from its origin, in any order.
    let generator = Generator::new(&injected.problems).unwrap();
    for (row, _) in dataset.rows.iter().rev().zip(0..100) {
        let DatasetRow::Conversation { messages, extra_info, origin, .. } = row else { panic!() };
        let problem = generator.problem(origin.seed, origin.index).unwrap();
        assert_eq!(messages[1].content, problem.question());
        assert_eq!(messages[2].content, problem.response(&TraceConfig::BRIDGE, origin.row));
        let info = ConversationInfo {
            num_ops: problem.num_operations(),
            final_answer: problem.final_answer(),
            answer_with_mask: None,
        };
        assert_eq!((extra_info, &origin.template_hash), (&info, &template_hash(&problem)));
    }
    let text = serde_json::to_string(&dataset.manifest).unwrap();
    assert!(text.contains("rows_sha256") && dataset.manifest.num_rows == injected.num_problems);
}

/// Problems of one operation repeat; a file has each text once, or says that there are not so many.
#[test]
fn texts_that_come_twice_are_left_out() {
    let small = |num_problems| DatasetConfig {
        problems: ProblemConfig { rng_range: 2, vocabulary: VocabularyKind::Debug, ..ProblemConfig::exactly(1) },
        ..config(RowKind::Raw, num_problems)
    };
    let problems = ProblemConfig { redundant_query: false, ..small(1).problems };
    let dataset = DatasetConfig { problems: problems.clone(), ..small(300) }.build().unwrap();
    let texts: HashSet<String> = dataset.problems.iter().map(Problem::question).collect();
    assert_eq!(texts.len(), 300);
    assert!(0 < dataset.manifest.num_duplicates);
    assert_eq!(dataset.manifest.end_index, 300 + dataset.manifest.num_duplicates);
    // Three pairs of layers of ten names each and two constants: 600 texts at most.
    let error = DatasetConfig { problems, ..small(601) }.build().unwrap_err();
    assert!(matches!(error, Error::TooFewProblems { wanted: 601, found: 1..=600 }), "{error}");
}

#[test]
fn the_eight_files_have_their_names_sizes_and_no_common_problem() {
    let base = ProblemConfig::default();
    let full = published(Path::new("data"), &base, &SplitOperations::PUBLISHED, &SplitSizes::PUBLISHED, false);
    let stems: Vec<&str> = full.iter().map(|split| split.stem.as_str()).collect();
    let expected = [
        "SFT_2K_CoT_op_15-20_no_detailed_reflect_0.0_analysis_0",
        "SFT_2K_CoT_op_15-20_detailed_reflect_0.1_analysis_2",
        "SFT_2K_4Aaug_CoT_op_15-20_no_detailed_reflect_0.0_analysis_0",
        "SFT_2K_4Qaug_CoT_op_15-20_no_detailed_reflect_0.0_analysis_0",
        "RL_train_10K_no_CoT_op_15-20",
        "RL_val_500_no_CoT_op_21-25",
        "test_500_no_CoT_op_20",
        "test_500_no_CoT_op_25",
    ];
    assert_eq!(stems, expected);
    assert_eq!(full[4].config.out, Path::new("data/RL_train_10K_no_CoT_op_15-20.jsonl"));
    let rows: Vec<u64> =
        full.iter().map(|split| split.config.num_problems * split.config.augmentation.rows()).collect();
    assert_eq!(rows, [2000, 2000, 8000, 8000, 10_000, 500, 500, 500]);

    let sizes = SplitSizes {
        sft: tier(60, 2_000),
        rl_train: tier(100, 10_000),
        rl_validation: tier(20, 500),
        test: tier(20, 500),
    };
    for by_template in [false, true] {
        let splits = published(Path::new("data"), &base, &SplitOperations::PUBLISHED, &sizes, by_template);
        let built: Vec<Dataset> = splits.iter().map(|split| split.config.build().unwrap()).collect();
        for (split, dataset) in splits.iter().zip(&built) {
            assert_eq!(dataset.rows.len() as u64, split.config.num_problems * split.config.augmentation.rows());
        }
        // The four ways to fine-tune share their problems; apart from that no two files do.
        assert!(
            built[1..4].iter().all(|other| {
                other.problems.iter().zip(&built[0].problems).all(|(a, b)| a.question() == b.question())
            })
        );
        let named: Vec<(&str, &Dataset)> =
            splits.iter().zip(&built).map(|(split, dataset)| (split.stem.as_str(), dataset)).collect();
        let apart = [&named[..1], &named[4..]].concat();
        check_disjoint(&apart).unwrap();
        let shared = check_disjoint(&named[..2]).unwrap_err();
        assert!(matches!(shared, Error::SharedProblem { .. }), "{shared}");
        if by_template {
            let mut templates: BTreeMap<String, bool> = BTreeMap::new();
            for (split, dataset) in splits.iter().zip(&built) {
                let test = matches!(split.kind, SplitKind::Test | SplitKind::RlValidation);
                for problem in &dataset.problems {
                    assert_eq!(16 <= template_bin(problem, 23), test);
                    let before = templates.insert(template_hash(problem), test);
                    assert!(before.is_none_or(|before| before == test), "a template is in training and test");
                }
            }
        }
    }
}

/// The template is what is left without names, numbers and order.
#[test]
fn templates_ignore_names_numbers_and_order() {
    let small = |rng_range, vocabulary| ProblemConfig { rng_range, vocabulary, ..ProblemConfig::exactly(6) };
    let mut by_template: BTreeMap<String, Vec<Problem>> = BTreeMap::new();
    let found = problems(&small(10, VocabularyKind::Standard), 71, 3_000);
    for problem in found {
        by_template.entry(template_hash(&problem)).or_default().push(problem);
    }
    assert!(by_template.len() > 100, "{}", by_template.len());
    // Within a template the shape of the solution is one: in-degrees and kinds, whatever their order.
    let shape = |problem: &Problem| {
        let mut kinds: Vec<(bool, usize, usize)> = problem
            .necessary()
            .iter()
            .map(|&p| (p.is_instance(), problem.in_degree(p), problem.parents(p).len()))
            .collect();
        kinds.sort_unstable();
        kinds
    };
    let mut pairs = 0;
    for group in by_template.values() {
        pairs += group.len() - 1;
        assert!(group.iter().all(|problem| shape(problem) == shape(&group[0])));
    }
    assert!(pairs > 100, "{pairs}");
    // Other orders of the conditions are the same exercise.
    let problem = Generator::new(&ProblemConfig::default()).unwrap().problem(1, 1).unwrap();
    assert_eq!(template_hash(&problem.reordered(2)), template_hash(&problem));
    assert_eq!(template_hash(&problem).len(), 64);
}

#[test]
fn bins_are_equally_likely() {
    let mut bins = [0_u64; 23];
    for problem in problems(&ProblemConfig::default(), 72, tier(2_300, 23_000)) {
        bins[template_bin(&problem, 23) as usize] += 1;
    }
    let expected = tier(2_300, 23_000) as f64 / 23.0;
    let statistic: f64 = bins.iter().map(|&count| (count as f64 - expected).powi(2) / expected).sum();
    // The 0.9999 quantile of chi-square with 22 degrees of freedom.
    assert!(statistic < 55.0, "{statistic}: {bins:?}");
}

#[test]
fn settings_that_would_be_ignored_are_refused() {
    let base = || config(RowKind::Prompts, 5);
    for (config, key) in [
        (DatasetConfig { num_problems: 0, ..base() }, "num_problems = 0"),
        (DatasetConfig { augmentation: Augmentation::ReasoningOrder { rows: 4 }, ..base() }, "augmentation = set"),
        (DatasetConfig { content_mask: true, ..base() }, "content_mask = true"),
        (
            DatasetConfig { augmentation: Augmentation::ReasoningOrder { rows: 0 }, ..config(RowKind::Raw, 5) },
            "augmentation.rows = 0",
        ),
        (
            DatasetConfig { trace: TraceConfig { reflection_prob: 2.0, ..TraceConfig::BRIDGE }, ..base() },
            "trace.reflection_prob = 2",
        ),
    ] {
        let error = config.build().unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
}

/// A config file says what the published collection says in code.
#[test]
fn a_file_of_the_collection_can_be_written_as_a_config() {
    let table = serde_json::json!({
        "task": "igsm",
        "out": "data/SFT_2K_CoT_op_15-20_detailed_reflect_0.1_analysis_2.jsonl",
        "seed": 100,
        "num_problems": 2000,
        "rows": "conversations",
        "problems": { "min_operations": 15, "max_operations": 20 },
        "trace": {
            "style": "cot", "reflection_prob": 0.1, "analysis": { "kind": "level", "level": 2 }, "detailed": true,
        },
    });
    let config: rl_envs::DatasetConfig = serde_json::from_value(table.clone()).unwrap();
    config.validate().unwrap();
    let base = ProblemConfig::default();
    let published = published(Path::new("data"), &base, &SplitOperations::PUBLISHED, &SplitSizes::PUBLISHED, false);
    assert_eq!(config, rl_envs::DatasetConfig::Igsm(published[1].config.clone()));
    let mut typo = table;
    typo["trace"]["detail"] = true.into();
    assert!(serde_json::from_value::<rl_envs::DatasetConfig>(typo).is_err());
}

/// Section 12 of the specification: (published, two-sided tolerance). Published numbers are of 500 to 1,500 problems, so
/// shares carry up to 4 * sqrt(0.25 / 1000) = 0.063 of noise, and means about 4 * 3 / sqrt(1000) = 0.4.
#[test]
fn problems_are_distributed_as_published() {
    struct Row {
        config: ProblemConfig,
        necessary: f64,
        totals: f64,
        redundant: f64,
        conditions: f64,
        abstract_query: f64,
        rejected: f64,
        zero: f64,
        negative: f64,
        large: f64,
    }
    let row = |config, counts: [f64; 4], shares: [f64; 5]| Row {
        config,
        necessary: counts[0],
        totals: counts[1],
        redundant: counts[2],
        conditions: counts[3],
        abstract_query: shares[0],
        rejected: shares[1],
        zero: shares[2],
        negative: shares[3],
        large: shares[4],
    };
    for row in [
        row(ProblemConfig::range(15, 20), [12.0, 3.4, 2.6, 11.0], [0.53, 0.51, 0.17, 0.34, 0.06]),
        row(ProblemConfig::exactly(20), [14.5, 4.5, 2.0, 11.8], [0.57, 0.64, 0.28, 0.38, 0.13]),
        row(ProblemConfig::exactly(25), [16.9, 5.5, 1.2, 12.5], [0.57, 0.78, 0.31, 0.41, 0.22]),
        row(ProblemConfig::exactly(10), [8.2, 2.2, 4.7, 10.0], [0.50, 0.20, 0.13, 0.18, 0.01]),
        row(ProblemConfig::exactly(5), [4.6, 1.1, 6.6, 9.2], [0.46, 0.01, 0.08, 0.08, 0.0]),
    ] {
        let generator = Generator::new(&row.config).unwrap();
        let count = tier(1_000, 10_000);
        let drawn: Vec<(Problem, DrawCounts)> = (0..count)
            .into_par_iter()
            .map(|index| {
                let mut counts = DrawCounts::default();
                (generator.counted(81, index, &mut counts).unwrap(), counts)
            })
            .collect();
        let mut counts = DrawCounts::default();
        drawn.iter().for_each(|(_, other)| counts.merge(other));
        let found = Statistics::new(drawn.iter().map(|(problem, _)| problem));
        let finished = (counts.accepted + counts.large_answer) as f64;
        let name = format!("op {}..{}", row.config.min_operations, row.config.max_operations);
        println!("{name}: {found:?} {counts:?}");
        for (what, measured, published, tolerance) in [
            ("necessary", found.necessary.mean, row.necessary, 0.5),
            ("abstract", found.necessary_abstract.mean, row.totals, 0.4),
            ("redundant", found.redundant.mean, row.redundant, 0.5),
            ("conditions", found.conditions.mean, row.conditions, 0.6),
            ("abstract query", found.abstract_query_share, row.abstract_query, 0.07),
            ("rejected", counts.large_answer as f64 / finished, row.rejected, 0.05),
            ("zero answers", found.zero_answer_share, row.zero, 0.06),
            ("negative values", found.negative_value_share, row.negative, 0.07),
            ("large values", found.large_value_share, row.large, 0.045),
        ] {
            assert!((measured - published).abs() <= tolerance, "{name}, {what}: {measured}, published {published}");
        }
        if !row.config.force {
            // Layers, accepted operations and given-up graphs, published to the percent.
            let share = |count: Option<&u64>| *count.unwrap_or(&0) as f64 / found.num_problems as f64;
            for (layers, published) in [(2, 0.32), (3, 0.37), (4, 0.31)] {
                assert!((share(found.layers.get(&layers)) - published).abs() < 0.07, "{:?}", found.layers);
            }
            for (operations, published) in (15..).zip([0.35, 0.27, 0.18, 0.12, 0.07, 0.02]) {
                let measured = share(found.operations.get(&operations));
                assert!((measured - published).abs() < 0.06, "{:?}", found.operations);
            }
            let given_up = counts.graphs_given_up() as f64 / counts.total() as f64;
            assert!((given_up - 0.19).abs() < 0.03, "{given_up}");
        }
        if row.config.force && row.config.max_operations == 25 {
            let given_up = counts.graphs_given_up() as f64 / counts.total() as f64;
            assert!((given_up - 0.29).abs() < 0.03, "{given_up}");
        }
    }
}

/// Zero rejection keeps 0.4 of the zeros: of a share z, 0.4 z / (1 - 0.6 z) are left.
#[test]
fn zero_rejection_thins_out_zeros() {
    let share = |zero_reject_prob| {
        let config = ProblemConfig { zero_reject_prob, ..ProblemConfig::exactly(25) };
        Statistics::new(&problems(&config, 82, tier(800, 8_000))).zero_answer_share
    };
    let (all, thinned) = (share(0.0), share(0.6));
    let expected = 0.4 * all / (1.0 - 0.6 * all);
    assert!((thinned - expected).abs() < 0.06, "{all} -> {thinned}, expected {expected}");
    assert!((thinned - 0.15).abs() < 0.05, "{thinned}");
}

#[test]
fn figures_show_every_quantity_and_every_dependency() {
    for problem in problems(&ProblemConfig::default(), 91, 20) {
        let svg = dependency_svg(&problem);
        assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
        let boxes = problem.parameters().len();
        let arrows: usize = problem.parameters().iter().map(|&parameter| problem.parents(parameter).len()).sum();
        // One more rectangle is the background.
        assert_eq!((svg.matches("<rect ").count(), svg.matches("<line ").count()), (boxes + 1, arrows));
        assert_eq!((svg.matches("<text ").count(), svg.matches("</text>").count()), (3 * boxes, 3 * boxes));
        assert_eq!(svg.matches("stroke-width=\"3\"").count(), 1);
        // Every arrow points down.
        for line in svg.lines().filter(|line| line.starts_with("<line ")) {
            let y = |name: &str| -> usize {
                let (_, rest) = line.split_once(&format!("{name}=\"")).unwrap();
                rest.split('"').next().unwrap().parse().unwrap()
            };
            assert!(y("y1") < y("y2"), "{line}");
        }
    }
}

#[test]
fn the_environment_asks_once_and_pays_by_its_table() {
    let config = IgsmConfig {
        problems: ProblemConfig::default(),
        extraction: Extraction::Robust,
        reward: RewardTable { correct: 1.0, wrong_answer: -0.25, no_answer: -0.5, format: 0.05 },
    };
    let mut env = Igsm::new(&config).unwrap();
    assert_eq!(env.step("x"), Err(Error::NotReset { environment: "igsm" }));
    assert!(env.info().is_null() && env.task_kind().is_none());
    let observation = env.reset(3, 4).unwrap();
    let problem = env.problem().unwrap().clone();
    assert_eq!(problem.question(), Generator::new(&config.problems).unwrap().problem(3, 4).unwrap().question());
    assert_eq!(observation.messages[0].role, Role::System);
    for tag in ["<think></think>", "<answer></answer>", "\\boxed{"] {
        assert!(observation.messages[0].content.contains(tag), "{tag}");
    }
    assert_eq!(observation.messages[1].content, problem.question());
    let right = problem.response(&TraceConfig::VANILLA, 0);
    let answer = problem.final_answer();
    let wrong = format!("<answer>\\boxed{{{}}}</answer>", answer + 1);
    for (response, outcome, reward, success) in [
        (right.clone(), "correct", 1.05, true),
        (right.strip_prefix("<think>").unwrap().to_string(), "correct", 1.05, true),
        (format!("<answer>\\boxed{{{answer}}}</answer>"), "correct", 1.0, true),
        (wrong.clone(), "wrong_answer", -0.25, false),
        (format!("a</think>{wrong}"), "wrong_answer", -0.2, false),
        ("<answer>\\boxed{ten}</answer>".to_string(), "wrong_answer", -0.25, false),
        (String::new(), "no_answer", -0.5, false),
        (format!("the answer is {answer}"), "no_answer", -0.5, false),
    ] {
        env.reset(3, 4).unwrap();
        assert!(env.info()["outcome"].is_null());
        let step = env.step(&response).unwrap();
        assert_eq!((step.outcome, step.success, step.terminated, step.truncated), (outcome, success, true, false));
        assert!((step.reward - reward).abs() < 1e-12, "{response}: {}", step.reward);
        assert_eq!(env.info()["outcome"], outcome);
        assert_eq!(env.step("again"), Err(Error::EpisodeEnded { environment: "igsm" }));
    }
    assert!(env.verify_steps(&right).unwrap().process_correct());
    assert!(!env.verify_steps(&wrong).unwrap().process_correct());
    let limited = AttemptLimit::new(env.clone(), 1).unwrap();
    let boxed: Box<dyn Environment> = Box::new(limited);
    assert_eq!((boxed.process_correct(&right), boxed.process_correct(&wrong)), (Some(true), Some(false)));
    let kind = if answer == 0 { "zero_answer" } else { "nonzero_answer" };
    assert_eq!(env.task_kind(), Some(kind));

    let table = serde_json::json!({
        "name": "igsm",
        "problems": { "min_operations": 2, "max_operations": 4 },
        "extraction": "strict",
        "reward": { "correct": 1.0, "wrong_answer": 0.0, "no_answer": 0.0, "format": 0.0 },
    });
    let config: EnvironmentConfig = serde_json::from_value(table).unwrap();
    config.validate().unwrap();
    assert_eq!((config.max_attempts(), config.build().unwrap().name()), (1, "igsm"));
    let mut bad = serde_json::to_value(&config).unwrap();
    bad["reward"]["correct"] = serde_json::Value::Null;
    assert!(serde_json::from_value::<EnvironmentConfig>(bad).is_err());
}

/// The settings of the smallest experiment, in which every right solution must count as one.
#[test]
fn small_problems_with_invented_names_are_judged_step_by_step() {
    let table = serde_json::json!({
        "name": "igsm",
        "problems": { "min_operations": 3, "max_operations": 5, "max_instance_params": 12, "vocabulary": "debug", "modulus": 5,
            "rng_range": 5, "redundant_query": false },
        "extraction": "strict",
        "reward": { "correct": 1.0, "wrong_answer": 0.0, "no_answer": 0.0, "format": 0.0 },
    });
    let config: EnvironmentConfig = serde_json::from_value(table).unwrap();
    let mut environment = config.build().unwrap();
    for index in 0..200 {
        environment.reset(300, index).unwrap();
        let right = environment.expert().unwrap();
        assert_eq!(environment.process_correct(&right), Some(true), "{right}");
        // A digit before the last result makes its equation false; the answer in the box stays right.
        let (head, result) = right.rsplit_once(" = ").unwrap();
        assert_eq!(environment.process_correct(&format!("{head} = 1{result}")), Some(false));
    }
}
