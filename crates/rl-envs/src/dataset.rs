//! Which task a training file is made of, and files that mix several kinds of rows.

use std::path::PathBuf;

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};
use crate::{general_points, igsm, instructions, matrix_tasks, virl};

/// A training file of any task, as read from `configs/make_dataset/*.toml`; `task` says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "snake_case")]
pub enum DatasetConfig {
    /// Card hands with expert answers and practice text.
    GeneralPoints(general_points::DatasetConfig),
    /// Checkable instructions with answers that obey and answers that do not.
    Instructions(instructions::DatasetConfig),
    /// Points of walks with the right answers.
    Virl(virl::DatasetConfig),
    /// Matrices with their rank or determinant.
    MatrixTasks(matrix_tasks::DatasetConfig),
    /// Word problems over dependency graphs with solutions.
    Igsm(igsm::DatasetConfig),
}

impl DatasetConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        match self {
            DatasetConfig::GeneralPoints(config) => config.validate(),
            DatasetConfig::Instructions(config) => config.validate(),
            DatasetConfig::Virl(config) => config.validate(),
            DatasetConfig::MatrixTasks(config) => config.validate(),
            DatasetConfig::Igsm(config) => config.validate(),
        }
    }
}

/// A file of conversations made of parts, as read from `configs/make_dataset/*.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mixture<P> {
    /// JSON Lines file to write.
    pub out: PathBuf,
    /// Seed of episodes, answers and order.
    pub seed: u64,
    /// What the file holds; the rows of all parts are shuffled together.
    pub parts: Vec<P>,
}

/// Rows of one kind.
pub trait MixturePart {
    /// One line of the file.
    type Row;
    /// Names the stream of random numbers that orders the rows.
    const ORDER: &'static str;

    /// How much the config asks for: rows, or episodes that become rows.
    fn size(&self) -> u64;

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    fn validate(&self) -> Result<()>;

    /// All rows of this part, in the order of their indices.
    ///
    /// # Errors
    /// When one of them cannot be made.
    fn rows(&self, seed: u64) -> Result<Vec<Self::Row>>;
}

impl<P: MixturePart> Mixture<P> {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        let size = self.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.size()));
        ensure(0 < size, "parts", size, "must hold at least one row")?;
        self.parts.iter().try_for_each(P::validate)
    }

    /// All rows, in their final order; a function of the config alone.
    ///
    /// # Errors
    /// When the config is invalid or a row cannot be made.
    pub fn rows(&self) -> Result<Vec<P::Row>> {
        self.validate()?;
        let mut rows = Vec::new();
        for part in &self.parts {
            rows.extend(part.rows(self.seed)?);
        }
        RandomKey::new(self.seed, P::ORDER).shuffle(&mut rows);
        Ok(rows)
    }
}
