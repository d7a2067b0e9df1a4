//! What the instructions ask about: topics, each with six short sentences that are true and stand alone. They are in
//! `topics.txt`: a line with name and words, then a line for the word and the sentence of each fact.
//!
//! Every sentence holds a word of its own that no other sentence of its topic has, so that an answer can be made to use
//! it or to do without it. Sentences have 4 to 8 words and begin with a word that may be written small.

use std::sync::LazyLock;

/// Facts of every topic.
pub const NUM_FACTS: usize = 6;

/// Something to talk about.
#[derive(Debug, PartialEq, Eq)]
pub struct Topic {
    /// As it stands in a prompt after "about".
    pub name: &'static str,
    /// Words that name it, in lower case.
    pub words: Vec<&'static str>,
    /// What can be said.
    pub facts: [Fact; NUM_FACTS],
}

/// One sentence about a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fact {
    /// The word that only this sentence of the topic has, in lower case.
    pub word: &'static str,
    /// The sentence with its full stop.
    pub sentence: &'static str,
}

impl Topic {
    /// The topic of this name.
    pub fn named(name: &str) -> Option<&'static Topic> {
        TOPICS.iter().find(|topic| topic.name == name)
    }

    /// Whether a lower-case word belongs to the topic: it names it or is the word of a fact.
    pub fn knows(&self, word: &str) -> bool {
        self.words.contains(&word) || self.facts.iter().any(|fact| fact.word == word)
    }
}

/// All topics. Their order is part of the numbering of prompts: new ones go to the end.
pub static TOPICS: LazyLock<Vec<Topic>> =
    LazyLock::new(|| include_str!("topics.txt").split("\n\n").filter_map(parse).collect());

/// A topic as it stands in the file; `None` where that is not of the right form, which a test would notice by their number.
fn parse(block: &'static str) -> Option<Topic> {
    let mut lines = block.lines();
    let (name, words) = lines.next()?.split_once(": ")?;
    let mut facts = Vec::with_capacity(NUM_FACTS);
    for line in lines {
        let (word, sentence) = line.trim_start().split_once(": ")?;
        facts.push(Fact { word, sentence });
    }
    Some(Topic { name, words: words.split(", ").collect(), facts: facts.try_into().ok()? })
}
