//! Conversations to prepare for training, made up from a tokenizer's own words: prose, lists, code, numbers and marks
//! beyond ASCII, in turns of widely spread lengths. Row `i` is a function of `i` and the vocabulary.

use rl_core::random::RandomKey;
use rl_data::{ChatRecord, Message, Tokenizer};

/// Most likely number of words of a user's and of an assistant's turn (medians of a log-normal draw of spread 0.8).
const MEDIAN_WORDS: [f64; 2] = [25.0, 80.0];
const SPREAD: f64 = 0.8;
/// No turn is longer.
const MAX_WORDS: f64 = 1500.0;
const MARKS: [&str; 6] = ["naïve café", "“quoted”", "— and —", "東京で会う", "🎴👩‍💻", "Größe"];

/// Words of a vocabulary, the frequent ones first, as merges were learned in that order.
pub struct ChatRows {
    words: Vec<String>,
}

impl ChatRows {
    pub fn new(tokenizer: &Tokenizer) -> Self {
        let ids = (0..tokenizer.vocab_size() as u32).filter_map(|id| tokenizer.id_to_token(id));
        let word = |token: String| {
            let word = token.strip_prefix('Ġ')?;
            (word.bytes().all(|byte| byte.is_ascii_lowercase()) && 1 < word.len()).then(|| word.to_string())
        };
        ChatRows { words: ids.filter_map(word).collect() }
    }

    /// One to four questions with answers, with a system message in front of every third.
    pub fn row(&self, index: usize) -> ChatRecord {
        let mut draw = Draw { key: RandomKey::new(0, "bench chat rows").at(index as u64), at: 0 };
        let mut messages = Vec::new();
        if draw.below(3) == 0 {
            messages.push(Message::system(self.sentence(&mut draw, 12)));
        }
        let turns = [1, 1, 1, 1, 2, 2, 2, 3, 3, 4][draw.below(10)];
        for _ in 0..turns {
            let [question, answer] = MEDIAN_WORDS.map(|median| {
                let words = (median * (SPREAD * draw.normal()).exp()).clamp(3.0, MAX_WORDS);
                self.text(&mut draw, words as usize)
            });
            messages.extend([Message::user(question), Message::assistant(answer)]);
        }
        ChatRecord::new(messages)
    }

    /// Paragraphs of `words` words, roughly.
    fn text(&self, draw: &mut Draw, words: usize) -> String {
        let mut text = String::new();
        let mut left = words;
        while 0 < left {
            if !text.is_empty() {
                text += "\n\n";
            }
            let size = left.min(20 + draw.below(60));
            left -= size;
            match draw.below(12) {
                0 => {
                    for item in 0..size.div_ceil(8) {
                        text +=
                            &format!("{}{}. {}", if item == 0 { "" } else { "\n" }, item + 1, self.sentence(draw, 8));
                    }
                }
                1 => {
                    text += "```py\ndef ";
                    for _ in 0..size.div_ceil(6) {
                        let [a, b, c] = [(); 3].map(|()| self.word(draw).to_string());
                        text +=
                            &format!("{a}_{b}({c}):\n    return {c}[{}] + {}\n\n", draw.below(100), draw.below(10_000));
                    }
                    text += "```";
                }
                _ => {
                    let mut left = size;
                    while 0 < left {
                        let length = left.min(5 + draw.below(18));
                        left -= length;
                        text += &self.sentence(draw, length);
                        text += if left == 0 { "" } else { " " };
                    }
                }
            }
        }
        text
    }

    fn sentence(&self, draw: &mut Draw, words: usize) -> String {
        let mut text = String::new();
        for place in 0..words {
            if place != 0 {
                text += if draw.below(12) == 0 { ", " } else { " " };
            }
            match draw.below(60) {
                0 | 1 => text += &draw.below(100_000).to_string(),
                2 | 3 => text += &format!("{}{}", self.word(draw), self.word(draw)),
                4 => text += MARKS[draw.below(MARKS.len())],
                5 => text += "don't",
                _ => text += self.word(draw),
            }
        }
        let first = text.chars().next().map_or(String::new(), |first| first.to_uppercase().to_string());
        let rest: String = text.chars().skip(1).collect();
        format!("{first}{rest}{}", [".", ".", ".", "?", "!"][draw.below(5)])
    }

    /// By Zipf's law: the logarithm of the rank is uniform.
    fn word(&self, draw: &mut Draw) -> &str {
        let rank = (self.words.len() as f64).powf(draw.uniform()) - 1.0;
        self.words.get(rank as usize).map_or("word", String::as_str)
    }
}

struct Draw {
    key: RandomKey,
    at: u64,
}

impl Draw {
    fn next(&mut self) -> u64 {
        self.at += 1;
        self.at
    }

    fn below(&mut self, bound: usize) -> usize {
        let at = self.next();
        self.key.below(at, bound as u64) as usize
    }

    fn uniform(&mut self) -> f64 {
        let at = self.next();
        self.key.uniform(at)
    }

    fn normal(&mut self) -> f64 {
        let at = self.next();
        self.key.at(1).normal(at)
    }
}
