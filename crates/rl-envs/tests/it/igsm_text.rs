//! Problem texts: the worked example, what is rendered is read back, what cannot be read is refused, the solver against
//! hand-made texts.

use rl_envs::igsm::formula::{Base, Formula};
use rl_envs::igsm::problem::Operator;
use rl_envs::igsm::solve::{Derivation, SolveError};
use rl_envs::igsm::*;

use super::igsm::{problems, solved, tier};

/// The worked example of the specification.
pub(crate) const EXAMPLE: &str = "In one Coal Barge, the Tea Crate count is 4.\n\
In one Mail Clipper, the Tea Crate count is 2 multiplied by the Tea Crate count of one Coal Barge.\n\
In one Pine Harbor, the Coal Barge count is 3.\n\
In one Pine Harbor, the Mail Clipper count is 1 plus the Tea Crate count of one Coal Barge.\n\
What is the Crate count of one Pine Harbor?";

fn parse(text: &str) -> Result<ParsedProblem, ParseError> {
    ParsedProblem::parse(text, &Vocabulary::builtin(VocabularyKind::Standard).unwrap())
}

pub(crate) fn reference(thing: &str, container: &str) -> Reference {
    let vocabulary = Vocabulary::builtin(VocabularyKind::Standard).unwrap();
    let find = |name: &str| vocabulary.thing(name).unwrap_or_else(|| panic!("{name}"));
    Reference { thing: find(thing), container: find(container) }
}

#[test]
fn the_worked_example_has_its_values() {
    let parsed = parse(EXAMPLE).unwrap();
    assert_eq!(parsed.query, reference("Crate", "Pine Harbor"));
    assert_eq!(parsed.conditions.len(), 4);
    let coal_tea = reference("Tea Crate", "Coal Barge");
    assert_eq!(parsed.conditions[1].formula, Formula::Joined(2, Operator::Times, Base::Single(coal_tea)));
    let solution = Solution::new(&parsed, None).unwrap();
    for (thing, container, value) in [
        ("Tea Crate", "Coal Barge", 4),
        ("Crate", "Coal Barge", 4),
        ("Tea Crate", "Mail Clipper", 8),
        ("Crate", "Mail Clipper", 8),
        ("Coal Barge", "Pine Harbor", 3),
        ("Mail Clipper", "Pine Harbor", 5),
        ("Ship", "Pine Harbor", 8),
        ("Crate", "Pine Harbor", 52),
    ] {
        assert_eq!(solution.value(reference(thing, container)), Some(value), "{thing} in {container}");
    }
    assert_eq!(solution.answer(), 52);
    assert_eq!(Solution::new(&parsed, Some(23)).unwrap().answer(), 52 % 23);
    // Seven quantities lead to the query; the number of ships does not.
    assert_eq!(solution.necessary().len(), 7);
    assert!(!solution.necessary().contains(&reference("Ship", "Pine Harbor")));
    let operations: usize = solution
        .necessary()
        .into_iter()
        .map(|quantity| match solution.derivation(quantity).unwrap() {
            Derivation::Total(terms) => terms.len() * if terms[0].1.is_some() { 2 } else { 1 } - 1,
            Derivation::Stated(Formula::Constant(_)) => 1,
            Derivation::Stated(Formula::Plain(base)) => base.operands().len() - 1,
            Derivation::Stated(Formula::Joined(_, _, base)) => base.operands().len(),
        })
        .map(|operations| operations.max(1))
        .sum();
    assert_eq!(operations, 9);
}

/// Every form of a definition, with its value.
#[test]
fn definitions_mean_what_they_say() {
    let a = "the Tea Crate count of one Coal Barge";
    let b = "the Cocoa Crate count of one Coal Barge";
    let c = "the Crate count of one Coal Barge";
    for (definition, value) in [
        ("12".to_string(), 12),
        (a.to_string(), 7),
        (format!("3 plus {a}"), 10),
        (format!("3 multiplied by {a}"), 21),
        (format!("the total of {a} and {b}"), 9),
        (format!("the total of {a}, {b} and {c}"), 18),
        (format!("the gap {b} minus {a}"), -5),
        (format!("3 plus the gap {b} minus {a}"), -2),
        (format!("3 multiplied by the gap {b} minus {a}"), -15),
        (format!("3 multiplied by the total of {a}, {b} and {c}"), 54),
        (format!("0 multiplied by {c}"), 0),
    ] {
        let text = format!(
            "In one Coal Barge, the Tea Crate count is 7.\nIn one Mail Clipper, the Tea Crate count is {definition}.\n\
             In one Coal Barge, the Cocoa Crate count is 2.\nWhat is the Tea Crate count of one Mail Clipper?"
        );
        assert_eq!(Solution::new(&parse(&text).unwrap(), None).unwrap().answer(), value, "{definition}");
    }
}

#[test]
fn texts_that_are_no_problems_are_refused() {
    assert!(parse(EXAMPLE).is_ok());
    for (from, to, reason) in [
        ("In one Coal", "In one  Coal", "the end"),
        ("the Tea Crate count is 4.", "the Tea Crate count is.", "expected the"),
        ("count is 4.", "count is 4", "full stop"),
        ("count is 4.", "count is four.", "expected the"),
        ("count is 4.", "count is 4 + 1.", "full stop"),
        ("count is 4.", "count is 999999999999999999999999999999999999999999.", "expected the"),
        ("2 multiplied by the", "2 multiplied the", "expected by"),
        ("2 multiplied by the Tea", "2 multiplied by the total of the Tea", "second quantity"),
        ("2 multiplied by the Tea", "2 multiplied by the gap the Tea", "expected minus"),
        ("Tea Crate count is 4", "Plum Crate count is 4", "not in the vocabulary"),
        ("one Pine Harbor?", "one Pine Forest?", "not in the vocabulary"),
        ("Coal Barge count is 3", "Tea Crate count is 3", "no meaning"),
        ("the Crate count of one Pine Harbor?", "the Harbor count of one Pine Harbor?", "no meaning"),
        ("the Crate count of one Pine Harbor?", "the Crate count of one Ship?", "no meaning"),
        ("the Crate count of one Pine Harbor?", "the Fruit count of one Pine Harbor?", "no meaning"),
        ("In one Mail Clipper, the Tea", "In one Coal Barge, the Tea", "given twice"),
        ("In one Pine Harbor, the Coal Barge count", "In one Pine Harbor, the Ship count", "no meaning"),
        ("What is", "What are", "expected What is"),
        ("Harbor?", "Harbor", "question mark"),
        ("Harbor?", "Harbor? Yes", "end of the text"),
        ("In one Coal", "\0In one Coal", "expected What is"),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let changed = EXAMPLE.replacen(from, to, 1);
        match parse(&changed) {
            // Blanks do not matter.
            Ok(parsed) => assert_eq!((reason, parsed), ("the end", parse(EXAMPLE).unwrap()), "{from:?} -> {to:?}"),
            Err(error) => assert!(error.to_string().contains(reason), "{from:?} -> {to:?}: {error}"),
        }
    }
}

#[test]
fn a_text_without_an_answer_has_none() {
    let solve = |text: &str| Solution::new(&parse(text).unwrap(), None).map(|solution| solution.answer());
    // What is asked is never described; two quantities that wait for each other; an item with unknown contents.
    assert_eq!(solve("What is the Crate count of one Pine Harbor?"), Err(SolveError::Undetermined));
    let circle = "In one Coal Barge, the Tea Crate count is the Cocoa Crate count of one Coal Barge.\n\
        In one Coal Barge, the Cocoa Crate count is 1 plus the Tea Crate count of one Coal Barge.\n\
        What is the Crate count of one Coal Barge?";
    assert_eq!(solve(circle), Err(SolveError::Undetermined));
    let unknown = "In one Pine Harbor, the Coal Barge count is 2.\nWhat is the Crate count of one Pine Harbor?";
    assert_eq!(solve(unknown), Err(SolveError::Undetermined));
    let huge = format!("{}", i128::MAX);
    let overflow = format!(
        "In one Coal Barge, the Tea Crate count is {huge}.\nIn one Coal Barge, the Cocoa Crate count is {huge}.\n\
         What is the Crate count of one Coal Barge?"
    );
    assert_eq!(solve(&overflow), Err(SolveError::Overflow));
}

/// P15, P16: one condition per edge, and parsing the text gives the graph back.
#[test]
fn what_is_rendered_is_read_back() {
    for operations in 1..=30 {
        for problem in problems(&ProblemConfig::exactly(operations), 21, tier(20, 500)) {
            let (parsed, solution) = solved(&problem);
            assert_eq!(parsed.conditions.len(), problem.structure().edges().len());
            for (condition, &parameter) in parsed.conditions.iter().zip(problem.conditions()) {
                assert_eq!(condition.reference, problem.reference(parameter));
                assert_eq!(Some(&condition.formula), problem.formula(parameter).as_ref());
            }
            assert_eq!(parsed.query, problem.reference(problem.query()));
            // The solver sees the same dependencies and values, of redundant quantities too.
            for &parameter in problem.parameters() {
                let quantity = problem.reference(parameter);
                assert_eq!(solution.value(quantity), Some(problem.value(parameter)));
                let parents: std::collections::BTreeSet<Reference> =
                    problem.parents(parameter).iter().map(|parent| problem.reference(parent)).collect();
                assert_eq!(solution.derivation(quantity).unwrap().parents(), parents);
            }
            let necessary = problem.necessary().iter().map(|&parameter| problem.reference(parameter)).collect();
            assert_eq!(solution.necessary(), necessary);
            let lines = problem.question().lines().count();
            assert_eq!(lines, parsed.conditions.len() + 1);
            // Any order of the conditions tells the same.
            let (_, reordered) = solved(&problem.reordered(1));
            assert_eq!(reordered.answer(), solution.answer());
        }
    }
}

/// The worked example as a problem: nine operations, and the lines that the specification writes out.
#[test]
fn solutions_are_written_for_a_text() {
    let vocabulary = Vocabulary::builtin(VocabularyKind::Standard).unwrap();
    let problem = Problem::from_text(EXAMPLE, &vocabulary, None, 1, 2).unwrap();
    assert_eq!((problem.num_operations(), problem.final_answer()), (9, 52));
    assert_eq!((problem.necessary().len(), problem.redundant().len()), (7, 0));
    assert_eq!(problem.question(), EXAMPLE);
    // The letters of a response are its own; put the specification's in their place.
    let relettered = |config: &TraceConfig| {
        let response = problem.response(config, 0);
        let letter = |thing: &str, container: &str| {
            let name = format!("the {thing} count of one {container}");
            let line = response.lines().find(|line| line.starts_with("- ") && line.contains(&name)).unwrap();
            line.split(" = ").next().unwrap().chars().last().unwrap()
        };
        let letters = [
            (letter("Tea Crate", "Coal Barge"), 'k'),
            (letter("Crate", "Coal Barge"), 'b'),
            (letter("Tea Crate", "Mail Clipper"), 'm'),
            (letter("Crate", "Mail Clipper"), 'd'),
            (letter("Coal Barge", "Pine Harbor"), 'a'),
            (letter("Mail Clipper", "Pine Harbor"), 'c'),
            (letter("Crate", "Pine Harbor"), 'w'),
        ];
        let new = |old: char| letters.iter().find(|(letter, _)| *letter == old).map_or(old, |(_, new)| *new);
        let equations = response.lines().filter(|line| line.starts_with("- ")).map(|line| {
            let (_, equation) = line.rsplit_once(". ").unwrap();
            equation.chars().map(new).collect::<String>()
        });
        let mut equations: Vec<String> = equations.collect();
        equations.sort();
        equations
    };
    let plain = ["a = 3.", "b = k = 4.", "c = 1 + k = 1 + 4 = 5.", "d = m = 8.", "k = 4.", "m = 2 * k = 2 * 4 = 8."];
    let expected = |last: &'static str| [&plain[..], &[last]].concat();
    assert_eq!(relettered(&TraceConfig::VANILLA), expected("w = a * b + c * d = 3 * 4 + 5 * 8 = 52."));
    assert_eq!(
        relettered(&TraceConfig::behaviours(true, false, false)),
        expected("w = a * b + c * d = 3 * 4 + 5 * 8 = 12 + 5 * 8 = 12 + 40 = 52.")
    );
}

#[test]
fn a_generated_problem_survives_its_text() {
    for config in [ProblemConfig::default(), ProblemConfig::exactly(4), ProblemConfig::original_medium()] {
        for problem in problems(&config, 22, tier(100, 2_000)) {
            let text = problem.question();
            let again = Problem::from_text(&text, problem.vocabulary(), problem.modulus(), 1, 1).unwrap();
            assert_eq!(again.question(), text);
            assert_eq!(again.final_answer(), problem.final_answer());
            assert_eq!(again.num_operations(), problem.num_operations());
            let (_, solution) = solved(&problem);
            let names = |problem: &Problem| {
                problem.necessary().iter().map(|&p| problem.reference(p)).collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(names(&again), names(&problem));
            let response = again.response(&TraceConfig::BRIDGE, 0);
            assert!(StepVerifier::new(&solution, problem.vocabulary()).verify(&response).process_correct());
        }
    }
}

#[test]
fn texts_beyond_a_problem_are_refused() {
    let vocabulary = Vocabulary::builtin(VocabularyKind::Standard).unwrap();
    let build = |text: &str| Problem::from_text(text, &vocabulary, None, 0, 0).map(|problem| problem.final_answer());
    assert_eq!(build(EXAMPLE), Ok(52));
    for (from, to, reason) in [
        ("count is 4.", "count is 70000.", "a constant out of range"),
        ("count is 4.", "count is -1.", "a constant out of range"),
        ("Harbor?", "Harbor", "question mark"),
        (
            "What is the Crate count of one Pine Harbor?",
            "What is the Crate count of one Cedar Harbor?",
            "does not follow",
        ),
        ("count is 3.", "count is the Tea Crate count of one Grain Barge.", "does not follow"),
        ("In one Mail Clipper, the Tea", "In one Mail Clipper, the Nail", "vocabulary"),
        ("In one Mail Clipper, the Tea Crate", "In one Mail Clipper, the Nail Chest", "several sub-categories"),
        ("count is 4.", "count is 1 plus the Tea Crate count of one Mail Clipper.", "does not follow"),
        (
            "is 2 multiplied by the Tea Crate count of one Coal Barge",
            "is the gap the Tea Crate count of one Coal Barge minus the Tea Crate count of one Coal Barge",
            "several times",
        ),
    ] {
        assert!(EXAMPLE.contains(from), "{from}");
        let error = build(&EXAMPLE.replacen(from, to, 1)).unwrap_err().to_string();
        assert!(error.contains(reason), "{from:?} -> {to:?}: {error}");
    }
    let five: String = ["Tea", "Coffee", "Cocoa", "Pepper", "Raisin"]
        .map(|name| format!("In one Coal Barge, the {name} Crate count is 1.\n"))
        .concat();
    let error = build(&format!("{five}What is the Crate count of one Coal Barge?")).unwrap_err().to_string();
    assert!(error.contains("too many things"), "{error}");
}
