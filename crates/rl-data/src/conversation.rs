//! What one row gives the chat template: messages, and the columns that change how they are printed.

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::preference_record::PreferenceRecord;
use crate::prompt_record::PromptRecord;
use crate::record::{ChatRecord, Message};
use crate::unpaired_record::UnpairedRecord;

/// Messages with the columns `tools` and `chat_template_kwargs` of their row, as TRL names them.
///
/// `tools` is a list of JSON schemas or the JSON text of one, `chat_template_kwargs` an object with variables of the
/// template, such as `enable_thinking`; null is as good as absent. Everything that takes a conversation takes messages
/// alone or a whole record:
///
/// ```
/// use rl_data::{ChatRecord, Conversation, Message};
/// let record = ChatRecord::new(vec![Message::user("How are you?")]);
/// assert_eq!(Conversation::from(&record).messages, Conversation::from(&record.messages).messages);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Conversation<'a> {
    /// The turns in order.
    pub messages: &'a [Message],
    columns: Option<&'a Map<String, Json>>,
}

impl<'a> Conversation<'a> {
    /// Messages with the other columns of their row.
    pub fn new(messages: &'a [Message], columns: &'a Map<String, Json>) -> Self {
        Conversation { messages, columns: Some(columns) }
    }

    /// Other messages with the same columns.
    pub(crate) fn with_messages<'b>(&self, messages: &'b [Message]) -> Conversation<'b>
    where
        'a: 'b,
    {
        Conversation { messages, columns: self.columns }
    }

    /// Variables of the template that the row sets. [`Error::Field`] names a column of another form.
    pub fn variables(&self) -> Result<Map<String, Json>> {
        let column = |name: &str| self.columns.and_then(|columns| columns.get(name)).filter(|value| !value.is_null());
        let mut variables = match column("chat_template_kwargs") {
            None => Map::new(),
            Some(Json::Object(variables)) => variables.clone(),
            Some(other) => return Err(Error::field("chat_template_kwargs", format!("{other} is not an object"))),
        };
        if let Some(reserved) =
            ["messages", "add_generation_prompt"].into_iter().find(|name| variables.contains_key(*name))
        {
            return Err(Error::field("chat_template_kwargs", format!("`{reserved}` cannot be set by a row")));
        }
        let tools = match column("tools") {
            Some(Json::String(text)) => serde_json::from_str(text)
                .map_err(|problem| Error::field("tools", format!("a string that is not JSON: {problem}")))?,
            Some(tools) => tools.clone(),
            None => return Ok(variables),
        };
        match tools {
            Json::Null => {}
            Json::Array(tools) if tools.iter().all(Json::is_object) => {
                variables.insert("tools".into(), Json::Array(tools));
            }
            other => return Err(Error::field("tools", format!("{other} is not a list of JSON schemas"))),
        }
        Ok(variables)
    }
}

/// A record whose conversations can be looked at before they are rendered.
pub trait Turns {
    /// Its conversations: one, or for a pair both.
    fn turns(&self) -> Vec<Vec<&Message>>;
}

impl Turns for ChatRecord {
    fn turns(&self) -> Vec<Vec<&Message>> {
        vec![self.messages.iter().collect()]
    }
}

impl Turns for PromptRecord {
    fn turns(&self) -> Vec<Vec<&Message>> {
        vec![self.prompt.iter().collect()]
    }
}

impl Turns for UnpairedRecord {
    fn turns(&self) -> Vec<Vec<&Message>> {
        vec![self.prompt.iter().chain(&self.completion).collect()]
    }
}

impl Turns for PreferenceRecord {
    fn turns(&self) -> Vec<Vec<&Message>> {
        [&self.chosen, &self.rejected].map(|side| self.prompt.iter().chain(side).collect()).into()
    }
}

impl<'a> From<&'a [Message]> for Conversation<'a> {
    fn from(messages: &'a [Message]) -> Self {
        Conversation { messages, columns: None }
    }
}

impl<'a, const N: usize> From<&'a [Message; N]> for Conversation<'a> {
    fn from(messages: &'a [Message; N]) -> Self {
        Conversation { messages, columns: None }
    }
}

impl<'a> From<&'a Vec<Message>> for Conversation<'a> {
    fn from(messages: &'a Vec<Message>) -> Self {
        Conversation { messages, columns: None }
    }
}

impl<'a> From<&'a ChatRecord> for Conversation<'a> {
    fn from(record: &'a ChatRecord) -> Self {
        Conversation::new(&record.messages, &record.extra)
    }
}

impl<'a> From<&'a PromptRecord> for Conversation<'a> {
    fn from(record: &'a PromptRecord) -> Self {
        Conversation::new(&record.prompt, &record.extra)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn variables(columns: Json) -> Result<Json> {
        let Json::Object(columns) = columns else { panic!("an object") };
        Ok(Json::Object(Conversation::new(&[], &columns).variables()?))
    }

    #[test]
    fn columns_become_variables() {
        let tools = json!([{"type": "function"}]);
        assert_eq!(variables(json!({"tools": tools, "source": 3})).unwrap(), json!({"tools": tools}));
        assert_eq!(variables(json!({"tools": tools.to_string()})).unwrap(), json!({"tools": tools}));
        assert_eq!(variables(json!({"tools": null, "chat_template_kwargs": null})).unwrap(), json!({}));
        let both = json!({"tools": [], "chat_template_kwargs": {"enable_thinking": false}});
        assert_eq!(variables(both).unwrap(), json!({"enable_thinking": false, "tools": []}));
        for (columns, word) in [
            (json!({"tools": "not json"}), "not JSON"),
            (json!({"tools": {"a": 1}}), "not a list"),
            (json!({"tools": ["f"]}), "not a list"),
            (json!({"chat_template_kwargs": [1]}), "not an object"),
            (json!({"chat_template_kwargs": {"messages": []}}), "`messages` cannot"),
        ] {
            let error = variables(columns).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
