//! Rules over the text of an answer: cheap, exact, in linear time, computed on the caller's thread.
//!
//! Every rule gives 1 or 0, the length rule 0 down to -1; the weight of the source scales it. A reference that is missing
//! from the metadata is an invalid score, never a 0. No regular expressions: what they would find is a program's job.

use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::request::RewardRequest;
use super::score::Score;

/// One of the rules, as a source holds it.
pub(super) enum Rule {
    Match(MatchRule),
    Contains(ContainsRule),
    Length(LengthRule),
    Format(FormatRule),
}

/// 1 if the answer equals the reference in the metadata, else 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MatchRule {
    /// Metadata field with the reference: a string, number or boolean.
    pub field: String,
    /// Which part of the response is the answer. Without such a part the score is 0.
    pub extract: Extract,
    /// When two answers are equal.
    pub compare: Compare,
}

/// The part of a response that is the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extract {
    /// All of it.
    Whole,
    /// The inside of the last `\boxed{...}`, braces inside it balanced.
    Boxed,
    /// The inside of the last `<tag>...</tag>`.
    Tag(String),
    /// What follows the last occurrence of this text, up to the end of its line.
    After(String),
}

/// When an answer equals the reference; white space around both never counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// The same characters.
    Exact,
    /// The same characters after Unicode lower-casing.
    IgnoreCase,
    /// The same decimal number as f64; `,` between digits and a leading `$` are dropped. A reference that is no number is
    /// an invalid score.
    Number,
}

/// 1 if the response holds the text of a metadata field anywhere, else 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainsRule {
    /// Metadata field with the text. An empty text is an invalid score, since every response holds it.
    pub field: String,
}

/// Soft punishment of long answers: with length `n`, 0 if `n <= free`, `(free - n) / (limit - free)` up to `limit`,
/// -1 beyond.
///
/// The shape is that of Yu et al. 2025 (DAPO), eq. 13, over text instead of tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthRule {
    /// What is counted.
    pub unit: LengthUnit,
    /// Length up to which nothing is taken off.
    pub free: usize,
    /// Length from which the score is -1.
    pub limit: usize,
}

/// What a length counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// Unicode characters.
    Characters,
    /// Stretches without white space.
    Words,
}

/// 1 if the response is these tagged parts in this order, each tag exactly once and nothing but white space around them,
/// as in `<think>...</think><answer>...</answer>`; else 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormatRule {
    /// Tag names without brackets.
    pub tags: Vec<String>,
}

impl Rule {
    pub(super) fn score(&self, request: &RewardRequest) -> Score {
        match self {
            Rule::Match(rule) => rule.score(request),
            Rule::Contains(rule) => rule.score(request),
            Rule::Length(rule) => rule.score(request),
            Rule::Format(rule) => rule.score(request),
        }
    }
}

impl MatchRule {
    fn score(&self, request: &RewardRequest) -> Score {
        let reference = match field_text(request, &self.field) {
            Ok(reference) => reference,
            Err(score) => return score,
        };
        let number = parse_number(&reference);
        if self.compare == Compare::Number && number.is_none() {
            return Score::invalid("bad field", format!("`{}` is {reference:?}, which is no number", self.field));
        }
        let Some(answer) = self.extract.find(&request.response) else { return Score::Ok(0.0) };
        let (answer, reference) = (answer.trim(), reference.trim());
        grade(match self.compare {
            Compare::Exact => answer == reference,
            Compare::IgnoreCase => answer.to_lowercase() == reference.to_lowercase(),
            Compare::Number => parse_number(answer) == number,
        })
    }
}

impl ContainsRule {
    fn score(&self, request: &RewardRequest) -> Score {
        match field_text(request, &self.field) {
            Ok(text) if text.is_empty() => Score::invalid("bad field", format!("`{}` is empty", self.field)),
            Ok(text) => grade(request.response.contains(&text)),
            Err(score) => score,
        }
    }
}

impl LengthRule {
    fn score(&self, request: &RewardRequest) -> Score {
        let length = match self.unit {
            LengthUnit::Characters => request.response.chars().count(),
            LengthUnit::Words => request.response.split_whitespace().count(),
        };
        let over = length.saturating_sub(self.free) as f64;
        Score::from_value(-(over / (self.limit - self.free) as f64).min(1.0) + 0.0) // + 0.0: no negative zero
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        ensure(self.free < self.limit, "limit", self.limit, format!("must be greater than free = {}", self.free))
    }
}

impl FormatRule {
    fn score(&self, request: &RewardRequest) -> Score {
        let mut rest = request.response.trim();
        for tag in &self.tags {
            let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
            let once = |mark: &str| request.response.matches(mark).count() == 1;
            let inside = rest.strip_prefix(&open).and_then(|inside| inside.split_once(&close));
            match inside {
                Some((_, after)) if once(&open) && once(&close) => rest = after.trim_start(),
                _ => return Score::Ok(0.0),
            }
        }
        grade(rest.is_empty())
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        ensure(!self.tags.is_empty(), "tags", "[]", "name at least one tag")?;
        let bad = self.tags.iter().find(|tag| tag.is_empty() || tag.contains(['<', '>', '/']));
        ensure(bad.is_none(), "tags", bad.map_or("", String::as_str), "a tag is a name without brackets")
    }
}

impl Extract {
    fn find<'a>(&self, response: &'a str) -> Option<&'a str> {
        match self {
            Extract::Whole => Some(response),
            Extract::Boxed => last_boxed(response),
            Extract::Tag(tag) => {
                let (before, _) = response.rsplit_once(&format!("</{tag}>"))?;
                before.rsplit_once(&format!("<{tag}>")).map(|(_, inside)| inside)
            }
            Extract::After(mark) => response.rsplit_once(mark.as_str())?.1.lines().next(),
        }
    }
}

fn last_boxed(response: &str) -> Option<&str> {
    let (_, inside) = response.rsplit_once("\\boxed{")?;
    let mut depth = 1_usize;
    for (position, character) in inside.char_indices() {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some(&inside[..position]);
        }
    }
    None
}

fn field_text(request: &RewardRequest, field: &str) -> Result<String, Score> {
    match request.metadata.get(field) {
        None | Some(Value::Null) => Err(Score::invalid("no field", format!("metadata has no `{field}`"))),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(value @ (Value::Number(_) | Value::Bool(_))) => Ok(value.to_string()),
        Some(_) => Err(Score::invalid("bad field", format!("`{field}` must be a string, number or boolean"))),
    }
}

fn parse_number(text: &str) -> Option<f64> {
    let text = text.trim().replace(',', "");
    let number: f64 = text.strip_prefix('$').unwrap_or(&text).parse().ok()?;
    number.is_finite().then_some(number)
}

fn grade(right: bool) -> Score {
    Score::Ok(if right { 1.0 } else { 0.0 })
}
