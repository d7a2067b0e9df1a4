//! Text in, text out: an [`Environment`] is reset to an episode named by (seed, index) and stepped with the raw
//! response of a policy. [`general_points`] is the card game, [`instructions`] are demands on the form of an answer,
//! [`igsm`] are word problems over dependency graphs; [`vector`] runs many environments at once.
//!
#![doc = include_str!("../README.md")]

pub mod dataset;
pub mod environment;
mod environment_config;
pub mod error;
pub mod general_points;
pub mod igsm;
pub mod instructions;
pub mod vector;

pub use dataset::DatasetConfig;
pub use environment::{Environment, Message, Observation, Role, Step};
pub use environment_config::EnvironmentConfig;
pub use error::{Error, EvaluationError, Result};
