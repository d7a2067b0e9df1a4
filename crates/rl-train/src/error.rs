//! The errors of this crate.

use std::path::{Path, PathBuf};

/// What can end a training run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configuration value is out of its limits.
    #[error(transparent)]
    Config(#[from] rl_track::ConfigError),
    /// From the mathematics: shapes, empty batches, non-finite numbers.
    #[error(transparent)]
    Core(#[from] rl_core::Error),
    /// From data and templates.
    #[error(transparent)]
    Data(#[from] rl_data::Error),
    /// From the environment.
    #[error(transparent)]
    Environment(#[from] rl_envs::Error),
    /// From models, checkpoints and generation.
    #[error(transparent)]
    Model(#[from] rl_models::Error),
    /// From optimizer and devices.
    #[error(transparent)]
    Torch(#[from] rl_torch::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Tch(#[from] tch::TchError),
    /// From the run's record.
    #[error(transparent)]
    Track(#[from] rl_track::Error),
    /// An error, and where in the run it happened.
    #[error("step {step}: {source}")]
    AtStep {
        /// Step that was under way.
        step: u64,
        /// What happened.
        source: Box<Error>,
    },
    /// A checkpoint cannot be resumed from.
    #[error("{}: {reason}", path.display())]
    Resume {
        /// The checkpoint.
        path: PathBuf,
        /// Why, and the mend.
        reason: String,
    },
    /// Old and current log-probabilities differ before the first update of a rollout.
    #[error(
        "the ratio of the first update is off by {deviation:e}, more than {limit:e}: the forward pass is not reproducible"
    )]
    RatioNotOne {
        /// Largest `|ratio - 1|` seen.
        deviation: f64,
        /// Largest allowed.
        limit: f64,
    },
    /// A source of rewards cannot be built or used as configured.
    #[error("reward `{name}`: {reason}")]
    RewardSource {
        /// Name of the source.
        name: String,
        /// What is wrong, and the mend.
        reason: String,
    },
    /// A score failed at a source that is to end the run.
    #[error("reward `{name}` has no score for sample {sample}: {reason} (its `on_failure` is `stop`)")]
    RewardFailed {
        /// The request's number.
        sample: u64,
        /// Name of the source.
        name: String,
        /// Why there is no score.
        reason: String,
    },
    /// Too many threads are stuck in user code.
    #[error(
        "reward `{name}`: {running} of its calls or those of other sources are still stuck after their deadline, more than \
         max_abandoned = {limit}; mend it, or make it a `command` source, which can be killed"
    )]
    RewardAbandoned {
        /// Source of the call that went over the limit.
        name: String,
        /// Threads that do not come back.
        running: usize,
        /// Most allowed.
        limit: usize,
    },
    /// The weighted sum of a sample's scores is not finite, though every score is.
    #[error("the weighted sum of the rewards of sample {sample} is not finite; scale the scores or their weights down")]
    RewardOverflow {
        /// The request's number.
        sample: u64,
    },
    /// No thread for the workers that score.
    #[error("cannot start a thread for rewards: {0}")]
    RewardThread(std::io::Error),
    /// A file or folder could not be made or removed.
    #[error("cannot {action} {}: {source}", path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// Signal handlers could not be installed.
    #[error("cannot install signal handlers: {0}")]
    Signal(std::io::Error),
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// For `map_err` on file operations.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::File { action, path, source }
    }

    /// Names the step at which the error happened.
    pub(crate) fn at_step(self, step: u64) -> Self {
        Error::AtStep { step, source: Box::new(self) }
    }
}
