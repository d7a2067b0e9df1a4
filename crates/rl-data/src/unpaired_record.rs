//! One answer with a verdict on it.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::fields::{Fields, as_json, check_response, describe, write_fields};
use crate::record::{Message, Role};

/// A prompt, a response and whether the response is desirable.
///
/// As read from a file: `prompt` and `completion` are each a string or a list of messages, `label` is true or false.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Fields")]
pub struct UnpairedRecord {
    /// What is answered; does not end with the assistant.
    pub prompt: Vec<Message>,
    /// The response; begins and ends with the assistant.
    pub completion: Vec<Message>,
    /// True if the response is desirable.
    pub label: bool,
    /// All other fields of the row.
    pub extra: Map<String, Json>,
}

impl UnpairedRecord {
    /// A user's question, an answer and the verdict.
    pub fn new(prompt: impl Into<String>, completion: impl Into<String>, label: bool) -> Self {
        UnpairedRecord {
            prompt: vec![Message::user(prompt)],
            completion: vec![Message::assistant(completion)],
            label,
            extra: Map::new(),
        }
    }

    /// Reads a row. [`Error::Field`] names the field and what is wrong with it.
    pub fn from_fields(mut fields: Fields) -> Result<Self> {
        let prompt = fields.take_prompt("prompt")?.ok_or_else(|| fields.absent("prompt"))?;
        let completion = fields.take_text("completion")?.ok_or_else(|| fields.absent("completion"))?;
        let completion = completion.into_messages(Role::Assistant);
        check_response("completion", &completion)?;
        let label = match fields.take("label") {
            Some(Json::Bool(label)) => label,
            Some(other) => {
                return Err(Error::field("label", format!("expected true or false, found {}", describe(&other))));
            }
            None => return Err(fields.absent("label")),
        };
        Ok(UnpairedRecord { prompt, completion, label, extra: fields.0 })
    }
}

impl TryFrom<Fields> for UnpairedRecord {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self> {
        UnpairedRecord::from_fields(fields)
    }
}

impl Serialize for UnpairedRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let named = [
            ("prompt", as_json(&self.prompt)),
            ("completion", as_json(&self.completion)),
            ("label", Some(json!(self.label))),
        ];
        write_fields(&named, &self.extra, serializer)
    }
}
