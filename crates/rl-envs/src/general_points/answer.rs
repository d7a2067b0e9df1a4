//! The answer object: rendering it, and reading it back from whatever a model wrote.
//!
//! Reading is tolerant about form (fences, trailing commas, single quotes, blanks around the colon, text around the
//! object) and never about content: the formula is handed on as it stands.

use std::borrow::Cow;

use serde::Deserialize;

use super::config::TemplateKind;
use crate::json_text::Text;

/// How the formula was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ParseMode {
    /// The whole response is a JSON object.
    Strict,
    /// The key was found in text that is not strict JSON.
    Lenient,
    /// There is no formula, or it is not a string.
    Missing,
}

/// A response, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer<'a> {
    response: &'a str,
    formula: Option<Cow<'a, str>>,
    parse_mode: ParseMode,
}

impl<'a> Answer<'a> {
    /// Reads `response`. The first usable `formula` wins.
    pub fn parse(response: &'a str) -> Self {
        let (formula, parse_mode) = match strict_formula(response) {
            Some(Text::String(formula)) => (Some(formula), ParseMode::Strict),
            Some(Text::Other) => (None, ParseMode::Missing),
            None => match lenient_formula(response) {
                Some(formula) => (Some(formula), ParseMode::Lenient),
                None => (None, ParseMode::Missing),
            },
        };
        Answer { response, formula, parse_mode }
    }

    /// The formula as written, `=` and right side included.
    pub fn formula(&self) -> Option<&str> {
        self.formula.as_deref()
    }

    /// The part of the formula before the first `=`, which is what is graded.
    pub fn left_side(&self) -> Option<&str> {
        self.formula().map(|formula| formula.split('=').next().unwrap_or(formula))
    }

    /// How the formula was found.
    pub fn parse_mode(&self) -> ParseMode {
        self.parse_mode
    }

    /// The `cards` list as plain strings, whether its items are strings or numbers; `None` if there is no list.
    pub fn cards(&self) -> Option<Vec<&'a str>> {
        list(self.response, "cards")
    }

    /// The `number` list as plain strings.
    pub fn number(&self) -> Option<Vec<&'a str>> {
        list(self.response, "number")
    }
}

/// The answer object for `cards` with `numbers`, solved by `formula` (left side only).
///
/// The standard layout ends its last field with a comma, as the published training targets do; the compact layout is
/// one line of strict JSON.
pub fn render_answer(template: TemplateKind, cards: &[&str], numbers: &[u8], formula: &str, target: i32) -> String {
    let (before_cards, before_numbers, before_formula, end, separator) = match template {
        TemplateKind::Compact => (r#"{"cards":["#, r#"],"number":["#, r#"],"formula":""#, r#""}"#, ","),
        TemplateKind::Standard | TemplateKind::Example => {
            ("{\n  \"cards\": [", "],\n  \"number\": [", "],\n  \"formula\": \"", "\",\n}", ", ")
        }
    };
    let mut text = String::with_capacity(128);
    text.push_str(before_cards);
    for (position, card) in cards.iter().enumerate() {
        text.push_str(if position > 0 { separator } else { "" });
        text.push('"');
        text.push_str(card);
        text.push('"');
    }
    text.push_str(before_numbers);
    for (position, number) in numbers.iter().enumerate() {
        text.push_str(if position > 0 { separator } else { "" });
        text.push_str(&number.to_string());
    }
    text.push_str(before_formula);
    text.push_str(formula);
    text.push('=');
    text.push_str(&target.to_string());
    text.push_str(end);
    text
}

/// The `formula` of a response that is a JSON object as a whole; `None` if it is not one or lacks the key.
fn strict_formula(response: &str) -> Option<Text<'_>> {
    #[derive(Deserialize)]
    struct Object<'a> {
        #[serde(borrow)]
        formula: Option<Text<'a>>,
    }
    // Serde would take an array for a struct. The usual departure from JSON, a comma after the last field, is seen at
    // once, which spares a failing read.
    let inside = response.trim().strip_prefix('{')?.strip_suffix('}')?;
    if inside.trim_end().ends_with(',') {
        return None;
    }
    serde_json::from_str::<Object>(response).ok()?.formula
}

/// The first quoted `formula` key followed by a colon and a string on one line.
fn lenient_formula(response: &str) -> Option<Cow<'_, str>> {
    values_of(response, "formula").find_map(|value| {
        let quote = value.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let mut escaped = false;
        let length = value[1..].find(|c| {
            let ends = c == '\n' || (c == quote && !escaped);
            escaped = c == '\\' && !escaped;
            ends
        })?;
        let text = &value[1..1 + length];
        if value[1 + length..].starts_with('\n') {
            return None;
        }
        if !text.contains('\\') {
            return Some(Cow::Borrowed(text));
        }
        // JSON lets `/` be written `\/`; anything else behind a backslash stays and is illegal in a formula anyway.
        Some(Cow::Owned(text.replace("\\/", "/")))
    })
}

/// The first list behind a quoted `key`, with the quotes of its items removed.
fn list<'a>(response: &'a str, key: &str) -> Option<Vec<&'a str>> {
    // Only the first list is looked at: going on after one that never closes would take quadratic time.
    let inside = values_of(response, key).find_map(|value| value.strip_prefix('['))?.split_once(']')?.0;
    let items = inside.split(',').map(|item| item.trim().trim_matches(['"', '\'']).trim());
    Some(items.filter(|item| !item.is_empty()).collect())
}

/// What follows each `"key" :` or `'key' :`, blanks removed.
pub(crate) fn values_of<'a>(response: &'a str, key: &str) -> impl Iterator<Item = &'a str> {
    response.match_indices(key).filter_map(move |(start, key)| {
        let quote = response[..start].chars().next_back().filter(|c| matches!(c, '"' | '\''))?;
        let after = response[start + key.len()..].strip_prefix(quote)?;
        Some(after.trim_start().strip_prefix(':')?.trim_start())
    })
}
