//! How an attempt can end. The verifier judges with this enum; the config's reward table prices it.

use serde::Serialize;

use super::config::RewardTable;

/// How an attempt ended; with several violations, the first found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Legal, every card used once, equal to the target.
    Correct,
    /// Every card used, no value, but the start of a solution.
    Partial,
    /// Legal numbers, wrong value or none.
    WrongTotal,
    /// The cards named are not those in the picture.
    IncorrectVision,
    /// The cards in the picture were named, which was all that was asked for.
    CardsRecognized,
    /// A number that is not in the hand, used too often, or not used.
    IncorrectNumber,
    /// Illegal characters or grammar, or no formula at all.
    IllegalFormula,
    /// Not graded, because the attempts were used up. Only with `legacy_extra_step`.
    AttemptLimit,
}

impl Outcome {
    /// Every outcome.
    pub const ALL: [Outcome; 8] = [
        Outcome::Correct,
        Outcome::Partial,
        Outcome::WrongTotal,
        Outcome::IncorrectVision,
        Outcome::CardsRecognized,
        Outcome::IncorrectNumber,
        Outcome::IllegalFormula,
        Outcome::AttemptLimit,
    ];

    /// Name in records.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Correct => "correct",
            Outcome::Partial => "partial",
            Outcome::WrongTotal => "wrong_total",
            Outcome::IncorrectVision => "incorrect_vision",
            Outcome::CardsRecognized => "cards_recognized",
            Outcome::IncorrectNumber => "incorrect_number",
            Outcome::IllegalFormula => "illegal_formula",
            Outcome::AttemptLimit => "attempt_limit",
        }
    }

    /// Price by `table`.
    pub fn price(self, table: &RewardTable) -> f64 {
        match self {
            Outcome::Correct => table.correct,
            Outcome::Partial => table.partial,
            Outcome::WrongTotal => table.wrong_total,
            Outcome::IncorrectVision => table.incorrect_vision,
            // Where only recognition is asked for, it is the correct solution.
            Outcome::CardsRecognized => table.correct,
            Outcome::IncorrectNumber => table.incorrect_number,
            Outcome::IllegalFormula => table.illegal_formula,
            Outcome::AttemptLimit => table.attempt_limit,
        }
    }
}
