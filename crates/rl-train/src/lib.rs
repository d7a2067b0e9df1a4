//! Post-training loops: supervised fine-tuning, reward models, preferences, reinforcement learning, distillation; with exact resume.
//!
//! A trainer composes the floors below: data and environments give tokens and rewards, models give log-probabilities,
//! rl-core gives losses with their gradients, rl-track keeps the record. Absent on purpose: evaluation protocols
//! (rl-eval) and weight analysis (rl-analysis).

pub mod batch;
pub mod checkpoint;
pub mod config;
mod data;
mod digest;
mod distill;
pub mod error;
mod examples;
mod interrupt;
mod learner;
mod new_model;
mod non_finite;
mod pair_batch;
pub mod plan;
mod policy;
mod preference;
mod recorder;
pub mod reward;
mod reward_model;
mod rl;
mod sft;
mod trainer;
mod unpaired;

pub use config::{
    ActionConfig, BestConfig, CheckpointConfig, CriticConfig, CriticStart, DataConfig, DistillConfig, Dtype,
    DynamicSampling, EvaluationConfig, Goal, HeadInit, HeldOutConfig, KlConfig, KlPlace, LongPrompts, MemoryCheck,
    MixtureConfig, ModelConfig, NewModelConfig, ParameterGroup, PreferenceConfig, PromptsConfig, ReferenceConfig,
    ReferencePasses, RewardModelConfig, RlConfig, RolloutConfig, RunConfig, SelectionConfig, SftConfig, ShareConfig,
    TaskConfig, TeacherConfig, TrainingConfig, TurnAdvantage, UnpairedConfig, UpdateConfig, ValidationConfig,
    ValueHeadConfig,
};
pub use data::DataFile;
pub use distill::{Distill, DistillTrainer};
pub use error::{Error, Result};
pub use interrupt::Interrupt;
pub use learner::LearnerState;
pub use non_finite::{NonFiniteConfig, NonFiniteCounts};
pub use pair_batch::TrainingPair;
pub use preference::{Preference, PreferenceTrainer};
pub use reward_model::{RewardModel, RewardModelTrainer, RewardSource};
pub use rl::{Rl, RlTrainer, Sampler};
pub use sft::{Sft, SftTrainer};
pub use trainer::{Method, Replayed, StepReport, Trainer, replay};
pub use unpaired::{TrainingAnswer, Unpaired, UnpairedTrainer};

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
