//! What a selection did: counts by reason, and every dropped row with its figures.

use serde::{Deserialize, Serialize};

use crate::language::Language;

/// What [`crate::select()`] did, by reason. `rows` is `kept` and all that begin with `dropped` together.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SelectionReport {
    /// Rows seen.
    pub rows: usize,
    /// Rows kept, cut ones included.
    pub kept: usize,
    /// The limit in tokens that was applied: the policy's, or the percentile that was measured.
    #[serde(default)]
    pub max_length: usize,
    /// Kept rows that were cut.
    pub truncated: usize,
    /// Tokens cut from kept rows.
    pub tokens_cut: usize,
    /// Rows above the limit, dropped.
    pub dropped_too_long: usize,
    /// Rows whose prompt takes more than its share, dropped.
    #[serde(default)]
    pub dropped_long_prompt: usize,
    /// Pairs whose two responses are the same tokens (possibly after a cut), dropped.
    #[serde(default)]
    pub dropped_identical: usize,
    /// Rows without a target token (possibly after a cut), dropped.
    pub dropped_untrainable: usize,
    /// Rows whose conversation could not be turned into an example, dropped.
    pub dropped_unrenderable: usize,
    /// Rows equal to an earlier one, dropped.
    #[serde(default)]
    pub dropped_duplicate: usize,
    /// Rows with a message that says nothing, dropped.
    #[serde(default)]
    pub dropped_empty_turn: usize,
    /// Rows whose roles are in another order, dropped.
    #[serde(default)]
    pub dropped_role_order: usize,
    /// Rows in another language, dropped.
    #[serde(default)]
    pub dropped_language: usize,
    /// Row and message of the first row that could not be turned into an example.
    pub first_failure: Option<String>,
    /// Kept rows in which a token of the prompt was given to the response, see [`crate::Seams::Response`].
    #[serde(default)]
    pub merged_seams: usize,
    /// Tokens of the kept rows, of a pair those of both sides.
    pub tokens: usize,
    /// Target tokens of the kept rows.
    pub trainable_tokens: usize,
}

/// A row that was dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dropped {
    /// Index of the row.
    pub row: usize,
    /// Why, with its figures.
    pub reason: DropReason,
}

/// Why a row was dropped.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DropReason {
    /// More tokens than the limit.
    TooLong {
        /// Tokens of its longest sequence.
        tokens: usize,
        /// The limit in tokens.
        limit: usize,
    },
    /// The prompt takes more than its share.
    LongPrompt {
        /// Tokens before the first target.
        tokens: usize,
        /// The share of the policy's `max_length`, in tokens.
        limit: f64,
    },
    /// Both responses of a pair are the same tokens.
    Identical,
    /// No target token.
    Untrainable {
        /// Tokens of its longest sequence, after any cut.
        tokens: usize,
    },
    /// It could not be turned into an example.
    Unrenderable {
        /// The error.
        error: String,
    },
    /// Equal to an earlier row.
    Duplicate {
        /// Index of that row.
        of: usize,
    },
    /// A message says nothing.
    EmptyTurn {
        /// Index of the message.
        message: usize,
    },
    /// The roles are in another order.
    RoleOrder {
        /// Index of the first message out of order.
        message: usize,
        /// Its role.
        found: String,
        /// The role or roles that belong there.
        wanted: String,
    },
    /// Another language.
    Language {
        /// The language; none if the text does not say.
        found: Option<Language>,
        /// Letters in its most frequent script over all letters.
        script_share: f64,
    },
}

impl DropReason {
    /// The reason without its figures, as the report counts it.
    pub fn name(&self) -> &'static str {
        match self {
            DropReason::TooLong { .. } => "too long",
            DropReason::LongPrompt { .. } => "long prompt",
            DropReason::Identical => "identical pair",
            DropReason::Untrainable { .. } => "nothing to train",
            DropReason::Unrenderable { .. } => "not renderable",
            DropReason::Duplicate { .. } => "duplicate",
            DropReason::EmptyTurn { .. } => "empty turn",
            DropReason::RoleOrder { .. } => "role order",
            DropReason::Language { .. } => "language",
        }
    }
}

impl std::fmt::Display for DropReason {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}", self.name())?;
        match self {
            DropReason::TooLong { tokens, limit } => write!(formatter, ": {tokens} tokens, limit {limit}"),
            DropReason::LongPrompt { tokens, limit } => write!(formatter, ": {tokens} tokens, limit {limit}"),
            DropReason::Identical => Ok(()),
            DropReason::Untrainable { tokens } => write!(formatter, ": none of {tokens} tokens is a target"),
            DropReason::Unrenderable { error } => write!(formatter, ": {error}"),
            DropReason::Duplicate { of } => write!(formatter, ": of row {of}"),
            DropReason::EmptyTurn { message } => write!(formatter, ": message {message} says nothing"),
            DropReason::RoleOrder { message, found, wanted } => {
                write!(formatter, ": message {message} is {found}, not {wanted}")
            }
            DropReason::Language { found, script_share } => match found {
                Some(language) => {
                    write!(formatter, ": {language:?}, {:.0} % of the letters in one script", 100.0 * script_share)
                }
                None => write!(formatter, ": not told"),
            },
        }
    }
}

impl SelectionReport {
    /// Every reason with its count, those of zero included.
    pub fn dropped(&self) -> [(&'static str, usize); 9] {
        [
            ("too long", self.dropped_too_long),
            ("long prompt", self.dropped_long_prompt),
            ("identical pair", self.dropped_identical),
            ("nothing to train", self.dropped_untrainable),
            ("not renderable", self.dropped_unrenderable),
            ("duplicate", self.dropped_duplicate),
            ("empty turn", self.dropped_empty_turn),
            ("role order", self.dropped_role_order),
            ("language", self.dropped_language),
        ]
    }

    pub(super) fn count(&mut self, row: usize, reason: &DropReason) {
        *match reason {
            DropReason::TooLong { .. } => &mut self.dropped_too_long,
            DropReason::LongPrompt { .. } => &mut self.dropped_long_prompt,
            DropReason::Identical => &mut self.dropped_identical,
            DropReason::Untrainable { .. } => &mut self.dropped_untrainable,
            DropReason::Unrenderable { error } => {
                self.first_failure.get_or_insert_with(|| format!("row {row}: {error}"));
                &mut self.dropped_unrenderable
            }
            DropReason::Duplicate { .. } => &mut self.dropped_duplicate,
            DropReason::EmptyTurn { .. } => &mut self.dropped_empty_turn,
            DropReason::RoleOrder { .. } => &mut self.dropped_role_order,
            DropReason::Language { .. } => &mut self.dropped_language,
        } += 1;
    }
}
