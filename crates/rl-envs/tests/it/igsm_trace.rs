//! Solutions: form, order, behaviours and their rates, marked content.

use std::collections::{BTreeMap, BTreeSet};

use rl_envs::igsm::trace::mask::unmark;
use rl_envs::igsm::*;

use super::igsm::{for_problems, problems, solved, tier};

/// Standard errors by which a measured rate may miss its expectation.
const SIGMAS: f64 = 4.0;

fn steps(response: &str) -> Vec<&str> {
    response.lines().filter(|line| line.starts_with("- ")).collect()
}

fn is_locked(line: &str) -> bool {
    ["Since ", "This needs ", "Without "].iter().any(|start| line.contains(&format!(". {start}")))
}

/// The equation chain at the end of a line, as its links; `None` for a locked line.
fn chain(line: &str) -> Option<Vec<&str>> {
    if is_locked(line) {
        return None;
    }
    let (_, equation) = line.rsplit_once(". ")?;
    Some(equation.strip_suffix('.')?.split(" = ").collect())
}

/// All combinations of the three behaviours.
fn combinations() -> Vec<TraceConfig> {
    (0..8).map(|bits| TraceConfig::behaviours(bits & 1 != 0, bits & 2 != 0, bits & 4 != 0)).collect()
}

/// P17, P21: the step verifier accepts every solution of every combination, and letters are one to one.
#[test]
fn every_solution_passes_the_step_verifier() {
    let mut configs = combinations();
    configs.push(TraceConfig::PLAIN);
    let strong = TraceConfig { reflection_prob: 0.9, analysis_abstract: true, ..TraceConfig::BRIDGE };
    configs.push(TraceConfig { analysis: Analysis::Uniform { probability: 1.0 }, ..strong });
    let judge = |problem: Problem| {
        let (_, solution) = solved(&problem);
        let order = problem.necessary().iter().map(|&parameter| problem.reference(parameter));
        let verifier = StepVerifier::new(&solution, problem.vocabulary()).with_order(order);
        let variant = problem.index() % 2;
        for config in &configs {
            let response = problem.response(config, variant);
            let report = verifier.verify(&response);
            let error = report.first_error();
            assert!(report.process_correct(), "{error:?}\n{}\n{response}", problem.question());
            assert_eq!(report.correct_share(), 1.0);
            let detours = config.reflection_prob > 0.0 || variant == 1;
            assert!(detours || report.num_out_of_turn() == 0);
            assert!(config.reflection_prob > 0.0 || report.unnecessary_share() == 0.0);
            assert!(Extraction::Strict.has_format(&response) && Extraction::Robust.has_format(&response));
            let answer = problem.final_answer();
            assert!(Extraction::Strict.is_correct(&response, answer));
            assert!(Extraction::Robust.is_correct(&response, answer));
        }
    };
    for operations in 1..=30 {
        for_problems(&ProblemConfig::exactly(operations), 31, tier(12, 2_667), judge);
    }
    for_problems(&ProblemConfig::default(), 40, tier(0, 20_000), judge);
}

#[test]
fn modular_solutions_pass_too() {
    for config in [ProblemConfig::original_medium(), ProblemConfig { modulus: Some(5), ..ProblemConfig::default() }] {
        for problem in problems(&config, 32, tier(60, 2_000)) {
            let (_, solution) = solved(&problem);
            for config in [TraceConfig::VANILLA, TraceConfig::BRIDGE, TraceConfig::PLAIN] {
                let response = problem.response(&config, 0);
                let report = StepVerifier::new(&solution, problem.vocabulary()).verify(&response);
                assert!(report.process_correct(), "{:?}\n{response}", report.first_error());
            }
        }
    }
}

/// P18: a vanilla solution has one line per necessary quantity, in order, and nothing more.
#[test]
fn vanilla_solutions_are_plain() {
    for problem in problems(&ProblemConfig::default(), 33, tier(200, 5_000)) {
        let response = problem.response(&TraceConfig::VANILLA, 0);
        let lines = steps(&response);
        assert_eq!(lines.len(), problem.necessary().len());
        for (line, &parameter) in lines.iter().zip(problem.necessary()) {
            assert!(!is_locked(line) && !line.contains("By the text"), "{line}");
            let links = chain(line).unwrap();
            let operands = problem.operands(parameter);
            let constant = problem.definition(parameter).is_some_and(|definition| definition.constant.is_some());
            // Letter, symbols, numbers, value; a copy needs no numbers, a constant no symbols either.
            let expected = match (operands.as_slice().len(), constant) {
                (0, _) => 2,
                (1, false) => 3,
                _ => 4,
            };
            assert_eq!(links.len(), expected, "{line}");
            assert_eq!(links.last().unwrap().parse::<i128>().unwrap(), problem.value(parameter), "{line}");
        }
        assert_eq!(lines.len() + 7, response.lines().count());
    }
}

/// P22, last part: behaviours that are switched off leave no mark.
#[test]
fn behaviours_of_strength_zero_are_vanilla() {
    let zero =
        TraceConfig { analysis: Analysis::Uniform { probability: 0.0 }, ..TraceConfig::behaviours(false, true, false) };
    for problem in problems(&ProblemConfig::default(), 34, 50) {
        let vanilla = problem.response(&TraceConfig::VANILLA, 0);
        assert_eq!(problem.response(&zero, 0), vanilla);
        assert_eq!(problem.response(&TraceConfig::behaviours(false, false, false), 0), vanilla);
        assert_ne!(problem.response(&TraceConfig::BRIDGE, 0), vanilla);
    }
    assert_eq!(TraceConfig::behaviours(true, true, true), TraceConfig::BRIDGE);
}

/// Value of a numeric expression of the grammar, by recursive descent of its own: sums of products of numbers and brackets.
fn value(text: &str) -> i128 {
    fn sum(tokens: &mut std::iter::Peekable<std::vec::IntoIter<String>>) -> i128 {
        let mut total = product(tokens);
        while let Some(sign) = tokens.next_if(|token| token == "+" || token == "-") {
            let term = product(tokens);
            total += if sign == "+" { term } else { -term };
        }
        total
    }
    fn product(tokens: &mut std::iter::Peekable<std::vec::IntoIter<String>>) -> i128 {
        let mut total = factor(tokens);
        while tokens.next_if(|token| token == "*").is_some() {
            total *= factor(tokens);
        }
        total
    }
    fn factor(tokens: &mut std::iter::Peekable<std::vec::IntoIter<String>>) -> i128 {
        let token = tokens.next().unwrap();
        if token == "(" {
            let inner = sum(tokens);
            assert_eq!(tokens.next().as_deref(), Some(")"));
            return inner;
        }
        token.parse().unwrap()
    }
    let spaced = text.replace('(', "( ").replace(')', " )");
    let tokens: Vec<String> = spaced.split(' ').map(str::to_string).collect();
    let mut tokens = tokens.into_iter().peekable();
    let total = sum(&mut tokens);
    assert_eq!(tokens.next(), None, "{text}");
    total
}

fn operations(link: &str) -> usize {
    link.split(' ').filter(|token| ["+", "-", "*"].contains(token)).count()
}

/// P20: every equality is true, and detailed chains do one operation per step.
#[test]
fn chains_are_true_and_detailed_ones_do_one_operation_per_step() {
    let mut computed = 0;
    let mut with_steps = 0;
    for problem in problems(&ProblemConfig::default(), 35, tier(300, 10_000)) {
        for line in steps(&problem.response(&TraceConfig::BRIDGE, 0)) {
            let Some(links) = chain(line) else { continue };
            let numeric: Vec<&str> =
                links[1..].iter().copied().filter(|link| !link.contains(|c: char| c.is_ascii_alphabetic())).collect();
            let last = value(numeric[numeric.len() - 1]);
            assert!(numeric.iter().all(|link| value(link) == last), "{line}");
            for pair in numeric.windows(2) {
                assert_eq!(operations(pair[0]), operations(pair[1]) + 1, "{line}");
            }
            assert_eq!(operations(numeric[numeric.len() - 1]), 0, "{line}");
            if numeric.len() > 1 {
                computed += 1;
                with_steps += usize::from(numeric.len() > 2);
            }
        }
    }
    // About 29 of 100 computed lines have an intermediate step; copies are not counted as computed here.
    let share = with_steps as f64 / computed as f64;
    assert!((0.26..0.45).contains(&share), "{share}");
}

/// P19: what cannot be computed says why, never twice in a row, and is computed later or not needed.
#[test]
fn detours_are_named_and_made_good() {
    let config = TraceConfig { reflection_prob: 0.3, ..TraceConfig::BRIDGE };
    let mut locked_lines = 0;
    for problem in problems(&ProblemConfig::default(), 36, tier(300, 5_000)) {
        let (_, solution) = solved(&problem);
        let report = StepVerifier::new(&solution, problem.vocabulary()).verify(&problem.response(&config, 0));
        assert!(report.process_correct());
        let lines: Vec<_> = report.steps().collect();
        let locked = |line: &step_verifier::LineReport| line.kind == step_verifier::LineKind::Locked;
        assert!(lines.windows(2).all(|pair| !(locked(pair[0]) && locked(pair[1]))));
        let necessary = solution.necessary();
        for (place, line) in lines.iter().enumerate().filter(|(_, line)| locked(line)) {
            locked_lines += 1;
            let later = lines[place + 1..].iter().any(|other| other.reference == line.reference && !locked(other));
            assert!(later || !necessary.contains(&line.reference.unwrap()));
        }
        assert!(!locked(lines[0]));
    }
    assert!(100 < locked_lines, "{locked_lines}");
}

/// P22: rates of the published strengths at 15 to 20 operations, as the specification gives them.
#[test]
fn behaviours_come_as_often_as_published() {
    let count = tier(2_000, 20_000);
    let (mut locked, mut with_locked, mut useless, mut restated) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for problem in problems(&ProblemConfig::default(), 37, count) {
        let (_, solution) = solved(&problem);
        let response = problem.response(&TraceConfig::BRIDGE, 0);
        let report = StepVerifier::new(&solution, problem.vocabulary()).verify(&response);
        let found = steps(&response).iter().filter(|line| is_locked(line)).count();
        locked.push(found as f64);
        with_locked.push(f64::from(u8::from(found > 0)));
        useless.push(report.steps().filter(|line| line.unnecessary).count() as f64);
        restated.push(response.matches("By the text").count() as f64);
    }
    // (found, published, half a unit of the published number's last digit)
    for (name, sample, published, rounding) in [
        ("locked lines", locked, 0.83, 0.005),
        ("solutions with a locked line", with_locked, 0.59, 0.005),
        ("redundant quantities computed", useless, 0.08, 0.005),
        ("restated definitions", restated, 3.8, 0.05),
    ] {
        let size = sample.len() as f64;
        let mean = sample.iter().sum::<f64>() / size;
        let variance = sample.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / size;
        // The published mean is of 500 to 1,500 solutions, so it has an error of its own.
        let tolerance = SIGMAS * (variance / size + variance / 1000.0).sqrt() + rounding;
        println!("{name}: {mean:.3}, published {published}");
        assert!((mean - published).abs() < tolerance, "{name}: {mean} not within {tolerance} of {published}");
    }
}

#[test]
fn definitions_are_restated_with_the_probabilities_of_the_table() {
    let table = |level| {
        let analysis = Analysis::Level { level };
        (0..11).map(|in_degree| analysis.probability(in_degree)).collect::<Vec<f64>>()
    };
    let expected = |start: &[f64], rest: f64| {
        let mut list = start.to_vec();
        list.resize(11, rest);
        list
    };
    assert_eq!(table(0), expected(&[], 0.0));
    assert_eq!(table(1), expected(&[0.0, 0.0, 0.1, 0.4, 0.8], 1.0));
    assert_eq!(table(2), expected(&[0.0, 0.1, 0.4, 0.8, 1.0], 1.0));
    assert_eq!(table(3), expected(&[0.0, 0.4, 0.8, 1.0, 1.0], 1.0));
    assert_eq!(table(4), expected(&[0.0], 1.0));

    // Level 2, by in-degree, over vanilla solutions otherwise.
    let config = TraceConfig::behaviours(false, true, false);
    let mut seen: BTreeMap<usize, (f64, f64)> = BTreeMap::new();
    for problem in problems(&ProblemConfig::default(), 38, tier(1_000, 10_000)) {
        let response = problem.response(&config, 0);
        for (line, &parameter) in steps(&response).iter().zip(problem.necessary()) {
            let restated = line.contains("By the text");
            if !parameter.is_instance() || problem.parents(parameter).is_empty() {
                assert!(!restated, "{line}");
                continue;
            }
            let entry = seen.entry(problem.in_degree(parameter)).or_default();
            entry.0 += f64::from(u8::from(restated));
            entry.1 += 1.0;
        }
    }
    assert_eq!(seen.len(), 4);
    for (in_degree, (restated, total)) in seen {
        let expected = [0.0, 0.1, 0.4, 0.8, 1.0][in_degree];
        let tolerance = SIGMAS * (expected * (1.0 - expected) / total).sqrt();
        assert!((restated / total - expected).abs() <= tolerance, "{in_degree}: {restated} of {total}");
    }
}

/// P24: other variants have other orders, all topological, and letters of their own.
#[test]
fn variants_reorder_the_solution() {
    let mut reordered = 0;
    for problem in problems(&ProblemConfig::default(), 39, tier(100, 2_000)) {
        let (_, solution) = solved(&problem);
        let mut orders = BTreeSet::new();
        for variant in 0..4 {
            let response = problem.response(&TraceConfig::VANILLA, variant);
            let report = StepVerifier::new(&solution, problem.vocabulary()).verify(&response);
            assert!(report.process_correct());
            let order: Vec<Reference> = report.steps().map(|line| line.reference.unwrap()).collect();
            assert_eq!(order.last(), Some(&solution.query()));
            let distinct: BTreeSet<Reference> = order.iter().copied().collect();
            assert_eq!(distinct, solution.necessary());
            assert_eq!(distinct.len(), order.len());
            orders.insert(order);
        }
        reordered += usize::from(orders.len() > 1);
        assert_ne!(problem.response(&TraceConfig::VANILLA, 1), problem.response(&TraceConfig::VANILLA, 2));
    }
    assert!(reordered as u64 > tier(100, 2_000) / 2, "{reordered}");
}

#[test]
fn marks_wrap_names_expressions_and_values() {
    for problem in problems(&ProblemConfig::default(), 40, 100) {
        for config in [TraceConfig::VANILLA, TraceConfig::BRIDGE, TraceConfig::PLAIN] {
            let marked = problem.response_with_mask(&config, 0);
            let found = unmark(&marked);
            assert_eq!(found.text, problem.response(&config, 0));
            assert_eq!(found.content.len(), found.text.chars().count());
            for line in marked.lines().filter(|line| line.starts_with("- ")) {
                let marks = (line.matches("<<").count(), line.matches(">>").count());
                let locked = ["Since ", "This needs ", "Without "].iter().any(|start| line.contains(start));
                // A name and a value at least; nothing in a line that computes nothing.
                assert!(
                    marks.0 == marks.1 && (if locked { marks.0 == 0 } else { (2..=4).contains(&marks.0) }),
                    "{line}"
                );
                assert!(locked || line.ends_with(">>."), "{line}");
            }
        }
    }
    let found = unmark("a <<b>> é<<");
    assert_eq!((found.text.as_str(), found.content.len()), ("a b é", 5));
    assert_eq!(found.content, [false, false, true, false, false]);
}

#[test]
fn settings_out_of_range_are_refused() {
    let base = TraceConfig::BRIDGE;
    for (config, key) in [
        (TraceConfig { reflection_prob: 0.95, ..base }, "trace.reflection_prob = 0.95"),
        (TraceConfig { reflection_prob: f64::NAN, ..base }, "trace.reflection_prob = NaN"),
        (TraceConfig { analysis: Analysis::Level { level: 5 }, ..base }, "trace.analysis.level = 5"),
        (TraceConfig { analysis: Analysis::Uniform { probability: 1.5 }, ..base }, "trace.analysis.probability = 1.5"),
        (TraceConfig { style: TraceStyle::Plain, ..base }, "trace.style = plain"),
    ] {
        let error = config.validate().unwrap_err().to_string();
        assert!(error.starts_with(key), "{error}");
    }
    for config in combinations().into_iter().chain([TraceConfig::PLAIN]) {
        config.validate().unwrap();
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<TraceConfig>(&text).unwrap(), config);
    }
}
