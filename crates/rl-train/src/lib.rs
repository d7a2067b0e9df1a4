//! Post-training loops: supervised fine-tuning, GRPO and PPO, with exact resume.
//!
//! A trainer composes the floors below: data and environments give tokens and rewards, models give log-probabilities,
//! rl-core gives losses with their gradients, rl-track keeps the record. Absent on purpose: evaluation protocols
//! (rl-eval) and weight analysis (rl-analysis).

pub mod batch;
pub mod checkpoint;
pub mod config;
mod digest;
mod distill;
pub mod error;
mod examples;
mod interrupt;
mod learner;
mod new_model;
mod non_finite;
mod policy;
mod recorder;
pub mod reward;
mod rl;
mod sft;
mod trainer;

pub use config::{
    ActionConfig, BestConfig, CheckpointConfig, CriticConfig, CriticStart, DistillConfig, Dtype, DynamicSampling,
    EvaluationConfig, Goal, KlConfig, KlPlace, LongPrompts, ModelConfig, NewModelConfig, ParameterGroup, PromptsConfig,
    RlConfig, RolloutConfig, RunConfig, SelectionConfig, SftConfig, TaskConfig, TeacherConfig, TrainingConfig,
    TurnAdvantage, UpdateConfig, ValidationConfig, ValueHeadConfig,
};
pub use distill::{Distill, DistillTrainer};
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use learner::LearnerState;
pub use non_finite::{NonFiniteConfig, NonFiniteCounts};
pub use rl::{Rl, RlTrainer};
pub use sft::{Sft, SftTrainer};
pub use trainer::{Method, Replayed, StepReport, Trainer, replay};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// All steps are done.
    Complete {
        /// Steps done.
        step: u64,
    },
    /// Evaluations had stopped getting better.
    EndedEarly {
        /// Steps done.
        step: u64,
        /// Step of the best evaluation.
        best: u64,
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
