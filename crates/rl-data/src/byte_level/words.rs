//! Words that were merged before.

use std::collections::HashMap;
use std::sync::LazyLock;

use tokenizers::Token;

/// Most words that are kept; beyond that all are forgotten, so memory stays below about 10 MB a thread.
const MAX_WORDS: usize = 1 << 16;
/// Longer words are merged every time, in bytes.
const MAX_BYTES: usize = 64;

/// An id, and how many bytes of the word it covers.
pub(super) type WordToken = (u32, u32);

/// The tokens of words.
#[derive(Default)]
pub(super) struct Words {
    /// Where the tokens of a word are in `tokens`.
    places: HashMap<Box<str>, (u32, u32)>,
    tokens: Vec<WordToken>,
    /// Of a word that is not kept.
    passing: Vec<WordToken>,
    mapped: String,
}

impl Words {
    /// The tokens of `word`; `merge` takes it in the printable alphabet. None if `merge` fails or leaves a byte out.
    pub(super) fn tokens(
        &mut self,
        word: &str,
        merge: impl FnOnce(&str) -> Option<Vec<Token>>,
    ) -> Option<&[WordToken]> {
        if let Some(&(start, end)) = self.places.get(word) {
            return Some(&self.tokens[start as usize..end as usize]);
        }
        self.mapped.clear();
        self.mapped.extend(word.bytes().map(|byte| ALPHABET[usize::from(byte)]));
        let merged = merge(&self.mapped)?;
        // A letter of the alphabet is a byte of the word.
        let tokens = merged.iter().map(|token| (token.id, token.value.chars().count() as u32));
        if tokens.clone().map(|(_, bytes)| bytes as usize).sum::<usize>() != word.len() {
            return None;
        }
        if word.len() > MAX_BYTES {
            self.passing.clear();
            self.passing.extend(tokens);
            return Some(&self.passing);
        }
        if self.places.len() == MAX_WORDS {
            self.places.clear();
            self.tokens.clear();
        }
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        self.places.insert(word.into(), (start as u32, self.tokens.len() as u32));
        Some(&self.tokens[start..])
    }
}

/// The printable letter of every byte, as GPT-2 chose them: printable Latin-1 is itself, the others follow from U+0100.
static ALPHABET: LazyLock<[char; 256]> = LazyLock::new(|| {
    let mut next = 0x100_u32;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        match byte {
            b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
            }
        }
    })
});
