//! Grades the left side of a formula: characters, grammar, numbers, value. Prices come from the reward table.
//!
//! A grade is small and allocates nothing; its message is built only when somebody wants to read it.

use std::borrow::Cow;
use std::sync::Arc;

use super::answer::Answer;
use super::config::{GeneralPointsConfig, RewardMode, RewardTable, VisionConfig};
use super::deck::Hand;
use super::expression::{Number, Token, evaluate, tokens};
use super::outcome::Outcome;
use super::rational::Rational;
use super::solver::MAX_LISTED;
use super::table::{SolutionTable, Values};
use crate::price::{Combination, Prices};

/// A violation the verifier looks for, in the order of its messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    MissingFormula,
    IllegalCharacters,
    NumberPlace,
    OperatorPlace,
    OpenPlace,
    ClosePlace,
    UnmatchedClose,
    UnclosedOpen,
    InvalidNumbers,
    OverusedNumbers,
    UnusedNumbers,
}

const NUM_FAULTS: usize = Fault::UnusedNumbers as usize + 1;

/// How often each fault was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Faults([u32; NUM_FAULTS]);

impl Faults {
    fn add(&mut self, fault: Fault) {
        let count = &mut self.0[fault as usize];
        *count = count.saturating_add(1);
    }

    fn count(&self, fault: Fault) -> u32 {
        self.0[fault as usize]
    }

    fn has(&self, fault: Fault) -> bool {
        self.count(fault) > 0
    }

    /// Violations that each cost the price of an illegal formula.
    fn illegal(&self) -> u32 {
        self.0[..Fault::InvalidNumbers as usize].iter().fold(0, |sum, &count| sum.saturating_add(count))
    }

    /// Penalties for numbers: one for wrong or overused ones together, one for unused ones.
    fn number_penalties(&self) -> u32 {
        u32::from(self.has(Fault::InvalidNumbers) || self.has(Fault::OverusedNumbers))
            + u32::from(self.has(Fault::UnusedNumbers))
    }
}

/// The grade of one attempt.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// What happened.
    pub outcome: Outcome,
    /// Its price; with additive rewards the sum over all violations.
    pub reward: f64,
    /// Whether the formula solves the hand.
    pub success: bool,
    faults: Faults,
}

/// Grades formulas against hands.
#[derive(Debug, Clone)]
pub struct Verifier {
    table: Arc<SolutionTable>,
    mode: RewardMode,
    prices: RewardTable,
    vision: Option<VisionConfig>,
    legacy_unclosed_bracket: bool,
    legacy_float: bool,
    legacy_extra_step: bool,
}

impl Verifier {
    /// The verifier of `config`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when a value is out of range.
    pub fn new(config: &GeneralPointsConfig) -> crate::Result<Self> {
        config.validate()?;
        Ok(Verifier {
            table: SolutionTable::shared(config.target),
            mode: config.reward.mode,
            prices: config.reward.table(),
            vision: config.vision.clone(),
            legacy_extra_step: config.legacy_extra_step,
            legacy_unclosed_bracket: config.legacy_unclosed_bracket,
            legacy_float: config.legacy_float,
        })
    }

    /// Grades an answer to `hand`: in the visual variant first the cards that it names, then the formula.
    pub fn grade_answer(&self, answer: &Answer, hand: &Hand) -> Verdict {
        match &self.vision {
            None => {}
            Some(_) if !names_the_cards(answer, hand) => return self.without_faults(Outcome::IncorrectVision),
            Some(vision) if vision.recognition_only => return self.without_faults(Outcome::CardsRecognized),
            Some(_) => {}
        }
        self.grade(answer.left_side(), hand.values())
    }

    /// What the outcomes are worth.
    pub fn prices(&self) -> Prices {
        let table = &self.prices;
        let single = self.mode != RewardMode::Additive
            && !self.legacy_float
            // Otherwise the most severe of several violations is not always the one that names the outcome.
            && table.illegal_formula <= table.incorrect_number;
        Prices {
            outcomes: Outcome::ALL.iter().map(|outcome| (outcome.label(), outcome.price(table))).collect(),
            truncation: if self.legacy_extra_step { 0.0 } else { table.attempt_limit },
            combination: if single { Combination::Single } else { Combination::Sum },
        }
    }

    /// Grades `left_side`, the formula before its `=`; `None` is a missing formula.
    pub fn grade(&self, left_side: Option<&str>, hand: Values) -> Verdict {
        let Some(left_side) = left_side else {
            let mut faults = Faults::default();
            faults.add(Fault::MissingFormula);
            return self.violation(faults);
        };
        let formula = self.tidy(left_side);
        let faults = self.find_faults(&formula, hand);
        if faults == Faults::default() { self.grade_value(&formula, hand) } else { self.violation(faults) }
    }

    /// What to tell the policy about `verdict`, which is the grade of `left_side` for `hand`: reasons joined by
    /// commas, closed by a full stop.
    pub fn message(&self, verdict: &Verdict, left_side: Option<&str>, hand: Values) -> String {
        let formula = self.tidy(left_side.unwrap_or(""));
        let mut reasons: Vec<String> = Vec::new();
        let faults = verdict.faults;
        for (fault, text) in [
            (Fault::MissingFormula, "no formula was found"),
            (Fault::IllegalCharacters, "the formula has illegal characters"),
            (Fault::NumberPlace, "invalid sequence at a number"),
            (Fault::OperatorPlace, "invalid sequence at an operator"),
            (Fault::OpenPlace, "invalid sequence before an open bracket"),
            (Fault::ClosePlace, "invalid sequence before a close bracket"),
            (Fault::UnmatchedClose, "a close bracket has no open bracket"),
            (Fault::UnclosedOpen, "an open bracket is never closed"),
        ] {
            if faults.has(fault) {
                reasons.push(text.to_string());
            }
        }
        let numbers = NumberUse::count(&formula, hand);
        for (fault, text, list) in [
            (Fault::InvalidNumbers, "these numbers are not in the hand", &numbers.invalid),
            (Fault::OverusedNumbers, "these numbers are used too often", &numbers.overused),
            (Fault::UnusedNumbers, "these numbers are not used", &numbers.unused),
        ] {
            if faults.has(fault) {
                reasons.push(format!("{text}: [{}]", list.0.join(", ")));
            }
        }
        match verdict.outcome {
            Outcome::Correct => reasons.push("the formula is correct".to_string()),
            Outcome::IncorrectVision => reasons.push("the cards are not those in the picture".to_string()),
            Outcome::CardsRecognized => reasons.push("the cards are those in the picture".to_string()),
            Outcome::WrongTotal if MAX_LISTED < hand.as_slice().len() => {
                reasons.push(format!("the formula does not equal {}", self.table.target()));
            }
            Outcome::Partial => reasons.push("the formula is the start of a solution but not complete".to_string()),
            Outcome::WrongTotal => match self.matching_prefix(&formula, hand) {
                Some("") => reasons.push("no solution starts like this formula".to_string()),
                Some(prefix) => reasons.push(format!("solutions match this formula only up to {prefix}")),
                None => {}
            },
            Outcome::AttemptLimit => reasons.push("the attempt limit is reached".to_string()),
            Outcome::IncorrectNumber | Outcome::IllegalFormula => {}
        }
        let mut message = reasons.join(", ");
        if !message.is_empty() {
            message.push('.');
        }
        message
    }

    /// The verdict of a response that was not graded.
    pub(super) fn attempt_limit(&self) -> Verdict {
        self.without_faults(Outcome::AttemptLimit)
    }

    fn without_faults(&self, outcome: Outcome) -> Verdict {
        let success = matches!(outcome, Outcome::Correct | Outcome::CardsRecognized);
        Verdict { outcome, reward: outcome.price(&self.prices), success, faults: Faults::default() }
    }

    /// Without blanks where the mode ignores them.
    fn tidy<'a>(&self, left_side: &'a str) -> Cow<'a, str> {
        if self.mode == RewardMode::Coarse && left_side.contains(char::is_whitespace) {
            Cow::Owned(left_side.chars().filter(|c| !c.is_whitespace()).collect())
        } else {
            Cow::Borrowed(left_side)
        }
    }

    fn find_faults(&self, formula: &str, hand: Values) -> Faults {
        let mut faults = Faults::default();
        let mut left = Remaining::of(hand);
        let mut open = 0_u32;
        let mut previous = None;
        for token in tokens(formula) {
            let after_operand = matches!(previous, Some(Token::Number(_) | Token::Close));
            match token {
                Token::Number(digits) => {
                    if after_operand {
                        faults.add(Fault::NumberPlace);
                    }
                    match left.take(digits) {
                        Taken::InHand => {}
                        Taken::UsedUp => faults.add(Fault::OverusedNumbers),
                        Taken::Unknown => faults.add(Fault::InvalidNumbers),
                    }
                }
                Token::Operator(_) if after_operand => {}
                Token::Operator(_) => faults.add(Fault::OperatorPlace),
                // A misplaced bracket is not opened, so its partner is a violation of its own.
                Token::Open if after_operand => faults.add(Fault::OpenPlace),
                Token::Open => open += 1,
                Token::Close => {
                    if !after_operand {
                        faults.add(Fault::ClosePlace);
                    }
                    match open.checked_sub(1) {
                        Some(rest) => open = rest,
                        None => faults.add(Fault::UnmatchedClose),
                    }
                }
                Token::Illegal(_) => {
                    // Nothing else is said about text that is not a formula.
                    let mut faults = Faults::default();
                    faults.add(Fault::IllegalCharacters);
                    return faults;
                }
            }
            previous = Some(token);
        }
        if !self.legacy_unclosed_bracket {
            faults.0[Fault::UnclosedOpen as usize] = open;
        }
        if !left.is_empty() {
            faults.add(Fault::UnusedNumbers);
        }
        faults
    }

    fn violation(&self, faults: Faults) -> Verdict {
        let (illegal, numbers) = (faults.illegal(), faults.number_penalties());
        let outcome = if illegal > 0 { Outcome::IllegalFormula } else { Outcome::IncorrectNumber };
        let reward = match self.mode {
            RewardMode::Additive => {
                f64::from(illegal) * self.prices.illegal_formula + f64::from(numbers) * self.prices.incorrect_number
            }
            RewardMode::Exclusive | RewardMode::Coarse => match (illegal, numbers) {
                (_, 0) => self.prices.illegal_formula,
                (0, _) => self.prices.incorrect_number,
                (_, _) => self.prices.illegal_formula.min(self.prices.incorrect_number),
            },
        };
        Verdict { outcome, reward, success: false, faults }
    }

    /// Grades a formula without violations by its value.
    fn grade_value(&self, formula: &str, hand: Values) -> Verdict {
        let target = i64::from(self.table.target());
        let equal = if self.legacy_float {
            evaluate::<f64>(formula).map(|value| value == f64::from_integer(target))
        } else {
            evaluate::<Rational>(formula).map(|value| value == Rational::integer(target))
        };
        let outcome = match equal {
            Ok(true) => Outcome::Correct,
            Ok(false) => Outcome::WrongTotal,
            // With every bracket closed and every card used, only a whole solution is a prefix of one.
            Err(_) if !self.legacy_unclosed_bracket || self.mode == RewardMode::Coarse => Outcome::WrongTotal,
            Err(_) if self.table.has_prefix(hand, formula) => Outcome::Partial,
            Err(_) => Outcome::WrongTotal,
        };
        // A stored solution that floating point misses matches to its end, and then nothing is added.
        let unpriced =
            outcome == Outcome::WrongTotal && self.legacy_float && self.matching_prefix(formula, hand).is_none();
        let reward = if unpriced { 0.0 } else { outcome.price(&self.prices) };
        Verdict { outcome, reward, success: outcome == Outcome::Correct, faults: Faults::default() }
    }

    /// The longest run of whole tokens that starts some solution; `None` if the formula does to its end.
    fn matching_prefix<'a>(&self, formula: &'a str, hand: Values) -> Option<&'a str> {
        let mut tokens = tokens(formula);
        let mut matched = 0;
        while tokens.next().is_some() {
            if !self.table.has_prefix(hand, &formula[..tokens.position()]) {
                return Some(&formula[..matched]);
            }
            matched = tokens.position();
        }
        None
    }
}

/// How many of each card value are still unused.
struct Remaining {
    dealt: [u8; Values::MAX_VALUE as usize + 1],
    unused: [u8; Values::MAX_VALUE as usize + 1],
}

enum Taken {
    InHand,
    UsedUp,
    Unknown,
}

impl Remaining {
    fn of(hand: Values) -> Self {
        let mut dealt = [0; Values::MAX_VALUE as usize + 1];
        for &value in hand.as_slice() {
            dealt[usize::from(value)] += 1;
        }
        Remaining { dealt, unused: dealt }
    }

    fn take(&mut self, digits: &str) -> Taken {
        match digits.parse::<usize>() {
            Ok(value) if value < self.dealt.len() && self.dealt[value] > 0 => match self.unused[value].checked_sub(1) {
                Some(rest) => {
                    self.unused[value] = rest;
                    Taken::InHand
                }
                None => Taken::UsedUp,
            },
            // Too many digits for the machine are too many for a card.
            _ => Taken::Unknown,
        }
    }

    /// The unused values, ascending.
    fn list(&self) -> Vec<u8> {
        let each = (0_u8..).zip(self.unused);
        each.flat_map(|(value, count)| std::iter::repeat_n(value, count.into())).collect()
    }

    fn is_empty(&self) -> bool {
        self.unused.iter().all(|&count| count == 0)
    }
}

/// Whether the answer names the cards of the hand, in any order.
fn names_the_cards(answer: &Answer, hand: &Hand) -> bool {
    let mut named = answer.cards().unwrap_or_default();
    let mut dealt: Vec<&str> = hand.cards().iter().map(|card| card.plain()).collect();
    named.sort_unstable();
    dealt.sort_unstable();
    named == dealt
}

/// The numbers of a formula against the hand, for messages.
struct NumberUse {
    invalid: NumberList,
    overused: NumberList,
    unused: NumberList,
}

/// Different numbers, in order; of very many or very long ones only the beginning.
#[derive(Default)]
struct NumberList(Vec<String>);

impl NumberUse {
    fn count(formula: &str, hand: Values) -> Self {
        let mut left = Remaining::of(hand);
        let mut found = NumberUse {
            invalid: NumberList::default(),
            overused: NumberList::default(),
            unused: NumberList::default(),
        };
        for token in tokens(formula) {
            let Token::Number(digits) = token else { continue };
            match left.take(digits) {
                Taken::InHand => {}
                Taken::UsedUp => found.overused.push_new(digits),
                Taken::Unknown => found.invalid.push_new(digits),
            }
        }
        found.unused = NumberList(left.list().iter().map(ToString::to_string).collect());
        found
    }
}

impl NumberList {
    /// Numbers that a message names.
    const MOST: usize = 12;
    /// Digits of one of them.
    const LONGEST: usize = 24;

    fn push_new(&mut self, digits: &str) {
        // Nothing comes after the dots.
        if Self::MOST < self.0.len() {
            return;
        }
        let shown = match digits.get(..Self::LONGEST) {
            Some(start) if Self::LONGEST < digits.len() => format!("{start}..."),
            _ => digits.to_string(),
        };
        if !self.0.contains(&shown) {
            self.0.push(if self.0.len() == Self::MOST { "...".to_string() } else { shown });
        }
    }
}

/// Values of `hand` that `left_side` does not use, ascending.
pub(super) fn unused_numbers(left_side: Option<&str>, hand: Values) -> Vec<u8> {
    let mut left = Remaining::of(hand);
    for token in tokens(left_side.unwrap_or("")) {
        if let Token::Number(digits) = token {
            left.take(digits);
        }
    }
    left.list()
}
