//! What a configuration says of a dataset, and reading it.

use std::fmt;
use std::iter::Take;
use std::path::{Path, PathBuf};
use std::vec;

use serde::de::{self, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde::{Deserialize, Serialize, Serializer};

use super::layout::{ColumnMap, Detection, Layout};
use super::locate::{DatasetFiles, Wanted};
use super::record::Record;
use super::rows::{Row, Rows};
use crate::error::{Error, Result};
use crate::hub::CacheRoots;

/// A dataset to read, as configurations write it: a path or name alone, or a table with these keys.
///
/// ```
/// use rl_data::source::DatasetConfig;
/// use serde_json::{from_value, json};
///
/// let file: DatasetConfig = from_value(json!("runs/demo/data/sft.jsonl"))?;
/// let pairs: DatasetConfig =
///     from_value(json!({"path": "HuggingFaceH4/ultrafeedback_binarized", "split": "train_prefs", "max_rows": 1000}))?;
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatasetConfig {
    /// A file, a folder, a pattern such as `data/*.jsonl.gz`, or the name of a downloaded dataset: `ORG/NAME` or
    /// `ORG/NAME@REVISION`. What exists as a path is a path. Formats: `.parquet`, `.jsonl`, `.json`, the last two also
    /// with `.gz` or `.zst`.
    pub path: String,
    /// Which split of a folder or a name; not needed where there is only one.
    pub split: Option<String>,
    /// Which folder of the dataset, where the split has files in several.
    pub subset: Option<String>,
    /// How the rows are written, where it is not to be found out.
    pub layout: Option<Layout>,
    /// The columns, where they have other names than the usual ones.
    pub columns: ColumnMap,
    /// Columns that are not read at all.
    pub ignore: Vec<String>,
    /// Only the first rows, so many.
    pub max_rows: Option<usize>,
}

/// The records of a dataset, one by one in bounded memory; nothing comes after an error.
///
/// What is held is one row of JSON, or one slice of one row group of Parquet.
pub struct Records<R> {
    rows: Rows,
    left: usize,
    detection: Detection,
    ready: vec::IntoIter<R>,
}

impl DatasetConfig {
    /// All of a path or name.
    pub fn new(path: impl Into<String>) -> Self {
        DatasetConfig {
            path: path.into(),
            split: None,
            subset: None,
            layout: None,
            columns: ColumnMap::default(),
            ignore: Vec::new(),
            max_rows: None,
        }
    }

    /// The files, found but not opened; names are looked up in the cache of this machine.
    ///
    /// # Errors
    /// [`Error::Dataset`] with what was looked for where, and the mend.
    pub fn files(&self) -> Result<DatasetFiles> {
        self.files_in(&CacheRoots::from_environment())
    }

    /// As [`DatasetConfig::files`], with caches under `roots`.
    ///
    /// # Errors
    /// As [`DatasetConfig::files`].
    pub fn files_in(&self, roots: &CacheRoots) -> Result<DatasetFiles> {
        let (split, subset) = (self.split.as_deref(), self.subset.as_deref());
        Wanted { name: &self.path, split, subset }.files(roots)
    }

    /// The rows as they stand in the files, without the columns of `ignore`.
    ///
    /// # Errors
    /// As [`DatasetConfig::files`]; later, of every row, [`Error::Line`], [`Error::BadRow`] or [`Error::Parquet`].
    pub fn rows(&self) -> Result<Take<Rows>> {
        Ok(self.open()?.take(self.limit()?))
    }

    /// The records one by one.
    ///
    /// # Errors
    /// As [`DatasetConfig::files`]; [`Error::Columns`] where the columns do not hold the record, with those that are
    /// there; [`Error::Setting`] where `max_rows` is 0. Later, of every row, [`Error::Cell`] with file, row and column.
    pub fn stream<R: Record>(&self) -> Result<Records<R>> {
        let left = self.limit()?;
        let mut rows = self.open()?;
        let Some(columns) = rows.columns()? else {
            let (name, problem) = (self.path.clone(), "it has no rows".to_owned());
            return Err(Error::Columns { name, record: R::NAME, problem });
        };
        let detection = Detection::new::<R>(&self.path, &columns, self.layout, &self.columns)?;
        Ok(Records { rows, left, detection, ready: Vec::new().into_iter() })
    }

    /// All records.
    ///
    /// # Errors
    /// As [`DatasetConfig::stream`]; the first bad row is an error.
    pub fn read<R: Record>(&self) -> Result<Vec<R>> {
        self.stream()?.collect()
    }

    /// How the records will be read and why, without reading more than the first row.
    ///
    /// # Errors
    /// As [`DatasetConfig::stream`].
    pub fn detect<R: Record>(&self) -> Result<Detection> {
        Ok(self.stream::<R>()?.detection)
    }

    /// SHA-256 of the files' content, for the record of a run; see [`DatasetFiles::digest`].
    ///
    /// # Errors
    /// As [`DatasetConfig::files`], and [`Error::File`].
    pub fn digest(&self) -> Result<String> {
        self.files()?.digest()
    }

    fn open(&self) -> Result<Rows> {
        Ok(Rows::new(self.files()?.paths, &self.ignore))
    }

    fn limit(&self) -> Result<usize> {
        match self.max_rows {
            Some(0) => {
                let rule = "must be positive; leave it out to read all rows";
                Err(Error::Setting { name: "max_rows", value: "0".to_owned(), rule })
            }
            limit => Ok(limit.unwrap_or(usize::MAX)),
        }
    }
}

impl<R> Records<R> {
    /// How the rows are read, and why.
    pub fn detection(&self) -> &Detection {
        &self.detection
    }
}

impl<R: Record> Records<R> {
    fn record(&self, row: Row) -> Result<Vec<R>> {
        let mut records = Vec::with_capacity(1);
        let fields = self.detection.rename(row.fields);
        match fields.and_then(|fields| R::from_row(fields, self.detection.layout, &mut records)) {
            Ok(()) => Ok(records),
            Err(Error::Field { field, problem }) => {
                let column = self.detection.name_of(field).to_owned();
                Err(Error::Cell { path: row.path.to_path_buf(), place: row.place, column, problem })
            }
            Err(other) => Err(other),
        }
    }
}

impl<R: Record> Iterator for Records<R> {
    type Item = Result<R>;

    fn next(&mut self) -> Option<Result<R>> {
        loop {
            if let Some(record) = self.ready.next() {
                return Some(Ok(record));
            }
            self.left = self.left.checked_sub(1)?;
            match self.rows.next()?.and_then(|row| self.record(row)) {
                Ok(records) => self.ready = records.into_iter(),
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
    }
}

impl From<&str> for DatasetConfig {
    fn from(path: &str) -> Self {
        DatasetConfig::new(path)
    }
}

impl From<&Path> for DatasetConfig {
    fn from(path: &Path) -> Self {
        DatasetConfig::new(path.to_string_lossy())
    }
}

impl From<PathBuf> for DatasetConfig {
    fn from(path: PathBuf) -> Self {
        path.as_path().into()
    }
}

impl fmt::Display for DatasetConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.path)?;
        let parts = [("split", &self.split), ("subset", &self.subset)];
        for (name, value) in parts.into_iter().filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            write!(formatter, ", {name} {value}")?;
        }
        self.max_rows.map_or(Ok(()), |rows| write!(formatter, ", first {rows} rows"))
    }
}

/// The keys of the table.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subset: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    layout: Option<Layout>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_rows: Option<usize>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ignore: Vec<String>,
    #[serde(default, skip_serializing_if = "ColumnMap::is_empty")]
    columns: ColumnMap,
}

impl Serialize for DatasetConfig {
    /// The path alone where nothing else is set.
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        if *self == DatasetConfig::new(self.path.as_str()) {
            return serializer.serialize_str(&self.path);
        }
        let DatasetConfig { path, split, subset, layout, columns, ignore, max_rows } = self.clone();
        Table { path, split, subset, layout, max_rows, ignore, columns }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DatasetConfig {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct PathOrTable;
        impl<'de> Visitor<'de> for PathOrTable {
            type Value = DatasetConfig;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("the path or name of a dataset, or a table with `path`")
            }

            fn visit_str<E: de::Error>(self, path: &str) -> std::result::Result<DatasetConfig, E> {
                named(DatasetConfig::new(path))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> std::result::Result<DatasetConfig, A::Error> {
                let Table { path, split, subset, layout, max_rows, ignore, columns } =
                    Table::deserialize(MapAccessDeserializer::new(map))?;
                named(DatasetConfig { path, split, subset, layout, columns, ignore, max_rows })
            }
        }
        deserializer.deserialize_any(PathOrTable)
    }
}

fn named<E: de::Error>(config: DatasetConfig) -> std::result::Result<DatasetConfig, E> {
    if config.path.is_empty() { Err(E::custom("a dataset needs a path or name")) } else { Ok(config) }
}
