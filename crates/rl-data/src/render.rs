//! The one road from messages to token ids: supervised training, rollouts, training on rollouts and evaluation all
//! take it, so they see the same ids.
//!
//! A conversation is rendered and tokenised once, as a whole. Which tokens are trained follows from byte offsets into
//! the rendered text; an answer's tokens start where the prompt rendered before it ends, and end with its
//! end-of-turn token.

use std::ops::Range;
use std::path::Path;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};

use crate::chat_template::{ChatTemplate, mark_absent_from, read_json};
use crate::control_text::{ContentTokens, Marked, Spans};
use crate::error::{Error, Result};
use crate::jsonl::write_atomic;
use crate::preference_example::Seams;
use crate::record::{ChatRecord, Message, Role};
use crate::tokenizer::Tokenizer;

/// Which tokens of a conversation carry loss.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainOn {
    /// Every assistant answer with its end-of-turn token.
    Assistant,
    /// The last assistant answer with its end-of-turn token.
    LastAssistant,
    /// Every token, as in plain language modelling.
    All,
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

/// A tokenizer with the chat template that belongs to it.
#[derive(Debug, Clone)]
pub struct Renderer {
    tokenizer: Tokenizer,
    template: ChatTemplate,
    /// The end-of-turn token first.
    stop_ids: Vec<u32>,
    /// Text of the end-of-turn token.
    stop: String,
    /// What the template puts between an answer and its end-of-turn token, then that token.
    ending: String,
    content_tokens: ContentTokens,
    /// `tokenizer_config.json`, as read or as to be written.
    config: Map<String, Json>,
}

/// How a conversation ends in its text.
#[derive(Clone, Copy)]
enum Ending {
    /// Where the assistant is to begin.
    Prompt,
    /// After the last message's end of turn.
    Whole,
    /// Inside the last message.
    Prefill,
}

impl Renderer {
    /// Joins the two and finds the end-of-turn token: the first special token after an answer.
    ///
    /// [`Error::NoStopToken`] if none follows, because then a sampler could not know where an answer ends;
    /// [`Error::SpecialToken`] if the template's `eos_token` is not in the vocabulary.
    pub fn new(tokenizer: Tokenizer, template: ChatTemplate) -> Result<Self> {
        let mark = mark_absent_from(&[], template.source());
        let probe = template.render(&[Message::user("x"), Message::assistant(mark.as_str())], false)?;
        let tail = probe.split_once(&mark).map_or("", |(_, tail)| tail);
        let tokens = tokenizer.encode_with_offsets(tail)?;
        let Some((stop_id, range)) = tokens.into_iter().find(|(id, _)| tokenizer.is_special(*id)) else {
            return Err(Error::NoStopToken { found: tail.to_string() });
        };
        let (stop, ending) = (tail[range.clone()].to_string(), tail[..range.end].to_string());
        let config = default_config(&template);
        let content_tokens = ContentTokens::default();
        let mut renderer =
            Renderer { tokenizer, template, stop_ids: vec![stop_id], stop, ending, content_tokens, config };
        if let Some(token) = renderer.template.eos_token() {
            let problem = || Error::SpecialToken { token: token.to_string(), problem: "not in the vocabulary" };
            let id = renderer.tokenizer.token_to_id(token).ok_or_else(problem)?;
            renderer.add_stop_ids([id])?;
        }
        Ok(renderer)
    }

    /// Reads tokenizer, template and, if there is one, the stop ids of `generation_config.json` from a checkpoint folder.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let mut renderer = Renderer::new(Tokenizer::from_folder(folder)?, ChatTemplate::from_folder(folder)?)?;
        if let Some(generation) = read_json(folder, "generation_config.json")? {
            renderer.add_stop_ids(eos_ids(&generation)?)?;
        }
        let config = read_json(folder, "tokenizer_config.json")?.unwrap_or_else(|| renderer.config.clone());
        Ok(Renderer { config, ..renderer })
    }

    /// The same tokenizer with another template, or with the same one under other variables or another date.
    ///
    /// Stop ids are kept and those of the new template added. Variables and date are not saved with the checkpoint.
    ///
    /// ```no_run
    /// # fn main() -> rl_data::Result<()> {
    /// let renderer = rl_data::Renderer::from_folder("checkpoint")?;
    /// let template = renderer.template().clone().with_variable("enable_thinking", false.into());
    /// let renderer = renderer.with_template(template)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn with_template(self, template: ChatTemplate) -> Result<Self> {
        let mut renderer = Renderer::new(self.tokenizer, template)?;
        renderer.add_stop_ids(self.stop_ids)?;
        renderer.content_tokens = self.content_tokens;
        renderer.config = self.config;
        if let Some(source) = renderer.config.get_mut("chat_template") {
            *source = json!(renderer.template.source());
        }
        Ok(renderer)
    }

    /// The same renderer with another way to encode special tokens that stand in messages.
    ///
    /// With [`ContentTokens::Text`] no message can forge a turn, which is safer for training on text of others. Ids of
    /// messages without such text do not change.
    pub fn with_content_tokens(mut self, content_tokens: ContentTokens) -> Self {
        self.content_tokens = content_tokens;
        self
    }

    /// Adds ids that end an answer, such as a model configuration's; those known already are not repeated.
    fn add_stop_ids(&mut self, ids: impl IntoIterator<Item = u32>) -> Result<()> {
        for id in ids {
            self.tokenizer.known_token(id)?;
            if !self.stop_ids.contains(&id) {
                self.stop_ids.push(id);
            }
        }
        Ok(())
    }

    /// Writes `tokenizer.json`, `chat_template.jinja` and `tokenizer_config.json` into an existing folder.
    ///
    /// The configuration of a folder that was read is written back as it was.
    pub fn save(&self, folder: impl AsRef<Path>) -> Result<()> {
        use std::io::Write;
        let folder = folder.as_ref();
        self.tokenizer.save(folder.join("tokenizer.json"))?;
        let path = folder.join("tokenizer_config.json");
        let config =
            serde_json::to_string_pretty(&self.config).map_err(|source| Error::Json { path: path.clone(), source })?;
        for (path, text) in [(path, config.as_str()), (folder.join("chat_template.jinja"), self.template.source())] {
            write_atomic(&path, |out| {
                out.write_all(text.as_bytes()).map_err(|source| Error::file("write", &path, source))
            })?;
        }
        Ok(())
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template.
    pub fn template(&self) -> &ChatTemplate {
        &self.template
    }

    /// Ids at which a sampler ends an answer, each once: the template's end-of-turn token first, then the tokenizer's
    /// `eos_token`, then `eos_token_id` of `generation_config.json`, a number or a list (Llama 3 names several).
    pub fn stop_ids(&self) -> Vec<u32> {
        self.stop_ids.clone()
    }

    /// Text of the end-of-turn token.
    pub fn stop_text(&self) -> &str {
        &self.stop
    }

    /// Ids of the conversation up to where the assistant is to answer.
    pub fn prompt_ids(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.ids(messages, Ending::Prompt)
    }

    /// Ids of a conversation whose last message is unfinished, up to where the model is to continue it.
    ///
    /// As `continue_final_message` in `transformers`; see [`ChatTemplate::render_prefill`].
    pub fn prefill_ids(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.ids(messages, Ending::Prefill)
    }

    /// Ids of a whole conversation.
    pub fn conversation_ids(&self, messages: &[Message]) -> Result<Vec<u32>> {
        self.ids(messages, Ending::Whole)
    }

    /// Ids of a whole conversation with what is trained on it.
    ///
    /// For every trained answer at index `i`, the ids before its first trained token are exactly
    /// `prompt_ids(&messages[..i])`; where template or tokenizer do not allow that, the error says why:
    /// [`Error::PromptNotPrefix`], [`Error::Seam`], [`Error::StopNotCovered`], [`Error::StopInsideAnswer`],
    /// [`Error::NoAnswer`].
    pub fn example(&self, messages: &[Message], train_on: TrainOn) -> Result<Example> {
        let last_answer = messages.iter().rposition(|message| message.role == Role::Assistant);
        if last_answer.is_none() && train_on != TrainOn::All {
            return Err(Error::NoAnswer);
        }
        let trained = |index| match train_on {
            TrainOn::Assistant => true,
            TrainOn::LastAssistant => last_answer == Some(index),
            TrainOn::All => false,
        };
        let mut example = self.masked(messages, trained, Seams::Error)?;
        if train_on == TrainOn::All {
            example.trainable.fill(true);
        }
        Ok(example)
    }

    /// Ids of a whole conversation; trainable are the assistant's messages whose index `trained` accepts.
    pub(crate) fn masked(
        &self,
        messages: &[Message],
        trained: impl Fn(usize) -> bool,
        seams: Seams,
    ) -> Result<Example> {
        let (text, tokens) = self.encode(messages, Ending::Whole)?;
        if self.content_tokens == ContentTokens::Text && text != self.template.render(messages, false)? {
            return Err(Error::ControlTextRead);
        }
        let ids: Vec<u32> = tokens.iter().map(|(id, _)| *id).collect();
        let mut trainable = vec![false; ids.len()];
        let mut roles = vec![None; ids.len()];
        for (index, message) in messages.iter().enumerate() {
            let is_answer = message.role == Role::Assistant;
            let trained = is_answer && trained(index);
            let span = match is_answer.then(|| self.answer_span(messages, index, &text)) {
                Some(Ok(span)) => Some(span),
                Some(Err(error)) if trained => return Err(error),
                _ => self.content_span(messages, index, &text)?,
            };
            let Some(span) = span else { continue };
            let covered = tokens.partition_point(|(_, bytes)| match seams {
                Seams::Response if trained => bytes.end <= span.start,
                _ => bytes.start < span.start,
            })..tokens.partition_point(|(_, bytes)| bytes.start < span.end);
            roles[covered.clone()].fill(Some(message.role));
            if trained {
                self.check_seams(messages, index, &text, &tokens, &span, covered.start, seams)?;
                trainable[covered].fill(true);
            }
        }
        Ok(Example { ids, trainable, roles })
    }

    /// [`Renderer::example`] for many conversations in parallel, in their order, each with its own result.
    pub fn examples(&self, records: &[ChatRecord], train_on: TrainOn) -> Vec<Result<Example>> {
        records.par_iter().map(|record| self.example(&record.messages, train_on)).collect()
    }

    /// Ids between a sampled answer and the next one of the same episode.
    ///
    /// `messages` end with the answer just sampled; `next` is what the environment says to it. The result is the rest
    /// of the assistant's turn (its end-of-turn token only if the sampler did not emit it: `ended_with_stop` false),
    /// the turn of `next`, and the prompt for the next answer. So `prompt_ids ++ response_ids ++ feedback_ids` is the
    /// next prompt with the sampled tokens untouched; the answer's text has no influence on the result.
    pub fn feedback_ids(&self, messages: &[Message], next: &Message, ended_with_stop: bool) -> Result<Vec<u32>> {
        let index = match messages.last() {
            Some(message) if message.role == Role::Assistant => messages.len() - 1,
            last => {
                let found = last.map_or("nothing".to_string(), |message| format!("a {} message", message.role));
                return Err(Error::NotAnAnswer { found });
            }
        };
        let mut conversation = messages.to_vec();
        conversation.push(next.clone());
        let mark = mark_absent_from(&conversation, self.template.source());
        conversation[index].content.clone_from(&mark);
        // The text is tokenised as a whole and then cut, so that the ids are those the context gives.
        let (text, tokens) = self.encode(&conversation, Ending::Prompt)?;
        let missing = || Error::StopNotCovered { message: index, stop: self.stop.clone() };
        let (before, after) = split_once_only(&text, &mark).ok_or_else(missing)?;
        if !after.starts_with(&self.ending) {
            return Err(missing());
        }
        let answered = before.len() + mark.len();
        let cut = if ended_with_stop { answered + self.ending.len() } else { answered };
        if tokens.iter().any(|(_, bytes)| bytes.start < cut && cut < bytes.end) {
            return Err(Error::Seam { message: index });
        }
        Ok(tokens.into_iter().filter(|(_, bytes)| bytes.start >= cut).map(|(id, _)| id).collect())
    }

    fn ids(&self, messages: &[Message], ending: Ending) -> Result<Vec<u32>> {
        Ok(self.encode(messages, ending)?.1.into_iter().map(|(id, _)| id).collect())
    }

    /// The rendered text and its tokens with the bytes they cover.
    fn encode(&self, messages: &[Message], ending: Ending) -> Result<(String, Spans)> {
        let render = |messages: &[Message]| match ending {
            Ending::Prompt => self.template.render(messages, true),
            Ending::Whole => self.template.render(messages, false),
            Ending::Prefill => self.template.render_prefill(messages),
        };
        let marked = match self.content_tokens {
            ContentTokens::Recognised => None,
            ContentTokens::Text => Marked::new(messages, self.template.source(), &self.tokenizer)?,
        };
        if let Some(marked) = marked {
            return marked.encode(&render(&marked.messages)?, &self.tokenizer);
        }
        let text = render(messages)?;
        let tokens = self.tokenizer.encode_with_offsets(&text)?;
        Ok((text, tokens))
    }

    /// Bytes of the answer at `index`: from the end of its prompt through its end-of-turn token.
    fn answer_span(&self, messages: &[Message], index: usize, text: &str) -> Result<Range<usize>> {
        let prompt = self.template.render(&messages[..index], true)?;
        if !text.starts_with(&prompt) {
            return Err(Error::PromptNotPrefix { message: index });
        }
        let missing = || Error::StopNotCovered { message: index, stop: self.stop.clone() };
        // What follows the answer does not depend on it, so a mark in its place shows where it ends, even if the
        // template trims it.
        let (marked, mark) = self.render_marked(messages, index)?;
        let (_, after) = split_once_only(&marked, &mark).ok_or_else(missing)?;
        let end = text.strip_suffix(after).ok_or_else(missing)?.len();
        if end < prompt.len() || !after.starts_with(&self.ending) {
            return Err(missing());
        }
        let recognised = self.content_tokens == ContentTokens::Recognised;
        if recognised && text[prompt.len()..end].contains(&self.stop) {
            return Err(Error::StopInsideAnswer { message: index, stop: self.stop.clone() });
        }
        Ok(prompt.len()..end + self.ending.len())
    }

    /// Bytes of the content of any message, if the template prints it once and nothing else depends on it.
    fn content_span(&self, messages: &[Message], index: usize, text: &str) -> Result<Option<Range<usize>>> {
        let (marked, mark) = self.render_marked(messages, index)?;
        let span = split_once_only(&marked, &mark).and_then(|(before, after)| {
            let end = text.strip_suffix(after)?.len();
            (text.starts_with(before) && before.len() <= end).then_some(before.len()..end)
        });
        Ok(span)
    }

    fn render_marked(&self, messages: &[Message], index: usize) -> Result<(String, String)> {
        let mark = mark_absent_from(messages, self.template.source());
        let mut marked = messages.to_vec();
        marked[index].content.clone_from(&mark);
        Ok((self.template.render(&marked, false)?, mark))
    }

    /// No token may straddle either end of a trained span, and the `before` tokens ahead of it must be those of the
    /// prompt alone.
    fn check_seams(
        &self,
        messages: &[Message],
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
            let prompt = self.ids(&messages[..message], Ending::Prompt)?;
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

/// Splits at `mark` if it occurs exactly once.
fn split_once_only<'a>(text: &'a str, mark: &str) -> Option<(&'a str, &'a str)> {
    text.split_once(mark).filter(|(_, after)| !after.contains(mark))
}

/// `eos_token_id` of a generation configuration: absent, null, a number or a list.
fn eos_ids(generation: &Map<String, Json>) -> Result<Vec<u32>> {
    let found = generation.get("eos_token_id").unwrap_or(&Json::Null);
    let listed = match found {
        Json::Null => &[][..],
        Json::Array(ids) => ids,
        one => std::slice::from_ref(one),
    };
    let ids: Option<_> = listed.iter().map(|id| id.as_u64().and_then(|id| u32::try_from(id).ok())).collect();
    let rule = "must be a token id or a list of token ids";
    ids.ok_or_else(|| Error::Setting { name: "eos_token_id", value: found.to_string(), rule })
}

fn default_config(template: &ChatTemplate) -> Map<String, Json> {
    let mut config = Map::new();
    config.insert("tokenizer_class".into(), json!("PreTrainedTokenizerFast"));
    config.insert("clean_up_tokenization_spaces".into(), json!(false));
    for (name, token) in [("bos_token", template.bos_token()), ("eos_token", template.eos_token())] {
        if let Some(token) = token {
            config.insert(name.into(), json!(token));
        }
    }
    config
}
