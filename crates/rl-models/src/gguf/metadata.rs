//! The typed key-value pairs at the head of a GGUF file.

use std::collections::BTreeMap;

use crate::error::{Error, Result};

/// One metadata value. Integers are widened to 64 bits; their width carries no meaning.
#[derive(Debug, Clone, PartialEq)]
pub enum MetadataValue {
    /// u8, u16, u32 or u64.
    Unsigned(u64),
    /// i8, i16, i32 or i64.
    Signed(i64),
    /// f32: kept apart from f64, because its shortest decimal is what the writer meant.
    Float32(f32),
    /// f64.
    Float64(f64),
    /// A boolean.
    Bool(bool),
    /// UTF-8 text.
    String(String),
    /// Values of one type.
    Array(Vec<MetadataValue>),
}

impl MetadataValue {
    /// The value as an integer, where it is one that fits in 63 bits.
    pub fn as_integer(&self) -> Option<i64> {
        match *self {
            MetadataValue::Unsigned(x) => i64::try_from(x).ok(),
            MetadataValue::Signed(x) => Some(x),
            _ => None,
        }
    }

    /// The value as text, where it is text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            MetadataValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// A float; an f32 becomes the f64 nearest to its shortest decimal, so that 1e-5 stays 1e-5.
    pub fn as_float(&self) -> Option<f64> {
        match *self {
            MetadataValue::Float32(x) => x.to_string().parse().ok(),
            MetadataValue::Float64(x) => Some(x),
            _ => None,
        }
    }

    fn type_name(&self) -> &'static str {
        match self {
            MetadataValue::Unsigned(_) => "an unsigned integer",
            MetadataValue::Signed(_) => "a signed integer",
            MetadataValue::Float32(_) | MetadataValue::Float64(_) => "a float",
            MetadataValue::Bool(_) => "a boolean",
            MetadataValue::String(_) => "a string",
            MetadataValue::Array(_) => "an array",
        }
    }
}

/// All metadata of a file, by key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    pub(super) values: BTreeMap<String, MetadataValue>,
}

impl Metadata {
    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.values.get(key)
    }

    /// Text, if the key is there.
    ///
    /// # Errors
    /// [`Error::GgufKey`] when the value has another type.
    pub fn string(&self, key: &str) -> Result<Option<&str>> {
        self.typed(key, "a string", MetadataValue::as_str)
    }

    /// An integer, if the key is there.
    ///
    /// # Errors
    /// [`Error::GgufKey`] when the value has another type or does not fit in 63 bits.
    pub fn integer(&self, key: &str) -> Result<Option<i64>> {
        self.typed(key, "an integer below 2^63", MetadataValue::as_integer)
    }

    /// A float, if the key is there; see [`MetadataValue::as_float`].
    ///
    /// # Errors
    /// [`Error::GgufKey`] when the value has another type.
    pub fn float(&self, key: &str) -> Result<Option<f64>> {
        self.typed(key, "a float", MetadataValue::as_float)
    }

    /// A boolean, if the key is there.
    ///
    /// # Errors
    /// [`Error::GgufKey`] when the value has another type.
    pub fn boolean(&self, key: &str) -> Result<Option<bool>> {
        self.typed(key, "a boolean", |value| match value {
            MetadataValue::Bool(x) => Some(*x),
            _ => None,
        })
    }

    /// An array of texts, if the key is there.
    ///
    /// # Errors
    /// [`Error::GgufKey`] when the value has another type.
    pub fn strings(&self, key: &str) -> Result<Option<Vec<&str>>> {
        self.typed(key, "an array of strings", |value| match value {
            MetadataValue::Array(values) => values.iter().map(MetadataValue::as_str).collect(),
            _ => None,
        })
    }

    /// An array of integers, if the key is there.
    ///
    /// # Errors
    /// [`Error::GgufKey`] when the value has another type.
    pub fn integers(&self, key: &str) -> Result<Option<Vec<i64>>> {
        self.typed(key, "an array of integers", |value| match value {
            MetadataValue::Array(values) => values.iter().map(MetadataValue::as_integer).collect(),
            _ => None,
        })
    }

    fn typed<'a, T>(
        &'a self,
        key: &str,
        wanted: &str,
        read: impl Fn(&'a MetadataValue) -> Option<T>,
    ) -> Result<Option<T>> {
        let Some(value) = self.values.get(key) else { return Ok(None) };
        let wrong_type = || key_error(key, format!("is {}, must be {wanted}", value.type_name()));
        read(value).map(Some).ok_or_else(wrong_type)
    }
}

/// Turns an absent key into an error.
pub(super) fn required<T>(key: &str, value: Option<T>) -> Result<T> {
    value.ok_or_else(|| key_error(key, "is missing".to_owned()))
}

pub(super) fn key_error(key: &str, reason: String) -> Error {
    Error::GgufKey { key: key.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_f32_reads_as_the_decimal_it_was_written_from() {
        assert_eq!(MetadataValue::Float32(1e-5).as_float(), Some(1e-5));
        assert_eq!(MetadataValue::Float32(100_000.0).as_float(), Some(100_000.0));
        assert_eq!(MetadataValue::Unsigned(u64::MAX).as_integer(), None);
    }

    #[test]
    fn a_wrong_type_names_the_key() {
        let values = BTreeMap::from([("a.b".to_owned(), MetadataValue::Bool(true))]);
        let metadata = Metadata { values };
        let message = metadata.integer("a.b").unwrap_err().to_string();
        assert_eq!(message, "GGUF, key `a.b`: is a boolean, must be an integer below 2^63");
        assert_eq!(metadata.integer("absent").unwrap(), None);
    }
}
