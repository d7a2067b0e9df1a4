//! Two answers to one prompt, of which one is preferred.

use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value as Json, json};

use crate::error::{Error, Result};
use crate::fields::{Fields, Text, as_json, check_prompt, check_response, write_fields};
use crate::prompt_record::PromptRecord;
use crate::record::{ChatRecord, Message, Role};
use crate::transcript;
use crate::unpaired_record::UnpairedRecord;

/// A prompt with a preferred and a dispreferred response.
///
/// As read from a file, `chosen` and `rejected` are both strings (one answer each, `prompt` is needed) or both lists of
/// messages. Lists that begin with the assistant answer `prompt`. Other lists are whole conversations: the messages
/// that they share are the prompt, only what follows is the response, and a `prompt` beside them must be found in it.
/// Two strings without `prompt` that begin with `\n\nHuman:` are whole conversations too.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Fields")]
pub struct PreferenceRecord {
    /// What both responses answer; does not end with the assistant.
    pub prompt: Vec<Message>,
    /// The preferred response: one assistant message, or more turns that begin and end with the assistant.
    pub chosen: Vec<Message>,
    /// The other response, likewise.
    pub rejected: Vec<Message>,
    /// By how much the preferred response is better: the field `margin`, else `chosen_rating - rejected_rating`, else
    /// `chosen_score - rejected_score`, a hyphen being as good as the underscore, else `score_chosen - score_rejected`;
    /// `None` where the row has none of them.
    pub margin: Option<f64>,
    /// All other fields of the row, ratings and scores included.
    pub extra: Map<String, Json>,
}

impl PreferenceRecord {
    /// A user's question with two answers, without a margin.
    pub fn new(prompt: impl Into<String>, chosen: impl Into<String>, rejected: impl Into<String>) -> Self {
        PreferenceRecord {
            prompt: vec![Message::user(prompt)],
            chosen: vec![Message::assistant(chosen)],
            rejected: vec![Message::assistant(rejected)],
            margin: None,
            extra: Map::new(),
        }
    }

    /// Reads a row; other file layouts come in here too. [`Error::Field`] names the field and what is wrong with it.
    pub fn from_fields(mut fields: Fields) -> Result<Self> {
        let margin = take_margin(&mut fields)?;
        let prompt = fields.take_text("prompt")?;
        let chosen = fields.take_text("chosen")?.ok_or_else(|| fields.absent("chosen"))?;
        let rejected = fields.take_text("rejected")?.ok_or_else(|| fields.absent("rejected"))?;
        let (chosen, rejected) = match (prompt.is_none(), chosen, rejected) {
            (true, Text::Plain(chosen), Text::Plain(rejected)) => transcripts(chosen, rejected),
            (_, chosen, rejected) => (chosen, rejected),
        };
        let begins = |messages: &[Message]| messages.first().is_some_and(|m| m.role == Role::Assistant);
        let (prompt, chosen, rejected) = match (chosen, rejected) {
            (Text::Messages(chosen), Text::Messages(rejected)) if !begins(&chosen) && !begins(&rejected) => {
                let shared = shared_messages(&chosen, &rejected)?;
                check_stated_prompt(prompt, &chosen[..shared])?;
                (chosen[..shared].to_vec(), chosen[shared..].to_vec(), rejected[shared..].to_vec())
            }
            (chosen @ Text::Plain(_), rejected @ Text::Plain(_))
            | (chosen @ Text::Messages(_), rejected @ Text::Messages(_)) => {
                let prompt = prompt.ok_or_else(|| fields.absent("prompt"))?.into_messages(Role::User);
                (prompt, chosen.into_messages(Role::Assistant), rejected.into_messages(Role::Assistant))
            }
            _ => return Err(Error::field("rejected", "one of `chosen` and `rejected` is a string, the other a list")),
        };
        check_prompt("prompt", &prompt)?;
        check_response("chosen", &chosen)?;
        check_response("rejected", &rejected)?;
        Ok(PreferenceRecord { prompt, chosen, rejected, margin, extra: fields.0 })
    }

    /// The conversation with the preferred response, to fine-tune on.
    pub fn chosen_conversation(&self) -> Vec<Message> {
        [self.prompt.as_slice(), &self.chosen].concat()
    }

    /// The conversation with the preferred response, with the other fields of the row.
    pub fn into_chosen(self) -> ChatRecord {
        ChatRecord { messages: self.chosen_conversation(), extra: self.extra }
    }

    /// The conversation with the other response.
    pub fn rejected_conversation(&self) -> Vec<Message> {
        [self.prompt.as_slice(), &self.rejected].concat()
    }

    /// The prompt alone, to sample from.
    pub fn prompt_record(&self) -> PromptRecord {
        PromptRecord { prompt: self.prompt.clone(), extra: self.extra.clone() }
    }

    /// The preferred response labelled true and the other labelled false.
    pub fn unpaired(&self) -> [UnpairedRecord; 2] {
        [(&self.chosen, true), (&self.rejected, false)].map(|(completion, label)| UnpairedRecord {
            prompt: self.prompt.clone(),
            completion: completion.clone(),
            label,
            extra: self.extra.clone(),
        })
    }
}

impl TryFrom<Fields> for PreferenceRecord {
    type Error = Error;

    fn try_from(fields: Fields) -> Result<Self> {
        PreferenceRecord::from_fields(fields)
    }
}

impl Serialize for PreferenceRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let named = [
            ("prompt", as_json(&self.prompt)),
            ("chosen", as_json(&self.chosen)),
            ("rejected", as_json(&self.rejected)),
            ("margin", self.margin.map(|margin| json!(margin))),
        ];
        write_fields(&named, &self.extra, serializer)
    }
}

/// Two texts without a prompt may be whole transcripts.
fn transcripts(chosen: String, rejected: String) -> (Text, Text) {
    match (transcript::messages(&chosen), transcript::messages(&rejected)) {
        (Some(chosen), Some(rejected)) => (Text::Messages(chosen), Text::Messages(rejected)),
        _ => (Text::Plain(chosen), Text::Plain(rejected)),
    }
}

/// Numbers whose difference is the margin, in the order in which they are looked for.
pub(crate) const SCORE_FIELDS: [(&str, &str); 5] = [
    ("chosen_rating", "rejected_rating"),
    ("chosen-rating", "rejected-rating"),
    ("chosen_score", "rejected_score"),
    ("chosen-score", "rejected-score"),
    ("score_chosen", "score_rejected"),
];

fn take_margin(fields: &mut Fields) -> Result<Option<f64>> {
    let margin = fields.number("margin")?;
    fields.0.shift_remove("margin");
    if margin.is_some() {
        return Ok(margin);
    }
    for (chosen, rejected) in SCORE_FIELDS {
        match (fields.number(chosen)?, fields.number(rejected)?) {
            (Some(better), Some(worse)) => return Ok(Some(better - worse)),
            (None, None) => {}
            (Some(_), None) => return Err(Error::field(rejected, format!("missing or null, but `{chosen}` is there"))),
            (None, Some(_)) => return Err(Error::field(chosen, format!("missing or null, but `{rejected}` is there"))),
        }
    }
    Ok(None)
}

/// Number of messages that are the prompt of two whole conversations; both go on with the assistant.
fn shared_messages(chosen: &[Message], rejected: &[Message]) -> Result<usize> {
    let equal = chosen.iter().zip(rejected).take_while(|(a, b)| a == b).count();
    // Where one conversation is the beginning of the other, or both are the same, the last message is still an answer.
    let shared = equal.min(chosen.len().min(rejected.len()) - 1);
    match (&chosen[shared].role, &rejected[shared].role) {
        (Role::Assistant, Role::Assistant) => Ok(shared),
        (a, b) => {
            let problem =
                format!("the conversations part at message {shared} ({a} and {b}), which is no answer of both");
            Err(Error::field("rejected", problem))
        }
    }
}

/// A prompt that stands beside whole conversations must be theirs: the same messages, or the text of a user's message.
fn check_stated_prompt(stated: Option<Text>, shared: &[Message]) -> Result<()> {
    let agrees = match stated {
        None => true,
        Some(Text::Messages(messages)) => messages == shared,
        Some(Text::Plain(text)) => shared.iter().any(|m| m.role == Role::User && m.content == text),
    };
    let problem = "is not what the conversations in `chosen` and `rejected` begin with";
    if agrees { Ok(()) } else { Err(Error::field("prompt", problem)) }
}
