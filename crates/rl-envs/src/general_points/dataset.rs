//! Training files: expert answers and practice text, mixed in a fixed order.

use std::path::PathBuf;

use rayon::prelude::*;
use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::config::GeneralPointsConfig;
use super::deck::Deck;
use super::expert::Expert;
use super::practice::{arithmetic, card_values, retry};
use crate::environment::Message;
use crate::error::{Result, ensure};

/// A file of conversations, as read from `configs/make_dataset/*.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// JSON Lines file to write.
    pub out: PathBuf,
    /// Seed of hands, solutions and order.
    pub seed: u64,
    /// What the file holds; the rows of all parts are shuffled together.
    pub parts: Vec<DatasetPart>,
}

/// Rows of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetPart {
    /// What a row is.
    pub kind: RowKind,
    /// Rows.
    pub num_rows: u64,
    /// Index of the first hand; parts with the same seed and other indices have other hands.
    #[serde(default)]
    pub first_index: u64,
    /// The game whose hands, rule and wording are used.
    pub environment: GeneralPointsConfig,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A hand and a right answer.
    Expert,
    /// Cards and what they count.
    CardValues,
    /// A formula and its value.
    Arithmetic,
    /// A failed attempt, the feedback on it, and a right answer; train on the last turn only.
    Retry,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRow {
    /// A user turn and the answer to learn.
    pub messages: Vec<Message>,
    /// What the cards of an expert row count, ascending; empty for practice rows.
    pub values: Vec<u8>,
}

impl DatasetConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        let rows: u64 = self.parts.iter().map(|part| part.num_rows).sum();
        ensure(0 < rows, "parts", rows, "must hold at least one row")?;
        self.parts.iter().try_for_each(|part| part.environment.validate())
    }

    /// All rows, in their final order; a function of the config alone.
    ///
    /// # Errors
    /// When the config is invalid or a hand cannot be dealt.
    pub fn rows(&self) -> Result<Vec<DatasetRow>> {
        self.validate()?;
        let mut rows = Vec::new();
        for part in &self.parts {
            rows.extend(part.rows(self.seed)?);
        }
        RandomKey::new(self.seed, "general_points/dataset order").shuffle(&mut rows);
        Ok(rows)
    }
}

impl DatasetPart {
    fn rows(&self, seed: u64) -> Result<Vec<DatasetRow>> {
        let deck = Deck::new(&self.environment)?;
        let expert = Expert::new(&self.environment)?;
        let rule = self.environment.face_rule();
        let row = |index: u64| -> Result<DatasetRow> {
            match self.kind {
                RowKind::Expert => {
                    let mut values = deck.deal(seed, index)?.numbers().to_vec();
                    values.sort_unstable();
                    Ok(DatasetRow { messages: expert.example(seed, index)?.messages, values })
                }
                RowKind::Retry => {
                    Ok(DatasetRow { messages: retry(&self.environment, seed, index)?, values: Vec::new() })
                }
                RowKind::CardValues => {
                    Ok(DatasetRow { messages: card_values(&deck, rule, seed, index)?.into(), values: Vec::new() })
                }
                RowKind::Arithmetic => {
                    let messages = arithmetic(seed, index, self.environment.num_cards).into();
                    Ok(DatasetRow { messages, values: Vec::new() })
                }
            }
        };
        (self.first_index..self.first_index + self.num_rows).into_par_iter().map(row).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_shuffled_and_reproducible() {
        let environment = GeneralPointsConfig { num_cards: 3, ..GeneralPointsConfig::default() };
        let part = |kind, num_rows| DatasetPart { kind, num_rows, first_index: 10, environment: environment.clone() };
        let parts = vec![part(RowKind::Expert, 30), part(RowKind::Arithmetic, 20), part(RowKind::CardValues, 10)];
        let config = DatasetConfig { out: "x.jsonl".into(), seed: 5, parts };
        let rows = config.rows().unwrap();
        assert_eq!(rows.len(), 60);
        assert_eq!(rows.iter().filter(|row| row.values.len() == 3).count(), 30);
        assert!(rows[..30].iter().any(|row| row.values.is_empty()), "parts stand one after the other");
        assert_eq!(rows, config.rows().unwrap());
    }

    #[test]
    fn an_empty_file_is_refused() {
        let config = DatasetConfig { out: "x.jsonl".into(), seed: 5, parts: Vec::new() };
        assert!(config.validate().unwrap_err().to_string().contains("parts = 0"));
    }
}
