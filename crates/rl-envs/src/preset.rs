//! Environments by name, ready to be played: for terminals, benchmarks and tests. A run has a config file.

use std::fmt;
use std::str::FromStr;

use crate::environment_config::EnvironmentConfig;
use crate::error::{Error, Result};
use crate::general_points::{GeneralPointsConfig, SuitPool, VisionConfig};
use crate::instructions::{ConstraintKind, InstructionsConfig, PromptConfig, RewardTable, Split};
use crate::matrix_tasks::MatrixTasksConfig;

/// An environment with usual settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Four cards to 24, face cards count 10.
    GeneralPoints,
    /// The same under the other rule, with a face card in every hand.
    GeneralPointsShifted,
    /// The cards are in a picture, black suits only.
    GeneralPointsVision,
    /// Six cards to 100.
    GeneralPointsLarge,
    /// The rank of a matrix.
    MatrixRank,
    /// The determinant of a matrix.
    MatrixDeterminant,
    /// Short instructions with a checkable demand, of every kind.
    Instructions,
}

impl Preset {
    /// All of them.
    pub const ALL: &[Preset] = &[
        Preset::GeneralPoints,
        Preset::GeneralPointsShifted,
        Preset::GeneralPointsVision,
        Preset::GeneralPointsLarge,
        Preset::MatrixRank,
        Preset::MatrixDeterminant,
        Preset::Instructions,
    ];

    /// Name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Preset::GeneralPoints => "general_points",
            Preset::GeneralPointsShifted => "general_points_shifted",
            Preset::GeneralPointsVision => "general_points_vision",
            Preset::GeneralPointsLarge => "general_points_large",
            Preset::MatrixRank => "matrix_rank",
            Preset::MatrixDeterminant => "matrix_determinant",
            Preset::Instructions => "instructions",
        }
    }

    /// Its settings.
    pub fn config(self) -> EnvironmentConfig {
        let cards = GeneralPointsConfig::default;
        match self {
            Preset::GeneralPoints => EnvironmentConfig::GeneralPoints(cards()),
            Preset::GeneralPointsShifted => EnvironmentConfig::GeneralPoints(cards().rule_shifted()),
            Preset::GeneralPointsVision => EnvironmentConfig::GeneralPoints(GeneralPointsConfig {
                vision: Some(VisionConfig { resolution: 1200, recognition_only: false }),
                suit_pool: SuitPool::Black,
                ..cards()
            }),
            Preset::GeneralPointsLarge => {
                EnvironmentConfig::GeneralPoints(GeneralPointsConfig { num_cards: 6, target: 100, ..cards() })
            }
            Preset::MatrixRank => EnvironmentConfig::MatrixTasks(MatrixTasksConfig::rank()),
            Preset::MatrixDeterminant => EnvironmentConfig::MatrixTasks(MatrixTasksConfig::determinant()),
            Preset::Instructions => EnvironmentConfig::Instructions(InstructionsConfig {
                prompts: PromptConfig { split: Split::Train, kinds: ConstraintKind::ALL.to_vec() },
                reward: RewardTable::BINARY,
            }),
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Preset {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let known = || Preset::ALL.iter().map(|preset| preset.name()).collect::<Vec<_>>().join(", ");
        Preset::ALL.iter().copied().find(|preset| preset.name() == name).ok_or_else(|| Error::UnknownName {
            what: "environment",
            found: name.to_string(),
            known: known(),
        })
    }
}
