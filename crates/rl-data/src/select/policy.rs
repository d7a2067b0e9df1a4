//! Rules of a selection: what they are, which ranges they have, which conversations break them.

use serde::{Deserialize, Serialize};

use super::length::LengthPercentile;
use super::report::DropReason;
use super::rules::{self, Duplicates, EmptyTurns, LanguageRule, RoleOrder};
use crate::error::{Error, Result};
use crate::record::Message;

/// What becomes of an example above the length limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// The run stops with [`Error::TooLong`].
    Error,
    /// The row is dropped and counted.
    Drop,
    /// Tokens are cut from the start; the end, with its answer, stays. Both sides of a pair lose the same tokens, and
    /// a cut that would reach a response of preference data leaves a row without a target.
    Left,
    /// Tokens are cut from the end; a cut answer then has no end-of-turn token. Not for prompts alone, which would lose
    /// the header of the answer.
    Right,
}

/// What becomes of a row that cannot be learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    /// The run stops with the error of that row.
    Error,
    /// The row is dropped and counted.
    Drop,
}

/// Rules of [`select`](super::select()) and [`select_records`](super::select_records). Those that every run needs have no default, because each moves results; the
/// others are off.
///
/// A row is judged by the first rule that drops it: role order, empty turns, language, rendering, duplicates, prompt share,
/// length, targets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionPolicy {
    /// Most tokens of an example, of each side of a pair, or of a prompt alone; 2 or more. `length_percentile` takes its
    /// place as the limit.
    pub max_length: usize,
    /// For longer ones.
    pub too_long: Truncation,
    /// For conversations that failed to render, for examples without a target token and for pairs of equal sides.
    pub unusable: Unusable,
    /// Rows with more prompt tokens than this share of `max_length` are dropped and counted; above 0, at most 1; none
    /// by default. The prompt ends at the first target token, before any cut.
    #[serde(default)]
    pub max_prompt_share: Option<f64>,
    /// Measures the limit instead.
    #[serde(default)]
    pub length_percentile: Option<LengthPercentile>,
    /// For rows equal to an earlier one.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// For conversations with a message that says nothing.
    #[serde(default)]
    pub empty_turns: EmptyTurns,
    /// Which conversations are kept.
    #[serde(default)]
    pub role_order: RoleOrder,
    /// Which language is kept.
    #[serde(default)]
    pub language: Option<LanguageRule>,
}

impl SelectionPolicy {
    /// The rules that every run needs, the others off.
    pub fn new(max_length: usize, too_long: Truncation, unusable: Unusable) -> Self {
        SelectionPolicy {
            max_length,
            too_long,
            unusable,
            max_prompt_share: None,
            length_percentile: None,
            duplicates: Duplicates::default(),
            empty_turns: EmptyTurns::default(),
            role_order: RoleOrder::default(),
            language: None,
        }
    }

    /// Checks the ranges. [`Error::Setting`] names the value and the rule.
    pub fn validate(&self) -> Result<()> {
        let setting = |name, value: String, rule| Err(Error::Setting { name, value, rule });
        if self.max_length < 2 {
            let rule = "must be 2 or more: a token and its predictor";
            return setting("max_length", self.max_length.to_string(), rule);
        }
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        if let Some(share) = self.max_prompt_share.filter(|share| !is_share(*share)) {
            return setting("max_prompt_share", share.to_string(), "must be above 0 and at most 1");
        }
        if let Some(rule) = self.language.filter(|rule| !(0.0..=1.0).contains(&rule.min_share)) {
            return setting("language.min_share", rule.min_share.to_string(), "must be in [0, 1]");
        }
        self.length_percentile.map_or(Ok(()), |percentile| percentile.validate())
    }

    /// The first rule that a conversation breaks.
    pub(super) fn broken_rule(&self, messages: &[&Message]) -> Option<DropReason> {
        rules::role_order(self.role_order, messages)
            .or_else(|| (self.empty_turns == EmptyTurns::Drop).then(|| rules::empty_turn(messages)).flatten())
            .or_else(|| rules::language(self.language.as_ref()?, messages))
    }

    pub(super) fn has_conversation_rules(&self) -> bool {
        (self.role_order, self.empty_turns, self.language) != (RoleOrder::Any, EmptyTurns::Keep, None)
    }
}
