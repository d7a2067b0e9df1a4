//! GeneralPoints: reach a target with every dealt card used once, in the language variant.
//!
//! [`deck`] deals, [`solver`] and [`table`] know every solution, [`prompt`] asks, [`answer`] reads, [`verifier`]
//! grades, [`env`](mod@env) plays, [`expert`] shows how and [`dataset`] fills training files. The task, its numbers and its
//! rewards follow Chu et al. 2025, "SFT Memorizes, RL Generalizes": <https://arxiv.org/abs/2501.17161>; where we depart
//! from the published behaviour a `legacy_*` switch restores it. The visual variant is not here.

pub mod answer;
pub mod config;
pub mod dataset;
pub mod deck;
pub mod env;
pub mod expert;
pub mod expression;
pub mod outcome;
pub mod practice;
pub mod prompt;
pub mod rational;
pub mod solver;
pub mod table;
pub mod verifier;

pub use answer::{Answer, ParseMode};
pub use config::{GeneralPointsConfig, RewardConfig, RewardMode, RewardTable, TemplateKind};
pub use dataset::{DatasetConfig, DatasetPart, DatasetRow, RowKind};
pub use deck::{Card, Deck, FaceRule, Hand, SuitPool};
pub use env::GeneralPoints;
pub use expert::{Expert, ExpertExample, expert_example};
pub use outcome::Outcome;
pub use verifier::{Verdict, Verifier};
