//! What can go wrong while a run is recorded. Every message names the file, the value and how to mend it.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::ConfigError;

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that can go wrong here.
///
/// The operating system's own error is part of the message, not a `source`, so it is printed once whichever way the
/// error is shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {cause}{}", path.display(), advice(cause))]
    Io {
        /// What was tried: `read`, `write`, `create`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        cause: io::Error,
    },
    /// A configuration file is not TOML.
    #[error("{file}:{line}:{column}: {message}\n  {line} | {source_line}")]
    Syntax {
        /// The file as it was named.
        file: String,
        /// Counted from 1.
        line: usize,
        /// Characters, counted from 1.
        column: usize,
        /// The parser's words.
        message: String,
        /// The offending line.
        source_line: String,
    },
    /// An override (`a.b=VALUE`) cannot be read or applied.
    #[error("override `{text}`: {message}")]
    Override {
        /// The override as typed.
        text: String,
        /// What is wrong and how to mend it.
        message: String,
    },
    /// A key that no configuration struct has.
    #[error("{origin}: unknown key `{key}`{suggestion}")]
    UnknownKey {
        /// Dotted path of the key.
        key: String,
        /// The file (with its line) or the override it came from.
        origin: String,
        /// `; did you mean ...?`, or the list of known keys, or nothing.
        suggestion: String,
    },
    /// A key that must be given and is not.
    #[error("{origin}: missing key `{key}`; add it to the file or set it with an override `{key}=VALUE`")]
    MissingKey {
        /// Dotted path of the key.
        key: String,
        /// The file.
        origin: String,
    },
    /// A value of the wrong type.
    #[error("{origin}: `{key}`: {message}")]
    BadValue {
        /// Dotted path of the key.
        key: String,
        /// The file (with its line) or the override it came from.
        origin: String,
        /// What was found and what was expected.
        message: String,
    },
    /// A value that `validate()` refused.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A value that cannot be written as TOML or JSON.
    #[error("cannot write {what} as {format}: {message}")]
    Serialize {
        /// What was being written.
        what: &'static str,
        /// `TOML` or `JSON`.
        format: &'static str,
        /// The serializer's words.
        message: String,
    },
    /// A run is resumed with another configuration.
    #[error(
        "{}: the run was started with `{key}` = {recorded}, now it is {given}; restore the value, or choose another run folder",
        path.display()
    )]
    ConfigDiffers {
        /// The recorded configuration.
        path: PathBuf,
        /// Dotted path of the first key that differs.
        key: String,
        /// Recorded value, or `nothing`.
        recorded: String,
        /// Value of this start, or `nothing`.
        given: String,
    },
    /// A run is resumed with another seed or another input.
    #[error(
        "{}: {what} `{name}` was {recorded} when the run started, now it is {given}; restore it, or choose another run folder",
        path.display()
    )]
    ManifestDiffers {
        /// The recorded manifest.
        path: PathBuf,
        /// `seed` or `input`.
        what: &'static str,
        /// Name of the seed or input.
        name: String,
        /// Recorded value, or `nothing`.
        recorded: String,
        /// Value of this start, or `nothing`.
        given: String,
    },
    /// The folder holds something that is not a run.
    #[error("{}: {message}; choose an empty folder", path.display())]
    NotARun {
        /// The folder.
        path: PathBuf,
        /// What was found or missing.
        message: String,
    },
    /// Another process writes to this run.
    #[error("{}: another process is writing to this run; wait for it or choose another run folder", path.display())]
    Locked {
        /// The run folder.
        path: PathBuf,
    },
    /// The final name of an [`crate::atomic::AtomicFolder`] is taken.
    #[error("{} exists already; remove it, choose another name, or replace it on purpose", path.display())]
    Exists {
        /// The final name.
        path: PathBuf,
    },
    /// A folder that contains itself through a link.
    #[error("{}: a link leads back to a folder above it; remove the link", path.display())]
    Cycle {
        /// Where the loop was noticed.
        path: PathBuf,
    },
    /// A record file holds a line that is not one of ours.
    #[error("{}:{line}: {message}", path.display())]
    BadLine {
        /// The JSON Lines file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        message: String,
    },
    /// A metric is NaN or infinite.
    #[error("metric `{name}` of split `{split}` at step {step} is {value}; it is not recorded: find where it arises")]
    NonFinite {
        /// Metric name.
        name: String,
        /// Split it was measured on.
        split: String,
        /// Optimizer step.
        step: u64,
        /// The value.
        value: f64,
    },
    /// A metric name is used twice in a row, is empty, or is reserved.
    #[error("metric name `{name}` at step {step}: {message}")]
    BadName {
        /// The name.
        name: String,
        /// Optimizer step.
        step: u64,
        /// What is wrong with it.
        message: &'static str,
    },
    /// A step below the last recorded one.
    #[error("{}: step {step} comes after step {last}; call `truncate_after({step} - 1)` before resuming", path.display())]
    StepBack {
        /// The record file.
        path: PathBuf,
        /// Step of the new line.
        step: u64,
        /// Last step in the file.
        last: u64,
    },
    /// An event file is damaged in the middle.
    #[error("{}: record at byte {offset}: {message}", path.display())]
    Event {
        /// The event file.
        path: PathBuf,
        /// Byte offset of the record.
        offset: u64,
        /// What is wrong with it.
        message: &'static str,
    },
    /// A finite value that single precision cannot hold.
    #[error("scalar `{tag}` at step {step}: {value:e} does not fit single precision, which TensorBoard stores")]
    TooLarge {
        /// Scalar tag.
        tag: String,
        /// Optimizer step.
        step: u64,
        /// The value.
        value: f64,
    },
    /// Nothing was recorded that was asked for.
    #[error("{path}: {message}", path = path.display())]
    NoCurves {
        /// The run folder.
        path: PathBuf,
        /// What is missing and how to mend it.
        message: String,
    },
    /// The log could not be set up.
    #[error("cannot set up the log: {0}")]
    Log(String),
}

impl Error {
    /// For `map_err`: wraps an I/O error with what was tried and where.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
        move |cause| Error::Io { action, path: path.to_path_buf(), cause }
    }
}

/// How to mend the common failures of a disk.
fn advice(cause: &io::Error) -> &'static str {
    match cause.kind() {
        io::ErrorKind::ReadOnlyFilesystem => "; choose a folder on a writable disk",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "; free some space or choose another disk",
        io::ErrorKind::PermissionDenied => "; choose a folder you may write to, or change its owner",
        io::ErrorKind::NotFound => "; check the path",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disk_errors_name_the_path_and_the_mend() {
        let table = [
            (io::ErrorKind::ReadOnlyFilesystem, "writable disk"),
            (io::ErrorKind::StorageFull, "free some space"),
            (io::ErrorKind::PermissionDenied, "may write to"),
        ];
        for (kind, mend) in table {
            let text = Error::io("write", Path::new("runs/a/metrics.jsonl"))(kind.into()).to_string();
            assert!(text.starts_with("cannot write runs/a/metrics.jsonl: "), "{text}");
            assert!(text.contains(mend), "{text}");
        }
    }
}
