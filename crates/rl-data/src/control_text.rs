//! Text of control tokens inside messages, kept apart from those that the chat template writes.
//!
//! It follows `sanitize_control_tokens` of `transformers`: such text is put between two marks before the template sees
//! it, and what stands between marks in the rendered text is encoded without added tokens.

use std::ops::Range;

use serde_json::{Map, Value as Json};

use crate::error::{Error, Result};
use crate::record::{Message, Role};
use crate::tokenizer::Tokenizer;

/// First of the private characters that may serve as marks.
const FIRST_MARK: u32 = 0xF_0000;

/// How text of special tokens inside a message, or inside the columns of its row, is encoded. Variables that were given to
/// the template itself are trusted either way.
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

/// Messages and variables in which every control token stands between marks.
pub(crate) struct Marked {
    pub(crate) messages: Vec<Message>,
    pub(crate) variables: Map<String, Json>,
    /// With whether they are special, longest first.
    tokens: Vec<(String, bool)>,
    open: char,
    close: char,
}

impl Marked {
    /// Marks the control tokens in `messages` and `variables`; `None` if there are none.
    pub(crate) fn new(
        messages: &[Message],
        variables: &Map<String, Json>,
        template: &str,
        tokenizer: &Tokenizer,
    ) -> Result<Option<Self>> {
        let mut tokens: Vec<(String, bool)> = tokenizer
            .added_tokens()
            .filter(|(content, special)| *special || (template.contains(content) && !content.trim().is_empty()))
            .map(|(content, special)| (content.to_string(), special))
            .collect();
        tokens.sort_by_key(|(token, _)| std::cmp::Reverse(token.len()));
        let any = |test: &dyn Fn(&str) -> bool| {
            messages.iter().any(|message| in_message(message, test)) || in_object(variables, test)
        };
        if !any(&|text| tokens.iter().any(|(token, _)| text.contains(token.as_str()))) {
            return Ok(None);
        }
        let mut marks = (FIRST_MARK..).map_while(char::from_u32).filter(|mark| !any(&|text| text.contains(*mark)));
        let (Some(open), Some(close)) = (marks.next(), marks.next()) else {
            return Err(Error::Template { message: "the messages use every private character".into() });
        };
        let mut marked = Marked { messages: Vec::new(), variables: Map::new(), tokens, open, close };
        marked.messages = messages.iter().map(|message| marked.mark_message(message)).collect();
        marked.variables = marked.mark_object(variables, false);
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

    fn mark_message(&self, message: &Message) -> Message {
        let answer = message.role == Role::Assistant;
        let mut marked = message.clone();
        marked.content = self.mark(&message.content, answer);
        marked.reasoning_content = message.reasoning_content.as_deref().map(|text| self.mark(text, answer));
        for call in &mut marked.tool_calls {
            call.function.name = self.mark(&call.function.name, answer);
            call.function.arguments = self.mark_object(&call.function.arguments, answer);
        }
        marked
    }

    fn mark_object(&self, object: &Map<String, Json>, answer: bool) -> Map<String, Json> {
        object.iter().map(|(key, value)| (self.mark(key, answer), self.mark_json(value, answer))).collect()
    }

    fn mark_json(&self, value: &Json, answer: bool) -> Json {
        match value {
            Json::String(text) => Json::String(self.mark(text, answer)),
            Json::Array(items) => items.iter().map(|item| self.mark_json(item, answer)).collect(),
            Json::Object(object) => Json::Object(self.mark_object(object, answer)),
            Json::Null | Json::Bool(_) | Json::Number(_) => value.clone(),
        }
    }

    /// The text with its control tokens, leftmost and longest first, between marks. In an answer those are the special
    /// tokens.
    fn mark(&self, text: &str, answer: bool) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let length = match self.tokens.iter().find(|(token, _)| rest.starts_with(token.as_str())) {
                Some((token, special)) if *special || !answer => {
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

/// Whether any text of the message passes.
pub(crate) fn in_message(message: &Message, test: &dyn Fn(&str) -> bool) -> bool {
    test(&message.content)
        || message.reasoning_content.as_deref().is_some_and(test)
        || message.tool_calls.iter().any(|call| test(&call.function.name) || in_object(&call.function.arguments, test))
}

/// Whether any text of the object, keys included, passes.
pub(crate) fn in_object(object: &Map<String, Json>, test: &dyn Fn(&str) -> bool) -> bool {
    object.iter().any(|(key, value)| test(key) || in_json(value, test))
}

fn in_json(value: &Json, test: &dyn Fn(&str) -> bool) -> bool {
    match value {
        Json::String(text) => test(text),
        Json::Array(items) => items.iter().any(|item| in_json(item, test)),
        Json::Object(object) => in_object(object, test),
        Json::Null | Json::Bool(_) | Json::Number(_) => false,
    }
}
