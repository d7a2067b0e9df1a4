//! Finding training rows that share word n-grams with an evaluation set.
//!
//! Brown et al. 2020 (GPT-3), section 4 and appendix C: texts overlap if they share a run of `n` words, case and
//! punctuation aside; their `n` is 13 and goes down to 8 for sets of short texts. <https://arxiv.org/abs/2005.14165>

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Words of an n-gram in the GPT-3 paper.
pub const GPT3_NGRAM: usize = 13;
/// Words of an n-gram in the GPT-3 paper where the evaluation texts are short.
pub const GPT3_SHORT_NGRAM: usize = 8;

/// The n-grams of an evaluation set.
///
/// Words are runs of letters and digits (Unicode), in lower case; everything else only parts them. An n-gram is kept as a
/// hash of 64 bits with the number of the first evaluation row that has it, and nothing else of the texts: at most 40
/// bytes for each different n-gram. Two different n-grams have one hash with probability 2^-64, so a million evaluation
/// n-grams against a billion training words give a false match with probability below 1e-4.
#[derive(Debug, Clone)]
pub struct NgramIndex {
    n: usize,
    rows: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    num_rows: usize,
    num_short: usize,
}

/// A run of words that a training row shares with an evaluation row: the first one in the training row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contamination {
    /// Index of the training row.
    pub row: usize,
    /// Index of the first evaluation row that has the n-gram.
    pub evaluation_row: usize,
    /// The words, in lower case, with a space between.
    pub ngram: String,
}

impl NgramIndex {
    /// Takes up the n-grams of `evaluation`, one text a row.
    ///
    /// [`Error::Setting`] for `n` 0, or more than 2^32 rows.
    pub fn new<T: AsRef<str>>(n: usize, evaluation: impl IntoIterator<Item = T>) -> Result<Self> {
        if n == 0 {
            return Err(Error::Setting { name: "n", value: "0".into(), rule: "an n-gram has 1 word or more" });
        }
        let mut index = NgramIndex { n, rows: HashMap::default(), num_rows: 0, num_short: 0 };
        for text in evaluation {
            let row = u32::try_from(index.num_rows).map_err(|_| Error::Setting {
                name: "evaluation rows",
                value: format!("more than {}", u32::MAX),
                rule: "must be below 2^32; split the set",
            })?;
            let words = words(text.as_ref());
            index.num_rows += 1;
            index.num_short += usize::from(words.len() < n);
            for ngram in words.windows(n) {
                index.rows.entry(hash(ngram)).or_insert(row);
            }
        }
        Ok(index)
    }

    /// Different n-grams.
    pub fn num_ngrams(&self) -> usize {
        self.rows.len()
    }

    /// Evaluation rows with fewer than `n` words: nothing can match them. If there are many, `n` is too large.
    pub fn num_short(&self) -> usize {
        self.num_short
    }

    /// Evaluation rows.
    pub fn num_rows(&self) -> usize {
        self.num_rows
    }

    /// The first n-gram of `text` that the evaluation set has, and that set's row.
    pub fn find(&self, text: &str) -> Option<(usize, String)> {
        let words = words(text);
        let (at, row) =
            words.windows(self.n).enumerate().find_map(|(at, ngram)| Some((at, *self.rows.get(&hash(ngram))?)))?;
        let ngram: Vec<&str> = words[at..at + self.n].iter().map(|word| word.text.as_str()).collect();
        Some((row as usize, ngram.join(" ")))
    }

    /// Training rows that share an n-gram with the evaluation set, in their order; searched in parallel.
    pub fn contaminated<T: AsRef<str> + Sync>(&self, training: &[T]) -> Vec<Contamination> {
        let find = |(row, text): (usize, &T)| {
            let (evaluation_row, ngram) = self.find(text.as_ref())?;
            Some(Contamination { row, evaluation_row, ngram })
        };
        training.par_iter().enumerate().filter_map(find).collect()
    }
}

struct Word {
    text: String,
    hash: u64,
}

fn words(text: &str) -> Vec<Word> {
    let runs = text.split(|character: char| !character.is_alphanumeric()).filter(|run| !run.is_empty());
    runs.map(|run| {
        let text = run.to_lowercase();
        // FNV-1a, whose structure `mix` removes.
        let hash = text
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Word { text, hash: mix(hash) }
    })
    .collect()
}

fn hash(ngram: &[Word]) -> u64 {
    // The order of the words counts: each is mixed in after those before it.
    ngram.iter().fold(0, |hash, word| mix(hash ^ word.hash))
}

/// The finaliser of SplitMix64 (Steele et al. 2014), a bijection, with its increment so that 0 does not stay 0.
fn mix(hash: u64) -> u64 {
    let hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Passes on what is a hash already.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.0 = mix(self.0 ^ u64::from(byte)));
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_punctuation_do_not_hide_a_match() {
        let index = NgramIndex::new(4, ["What is the sum of 2 and 3?", "Größe, bitte: ja nein", "too short"]).unwrap();
        assert_eq!((index.num_rows(), index.num_ngrams(), index.num_short()), (3, 6, 1));
        let training = [
            "nothing of the sort",
            "So: WHAT IS -- THE sum?",
            "is the\n\n'sum' (of)",
            "sum the is what",
            "GRÖSSE bitte ja nein",
            "GRÖßE bitte ja nein",
            "",
        ];
        let found = index.contaminated(&training);
        let expected = [(1, 0, "what is the sum"), (2, 0, "is the sum of"), (5, 1, "größe bitte ja nein")];
        let expected =
            expected.map(|(row, evaluation_row, ngram)| Contamination { row, evaluation_row, ngram: ngram.into() });
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_row_that_has_an_ngram_is_named() {
        let index = NgramIndex::new(2, ["a b", "x a b c", "b c"]).unwrap();
        assert_eq!(index.find("z b c"), Some((1, "b c".into())));
        assert_eq!(index.find("a b"), Some((0, "a b".into())));
        assert_eq!(index.find("b a"), None);
        assert!(NgramIndex::new(0, ["a"]).is_err());
    }
}
