//! Configuration: a TOML file and overrides in, a typed and checked struct out.
//!
//! Overrides edit the table before it is parsed, so a typo in one fails like a typo in the file. Nothing is defaulted
//! here and relative paths stay as typed. Structs should carry `#[serde(deny_unknown_fields)]`: an unknown key is an
//! error without it too, but only with it can the message suggest the key that was meant.

use std::fmt::Display;
use std::fs;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};
use toml::{Table, Value};

use crate::error::{Error, Result};

/// A suggestion must be at least this similar (1 is equal), by normalized Damerau-Levenshtein distance.
const MIN_SIMILARITY: f64 = 0.4;

/// A value that a `validate()` refused. Build it with [`ensure`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{key}` = {value}: {message}")]
pub struct ConfigError {
    /// Dotted path of the key.
    pub key: String,
    /// The value as text.
    pub value: String,
    /// What is wrong with it, or what it must be.
    pub message: String,
}

impl ConfigError {
    /// The same error seen from a struct that holds the refused one under `section`: `low` becomes `clip.low`.
    pub fn within(mut self, section: &str) -> Self {
        self.key = format!("{section}.{}", self.key);
        self
    }
}

/// For `validate()`: `Ok` if `condition` holds, else an error that names the key and its value.
pub fn ensure(
    condition: bool,
    key: impl Into<String>,
    value: impl Display,
    message: impl Into<String>,
) -> std::result::Result<(), ConfigError> {
    if condition {
        return Ok(());
    }
    Err(ConfigError { key: key.into(), value: value.to_string(), message: message.into() })
}

/// Reads a configuration file and applies overrides such as `optim.lr=1e-4` in the order given.
///
/// The value of an override is read as TOML; a bare word that is not TOML is taken as a string. A number addresses an
/// entry of an array (`stages.0.lr=...`). A missing table on the way is created. Errors name the file with its line, or
/// the override, and the dotted key.
pub fn load<T: DeserializeOwned>(file: &Path, overrides: &[String]) -> Result<T> {
    let text = fs::read_to_string(file).map_err(Error::io("read", file))?;
    parse(&text, &file.display().to_string(), overrides)
}

/// [`load`] from text; `name` stands for the file in error messages.
pub fn parse<T: DeserializeOwned>(text: &str, name: &str, overrides: &[String]) -> Result<T> {
    let mut table = toml::from_str::<Table>(text).map_err(|error| syntax_error(text, name, &error))?;
    let overrides = overrides.iter().map(|text| Override::parse(text)).collect::<Result<Vec<_>>>()?;
    for change in &overrides {
        change.apply(&mut table)?;
    }

    let source = Source { text, name, overrides: &overrides };
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(Value::Table(table.clone()), &mut track);
    let mut ignored = None;
    let result = serde_ignored::deserialize(tracked, |path| {
        ignored.get_or_insert_with(|| ignored_segments(&path));
    });
    match result {
        Err(error) => Err(source.explain(error.message(), &track.path(), &table)),
        Ok(value) => match ignored {
            None => Ok(value),
            Some(key) => Err(source.unknown(key, &[])),
        },
    }
}

/// A configuration as TOML text. Fields that are `None` are left out.
pub fn to_toml<T: Serialize>(config: &T) -> Result<String> {
    toml::to_string(config).map_err(|error| Error::Serialize {
        what: "the configuration",
        format: "TOML",
        message: error.to_string(),
    })
}

/// A key at which two tables differ, with both values (`None` where the key is missing).
pub(crate) type KeyDifference = (String, Option<String>, Option<String>);

/// The keys at which two tables differ, in the order of the left one. Lists of tables of equal length are gone through item by
/// item, `splits[1].name`; other lists differ as a whole.
pub(crate) fn differences(left: &Table, right: &Table) -> Vec<KeyDifference> {
    let mut found = Vec::new();
    let extra = right.keys().filter(|key| !left.contains_key(*key));
    for key in left.keys().chain(extra) {
        value_differences(key, left.get(key), right.get(key), &mut found);
    }
    found
}

fn value_differences(key: &str, left: Option<&Value>, right: Option<&Value>, found: &mut Vec<KeyDifference>) {
    match (left, right) {
        (Some(Value::Table(left)), Some(Value::Table(right))) => {
            let inner = differences(left, right).into_iter();
            found.extend(inner.map(|(inner, left, right)| (format!("{key}.{inner}"), left, right)));
        }
        (Some(Value::Array(left)), Some(Value::Array(right)))
            if left.len() == right.len() && left.iter().chain(right).all(Value::is_table) =>
        {
            for (index, (left, right)) in left.iter().zip(right).enumerate() {
                value_differences(&format!("{key}[{index}]"), Some(left), Some(right), found);
            }
        }
        _ if left != right => {
            found.push((key.to_owned(), left.map(Value::to_string), right.map(Value::to_string)));
        }
        _ => {}
    }
}

/// `a.b=VALUE`, split.
struct Override<'a> {
    text: &'a str,
    key: Vec<String>,
    value: Value,
}

impl<'a> Override<'a> {
    fn parse(text: &'a str) -> Result<Self> {
        let fail = |message: String| Error::Override { text: text.to_owned(), message };
        let (key, value) = text.split_once('=').ok_or_else(|| fail("write it as `key=VALUE`".into()))?;
        let key: Vec<String> = key.split('.').map(|part| part.trim().to_owned()).collect();
        if key.iter().any(String::is_empty) {
            return Err(fail("the key has an empty part".into()));
        }
        let value = value.trim();
        if value.is_empty() {
            return Err(fail("the value is missing; write '' for an empty string".into()));
        }
        let value = match toml::from_str::<Table>(&format!("value = {value}")) {
            Ok(mut table) if table.len() == 1 => table.remove("value"),
            // A value that opens a bracket or a quote is meant as TOML; anything else is a bare word.
            Err(error) if value.starts_with(['[', '{', '"', '\'']) => return Err(fail(error.message().to_owned())),
            _ => None,
        }
        .unwrap_or_else(|| Value::String(value.to_owned()));
        Ok(Self { text, key, value })
    }

    fn apply(&self, table: &mut Table) -> Result<()> {
        let fail = |message: String| Error::Override { text: self.text.to_owned(), message };
        let (last, parents) = self.key.split_last().ok_or_else(|| fail("the key is empty".into()))?;
        let Some((first, rest)) = parents.split_first() else {
            table.insert(last.clone(), self.value.clone());
            return Ok(());
        };
        let mut place = table.entry(first.clone()).or_insert_with(|| Value::Table(Table::new()));
        let mut walked = first.clone();
        for part in rest {
            let next = match place {
                Value::Table(inner) => inner.entry(part.clone()).or_insert_with(|| Value::Table(Table::new())),
                Value::Array(entries) => entry_mut(entries, part).map_err(|why| fail(format!("`{walked}` {why}")))?,
                other => return Err(fail(format!("`{walked}` is not a table but {other}"))),
            };
            walked = format!("{walked}.{part}");
            place = next;
        }
        match place {
            Value::Table(inner) => {
                inner.insert(last.clone(), self.value.clone());
            }
            Value::Array(entries) => {
                *entry_mut(entries, last).map_err(|why| fail(format!("`{walked}` {why}")))? = self.value.clone();
            }
            other => return Err(fail(format!("`{walked}` is not a table but {other}"))),
        }
        Ok(())
    }

    /// True if this override set `key`, a table above it, or something below it.
    fn touches(&self, key: &[String]) -> bool {
        self.key.iter().zip(key).all(|(own, other)| own == other)
    }
}

fn entry_mut<'v>(entries: &'v mut [Value], part: &str) -> std::result::Result<&'v mut Value, String> {
    let count = entries.len();
    let index: usize = part.parse().map_err(|_| format!("is an array; write a number instead of `{part}`"))?;
    entries.get_mut(index).ok_or_else(|| format!("has {count} entries, counted from 0; there is no entry {index}"))
}

/// Where the values came from, to word the errors.
struct Source<'a> {
    text: &'a str,
    name: &'a str,
    overrides: &'a [Override<'a>],
}

impl Source<'_> {
    /// Turns serde's words and its path into one of our errors.
    fn explain(&self, message: &str, path: &serde_path_to_error::Path, table: &Table) -> Error {
        let mut key = path_segments(path);
        let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
        if let (Some(rest), Some((field, known))) = (message.strip_prefix("unknown field "), quoted.split_first()) {
            if key.last().is_none_or(|last| last != field) {
                // Tagged enums are buffered by serde, which loses the path below them.
                key = search(table, &key, field).unwrap_or_else(|| [key, vec![(*field).to_owned()]].concat());
            }
            return self.unknown(key, if rest.contains("expected") { known } else { &[] });
        }
        if let (true, Some(field)) = (message.starts_with("missing field "), quoted.first()) {
            key.push((*field).to_owned());
            return Error::MissingKey { key: key.join("."), origin: self.name.to_owned() };
        }
        let mut message = message.to_owned();
        if let (true, Some((variant, known))) = (message.starts_with("unknown variant "), quoted.split_first())
            && let Some(nearest) = nearest(variant, known)
        {
            message = format!("{message}; did you mean `{nearest}`?");
        }
        key = leaf_with(table, &key, &message).unwrap_or(key);
        if key.is_empty() {
            return Error::BadValue { key: "(top level)".to_owned(), origin: self.name.to_owned(), message };
        }
        Error::BadValue { origin: self.origin(&key), key: key.join("."), message }
    }

    fn unknown(&self, key: Vec<String>, known: &[&str]) -> Error {
        let suggestion = match nearest(key.last().map_or("", String::as_str), known) {
            Some(nearest) => format!("; did you mean `{nearest}`?"),
            None if known.is_empty() => String::new(),
            None => format!("; known keys are `{}`", known.join("`, `")),
        };
        Error::UnknownKey { origin: self.origin(&key), key: key.join("."), suggestion }
    }

    /// The override that set `key`, or the file with the line of `key`.
    fn origin(&self, key: &[String]) -> String {
        if let Some(change) = self.overrides.iter().rev().find(|change| change.touches(key)) {
            return format!("override `{}`", change.text);
        }
        match offset_of(self.text, key) {
            Some(offset) => format!("{}:{}", self.name, position(self.text, offset).0),
            None => self.name.to_owned(),
        }
    }
}

fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let similarity = |other: &str| {
        let typo = strsim::normalized_damerau_levenshtein(word, other);
        // A shortened or lengthened name (`learning_rate_max`) is far by edits but shares its beginning.
        let related = word.starts_with(other) || other.starts_with(word);
        if related && !word.is_empty() { typo.max(MIN_SIMILARITY) } else { typo }
    };
    let scored = known.iter().map(|other| (similarity(other), *other));
    let best = scored.max_by(|left, right| left.0.total_cmp(&right.0))?;
    (best.0 >= MIN_SIMILARITY).then_some(best.1)
}

fn syntax_error(text: &str, name: &str, error: &toml::de::Error) -> Error {
    let offset = error.span().map_or(0, |span| span.start);
    let (line, column) = position(text, offset);
    let source_line = text.lines().nth(line - 1).unwrap_or_default().to_owned();
    Error::Syntax { file: name.to_owned(), line, column, message: error.message().to_owned(), source_line }
}

/// Line and column (in characters) of a byte offset, both counted from 1.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

/// Byte offset of the deepest part of `key` that the file names.
fn offset_of(text: &str, key: &[String]) -> Option<usize> {
    let document = DeTable::parse(text).ok()?;
    let mut offset = None;
    let mut table = Some(document.get_ref());
    let mut array: Option<&toml::de::DeArray> = None;
    for part in key {
        let value = if let Some(entries) = array {
            let value = entries.get(part.parse::<usize>().ok()?)?;
            offset = Some(value.span().start);
            value
        } else {
            let (name, value) = table?.iter().find(|(name, _)| name.get_ref().as_ref() == part.as_str())?;
            offset = Some(name.span().start);
            value
        };
        (table, array) = match value.get_ref() {
            DeValue::Table(inner) => (Some(inner), None),
            DeValue::Array(entries) => (None, Some(entries)),
            _ => (None, None),
        };
    }
    offset
}

fn path_segments(path: &serde_path_to_error::Path) -> Vec<String> {
    use serde_path_to_error::Segment;
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(index.to_string()),
            Segment::Map { key } => Some(key.clone()),
            Segment::Enum { variant } => Some(variant.clone()),
            Segment::Unknown => None,
        })
        .collect()
}

fn ignored_segments(path: &serde_ignored::Path) -> Vec<String> {
    use serde_ignored::Path;
    let (parent, own) = match path {
        Path::Root => return Vec::new(),
        Path::Seq { parent, index } => (parent, Some(index.to_string())),
        Path::Map { parent, key } => (parent, Some(key.clone())),
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => (parent, None),
    };
    let mut segments = ignored_segments(parent);
    segments.extend(own);
    segments
}

/// The only path below `start` whose value `message` quotes as serde does; `None` if there is none or more than one. Tagged
/// enums are buffered by serde, which loses the path below them.
fn leaf_with(table: &Table, start: &[String], message: &str) -> Option<Vec<String>> {
    let is_quoted = |value: &Value| match value {
        Value::String(text) => {
            let refused = format!("unknown variant `{text}`");
            message.contains(&format!("string {text:?}")) || message.starts_with(&refused)
        }
        Value::Integer(number) => message.contains(&format!("integer `{number}`")),
        Value::Float(number) => message.contains(&format!("floating point `{number}`")),
        Value::Boolean(flag) => message.contains(&format!("boolean `{flag}`")),
        _ => false,
    };
    only(table, start, |_, value| is_quoted(value))
}

/// The only path below `start` whose last part is `field`; `None` if there is none or more than one.
fn search(table: &Table, start: &[String], field: &str) -> Option<Vec<String>> {
    only(table, start, |path, _| path.last().is_some_and(|last| last == field))
}

/// The only path below `start` that `fits`; `None` if there is none or more than one.
fn only(table: &Table, start: &[String], fits: impl Fn(&[String], &Value) -> bool) -> Option<Vec<String>> {
    type Fits<'a> = &'a dyn Fn(&[String], &Value) -> bool;
    fn walk(value: &Value, path: &mut Vec<String>, fits: Fits, found: &mut Vec<Vec<String>>) {
        let entries: Vec<(String, &Value)> = match value {
            Value::Table(table) => table.iter().map(|(key, value)| (key.clone(), value)).collect(),
            Value::Array(array) => array.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
            _ => return,
        };
        for (key, value) in entries {
            path.push(key);
            if fits(path, value) {
                found.push(path.clone());
            }
            walk(value, path, fits, found);
            path.pop();
        }
    }
    let whole = Value::Table(table.clone());
    let mut value = &whole;
    for part in start {
        value = match value {
            Value::Table(table) => table.get(part)?,
            Value::Array(array) => array.get(part.parse::<usize>().ok()?)?,
            _ => return None,
        };
    }
    let mut found = Vec::new();
    walk(value, &mut start.to_vec(), &fits, &mut found);
    if found.len() == 1 { found.pop() } else { None }
}
