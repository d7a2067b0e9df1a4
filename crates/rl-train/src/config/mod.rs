//! What a run's TOML file holds: parsed, validated, and only then built.
//!
//! Every trainer has one struct here; what all of them share is in [`ModelConfig`] and [`TrainingConfig`].

/// The part of [`RunConfig`] that every configuration writes alike: its own fields of these names.
macro_rules! common_sections {
    () => {
        fn run(&self) -> &std::path::Path {
            &self.run
        }

        fn device(&self) -> &str {
            &self.device
        }

        fn training(&self) -> &$crate::config::TrainingConfig {
            &self.training
        }
    };
}

pub(crate) mod data;
mod distill;
mod model;
mod preference;
mod reward_model;
mod rl;
mod sft;
mod training;
mod unpaired;

use std::path::Path;

use rl_track::ConfigError;
use serde::Serialize;

pub use data::{DataConfig, HeldOutConfig, MixtureConfig, ShareConfig};
pub use distill::{DistillConfig, TeacherConfig};
pub(crate) use model::TOKENIZER_DATA;
pub use model::{Dtype, ModelConfig, NewModelConfig};
pub use preference::{PreferenceConfig, ReferenceConfig, ReferencePasses};
pub use reward_model::{HeadInit, RewardModelConfig};
pub use rl::{
    ActionConfig, CriticConfig, CriticStart, DynamicSampling, KlConfig, KlPlace, LongPrompts, PretrainConfig,
    PromptsConfig, RlConfig, RolloutConfig, SelectionConfig, TaskConfig, TurnAdvantage, UpdateConfig, ValidationConfig,
    ValueHeadConfig,
};
pub use sft::SftConfig;
pub(crate) use training::on_splits;
pub use training::{BestConfig, CheckpointConfig, EvaluationConfig, Goal, MemoryCheck, ParameterGroup, TrainingConfig};
pub use unpaired::UnpairedConfig;

/// What the loop around every training method reads of its configuration.
pub trait RunConfig: Serialize {
    /// Folder of the run's record and checkpoints.
    fn run(&self) -> &Path;

    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    fn device(&self) -> &str;

    /// What all trainers share.
    fn training(&self) -> &TrainingConfig;

    /// The numbers that evaluations of this run give, as `SPLIT/NAME`: what `training.evaluation.best.metric` may be.
    fn metrics(&self) -> Vec<String>;

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, its value and its limit.
    fn validate(&self) -> Result<(), ConfigError>;
}

/// The refusal of a section by the crate that reads it.
pub(crate) fn refused<E: std::fmt::Display>(section: &'static str) -> impl Fn(E) -> ConfigError {
    move |error| ConfigError { key: section.into(), value: "as given".into(), message: error.to_string() }
}

/// The refusal of a number by the mathematics as an error of the key `section.name`.
pub(crate) fn in_section(section: &'static str) -> impl Fn(rl_core::Error) -> ConfigError {
    move |error| match error {
        rl_core::Error::BadHyperparameter { name, value, limit } => {
            ConfigError { key: format!("{section}.{name}"), value: value.to_string(), message: limit.into() }
        }
        other => refused(section)(other),
    }
}
