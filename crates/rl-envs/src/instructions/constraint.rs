//! What an instruction demands of the form of an answer, and how it is put into words.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::topic::Topic;

/// Questions that a prompt may begin with; `{}` is the topic.
const QUESTIONS: [&str; 4] =
    ["Tell me about {}.", "What should I know about {}?", "Say something about {}.", "Please describe {}."];
/// Wordings of every pair of topic and constraint.
pub const NUM_WORDINGS: usize = QUESTIONS.len();
/// Sentences that an answer may have to begin with.
pub(super) const OPENINGS: [&str; 3] = ["Good question.", "Here is what I know.", "Let me explain."];
/// Sentences that an answer may have to end with.
pub(super) const CLOSINGS: [&str; 3] = ["That is all.", "I hope this helps.", "Ask me for more."];
/// Keys that a JSON answer may have to have.
pub(super) const KEYS: [[&str; 2]; 2] = [["topic", "fact"], ["subject", "note"]];

/// A demand that can be checked exactly; see [`Constraint::is_met`] for the rules.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Constraint {
    /// Exactly so many sentences.
    Sentences {
        /// How many.
        count: usize,
    },
    /// Exactly so many lines that begin with `- `, and nothing else.
    BulletPoints {
        /// How many.
        count: usize,
    },
    /// Exactly so many lines that begin with `1. `, `2. `, ..., and nothing else.
    NumberedList {
        /// How many.
        count: usize,
    },
    /// No capital letter.
    LowerCase,
    /// The word must be there.
    Include {
        /// In lower case.
        word: Cow<'static, str>,
    },
    /// The word must not be there.
    Avoid {
        /// In lower case.
        word: Cow<'static, str>,
    },
    /// No more words than this.
    AtMostWords {
        /// How many.
        count: usize,
    },
    /// No fewer words than this.
    AtLeastWords {
        /// How many.
        count: usize,
    },
    /// The first words of the answer.
    BeginWith {
        /// They, with their punctuation.
        phrase: Cow<'static, str>,
    },
    /// The last words of the answer.
    EndWith {
        /// They, with their punctuation.
        phrase: Cow<'static, str>,
    },
    /// A JSON object with exactly these keys, whose values are strings with text, and nothing else.
    JsonKeys {
        /// In the order in which the prompt names them; the answer may have them in any.
        keys: [Cow<'static, str>; 2],
    },
}

/// Which demand, without its numbers and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConstraintKind {
    /// [`Constraint::Sentences`]
    Sentences,
    /// [`Constraint::BulletPoints`]
    BulletPoints,
    /// [`Constraint::NumberedList`]
    NumberedList,
    /// [`Constraint::LowerCase`]
    LowerCase,
    /// [`Constraint::Include`]
    Include,
    /// [`Constraint::Avoid`]
    Avoid,
    /// [`Constraint::AtMostWords`]
    AtMostWords,
    /// [`Constraint::AtLeastWords`]
    AtLeastWords,
    /// [`Constraint::BeginWith`]
    BeginWith,
    /// [`Constraint::EndWith`]
    EndWith,
    /// [`Constraint::JsonKeys`]
    JsonKeys,
}

impl ConstraintKind {
    /// Every kind.
    pub const ALL: [ConstraintKind; 11] = [
        ConstraintKind::Sentences,
        ConstraintKind::BulletPoints,
        ConstraintKind::NumberedList,
        ConstraintKind::LowerCase,
        ConstraintKind::Include,
        ConstraintKind::Avoid,
        ConstraintKind::AtMostWords,
        ConstraintKind::AtLeastWords,
        ConstraintKind::BeginWith,
        ConstraintKind::EndWith,
        ConstraintKind::JsonKeys,
    ];

    /// Its name in configs and records.
    pub fn label(self) -> &'static str {
        match self {
            ConstraintKind::Sentences => "sentences",
            ConstraintKind::BulletPoints => "bullet_points",
            ConstraintKind::NumberedList => "numbered_list",
            ConstraintKind::LowerCase => "lower_case",
            ConstraintKind::Include => "include",
            ConstraintKind::Avoid => "avoid",
            ConstraintKind::AtMostWords => "at_most_words",
            ConstraintKind::AtLeastWords => "at_least_words",
            ConstraintKind::BeginWith => "begin_with",
            ConstraintKind::EndWith => "end_with",
            ConstraintKind::JsonKeys => "json_keys",
        }
    }
}

impl Constraint {
    /// Every constraint that is asked for about `topic`. Their order is part of the numbering of prompts.
    pub fn all(topic: &'static Topic) -> Vec<Constraint> {
        let mut all = Vec::new();
        all.extend((1..=3).map(|count| Constraint::Sentences { count }));
        all.extend((2..=4).map(|count| Constraint::BulletPoints { count }));
        all.extend((2..=3).map(|count| Constraint::NumberedList { count }));
        all.push(Constraint::LowerCase);
        let (first, second) = topic.facts.split_at(3);
        all.extend(first.iter().map(|fact| Constraint::Include { word: fact.word.into() }));
        all.extend(second.iter().map(|fact| Constraint::Avoid { word: fact.word.into() }));
        all.extend([8, 12].map(|count| Constraint::AtMostWords { count }));
        all.extend([10, 14].map(|count| Constraint::AtLeastWords { count }));
        all.extend(OPENINGS.map(|phrase| Constraint::BeginWith { phrase: phrase.into() }));
        all.extend(CLOSINGS.map(|phrase| Constraint::EndWith { phrase: phrase.into() }));
        all.extend(KEYS.map(|keys| Constraint::JsonKeys { keys: keys.map(Cow::from) }));
        all
    }

    /// Its kind.
    pub fn kind(&self) -> ConstraintKind {
        match self {
            Constraint::Sentences { .. } => ConstraintKind::Sentences,
            Constraint::BulletPoints { .. } => ConstraintKind::BulletPoints,
            Constraint::NumberedList { .. } => ConstraintKind::NumberedList,
            Constraint::LowerCase => ConstraintKind::LowerCase,
            Constraint::Include { .. } => ConstraintKind::Include,
            Constraint::Avoid { .. } => ConstraintKind::Avoid,
            Constraint::AtMostWords { .. } => ConstraintKind::AtMostWords,
            Constraint::AtLeastWords { .. } => ConstraintKind::AtLeastWords,
            Constraint::BeginWith { .. } => ConstraintKind::BeginWith,
            Constraint::EndWith { .. } => ConstraintKind::EndWith,
            Constraint::JsonKeys { .. } => ConstraintKind::JsonKeys,
        }
    }

    /// The prompt that asks about `topic` under this constraint; `wording` counts modulo [`NUM_WORDINGS`].
    pub fn prompt(&self, topic: &Topic, wording: usize) -> String {
        let question = QUESTIONS[wording % NUM_WORDINGS].replace("{}", topic.name);
        format!("{question} {}", self.demand())
    }

    fn demand(&self) -> String {
        match self {
            Constraint::Sentences { count: 1 } => "Answer in exactly one sentence.".into(),
            Constraint::Sentences { count } => format!("Answer in exactly {} sentences.", number_word(*count)),
            Constraint::BulletPoints { count } => {
                let count = number_word(*count);
                format!("Answer with exactly {count} bullet points that begin with \"- \", and nothing else.")
            }
            Constraint::NumberedList { count } => {
                format!("Answer with a numbered list of exactly {} items, and nothing else.", number_word(*count))
            }
            Constraint::LowerCase => "Do not use any capital letters.".into(),
            Constraint::Include { word } => format!("Use the word \"{word}\" in your answer."),
            Constraint::Avoid { word } => format!("Do not use the word \"{word}\" in your answer."),
            Constraint::AtMostWords { count } => format!("Use at most {count} words."),
            Constraint::AtLeastWords { count } => format!("Use at least {count} words."),
            Constraint::BeginWith { phrase } => format!("Begin your answer with \"{phrase}\""),
            Constraint::EndWith { phrase } => format!("End your answer with \"{phrase}\""),
            Constraint::JsonKeys { keys: [first, second] } => {
                format!("Answer with a JSON object that has the keys \"{first}\" and \"{second}\", and nothing else.")
            }
        }
    }
}

fn number_word(count: usize) -> String {
    const WORDS: [&str; 5] = ["zero", "one", "two", "three", "four"];
    WORDS.get(count).map_or_else(|| count.to_string(), |word| word.to_string())
}
