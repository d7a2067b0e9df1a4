//! Training files: matrices with right answers.

use std::path::PathBuf;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::env::{MatrixTasksConfig, prompt, right_answer};
use crate::environment::Message;
use crate::error::{Result, ensure};

/// A file of conversations, as read from `configs/make_dataset/*.toml`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetConfig {
    /// JSON Lines file to write.
    pub out: PathBuf,
    /// Seed of the matrices.
    pub seed: u64,
    /// Rows.
    pub num_rows: u64,
    /// Index of the first matrix.
    #[serde(default)]
    pub first_index: u64,
    /// The task.
    pub environment: MatrixTasksConfig,
}

/// One line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRow {
    /// The environment's user turn and the answer to learn.
    pub messages: Vec<Message>,
    /// The right number.
    pub answer: i64,
}

impl DatasetConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        ensure(0 < self.num_rows, "num_rows", self.num_rows, "must be positive")?;
        let fits = self.first_index.checked_add(self.num_rows).is_some();
        ensure(fits, "num_rows", self.num_rows, "first_index + num_rows must stay below 2^64")?;
        self.environment.validate()
    }

    /// All rows; a function of the config alone.
    ///
    /// # Errors
    /// When the config is invalid or a matrix cannot be made.
    pub fn rows(&self) -> Result<Vec<DatasetRow>> {
        self.validate()?;
        (self.first_index..self.first_index + self.num_rows).into_par_iter().map(|index| self.row(index)).collect()
    }

    /// Row (`seed`, `index`), as [`DatasetConfig::rows`] makes it.
    ///
    /// # Errors
    /// When the matrix cannot be made.
    pub fn row(&self, index: u64) -> Result<DatasetRow> {
        let task = self.environment.task;
        let problem = task.problem(self.seed, index)?;
        let messages = vec![Message::user(prompt(task, &problem)), Message::assistant(right_answer(&problem))];
        Ok(DatasetRow { messages, answer: problem.answer })
    }
}
