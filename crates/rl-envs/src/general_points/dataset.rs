//! Training files: expert answers and practice text, mixed in a fixed order.

use std::collections::HashSet;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::answer::render_answer;
use super::config::{GeneralPointsConfig, TemplateKind};
use super::deck::Deck;
use super::expert::Expert;
use super::practice::{arithmetic, card_values, retry};
use super::prompt::Prompt;
use super::solver;
use crate::dataset::{Mixture, MixturePart};
use crate::environment::Message;
use crate::error::{Error, Result, ensure};

/// A file of conversations, as read from `configs/make_dataset/*.toml`.
pub type DatasetConfig = Mixture<DatasetPart>;

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
    /// Whether a hand may come in several rows.
    #[serde(default)]
    pub repeats: Repeats,
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
    /// A hand and a right answer as in the published data on which the loss out of distribution was measured: the rule in
    /// other words, the solution listed first, no `=` and target behind it, no comma after the last field. Part of a loss
    /// on such rows is a penalty on form; it is for comparison alone.
    LegacyLoss,
}

/// Whether a hand may come in several rows. Hands are the same if they show the same ranks in the same order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Repeats {
    /// Rows have consecutive indices, whatever is dealt.
    #[default]
    Allowed,
    /// An index whose hand came before is passed over.
    Skipped,
}

/// Indices looked at per row wanted before there are thought to be no more different hands.
const MAX_INDICES_PER_ROW: u64 = 1000;

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRow {
    /// A user turn and the answer to learn.
    pub messages: Vec<Message>,
    /// What the cards of an expert row count, ascending; empty for practice rows.
    pub values: Vec<u8>,
}

impl MixturePart for DatasetPart {
    type Row = DatasetRow;
    const ORDER: &'static str = "general_points/dataset order";

    fn size(&self) -> u64 {
        self.num_rows
    }

    fn validate(&self) -> Result<()> {
        self.environment.validate()?;
        let text_alone = self.environment.vision.is_none();
        ensure(text_alone, "environment.vision", "present", "rows hold text alone; leave it out")?;
        let template = self.environment.template;
        let fits = self.kind != RowKind::LegacyLoss || template == TemplateKind::Standard;
        let limit = "legacy_loss rows are in the standard template";
        ensure(fits, "environment.template", format!("{template:?}"), limit)?;
        let fits = self.first_index.checked_add(self.num_rows).is_some();
        ensure(fits, "num_rows", self.num_rows, "first_index + num_rows must stay below 2^64")
    }

    fn rows(&self, seed: u64) -> Result<Vec<DatasetRow>> {
        let deck = Deck::new(&self.environment)?;
        let expert = Expert::new(&self.environment)?;
        let legacy_prompt = Prompt::legacy_loss(&self.environment, deck.table())?;
        let rule = self.environment.face_rule();
        let row = |index: u64| -> Result<DatasetRow> {
            match self.kind {
                RowKind::Expert => {
                    let values = sorted_values(&deck, seed, index)?;
                    Ok(DatasetRow { messages: expert.example(seed, index)?.messages, values })
                }
                RowKind::Retry => {
                    Ok(DatasetRow { messages: retry(&self.environment, seed, index)?, values: Vec::new() })
                }
                RowKind::CardValues => {
                    Ok(DatasetRow { messages: card_values(&deck, rule, seed, index)?.into(), values: Vec::new() })
                }
                RowKind::LegacyLoss => {
                    let messages = self.legacy_loss(&legacy_prompt, &deck, seed, index)?;
                    Ok(DatasetRow { messages, values: sorted_values(&deck, seed, index)? })
                }
                RowKind::Arithmetic => {
                    let messages = arithmetic(seed, index, self.environment.num_cards).into();
                    Ok(DatasetRow { messages, values: Vec::new() })
                }
            }
        };
        match self.repeats {
            Repeats::Allowed => {
                let indices = self.first_index..self.first_index.saturating_add(self.num_rows);
                indices.into_par_iter().map(row).collect()
            }
            Repeats::Skipped => self.first_of_each_hand(&deck, seed)?.into_par_iter().map(row).collect(),
        }
    }
}

impl DatasetPart {
    /// Indices of the first `num_rows` hands that are all different.
    fn first_of_each_hand(&self, deck: &Deck, seed: u64) -> Result<Vec<u64>> {
        let (mut seen, mut indices) = (HashSet::new(), Vec::new());
        let most = self.num_rows.saturating_mul(MAX_INDICES_PER_ROW);
        let mut next = self.first_index..self.first_index.saturating_add(most);
        while (indices.len() as u64) < self.num_rows {
            let limit = || format!("only {} different hands were found; ask for fewer rows", indices.len());
            let index = next.next().ok_or_else(|| refused("num_rows", self.num_rows, limit()))?;
            let ranks: Vec<u8> = deck.deal(seed, index)?.cards().iter().map(|card| card.rank()).collect();
            if seen.insert(ranks) {
                indices.push(index);
            }
        }
        Ok(indices)
    }

    fn legacy_loss(&self, prompt: &Prompt, deck: &Deck, seed: u64, index: u64) -> Result<Vec<Message>> {
        let hand = deck.deal(seed, index)?;
        let cards: Vec<&str> = hand.cards().iter().map(|card| card.plain()).collect();
        let formula = solver::solutions(hand.values(), self.environment.target).into_iter().next();
        let formula = formula.ok_or(Error::NoSolvableHand { seed, index, draws: 1 })?;
        let target = self.environment.target;
        let answer = render_answer(self.environment.template, &cards, hand.numbers(), &formula, target);
        let answer = answer.replace(&format!("={target}\",\n}}"), "\"\n}");
        Ok(vec![Message::user(prompt.render(&hand)), Message::assistant(answer)])
    }
}

/// What the cards of a hand count, ascending.
fn sorted_values(deck: &Deck, seed: u64, index: u64) -> Result<Vec<u8>> {
    Ok(deck.deal(seed, index)?.values().as_slice().to_vec())
}

fn refused(key: &'static str, value: impl ToString, limit: impl Into<String>) -> Error {
    Error::Config { key, value: value.to_string(), limit: limit.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_counted_shuffled_and_reproducible() {
        let environment = GeneralPointsConfig { num_cards: 3, ..GeneralPointsConfig::default() };
        let part = |kind, num_rows| DatasetPart {
            kind,
            num_rows,
            first_index: 10,
            repeats: Repeats::Allowed,
            environment: environment.clone(),
        };
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
