//! The fields of one row as JSON values: taken one by one, so that an error names the field.
//!
//! Every file layout can bring its rows into this form; what is left over stays with the record.

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::record::{Message, Role};

/// The named values of one row in their order. A name that comes twice is an error.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fields(pub Map<String, Json>);

/// What a prompt or an answer is written as.
pub(crate) enum Text {
    Plain(String),
    Messages(Vec<Message>),
}

impl Text {
    /// Messages; plain text is one message of `role`.
    pub(crate) fn into_messages(self, role: Role) -> Vec<Message> {
        match self {
            Text::Plain(content) => vec![Message::new(role, content)],
            Text::Messages(messages) => messages,
        }
    }
}

impl Fields {
    /// Removes a field; null is as good as absent.
    pub(crate) fn take(&mut self, field: &str) -> Option<Json> {
        self.0.shift_remove(field).filter(|value| !value.is_null())
    }

    pub(crate) fn take_text(&mut self, field: &'static str) -> Result<Option<Text>> {
        match self.take(field) {
            None => Ok(None),
            Some(Json::String(text)) => Ok(Some(Text::Plain(text))),
            Some(value @ (Json::Array(_) | Json::Object(_))) => {
                let messages = messages_from(field, value)?;
                let problem = "the list of messages is empty";
                if messages.is_empty() { Err(Error::field(field, problem)) } else { Ok(Some(Text::Messages(messages))) }
            }
            Some(other) => {
                Err(Error::field(field, format!("expected text or a list of messages, found {}", describe(&other))))
            }
        }
    }

    /// A list of messages, which may be empty.
    pub(crate) fn take_messages(&mut self, field: &'static str) -> Result<Option<Vec<Message>>> {
        match self.take(field) {
            None => Ok(None),
            Some(value @ Json::Array(_)) => messages_from(field, value).map(Some),
            Some(other) => Err(Error::field(field, format!("expected a list of messages, found {}", describe(&other)))),
        }
    }

    /// The number of a field that stays where it is.
    pub(crate) fn number(&self, field: &'static str) -> Result<Option<f64>> {
        match self.0.get(field) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => {
                let number = value.as_f64().filter(|number| number.is_finite());
                let problem = || format!("expected a finite number, found {}", describe(value));
                number.map(Some).ok_or_else(|| Error::field(field, problem()))
            }
        }
    }

    /// A prompt from `field`: a string or messages; it must leave the next turn to the assistant.
    pub(crate) fn take_prompt(&mut self, field: &'static str) -> Result<Option<Vec<Message>>> {
        let Some(text) = self.take_text(field)? else { return Ok(None) };
        let messages = text.into_messages(Role::User);
        check_prompt(field, &messages)?;
        Ok(Some(messages))
    }

    pub(crate) fn absent(&self, field: &'static str) -> Error {
        let found: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let others = match found.is_empty() {
            true => String::new(),
            false => format!("; the other fields are `{}`", found.join("`, `")),
        };
        let problem = format!("missing or null{others}");
        Error::field(field, problem)
    }
}

/// What a value is, in a few words; long text is cut.
pub(crate) fn describe(value: &Json) -> String {
    const SHOWN: usize = 40;
    match value {
        Json::Null => "null".to_owned(),
        Json::Bool(truth) => truth.to_string(),
        Json::Number(number) => format!("the number {number}"),
        Json::String(text) => match text.char_indices().nth(SHOWN) {
            None => format!("the text {text:?}"),
            Some((end, _)) => format!("the text {:?}...", &text[..end]),
        },
        Json::Array(items) => match items.first() {
            None => "an empty list".to_owned(),
            Some(first) => format!("a list of {}, the first of which is {}", items.len(), describe(first)),
        },
        Json::Object(fields) => {
            let names: Vec<&str> = fields.keys().map(String::as_str).collect();
            format!("an object with the fields `{}`", names.join("`, `"))
        }
    }
}

/// Messages of a list, or of one object that is a message itself.
///
/// A turn of `from` and `value`, as ShareGPT writes it, is a message too; a field that is null is as good as absent, since
/// the columns of a table give every message the same fields.
fn messages_from(field: &'static str, value: Json) -> Result<Vec<Message>> {
    let items = match value {
        Json::Array(items) => items,
        other => vec![other],
    };
    let bad = |index: usize, problem: String| Error::field(field, format!("message {index}: {problem}"));
    let message = |(index, item): (usize, Json)| match item {
        Json::Object(fields) => message_from(fields).map_err(|problem| bad(index, problem)),
        other => Err(bad(index, format!("expected an object with `role` and `content`, found {}", describe(&other)))),
    };
    items.into_iter().enumerate().map(message).collect()
}

fn message_from(mut fields: Map<String, Json>) -> std::result::Result<Message, String> {
    fields.retain(|_, value| !value.is_null());
    if fields.contains_key("from") && fields.contains_key("value") && !fields.contains_key("role") {
        // Both names come and go together, so that what is left over is what neither form knows.
        let (from, text) = (fields.shift_remove("from"), fields.shift_remove("value"));
        let role = from.as_ref().and_then(Json::as_str).and_then(share_gpt_role);
        let known = "human, user, gpt, assistant, chatgpt, system, tool, observation";
        let role = role.ok_or_else(|| format!("`from` must be one of {known}, found {}", shown(from.as_ref())))?;
        fields.insert("role".to_owned(), Json::String(role.as_str().to_owned()));
        fields.insert("content".to_owned(), text.unwrap_or(Json::Null));
    }
    for name in ["role", "content"] {
        if let Some(other) = fields.get(name).filter(|value| !value.is_string()) {
            return Err(format!("`{name}` must be text, found {}", describe(other)));
        }
    }
    serde_json::from_value(Json::Object(fields)).map_err(|problem| problem.to_string())
}

fn shown(value: Option<&Json>) -> String {
    value.map_or_else(|| "nothing".to_owned(), describe)
}

fn share_gpt_role(name: &str) -> Option<Role> {
    match name {
        "human" | "user" => Some(Role::User),
        "gpt" | "assistant" | "chatgpt" => Some(Role::Assistant),
        "system" => Some(Role::System),
        "tool" | "observation" => Some(Role::Tool),
        _ => None,
    }
}

/// A prompt has messages and the last is not the assistant's.
pub(crate) fn check_prompt(field: &'static str, messages: &[Message]) -> Result<()> {
    match messages.last() {
        None => Err(Error::field(field, "the prompt has no message")),
        Some(Message { role: Role::Assistant, .. }) => {
            Err(Error::field(field, "the prompt ends with an assistant message, which would be the answer"))
        }
        Some(_) => Ok(()),
    }
}

/// A response begins and ends with the assistant.
pub(crate) fn check_response(field: &'static str, messages: &[Message]) -> Result<()> {
    for (place, message) in [("begin", messages.first()), ("end", messages.last())] {
        match message {
            Some(Message { role: Role::Assistant, .. }) => {}
            Some(other) => {
                let role = other.role;
                return Err(Error::field(field, format!("the response must {place} with the assistant, not {role}")));
            }
            None => return Err(Error::field(field, "the response has no message")),
        }
    }
    Ok(())
}

/// Writes `named` values that are there, then `extra`. A name that both have is an error: one of the values would be lost.
pub(crate) fn write_fields<S: Serializer, T: Serialize>(
    named: &[(&'static str, Option<T>)],
    extra: &Map<String, Json>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let mut row = serializer.serialize_map(None)?;
    for (name, value) in named {
        if extra.contains_key(*name) {
            let problem = "the row brought another field of this name; leave it out with `ignore` when it is read";
            return Err(serde::ser::Error::custom(format_args!("field `{name}`: {problem}")));
        }
        if let Some(value) = value {
            row.serialize_entry(name, value)?;
        }
    }
    for (name, value) in extra {
        row.serialize_entry(name, value)?;
    }
    row.end()
}

pub(crate) fn as_json(messages: &[Message]) -> Option<Json> {
    Some(messages.iter().map(|message| json!(message)).collect())
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Row;
        impl<'de> Visitor<'de> for Row {
            type Value = Fields;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an object with the fields of one row")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> std::result::Result<Fields, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = access.next_entry::<String, Json>()? {
                    if fields.contains_key(&name) {
                        return Err(A::Error::custom(format_args!("field `{name}`: given twice")));
                    }
                    fields.insert(name, value);
                }
                Ok(Fields(fields))
            }
        }
        deserializer.deserialize_map(Row)
    }
}
