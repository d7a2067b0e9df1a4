//! Text in, text out: an [`Environment`] is reset to an episode named by (seed, index) and stepped with the raw
//! response of a policy. [`general_points`] is the card game, [`virl`] the walk through a city, [`igsm`] are word problems
//! over dependency graphs, [`matrix_tasks`] ask for one number, [`instructions`] are demands on the form of an answer.
//! [`vector`] runs many environments at once, [`wrappers`] change how an episode is stopped, paid or recorded, and
//! [`check`] holds any environment to the laws of the contract.
//!
#![doc = include_str!("../README.md")]

pub mod check;
pub mod dataset;
pub mod environment;
mod environment_config;
pub mod error;
pub mod general_points;
pub mod hostile;
pub mod igsm;
pub mod instructions;
mod json_text;
pub mod matrix_tasks;
pub mod picture;
mod preset;
mod price;
pub mod vector;
pub mod virl;
pub mod wrappers;

pub use check::check_environment;
pub use dataset::DatasetConfig;
pub use environment::{Environment, Message, Observation, Role, Step};
pub use environment_config::EnvironmentConfig;
pub use error::{Error, EvaluationError, Result};
pub use picture::Picture;
pub use preset::Preset;
pub use price::{Combination, Prices};
