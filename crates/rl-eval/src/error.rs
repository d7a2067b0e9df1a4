//! The errors of this crate.

use std::path::PathBuf;

/// What can end an evaluation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value is out of its limits.
    #[error(transparent)]
    Config(#[from] rl_track::ConfigError),
    /// From statistics.
    #[error(transparent)]
    Core(#[from] rl_core::Error),
    /// From data files.
    #[error(transparent)]
    Data(#[from] rl_data::Error),
    /// From the environment.
    #[error(transparent)]
    Environment(#[from] rl_envs::Error),
    /// From models and generation.
    #[error(transparent)]
    Model(#[from] rl_models::Error),
    /// From devices.
    #[error(transparent)]
    Torch(#[from] rl_torch::Error),
    /// From the record on disk.
    #[error(transparent)]
    Track(#[from] rl_track::Error),
    /// The reward model that scores answers failed, is missing, or is not asked for.
    #[error("cannot score answers: {0}")]
    Scorer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A comparison of results on different tasks.
    #[error("{} has {} tasks and {} has {}; a paired comparison needs the same tasks", models[0], tasks[0], models[1], tasks[1])]
    NotPaired {
        /// Names of the models.
        models: [String; 2],
        /// Their numbers of tasks.
        tasks: [u64; 2],
    },
    /// An evaluation file is not what this crate writes, or a training row lacks what is asked of it.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the mend.
        reason: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;
