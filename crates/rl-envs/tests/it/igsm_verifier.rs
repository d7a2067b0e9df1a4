//! The step verifier: every class of finding on hand-made solutions, mutations of generated ones, hostile text.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use rl_core::random::RandomKey;
use rl_envs::Environment;
use rl_envs::igsm::step_verifier::LineKind;
use rl_envs::igsm::*;

use super::igsm::{for_problems, solved, tier};
use super::igsm_text::EXAMPLE;

/// Longest time for one hostile text of a megabyte, in a debug build on a busy machine.
const TIME_LIMIT: Duration = Duration::from_secs(20);

/// The solution of the worked example with a line that has to wait and one that restates.
const SOLUTION: &str = r"<think>
We look for the Crate count of one Pine Harbor.
- As stated, the Tea Crate count of one Coal Barge is 4. Call it k. k = 4.
- Next is the Crate count of one Coal Barge, call it b. b = k = 4.
- Now take the Tea Crate count of one Mail Clipper as m. m = 2 * k = 2 * 4 = 8.
- Let d be the Crate count of one Mail Clipper. d = m = 8.
- It is given that the Coal Barge count of one Pine Harbor is 3. Write a for it. a = 3.
- Next is the Crate count of one Pine Harbor. Let w stand for it. Since the Mail Clipper count of one Pine Harbor is unknown so far, w has to wait.
- Next is the Mail Clipper count of one Pine Harbor, call it c. By the text it is 1 plus the Tea Crate count of one Coal Barge. c = 1 + k = 1 + 4 = 5.
- Now turn to the Crate count of one Pine Harbor. It is already called w. By the text it adds the Coal Barge count of one Pine Harbor multiplied by the Crate count of one Coal Barge and the Mail Clipper count of one Pine Harbor multiplied by the Crate count of one Mail Clipper. w = a * b + c * d = 3 * 4 + 5 * 8 = 12 + 5 * 8 = 12 + 40 = 52.
So the Crate count of one Pine Harbor is 52.
</think>
<answer>
The answer is \boxed{52}.
</answer>";

struct Example {
    vocabulary: std::sync::Arc<Vocabulary>,
    solution: Solution,
}

impl Example {
    fn new() -> Self {
        let vocabulary = Vocabulary::builtin(VocabularyKind::Standard).unwrap();
        let parsed = ParsedProblem::parse(EXAMPLE, &vocabulary).unwrap();
        Example { solution: Solution::new(&parsed, None).unwrap(), vocabulary }
    }

    fn verify(&self, response: &str) -> Report {
        StepVerifier::new(&self.solution, &self.vocabulary).verify(response)
    }
}

#[test]
fn the_worked_example_is_right() {
    let example = Example::new();
    let report = example.verify(SOLUTION);
    assert_eq!(report.first_error(), None);
    assert!(report.process_correct() && report.final_correct());
    assert_eq!((report.lines().len(), report.steps().count()), (11, 8));
    assert_eq!(report.reflective_share(), 1.0 / 8.0);
    assert_eq!(report.correct_share(), 1.0);
    // The prompt may end with the opening tag.
    assert!(example.verify(SOLUTION.strip_prefix("<think>").unwrap()).process_correct());
}

/// Changes of [`SOLUTION`]: the first finding, its place among opening (0), steps (1 to 8), closing (9) and box (10), and what
/// is replaced by what; `\n` is the end of a line.
const CHANGES: &str = r#"
# Wording that is not in the grammar.
Parse 1: Call it k. -> Name it k.
Parse 1: k = 4.\n -> k = 4\n
Parse 2: b = k = 4. -> b = k.
Parse 2: b = k = 4. -> b = 4 = k.
Parse 7: 1 + 4 = 5. -> 1 + (4 = 5.
Parse 6: Harbor is unknown -> Harbor are unknown
Parse 0: We look for -> We search for
Parse 9: So the Crate -> Thus the Crate
Parse 9: is 52.\n</think> -> is 52.\n
Parse 10: is 52.\n</think> -> is 52.\nDone.\n</think>
Parse 4: - Let d be -> Let d be
Parse 8: w = a * b + c -> w = a * b ++ c
# Not in the problem: no such name, no such pair.
UnknownParameter 2: the Crate count of one Coal Barge, call -> the Crate count of one Moon Barge, call
UnknownParameter 3: the Tea Crate count of one Mail Clipper as -> the Cocoa Crate count of one Mail Clipper as
# A letter twice, a letter changed, a reminder of nothing.
LetterClash 4: Let d be the Crate count of one Mail Clipper. d = m -> Let k be the Crate count of one Mail Clipper. k = m
LetterClash 4: d = m = 8. -> e = m = 8.
LetterClash 8: It is already called w -> It is already called v
LetterClash 8: Now turn to the Crate count of one Pine Harbor. It is already called w. By -> Let v be the Crate count of one Pine Harbor. By
LetterClash 2: Next is the Crate count of one Coal Barge, call it b. -> Next is the Crate count of one Coal Barge. It is already called b.
LetterClash 6: so far, w has -> so far, x has
# A letter without a value.
UndefinedLetter 3: m = 2 * k = 2 * 4 -> m = 2 * z = 2 * 4
UndefinedLetter 2: b = k = 4. -> b = w = 4.
# Other quantities than the definition's.
WrongDependencies 4: d = m = 8. -> d = m + k = 8 + 4 = 12.
WrongDependencies 4: d = m = 8. -> d = k = 4.
WrongDependencies 4: d = m = 8. -> d = 8.
WrongDependencies 8: w = a * b + c * d = 3 * 4 + 5 * 8 = 12 + 5 * 8 = 12 + 40 = 52 -> w = a * b = 3 * 4 = 12
WrongDependencies 5: a = 3. -> a = k = 4.
WrongDependencies 7: it is 1 plus the Tea Crate count of one Coal Barge. -> it is 1 plus the Tea Crate count of one Mail Clipper.
# The right quantities in another expression.
WrongExpression 3: m = 2 * k = 2 * 4 = 8. -> m = 3 * k = 3 * 4 = 12.
WrongExpression 3: m = 2 * k = 2 * 4 = 8. -> m = 2 + k = 2 + 4 = 6.
WrongExpression 7: c = 1 + k = 1 + 4 = 5. -> c = 1 - k = 1 - 4 = -3.
WrongExpression 5: is 3. Write a for it. a = 3. -> is 6. Write a for it. a = 6.
WrongExpression 7: it is 1 plus the -> it is 1 multiplied by the
WrongDependencies 8: Harbor multiplied by the Crate count of one Coal Barge and the Mail -> Harbor multiplied by the Crate count of one Mail Clipper and the Mail
# Numbers that are not the letters' values.
WrongSubstitution 3: m = 2 * k = 2 * 4 = 8. -> m = 2 * k = 2 * 5 = 10.
WrongSubstitution 3: m = 2 * k = 2 * 4 = 8. -> m = 2 * k = 4 * 2 = 8.
WrongSubstitution 2: b = k = 4. -> b = k = 5.
# A false equality.
WrongArithmetic 3: m = 2 * k = 2 * 4 = 8. -> m = 2 * k = 2 * 4 = 9.
WrongArithmetic 8: = 12 + 40 = 52 -> = 12 + 41 = 53
WrongArithmetic 8: = 12 + 40 = 52 -> = 13 + 40 = 52
WrongArithmetic 5: Write a for it. a = 3. -> Write a for it. a = 4.
WrongArithmetic 3: m = 2 * k = 2 * 4 = 8. -> m = 2 * k = 9.
# Said to wait although it need not, for other reasons than the true ones.
FalseLocked 6: Since the Mail Clipper count of one Pine Harbor is -> Since the Coal Barge count of one Pine Harbor is
FalseLocked 6: Since the Mail Clipper count of one Pine Harbor is -> Since the Mail Clipper count of one Pine Harbor and the Mail Clipper count of one Pine Harbor are
FalseLocked 2: b = k = 4. -> Without the Tea Crate count of one Coal Barge there is no way to get b yet.
FalseLocked 5: a = 3. -> This needs the Tea Crate count of one Coal Barge first so a has to wait.
# Computed twice.
Resolved 4: - Let d -> - Let b be the Crate count of one Coal Barge. b = k = 4.\n- Let d
# Not the query, not its value, never computed.
WrongTarget 9: So the Crate count of one Pine Harbor is 52 -> So the Crate count of one Pine Harbor is 51
WrongTarget 9: So the Crate count of one Pine Harbor -> So the Ship count of one Pine Harbor
WrongTarget 0: We look for the Crate -> We look for the Ship
BoxMismatch 10: boxed{52} -> boxed{51}
BoxMismatch 10: \boxed{52} -> 52
BoxMismatch 10: {52}.\n</answer> -> {52}.
"#;

/// The rows of [`CHANGES`].
fn changes() -> impl Iterator<Item = (&'static str, usize, String, String)> {
    CHANGES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
        let (finding, change) = line.split_once(": ").unwrap();
        let ((class, place), (from, to)) = (finding.split_once(' ').unwrap(), change.split_once(" -> ").unwrap());
        (class, place.parse().unwrap(), from.replace("\\n", "\n"), to.replace("\\n", "\n"))
    })
}

#[test]
fn every_class_is_found() {
    use ErrorClass::*;
    let example = Example::new();
    let mut found = BTreeMap::new();
    for (class, place, from, to) in changes() {
        assert!(SOLUTION.contains(from.as_str()), "{from}");
        let report = example.verify(&SOLUTION.replacen(&from, &to, 1));
        let first = report.first_error().map(|(place, error)| (error.class(), place));
        let (first, at) = first.unwrap_or_else(|| panic!("nothing found: {from:?} -> {to:?}"));
        assert_eq!((format!("{first:?}").as_str(), at), (class, place), "{from:?} -> {to:?}");
        assert!(!report.process_correct());
        *found.entry(first).or_insert(0) += 1;
    }
    // A wrong value that later lines use rightly is passed on, not repeated.
    let wrong = SOLUTION
        .replace("m = 2 * k = 2 * 4 = 8.", "m = 2 * k = 2 * 4 = 9.")
        .replace("d = m = 8.", "d = m = 9.")
        .replace("3 * 4 + 5 * 8 = 12 + 5 * 8 = 12 + 40 = 52", "3 * 4 + 5 * 9 = 12 + 45 = 57")
        .replace("Harbor is 52", "Harbor is 57")
        .replace("boxed{52}", "boxed{57}");
    let classes: Vec<_> = example.verify(&wrong).lines().iter().map(|line| line.class()).collect();
    let expected =
        [None, None, None, Some(WrongArithmetic), Some(WrongValue), None, None, None, Some(WrongValue), None, None];
    assert_eq!(classes, expected);
    found.insert(WrongValue, 1);
    // What the query does not need is flagged, and is no error.
    let more = SOLUTION.replace(
        "- Now turn to",
        "- Let s be the Ship count of one Pine Harbor. s = a + c = 3 + 5 = 8.\n- Now turn to",
    );
    let report = example.verify(&more);
    assert!(report.process_correct());
    assert_eq!(report.lines()[8].class(), Some(Unnecessary));
    assert_eq!(report.unnecessary_share(), 1.0 / 9.0);
    found.insert(Unnecessary, 1);
    assert!(found.keys().copied().eq(ErrorClass::ALL), "{found:?}");
}

#[test]
fn dependencies_too_many_and_too_few_are_told_apart() {
    let example = Example::new();
    let report = example.verify(&SOLUTION.replace("d = m = 8.", "d = k = 4."));
    let Some((4, StepError::WrongDependencies { missing, extra })) = report.first_error() else { panic!() };
    let name = |reference: &Reference| {
        (example.vocabulary.name(reference.thing), example.vocabulary.name(reference.container))
    };
    assert_eq!(missing.iter().map(name).collect::<Vec<_>>(), [("Tea Crate", "Mail Clipper")]);
    assert_eq!(extra.iter().map(name).collect::<Vec<_>>(), [("Tea Crate", "Coal Barge")]);
}

/// P30: random mutations of generated solutions are found, with a class that fits.
#[test]
fn mutations_of_generated_solutions_are_found() {
    use ErrorClass::*;
    let caught = Mutex::new(BTreeSet::new());
    for_problems(&ProblemConfig::range(5, 30), 51, tier(150, 100_000), |problem| {
        let (_, solution) = solved(&problem);
        let verifier = StepVerifier::new(&solution, problem.vocabulary());
        let response = problem.response(&TraceConfig::BRIDGE, 0);
        let mut draw = 0;
        let key = RandomKey::new(51, "test/mutation").at(problem.index());
        let mut below = |bound: usize| {
            draw += 1;
            key.below(draw, bound as u64) as usize
        };
        let lines: Vec<String> = response.lines().map(str::to_string).collect();
        let steps: Vec<usize> = (0..lines.len()).filter(|&place| lines[place].starts_with("- ")).collect();
        let judge = |name: &'static str, lines: &[String], allowed: &[ErrorClass]| {
            let text = lines.join("\n");
            let report = verifier.verify(&text);
            let Some((_, error)) = report.first_error() else { panic!("{name}: nothing found in\n{text}") };
            assert!(allowed.contains(&error.class()), "{name}: {error:?} in\n{text}");
            caught.lock().unwrap().insert((name, error.class()));
        };

        // One digit of the equations of a line.
        let place = steps[below(steps.len())];
        let equation = lines[place].rfind(". ").unwrap() + 2;
        let digits: Vec<usize> =
            lines[place].char_indices().skip(equation).filter(|(_, c)| c.is_ascii_digit()).map(|(at, _)| at).collect();
        // A factor of zero hides what it multiplies.
        let hidden = lines[place].contains("* 0") || lines[place].contains(" 0 *");
        if !digits.is_empty() && !hidden {
            let at = digits[below(digits.len())];
            let old = lines[place].as_bytes()[at] - b'0';
            let new = (usize::from(old) + 1 + below(9)) % 10;
            let mut changed = lines.clone();
            changed[place].replace_range(at..=at, &new.to_string());
            judge("digit", &changed, &[WrongExpression, WrongSubstitution, WrongArithmetic]);
        }
        // A quantity that is needed is never computed: one of its consumers is the first to notice.
        let computed: Vec<usize> = steps.iter().copied().filter(|&place| lines[place].contains(" = ")).collect();
        let necessary = solution.necessary();
        let report = verifier.verify(&response);
        let needed: Vec<usize> = computed
            .iter()
            .copied()
            .filter(|&place| {
                let at = steps.iter().position(|&other| other == place).unwrap();
                necessary.contains(&report.steps().nth(at).unwrap().reference.unwrap())
            })
            .collect();
        let place = needed[below(needed.len())];
        let mut changed = lines.clone();
        changed.remove(place);
        judge("drop", &changed, &[UndefinedLetter, FalseLocked, WrongTarget]);
        // A line trades places with the first one that uses it.
        let letter = lines[place].split(" = ").next().unwrap().chars().last().unwrap();
        let user = (place + 1..lines.len()).find(|&later| {
            let symbols = lines[later].split(" = ").nth(1).unwrap_or("");
            let is_locked = !lines[later].contains(" = ");
            !is_locked && symbols.split([' ', '(', ')']).any(|token| token == letter.to_string())
        });
        if let Some(user) = user {
            let mut changed = lines.clone();
            changed.swap(place, user);
            judge("swap", &changed, &[UndefinedLetter, FalseLocked, LetterClash]);
        }
        // The letter on the left of an equation.
        let mut changed = lines.clone();
        let at = changed[place].find(" = ").unwrap() - 1;
        let other = if letter == 'q' { "r" } else { "q" };
        changed[place].replace_range(at..=at, other);
        judge("letter", &changed, &[LetterClash]);
        // Both results agree with each other and not with the last line.
        let changed: Vec<String> = lines
            .iter()
            .map(|line| {
                let end = line.starts_with("So ") || line.starts_with("The answer");
                let wrong = format!("{}", problem.final_answer() + 1);
                if end { line.replacen(&problem.final_answer().to_string(), &wrong, 1) } else { line.clone() }
            })
            .collect();
        judge("result", &changed, &[WrongTarget]);
        // A line computed twice.
        let mut changed = lines.clone();
        changed.insert(place + 1, lines[place].clone());
        judge("repeat", &changed, &[Resolved, LetterClash]);
        // A line cut short.
        let mut changed = lines.clone();
        changed[place].pop();
        judge("cut", &changed, &[Parse]);
    });
    let caught = caught.into_inner().unwrap();
    let kinds: BTreeSet<&str> = caught.iter().map(|(name, _)| *name).collect();
    assert_eq!(kinds.len(), 7, "{caught:?}");
}

/// Text made of pieces of solutions, problems and junk.
fn hostile(key: RandomKey, pieces: &[&str]) -> String {
    let count = key.below(0, 40);
    (0..count).map(|place| pieces[key.below(1 + place, pieces.len() as u64) as usize]).collect()
}

#[test]
fn hostile_text_is_judged_like_any_other() {
    let example = Example::new();
    let mut pieces: Vec<&str> = SOLUTION.split_inclusive([' ', '\n']).collect();
    pieces.extend(EXAMPLE.split_inclusive(' '));
    pieces.extend([
        "\0",
        "\u{202e}",
        "é",
        "𝟜",
        "٣",
        "\r\n",
        "\t",
        "(",
        ")",
        "((((((((((",
        "-",
        "--",
        "-5",
        " = ",
        "= = ",
        "+",
        " * ",
        "170141183460469231731687303715884105727",
        "99999999999999999999999999999999999999999999",
        "\\boxed{",
        "}",
        "{",
        "\\boxed{52}",
        "<think>",
        "</think>",
        "<answer>",
        "</answer>",
        "- ",
        "\n- ",
        "a",
        "Z",
        ".",
        ",",
        "?",
        "<<",
        ">>",
    ]);
    let vocabulary = &example.vocabulary;
    let mut config = IgsmConfig {
        problems: ProblemConfig::default(),
        extraction: Extraction::Robust,
        reward: RewardTable { correct: 1.0, wrong_answer: -0.5, no_answer: -1.0, format: 0.05 },
    };
    let mut envs = Vec::new();
    for extraction in [Extraction::Strict, Extraction::Robust] {
        config.extraction = extraction;
        envs.push(Igsm::new(&config).unwrap());
    }
    let mut slowest = Duration::ZERO;
    for index in 0..tier(20_000, 1_000_000) {
        let text = hostile(RandomKey::new(61, "test/hostile").at(index), &pieces);
        let start = Instant::now();
        let report = example.verify(&text);
        let parsed = ParsedProblem::parse(&text, vocabulary).ok();
        let _ = parsed.map(|parsed| Solution::new(&parsed, None).map(|solution| solution.answer()));
        let env = &mut envs[index as usize % 2];
        env.reset(61, 0).unwrap();
        let step = env.step(&text).unwrap();
        assert!(step.terminated && step.feedback.is_none() && step.reward.is_finite());
        slowest = slowest.max(start.elapsed());
        assert!(!report.process_correct(), "{text}");
    }
    println!("slowest of the small texts: {slowest:?}");
    assert!(slowest < TIME_LIMIT);
}

#[test]
fn megabytes_are_read_in_bounded_time() {
    let example = Example::new();
    let long = |piece: &str| piece.repeat(1_000_000 / piece.len());
    let think = |body: String| format!("<think>\nWe look for the Crate count of one Pine Harbor.\n- {body}\n</think>");
    let texts = [
        long("("),
        long(")"),
        long("9"),
        long("\0"),
        long("é"),
        long("\u{202e}"),
        long(" "),
        long("\n- "),
        long("<think>"),
        long("</think>"),
        long("</think><answer>"),
        long("<answer>\\boxed{1}</answer>"),
        long("\\boxed{"),
        long("\\boxed{1}"),
        long("}"),
        long("{\"a\":["),
        think(format!("As stated, the Tea Crate count of one Coal Barge is 4. Call it k. k = {}4.", long("("))),
        think(format!("As stated, the Tea Crate count of one Coal Barge is 4. Call it k. k = {}4.", long("1 + "))),
        think(format!("As stated, the Tea Crate count of one Coal Barge is 4. Call it k. k = {}4.", long("9 * "))),
        think(format!("As stated, the Tea Crate count of one Coal Barge is 4. Call it k. k = {}4.", long("4 = "))),
        think(format!("As stated, the Tea Crate count of one Coal Barge is {}4.", long("0"))),
        think(long("Next is the Tea Crate count of one Coal Barge. Call it k. k = 4.\n- ")),
        think(format!("Next is the {} count of one Coal Barge.", long("Tea Crate "))),
        format!(
            "In one Coal Barge, the Tea Crate count is the total of {}",
            long("the Tea Crate count of one Coal Barge, ")
        ),
        long("In one Coal Barge, the Tea Crate count is 4.\n"),
        SOLUTION.replace("52", &long("52")),
    ];
    let mut slowest = (Duration::ZERO, 0);
    for (place, text) in texts.iter().enumerate() {
        let start = Instant::now();
        assert!(!example.verify(text).process_correct());
        assert!(ParsedProblem::parse(text, &example.vocabulary).is_err());
        for extraction in [Extraction::Strict, Extraction::Robust] {
            let _ = (extraction.extract(text), extraction.has_format(text));
        }
        slowest = slowest.max((start.elapsed(), place));
    }
    println!("slowest megabyte: {slowest:?}");
    assert!(slowest.0 < TIME_LIMIT, "{slowest:?}");
}

/// A text that is no solution at all has findings and no steps.
#[test]
fn an_empty_response_is_wrong() {
    let report = Example::new().verify("");
    let kinds: Vec<LineKind> = report.lines().iter().map(|line| line.kind).collect();
    assert_eq!(kinds, [LineKind::Opening, LineKind::Closing, LineKind::Answer]);
    assert!(report.lines().iter().all(|line| line.error.is_some()));
    assert_eq!((report.correct_share(), report.unnecessary_share(), report.reflective_share()), (0.0, 0.0, 0.0));
}
