//! Checkpoints in the Hugging Face layout: weights as safetensors, `config.json`, tokenizer and template files.
//!
//! Reading accepts one `model.safetensors` or shards with an index, and fails unless every tensor fits by name and
//! shape. Writing goes to a temporary folder that is synced and renamed, so a folder under its final name is complete.
//! Not here: what the tensors mean (the decoder), and the state of a training run.

mod folder;
mod matching;
mod read;
mod side_files;
mod write;

pub(crate) use folder::{publish, write_file};
pub use folder::{save_folder, write_into};
pub use matching::{check_finite, check_tensors};
pub use read::{load_tensors, read_config, read_tensors};
pub use side_files::SideFiles;
pub use write::save_tensors;
pub(crate) use write::{Entry, write_entries};

/// File name of the configuration in a checkpoint folder.
pub const CONFIG_FILE: &str = "config.json";
/// File name of unsharded weights in a checkpoint folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// File name of the list of shards in a checkpoint folder.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
