//! The same ids and offsets as the `tokenizers` crate, several times faster, for the byte-level vocabularies of SmolLM2,
//! GPT-2, Llama 3 and Qwen.
//!
//! That crate splits text into words by a backtracking regular expression and keeps an alignment of every character.
//! Here the known expressions are written out as code (`split`), and each word is merged once and then looked up
//! (`words`); merging stays that crate's. A vocabulary of another kind, or one that gives other ids for the probes below,
//! is left to that crate altogether, and so is a text that its normaliser changes.

mod added;
mod split;
mod words;

use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value as Json, json};
use tokenizers::{Model, ModelWrapper, NormalizedString, Normalizer, Tokenizer as Inner};

use added::AddedTokens;
use split::{Piece, Rule};
use words::Words;

/// Texts on which both ways must agree before the fast one is used.
const PROBES: [&str; 6] = [
    "The  don't we'LL '\u{17f} I'd\tx\n\n  y \r\n",
    " 123 4567a8.9½ x²",
    "(a) {b: [1, \"c\"]}\n    return -1;\n",
    "naïve e\u{301} 東京で会う 👩\u{200d}💻 \u{a0}\u{3000}x",
    "  \n \t ",
    "a…\u{2028}b ~ Ⅷ ١٢ _",
];

/// An encoder for one vocabulary; threads may share it.
pub(crate) struct ByteLevel {
    rule: Rule,
    added: AddedTokens,
    has_normalizer: bool,
    /// One for each thread that is encoding, and those of threads that have encoded.
    words: Mutex<Vec<Words>>,
}

impl ByteLevel {
    /// None if the vocabulary is of another kind.
    pub(crate) fn new(inner: &Inner) -> Option<Self> {
        let as_json = |part: Option<Json>| part.unwrap_or(Json::Null);
        let normalizer = as_json(inner.get_normalizer().map(serde_json::to_value).transpose().ok()?);
        let pre_tokenizer = as_json(inner.get_pre_tokenizer().map(serde_json::to_value).transpose().ok()?);
        let has_normalizer = match normalizer {
            Json::Null => false,
            // Anything but NFC might change plain ASCII.
            normalizer if normalizer == json!({"type": "NFC"}) => true,
            _ => return None,
        };
        let ModelWrapper::BPE(model) = inner.get_model() else { return None };
        let plain = model.dropout.is_none_or(|dropout| dropout == 0.0)
            && model.unk_token.is_none()
            && model.continuing_subword_prefix.as_ref().is_none_or(String::is_empty)
            && model.end_of_word_suffix.as_ref().is_none_or(String::is_empty)
            && !model.byte_fallback;
        if !plain {
            return None;
        }
        let added = AddedTokens::new(inner.get_added_vocabulary())?;
        let words = Mutex::new(Vec::new());
        let encoder = ByteLevel { rule: Rule::of(&pre_tokenizer)?, added, has_normalizer, words };
        PROBES.iter().all(|probe| encoder.agrees(inner, probe)).then_some(encoder)
    }

    /// Calls `each` with every token's id and bytes, in order; false if the text is not for this encoder, after any number
    /// of calls.
    pub(crate) fn encode(&self, inner: &Inner, text: &str, mut each: impl FnMut(u32, Range<usize>)) -> bool {
        let lock = || self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let mut words = lock().pop().unwrap_or_default();
        let done = self.added.split(text, |segment, added| match added {
            Some(id) => {
                each(id, segment);
                true
            }
            None => self.encode_segment(inner, text, segment, &mut words, &mut each),
        });
        lock().push(words);
        done
    }

    /// A part of the text without added tokens.
    fn encode_segment(
        &self,
        inner: &Inner,
        text: &str,
        segment: Range<usize>,
        words: &mut Words,
        each: &mut impl FnMut(u32, Range<usize>),
    ) -> bool {
        if self.has_normalizer && is_changed(inner, &text[segment.clone()]) {
            return false;
        }
        let mut pieces = self.rule.split(text, segment);
        pieces.all(|Piece { start, end, ascii }| {
            let Some(tokens) = words.tokens(&text[start..end], |mapped| inner.get_model().tokenize(mapped).ok()) else {
                return false;
            };
            let mut at = start;
            for &(id, num_bytes) in tokens {
                let next = at + num_bytes as usize;
                each(id, if ascii { at..next } else { whole_characters(text, at..next) });
                at = next;
            }
            true
        })
    }

    fn agrees(&self, inner: &Inner, probe: &str) -> bool {
        let mut found = Vec::new();
        let done = self.encode(inner, probe, |id, bytes| found.push((id, (bytes.start, bytes.end))));
        let expected = inner.encode(probe, false);
        // A probe that the normaliser changes says nothing; the others remain.
        expected.is_ok_and(|expected| {
            !done || expected.get_ids().iter().copied().zip(expected.get_offsets().iter().copied()).eq(found)
        })
    }
}

/// Tokens that share a character have all of it.
fn whole_characters(text: &str, bytes: Range<usize>) -> Range<usize> {
    let (mut start, mut end) = (bytes.start, bytes.end);
    while !text.is_char_boundary(start) {
        start -= 1;
    }
    while !text.is_char_boundary(end) {
        end += 1;
    }
    start..end
}

/// Whether normalisation changes the text.
fn is_changed(inner: &Inner, text: &str) -> bool {
    let Some(normalizer) = inner.get_normalizer().filter(|_| !text.is_ascii()) else { return false };
    let mut normalized = NormalizedString::from(text);
    normalizer.normalize(&mut normalized).is_err() || normalized.get() != text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    use super::*;

    /// One vocabulary for each rule, and some with a normaliser or with added tokens that are no special ones.
    fn vocabularies() -> Vec<(String, Inner, ByteLevel)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let read = |name: &str| std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let mut gpt2: Json = serde_json::from_str(&read("smollm_like")).unwrap();
        gpt2["pre_tokenizer"] = gpt2["pre_tokenizer"]["pretokenizers"][1].clone();
        let mut files: Vec<(String, String)> =
            ["smollm_like", "qwen_small", "llama3_small", "llama3_like"].map(|name| (name.into(), read(name))).into();
        files.push(("gpt2".into(), gpt2.to_string()));
        let vocabulary = |(name, text): (String, String)| {
            let mut inner = Inner::from_bytes(text).unwrap();
            inner.with_truncation(None).unwrap();
            inner.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
            let encoder = ByteLevel::new(&inner).unwrap_or_else(|| panic!("{name} has no fast encoder"));
            (name, inner, encoder)
        };
        files.into_iter().map(vocabulary).collect()
    }

    fn text() -> impl Strategy<Value = String> {
        let fragments = prop::sample::select(vec![
            " ",
            "  ",
            "\n",
            "\r\n",
            "\t",
            "\n\n ",
            " \n",
            "'s",
            "'S",
            "'\u{17f}",
            "'ll",
            "'lL",
            "'re x",
            "' ",
            "don't",
            "a",
            "Word",
            " word",
            "é",
            "e\u{301}",
            "ß",
            "東京",
            " 京",
            "🎴",
            "👩\u{200d}💻",
            "½",
            "²",
            "Ⅷ",
            "١",
            "7",
            "42",
            "1234567",
            "...",
            "(x",
            "-1",
            " =",
            "_",
            "\u{a0}",
            "\u{3000}",
            "\u{2028}",
            "\u{85}",
            "\u{300}",
            "<|im_start|>",
            "<|im_end|>",
            "<|endoftext|>",
            "<|eot_id|>",
            "<tool_call>",
            "<|im",
            "|>",
            "</",
            "\u{10ffff}",
            "\0",
        ]);
        let part = prop_oneof![8 => fragments.prop_map(str::to_string), 1 => ".{0,4}", 1 => "[a-zA-Z0-9 '\n]{0,9}"];
        prop::collection::vec(part, 0..24).prop_map(|parts| parts.concat())
    }

    #[test]
    fn ids_and_offsets_are_those_of_the_tokenizers_crate() {
        let vocabularies = vocabularies();
        let mut taken = vec![0; vocabularies.len()];
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let num_texts = if std::env::var_os("REINS_SLOW").is_some_and(|value| value == "1") { 10_000 } else { 400 };
        for _ in 0..num_texts {
            let text = text().new_tree(&mut runner).unwrap().current();
            for (index, (name, inner, encoder)) in vocabularies.iter().enumerate() {
                let mut found = Vec::new();
                if !encoder.encode(inner, &text, |id, bytes| found.push((id, (bytes.start, bytes.end)))) {
                    // Only what the normaliser changes may be refused.
                    assert!(inner.get_normalizer().is_some() && !text.is_ascii(), "{name} refuses {text:?}");
                    continue;
                }
                taken[index] += 1;
                let expected = inner.encode(text.as_str(), false).unwrap();
                let expected: Vec<_> =
                    expected.get_ids().iter().copied().zip(expected.get_offsets().iter().copied()).collect();
                assert_eq!(found, expected, "{name}: {text:?}");
            }
        }
        assert!(taken.iter().all(|&count| num_texts / 3 < count), "{taken:?}");
    }

    #[test]
    fn words_are_forgotten_before_they_fill_the_memory() {
        let (_, inner, encoder) = vocabularies().swap_remove(0);
        let text: String = (0..140_000).map(|word| format!(" {}", letters(word))).collect();
        let mut ids = Vec::new();
        assert!(encoder.encode(&inner, &text, |id, _| ids.push(id)));
        assert_eq!(ids, inner.encode_fast(text.as_str(), false).unwrap().get_ids());
    }

    /// Another word for every number.
    fn letters(mut number: u32) -> String {
        let mut word = String::new();
        while 0 < number {
            word.push(char::from(b'a' + (number % 26) as u8));
            number /= 26;
        }
        word
    }

    #[test]
    fn other_vocabularies_are_left_alone() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/smollm_like.json");
        let json: Json = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let with = |part: &str, value: Json| {
            let mut json = json.clone();
            *json.pointer_mut(part).unwrap() = value;
            ByteLevel::new(&Inner::from_bytes(json.to_string()).unwrap()).is_some()
        };
        assert!(with("/normalizer", json!({"type": "NFC"})));
        assert!(!with("/normalizer", json!({"type": "Lowercase"})));
        assert!(!with("/pre_tokenizer", json!({"type": "Whitespace"})));
        assert!(!with("/pre_tokenizer/pretokenizers/0/individual_digits", json!(false)));
        assert!(!with("/pre_tokenizer/pretokenizers/1/add_prefix_space", json!(true)));
        assert!(!with("/added_tokens/0/lstrip", json!(true)));
        assert!(!with("/model/dropout", json!(0.1)));
    }
}
