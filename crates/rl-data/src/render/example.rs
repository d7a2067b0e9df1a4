//! Which tokens of a conversation are trained.
//!
//! Byte offsets into the rendered text decide; nothing is tokenised on its own and laid end to end. An answer's tokens start
//! where the prompt rendered before it ends, and end with its end-of-turn token; or the template's generation blocks say.

use std::ops::Range;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::{Chat, Ending, Renderer, split_once_only};
use crate::chat_template::mark_absent_from;
use crate::control_text::{ContentTokens, Spans};
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::preference_example::Seams;
use crate::record::{ChatRecord, Message, Role, Weight};

/// Which tokens of a conversation carry loss. A message of weight 0 carries none under any of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Every assistant answer with its end-of-turn token, calls of tools included.
    Assistant,
    /// The last assistant answer with its end-of-turn token.
    LastAssistant,
    /// What the template's `{% generation %}` blocks print: the tokens of `return_assistant_tokens_mask` in `transformers`
    /// and of TRL's `assistant_only_loss`.
    GenerationBlocks,
    /// Every token, as in plain language modelling.
    All,
}

/// What becomes of a trained answer whose end-of-turn token is not trained, so that the model would not learn to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndOfTurn {
    /// The row is refused with [`Error::StopNotCovered`].
    #[default]
    Required,
    /// The answer is trained without it.
    Optional,
}

/// A tokenised conversation. The three vectors have equal length `[seq]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Example {
    /// Token ids.
    pub ids: Vec<u32>,
    /// True where the token is to be learned. The first token has no predictor and is never a target, whatever it says.
    pub trainable: Vec<bool>,
    /// Whose content the token is; an assistant's end-of-turn token is the assistant's.
    /// `None` where the template itself speaks, or where it rewrites a message beyond recognition.
    pub roles: Vec<Option<Role>>,
}

impl Example {
    /// Number of tokens that are targets of the loss.
    pub fn num_trainable(&self) -> usize {
        self.trainable.iter().skip(1).filter(|&&flag| flag).count()
    }
}

impl Renderer {
    /// Ids of a whole conversation with what is trained on it.
    ///
    /// For every trained answer at index `i`, the ids before its first trained token are exactly
    /// `prompt_ids(&messages[..i])`; where template or tokenizer do not allow that, the error says why:
    /// [`Error::PromptNotPrefix`], [`Error::Seam`], [`Error::StopNotCovered`], [`Error::StopInsideAnswer`],
    /// [`Error::ToolCallNotPrinted`], [`Error::AnswerFirst`], [`Error::NoAnswer`]. With [`TrainOn::GenerationBlocks`] the blocks alone decide where
    /// training begins; [`Error::NoGenerationBlocks`] if the template has none.
    pub fn example<'a>(&self, conversation: impl Into<Conversation<'a>>, train_on: TrainOn) -> Result<Example> {
        let conversation = conversation.into();
        let variables = self.variables(&conversation)?;
        let chat = Chat { messages: conversation.messages, variables: &variables };
        let last_answer = chat.messages.iter().rposition(|message| message.role == Role::Assistant);
        if last_answer.is_none() && train_on != TrainOn::All {
            return Err(Error::NoAnswer);
        }
        match train_on {
            TrainOn::Assistant => self.masked(chat, |_| true, Seams::Error),
            TrainOn::LastAssistant => self.masked(chat, |index| last_answer == Some(index), Seams::Error),
            TrainOn::GenerationBlocks => self.masked_by_blocks(chat),
            TrainOn::All => self.masked_by_weights(chat),
        }
    }

    /// [`Renderer::example`] for many conversations in parallel, in their order, each with its own result.
    pub fn examples(&self, records: &[ChatRecord], train_on: TrainOn) -> Vec<Result<Example>> {
        records.par_iter().map(|record| self.example(record, train_on)).collect()
    }

    /// Ids of a prompt, as [`Renderer::prompt_ids`] gives them, with whose content each token is; nothing is trainable.
    pub fn prompt_layout<'a>(&self, conversation: impl Into<Conversation<'a>>) -> Result<Example> {
        let conversation = conversation.into();
        let variables = self.variables(&conversation)?;
        let chat = Chat { messages: conversation.messages, variables: &variables };
        let (text, tokens) = self.encode(chat, Ending::Prompt)?;
        let mut example = untrained(&tokens);
        let whole = self.template.render_with(chat.messages, false, chat.variables)?;
        if text.starts_with(&whole) {
            self.fill_roles(chat, &whole, &tokens, &mut example)?;
        }
        Ok(example)
    }

    /// Ids of a whole conversation; trainable are the assistant's messages whose index `trained` accepts.
    pub(crate) fn masked(&self, chat: Chat, trained: impl Fn(usize) -> bool, seams: Seams) -> Result<Example> {
        check_weights(chat.messages)?;
        let (text, tokens) = self.whole(chat)?;
        let trained = |index: usize| {
            let message = &chat.messages[index];
            message.role == Role::Assistant && message.weight != Some(Weight::Zero) && trained(index)
        };
        let mut example = untrained(&tokens);
        for (index, message) in chat.messages.iter().enumerate() {
            let Some(span) = self.message_span(chat, index, &text, trained(index))? else { continue };
            let covered = tokens.partition_point(|(_, bytes)| match seams {
                Seams::Response if trained(index) => bytes.end <= span.start,
                _ => bytes.start < span.start,
            })..tokens.partition_point(|(_, bytes)| bytes.start < span.end);
            example.roles[covered.clone()].fill(Some(message.role));
            if trained(index) {
                self.check_seams(chat, index, &text, &tokens, &span, covered.start, seams)?;
                example.trainable[covered].fill(true);
            }
        }
        Ok(example)
    }

    /// Trainable is what the template's generation blocks print, but for messages of weight 0.
    fn masked_by_blocks(&self, chat: Chat) -> Result<Example> {
        if !self.template.has_generation_blocks() {
            return Err(Error::NoGenerationBlocks);
        }
        check_weights(chat.messages)?;
        let (text, tokens) = self.whole(chat)?;
        let mut example = untrained(&tokens);
        self.fill_roles(chat, &text, &tokens, &mut example)?;
        let mut endings = Vec::new();
        for (index, message) in chat.messages.iter().enumerate() {
            if message.role == Role::Assistant {
                endings.push((index, self.answer_ending(chat, index, &text)?));
            }
        }
        let untrained = |index: usize| chat.messages[index].weight == Some(Weight::Zero);
        for block in self.template.generation_spans(chat.messages, chat.variables, &text)? {
            let owner = endings.iter().find(|(_, ending)| block.start < ending.end).or(endings.last());
            let Some(&(message, _)) = owner else { continue };
            let straddles = |at: usize| tokens.iter().any(|(_, bytes)| bytes.start < at && at < bytes.end);
            if straddles(block.start) || straddles(block.end) {
                return Err(Error::Seam { message });
            }
            if !untrained(message) {
                example.trainable[overlapping(&tokens, &block)].fill(true);
            }
        }
        for (message, ending) in endings {
            let stop = tokens.partition_point(|(_, bytes)| bytes.end < ending.end);
            let covered = example.trainable.get(stop).is_some_and(|&flag| flag);
            if self.end_of_turn == EndOfTurn::Required && !covered && !untrained(message) {
                return Err(Error::StopNotCovered { message, stop: self.stop.clone() });
            }
        }
        Ok(example)
    }

    /// Trainable is everything but messages of weight 0.
    fn masked_by_weights(&self, chat: Chat) -> Result<Example> {
        let (text, tokens) = self.whole(chat)?;
        let mut example = untrained(&tokens);
        self.fill_roles(chat, &text, &tokens, &mut example)?;
        example.trainable.fill(true);
        for (index, message) in chat.messages.iter().enumerate() {
            if message.weight == Some(Weight::Zero) {
                let span = self.message_span(chat, index, &text, false)?;
                let span = span.ok_or(Error::WeightNotPlaced { message: index })?;
                example.trainable[overlapping(&tokens, &span)].fill(false);
            }
        }
        Ok(example)
    }

    /// Text and tokens of the whole conversation.
    fn whole(&self, chat: Chat) -> Result<(String, Spans)> {
        let (text, tokens) = self.encode(chat, Ending::Whole)?;
        if self.content_tokens == ContentTokens::Text
            && text != self.template.render_with(chat.messages, false, chat.variables)?
        {
            return Err(Error::ControlTextRead);
        }
        Ok((text, tokens))
    }

    fn fill_roles(&self, chat: Chat, text: &str, tokens: &Spans, example: &mut Example) -> Result<()> {
        for (index, message) in chat.messages.iter().enumerate() {
            if let Some(span) = self.message_span(chat, index, text, false)? {
                example.roles[overlapping(tokens, &span)].fill(Some(message.role));
            }
        }
        Ok(())
    }

    /// Bytes of a message; of an answer with its end of turn. `None` for one that is not trained and cannot be found.
    fn message_span(&self, chat: Chat, index: usize, text: &str, trained: bool) -> Result<Option<Range<usize>>> {
        if chat.messages[index].role == Role::Assistant {
            match self.answer_span(chat, index, text) {
                Ok(span) => return Ok(Some(span)),
                Err(error) if trained => return Err(error),
                Err(_) => {}
            }
        }
        self.content_span(chat, index, text)
    }

    /// Bytes of the answer at `index`: from the end of its prompt through its end-of-turn token.
    fn answer_span(&self, chat: Chat, index: usize, text: &str) -> Result<Range<usize>> {
        let prompt = match self.template.render_with(&chat.messages[..index], true, chat.variables) {
            Err(Error::Template { message }) if index == 0 => return Err(Error::AnswerFirst { reason: message }),
            other => other?,
        };
        if !text.starts_with(&prompt) {
            return Err(Error::PromptNotPrefix { message: index });
        }
        let ending = self.answer_ending(chat, index, text)?;
        if ending.start < prompt.len() {
            return Err(Error::StopNotCovered { message: index, stop: self.stop.clone() });
        }
        let recognised = self.content_tokens == ContentTokens::Recognised;
        if recognised && text[prompt.len()..ending.start].contains(&self.stop) {
            return Err(Error::StopInsideAnswer { message: index, stop: self.stop.clone() });
        }
        Ok(prompt.len()..ending.end)
    }

    /// Bytes from the end of an answer's own text through its end-of-turn token; empty where there may be none.
    ///
    /// What follows an answer does not depend on it, so a mark in its place shows where it ends, even if the template
    /// trims it.
    fn answer_ending(&self, chat: Chat, index: usize, text: &str) -> Result<Range<usize>> {
        let missing = || Error::StopNotCovered { message: index, stop: self.stop.clone() };
        let calls = !chat.messages[index].tool_calls.is_empty();
        let (marked, mark) = self.render_marked(chat, index)?;
        let (_, after) = split_once_only(&marked, &mark).ok_or_else(missing)?;
        let own = if calls {
            self.stop_after(after)?
        } else {
            after.starts_with(&self.ending).then_some(0..self.ending.len())
        };
        let own = match own {
            Some(own) => own,
            None if self.end_of_turn == EndOfTurn::Optional && !calls => 0..0,
            None => return Err(missing()),
        };
        let end = text.strip_suffix(&after[own.end..]).ok_or_else(missing)?.len();
        let start = end.checked_sub(own.len()).ok_or_else(missing)?;
        Ok(start..end)
    }

    /// Bytes of the end-of-turn token in what follows a call's last argument, if it is the first special token there.
    fn stop_after(&self, after: &str) -> Result<Option<Range<usize>>> {
        let first =
            self.tokenizer.encode_with_offsets(after)?.into_iter().find(|(id, _)| self.tokenizer.is_special(*id));
        Ok(first.and_then(|(id, bytes)| self.stop_ids.contains(&id).then_some(bytes)))
    }

    /// Bytes of the content of any message, if the template prints it once and nothing else depends on it.
    fn content_span(&self, chat: Chat, index: usize, text: &str) -> Result<Option<Range<usize>>> {
        let (marked, mark) = self.render_marked(chat, index)?;
        let span = split_once_only(&marked, &mark).and_then(|(before, after)| {
            let end = text.strip_suffix(after)?.len();
            (text.starts_with(before) && before.len() <= end).then_some(before.len()..end)
        });
        Ok(span)
    }

    /// The conversation with a mark for the content of a message, or for the arguments of its last call.
    fn render_marked(&self, chat: Chat, index: usize) -> Result<(String, String)> {
        let mark = mark_absent_from(chat.messages, chat.variables, self.template.source());
        let mut marked = chat.messages.to_vec();
        match marked[index].tool_calls.last_mut() {
            Some(call) => {
                call.function.arguments = Map::from_iter([(mark.clone(), Json::String(String::new()))]);
            }
            None => marked[index].content.clone_from(&mark),
        }
        Ok((self.template.render_with(&marked, false, chat.variables)?, mark))
    }

    /// No token may straddle either end of a trained span, and the `before` tokens ahead of it must be those of the
    /// prompt alone.
    fn check_seams(
        &self,
        chat: Chat,
        message: usize,
        text: &str,
        tokens: &[(u32, Range<usize>)],
        span: &Range<usize>,
        before: usize,
        seams: Seams,
    ) -> Result<()> {
        let straddles = |at: usize| tokens.iter().any(|(_, bytes)| bytes.start < at && at < bytes.end);
        if straddles(span.end) {
            return Err(Error::Seam { message });
        }
        if seams == Seams::Response {
            return Ok(());
        }
        if straddles(span.start) {
            return Err(Error::Seam { message });
        }
        let ids_before = tokens[..before].iter().map(|(id, _)| id);
        if self.content_tokens == ContentTokens::Text {
            // Text of special tokens cannot be told from them in `text`, so the prompt is encoded from its messages.
            let prompt = self.chat_ids(Chat { messages: &chat.messages[..message], ..chat }, Ending::Prompt)?;
            return if prompt.iter().eq(ids_before) { Ok(()) } else { Err(Error::Seam { message }) };
        }
        // Whole tokens are not enough: a rule that looks ahead can split the prompt's last white space otherwise when
        // an answer follows. It cannot look past a special token, so the check starts at the last one.
        let barrier = tokens[..before].iter().rposition(|(id, _)| self.tokenizer.is_barrier(*id)).unwrap_or(0);
        let from = tokens.get(barrier).map_or(0, |(_, bytes)| bytes.start);
        let alone = self.tokenizer.encode(&text[from..span.start])?;
        if !alone.iter().eq(ids_before.skip(barrier)) {
            return Err(Error::Seam { message });
        }
        Ok(())
    }
}

/// Ids without anything to learn.
fn untrained(tokens: &Spans) -> Example {
    Example {
        ids: tokens.iter().map(|(id, _)| *id).collect(),
        trainable: vec![false; tokens.len()],
        roles: vec![None; tokens.len()],
    }
}

/// Tokens that share a byte with `span`.
fn overlapping(tokens: &Spans, span: &Range<usize>) -> Range<usize> {
    let first = tokens.partition_point(|(_, bytes)| bytes.end <= span.start);
    first..tokens.partition_point(|(_, bytes)| bytes.start < span.end).max(first)
}

/// A weight of 1 asks for training that answers alone can have.
pub(super) fn check_weights(messages: &[Message]) -> Result<()> {
    let asks = |message: &Message| message.role != Role::Assistant && message.weight == Some(Weight::One);
    match messages.iter().position(asks) {
        Some(message) => Err(Error::WeightOfOther { message, role: messages[message].role }),
        None => Ok(()),
    }
}
