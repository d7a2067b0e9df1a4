//! Conversations as they stand in a file.
//!
//! Not here: how a conversation becomes text (`chat_template`) or token ids (`render`).

use std::borrow::Cow;

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use crate::tool_call::ToolCall;

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
/// As read from a file, a field that is null is as good as absent, and a field that is not listed here (images, audio) is
/// refused, because dropping it would change what is learned. `content` may be absent beside `tool_calls` only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, as plain text; may be empty.
    pub content: String,
    /// The thought before an answer, for templates that print it apart. Files may also call it `reasoning` or `thinking`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reasoning_content: Option<String>,
    /// Tools that the assistant calls.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which call a tool's result answers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
    /// Who speaks within the role; of a result, the tool's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Whether the message is trained; without it `train_on` alone decides. Templates never see it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Weight>,
}

/// The weight of a message in the loss. Files hold the number 0 or 1; others are refused, since the losses count a token
/// or do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Weight {
    /// 0: the message is not trained.
    Zero,
    /// 1: the message is trained like any other.
    One,
}

impl Message {
    /// A message of any role.
    pub fn new(role: Role, content: impl Into<String>) -> Self {
        Message {
            role,
            content: content.into(),
            reasoning_content: None,
            tool_calls: Vec::new(),
            tool_call_id: None,
            name: None,
            weight: None,
        }
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

    /// A tool's result.
    pub fn tool(content: impl Into<String>) -> Self {
        Message::new(Role::Tool, content)
    }

    /// The same message with a weight.
    pub fn with_weight(mut self, weight: Weight) -> Self {
        self.weight = Some(weight);
        self
    }

    /// The same message with calls of tools.
    pub fn with_tool_calls(mut self, calls: impl IntoIterator<Item = ToolCall>) -> Self {
        self.tool_calls = calls.into_iter().collect();
        self
    }

    /// Whether it says nothing: no text but white space, no thought, no call.
    pub fn is_empty(&self) -> bool {
        let blank = |text: &str| text.trim().is_empty();
        blank(&self.content) && self.tool_calls.is_empty() && self.reasoning_content.as_deref().is_none_or(blank)
    }
}

impl Serialize for Weight {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(u8::from(*self == Weight::One))
    }
}

impl<'de> Deserialize<'de> for Weight {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match f64::deserialize(deserializer)? {
            0.0 => Ok(Weight::Zero),
            1.0 => Ok(Weight::One),
            other => {
                let rule = "the losses train a token or do not; write 0 or 1";
                Err(D::Error::custom(format_args!("field `weight`: {other} is neither 0 nor 1: {rule}")))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MessageVisitor)
    }
}

struct MessageVisitor;

impl<'de> Visitor<'de> for MessageVisitor {
    type Value = Message;

    fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("a message: an object with `role` and `content`")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Message, A::Error> {
        let (mut role, mut content, mut reasoning, mut calls) = (None, None, None, None);
        let (mut tool_call_id, mut name, mut weight) = (None, None, None);
        while let Some(field) = fields.next_key::<Cow<'de, str>>()? {
            match field.as_ref() {
                "role" => once("role", &mut role, fields.next_value()?)?,
                "content" => once("content", &mut content, fields.next_value()?)?,
                "reasoning_content" | "reasoning" | "thinking" => {
                    once("reasoning_content", &mut reasoning, fields.next_value()?)?;
                }
                "tool_calls" => once("tool_calls", &mut calls, fields.next_value::<Option<Vec<ToolCall>>>()?)?,
                "tool_call_id" => once("tool_call_id", &mut tool_call_id, fields.next_value()?)?,
                "name" => once("name", &mut name, fields.next_value()?)?,
                "weight" => once("weight", &mut weight, fields.next_value()?)?,
                // Tables give every message every field that any message has.
                other => {
                    if fields.next_value::<Option<IgnoredAny>>()?.is_some() {
                        let problem = "a message cannot hold it, and dropping it would change what is learned";
                        return Err(A::Error::custom(format_args!("field `{other}`: {problem}")));
                    }
                }
            }
        }
        let role: Role = role.ok_or_else(|| A::Error::missing_field("role"))?;
        let tool_calls = calls.unwrap_or_default();
        if role != Role::Assistant && (!tool_calls.is_empty() || reasoning.is_some()) {
            let field = if tool_calls.is_empty() { "reasoning_content" } else { "tool_calls" };
            return Err(A::Error::custom(format_args!("field `{field}`: a {role} message cannot have it")));
        }
        let content = match content {
            Some(content) => content,
            None if tool_calls.is_empty() => {
                return Err(A::Error::custom("field `content`: missing or null, and there is no tool call"));
            }
            None => String::new(),
        };
        Ok(Message { role, content, reasoning_content: reasoning, tool_calls, tool_call_id, name, weight })
    }
}

fn once<T, E: serde::de::Error>(name: &'static str, slot: &mut Option<T>, value: Option<T>) -> Result<(), E> {
    match value {
        Some(_) if slot.is_some() => Err(E::duplicate_field(name)),
        Some(value) => {
            *slot = Some(value);
            Ok(())
        }
        None => Ok(()),
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
            (r#"{"role":"user","content":"hi","images":[]}"#, "images"),
            (r#"{"role":"user","content":"hi","tool_calls":[{"name":"f"}]}"#, "tool_calls"),
            (r#"{"role":"tool","content":"hi","reasoning":"x"}"#, "reasoning_content"),
            (r#"{"role":"human","content":"hi"}"#, "human"),
            (r#"{"role":"user","content":null}"#, "content"),
            (r#"{"role":"assistant","tool_calls":[]}"#, "no tool call"),
            (r#"{"content":"hi"}"#, "role"),
            (r#"{"role":"user","content":"a","content":"b"}"#, "content"),
            (r#"{"role":"assistant","content":"a","thinking":"a","reasoning":"b"}"#, "reasoning_content"),
            (r#"{"role":"assistant","content":"hi","weight":0.5}"#, "0.5 is neither 0 nor 1"),
        ] {
            let error = serde_json::from_str::<Message>(line).unwrap_err().to_string();
            assert!(error.contains(word), "{line}: {error}");
        }
    }

    #[test]
    fn null_is_as_good_as_absent() {
        let line = r#"{"content":"hi","role":"assistant","tool_calls":null,"name":null,"images":null,"weight":null}"#;
        assert_eq!(serde_json::from_str::<Message>(line).unwrap(), Message::assistant("hi"));
        let line = r#"{"role":"assistant","content":null,"tool_calls":[{"name":"f"}],"thinking":"so","weight":1.0}"#;
        let message: Message = serde_json::from_str(line).unwrap();
        assert_eq!((message.content.as_str(), message.weight), ("", Some(Weight::One)));
        assert_eq!(
            serde_json::to_string(&message).unwrap(),
            r#"{"role":"assistant","content":"","reasoning_content":"so","tool_calls":[{"type":"function","function":{"name":"f","arguments":{}}}],"weight":1}"#
        );
        assert_eq!(serde_json::from_str::<Message>(&serde_json::to_string(&message).unwrap()).unwrap(), message);
    }
}
