//! Answers in pairs: one that does what the instruction says and one that comes close and does not.
//!
//! Both are made of the same topic's sentences, read equally well and are about equally long over all prompts, so that
//! what tells them apart is the demand and not a word of chatter or the length.

use rl_core::random::RandomKey;

use super::constraint::{CLOSINGS, Constraint, KEYS, OPENINGS};
use super::topic::{NUM_FACTS, Topic};
use super::verifier::num_words;

/// An answer that obeys and one that violates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPair {
    /// Does what is asked.
    pub chosen: String,
    /// Does not.
    pub rejected: String,
}

/// Writes both answers; `key` decides which sentences are used and how the second one fails.
pub(super) fn write_answers(topic: &'static Topic, constraint: &Constraint, key: RandomKey) -> AnswerPair {
    let mut facts: Vec<&'static str> = topic.facts.iter().map(|fact| fact.sentence).collect();
    key.at(0).shuffle(&mut facts);
    let way = |ways: u64| key.at(1).below(0, ways);
    let (chosen, rejected) = match constraint {
        Constraint::Sentences { count } => {
            let facts = &facts[..(count + 1).min(NUM_FACTS)];
            let fewer = *count > 1 && way(2) == 0;
            let other = if fewer { count - 1 } else { count + 1 };
            (in_sentences(facts, *count), in_sentences(facts, other))
        }
        Constraint::BulletPoints { count } => {
            (list(&facts, *count, bullet), bad_list(&facts, *count, bullet, numbered, way(6)))
        }
        Constraint::NumberedList { count } => {
            (list(&facts, *count, numbered), bad_list(&facts, *count, numbered, bullet, way(6)))
        }
        Constraint::LowerCase => {
            let text = facts[..2].join(" ");
            (text.to_lowercase(), text)
        }
        Constraint::Include { word } => with_and_without(topic, word, &facts, way(2) == 0),
        Constraint::Avoid { word } => {
            let (with, without) = with_and_without(topic, word, &facts, way(2) == 0);
            (without, with)
        }
        Constraint::AtMostWords { count } => around(&facts, |words| words <= *count),
        Constraint::AtLeastWords { count } => {
            let (below, above) = around(&facts, |words| words < *count);
            (above, below)
        }
        Constraint::BeginWith { phrase } => {
            let chosen = [phrase, facts[0], facts[1]].join(" ");
            let other = another(&OPENINGS, phrase, way(4));
            let rejected = if way(4) < 2 { [other, facts[0], facts[1]] } else { [facts[0], phrase, facts[1]] };
            (chosen, rejected.join(" "))
        }
        Constraint::EndWith { phrase } => {
            let chosen = [facts[0], facts[1], phrase].join(" ");
            let other = another(&CLOSINGS, phrase, way(4));
            let rejected = if way(4) < 2 { [facts[0], facts[1], other] } else { [facts[0], phrase, facts[1]] };
            (chosen, rejected.join(" "))
        }
        Constraint::JsonKeys { keys: [first, second] } => {
            let object = |first: &str, second: &str| {
                format!("{{\"{first}\": \"{}\", \"{second}\": \"{}\"}}", topic.name, facts[0])
            };
            let chosen = object(first, second);
            let [other_first, other_second] = KEYS.into_iter().find(|keys| keys[0] != first).unwrap_or(["a", "b"]);
            let rejected = match way(4) {
                0 => object(first, other_second),
                1 => object(other_first, second),
                2 => format!("Here is the object: {chosen}"),
                _ => format!("{first}: {}, {second}: {}", topic.name, facts[0]),
            };
            (chosen, rejected)
        }
    };
    AnswerPair { chosen, rejected }
}

/// All facts in so many sentences: the last one holds those that are left.
fn in_sentences(facts: &[&str], count: usize) -> String {
    let alone = count.saturating_sub(1).min(facts.len());
    let mut text = facts[..alone].join(" ");
    for (place, fact) in facts[alone..].iter().enumerate() {
        match place {
            0 => {
                text.push_str(if text.is_empty() { "" } else { " " });
                text.push_str(fact);
            }
            _ => {
                // Joined and separate sentences then have as many tokens.
                text.pop();
                text.push_str("; ");
                text.push_str(&small_first(fact));
            }
        }
    }
    text
}

fn small_first(sentence: &str) -> String {
    let mut chars = sentence.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}

fn bullet(_: usize) -> String {
    "- ".into()
}

fn numbered(item: usize) -> String {
    format!("{item}. ")
}

fn list(facts: &[&str], count: usize, mark: impl Fn(usize) -> String) -> String {
    let lines: Vec<String> = facts.iter().take(count).zip(1..).map(|(fact, item)| mark(item) + fact).collect();
    lines.join("\n")
}

/// One item more, one fewer (twice as often, against the longer ways), prose, a sentence before the list, other marks.
fn bad_list(
    facts: &[&str],
    count: usize,
    mark: impl Fn(usize) -> String,
    other_mark: impl Fn(usize) -> String,
    way: u64,
) -> String {
    match way {
        0 => list(facts, count + 1, mark),
        1 | 2 => list(facts, count.saturating_sub(1), mark),
        3 => facts[..count.min(NUM_FACTS)].join(" "),
        4 => format!("Here is a list:\n{}", list(facts, count, mark)),
        _ => list(facts, count, other_mark),
    }
}

/// Two sentences with the word and two without it.
fn with_and_without(topic: &Topic, word: &str, facts: &[&'static str], first: bool) -> (String, String) {
    let holder = topic.facts.iter().find(|fact| fact.word == word).map_or("", |fact| fact.sentence);
    let others: Vec<&str> = facts.iter().copied().filter(|fact| *fact != holder).collect();
    let with = if first { [holder, others[0]] } else { [others[0], holder] };
    (with.join(" "), others[..2].join(" "))
}

/// The longest text that still `fits` and the shortest that no longer does, sentence by sentence.
fn around(facts: &[&str], fits: impl Fn(usize) -> bool) -> (String, String) {
    let text = |count: usize| facts[..count].join(" ");
    let below = (1..NUM_FACTS).take_while(|&count| fits(num_words(&text(count)))).last().unwrap_or(1);
    (text(below), text(below + 1))
}

/// One of the other phrases.
fn another<'a>(phrases: &[&'a str], phrase: &str, way: u64) -> &'a str {
    let others: Vec<&str> = phrases.iter().copied().filter(|other| *other != phrase).collect();
    others.get(way as usize % others.len().max(1)).copied().unwrap_or("")
}
