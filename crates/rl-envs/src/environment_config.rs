//! Which environment is played, as a config file says it.

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::Result;
use crate::general_points::{GeneralPoints, GeneralPointsConfig};
use crate::igsm::{Igsm, IgsmConfig};
use crate::instructions::{Instructions, InstructionsConfig};
use crate::matrix_tasks::{MatrixTasks, MatrixTasksConfig};
use crate::virl::{EpisodeKind, Virl, VirlConfig};

/// An environment by `name`, with its own settings beside it. Rollouts and evaluations read the same table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum EnvironmentConfig {
    /// Cards to a target number.
    GeneralPoints(GeneralPointsConfig),
    /// Short instructions with a checkable demand.
    Instructions(InstructionsConfig),
    /// A walk through a city by written instructions.
    Virl(VirlConfig),
    /// Rank or determinant of a matrix.
    MatrixTasks(MatrixTasksConfig),
    /// Word problems over dependency graphs.
    Igsm(IgsmConfig),
}

impl EnvironmentConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`crate::Error::Config`] naming the key, its value and its limit.
    pub fn validate(&self) -> Result<()> {
        match self {
            EnvironmentConfig::GeneralPoints(config) => config.validate(),
            EnvironmentConfig::Instructions(config) => Instructions::new(config).map(drop),
            EnvironmentConfig::Virl(config) => config.validate(),
            EnvironmentConfig::MatrixTasks(config) => config.validate(),
            EnvironmentConfig::Igsm(config) => config.validate(),
        }
    }

    /// A new environment.
    ///
    /// # Errors
    /// What the environment refuses.
    pub fn build(&self) -> Result<Box<dyn Environment>> {
        Ok(match self {
            EnvironmentConfig::GeneralPoints(config) => Box::new(GeneralPoints::new(config.clone())?),
            EnvironmentConfig::Instructions(config) => Box::new(Instructions::new(config)?),
            EnvironmentConfig::Virl(config) => Box::new(Virl::new(config.clone())?),
            EnvironmentConfig::MatrixTasks(config) => Box::new(MatrixTasks::new(config.clone())?),
            EnvironmentConfig::Igsm(config) => Box::new(Igsm::new(config)?),
        })
    }

    /// Most graded answers of one episode; of one point where an episode has several.
    pub fn max_attempts(&self) -> u32 {
        match self {
            EnvironmentConfig::GeneralPoints(config) => config.max_attempts,
            EnvironmentConfig::Instructions(_) | EnvironmentConfig::Igsm(_) => 1,
            EnvironmentConfig::Virl(config) => config.max_attempts,
            EnvironmentConfig::MatrixTasks(config) => config.max_attempts,
        }
    }

    /// Whether an episode may consist of several conversations ([`Environment::starts_over`]).
    pub fn starts_over(&self) -> bool {
        matches!(self, EnvironmentConfig::Virl(config) if config.episode == EpisodeKind::Route)
    }
}
