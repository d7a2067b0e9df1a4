//! Grading: is the action the right one, and if not, was it a wrong belief about the place?

use super::answer::Answer;
use super::config::{RewardTable, VirlConfig};
use super::direction::{Action, ActionSpace};
use super::outcome::Outcome;
use super::rail::{Rail, RailPoint};
use crate::price::{Combination, Prices};

/// The word by which an observation speaks of an intersection.
const INTERSECTION: &str = "intersection";

/// What an attempt came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// How the attempt ended.
    pub outcome: Outcome,
    /// Its price.
    pub reward: f64,
    /// Whether the true observation spoke of an intersection.
    pub is_at_intersection: bool,
}

impl Verdict {
    /// The reason in words, for the next user turn.
    pub fn message(&self) -> &'static str {
        match (self.outcome, self.is_at_intersection) {
            (Outcome::Correct, _) => "the action is right.",
            (Outcome::IncorrectObservation, false) => "you are not at an intersection.",
            (Outcome::IncorrectObservation, true) => "you are at an intersection.",
            (Outcome::IncorrectAction, _) => "the action is wrong.",
            (Outcome::AttemptLimit, _) => "the attempt limit is reached.",
        }
    }
}

/// Grades answers by the config's prices.
#[derive(Debug, Clone)]
pub struct Verifier {
    prices: RewardTable,
    space: ActionSpace,
    legacy_landmark_test: bool,
}

impl Verifier {
    /// The verifier of `config`.
    pub fn new(config: &VirlConfig) -> Self {
        Verifier {
            prices: config.reward,
            space: config.action_space(),
            legacy_landmark_test: config.legacy_landmark_test,
        }
    }

    /// The action that is right at `point`.
    pub fn expected(&self, point: &RailPoint) -> Action {
        point.action(self.space)
    }

    /// Judges `answer` at `point` of `rail`.
    ///
    /// The action must equal the right one to the letter. A wrong or missing one costs more when the answer's observation
    /// mentions an intersection (in upper or lower case; no observation mentions none) and the true one does not, or the other
    /// way round.
    pub fn grade(&self, answer: &Answer<'_>, rail: &Rail, point: &RailPoint) -> Verdict {
        // The published test reads the landmark part alone, which speaks of an intersection only if a landmark's name does.
        let is_at_intersection = if self.legacy_landmark_test {
            mentions_intersection(rail.landmark_observation(point))
        } else {
            point.observes_intersection() || mentions_intersection(rail.landmark_observation(point))
        };
        let outcome = if answer.action() == Some(self.expected(point).label()) {
            Outcome::Correct
        } else if answer.observation().is_some_and(mentions_intersection) != is_at_intersection {
            Outcome::IncorrectObservation
        } else {
            Outcome::IncorrectAction
        };
        self.verdict(outcome, is_at_intersection)
    }

    /// What an attempt past the limit comes to.
    pub fn attempt_limit(&self) -> Verdict {
        self.verdict(Outcome::AttemptLimit, false)
    }

    /// What the outcomes are worth. Every step that truncates pays the attempt limit, an ungraded one nothing else.
    pub fn prices(&self) -> Prices {
        let price = |outcome: Outcome| if outcome == Outcome::AttemptLimit { 0.0 } else { outcome.price(&self.prices) };
        Prices {
            outcomes: Outcome::ALL.iter().map(|&outcome| (outcome.label(), price(outcome))).collect(),
            truncation: self.prices.attempt_limit,
            combination: Combination::Single,
        }
    }

    fn verdict(&self, outcome: Outcome, is_at_intersection: bool) -> Verdict {
        Verdict { outcome, reward: outcome.price(&self.prices), is_at_intersection }
    }
}

fn mentions_intersection(text: &str) -> bool {
    text.as_bytes().windows(INTERSECTION.len()).any(|window| window.eq_ignore_ascii_case(INTERSECTION.as_bytes()))
}
