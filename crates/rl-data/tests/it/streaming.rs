//! Streamed text is the decoded text, over every kind of decoder that published checkpoints use.

use std::sync::LazyLock;

use proptest::prelude::*;
use rl_data::*;
use serde_json::{Map, Value as Json, json};

use crate::fixtures::tokenizer;

/// A tokenizer whose vocabulary is `tokens` in order, then a special `<s>` and an added token with an odd character.
fn tokenizer_of(tokens: &[String], decoder: Json) -> Tokenizer {
    let vocab: Map<String, Json> = tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect();
    let added = |offset: usize, content: &str, special: bool| {
        json!({"id": tokens.len() + offset, "content": content, "special": special, "single_word": false,
            "lstrip": false, "rstrip": false, "normalized": false})
    };
    let file = json!({
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": tokens[0]},
        "decoder": decoder,
        "added_tokens": [added(0, "<s>", true), added(1, "東 <x>", false)],
    });
    Tokenizer::from_bytes(file.to_string()).unwrap()
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

/// Llama 2's layout: `<0x00>` to `<0xFF>` and pieces with `▁` for a space.
fn byte_fallback() -> Tokenizer {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = bytes.chain(words(&["▁", "▁a", "b", "東", "é▁", "<0xZZ>", "\u{fffd}"])).collect();
    let replace = json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "});
    let strip = json!({"type": "Strip", "content": " ", "start": 1, "stop": 0});
    let steps = [replace, json!({"type": "ByteFallback"}), json!({"type": "Fuse"}), strip];
    tokenizer_of(&tokens, json!({"type": "Sequence", "decoders": steps}))
}

static TOKENIZERS: LazyLock<Vec<(&str, Tokenizer)>> = LazyLock::new(|| {
    let pieces = words(&["▁", "▁a", "b", "東", "é▁b", ".", "##c", "'s", "d</w>"]);
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": false, "use_regex": false});
    let all_bytes = words(&["Ġa", "b", "é", "æ", "Ŀ", "±", "ðŁ", "İ", "´", "ÿ", "è³", "\u{fffd}", "東"]);
    let sequence = json!({"type": "Sequence", "decoders": [byte_level, {"type": "Fuse"}]});
    vec![
        ("byte level", tokenizer("smollm_like")),
        ("byte level, few tokens", tokenizer_of(&all_bytes, byte_level)),
        ("byte level in a sequence", tokenizer_of(&all_bytes, sequence)),
        ("byte fallback", byte_fallback()),
        (
            "metaspace",
            tokenizer_of(&pieces, json!({"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"})),
        ),
        ("word piece", tokenizer_of(&pieces, json!({"type": "WordPiece", "prefix": "##", "cleanup": true}))),
        ("bpe suffix", tokenizer_of(&pieces, json!({"type": "BPEDecoder", "suffix": "</w>"}))),
        ("no decoder", tokenizer_of(&pieces, Json::Null)),
    ]
});

fn stream_all(stream: &mut TextStream, ids: &[u32]) -> String {
    let mut text: String = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    text += &stream.finish().unwrap();
    text
}

#[test]
fn a_stream_waits_for_whole_characters() {
    let tokenizer = tokenizer("smollm_like");
    // The four bytes of U+1F0A1 were never seen together, so at least two tokens share it.
    let ids = tokenizer.encode("a🂡b").unwrap();
    assert!(ids.len() > 3);
    let mut stream = tokenizer.stream(false);
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces.iter().filter(|piece| !piece.is_empty()).collect::<Vec<_>>(), ["a", "🂡", "b"]);
    assert_eq!(stream.finish().unwrap(), "");
    ids[..2].iter().for_each(|&id| drop(stream.push(id).unwrap()));
    assert_eq!(stream.finish().unwrap(), "\u{fffd}");
    assert_eq!(stream_all(&mut stream, &ids), "a🂡b");
}

#[test]
fn every_token_gives_its_text_at_once_unless_a_character_is_open() {
    let tokenizer = &TOKENIZERS[1].1;
    let mut stream = tokenizer.stream(true);
    // "Ġa", "æ" "Ŀ" "±" (E6 9D B1, one character), "ÿ" (never valid), "æ" cut off by "b", <s> left out, "東".
    let pieces: Vec<String> = [0, 3, 4, 5, 9, 3, 1, 13, 12].iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces, [" a", "", "", "東", "\u{fffd}", "", "\u{fffd}b", "", "東"]);
}

#[test]
fn byte_tokens_wait_for_the_end_of_their_run() {
    let tokenizer = byte_fallback();
    let mut stream = tokenizer.stream(true);
    // "▁a" at the start loses its space; E6 9D B1 then "b"; E6 9D then "▁a"; <s> is left out in the middle of a run.
    let ids = [257, 0xE6, 0x9D, 0xB1, 258, 0xE6, 0x9D, 257, 0xC3, 263, 0xA9, 258];
    let pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
    assert_eq!(pieces, ["a", "", "", "", "東b", "", "", "\u{fffd}\u{fffd} a", "", "", "", "éb"]);
}

#[test]
fn an_unknown_id_leaves_the_stream_as_it_was() {
    let tokenizer = tokenizer("smollm_like");
    let ids = tokenizer.encode("🂡").unwrap();
    let mut stream = tokenizer.stream(false);
    let mut text = String::new();
    for &id in &ids {
        text += &stream.push(id).unwrap();
        assert!(matches!(stream.push(999).unwrap_err(), Error::UnknownId { id: 999, .. }));
    }
    assert_eq!(text, "🂡");
}

#[test]
fn a_decoder_that_rewrites_earlier_text_is_reported() {
    let tokens = words(&["a", "b"]);
    let replace = json!({"type": "Replace", "pattern": {"String": "ab"}, "content": "c"});
    let tokenizer = tokenizer_of(&tokens, json!({"type": "Sequence", "decoders": [{"type": "Fuse"}, replace]}));
    let mut stream = tokenizer.stream(false);
    assert_eq!((stream.push(0).unwrap(), stream.push(1).unwrap()), ("a".into(), String::new()));
    assert!(matches!(stream.finish().unwrap_err(), Error::Tokenizer { .. }));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Any ids, also those whose bytes are not UTF-8: the pieces are the whole.
    #[test]
    fn streamed_pieces_join_to_the_decoded_text(seeds in prop::collection::vec(any::<u32>(), 0..40), skip: bool) {
        for (name, tokenizer) in TOKENIZERS.iter() {
            let ids: Vec<u32> = seeds.iter().map(|seed| seed % tokenizer.vocab_size() as u32).collect();
            let streamed = stream_all(&mut tokenizer.stream(skip), &ids);
            prop_assert_eq!(streamed, tokenizer.decode(&ids, skip).unwrap(), "{}: {:?}", name, ids);
        }
    }

    /// Valid text: every piece but those of an open character stands alone, and none holds U+FFFD.
    #[test]
    fn text_streams_without_broken_characters(text in "[ a-e東é🂡🎴ß\n.]{0,30}") {
        let tokenizer = &TOKENIZERS[0].1;
        let mut stream = tokenizer.stream(false);
        let mut shown = String::new();
        for id in tokenizer.encode(&text).unwrap() {
            shown += &stream.push(id).unwrap();
            prop_assert!(text.starts_with(&shown));
        }
        prop_assert_eq!(shown, text);
    }
}
