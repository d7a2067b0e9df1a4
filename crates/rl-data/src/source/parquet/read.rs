//! Rows of a Parquet file, one slice of one row group at a time.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::vec;

use polars::prelude::{DataFrame, DataType, FileMetadata, ParallelStrategy, ParquetReader, SerReader};
use rayon::prelude::*;
use serde_json::{Map, Value as Json};

use super::{cells, guarded, problem};
use crate::error::{Error, Place, Result};
use crate::fields::Fields;
use crate::source::column::{Columns, nearest};

/// Unpacked bytes of a row group that are decoded at a time. Most files have row groups below it; one that has not (some
/// tools write a whole file as one) is decoded in slices, each of which must skip those before it. That bounds what is kept,
/// not what polars needs on the way: of nested columns it unpacks the pages of the group up to the slice.
const SLICE_BYTES: usize = 128 << 20;

/// Unpacked bytes that are turned into JSON values at a time; these take several times the room.
const BATCH_BYTES: usize = 8 << 20;

/// Rows that one task turns into JSON values.
const TASK_ROWS: usize = 256;

/// Reads the rows of one file.
pub(in crate::source) struct ParquetRows {
    path: PathBuf,
    file: File,
    groups: vec::IntoIter<Group>,
    /// Slices of the row group that is being read.
    group: Option<(Group, vec::IntoIter<(usize, usize)>)>,
    columns: Columns,
    projection: Vec<usize>,
    slice_bytes: usize,
    /// The decoded slice, how many of its rows were converted, and how many are converted at a time.
    slice: DataFrame,
    converted: usize,
    batch_rows: usize,
    ready: vec::IntoIter<Fields>,
    row: usize,
}

/// One row group, as a file of its own.
struct Group {
    metadata: FileMetadata,
    rows: usize,
    bytes: usize,
}

impl ParquetRows {
    pub(in crate::source) fn open(path: &Path, ignore: &[String]) -> Result<Self> {
        Self::open_in_slices(path, ignore, SLICE_BYTES)
    }

    fn open_in_slices(path: &Path, ignore: &[String], slice_bytes: usize) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::file("open", path, source))?;
        let length = file.metadata().map_err(|source| Error::file("open", path, source))?.len();
        let reading = file.try_clone().map_err(|source| Error::file("open", path, source))?;
        let (metadata, types) = guarded(path, || {
            let mut reader = ParquetReader::new(reading);
            let metadata = FileMetadata::clone(reader.get_metadata()?);
            let schema = reader.schema()?;
            let types: Vec<(String, DataType)> =
                schema.iter().map(|(name, field)| (name.to_string(), DataType::from_arrow_field(field))).collect();
            Ok((metadata, types))
        })?;
        check_sizes(path, &metadata, length)?;
        let (columns, projection) = choose_columns(path, &types, ignore)?;

        let mut outline = metadata;
        let groups = std::mem::take(&mut outline.row_groups);
        let groups: Vec<Group> = groups
            .into_iter()
            .map(|group| {
                let (rows, bytes) = (group.num_rows(), group.total_byte_size());
                let metadata = FileMetadata { num_rows: rows, row_groups: vec![group], ..outline.clone() };
                Group { metadata, rows, bytes }
            })
            .collect();
        Ok(ParquetRows {
            path: path.to_path_buf(),
            file,
            groups: groups.into_iter(),
            group: None,
            columns,
            projection,
            slice_bytes,
            slice: DataFrame::empty(),
            converted: 0,
            batch_rows: 1,
            ready: Vec::new().into_iter(),
            row: 0,
        })
    }

    /// The columns that are read.
    pub(in crate::source) fn columns(&self) -> &Columns {
        &self.columns
    }

    /// The next row and its index in the file; none at the end.
    pub(in crate::source) fn next(&mut self) -> Result<Option<(usize, Fields)>> {
        loop {
            if let Some(fields) = self.ready.next() {
                self.row += 1;
                return Ok(Some((self.row - 1, fields)));
            }
            if self.converted < self.slice.height() {
                self.convert()?;
            } else if !self.decode()? {
                return Ok(None);
            }
        }
    }

    /// Decodes the next slice; false at the end of the file.
    fn decode(&mut self) -> Result<bool> {
        // The old slice goes before the new one comes.
        (self.slice, self.converted) = (DataFrame::empty(), 0);
        loop {
            if let Some((group, slices)) = &mut self.group
                && let Some(slice) = slices.next()
            {
                let metadata = group.metadata.clone();
                self.batch_rows = pieces_of(group.rows, group.bytes, BATCH_BYTES);
                let (path, projection) = (&self.path, self.projection.clone());
                let file = self.file.try_clone().map_err(|source| Error::file("read", path, source))?;
                let decoded = guarded(path, || {
                    let mut reader = ParquetReader::new(file)
                        .read_parallel(ParallelStrategy::Columns)
                        .with_slice(Some(slice))
                        .with_projection(Some(projection));
                    reader.set_metadata(metadata.into());
                    reader.finish()
                })?;
                if decoded.height() != slice.1 {
                    let found = decoded.height();
                    return Err(problem(path, format!("a row group has {found} rows where {} were promised", slice.1)));
                }
                self.slice = decoded;
                return Ok(true);
            }
            let Some(group) = self.groups.next() else { return Ok(false) };
            let rows = pieces_of(group.rows, group.bytes, self.slice_bytes);
            let slices: Vec<(usize, usize)> =
                (0..group.rows).step_by(rows).map(|start| (start, rows.min(group.rows - start))).collect();
            self.group = Some((group, slices.into_iter()));
        }
    }

    /// Turns the next rows of the slice into JSON values, in parallel.
    fn convert(&mut self) -> Result<()> {
        let end = self.slice.height().min(self.converted.saturating_add(self.batch_rows));
        let starts: Vec<usize> = (self.converted..end).step_by(TASK_ROWS).collect();
        let task = |start: usize| self.rows(start, TASK_ROWS.min(end - start));
        let rows = starts.into_par_iter().map(task).collect::<Result<Vec<Vec<Fields>>>>()?;
        self.converted = end;
        self.ready = rows.into_iter().flatten().collect::<Vec<_>>().into_iter();
        Ok(())
    }

    /// Rows of the slice. A cell that is null is a field that is absent: a table cannot tell the two apart.
    fn rows(&self, start: usize, count: usize) -> Result<Vec<Fields>> {
        let mut rows = vec![Map::new(); count];
        for column in self.slice.columns() {
            let part = column.as_materialized_series().slice(start as i64, count);
            let values = guarded(&self.path, || Ok(cells::values(&part)))?;
            let values = values.map_err(|_| self.first_bad_cell(start, count, column.name()))?;
            for (row, value) in rows.iter_mut().zip(values) {
                if value != Json::Null {
                    row.insert(column.name().to_string(), value);
                }
            }
        }
        Ok(rows.into_iter().map(Fields).collect())
    }

    /// The error of the first cell that has no JSON form, one of which there is.
    fn first_bad_cell(&self, start: usize, count: usize, name: &str) -> Error {
        let first = self.row - self.converted + start;
        let cell = |index: usize| {
            let column = self.slice.column(name).ok()?;
            let problem = cells::values(&column.as_materialized_series().slice((start + index) as i64, 1)).err()?;
            Some((index, problem))
        };
        match (0..count).find_map(cell) {
            Some((index, problem)) => Error::Cell {
                path: self.path.clone(),
                place: Place::Row(first + index),
                column: name.to_owned(),
                problem,
            },
            None => problem(&self.path, format!("column `{name}` cannot be read")),
        }
    }
}

/// Rows such that `limit` bytes hold them, if all are alike; at least one.
fn pieces_of(rows: usize, bytes: usize, limit: usize) -> usize {
    rows.div_ceil(bytes.div_ceil(limit).max(1)).max(1)
}

/// What the file says of its own size must be so: what reads it next trusts it.
fn check_sizes(path: &Path, metadata: &FileMetadata, length: u64) -> Result<()> {
    guarded(path, || {
        let mut ranges = metadata.row_groups.iter().flat_map(|group| group.byte_ranges_iter());
        Ok(ranges.all(|range| range.start <= range.end && range.end <= length))
    })?
    .then_some(())
    .ok_or_else(|| problem(path, format!("the file is cut off: it promises more than its {length} bytes")))?;
    let rows: usize = metadata.row_groups.iter().map(|group| group.num_rows()).sum();
    if rows != metadata.num_rows {
        let stated = metadata.num_rows;
        return Err(problem(path, format!("the file is damaged: it states {stated} rows, its row groups {rows}")));
    }
    Ok(())
}

/// The columns that are read, and their indices.
fn choose_columns(path: &Path, types: &[(String, DataType)], ignore: &[String]) -> Result<(Columns, Vec<usize>)> {
    let names = || types.iter().map(|(name, _)| name.as_str());
    if let Some(absent) = ignore.iter().find(|ignored| !names().any(|name| name == ignored.as_str())) {
        let near = nearest(absent, names()).map(|name| format!("; the nearest is `{name}`")).unwrap_or_default();
        return Err(problem(path, format!("there is no column `{absent}`, which `ignore` lists{near}")));
    }
    let mut chosen = (Columns::new(), Vec::new());
    for (index, (name, dtype)) in types.iter().enumerate() {
        if ignore.contains(name) {
            continue;
        }
        if let Some(inner) = cells::without_json_form(dtype) {
            let mend = "list the column in `ignore` to leave it out";
            return Err(problem(path, format!("column `{name}` holds {inner} values, which are not read; {mend}")));
        }
        chosen.0.push((name.clone(), cells::kind(dtype)));
        chosen.1.push(index);
    }
    if chosen.1.is_empty() {
        return Err(problem(path, "there is no column to read"));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROWS: usize = 25;
    /// Of every row group of the file but the last.
    const GROUP_ROWS: usize = 7;

    /// Reads a file of pyarrow; gives its rows and how many of them were decoded at a time.
    fn read(slice_bytes: usize) -> (Vec<Fields>, Vec<usize>) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parquet/pyarrow_snappy.parquet");
        let mut reader = ParquetRows::open_in_slices(&path, &[], slice_bytes).unwrap();
        let (mut rows, mut held) = (Vec::new(), Vec::new());
        while let Some((index, fields)) = reader.next().unwrap() {
            assert_eq!(index, rows.len());
            rows.push(fields);
            held.push(reader.slice.height());
        }
        (rows, held)
    }

    #[test]
    fn no_more_than_a_row_group_is_held_and_of_a_large_one_less() {
        let (rows, held) = read(SLICE_BYTES);
        let expected: Vec<usize> = (0..ROWS).map(|row| GROUP_ROWS.min(ROWS - row / GROUP_ROWS * GROUP_ROWS)).collect();
        assert_eq!(held, expected);
        let (single, held) = read(1);
        assert_eq!((single, held), (rows.clone(), vec![1; ROWS]));
        // Half of a row group, or a little less.
        let (halves, held) = read(400);
        assert_eq!(halves, rows);
        assert!(held.iter().all(|&rows| rows < GROUP_ROWS) && held.iter().any(|&rows| 1 < rows), "{held:?}");
    }

    #[test]
    fn pieces_hold_their_limit() {
        for (rows, bytes, limit, expected) in [
            (100, 1000, 1000, 100),
            (100, 1001, 1000, 50),
            (100, 10_000, 1000, 10),
            (3, 1000, 1, 1),
            (0, 0, 10, 1),
            (7, 0, 10, 7),
        ] {
            assert_eq!(pieces_of(rows, bytes, limit), expected, "{rows} rows of {bytes} bytes");
        }
    }
}
