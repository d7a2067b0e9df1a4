//! Which environment is played, as a config file says it.

use serde::{Deserialize, Serialize};

use crate::environment::Environment;
use crate::error::Result;
use crate::general_points::{GeneralPoints, GeneralPointsConfig};
use crate::igsm::{Igsm, IgsmConfig};
use crate::instructions::{Instructions, InstructionsConfig};

/// An environment by `name`, with its own settings beside it. Rollouts and evaluations read the same table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case")]
pub enum EnvironmentConfig {
    /// Cards to a target number.
    GeneralPoints(GeneralPointsConfig),
    /// Short instructions with a checkable demand.
    Instructions(InstructionsConfig),
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
            EnvironmentConfig::Igsm(config) => Box::new(Igsm::new(config)?),
        })
    }

    /// Most graded answers of one episode.
    pub fn max_attempts(&self) -> u32 {
        match self {
            EnvironmentConfig::GeneralPoints(config) => config.max_attempts,
            EnvironmentConfig::Instructions(_) | EnvironmentConfig::Igsm(_) => 1,
        }
    }
}
