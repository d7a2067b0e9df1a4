//! Datasets as people have them: files, folders, patterns, shards and downloaded datasets, in several formats and
//! layouts, read as the records of this crate in bounded memory.
//!
//! [`DatasetConfig`] is the way in. Nothing is fetched, and nothing is guessed silently: [`Detection`] says what was
//! decided and why. Not here: what the records become (`render`, `preference_example`) and which are kept (`select`).

pub mod column;
pub mod config;
pub mod convert;
mod digest;
pub mod format;
mod json_rows;
pub mod layout;
pub mod locate;
#[cfg(feature = "parquet")]
pub mod parquet;
pub mod record;
pub mod rows;
mod split;

pub use column::{ColumnKind, Columns};
pub use config::{DatasetConfig, Records};
pub use convert::{ConvertConfig, Converted};
pub use format::{Compression, Format};
pub use layout::{ColumnMap, Detection, Layout};
pub use locate::DatasetFiles;
#[cfg(feature = "parquet")]
pub use parquet::write_parquet;
pub use record::Record;
pub use rows::{Row, Rows};
