//! Parquet through polars, whose types stay in this folder.
//!
//! Eager reading only, one slice of one row group at a time. polars checks less than a file from elsewhere needs, so the
//! sizes that a file states are checked first, and a panic inside polars comes out as an error.

mod cells;
mod read;
mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use polars::prelude::PolarsResult;

pub(super) use read::ParquetRows;
pub use write::write_parquet;

use crate::error::{Error, Result};

/// Runs a piece of polars.
fn guarded<T>(path: &Path, work: impl FnOnce() -> PolarsResult<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(problem(path, error.to_string())),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
            Err(problem(path, format!("the file is damaged ({})", text.unwrap_or_default())))
        }
    }
}

fn problem(path: &Path, problem: impl Into<String>) -> Error {
    Error::Parquet { path: path.to_path_buf(), problem: problem.into() }
}
