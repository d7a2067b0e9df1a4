//! Post-training loops: supervised fine-tuning, GRPO and PPO, with exact resume.
//!
//! A trainer composes the floors below: data and environments give tokens and rewards, models give log-probabilities,
//! rl-core gives losses with their gradients, rl-track keeps the record. Absent on purpose: evaluation protocols
//! (rl-eval) and weight analysis (rl-analysis).

pub mod batch;
pub mod checkpoint;
pub mod config;
pub mod error;
mod interrupt;
mod recorder;
pub mod reward;
mod rl;
mod sft;
mod statistics;

pub use config::{Algorithm, CheckpointConfig, ModelSource, NewModelConfig, RlConfig, SftConfig};
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use rl::RlTrainer;
pub use sft::SftTrainer;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// All steps are done.
    Complete {
        /// Steps done.
        step: u64,
    },
    /// A signal asked for the end; the run continues from its checkpoint when started again.
    Interrupted {
        /// Steps done.
        step: u64,
    },
}

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
