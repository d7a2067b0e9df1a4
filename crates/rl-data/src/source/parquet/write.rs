//! Records as a Parquet file that pyarrow, pandas, polars and Hugging Face `datasets` open.
//!
//! Messages become lists of structs of `role` and `content`. zstd pages, and an Arrow schema of the types that every
//! reader knows (`large_list`, `large_string`), since not all know the views that polars would name.

use std::io::Write;
use std::path::Path;

use polars::chunked_array::builder::get_list_builder;
use polars::prelude::{
    ArrowSchema, BatchedWriter, CompatLevel, DataFrame, IntoSeries, KeyValueMetadata, NamedFrom, ParquetCompression,
    ParquetWriter, PlSmallStr, PolarsError, PolarsResult, Schema, SchemaExt, Series, StructChunked,
};
use polars_parquet::write::schema_to_metadata_key;
use serde::Serialize;
use serde_json::{Map, Value as Json};

use super::{guarded, problem};
use crate::error::{Error, Result};
use crate::jsonl::write_atomic;

/// Rows of a row group: few, so that whoever reads the file needs little memory.
const GROUP_ROWS: usize = 2048;

/// The type of a column, as wide as its values need.
#[derive(Debug, Clone, PartialEq)]
enum CellType {
    Null,
    Boolean,
    Integer,
    Float,
    Text,
    List(Box<CellType>),
    Object(Vec<(String, CellType)>),
}

/// Writes the rows to a temporary file beside `path`, syncs it and renames it over `path`; returns their number.
///
/// `rows` is called twice, once to learn the columns and their types and once to write, so that no more than one row
/// group is held. A field that a row lacks is null in it. A slice is written with `|| Ok(rows.iter().map(Ok))`.
///
/// # Errors
/// [`Error::Parquet`] where two rows give a column different types (numbers may be whole or not), where a value has no
/// Parquet form, or where there is no row; whatever `rows` gives.
pub fn write_parquet<T: Serialize, I: Iterator<Item = Result<T>>>(
    path: impl AsRef<Path>,
    rows: impl Fn() -> Result<I>,
) -> Result<usize> {
    let path = path.as_ref();
    let mut columns = Vec::new();
    for (index, row) in rows()?.enumerate() {
        for (name, value) in &object(path, &row?)? {
            let widened = widen_field(&mut columns, name, value);
            widened.map_err(|found| problem(path, format!("row {index}, column `{name}`: {found}")))?;
        }
    }
    if columns.is_empty() {
        return Err(problem(path, "there is no row to write"));
    }
    if let Some((name, _)) = columns.iter().find(|(_, cells)| cells.has_empty_object()) {
        let mend = "leave the column out";
        return Err(problem(
            path,
            format!("column `{name}` holds objects without fields, which a table cannot; {mend}"),
        ));
    }
    write_atomic(path, |out| {
        let mut writer = guarded(path, || start(out, frame(&columns, &[])?.schema()))?;
        let mut group = Vec::with_capacity(GROUP_ROWS);
        let mut count = 0;
        for row in rows()? {
            group.push(object(path, &row?)?);
            if group.len() == GROUP_ROWS {
                guarded(path, || writer.write_batch(&frame(&columns, &group)?))?;
                count += group.len();
                group.clear();
            }
        }
        if !group.is_empty() {
            guarded(path, || writer.write_batch(&frame(&columns, &group)?))?;
        }
        guarded(path, || writer.finish())?;
        Ok(count + group.len())
    })
}

/// Rows as columns.
fn frame(columns: &[(String, CellType)], rows: &[Map<String, Json>]) -> PolarsResult<DataFrame> {
    let mut built = Vec::with_capacity(columns.len());
    for (name, cells) in columns {
        let values: Vec<Option<&Json>> = rows.iter().map(|row| present(row.get(name))).collect();
        built.push(cells.build(name, &values)?.into());
    }
    DataFrame::new(rows.len(), built)
}

fn start<W: Write>(out: W, schema: &Schema) -> PolarsResult<BatchedWriter<W>> {
    let arrow = schema.iter_fields().map(|field| field.to_arrow(CompatLevel::oldest()));
    let arrow: ArrowSchema = arrow.map(|field| (field.name.clone(), field)).collect();
    let stated = schema_to_metadata_key(&arrow);
    let stated = KeyValueMetadata::from_static(vec![(stated.key, stated.value.unwrap_or_default())]);
    ParquetWriter::new(out)
        .with_compression(ParquetCompression::Zstd(None))
        .with_key_value_metadata(Some(stated))
        .batched(schema)
}

fn object<T: Serialize>(path: &Path, row: &T) -> Result<Map<String, Json>> {
    match serde_json::to_value(row).map_err(|source| Error::Json { path: path.to_path_buf(), source })? {
        Json::Object(fields) => Ok(fields),
        _ => Err(problem(path, "a row of a table must be an object with named fields")),
    }
}

fn present(value: Option<&Json>) -> Option<&Json> {
    value.filter(|value| !value.is_null())
}

/// Makes a column wide enough for one more value, and the first of its kind if it is new.
fn widen_field(columns: &mut Vec<(String, CellType)>, name: &str, value: &Json) -> std::result::Result<(), String> {
    match columns.iter_mut().find(|(known, _)| known == name) {
        Some((_, cells)) => cells.widen(value),
        None => {
            let mut cells = CellType::Null;
            cells.widen(value)?;
            columns.push((name.to_owned(), cells));
            Ok(())
        }
    }
}

impl CellType {
    fn widen(&mut self, value: &Json) -> std::result::Result<(), String> {
        match (&mut *self, value) {
            (_, Json::Null) => {}
            (CellType::Null, value) => {
                *self = match value {
                    Json::Bool(_) => CellType::Boolean,
                    Json::Number(number) if number.is_f64() => CellType::Float,
                    Json::Number(_) => CellType::Integer,
                    Json::String(_) => CellType::Text,
                    Json::Array(_) => CellType::List(Box::new(CellType::Null)),
                    _ => CellType::Object(Vec::new()),
                };
                self.widen(value)?;
            }
            (CellType::Boolean, Json::Bool(_)) | (CellType::Text, Json::String(_)) => {}
            (CellType::Float, Json::Number(_)) => {}
            (CellType::Integer, Json::Number(number)) if number.is_f64() => *self = CellType::Float,
            (CellType::Integer, Json::Number(number)) => {
                let small = number.as_i64().map(|_| ());
                small.ok_or_else(|| format!("{number} is above the largest whole number of a table, {}", i64::MAX))?;
            }
            (CellType::List(items), Json::Array(values)) => {
                for value in values {
                    items.widen(value)?;
                }
            }
            (CellType::Object(fields), Json::Object(values)) => {
                for (name, value) in values {
                    widen_field(fields, name, value)?;
                }
            }
            (known, value) => {
                let known = known.name();
                let found = crate::fields::describe(value);
                return Err(format!("found {found} where earlier rows have {known}; a table has one type a column"));
            }
        }
        Ok(())
    }

    fn name(&self) -> &'static str {
        match self {
            CellType::Null => "nothing",
            CellType::Boolean => "true or false",
            CellType::Integer | CellType::Float => "numbers",
            CellType::Text => "text",
            CellType::List(_) => "lists",
            CellType::Object(_) => "objects",
        }
    }

    fn has_empty_object(&self) -> bool {
        match self {
            CellType::List(items) => items.has_empty_object(),
            CellType::Object(fields) => fields.is_empty() || fields.iter().any(|(_, cells)| cells.has_empty_object()),
            _ => false,
        }
    }

    /// The column of these values; null where there is none.
    fn build(&self, name: &str, values: &[Option<&Json>]) -> PolarsResult<Series> {
        let label = PlSmallStr::from_str(name);
        Ok(match self {
            // A column of nothing but nulls is text: not every reader has a type for it.
            CellType::Null => Series::new(label, vec![None::<&str>; values.len()]),
            CellType::Boolean => Series::new(label, collect(values, Json::as_bool)),
            CellType::Integer => Series::new(label, collect(values, Json::as_i64)),
            CellType::Float => {
                let numbers: PolarsResult<Vec<Option<f64>>> = values.iter().map(|value| exact(*value)).collect();
                Series::new(label, numbers?)
            }
            CellType::Text => Series::new(label, collect(values, Json::as_str)),
            CellType::Object(fields) => {
                let mut columns = Vec::with_capacity(fields.len());
                for (field, cells) in fields {
                    let inner: Vec<Option<&Json>> =
                        values.iter().map(|value| present(value.and_then(|value| value.get(field)))).collect();
                    columns.push(cells.build(field, &inner)?);
                }
                StructChunked::from_series(label, values.len(), columns.iter())?.into_series()
            }
            CellType::List(items) => {
                let lists: Vec<Option<&Vec<Json>>> = collect(values, Json::as_array);
                let inner: Vec<Option<&Json>> =
                    lists.iter().flatten().flat_map(|list| list.iter().map(|item| present(Some(item)))).collect();
                let inner = items.build("item", &inner)?;
                let mut builder = get_list_builder(inner.dtype(), inner.len(), values.len(), label);
                let mut start = 0;
                for list in lists {
                    match list {
                        None => builder.append_null(),
                        Some(list) => {
                            builder.append_series(&inner.slice(start as i64, list.len()))?;
                            start += list.len();
                        }
                    }
                }
                builder.finish().into_series()
            }
        })
    }
}

/// A number as a fraction; a whole number that would be rounded is an error.
fn exact(value: Option<&Json>) -> PolarsResult<Option<f64>> {
    let Some(value) = value else { return Ok(None) };
    let number = value.as_f64();
    match (value.as_i64(), number) {
        (Some(whole), Some(number)) if number as i128 != i128::from(whole) => {
            Err(PolarsError::ComputeError(format!("{whole} has no exact form in a column of fractions").into()))
        }
        _ => Ok(number),
    }
}

fn collect<'a, T>(values: &[Option<&'a Json>], as_type: impl Fn(&'a Json) -> Option<T>) -> Vec<Option<T>> {
    values.iter().map(|value| value.and_then(&as_type)).collect()
}
