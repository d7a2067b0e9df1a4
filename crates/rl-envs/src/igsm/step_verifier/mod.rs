//! Judges a solution line by line, against what follows from the text of the problem.
//!
//! Every line is read by the grammar of [`super::trace`], and is checked against the problem and against what the solution
//! itself has said so far: a wrong value early on is one error, and lines that use it correctly are marked as propagating
//! it. [`report`] is what comes out.

mod expression;
mod line;
pub mod report;

use std::collections::{BTreeMap, BTreeSet};

use rl_core::random::RandomKey;

use super::extract::{Extracted, Extraction};
use super::formula::{Formula, Reference};
use super::lexer::Unexpected;
use super::parse::{RawReference, resolve};
use super::solve::{Derivation, Solution};
use super::vocabulary::Vocabulary;
use expression::Expression;
use line::{Info, Line, LineEnd};
pub use report::{ErrorClass, LineKind, LineReport, Report, StepError};

/// Random values tried to tell two expressions apart.
const TRIALS: u64 = 3;

/// Judges solutions of one problem.
#[derive(Debug, Clone)]
pub struct StepVerifier<'p> {
    solution: &'p Solution,
    vocabulary: &'p Vocabulary,
    necessary: BTreeSet<Reference>,
    order: Vec<Reference>,
}

impl<'p> StepVerifier<'p> {
    /// For the problem that `solution` solves, with the names of `vocabulary`.
    pub fn new(solution: &'p Solution, vocabulary: &'p Vocabulary) -> Self {
        StepVerifier { solution, vocabulary, necessary: solution.necessary(), order: Vec::new() }
    }

    /// Counts lines that compute something while an earlier quantity of `order` waits.
    pub fn with_order(self, order: impl IntoIterator<Item = Reference>) -> Self {
        StepVerifier { order: order.into_iter().collect(), ..self }
    }

    /// Judges `response`, with or without the `<think>` that the prompt may end with.
    pub fn verify(&self, response: &str) -> Report {
        let body = response.trim_start();
        let body = body.strip_prefix("<think>").unwrap_or(body);
        let (thoughts, closed) = match body.split_once("</think>") {
            Some((thoughts, _)) => (thoughts, true),
            None => (body, false),
        };
        let mut state = State::default();
        let mut lines = Vec::new();
        let mut open = thoughts.lines().filter(|line| !line.trim().is_empty()).peekable();
        let opening = open.next().unwrap_or("");
        lines.push(LineReport::plain(LineKind::Opening, self.check_opening(opening)));
        while let Some(text) = open.next_if(|text| text.starts_with("- ")) {
            lines.push(self.check_line(&text[2..], &mut state));
        }
        let mut closing_value = None;
        let closing = match open.next() {
            Some(text) if closed => self.check_closing(text, &state, &mut closing_value),
            _ => missing("a closing line and </think>"),
        };
        lines.push(LineReport::plain(LineKind::Closing, closing));
        for _ in open {
            lines.push(LineReport::plain(LineKind::Closing, missing("nothing after the closing line")));
        }
        let boxed = match Extraction::Robust.extract(response) {
            Extracted::Number(number) => Some(number),
            Extracted::Nothing | Extracted::Text(_) => None,
        };
        let mismatch = (boxed.is_none() || boxed != closing_value).then_some(StepError::BoxMismatch);
        lines.push(LineReport::plain(LineKind::Answer, mismatch));
        Report::new(lines, boxed == Some(self.solution.answer()))
    }

    fn check_opening(&self, text: &str) -> Option<StepError> {
        let found = line::opening(text).map_err(StepError::from).and_then(|raw| self.resolve(raw));
        match found {
            Ok(target) => (target != self.solution.query()).then_some(StepError::WrongTarget),
            Err(error) => Some(error),
        }
    }

    fn check_closing(&self, text: &str, state: &State, value: &mut Option<i128>) -> Option<StepError> {
        let found = line::closing(text).map_err(StepError::from);
        let resolved = found.and_then(|(raw, number)| Ok((self.resolve(raw)?, number)));
        match resolved {
            Ok((target, number)) => {
                *value = Some(number);
                let right = target == self.solution.query() && state.stated.get(&target) == Some(&number);
                (!right).then_some(StepError::WrongTarget)
            }
            Err(error) => Some(error),
        }
    }

    fn check_line(&self, text: &str, state: &mut State) -> LineReport {
        let line = match line::line(text) {
            Ok(line) => line,
            Err(unexpected) => return LineReport::plain(LineKind::Unreadable, Some(unexpected.into())),
        };
        let kind = match (&line.end, line.fact) {
            (LineEnd::Locked { .. }, _) => LineKind::Locked,
            (LineEnd::Solve { .. }, Some(_)) => LineKind::Fact,
            (LineEnd::Solve { .. }, None) => LineKind::Solve,
        };
        let mut report = LineReport::plain(kind, None);
        let known = self.resolve(line.reference).and_then(|reference| match self.solution.derivation(reference) {
            Some(derivation) if self.solution.value(reference).is_some() => Ok((reference, derivation)),
            _ => Err(unknown(line.reference)),
        });
        let (reference, derivation) = match known {
            Ok(known) => known,
            Err(error) => {
                report.error = Some(error);
                return report;
            }
        };
        report.reference = Some(reference);
        report.error = self.check_known(&line, reference, derivation, state).err();
        if kind != LineKind::Locked {
            report.unnecessary = !self.necessary.contains(&reference);
            report.out_of_turn = self.is_out_of_turn(reference, state);
        }
        state.learn(&line, reference);
        report
    }

    fn is_out_of_turn(&self, reference: Reference, state: &State) -> bool {
        let earlier = self.order.iter().take_while(|&&other| other != reference);
        self.order.contains(&reference) && earlier.into_iter().any(|other| !state.stated.contains_key(other))
    }

    fn check_known(
        &self,
        line: &Line<'_>,
        reference: Reference,
        derivation: &Derivation,
        state: &State,
    ) -> Result<(), StepError> {
        state.check_letter(line, reference)?;
        if let Some(info) = &line.info {
            self.check_info(info, derivation)?;
        }
        let parents = derivation.parents();
        match &line.end {
            LineEnd::Locked { unknown, .. } => {
                let mut named = BTreeSet::new();
                for &raw in unknown {
                    named.insert(self.resolve(raw)?);
                }
                let unsolved: BTreeSet<Reference> =
                    parents.into_iter().filter(|parent| !state.stated.contains_key(parent)).collect();
                let right = !unsolved.is_empty() && named == unsolved && named.len() == unknown.len();
                if right && line.fact.is_none() { Ok(()) } else { Err(StepError::FalseLocked) }
            }
            LineEnd::Solve { symbolic, numeric, value, .. } => {
                if state.stated.contains_key(&reference) {
                    return Err(StepError::Resolved);
                }
                let chain = Chain { symbolic: symbolic.as_ref(), numeric, value: *value };
                self.check_chain(&chain, line.fact, derivation, state)?;
                let right = self.solution.value(reference) == Some(*value);
                if right { Ok(()) } else { Err(StepError::WrongValue) }
            }
        }
    }

    fn check_info(&self, info: &Info<'_>, derivation: &Derivation) -> Result<(), StepError> {
        let restated = match info {
            Info::Formula(formula) => Derivation::Stated(formula.try_map(|&raw| self.resolve(raw))?),
            Info::Total(terms) => {
                let mut resolved = Vec::with_capacity(terms.len());
                for &(count, held) in terms {
                    resolved.push((self.resolve(count)?, held.map(|raw| self.resolve(raw)).transpose()?));
                }
                Derivation::Total(resolved)
            }
        };
        let (truth, found) = (derivation.parents(), restated.parents());
        compare_sets(&truth, &found)?;
        same_function(&truth, derivation, |value| restated.evaluate(None, value))
    }

    /// Dependencies, expression, substitution and arithmetic, in this order.
    fn check_chain(
        &self,
        chain: &Chain<'_>,
        fact: Option<i128>,
        derivation: &Derivation,
        state: &State,
    ) -> Result<(), StepError> {
        let modulus = self.solution.modulus();
        let reduced = |number: i128| modulus.map_or(number, |modulus| number.rem_euclid(i128::from(modulus)));
        let mut used = BTreeSet::new();
        for letter in chain.symbolic.map(Expression::letters).unwrap_or_default() {
            let owner = state.owners.get(&letter).filter(|owner| state.stated.contains_key(owner));
            used.insert(*owner.ok_or(StepError::UndefinedLetter { letter: char::from(letter) })?);
        }
        let parents = derivation.parents();
        compare_sets(&parents, &used)?;
        if fact.is_some() && !parents.is_empty() {
            return Err(StepError::WrongDependencies { missing: parents.into_iter().collect(), extra: Vec::new() });
        }
        // The value a link has, reduced; `None` for one that does not fit 128 bits.
        let link = |expression: &Expression| expression.evaluate(&|_| None).map(reduced);
        let expected = match chain.symbolic {
            Some(symbolic) => {
                let owned = |letter: u8| state.owners.get(&letter).copied();
                same_function(&parents, derivation, |value| symbolic.evaluate(&|letter| value(&owned(letter)?)))?;
                let stated = |letter: u8| state.stated.get(&owned(letter)?).copied();
                let expected = symbolic.substitute(&stated).ok_or(StepError::WrongSubstitution)?;
                let single = expected.as_number();
                let matches = match chain.numeric.first() {
                    Some(first) => *first == expected,
                    None => single.is_none_or(|number| reduced(number) == chain.value),
                };
                if !matches {
                    return Err(StepError::WrongSubstitution);
                }
                link(&expected)
            }
            None => {
                let Derivation::Stated(Formula::Constant(constant)) = derivation else {
                    return Err(StepError::WrongExpression);
                };
                let first =
                    fact.map(reduced).or_else(|| chain.numeric.first().map_or(Some(reduced(chain.value)), link));
                if first != Some(reduced(*constant)) {
                    return Err(StepError::WrongExpression);
                }
                first
            }
        };
        let equal = |value: Option<i128>| value.is_some() && value == expected;
        let right = chain.numeric.iter().map(link).all(equal) && equal(Some(reduced(chain.value)));
        if right { Ok(()) } else { Err(StepError::WrongArithmetic) }
    }

    fn resolve(&self, raw: RawReference<'_>) -> Result<Reference, StepError> {
        resolve(raw, self.vocabulary).map_err(|_| unknown(raw))
    }
}

struct Chain<'l> {
    symbolic: Option<&'l Expression>,
    numeric: &'l [Expression],
    value: i128,
}

/// What the solution has said so far.
#[derive(Debug, Default)]
struct State {
    letters: BTreeMap<Reference, u8>,
    owners: BTreeMap<u8, Reference>,
    stated: BTreeMap<Reference, i128>,
}

impl State {
    fn check_letter(&self, line: &Line<'_>, reference: Reference) -> Result<(), StepError> {
        let (LineEnd::Solve { letter, .. } | LineEnd::Locked { letter, .. }) = &line.end;
        let before = self.letters.get(&reference);
        let other_owner = self.owners.get(&line.letter).is_some_and(|owner| *owner != reference);
        let renamed = before.is_some_and(|&before| before != line.letter);
        let not_named = line.reminded && before.is_none();
        if *letter != line.letter || other_owner || renamed || not_named {
            return Err(StepError::LetterClash { letter: char::from(line.letter) });
        }
        Ok(())
    }

    /// First words count: a later clash changes neither letters nor values.
    fn learn(&mut self, line: &Line<'_>, reference: Reference) {
        if !self.letters.contains_key(&reference) && !self.owners.contains_key(&line.letter) {
            self.letters.insert(reference, line.letter);
            self.owners.insert(line.letter, reference);
        }
        if let LineEnd::Solve { value, .. } = line.end {
            self.stated.entry(reference).or_insert(value);
        }
    }
}

impl From<Unexpected> for StepError {
    fn from(unexpected: Unexpected) -> Self {
        StepError::Parse { position: unexpected.position, expected: unexpected.expected }
    }
}

fn missing(expected: &'static str) -> Option<StepError> {
    Some(StepError::Parse { position: 0, expected })
}

fn unknown(raw: RawReference<'_>) -> StepError {
    StepError::UnknownParameter { thing: raw.thing.to_string(), container: raw.container.to_string() }
}

fn compare_sets(truth: &BTreeSet<Reference>, found: &BTreeSet<Reference>) -> Result<(), StepError> {
    if truth == found {
        return Ok(());
    }
    Err(StepError::WrongDependencies {
        missing: truth.difference(found).copied().collect(),
        extra: found.difference(truth).copied().collect(),
    })
}

/// Whether `derivation` and `other` agree on random values of `parents`.
fn same_function(
    parents: &BTreeSet<Reference>,
    derivation: &Derivation,
    other: impl Fn(&dyn Fn(&Reference) -> Option<i128>) -> Option<i128>,
) -> Result<(), StepError> {
    for trial in 0..TRIALS {
        let key = RandomKey::new(trial, "igsm/substitution");
        let values: BTreeMap<Reference, i128> = parents
            .iter()
            .zip(0..)
            .map(|(&parent, place)| (parent, i128::from(key.below(place, 2001)) - 1000))
            .collect();
        let value = |reference: &Reference| values.get(reference).copied();
        let truth = derivation.evaluate(None, value);
        if truth.is_none() || truth != other(&value) {
            return Err(StepError::WrongExpression);
        }
    }
    Ok(())
}
