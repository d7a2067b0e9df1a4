//! Training files: points of walks with the right answer, mixed in a fixed order.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::config::VirlConfig;
use super::expert::{Expert, ExpertExample};
use crate::dataset::{Mixture, MixturePart};
use crate::environment::Message;
use crate::error::{Result, ensure};

/// A file of conversations, as read from `configs/make_dataset/*.toml`.
pub type DatasetConfig = Mixture<DatasetPart>;

/// Rows of one kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetPart {
    /// What a row is.
    pub kind: RowKind,
    /// Episodes; each gives one row, or with `walk` one row per point.
    pub num_episodes: u64,
    /// Index of the first episode; parts with the same seed and other indices have other episodes.
    #[serde(default)]
    pub first_index: u64,
    /// The task whose walks, rule and wording are used.
    pub environment: VirlConfig,
}

/// What a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A point drawn from a walk, and the right answer.
    Point,
    /// Every point of a walk, each with the right answer.
    Walk,
    /// A point, a wrong action, the feedback on it, and the right answer; train on the last turn only.
    Retry,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRow {
    /// User turns and answers; the last is the one to learn.
    pub messages: Vec<Message>,
    /// Number of the route in its set.
    pub route: u64,
    /// Position on the rail, from 0.
    pub position: usize,
}

impl MixturePart for DatasetPart {
    type Row = DatasetRow;
    const ORDER: &'static str = "virl/dataset order";

    fn size(&self) -> u64 {
        self.num_episodes
    }

    fn validate(&self) -> Result<()> {
        let fits = self.first_index.checked_add(self.num_episodes).is_some();
        ensure(fits, "num_episodes", self.num_episodes, "first_index + num_episodes must stay below 2^64")?;
        self.environment.validate()
    }

    fn rows(&self, seed: u64) -> Result<Vec<DatasetRow>> {
        let expert = Expert::new(&self.environment)?;
        let examples = |expert: &mut Expert, index: u64| match self.kind {
            RowKind::Point => Ok(vec![expert.example(seed, index)?]),
            RowKind::Walk => expert.walk(seed, index),
            RowKind::Retry => Ok(vec![expert.retry(seed, index)?]),
        };
        let indices = self.first_index..self.first_index.saturating_add(self.num_episodes);
        let walks: Result<Vec<Vec<ExpertExample>>> =
            indices.into_par_iter().map_init(|| expert.clone(), examples).collect();
        let row = |ExpertExample { messages, route, position }| DatasetRow { messages, route, position };
        Ok(walks?.into_iter().flatten().map(row).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_shuffled_and_reproducible() {
        let part = |kind, num_episodes| {
            let environment = VirlConfig::default();
            DatasetPart { kind, num_episodes, first_index: 10, environment }
        };
        let parts = vec![part(RowKind::Point, 30), part(RowKind::Walk, 5), part(RowKind::Retry, 10)];
        let config = DatasetConfig { out: "x.jsonl".into(), seed: 5, parts };
        let rows = config.rows().unwrap();
        let walks: usize =
            (10..15).map(|index| Expert::new(&VirlConfig::default()).unwrap().walk(5, index).unwrap().len()).sum();
        assert_eq!(rows.len(), 30 + walks + 10);
        assert_eq!(rows.iter().filter(|row| row.messages.len() == 4).count(), 10);
        assert!(rows[..35].iter().any(|row| row.messages.len() == 4), "parts stand one after the other");
        assert_eq!(rows, config.rows().unwrap());
    }

    #[test]
    fn files_without_rows_or_with_too_many_are_refused() {
        let refused = |parts| {
            let config = DatasetConfig { out: "x.jsonl".into(), seed: 5, parts };
            config.validate().unwrap_err().to_string()
        };
        let part = |num_episodes| {
            let environment = VirlConfig::default();
            DatasetPart { kind: RowKind::Point, num_episodes, first_index: 10, environment }
        };
        assert!(refused(Vec::new()).contains("parts = 0"));
        assert!(refused(vec![part(0)]).contains("parts = 0"));
        assert!(refused(vec![part(1), part(u64::MAX)]).contains("num_episodes = 18446744073709551615"));
    }
}
