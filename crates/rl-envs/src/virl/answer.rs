//! The answer object: rendering it, and reading it back from whatever a model wrote.
//!
//! Reading is tolerant about form (fences, trailing commas, single quotes, blanks around the colon, text around the
//! object) and never about content: the action is handed on as it stands.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};

use super::config::TemplateKind;
use crate::json_text::Text;

const OBSERVATION: &str = "current observation";
const INSTRUCTION: &str = "current instruction";
const ACTION: &str = "action";

/// How the action was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParseMode {
    /// The whole response is a JSON object.
    Strict,
    /// The key was found in text that is not strict JSON, or deeper inside an object.
    Lenient,
    /// There is no action, or it is not a string.
    Missing,
}

/// A response, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    action: Option<Cow<'a, str>>,
    observation: Option<Cow<'a, str>>,
    parse_mode: ParseMode,
}

impl<'a> Answer<'a> {
    /// Reads `response`. Of a JSON object its own keys are taken, the first if one comes twice, and a key whose value is no
    /// string is missing; a key it lacks, and every key of other text, is the first quoted one before a colon and a string on
    /// one line.
    pub fn parse(response: &'a str) -> Self {
        let Fields { action, observation } = strict_fields(response).unwrap_or_default();
        let (action, parse_mode) = match action {
            Some(Text::String(action)) => (Some(action), ParseMode::Strict),
            Some(Text::Other) => (None, ParseMode::Missing),
            None => match lenient_field(response, ACTION) {
                Some(action) => (Some(action), ParseMode::Lenient),
                None => (None, ParseMode::Missing),
            },
        };
        let observation = match observation {
            Some(Text::String(observation)) => Some(observation),
            Some(Text::Other) => None,
            None => lenient_field(response, OBSERVATION),
        };
        Answer { action, observation, parse_mode }
    }

    /// The action as written.
    pub fn action(&self) -> Option<&str> {
        self.action.as_deref()
    }

    /// The observation as written.
    pub fn observation(&self) -> Option<&str> {
        self.observation.as_deref()
    }

    /// How the action was found.
    pub fn parse_mode(&self) -> ParseMode {
        self.parse_mode
    }
}

/// The answer object.
///
/// The standard layout ends its last field with a comma, as the published training targets do; the compact layout is
/// one line of strict JSON. Quotes and backslashes inside the texts are escaped.
pub fn render_answer(template: TemplateKind, observation: &str, instruction: &str, action: &str) -> String {
    let (open, colon, between, close) = match template {
        TemplateKind::Compact => ("{\"", "\":\"", "\",\"", "\"}"),
        TemplateKind::Standard => ("{\n  \"", "\": \"", "\",\n  \"", "\",\n}"),
    };
    let mut text = String::with_capacity(96 + observation.len() + instruction.len() + action.len());
    for (prefix, key, value) in
        [(open, OBSERVATION, observation), (between, INSTRUCTION, instruction), (between, ACTION, action)]
    {
        text.push_str(prefix);
        text.push_str(key);
        text.push_str(colon);
        push_escaped(&mut text, value);
    }
    text.push_str(close);
    text
}

fn push_escaped(text: &mut String, value: &str) {
    if value.contains(['"', '\\']) {
        text.push_str(&value.replace('\\', "\\\\").replace('"', "\\\""));
    } else {
        text.push_str(value);
    }
}

#[derive(Default)]
struct Fields<'a> {
    action: Option<Text<'a>>,
    observation: Option<Text<'a>>,
}

/// The fields of a response that is a JSON object as a whole; `None` if it is not one.
fn strict_fields(response: &str) -> Option<Fields<'_>> {
    // The usual departure from JSON, a comma after the last field, is seen at once, which spares a failing read.
    let inside = response.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inside.trim_end().ends_with(',') {
        return None;
    }
    serde_json::from_str(response).ok()
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
        let mut fields = Fields::default();
        while let Some(key) = map.next_key::<Text<'de>>()? {
            match key {
                Text::String(key) if key == ACTION && fields.action.is_none() => {
                    fields.action = Some(map.next_value()?)
                }
                Text::String(key) if key == OBSERVATION && fields.observation.is_none() => {
                    fields.observation = Some(map.next_value()?);
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(fields)
    }
}

/// The first quoted `key` followed by a colon and a string on one line.
fn lenient_field<'a>(response: &'a str, key: &str) -> Option<Cow<'a, str>> {
    response.match_indices(key).find_map(|(start, key)| {
        let quote = response[..start].chars().next_back().filter(|c| matches!(c, '"' | '\''))?;
        let after = response[start + key.len()..].strip_prefix(quote)?;
        string_on_one_line(after.trim_start().strip_prefix(':')?.trim_start())
    })
}

/// What stands between the quote that `value` begins with and the next one like it; a backslash takes the quote or
/// backslash behind it as it is, and stays itself before anything else.
fn string_on_one_line(value: &str) -> Option<Cow<'_, str>> {
    let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
    let inside = &value[1..];
    let mut is_escaped = false;
    let length = inside.find(|c| {
        let ends = c == '\n' || (c == quote && !is_escaped);
        is_escaped = c == '\\' && !is_escaped;
        ends
    })?;
    if inside[length..].starts_with('\n') {
        return None;
    }
    let text = &inside[..length];
    if !text.contains('\\') {
        return Some(Cow::Borrowed(text));
    }
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        let taken = letters.next_if(|next| letter == '\\' && matches!(next, '"' | '\'' | '\\' | '/'));
        plain.push(taken.unwrap_or(letter));
    }
    Some(Cow::Owned(plain))
}
