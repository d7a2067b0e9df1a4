//! Which task a training file is made of.

use serde::{Deserialize, Serialize};

use crate::error::Result;
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
