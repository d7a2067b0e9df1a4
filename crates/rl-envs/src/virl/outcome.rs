//! How an attempt can end. The verifier judges with this enum; the config's reward table prices it.

use serde::Serialize;

use super::config::RewardTable;

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The action is the right one.
    Correct,
    /// A wrong action, and the observation speaks of an intersection where there is none, or does not where there is one.
    IncorrectObservation,
    /// Any other wrong action, or none.
    IncorrectAction,
    /// Not graded, because the attempts were used up. Only with `legacy_extra_step`.
    AttemptLimit,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 4] =
        [Outcome::Correct, Outcome::IncorrectObservation, Outcome::IncorrectAction, Outcome::AttemptLimit];

    /// Name in records.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Correct => "correct",
            Outcome::IncorrectObservation => "incorrect_observation",
            Outcome::IncorrectAction => "incorrect_action",
            Outcome::AttemptLimit => "attempt_limit",
        }
    }

    /// Price by `table`.
    pub fn price(self, table: &RewardTable) -> f64 {
        match self {
            Outcome::Correct => table.correct,
            Outcome::IncorrectObservation => table.incorrect_observation,
            Outcome::IncorrectAction => table.incorrect_action,
            Outcome::AttemptLimit => table.attempt_limit,
        }
    }
}
