//! Problems: the vocabulary's rules, the properties of the graphs, values by an independent recomputation, the laws of the
//! draws, configs that are refused.

use std::collections::BTreeSet;

use rayon::prelude::*;
use rl_envs::igsm::config::{ConditionOrder, Constants, MissingEdges, ProblemConfig};
use rl_envs::igsm::hyper::size_shares;
use rl_envs::igsm::problem::{Operator, Shape};
use rl_envs::igsm::*;

/// Problems of one seed.
pub(crate) fn problems(config: &ProblemConfig, seed: u64, count: u64) -> Vec<Problem> {
    let generator = Generator::new(config).unwrap();
    (0..count).map(|index| generator.problem(seed, index).unwrap()).collect()
}

/// The same on all cores, each handed to `judge`.
pub(crate) fn for_problems(config: &ProblemConfig, seed: u64, count: u64, judge: impl Fn(Problem) + Sync) {
    let generator = Generator::new(config).unwrap();
    (0..count).into_par_iter().for_each(|index| judge(generator.problem(seed, index).unwrap()));
}

/// How many of something the default tests try, and how many with `REINS_SLOW=1`.
pub(crate) fn tier(default: u64, slow: u64) -> u64 {
    if std::env::var("REINS_SLOW").is_ok_and(|value| value == "1") { slow } else { default }
}

/// The problem as its text tells it, solved.
pub(crate) fn solved(problem: &Problem) -> (ParsedProblem, Solution) {
    let text = problem.question();
    let parsed = ParsedProblem::parse(&text, problem.vocabulary()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    let solution = Solution::new(&parsed, problem.modulus()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    (parsed, solution)
}

#[test]
fn the_vocabulary_has_the_required_shape() {
    let vocabulary = Vocabulary::builtin(VocabularyKind::Standard).unwrap();
    assert_eq!((vocabulary.num_systems(), vocabulary.num_items()), (3, 221));
    // Sub-categories from the smallest things to the largest, and items, of each system.
    let expected = [([4, 4, 4, 5], 85), ([1, 4, 3, 4], 59), ([4, 4, 4, 4], 77)];
    for (system, (subcategories, items)) in expected.into_iter().enumerate() {
        let counts = [0, 1, 2, 3].map(|layer| vocabulary.num_subcategories(system, layer));
        assert_eq!(counts, subcategories, "{}", vocabulary.system_name(system));
        let mut lists = Vec::new();
        for (layer, &count) in counts.iter().enumerate() {
            lists.extend((0..count).map(|subcategory| vocabulary.items(system, layer, subcategory).len()));
        }
        assert_eq!(lists.iter().sum::<usize>(), items);
        assert!(lists.iter().all(|len| (4..=5).contains(len)), "{lists:?}");
    }
    let debug = Vocabulary::builtin(VocabularyKind::Debug).unwrap();
    assert_eq!((debug.num_systems(), debug.num_items()), (1, 40));
    assert!((0..4).all(|layer| debug.items(0, layer, 0).len() == 10));
}

/// A vocabulary of one system in which `change` replaces one text by another.
fn changed_vocabulary(from: &str, to: &str) -> Result<Vocabulary, rl_envs::Error> {
    let category = |name: &str, items: [&str; 4]| {
        let items = items.map(|item| format!("\"{item}\"")).join(",");
        format!("{{\"name\":\"{name}\",\"subcategories\":[{{\"name\":\"all\",\"items\":[{items}]}}]}}")
    };
    let categories = [
        category("Coast", ["Amber Coast", "Frost Coast", "Heron Coast", "Spruce Coast"]),
        category("Harbor", ["Pine Harbor", "Cedar Harbor", "Birch Harbor", "Maple Harbor"]),
        category("Ship", ["Coal Barge", "Grain Barge", "Brick Barge", "Lumber Barge"]),
        category("Crate", ["Tea Crate", "Coffee Crate", "Cocoa Crate", "Pepper Crate"]),
    ];
    let text = format!("{{\"systems\":[{{\"name\":\"Sea\",\"categories\":[{}]}}]}}", categories.join(","));
    assert!(text.contains(from), "{from}");
    Vocabulary::from_json(&text.replace(from, to))
}

#[test]
fn a_vocabulary_that_breaks_a_rule_is_refused() {
    assert_eq!(changed_vocabulary("Tea", "Tea").unwrap().num_items(), 16);
    for (from, to, rule) in [
        (",\"Pepper Crate\"", "", "4 to 255 items"),
        ("\"Coffee Crate\"", "\"Tea Crate\"", "stand once"),
        ("\"Coffee Crate\"", "\"Ship\"", "stand once"),
        ("\"Harbor\"", "\"Ship\"", "stand once"),
        ("Tea Crate", "Sailor's Crate", "capitalised words"),
        ("Tea Crate", "Tea, Crate", "capitalised words"),
        ("Tea Crate", "Tea Crate 2", "capitalised words"),
        ("Tea Crate", "Tea  Crate", "capitalised words"),
        ("Tea Crate", "tea Crate", "capitalised words"),
        ("Tea Crate", "A Crate", "capitalised words"),
        ("Tea Crate", "", "capitalised words"),
        ("Tea Crate", "Tea And Crate", "word of the sentences"),
        ("Tea Crate", "One Crate", "word of the sentences"),
        ("Tea Crate", "Coffee Crate Tea", "begin or end"),
        ("Tea Crate", "Old Coffee Crate", "begin or end"),
        ("\"name\":\"Sea\"", "\"nam\":\"Sea\"", "documented form"),
        ("{\"systems\"", "[{\"systems\"", "documented form"),
    ] {
        let error = changed_vocabulary(from, to).unwrap_err().to_string();
        assert!(error.contains(rule), "{from:?} -> {to:?}: {error}");
    }
    let error = Vocabulary::from_json("{\"systems\":[{\"name\":\"S\",\"categories\":[]}]}").unwrap_err();
    assert!(error.to_string().contains("exactly 4 categories"), "{error}");
}

/// P1 to P12 and P14 of one problem, from its public parts alone.
fn check_graph(problem: &Problem, config: &ProblemConfig) {
    let structure = problem.structure();
    // P1, P2, P3: edges between neighbouring layers only, every container holds something, widths in range.
    let layers = structure.layers();
    assert!((2..=4).contains(&layers));
    for layer in 0..4 {
        assert_eq!((2..=4).contains(&structure.width(layer)), layer < layers, "layer {layer}");
    }
    let mut edges = 0;
    for layer in 1..layers {
        for node in 0..structure.width(layer) {
            let contents: Vec<usize> = structure.contents(layer, node).collect();
            assert!(!contents.is_empty());
            assert!(contents.iter().all(|&item| item < structure.width(layer - 1)));
            edges += contents.len();
            for item in contents {
                assert!(structure.edges().contains(Parameter::instance(layer, node, item)));
            }
        }
    }
    assert_eq!(edges, structure.edges().len());
    assert!(edges <= config.max_instance_params as usize);
    // P4, P5, P10: parents come earlier, and those of necessary parameters are necessary.
    let mut placed = BTreeSet::new();
    for &parameter in problem.parameters() {
        let parents: Vec<Parameter> = problem.parents(parameter).iter().collect();
        assert!(parents.iter().all(|parent| placed.contains(parent)), "{parameter:?}");
        assert!(placed.insert(parameter), "{parameter:?} twice");
    }
    let necessary: BTreeSet<Parameter> = problem.necessary().iter().copied().collect();
    // P6: all necessary parameters lead to the query, which is last and leads nowhere.
    let mut ancestors = BTreeSet::new();
    let mut open = vec![problem.query()];
    while let Some(parameter) = open.pop() {
        if ancestors.insert(parameter) {
            open.extend(problem.parents(parameter));
        }
    }
    assert_eq!(ancestors, necessary);
    assert!(problem.necessary().iter().all(|&parameter| !problem.parents(parameter).contains(problem.query())));
    // P7: the number of operations.
    let operations: usize = necessary.iter().map(|&parameter| (problem.in_degree(parameter).max(2)) - 1).sum();
    assert_eq!(operations, problem.num_operations() as usize);
    assert!((config.min_operations..=config.max_operations).contains(&problem.num_operations()));
    for &parameter in problem.parameters() {
        let operands = problem.operands(parameter);
        let distinct: BTreeSet<Parameter> = operands.as_slice().iter().copied().collect();
        assert_eq!(distinct.len(), operands.as_slice().len());
        assert!(distinct.iter().copied().eq(problem.parents(parameter).iter()));
        match parameter.kind() {
            // P8: in-degrees of instance parameters.
            ParameterKind::Instance { layer, node, item } => {
                assert!((1..=config.max_instance_in_degree).contains(&problem.in_degree(parameter)));
                assert!(structure.contents(layer, node).any(|other| other == item));
                let definition = problem.definition(parameter).unwrap();
                if let Some(constant) = definition.constant {
                    let least = if definition.operator == Operator::Times { config.mul_const_min } else { 0 };
                    let range = match config.constants {
                        Constants::Range => least..config.rng_range,
                        Constants::Original => 0..23,
                    };
                    assert!(range.contains(&constant), "{constant}");
                }
                let count = distinct.len();
                assert!(match definition.shape {
                    Shape::Single => count <= 1,
                    Shape::Sum => count >= 2,
                    Shape::Difference => count == 2,
                });
            }
            // P9: parents of abstract parameters are the structural ones, in pairs above level 1.
            ParameterKind::Abstract { layer, node, category } => {
                let mut expected = Vec::new();
                for item in structure.contents(layer, node) {
                    expected.push(Parameter::instance(layer, node, item));
                    if layer - category >= 2 {
                        expected.push(Parameter::total(layer - 1, item, category));
                    }
                }
                assert_eq!(operands.as_slice(), expected);
            }
        }
    }
    // P11: every instance parameter is described once.
    let conditions: BTreeSet<Parameter> = problem.conditions().iter().copied().collect();
    assert_eq!(conditions.len(), problem.conditions().len());
    if config.redundant_query {
        assert!(conditions.iter().copied().eq(structure.edges().iter()));
    } else {
        assert!(problem.redundant().is_empty());
        assert!(conditions.iter().all(|condition| necessary.contains(condition)));
    }
    // P12, P14: values by the definitions, written out here once more.
    for &parameter in problem.parameters() {
        let value = |other: Parameter| problem.value(other);
        let operands = problem.operands(parameter);
        let exact = match problem.definition(parameter) {
            None if operands.as_slice().iter().all(|operand| operand.is_instance()) => {
                operands.as_slice().iter().map(|&operand| value(operand)).sum()
            }
            None => operands.as_slice().chunks(2).map(|pair| value(pair[0]) * value(pair[1])).sum(),
            Some(definition) => {
                let base = match definition.shape {
                    Shape::Difference => value(operands.as_slice()[0]) - value(operands.as_slice()[1]),
                    _ => operands.as_slice().iter().map(|&operand| value(operand)).sum::<i128>(),
                };
                match (definition.constant, definition.operator, operands.as_slice().is_empty()) {
                    (None, _, _) => base,
                    (Some(constant), _, true) => constant.into(),
                    (Some(constant), Operator::Plus, false) => i128::from(constant) + base,
                    (Some(constant), Operator::Times, false) => i128::from(constant) * base,
                }
            }
        };
        let exact = config.modulus.map_or(exact, |modulus| exact.rem_euclid(modulus.into()));
        assert_eq!(exact, value(parameter));
        assert_eq!(problem.evaluate(parameter), Some(exact));
    }
    if let Some(limit) = config.max_solution {
        assert!(problem.final_answer().unsigned_abs() < limit);
    }
    assert!(problem.parameters().len() <= 52);
}

fn checked(config: &ProblemConfig, seed: u64, count: u64) {
    for_problems(config, seed, count, |problem| {
        check_graph(&problem, config);
        let (_, solution) = solved(&problem);
        assert_eq!(solution.answer(), problem.final_answer().into());
    });
}

/// Every property of the graphs and the text-only solver, over all numbers of operations.
#[test]
fn graphs_have_every_property_and_the_text_tells_the_answer() {
    for operations in 1..=30 {
        checked(&ProblemConfig::exactly(operations), 11, tier(50, 2_667));
    }
    checked(&ProblemConfig::default(), 12, tier(500, 20_000));
}

#[test]
fn switches_of_the_original_benchmark_keep_the_properties() {
    let count = tier(100, 2_000);
    checked(&ProblemConfig::original_medium(), 1, count);
    checked(&ProblemConfig { force: true, ..ProblemConfig::original_hard() }, 2, count);
    let base = ProblemConfig::default();
    for config in [
        ProblemConfig { redundant_query: false, ..base.clone() },
        ProblemConfig { vocabulary: VocabularyKind::Debug, ..base.clone() },
        ProblemConfig { mul_const_min: 1, missing_edges: MissingEdges::Uniform, ..base.clone() },
        ProblemConfig { max_instance_in_degree: 8, rng_range: 100, max_solution: None, ..base.clone() },
        ProblemConfig { max_instance_in_degree: 2, min_operations: 3, max_operations: 6, ..base.clone() },
        ProblemConfig { condition_order: ConditionOrder::Mild { level: 2 }, ..base.clone() },
    ] {
        checked(&config, 3, count);
    }
}

#[test]
fn condition_orders_are_as_named() {
    let problem_with = |condition_order| {
        let config = ProblemConfig { condition_order, ..ProblemConfig::default() };
        Generator::new(&config).unwrap().problem(5, 3).unwrap()
    };
    let place = |problem: &Problem| -> Vec<usize> {
        let solution: Vec<Parameter> =
            problem.parameters().iter().copied().filter(|parameter| parameter.is_instance()).collect();
        problem.conditions().iter().map(|c| solution.iter().position(|other| other == c).unwrap()).collect()
    };
    let ordered = place(&problem_with(ConditionOrder::Solution));
    assert!(ordered.iter().copied().eq(0..ordered.len()));
    for level in 1..=5 {
        let mild = place(&problem_with(ConditionOrder::Mild { level }));
        // Keys differ from places by less than 2 * level, so places do too.
        let far = mild.iter().enumerate().map(|(at, &from)| at.abs_diff(from)).max().unwrap();
        assert!(far < 2 * level as usize, "level {level}: {mild:?}");
    }
    assert_ne!(place(&problem_with(ConditionOrder::Shuffled)), ordered);
}

/// P25: the smaller of two uniform draws on 15..20 takes the values with probabilities 11, 9, 7, 5, 3, 1 of 36, before any
/// draw is rejected; and everything else that is drawn first stays in its range and follows its law.
#[test]
fn hyper_parameters_follow_their_laws() {
    let generator = Generator::new(&ProblemConfig::default()).unwrap();
    let count = tier(7_200, 72_000);
    let (mut operations, mut layers, mut systems) = ([0.0; 6], [0.0; 3], [0.0; 3]);
    let mut expected_layers = [0.0; 3];
    for index in 0..count {
        let hyper = generator.hyper(3, index, 0);
        operations[hyper.operations as usize - 15] += 1.0;
        layers[hyper.layers - 2] += 1.0;
        systems[hyper.system] += 1.0;
        for (sum, share) in expected_layers.iter_mut().zip(size_shares(hyper.operations, 20)) {
            *sum += share;
        }
        assert!(1 <= hyper.seed_operations && hyper.seed_operations <= hyper.plain_operations);
        assert!(hyper.plain_operations <= hyper.operations);
        let (low, high) = (hyper.min_width, hyper.max_width);
        assert!(2 <= low && low <= high && high <= 4);
        let edges = (hyper.layers - 1) * low..=((hyper.layers - 1) * high * high).min(20);
        assert!(edges.contains(&hyper.edges), "{hyper:?}");
        assert!(hyper.start + hyper.layers <= 4);
    }
    let statistic = |found: &[f64], expected: &[f64]| -> f64 {
        found.iter().zip(expected).map(|(found, expected)| (found - expected).powi(2) / expected).sum()
    };
    // Bounds are the 0.9999 quantiles of chi-square with 5 and 2 degrees of freedom.
    let law = [11.0, 9.0, 7.0, 5.0, 3.0, 1.0].map(|weight| count as f64 * weight / 36.0);
    assert!(statistic(&operations, &law) < 25.7, "{operations:?}");
    assert!(statistic(&layers, &expected_layers) < 18.4, "{layers:?}, expected {expected_layers:?}");
    assert!(statistic(&systems, &[count as f64 / 3.0; 3]) < 18.4, "{systems:?}");
}

#[test]
fn sizes_follow_the_softmax_of_the_specification() {
    // op 15, ip 20: rel = 14/19; weights exp(-(rel-c)^2) worked out in Python.
    let shares = size_shares(15, 20);
    for (share, expected) in shares.into_iter().zip([0.27855, 0.35133, 0.37012]) {
        assert!((share - expected).abs() < 1e-5, "{shares:?}");
    }
}

#[test]
fn configs_out_of_range_are_refused() {
    let base = ProblemConfig::default;
    for (config, key) in [
        (ProblemConfig { min_operations: 0, ..base() }, "min_operations = 0"),
        (ProblemConfig { max_operations: 14, ..base() }, "max_operations = 14"),
        (ProblemConfig { max_operations: 61, ..base() }, "max_operations = 61"),
        (ProblemConfig { max_instance_params: 11, ..base() }, "max_instance_params = 11"),
        (ProblemConfig { max_instance_params: 49, ..base() }, "max_instance_params = 49"),
        (ProblemConfig { max_instance_in_degree: 1, ..base() }, "max_instance_in_degree = 1"),
        (ProblemConfig { max_instance_in_degree: 9, ..base() }, "max_instance_in_degree = 9"),
        (ProblemConfig { max_attempts: 0, ..base() }, "max_attempts = 0"),
        (ProblemConfig { rng_range: 0, ..base() }, "rng_range = 0"),
        (ProblemConfig { mul_const_min: 10, ..base() }, "mul_const_min = 10"),
        (ProblemConfig { modulus: Some(0), ..base() }, "modulus = 0"),
        (ProblemConfig { max_solution: Some(0), ..base() }, "max_solution = 0"),
        (ProblemConfig { zero_reject_prob: 1.0, ..base() }, "zero_reject_prob = 1"),
        (ProblemConfig { zero_reject_prob: f64::NAN, ..base() }, "zero_reject_prob = NaN"),
        (ProblemConfig { condition_order: ConditionOrder::Mild { level: 6 }, ..base() }, "condition_order.level = 6"),
        (
            ProblemConfig { split: Some(TemplateSplit { num_bins: 23, first_bin: 20, num_kept: 4 }), ..base() },
            "split.num_kept = 4",
        ),
    ] {
        let error = Generator::new(&config).unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
    // Nothing but zero is below one, and no problem at 15 operations is rejected for ever because of it.
    let zeros = ProblemConfig { max_solution: Some(1), ..base() };
    assert!(problems(&zeros, 1, 5).iter().all(|problem| problem.final_answer() == 0));
    // With an answer of zero refused nearly always and nothing else allowed, there still is one.
    let rare = ProblemConfig { zero_reject_prob: 0.9, ..zeros };
    assert_eq!(problems(&rare, 1, 1)[0].final_answer(), 0);
    let text = serde_json::to_string(&base()).unwrap();
    assert_eq!(serde_json::from_str::<ProblemConfig>(&text).unwrap(), base());
    assert!(serde_json::from_str::<ProblemConfig>("{\"max_operation\": 3}").is_err());
}

/// Overflow rejects a draw: a modest limit on intermediate values holds in every problem.
#[test]
fn intermediate_values_stay_below_their_limit() {
    let config = ProblemConfig { max_intermediate: Some(99), ..ProblemConfig::exactly(25) };
    let mut counts = DrawCounts::default();
    let generator = Generator::new(&config).unwrap();
    for index in 0..50 {
        let problem = generator.counted(4, index, &mut counts).unwrap();
        assert!(problem.parameters().iter().all(|&parameter| problem.value(parameter).unsigned_abs() <= 99));
    }
    assert!(0 < counts.overflow && counts.accepted == 50, "{counts:?}");
    assert_eq!(counts.total(), counts.accepted + counts.overflow + counts.large_answer + counts.graphs_given_up());
}

/// P26: an item is the same whatever was drawn before it, on any thread.
#[test]
fn items_do_not_depend_on_order_or_threads() {
    let generator = Generator::new(&ProblemConfig::default()).unwrap();
    let text = |index: u64| {
        let problem = generator.problem(9, index).unwrap();
        format!("{}\n{}", problem.question(), problem.response(&TraceConfig::BRIDGE, 0))
    };
    let forward: Vec<String> = (0..60).map(text).collect();
    let backward: Vec<String> = (0..60).rev().map(text).collect();
    assert!(forward.iter().eq(backward.iter().rev()));
    let threads: Vec<String> = std::thread::scope(|scope| {
        let handles: Vec<_> =
            (0..3).map(|part| scope.spawn(move || (part * 20..part * 20 + 20).map(text).collect::<Vec<_>>())).collect();
        handles.into_iter().flat_map(|handle| handle.join().unwrap()).collect()
    });
    assert_eq!(forward, threads);
    let distinct: BTreeSet<&String> = forward.iter().collect();
    assert_eq!(distinct.len(), 60);
    assert_ne!(generator.problem(10, 0).unwrap().question(), generator.problem(9, 0).unwrap().question());
}
