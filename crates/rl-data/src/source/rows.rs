//! Rows of many files, one after another, in bounded memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::vec;

use super::column::{ColumnKind, Columns};
use super::format::Format;
use super::json_rows::JsonRows;
#[cfg(feature = "parquet")]
use super::parquet::ParquetRows;
#[cfg(not(feature = "parquet"))]
use crate::error::Error;
use crate::error::{Place, Result};
use crate::fields::Fields;
use crate::jsonl::JsonlReader;

/// A row and where it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its file.
    pub path: Arc<Path>,
    /// Where in the file.
    pub place: Place,
    /// Its fields, with the names they have in the file.
    pub fields: Fields,
}

/// Reads the rows of files.
pub struct Rows {
    files: vec::IntoIter<PathBuf>,
    ignore: Vec<String>,
    open: Option<OpenFile>,
    first: Option<Row>,
}

struct OpenFile {
    path: Arc<Path>,
    reader: Reader,
}

enum Reader {
    Lines(JsonlReader<Fields>),
    Json(JsonRows),
    #[cfg(feature = "parquet")]
    Parquet(Box<ParquetRows>),
}

impl Rows {
    /// Rows of `files` without the columns `ignore`. Nothing is opened yet.
    pub fn new(files: Vec<PathBuf>, ignore: &[String]) -> Self {
        Rows { files: files.into_iter(), ignore: ignore.to_vec(), open: None, first: None }
    }

    /// The columns: by the schema of the first file, or by its first row where it has none. None if there is no row.
    pub(super) fn columns(&mut self) -> Result<Option<Columns>> {
        if self.first.is_none() {
            self.first = self.read()?;
        }
        let Some(first) = &self.first else { return Ok(None) };
        Ok(Some(match &self.open {
            #[cfg(feature = "parquet")]
            Some(OpenFile { reader: Reader::Parquet(rows), .. }) => rows.columns().clone(),
            _ => first.fields.0.iter().map(|(name, value)| (name.clone(), ColumnKind::of(value))).collect(),
        }))
    }

    fn read(&mut self) -> Result<Option<Row>> {
        loop {
            if let Some(open) = &mut self.open {
                if let Some(mut row) = open.next()? {
                    for name in &self.ignore {
                        row.fields.0.shift_remove(name);
                    }
                    return Ok(Some(row));
                }
                self.open = None;
            }
            match self.files.next() {
                Some(path) => self.open = Some(OpenFile::new(path, &self.ignore)?),
                None => return Ok(None),
            }
        }
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    /// The next row; nothing comes after an error.
    fn next(&mut self) -> Option<Result<Row>> {
        if let Some(first) = self.first.take() {
            return Some(Ok(first));
        }
        let row = self.read();
        if row.is_err() {
            (self.open, self.files) = (None, Vec::new().into_iter());
        }
        row.transpose()
    }
}

impl OpenFile {
    fn new(path: PathBuf, ignore: &[String]) -> Result<Self> {
        let reader = match Format::of(&path) {
            Some((Format::Parquet, _)) => open_parquet(&path, ignore)?,
            Some((Format::Json, _)) => Reader::Json(JsonRows::open(&path)?),
            _ => Reader::Lines(JsonlReader::open(&path)?),
        };
        Ok(OpenFile { path: path.into(), reader })
    }

    fn next(&mut self) -> Result<Option<Row>> {
        let found = match &mut self.reader {
            Reader::Lines(lines) => lines.next().transpose()?.map(|fields| (Place::Line(lines.line()), fields)),
            Reader::Json(rows) => rows.next()?.map(|(row, fields)| (Place::Row(row), fields)),
            #[cfg(feature = "parquet")]
            Reader::Parquet(rows) => rows.next()?.map(|(row, fields)| (Place::Row(row), fields)),
        };
        Ok(found.map(|(place, fields)| Row { path: self.path.clone(), place, fields }))
    }
}

#[cfg(feature = "parquet")]
fn open_parquet(path: &Path, ignore: &[String]) -> Result<Reader> {
    Ok(Reader::Parquet(Box::new(ParquetRows::open(path, ignore)?)))
}

#[cfg(not(feature = "parquet"))]
fn open_parquet(path: &Path, _ignore: &[String]) -> Result<Reader> {
    Err(Error::FeatureOff { path: path.to_path_buf(), feature: "parquet" })
}
