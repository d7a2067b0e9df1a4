//! Text of control tokens inside messages, kept apart from those that the chat template writes.
//!
//! It follows `sanitize_control_tokens` of `transformers`: such text is put between two marks before the template sees
//! it, and what stands between marks in the rendered text is encoded without added tokens.

use std::ops::Range;

use crate::error::{Error, Result};
use crate::record::{Message, Role};
use crate::tokenizer::Tokenizer;

/// First of the private characters that may serve as marks.
const FIRST_MARK: u32 = 0xF_0000;

/// How text of special tokens inside a message is encoded. Variables of a template are trusted either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ContentTokens {
    /// It becomes the token, as in `transformers`. A message may then end its own turn or speak as another role.
    #[default]
    Recognised,
    /// It stays text, as with `sanitize_control_tokens` of `transformers`: only the template writes control tokens.
    ///
    /// Control tokens are the special tokens, and in messages of others than the assistant also whatever added tokens
    /// stand in the template, such as `<tool_response>`. In answers those are the model's own: `<think>` of an answer
    /// stays the token that the model writes, where `transformers` would make text of it.
    Text,
}

/// Tokens with the bytes of the text that each covers.
pub(crate) type Spans = Vec<(u32, Range<usize>)>;

/// Messages in which every control token stands between marks.
pub(crate) struct Marked {
    pub(crate) messages: Vec<Message>,
    /// With whether they are special, longest first.
    tokens: Vec<(String, bool)>,
    open: char,
    close: char,
}

impl Marked {
    /// Marks the control tokens in `messages`; `None` if there are none.
    pub(crate) fn new(messages: &[Message], template: &str, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let mut tokens: Vec<(String, bool)> = tokenizer
            .added_tokens()
            .filter(|(content, special)| *special || (template.contains(content) && !content.trim().is_empty()))
            .map(|(content, special)| (content.to_string(), special))
            .collect();
        tokens.sort_by_key(|(token, _)| std::cmp::Reverse(token.len()));
        if !messages.iter().any(|message| tokens.iter().any(|(token, _)| message.content.contains(token.as_str()))) {
            return Ok(None);
        }
        let unused = |mark: &char| !messages.iter().any(|message| message.content.contains(*mark));
        let mut marks = (FIRST_MARK..).map_while(char::from_u32).filter(unused);
        let (Some(open), Some(close)) = (marks.next(), marks.next()) else {
            return Err(Error::Template { message: "the messages use every private character".into() });
        };
        let mut marked = Marked { messages: Vec::new(), tokens, open, close };
        marked.messages = messages.iter().map(|message| Message::new(message.role, marked.mark(message))).collect();
        Ok(Some(marked))
    }

    /// The rendered text without marks, and its tokens.
    pub(crate) fn encode(&self, rendered: &str, tokenizer: &Tokenizer) -> Result<(String, Spans)> {
        let newline: Vec<u32> = tokenizer.encode("\n")?;
        let (mut text, mut spans) = (String::with_capacity(rendered.len()), Spans::new());
        for (piece, literal) in self.pieces(rendered) {
            let start = text.len();
            let tokens = self.encode_piece(piece, literal, (start > 0).then_some(&newline), tokenizer)?;
            spans.extend(tokens.into_iter().map(|(id, bytes)| (id, bytes.start + start..bytes.end + start)));
            text.push_str(piece);
        }
        Ok((text, spans))
    }

    fn encode_piece(
        &self,
        piece: &str,
        literal: bool,
        newline: Option<&Vec<u32>>,
        tokenizer: &Tokenizer,
    ) -> Result<Spans> {
        let encode = |text: &str| match literal {
            true => tokenizer.encode_literally(text),
            false => tokenizer.encode_with_offsets(text),
        };
        // Some tokenizers put a space before a text; in the middle of a conversation there is none.
        let tokens = match newline.map(|newline| (newline, encode(&format!("\n{piece}")))) {
            Some((newline, after)) => {
                let mut after = after?;
                if after.len() >= newline.len() && after.iter().zip(newline).all(|((id, _), line)| id == line) {
                    after.drain(..newline.len());
                    after.iter_mut().for_each(|(_, bytes)| *bytes = bytes.start - 1..bytes.end - 1);
                    after
                } else {
                    encode(piece)?
                }
            }
            None => encode(piece)?,
        };
        if literal && tokens.iter().any(|(id, _)| Some(*id) == tokenizer.token_to_id(piece)) {
            let message = "its vocabulary spells that token out of plain text".to_string();
            return Err(Error::Tokenizer { action: format!("keep `{piece}` as text"), message });
        }
        Ok(tokens)
    }

    /// The content with its control tokens, leftmost and longest first, between marks.
    fn mark(&self, message: &Message) -> String {
        let is_control = |special: bool| special || message.role != Role::Assistant;
        let mut out = String::with_capacity(message.content.len());
        let mut rest = message.content.as_str();
        while let Some(first) = rest.chars().next() {
            let length = match self.tokens.iter().find(|(token, _)| rest.starts_with(token.as_str())) {
                Some((token, special)) if is_control(*special) => {
                    out.extend([self.open.to_string().as_str(), token, self.close.to_string().as_str()]);
                    token.len()
                }
                _ => {
                    out.push(first);
                    first.len_utf8()
                }
            };
            rest = &rest[length..];
        }
        out
    }

    /// Cuts at the marks. The flag is true for a whole token between its two marks; a mark that the template parted
    /// from the other only cuts.
    fn pieces<'a>(&self, rendered: &'a str) -> Vec<(&'a str, bool)> {
        let mut pieces = Vec::new();
        let mut rest = rendered;
        while let Some(at) = rest.find([self.open, self.close]) {
            let (before, after) = rest.split_at(at);
            pieces.push((before, false));
            let mark = after.chars().next().map_or(0, char::len_utf8);
            let inside = &after[mark..];
            let whole = self.tokens.iter().map(|(token, _)| token).find(|token| {
                after.starts_with(self.open)
                    && inside.strip_prefix(token.as_str()).is_some_and(|end| end.starts_with(self.close))
            });
            rest = match whole {
                Some(token) => {
                    pieces.push((&inside[..token.len()], true));
                    &inside[token.len() + self.close.len_utf8()..]
                }
                None => inside,
            };
        }
        pieces.push((rest, false));
        pieces.retain(|(piece, _)| !piece.is_empty());
        pieces
    }
}
