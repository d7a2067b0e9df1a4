//! Calls of tools inside an assistant's message.
//!
//! Not here: what tools there are (the column `tools` of a row, see [`crate::Conversation`]) and how a template prints a
//! call.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

/// One call, `{"type": "function", "function": {"name": ..., "arguments": {...}}}`.
///
/// As read from a file it may also be flat, `{"name": ..., "arguments": {...}}`, its `arguments` may be absent (then there
/// are none) or the JSON text of an object, as OpenAI's files have it. It is written and given to templates in the first
/// form, since templates print `arguments` as JSON themselves and would print a text twice quoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Written")]
pub struct ToolCall {
    /// What the result refers to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Always a function; written because some templates read it.
    #[serde(rename = "type")]
    kind: Kind,
    /// What is called.
    pub function: FunctionCall,
}

/// Name and arguments of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FunctionCall {
    /// Name of the function.
    pub name: String,
    /// Arguments by name, in their order.
    pub arguments: Map<String, Json>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    Function,
}

impl ToolCall {
    /// A call without an id.
    pub fn new(name: impl Into<String>, arguments: Map<String, Json>) -> Self {
        ToolCall { id: None, kind: Kind::Function, function: FunctionCall { name: name.into(), arguments } }
    }
}

/// What files hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    id: Option<String>,
    #[serde(rename = "type")]
    _kind: Option<Kind>,
    function: Option<WrittenFunction>,
    name: Option<String>,
    arguments: Option<Json>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenFunction {
    name: String,
    arguments: Option<Json>,
}

impl TryFrom<Written> for ToolCall {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let (name, arguments) = match (written.function, written.name, written.arguments) {
            (Some(function), None, None) => (function.name, function.arguments),
            (None, Some(name), arguments) => (name, arguments),
            (None, None, _) => return Err("a tool call needs `function` or `name`".into()),
            (Some(_), ..) => return Err("a tool call has `function` and `name` or `arguments`; write one form".into()),
        };
        let refuse = |found: &Json| format!("arguments of the call of `{name}` are {found}, which is no JSON object");
        let arguments = match arguments {
            None => Map::new(),
            Some(Json::Object(arguments)) => arguments,
            Some(Json::String(text)) => serde_json::from_str(&text).map_err(|_| refuse(&Json::String(text)))?,
            Some(other) => return Err(refuse(&other)),
        };
        Ok(ToolCall { id: written.id, ..ToolCall::new(name, arguments) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_written_form_is_one_call() {
        let call = r#"{"type":"function","function":{"name":"f","arguments":{"b":1,"a":"ü"}}}"#;
        for text in [
            call,
            r#"{"function":{"name":"f","arguments":{"b":1,"a":"ü"}},"id":null}"#,
            r#"{"name":"f","arguments":{"b":1,"a":"ü"}}"#,
            r#"{"type":"function","function":{"name":"f","arguments":"{\"b\": 1, \"a\": \"ü\"}"}}"#,
        ] {
            let read: ToolCall = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), call, "{text}");
        }
        let bare: ToolCall = serde_json::from_str(r#"{"name":"f","id":"7"}"#).unwrap();
        assert_eq!((bare.id.as_deref(), bare.function.arguments.len()), (Some("7"), 0));
    }

    #[test]
    fn what_is_no_call_is_refused() {
        for (text, word) in [
            (r#"{"arguments":{}}"#, "needs `function` or `name`"),
            (r#"{"name":"f","function":{"name":"f"}}"#, "one form"),
            (r#"{"name":"f","arguments":[1]}"#, "`f` are [1]"),
            (r#"{"name":"f","arguments":"x"}"#, "`f` are \"x\""),
            (r#"{"type":"retrieval","name":"f"}"#, "retrieval"),
            (r#"{"name":"f","index":0}"#, "index"),
        ] {
            let error = serde_json::from_str::<ToolCall>(text).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
