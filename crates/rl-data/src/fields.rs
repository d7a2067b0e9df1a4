//! The fields of one row as JSON values: taken one by one, so that an error names the field.
//!
//! Every file layout can bring its rows into this form; what is left over stays with the record.

use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
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
            Some(value @ Json::Array(_)) => match serde_json::from_value::<Vec<Message>>(value) {
                Ok(messages) if messages.is_empty() => Err(Error::field(field, "the list of messages is empty")),
                Ok(messages) => Ok(Some(Text::Messages(messages))),
                Err(problem) => Err(Error::field(field, format!("not a list of messages: {problem}"))),
            },
            Some(other) => Err(Error::field(field, format!("{other} is neither a string nor a list of messages"))),
        }
    }

    /// The number of a field that stays where it is.
    pub(crate) fn number(&self, field: &'static str) -> Result<Option<f64>> {
        match self.0.get(field) {
            None | Some(Json::Null) => Ok(None),
            Some(value) => {
                let number = value.as_f64().filter(|number| number.is_finite());
                number.map(Some).ok_or_else(|| Error::field(field, format!("{value} is not a finite number")))
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
        Error::field(field, format!("missing or null; the other fields are `{}`", found.join("`, `")))
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

/// Writes `named` values that are there, then `extra`.
pub(crate) fn write_fields<S: Serializer>(
    named: &[(&str, Option<Json>)],
    extra: &Map<String, Json>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let present = named.iter().filter_map(|(name, value)| Some((name.to_string(), value.clone()?)));
    let all: Map<String, Json> = present.chain(extra.iter().map(|(k, v)| (k.clone(), v.clone()))).collect();
    all.serialize(serializer)
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
