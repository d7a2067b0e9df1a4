//! Environments by name, ready to be played: for terminals, benchmarks and tests. A run has a config file.

use std::fmt;
use std::str::FromStr;

use crate::environment_config::EnvironmentConfig;
use crate::error::{Error, Result};
use crate::general_points::{GeneralPointsConfig, SuitPool, VisionConfig};
use crate::igsm::{self, Extraction, IgsmConfig, ProblemConfig};
use crate::instructions::{ConstraintKind, InstructionsConfig, PromptConfig, RewardTable, Split};
use crate::matrix_tasks::MatrixTasksConfig;
use crate::virl::VirlConfig;

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
    /// A walk through a city, turns named by the compass.
    Virl,
    /// The same with turns named by the side.
    VirlShifted,
    /// Word problems of 15 to 20 operations.
    Igsm,
    /// Word problems of at most 15 operations in the way of the original benchmark, modulo 23.
    IgsmModular,
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
        Preset::Virl,
        Preset::VirlShifted,
        Preset::Igsm,
        Preset::IgsmModular,
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
            Preset::Virl => "virl",
            Preset::VirlShifted => "virl_shifted",
            Preset::Igsm => "igsm",
            Preset::IgsmModular => "igsm_modular",
        }
    }

    /// What it is, in a few words.
    pub fn summary(self) -> &'static str {
        match self {
            Preset::GeneralPoints => "four cards to 24, face cards count 10",
            Preset::GeneralPointsShifted => "the same, face cards count 11, 12 and 13",
            Preset::GeneralPointsVision => "the same as the first, the cards are in a picture",
            Preset::GeneralPointsLarge => "six cards to 100",
            Preset::MatrixRank => "the rank of a matrix",
            Preset::MatrixDeterminant => "the determinant of a matrix",
            Preset::Instructions => "short instructions with a checkable demand",
            Preset::Virl => "a walk through a city, turns by the compass",
            Preset::VirlShifted => "the same, turns by the side",
            Preset::Igsm => "word problems of 15 to 20 operations",
            Preset::IgsmModular => "word problems of at most 15 operations, modulo 23",
        }
    }

    /// Its settings.
    pub fn config(self) -> EnvironmentConfig {
        let cards = GeneralPointsConfig::default;
        let word_problems = |problems| {
            let reward = igsm::RewardTable::BINARY;
            EnvironmentConfig::Igsm(IgsmConfig { problems, extraction: Extraction::Robust, reward })
        };
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
            Preset::Virl => EnvironmentConfig::Virl(VirlConfig::default()),
            Preset::VirlShifted => EnvironmentConfig::Virl(VirlConfig::default().rule_shifted()),
            Preset::Igsm => word_problems(ProblemConfig::range(15, 20)),
            Preset::IgsmModular => word_problems(ProblemConfig::original_medium()),
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
