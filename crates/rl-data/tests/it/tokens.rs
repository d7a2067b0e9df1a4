//! Vocabulary training and id checks.

use std::sync::LazyLock;

use proptest::prelude::*;
use rl_data::*;

use crate::fixtures::{golden, tokenizer};

#[test]
fn training_is_deterministic_and_isolates_digits() {
    let corpus = golden().corpus;
    let train = || train_tokenizer(&corpus, 330, &["<|im_start|>", "<|im_end|>", "<|pad|>"]).unwrap();
    assert_eq!(train().to_json().unwrap(), train().to_json().unwrap());
    let tokenizer = train();
    assert_eq!(tokenizer.vocab_size(), 330);
    assert_eq!(tokenizer.token_to_id("<|pad|>"), Some(2));
    assert_eq!(tokenizer.encode("<|im_end|>").unwrap(), [1]);
    assert!(tokenizer.is_special(1) && !tokenizer.is_special(3));
    let ids = tokenizer.encode("2024").unwrap();
    let digits: Vec<String> = ids.iter().map(|&id| tokenizer.decode(&[id], false).unwrap()).collect();
    assert_eq!(digits, ["2", "0", "2", "4"]);
}

#[test]
fn special_tokens_in_the_corpus_are_not_learned_as_text() {
    let corpus = vec!["<|im_start|>hello<|im_end|>".to_string(); 50];
    let tokenizer = train_tokenizer(&corpus, 400, &["<|im_start|>", "<|im_end|>"]).unwrap();
    // 256 bytes, 2 special tokens, and the 4 merges of h-e-l-l-o: the corpus holds nothing else.
    assert_eq!(tokenizer.vocab_size(), 262);
    assert_eq!(tokenizer.encode("<|im_start|>hello").unwrap().len(), 2);
}

#[test]
fn impossible_vocabularies_are_refused() {
    let error = train_tokenizer(&["x"], 257, &["<a>", "<b>"]).unwrap_err();
    assert!(matches!(error, Error::VocabularyTooSmall { vocab_size: 257, minimum: 258, special: 2 }), "{error}");
    for special in [["<a>", "<a>"], ["<a>", ""]] {
        assert!(matches!(train_tokenizer(&["x"], 300, &special).unwrap_err(), Error::SpecialToken { .. }));
    }
}

#[test]
fn unknown_ids_are_named() {
    let tokenizer = tokenizer("smollm_like");
    let error = tokenizer.decode(&[3, 340], false).unwrap_err();
    assert!(matches!(error, Error::UnknownId { id: 340, vocab_size: 340 }), "{error}");
    assert!(matches!(tokenizer.stream(false).push(999).unwrap_err(), Error::UnknownId { id: 999, .. }));
    assert!(Tokenizer::from_bytes("{}").is_err());
    assert!(matches!(Tokenizer::from_folder("/no/such").unwrap_err(), Error::File { .. }));
}

/// Read once: the properties below ask hundreds of times.
static TOKENIZER: LazyLock<Tokenizer> = LazyLock::new(|| tokenizer("smollm_like"));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn text_survives_encoding(text in "\\PC{0,40}") {
        prop_assert_eq!(TOKENIZER.decode(&TOKENIZER.encode(&text).unwrap(), false).unwrap(), text);
    }
}
