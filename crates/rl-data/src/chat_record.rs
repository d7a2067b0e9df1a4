//! How a row becomes a conversation, and a conversation a row.

use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::fields::{Fields, check_response, write_fields};
use crate::record::{ChatRecord, Role};

impl ChatRecord {
    /// Reads a row whose field `messages` is a list. [`Error::Field`] names the field and what is wrong with it.
    pub fn from_fields(mut fields: Fields) -> Result<Self> {
        let messages = fields.take_messages("messages")?.ok_or_else(|| fields.absent("messages"))?;
        Ok(ChatRecord { messages, extra: fields.0 })
    }

    /// Reads a row whose fields `prompt` and `completion` are each text or messages: the conversation of both.
    pub fn from_prompt_and_completion(mut fields: Fields) -> Result<Self> {
        let mut messages = fields.take_prompt("prompt")?.ok_or_else(|| fields.absent("prompt"))?;
        let completion = fields.take_text("completion")?.ok_or_else(|| fields.absent("completion"))?;
        let completion = completion.into_messages(Role::Assistant);
        check_response("completion", &completion)?;
        messages.extend(completion);
        Ok(ChatRecord { messages, extra: fields.0 })
    }
}

impl TryFrom<Fields> for ChatRecord {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self> {
        ChatRecord::from_fields(fields)
    }
}

impl Serialize for ChatRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        write_fields(&[("messages", Some(&self.messages))], &self.extra, serializer)
    }
}
