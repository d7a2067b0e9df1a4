//! Checkpoints in the Hugging Face layout: weights as safetensors, `config.json`, tokenizer and template files.
//!
//! Reading accepts one `model.safetensors` or shards with an index, and fails unless every tensor fits by name and
//! shape. Writing goes to a temporary folder that is synced and renamed, so a folder under its final name is complete;
//! [`SaveOptions`] choose the stored type and the size of the files. Models are found by path or, with
//! [`resolve_model`], by name in the Hugging Face cache. Not here: what the tensors mean (the decoder), downloading, and
//! the state of a training run.

mod checksums;
mod convert;
mod encode;
mod folder;
mod header;
mod hub;
mod matching;
mod read;
mod shards;
mod side_files;
mod write;

pub use checksums::{checksums, verify_checksums};
pub use convert::convert_folder;
pub(crate) use encode::encode_values;
pub(crate) use folder::{publish, write_file, write_files};
pub use folder::{save_folder, save_folder_as, write_into};
pub(crate) use hub::folder_or_repository;
pub use hub::{CacheRoots, resolve_model, resolve_model_in};
pub use matching::{check_finite, check_tensors};
pub use read::{WeightInfo, Weights, load_tensors, read_config, read_tensors, tensors_from_bytes};
pub use shards::{SaveOptions, SavedWeights};
pub use side_files::SideFiles;
pub(crate) use write::Entry;
pub use write::save_tensors;

/// File name of the configuration in a checkpoint folder.
pub const CONFIG_FILE: &str = "config.json";
/// File name of unsharded weights in a checkpoint folder.
pub const WEIGHTS_FILE: &str = "model.safetensors";
/// File name of the list of shards in a checkpoint folder.
pub const INDEX_FILE: &str = "model.safetensors.index.json";
