//! Whether an answer does what the instruction says: exact rules over the text, nothing guessed.

use serde::{Deserialize, Serialize};

use super::constraint::Constraint;
use super::topic::Topic;

/// What an answer came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// On the topic and as demanded.
    Obeyed,
    /// On the topic, but not as demanded.
    Violated,
    /// Holds no word of the topic, whatever its form.
    OffTopic,
    /// No letter and no digit.
    Empty,
}

impl Outcome {
    /// Name in logs and records.
    pub fn label(self) -> &'static str {
        match self {
            Outcome::Obeyed => "obeyed",
            Outcome::Violated => "violated",
            Outcome::OffTopic => "off_topic",
            Outcome::Empty => "empty",
        }
    }
}

/// Judges an answer. Outer white space never counts.
///
/// An answer is on the topic if it holds one of the topic's words; without that demand any text of the right form would
/// do, and a policy would find it.
pub fn grade(topic: &Topic, constraint: &Constraint, answer: &str) -> Outcome {
    let mut words = words(answer).peekable();
    if words.peek().is_none() {
        Outcome::Empty
    } else if !words.any(|word| topic.knows(&word)) {
        Outcome::OffTopic
    } else if constraint.is_met(answer) {
        Outcome::Obeyed
    } else {
        Outcome::Violated
    }
}

impl Constraint {
    /// Whether `answer` meets the demand, whatever it talks about.
    ///
    /// - A word to use or to avoid is a run of letters and digits; capitals do not matter.
    /// - A word that is counted is a run without white space that holds a letter or digit.
    /// - A sentence ends where `.`, `!` or `?` stands before white space or the end, and at a line's end; what holds
    ///   no letter or digit is no sentence.
    /// - Lists are made of lines; empty lines do not matter, every other line must be an item with text.
    pub fn is_met(&self, answer: &str) -> bool {
        let answer = answer.trim();
        match self {
            Constraint::Sentences { count } => num_sentences(answer) == *count,
            Constraint::BulletPoints { count } => is_list(answer, *count, |_| "- ".to_string()),
            Constraint::NumberedList { count } => is_list(answer, *count, |item| format!("{item}. ")),
            Constraint::LowerCase => has_text(answer) && !answer.chars().any(char::is_uppercase),
            Constraint::Include { word } => words(answer).any(|found| found == **word),
            Constraint::Avoid { word } => has_text(answer) && words(answer).all(|found| found != **word),
            Constraint::AtMostWords { count } => (1..=*count).contains(&num_words(answer)),
            Constraint::AtLeastWords { count } => num_words(answer) >= *count,
            Constraint::BeginWith { phrase } => answer.strip_prefix(&**phrase).is_some_and(has_text),
            Constraint::EndWith { phrase } => answer.strip_suffix(&**phrase).is_some_and(has_text),
            Constraint::JsonKeys { keys } => has_keys(answer, keys),
        }
    }
}

/// Number of words of a text, by the rule of [`Constraint::is_met`].
pub(super) fn num_words(text: &str) -> usize {
    text.split_whitespace().filter(|piece| has_text(piece)).count()
}

/// Runs of letters and digits in lower case.
fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

fn has_text(text: &str) -> bool {
    text.chars().any(char::is_alphanumeric)
}

fn num_sentences(text: &str) -> usize {
    let in_line = |line: &str| {
        let (mut sentences, mut text_seen) = (0, false);
        let mut chars = line.chars().peekable();
        while let Some(c) = chars.next() {
            text_seen |= c.is_alphanumeric();
            let ends = matches!(c, '.' | '!' | '?') && chars.peek().is_none_or(|next| next.is_whitespace());
            if text_seen && (ends || chars.peek().is_none()) {
                (sentences, text_seen) = (sentences + 1, false);
            }
        }
        sentences
    };
    text.lines().map(in_line).sum()
}

fn is_list(text: &str, count: usize, mark: impl Fn(usize) -> String) -> bool {
    let mut items = 0;
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        items += 1;
        if !line.strip_prefix(&mark(items)).is_some_and(has_text) {
            return false;
        }
    }
    items == count
}

fn has_keys(text: &str, keys: &[std::borrow::Cow<'static, str>]) -> bool {
    let Ok(object) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(text) else { return false };
    let filled = |key| object.get(key).and_then(|value| value.as_str()).is_some_and(has_text);
    object.len() == keys.len() && keys.iter().all(|key| filled(&**key))
}
