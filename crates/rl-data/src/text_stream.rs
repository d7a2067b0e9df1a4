//! Text of a sequence that grows token by token: for streaming and for stop strings.
//!
//! Not here: finding a stop string in the text; that needs only the text given out so far.

use tokenizers::DecoderWrapper;

use crate::error::{Error, Result};
use crate::tokenizer::Tokenizer;

/// Tokens at most that are kept as left context for a decoder that looks at its neighbours.
const MAX_CONTEXT: usize = 16;

/// Decodes a growing sequence; made by [`Tokenizer::stream`].
///
/// [`TextStream::push`] takes one id and gives the text that is now certain: it may be empty and it never holds half a
/// character. All pieces joined, with that of [`TextStream::finish`], equal [`Tokenizer::decode`] of all ids, also
/// where the bytes are not UTF-8. Text given out is never taken back, so a stop string may be searched in the text so
/// far, from `stop.len() - 1` bytes before the newest piece on.
///
/// The cost of a token does not depend on how many came before it. With a byte-level decoder (GPT-2, Llama 3, Qwen,
/// SmolLM2) at most three bytes wait. With byte-fallback tokens (`<0x0A>`; Llama 2) a run of them waits for the token
/// that ends it, because there one wrong byte turns the whole run into U+FFFD.
///
/// A stream owns what it needs (the vocabulary is shared), so it may be stored beside a sequence and sent to another
/// thread.
///
/// ```
/// # use rl_data::*;
/// # fn main() -> Result<()> {
/// let tokenizer = train_tokenizer(&["a b"], 256, &[])?;
/// let mut stream = tokenizer.stream(true);
/// let mut text = String::new();
/// for id in tokenizer.encode("né")? {
///     text += &stream.push(id)?; // "n", "", "é"
/// }
/// text += &stream.finish()?;
/// assert_eq!(text, "né");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TextStream {
    tokenizer: Tokenizer,
    skip_special: bool,
    state: State,
}

#[derive(Debug, Clone)]
enum State {
    /// A byte-level decoder is a map from tokens to bytes: no token is decoded twice. Holds an unfinished character.
    Bytes(Vec<u8>),
    /// Any other decoder: the newest tokens are decoded again behind the few before them.
    Window(Window),
}

#[derive(Debug, Clone, Default)]
struct Window {
    /// Last ids given out: some decoders treat the first token of a text differently.
    shown: Vec<u32>,
    /// Ids since then.
    held: Vec<u32>,
    /// Whether the decoder joins tokens such as `<0x0A>`.
    byte_fallback: bool,
    /// Whether half a character may end in U+FFFD.
    byte_level: bool,
}

impl TextStream {
    pub(crate) fn new(tokenizer: Tokenizer, skip_special: bool) -> Self {
        let decoders = tokenizer.inner().get_decoder().map_or(Vec::new(), flatten);
        let byte_level = |decoder: &&DecoderWrapper| matches!(decoder, DecoderWrapper::ByteLevel(_));
        let state = match decoders.as_slice() {
            [only] if byte_level(only) => State::Bytes(Vec::new()),
            all => State::Window(Window {
                byte_fallback: all.iter().any(|decoder| matches!(decoder, DecoderWrapper::ByteFallback(_))),
                byte_level: all.iter().any(byte_level),
                ..Window::default()
            }),
        };
        TextStream { tokenizer, skip_special, state }
    }

    /// The text that `id` completes; empty while a character is incomplete, and for a special token that is left out.
    ///
    /// [`Error::UnknownId`] for an id outside the vocabulary; the stream is then as before the call.
    pub fn push(&mut self, id: u32) -> Result<String> {
        let token = self.tokenizer.known_token(id)?;
        if self.skip_special && self.tokenizer.is_special(id) {
            return Ok(String::new());
        }
        match &mut self.state {
            State::Bytes(bytes) => {
                push_bytes(bytes, &token);
                Ok(take_text(bytes))
            }
            State::Window(window) => window.push(&self.tokenizer, id, &token),
        }
    }

    /// What is still held back, incomplete bytes as U+FFFD. The stream is new afterwards.
    ///
    /// [`Error::Tokenizer`] if the decoder rewrites text that was given out before, as no decoder of a published chat
    /// model does.
    pub fn finish(&mut self) -> Result<String> {
        match &mut self.state {
            State::Bytes(bytes) => Ok(String::from_utf8_lossy(&std::mem::take(bytes)).into_owned()),
            State::Window(window) => window.finish(&self.tokenizer),
        }
    }
}

impl Window {
    fn push(&mut self, tokenizer: &Tokenizer, id: u32, token: &str) -> Result<String> {
        self.held.push(id);
        if self.byte_fallback && is_byte_token(token) {
            return Ok(String::new());
        }
        match self.held_text(tokenizer)? {
            Some(text) if !(self.byte_level && text.ends_with(char::REPLACEMENT_CHARACTER)) => {
                self.keep_context(tokenizer)?;
                Ok(text)
            }
            _ => Ok(String::new()),
        }
    }

    fn finish(&mut self, tokenizer: &Tokenizer) -> Result<String> {
        let text = self.held_text(tokenizer)?;
        self.shown.clear();
        self.held.clear();
        text.ok_or_else(|| Error::tokenizer("stream", "its decoder rewrites the text of earlier tokens"))
    }

    /// Text of the held ids behind those shown; `None` if it changes the text of those shown.
    fn held_text(&self, tokenizer: &Tokenizer) -> Result<Option<String>> {
        if self.held.is_empty() {
            return Ok(Some(String::new()));
        }
        let before = tokenizer.decode(&self.shown, false)?;
        let text = tokenizer.decode(&[self.shown.as_slice(), &self.held].concat(), false)?;
        Ok(text.strip_prefix(&before).map(str::to_string))
    }

    /// Keeps the fewest last ids that have a text, since an empty start would be mistaken for the start of all text.
    fn keep_context(&mut self, tokenizer: &Tokenizer) -> Result<()> {
        self.shown.append(&mut self.held);
        for length in 1..=self.shown.len().min(MAX_CONTEXT) {
            let tail = self.shown.len() - length;
            if !tokenizer.decode(&self.shown[tail..], false)?.is_empty() || length == MAX_CONTEXT {
                self.shown.drain(..tail);
                return Ok(());
            }
        }
        Ok(())
    }
}

fn flatten(decoder: &DecoderWrapper) -> Vec<&DecoderWrapper> {
    match decoder {
        DecoderWrapper::Sequence(sequence) => sequence.get_decoders().iter().flat_map(flatten).collect(),
        single => vec![single],
    }
}

/// `<0x0A>`: two hexadecimal digits.
fn is_byte_token(token: &str) -> bool {
    token
        .strip_prefix("<0x")
        .and_then(|rest| rest.strip_suffix('>'))
        .is_some_and(|digits| digits.len() == 2 && u8::from_str_radix(digits, 16).is_ok())
}

/// Appends the bytes of a byte-level token; one with a character outside that alphabet stands for its own text.
fn push_bytes(bytes: &mut Vec<u8>, token: &str) {
    let before = bytes.len();
    for character in token.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => {
                bytes.truncate(before);
                bytes.extend_from_slice(token.as_bytes());
                return;
            }
        }
    }
}

/// The byte that a character of GPT-2's printable alphabet stands for.
///
/// Printable Latin-1 characters stand for themselves; the other bytes are, in order, the characters from U+0100 on.
fn byte_of(character: char) -> Option<u8> {
    match u32::from(character) {
        code @ (0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF) => u8::try_from(code).ok(),
        code @ 0x100..=0x120 => u8::try_from(code - 0x100).ok(),
        code @ 0x121..=0x142 => u8::try_from(code - 0x121 + 0x7F).ok(),
        0x143 => Some(0xAD),
        _ => None,
    }
}

/// Takes all text off the front, broken bytes as U+FFFD, and leaves a character that may still be completed.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest = bytes.as_slice();
    let kept = loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                break 0;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                match error.error_len() {
                    Some(broken) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &after[broken..];
                    }
                    None => break after.len(),
                }
            }
        }
    };
    bytes.drain(..bytes.len() - kept);
    text
}

#[cfg(test)]
mod tests {
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    use super::*;

    #[test]
    fn the_printable_alphabet_is_a_bijection_onto_the_bytes() {
        let mut bytes: Vec<u8> = ByteLevel::alphabet().into_iter().map(|char| byte_of(char).unwrap()).collect();
        bytes.sort_unstable();
        assert!(bytes.iter().copied().eq(0..=255));
        // GPT-2's own table: a space is U+0120, a line feed U+010A.
        assert_eq!(
            (byte_of('Ġ'), byte_of('Ċ'), byte_of('a'), byte_of('\u{144}')),
            (Some(32), Some(10), Some(97), None)
        );
    }

    #[test]
    fn nothing_kept_grows_with_the_length() {
        let json = r#"{"model":{"type":"WordLevel","vocab":{"":0,"x":1,"<0xFF>":2},"unk_token":"x"},
            "decoder":{"type":"Sequence","decoders":[{"type":"ByteFallback"},{"type":"Fuse"}]},
            "added_tokens":[{"id":3,"content":"<s>","special":true,"single_word":false,"lstrip":false,"rstrip":false,
            "normalized":false}]}"#;
        let tokenizer = Tokenizer::from_bytes(json).unwrap();
        for (ids, limit) in [(vec![1], 1), (vec![3], 0), (vec![0], MAX_CONTEXT), (vec![2, 1], 1)] {
            let mut stream = tokenizer.stream(true);
            for _ in 0..1000 {
                ids.iter().for_each(|&id| drop(stream.push(id).unwrap()));
                let State::Window(window) = &stream.state else { panic!("not a byte-level decoder") };
                assert!(window.shown.len() <= limit && window.held.is_empty(), "{ids:?}");
            }
        }
    }
}
