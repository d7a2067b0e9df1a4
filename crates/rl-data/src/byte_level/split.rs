//! Words as the regular expressions of the known vocabularies cut them.
//!
//! Each function below is one expression, alternative by alternative; what an alternative can match was worked out by hand
//! and is held against the expression itself by the tests.

use std::ops::Range;
use std::sync::LazyLock;

use serde_json::{Value as Json, json};

/// How text is cut into words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    /// Byte-level alone, as in GPT-2:
    /// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`.
    Gpt2,
    /// Each digit by itself, then as GPT-2 in what lies between: SmolLM2.
    DigitsGpt2,
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
    /// with at most this many digits together: 3 for Llama 3, 1 for Qwen.
    Llama3 { digits: usize },
}

/// A word, as bytes of the text.
pub(super) struct Piece {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) ascii: bool,
}

/// What the expressions tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\s` but for the next two.
    Space,
    /// `\r` and `\n`.
    Newline,
}

impl Rule {
    /// The rule of a pre-tokenizer as it stands in `tokenizer.json`; none for others.
    pub(super) fn of(pre_tokenizer: &Json) -> Option<Self> {
        let byte_level = |part: &Json, use_regex: bool| {
            // Without a prefix space; `trim_offsets` is for the post-processor.
            part["type"] == "ByteLevel" && part["add_prefix_space"] == false && part["use_regex"] == use_regex
        };
        if byte_level(pre_tokenizer, true) {
            return Some(Rule::Gpt2);
        }
        let parts = pre_tokenizer.get("pretokenizers")?.as_array()?;
        let [first, second] = parts.as_slice() else { return None };
        if *first == json!({"type": "Digits", "individual_digits": true}) && byte_level(second, true) {
            return Some(Rule::DigitsGpt2);
        }
        let split = |numbers: &str| {
            let regex = format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            );
            json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false})
        };
        let digits = [(r"\p{N}", 1), (r"\p{N}{1,3}", 3)].into_iter().find(|(numbers, _)| *first == split(numbers))?.1;
        byte_level(second, false).then_some(Rule::Llama3 { digits })
    }

    /// The words of `text[range]`, which together are all of it.
    pub(super) fn split(self, text: &str, range: Range<usize>) -> Pieces<'_> {
        let end = if self == Rule::DigitsGpt2 { range.start } else { range.end };
        Pieces { rule: self, text: Text { bytes: text.as_bytes(), text, end }, at: range.start, range_end: range.end }
    }
}

/// Iterates over words.
pub(super) struct Pieces<'a> {
    rule: Rule,
    text: Text<'a>,
    at: usize,
    range_end: usize,
}

impl Iterator for Pieces<'_> {
    type Item = Piece;

    fn next(&mut self) -> Option<Piece> {
        let start = self.at;
        if start == self.range_end {
            return None;
        }
        if start == self.text.end {
            // Only with digits by themselves does the text for the expression end before the range.
            self.text.end = next_part(self.text.text, start..self.range_end);
        }
        let end = match self.rule {
            Rule::Gpt2 | Rule::DigitsGpt2 => self.text.gpt2(start),
            Rule::Llama3 { digits } => self.text.llama3(start, digits),
        };
        self.at = end;
        Some(Piece { start, end, ascii: self.text.bytes[start..end].is_ascii() })
    }
}

/// The end of the part that begins at the start of the range: one digit, or everything up to the next.
fn next_part(text: &str, range: Range<usize>) -> usize {
    let mut characters = text[range.clone()].char_indices();
    match characters.next() {
        Some((_, first)) if first.is_numeric() => range.start + first.len_utf8(),
        _ => characters.find(|(_, other)| other.is_numeric()).map_or(range.end, |(at, _)| range.start + at),
    }
}

/// A text that ends at `end`, whatever comes after.
struct Text<'a> {
    bytes: &'a [u8],
    text: &'a str,
    end: usize,
}

impl Text<'_> {
    /// The end of the word at `at`.
    fn gpt2(&self, at: usize) -> usize {
        let Some((class, after)) = self.class(at) else { return self.end };
        if self.bytes[at] == b'\''
            && let Some(end) = self.contraction(at, |byte| byte)
        {
            return end;
        }
        match class {
            Class::Letter | Class::Number | Class::Other => self.run(after, class),
            Class::Space | Class::Newline => match self.class(after) {
                Some((next @ (Class::Letter | Class::Number | Class::Other), after)) if self.bytes[at] == b' ' => {
                    self.run(after, next)
                }
                _ => self.spaces(at).0,
            },
        }
    }

    /// The end of the word at `at`.
    fn llama3(&self, at: usize, digits: usize) -> usize {
        let Some((class, after)) = self.class(at) else { return self.end };
        if self.bytes[at] == b'\''
            && let Some(end) = self.contraction(at, |byte| byte.to_ascii_lowercase())
        {
            return end;
        }
        let next = self.class(after);
        match (class, next) {
            (Class::Letter, _) => return self.run(after, Class::Letter),
            (Class::Space | Class::Other, Some((Class::Letter, after))) => return self.run(after, Class::Letter),
            (Class::Number, _) => {
                let mut end = after;
                for _ in 1..digits {
                    let Some((Class::Number, after)) = self.class(end) else { break };
                    end = after;
                }
                return end;
            }
            _ => {}
        }
        let marks = match (class, next) {
            (Class::Other, _) => Some(after),
            (_, Some((Class::Other, after))) if self.bytes[at] == b' ' => Some(after),
            _ => None,
        };
        match marks {
            Some(after) => self.run(self.run(after, Class::Other), Class::Newline),
            None => match self.spaces(at) {
                (_, Some(end)) => end,
                (end, None) => end,
            },
        }
    }

    /// The character at `at` and where the next one begins; none at the end.
    fn class(&self, at: usize) -> Option<(Class, usize)> {
        if at == self.end {
            return None;
        }
        let byte = self.bytes[at];
        if byte < 0x80 {
            return Some((CLASSES[usize::from(byte)], at + 1));
        }
        let character = self.text[at..].chars().next()?;
        let class = OTHER_CLASSES.get(character as usize).copied().unwrap_or(Class::Other as u8);
        let class = match class {
            class if class == Class::Letter as u8 => Class::Letter,
            class if class == Class::Number as u8 => Class::Number,
            class if class == Class::Space as u8 => Class::Space,
            _ => Class::Other,
        };
        Some((class, at + character.len_utf8()))
    }

    /// The end of the characters of one class from `at` on, which may be none.
    fn run(&self, mut at: usize, class: Class) -> usize {
        while let Some((_, after)) = self.class(at).filter(|(found, _)| *found == class) {
            at = after;
        }
        at
    }

    /// White space at `at`: where it ends, but for its last character if more follows (`\s+(?!\S)|\s+`), and where its
    /// last newline ends (`\s*[\r\n]+`).
    fn spaces(&self, start: usize) -> (usize, Option<usize>) {
        let (mut at, mut last, mut newline) = (start, start, None);
        while let Some((class @ (Class::Space | Class::Newline), after)) = self.class(at) {
            (last, at) = (at, after);
            if class == Class::Newline {
                newline = Some(after);
            }
        }
        (if at == self.end || last == start { at } else { last }, newline)
    }

    /// The end of `'s`, `'t`, `'re`, `'ve`, `'m`, `'ll` or `'d` at `at`, letters as `fold` makes them.
    fn contraction(&self, at: usize, fold: impl Fn(u8) -> u8) -> Option<usize> {
        let rest = &self.bytes[at + 1..self.end];
        match rest {
            // U+017F, the long s, is an s but for its case.
            [0xc5, 0xbf, ..] if fold(b'S') == b's' => Some(at + 3),
            [first, ..] if b"stmd".contains(&fold(*first)) => Some(at + 2),
            [first, second, ..] if [b"re", b"ve", b"ll"].contains(&&[fold(*first), fold(*second)]) => Some(at + 3),
            _ => None,
        }
    }
}

const CLASSES: [Class; 128] = {
    let mut classes = [Class::Other; 128];
    let mut byte = 0_u8;
    while byte < 128 {
        classes[byte as usize] = match byte {
            b'a'..=b'z' | b'A'..=b'Z' => Class::Letter,
            b'0'..=b'9' => Class::Number,
            b'\r' | b'\n' => Class::Newline,
            b'\t' | 0x0b | 0x0c | b' ' => Class::Space,
            _ => Class::Other,
        };
        byte += 1;
    }
    classes
};

/// By character, those above ASCII, from the tables that the expressions use too.
static OTHER_CLASSES: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut classes = vec![Class::Other as u8; char::MAX as usize + 1];
    for (expression, class) in [(r"\p{L}", Class::Letter), (r"\p{N}", Class::Number), (r"\s", Class::Space)] {
        let parsed = regex_syntax::Parser::new().parse(expression).map(regex_syntax::hir::Hir::into_kind);
        // Without these ranges the probes disagree, and nothing is split here.
        let Ok(regex_syntax::hir::HirKind::Class(regex_syntax::hir::Class::Unicode(found))) = parsed else { continue };
        for range in found.ranges() {
            classes[range.start() as usize..=range.end() as usize].fill(class as u8);
        }
    }
    classes
});
