//! What a column holds, as far as it decides how a dataset is read.

use std::fmt;

use serde_json::Value as Json;

/// The columns of a dataset in their order: the names, and what each holds.
pub type Columns = Vec<(String, ColumnKind)>;

/// What a column holds: by the file's schema for Parquet, by the first row for JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnKind {
    /// Nothing but null, as far as was seen.
    Null,
    /// True or false.
    Boolean,
    /// Whole numbers or fractions.
    Number,
    /// Text.
    Text,
    /// Lists of messages with `role` and `content`.
    Messages,
    /// Lists of turns with `from` and `value`, as ShareGPT writes conversations.
    Turns,
    /// Lists of anything else.
    List(Box<ColumnKind>),
    /// Objects with these fields.
    Object(Vec<String>),
    /// A type of the file format that has no JSON form, by its name.
    Other(String),
}

impl ColumnKind {
    /// What one value is.
    pub fn of(value: &Json) -> Self {
        match value {
            Json::Null => ColumnKind::Null,
            Json::Bool(_) => ColumnKind::Boolean,
            Json::Number(_) => ColumnKind::Number,
            Json::String(_) => ColumnKind::Text,
            Json::Array(items) => ColumnKind::list(items.first().map_or(ColumnKind::Null, ColumnKind::of)),
            Json::Object(fields) => ColumnKind::Object(fields.keys().cloned().collect()),
        }
    }

    /// Lists of `items`.
    pub(super) fn list(items: ColumnKind) -> Self {
        let has =
            |fields: &[String], names: [&str; 2]| names.iter().all(|name| fields.iter().any(|field| field == name));
        match items {
            ColumnKind::Object(fields) if has(&fields, ["role", "content"]) => ColumnKind::Messages,
            ColumnKind::Object(fields) if has(&fields, ["from", "value"]) => ColumnKind::Turns,
            other => ColumnKind::List(Box::new(other)),
        }
    }

    /// Whether it can be a conversation. An empty list and null say nothing against it.
    pub(super) fn may_be_messages(&self) -> bool {
        match self {
            ColumnKind::Null | ColumnKind::Messages | ColumnKind::Turns => true,
            ColumnKind::List(items) => **items == ColumnKind::Null,
            _ => false,
        }
    }
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnKind::Null => formatter.write_str("null"),
            ColumnKind::Boolean => formatter.write_str("true or false"),
            ColumnKind::Number => formatter.write_str("numbers"),
            ColumnKind::Text => formatter.write_str("text"),
            ColumnKind::Messages => formatter.write_str("messages"),
            ColumnKind::Turns => formatter.write_str("turns of from and value"),
            ColumnKind::List(items) if **items == ColumnKind::Null => formatter.write_str("lists"),
            ColumnKind::List(items) => write!(formatter, "lists of {items}"),
            ColumnKind::Object(fields) => write!(formatter, "objects of {}", fields.join(", ")),
            ColumnKind::Other(name) => formatter.write_str(name),
        }
    }
}

/// The name of `names` that is most like `wanted`, where one is alike.
pub(crate) fn nearest<'a>(wanted: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const MIN_SIMILARITY: f64 = 0.4;
    let similarity = |name: &str| strsim::normalized_damerau_levenshtein(wanted, name);
    let scored = names.into_iter().map(|name| (similarity(name), name));
    scored.filter(|(score, _)| *score >= MIN_SIMILARITY).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn values_say_what_they_are() {
        for (value, expected) in [
            (json!("a"), "text"),
            (json!([{"role": "user", "content": "a", "name": null}]), "messages"),
            (json!([{"from": "human", "value": "a"}]), "turns of from and value"),
            (json!(["a"]), "lists of text"),
            (json!([]), "lists"),
            (json!({"a": 1, "b": 2}), "objects of a, b"),
            (json!(null), "null"),
        ] {
            assert_eq!(ColumnKind::of(&value).to_string(), expected);
        }
    }

    #[test]
    fn the_nearest_name_is_alike() {
        assert_eq!(nearest("completion", ["prompt", "completions", "x"]), Some("completions"));
        assert_eq!(nearest("label", ["zzz"]), None);
    }
}
