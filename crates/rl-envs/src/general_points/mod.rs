//! GeneralPoints: reach a target with every dealt card used once, cards listed in the prompt or shown in a picture.
//!
//! [`deck`] deals, [`solver`] and [`table`] know every solution, [`prompt`] asks, [`answer`] reads, [`verifier`]
//! grades, [`env`](mod@env) plays, [`table_top`] draws the cards, [`expert`] shows how and [`dataset`] fills training files. The task, its numbers and its
//! rewards follow Chu et al. 2025, "SFT Memorizes, RL Generalizes": <https://arxiv.org/abs/2501.17161>; where we depart
//! from the published behaviour a `legacy_*` switch restores it.

pub mod answer;
pub mod config;
pub mod dataset;
pub mod deck;
pub mod env;
pub mod expert;
pub mod expression;
mod glyphs;
pub mod outcome;
pub mod practice;
pub mod prompt;
pub mod rational;
mod search;
pub mod solver;
pub mod table;
pub mod table_top;
pub mod verifier;

pub use answer::{Answer, ParseMode};
pub use config::{GeneralPointsConfig, RewardConfig, RewardMode, RewardTable, TemplateKind, VisionConfig};
pub use dataset::{DatasetConfig, DatasetPart, DatasetRow, Repeats, RowKind};
pub use deck::{Card, Deck, Duplicates, FaceRule, Hand, SuitPool};
pub use env::GeneralPoints;
pub use expert::{Expert, ExpertExample, expert_example};
pub use outcome::Outcome;
pub use verifier::{Verdict, Verifier};
