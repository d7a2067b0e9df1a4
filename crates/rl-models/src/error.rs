//! The errors of this crate.

use std::fmt;
use std::path::{Path, PathBuf};

/// What can go wrong with models, their files and their use.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Tch(#[from] tch::TchError),
    /// The runtime layer refused a device or could not map a file.
    #[error(transparent)]
    Runtime(#[from] rl_torch::Error),
    /// From the tokenizer or the chat template.
    #[error(transparent)]
    Data(#[from] rl_data::Error),
    /// From an environment that the model plays.
    #[error(transparent)]
    Environment(#[from] rl_envs::Error),
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `read`, `write`, `rename`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: std::io::Error,
    },
    /// A JSON file is not JSON, or lacks a field.
    #[error("{}: {source}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Line, column and reason.
        source: serde_json::Error,
    },
    /// A safetensors file is truncated, corrupt, or inconsistent.
    #[error("{}: not a readable safetensors file: {reason}; copy or download it again", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A model is neither a folder nor in the Hugging Face cache.
    #[error("model `{name}` is not here ({}); {hint}", looked.join("; "))]
    ModelNotFound {
        /// The path or repository asked for.
        name: String,
        /// Where it was looked for, and what was found there.
        looked: Vec<String>,
        /// How to get it.
        hint: String,
    },
    /// A finite number would become infinite in the type it is to be stored in.
    #[error(
        "tensor `{tensor}` holds a number of size {value}, and {dtype} ends at {largest}; store it as bf16 or f32 instead"
    )]
    Overflow {
        /// The tensor.
        tensor: String,
        /// Its largest such number, without sign.
        value: f64,
        /// The type to be stored.
        dtype: &'static str,
        /// The largest number of that type.
        largest: f64,
    },
    /// Files are not those whose checksums were recorded.
    #[error("{}: not the files that were recorded:{}", path.display(), lists(&[("changed", changed), ("missing", missing), ("not recorded", unexpected)]))]
    Checksums {
        /// The folder.
        path: PathBuf,
        /// Files with another checksum.
        changed: Vec<String>,
        /// Files that were recorded and are not there.
        missing: Vec<String>,
        /// Files that are there and were not recorded.
        unexpected: Vec<String>,
    },
    /// From the record of a run: a file whose checksum was wanted could not be read.
    #[error(transparent)]
    Record(#[from] rl_track::Error),
    /// A tensor is stored in a type that cannot be used here.
    #[error("{}: tensor `{tensor}` has type {dtype}; {allowed} can be read", path.display())]
    TensorType {
        /// The file.
        path: PathBuf,
        /// The tensor.
        tensor: String,
        /// Its type.
        dtype: String,
        /// The types that would do.
        allowed: &'static str,
    },
    /// A file of a checkpoint contradicts another one or is not what its name says.
    #[error("{}: {reason}", path.display())]
    Checkpoint {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, and the mend.
        reason: String,
    },
    /// A value of a model configuration cannot be used.
    #[error("config: `{key}` is {value}: {reason}")]
    Config {
        /// The key in `config.json`.
        key: &'static str,
        /// Its value.
        value: String,
        /// The limit it breaks.
        reason: String,
    },
    /// The tensors found are not the tensors the configuration asks for.
    #[error(transparent)]
    TensorMismatch(TensorMismatch),
    /// A GGUF file is truncated, corrupt, or uses something that is not supported.
    #[error("GGUF, byte {offset}: {reason}")]
    Gguf {
        /// Where in the file the value begins that cannot be used.
        offset: u64,
        /// What is wrong with it.
        reason: String,
    },
    /// A GGUF metadata key is absent or its value cannot be used.
    #[error("GGUF, key `{key}`: {reason}")]
    GgufKey {
        /// The metadata key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An error inside a file whose path the inner message does not name.
    #[error("{}: {error}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What went wrong in it; part of the message, so not a source beside it.
        error: Box<Error>,
    },
    /// Numbers that must be finite are NaN or infinite.
    #[error("`{what}` holds NaN or infinite values")]
    NonFinite {
        /// The tensor or quantity.
        what: String,
    },
    /// A token id that the model has no embedding for.
    #[error("token id {id} is out of range: the model's vocabulary has {vocab_size} entries (0 to {})", vocab_size - 1)]
    TokenOutOfRange {
        /// The token id.
        id: i64,
        /// Entries in the model's vocabulary.
        vocab_size: i64,
    },
    /// A prompt leaves no room for an answer, or is longer than the model's positions.
    #[error("a prompt of {length} tokens is too long: at most {limit} fit; shorten it or raise the limit")]
    PromptTooLong {
        /// Tokens in the prompt.
        length: usize,
        /// Most tokens allowed.
        limit: usize,
    },
    /// A tokenizer can produce ids that the model has no embedding for.
    #[error(
        "the tokenizer has {tokenizer_vocab} entries and the model {model_vocab}: this tokenizer does not belong to this model"
    )]
    TokenizerMismatch {
        /// Entries in the tokenizer, added tokens included.
        tokenizer_vocab: i64,
        /// Entries in the model's vocabulary.
        model_vocab: i64,
    },
    /// An argument of a call that no model could work with.
    #[error("`{name}` is {value}: {reason}")]
    Argument {
        /// The argument.
        name: &'static str,
        /// Its value.
        value: String,
        /// The limit it breaks.
        reason: String,
    },
}

/// Result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Puts the file's path in front of an error that does not name it.
    pub(crate) fn in_file(self, path: &Path) -> Self {
        match self {
            Error::Io { .. } | Error::Json { .. } | Error::Checkpoint { .. } | Error::InFile { .. } => self,
            error => Error::InFile { path: path.to_path_buf(), error: Box::new(error) },
        }
    }

    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { action, path, source }
    }
}

/// Every difference between the tensors found and the tensors expected, by name and shape.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TensorMismatch {
    /// Expected and not found.
    pub missing: Vec<String>,
    /// Found and not expected.
    pub unexpected: Vec<String>,
    /// Found with another shape than expected.
    pub misshapen: Vec<ShapeMismatch>,
}

/// A tensor whose shape is not the expected one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShapeMismatch {
    /// The tensor.
    pub name: String,
    /// Its shape in the file.
    pub found: Vec<i64>,
    /// The shape the configuration asks for.
    pub expected: Vec<i64>,
}

impl TensorMismatch {
    /// True when nothing differs.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.unexpected.is_empty() && self.misshapen.is_empty()
    }
}

/// Names written out per kind of difference; the rest is counted.
const NAMES_SHOWN: usize = 8;

impl fmt::Display for TensorMismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let misshapen = self.misshapen.iter();
        let misshapen: Vec<String> =
            misshapen.map(|m| format!("{} {:?} instead of {:?}", m.name, m.found, m.expected)).collect();
        let kinds = [("missing", &self.missing), ("unexpected", &self.unexpected), ("wrong shape", &misshapen)];
        write!(f, "the tensors found are not those the configuration asks for:{}", lists(&kinds))?;
        write!(
            f,
            ". Take the configuration and all weight files from the same model, and download again what is missing"
        )
    }
}

/// ` 2 missing (a, b); 1 changed (c)`: each kind that has names, with the first of them.
fn lists(kinds: &[(&str, &Vec<String>)]) -> String {
    let with_names = kinds.iter().filter(|(_, names)| !names.is_empty());
    let list = with_names.map(|(kind, names)| {
        let shown = names.len().min(NAMES_SHOWN);
        let more = match names.len() - shown {
            0 => String::new(),
            rest => format!(", and {rest} more"),
        };
        format!(" {} {kind} ({}{more})", names.len(), names[..shown].join(", "))
    });
    list.collect::<Vec<_>>().join(";")
}

impl std::error::Error for TensorMismatch {}
