//! Words that were merged before.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::LazyLock;

use tokenizers::Token;

/// Most words that are kept; beyond that all are forgotten, so memory stays below about 10 MB a thread.
const MAX_WORDS: usize = 1 << 16;
/// Longer words are merged every time, in bytes.
const MAX_BYTES: usize = 64;

/// An id, and how many bytes of the word it covers.
pub(super) type WordToken = (u32, u32);

/// Where the tokens of a word are in [`Words::tokens`].
type Place = (u32, u32);

/// The tokens of words.
#[derive(Default)]
pub(super) struct Words {
    /// Of words up to 15 bytes, which are nearly all: the key is the word itself, so a look-up reads one place.
    short: HashMap<u128, Place, FoldedSeed>,
    long: HashMap<Box<str>, Place>,
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
        let key = short_key(word);
        let place = key.map_or_else(|| self.long.get(word), |key| self.short.get(&key));
        if let Some(&(start, end)) = place {
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
        if self.short.len() + self.long.len() == MAX_WORDS {
            self.short.clear();
            self.long.clear();
            self.tokens.clear();
        }
        let start = self.tokens.len();
        self.tokens.extend(tokens);
        let place = (start as u32, self.tokens.len() as u32);
        match key {
            Some(key) => self.short.insert(key, place),
            None => self.long.insert(word.into(), place),
        };
        Some(&self.tokens[start..])
    }
}

/// The bytes of a word and, in the last place, their number; none for longer words.
fn short_key(word: &str) -> Option<u128> {
    let mut bytes = [0; 16];
    bytes.get_mut(..word.len()).filter(|_| word.len() < 16)?.copy_from_slice(word.as_bytes());
    bytes[15] = word.len() as u8;
    Some(u128::from_le_bytes(bytes))
}

/// Makes [`Folded`] hashers; each map has a seed of its own, so that no text can be made to collide.
struct FoldedSeed(u64);

impl Default for FoldedSeed {
    fn default() -> Self {
        FoldedSeed(RandomState::new().hash_one(0))
    }
}

impl BuildHasher for FoldedSeed {
    type Hasher = Folded;

    fn build_hasher(&self) -> Folded {
        Folded(self.0)
    }
}

/// Both halves of the product of both halves of a key.
struct Folded(u64);

impl Folded {
    fn fold(&mut self, low: u64, high: u64) {
        let product = u128::from(low ^ self.0) * u128::from(high ^ self.0.rotate_left(32) ^ 0x9e37_79b9_7f4a_7c15);
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

impl Hasher for Folded {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.fold(u64::from(byte), 1));
    }

    fn write_u128(&mut self, key: u128) {
        self.fold(key as u64, (key >> 64) as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_different_words_differ() {
        let words = ["", "\0", "\0\0", "a", "a\0", "abcdefghijklmno", "abcdefghijklmn"];
        let keys: std::collections::HashSet<u128> = words.iter().map(|word| short_key(word).unwrap()).collect();
        assert_eq!(keys.len(), words.len());
        assert_eq!(short_key("abcdefghijklmnop"), None);
    }
}
