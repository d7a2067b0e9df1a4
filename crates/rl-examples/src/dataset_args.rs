//! Options of programs that read a dataset: the keys of `rl_data::DatasetConfig` as a command line.

use anyhow::Result;
use rl_data::{ColumnMap, DatasetConfig, Layout};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// What of a dataset is read, and how.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct DatasetArgs {
    /// The split of a folder or of a downloaded dataset.
    #[arg(long)]
    pub split: Option<String>,
    /// The folder of a dataset that has files of the split in several.
    #[arg(long)]
    pub subset: Option<String>,
    /// The layout to read, where the columns do not say which is meant.
    #[arg(long, value_parser = named::<Layout>)]
    pub layout: Option<Layout>,
    /// A column with another name than the usual one, such as prompt=question; may be given often.
    #[arg(long, value_name = "MEANING=COLUMN", value_parser = pair)]
    pub column: Vec<(String, String)>,
    /// A column to leave out; may be given often.
    #[arg(long, value_name = "COLUMN")]
    pub ignore: Vec<String>,
    /// Only the first rows, so many.
    #[arg(long, value_name = "ROWS")]
    pub max_rows: Option<usize>,
}

impl DatasetArgs {
    /// The dataset at `path`, or of that name, read so.
    ///
    /// # Errors
    /// A column for a meaning that there is none of.
    pub fn dataset(&self, path: &str) -> Result<DatasetConfig> {
        let DatasetArgs { split, subset, layout, column, ignore, max_rows } = self.clone();
        let columns: Map<String, Value> = column.into_iter().map(|(name, column)| (name, column.into())).collect();
        let columns: ColumnMap = serde_json::from_value(columns.into())?;
        Ok(DatasetConfig { path: path.to_owned(), split, subset, layout, columns, ignore, max_rows })
    }

    /// Whether nothing is asked for.
    pub fn is_empty(&self) -> bool {
        let DatasetArgs { split, subset, layout, column, ignore, max_rows } = self;
        let unset = split.is_none() && subset.is_none() && layout.is_none() && max_rows.is_none();
        unset && column.is_empty() && ignore.is_empty()
    }
}

/// A value by its name in configurations.
///
/// # Errors
/// The names there are.
pub fn named<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(Value::from(name)).map_err(|error| error.to_string())
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (meaning, column) = text.split_once('=').ok_or("must be MEANING=COLUMN, such as prompt=question")?;
    Ok((meaning.to_owned(), column.to_owned()))
}
