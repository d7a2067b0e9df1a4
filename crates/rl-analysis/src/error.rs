//! The errors of this crate.

use std::path::PathBuf;

/// What can go wrong in an analysis of weights.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// A checkpoint folder could not be read.
    #[error(transparent)]
    Checkpoint(#[from] rl_models::Error),
    /// A setting outside its range.
    #[error("`{field}` is {value}: {mend}")]
    Config {
        /// Name of the setting.
        field: &'static str,
        /// What it was set to.
        value: String,
        /// What it must be.
        mend: &'static str,
    },
    /// A tensor that cannot be analysed.
    #[error("`{name}` cannot be analysed: {reason}")]
    Matrix {
        /// Tensor name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Two arrays whose sizes must agree and do not.
    #[error("{what}: {left} against {right}; they must agree")]
    Shape {
        /// What was compared.
        what: &'static str,
        /// First size.
        left: String,
        /// Second size.
        right: String,
    },
    /// A configured suffix that no tensor of the base checkpoint ends in.
    #[error("no tensor of the base checkpoint ends in `{suffix}`; correct `suffixes`")]
    EmptySelection {
        /// The suffix.
        suffix: String,
    },
    /// Selected matrices are not the same in two checkpoints.
    #[error(
        "checkpoint `{role}`: {matched} of {requested} requested matrices match by name and shape; missing [{missing}], \
         unexpected [{unexpected}], other shape [{reshaped}]; compare checkpoints of one model, saved with the same names"
    )]
    Unmatched {
        /// The checkpoint that disagrees with the base.
        role: &'static str,
        /// Requested matrices found with the right shape.
        matched: usize,
        /// Matrices requested.
        requested: usize,
        /// First names that the base has and this checkpoint lacks.
        missing: String,
        /// First names that this checkpoint has and the base lacks.
        unexpected: String,
        /// First names whose shapes differ.
        reshaped: String,
    },
    /// Too many matrices look like fresh random initialisation.
    #[error(
        "checkpoint `{role}`: {flagged} of {total} matrices look freshly initialised (limit {limit}); the weights were \
         probably not loaded. Check the tensor names, or set `fresh_init.action = \"flag\"` to go on"
    )]
    FreshInit {
        /// The checkpoint.
        role: &'static str,
        /// Matrices flagged when the analysis stopped.
        flagged: usize,
        /// Matrices selected.
        total: usize,
        /// Largest number of flagged matrices allowed.
        limit: usize,
    },
    /// The worker threads could not be started.
    #[error("cannot start the worker threads: {0}")]
    Threads(#[from] rayon::ThreadPoolBuildError),
    /// A file could not be read or written.
    #[error("cannot {action} {path}: {source}")]
    File {
        /// `read` or `write`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A report that is not valid JSON, or of another layout.
    #[error("{path} is not a comparison: {source}")]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: serde_json::Error,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// [`Error::Config`] unless `condition` holds.
pub(crate) fn ensure(
    condition: bool,
    field: &'static str,
    value: impl std::fmt::Display,
    mend: &'static str,
) -> Result<()> {
    if condition { Ok(()) } else { Err(Error::Config { field, value: value.to_string(), mend }) }
}
