//! Conversations as they stand in a file.
//!
//! Not here: how a conversation becomes text (`chat_template`) or token ids (`render`).

use serde::{Deserialize, Serialize};

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Instructions that stand above the conversation.
    System,
    /// The person, or the environment that plays the person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The name used in files and chat templates.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
            Role::Tool => "tool",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// One turn of a conversation.
///
/// A message with further fields (tool calls, images) is refused, because dropping them would change what is learned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, as plain text.
    pub content: String,
}

impl Message {
    /// A message of any role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message { role, content: content.into() }
    }

    /// A system message.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new(Role::System, content)
    }

    /// A user message.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new(Role::User, content)
    }

    /// An assistant message.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new(Role::Assistant, content)
    }
}

/// A conversation with whatever else its line of the file says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "crate::fields::Fields")]
pub struct ChatRecord {
    /// The turns in order.
    pub messages: Vec<Message>,
    /// All other fields of the line, kept in their order.
    pub extra: serde_json::Map<String, serde_json::Value>,
}

impl ChatRecord {
    /// A record without further fields.
    pub fn new(messages: Vec<Message>) -> Self {
        ChatRecord { messages, extra: serde_json::Map::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_keeps_its_other_fields_in_order() {
        let line = r#"{"messages":[{"role":"user","content":"hi"}],"source":"x","score":2.5,"a":null}"#;
        let record: ChatRecord = serde_json::from_str(line).unwrap();
        assert_eq!(record.messages, [Message::user("hi")]);
        assert_eq!(serde_json::to_string(&record).unwrap(), line);
    }

    #[test]
    fn what_a_message_cannot_hold_is_refused_by_name() {
        for (line, word) in [
            (r#"{"role":"user","content":"hi","tool_calls":[]}"#, "tool_calls"),
            (r#"{"role":"human","content":"hi"}"#, "human"),
            (r#"{"role":"user","content":null}"#, "null"),
        ] {
            let error = serde_json::from_str::<Message>(line).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
