//! A question without an answer, with what a reward needs to judge one.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::fields::{Fields, as_json, write_fields};
use crate::record::Message;

/// A prompt to sample from.
///
/// As read from a file: `prompt` is a string or a list of messages, or `messages` is such a list; not both.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Fields")]
pub struct PromptRecord {
    /// What is to be answered; does not end with the assistant.
    pub prompt: Vec<Message>,
    /// All other fields of the row, such as the reference answer that a reward compares with.
    pub extra: Map<String, Json>,
}

impl PromptRecord {
    /// A user's question without further fields.
    pub fn new(prompt: impl Into<String>) -> Self {
        PromptRecord { prompt: vec![Message::user(prompt)], extra: Map::new() }
    }

    /// Reads a row. [`Error::Field`] names the field and what is wrong with it.
    pub fn from_fields(mut fields: Fields) -> Result<Self> {
        let prompt = match (fields.take_prompt("prompt")?, fields.take_prompt("messages")?) {
            (Some(prompt), None) | (None, Some(prompt)) => prompt,
            (Some(_), Some(_)) => return Err(Error::field("messages", "the row has a `prompt` too; give one of them")),
            (None, None) => return Err(fields.absent("prompt")),
        };
        Ok(PromptRecord { prompt, extra: fields.0 })
    }
}

impl From<Vec<Message>> for PromptRecord {
    fn from(prompt: Vec<Message>) -> Self {
        PromptRecord { prompt, extra: Map::new() }
    }
}

impl TryFrom<Fields> for PromptRecord {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self> {
        PromptRecord::from_fields(fields)
    }
}

impl Serialize for PromptRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        write_fields(&[("prompt", as_json(&self.prompt))], &self.extra, serializer)
    }
}
