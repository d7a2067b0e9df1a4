//! Cells of a Parquet column as JSON values.

use std::vec;

use polars::prelude::{DataType, PolarsError, Series};
use serde_json::{Map, Number, Value as Json};

use crate::source::column::ColumnKind;

/// What a column of a type holds.
pub(super) fn kind(dtype: &DataType) -> ColumnKind {
    match dtype {
        DataType::Null => ColumnKind::Null,
        DataType::Boolean => ColumnKind::Boolean,
        DataType::String | DataType::Date | DataType::Datetime(..) => ColumnKind::Text,
        DataType::Categorical(..) | DataType::Enum(..) => ColumnKind::Text,
        DataType::List(items) => ColumnKind::list(kind(items)),
        DataType::Struct(fields) => ColumnKind::Object(fields.iter().map(|field| field.name().to_string()).collect()),
        number if is_number(number) => ColumnKind::Number,
        other => ColumnKind::Other(other.to_string()),
    }
}

/// The type within a type that has no JSON form, by its name.
pub(super) fn without_json_form(dtype: &DataType) -> Option<String> {
    match dtype {
        DataType::List(items) => without_json_form(items),
        DataType::Struct(fields) => fields.iter().find_map(|field| without_json_form(field.dtype())),
        other => match kind(other) {
            ColumnKind::Other(name) => Some(name),
            _ => None,
        },
    }
}

fn is_number(dtype: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    matches!(dtype, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32 | Float64)
}

/// The values of a column, whole; a list keeps its nulls, an object leaves them out.
///
/// An object that has no value at all is null: a table gives a row that lacks the object its fields as nulls.
///
/// # Errors
/// In words: a number that JSON does not have, or what polars says.
pub(super) fn values(series: &Series) -> Result<Vec<Json>, String> {
    let text = |error: PolarsError| error.to_string();
    Ok(match series.dtype() {
        DataType::Null => vec![Json::Null; series.len()],
        DataType::Boolean => series.bool().map_err(text)?.iter().map(Json::from).collect(),
        DataType::String => series.str().map_err(text)?.iter().map(Json::from).collect(),
        DataType::UInt64 => series.u64().map_err(text)?.iter().map(Json::from).collect(),
        DataType::Float32 | DataType::Float64 => {
            let numbers = series.strict_cast(&DataType::Float64).map_err(text)?;
            numbers.f64().map_err(text)?.iter().map(float).collect::<Result<_, _>>()?
        }
        DataType::List(_) => lists(series)?,
        DataType::Struct(_) => objects(series)?,
        number if is_number(number) => {
            let numbers = series.strict_cast(&DataType::Int64).map_err(text)?;
            numbers.i64().map_err(text)?.iter().map(Json::from).collect()
        }
        _ => {
            let written = series.strict_cast(&DataType::String).map_err(text)?;
            written.str().map_err(text)?.iter().map(Json::from).collect()
        }
    })
}

fn float(number: Option<f64>) -> Result<Json, String> {
    let Some(number) = number else { return Ok(Json::Null) };
    Number::from_f64(number).map(Json::Number).ok_or_else(|| {
        format!("the number {number} has no JSON form; write null for what is missing, or list the column in `ignore`")
    })
}

fn lists(series: &Series) -> Result<Vec<Json>, String> {
    let lists = series.list().map_err(|error| error.to_string())?.rechunk();
    let Some(array) = lists.downcast_iter().next() else { return Ok(Vec::new()) };
    let offsets = array.offsets();
    let (first, last) = (*offsets.first(), *offsets.last());
    // A slice of a column keeps the values of the whole column, so only its own part is converted.
    let inner = lists.get_inner().slice(first, usize::try_from(last - first).map_err(|error| error.to_string())?);
    let mut items = values(&inner)?.into_iter();
    let mut found = Vec::with_capacity(lists.len());
    for row in 0..lists.len() {
        let (start, end) = offsets.start_end(row);
        let list: Vec<Json> = items.by_ref().take(end - start).collect();
        let is_there = array.validity().is_none_or(|bits| bits.get_bit(row));
        found.push(if is_there { Json::Array(list) } else { Json::Null });
    }
    Ok(found)
}

fn objects(series: &Series) -> Result<Vec<Json>, String> {
    let fields = series.struct_().map_err(|error| error.to_string())?.fields_as_series();
    let mut columns = Vec::with_capacity(fields.len());
    for field in &fields {
        columns.push((field.name().to_string(), values(field)?.into_iter()));
    }
    let object = |_| {
        let present = |(name, values): &mut (String, vec::IntoIter<Json>)| {
            let value = values.next().filter(|value| !value.is_null())?;
            Some((name.clone(), value))
        };
        let fields: Map<String, Json> = columns.iter_mut().filter_map(present).collect();
        if fields.is_empty() { Json::Null } else { Json::Object(fields) }
    };
    Ok((0..series.len()).map(object).collect())
}
