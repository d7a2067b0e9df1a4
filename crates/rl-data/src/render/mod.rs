//! The one road from messages to token ids: supervised training, rollouts, training on rollouts and evaluation all
//! take it, so they see the same ids.
//!
//! A conversation is rendered and tokenised once, as a whole. Not here: which of its tokens are trained (`example`).

mod example;

use std::path::Path;

use serde_json::{Map, Value as Json, json};

pub use example::{EndOfTurn, Example, TrainOn};

use crate::chat_template::{ChatTemplate, mark_absent_from, read_json};
use crate::control_text::{ContentTokens, Marked, Spans};
use crate::conversation::Conversation;
use crate::error::{Error, Result};
use crate::jsonl::write_atomic;
use crate::record::{Message, Role};
use crate::tokenizer::Tokenizer;

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
    end_of_turn: EndOfTurn,
    /// `tokenizer_config.json`, as read or as to be written.
    config: Map<String, Json>,
}

/// A conversation on its way through the template, with the variables that its row sets.
#[derive(Clone, Copy)]
pub(crate) struct Chat<'a> {
    pub(crate) messages: &'a [Message],
    pub(crate) variables: &'a Map<String, Json>,
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
        let mark = mark_absent_from(&[], &Map::new(), template.source());
        let probe = template.render(&[Message::user("x"), Message::assistant(mark.as_str())], false)?;
        let tail = probe.split_once(&mark).map_or("", |(_, tail)| tail);
        let tokens = tokenizer.encode_with_offsets(tail)?;
        let Some((stop_id, range)) = tokens.into_iter().find(|(id, _)| tokenizer.is_special(*id)) else {
            return Err(Error::NoStopToken { found: tail.to_string() });
        };
        let (stop, ending) = (tail[range.clone()].to_string(), tail[..range.end].to_string());
        let config = default_config(&template);
        let (content_tokens, end_of_turn) = (ContentTokens::default(), EndOfTurn::default());
        let stop_ids = vec![stop_id];
        let mut renderer =
            Renderer { tokenizer, template, stop_ids, stop, ending, content_tokens, end_of_turn, config };
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
        renderer.end_of_turn = self.end_of_turn;
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

    /// The same renderer with another rule for answers whose end of turn would not be trained.
    pub fn with_end_of_turn(mut self, end_of_turn: EndOfTurn) -> Self {
        self.end_of_turn = end_of_turn;
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
    pub fn prompt_ids<'a>(&self, conversation: impl Into<Conversation<'a>>) -> Result<Vec<u32>> {
        self.ids(&conversation.into(), Ending::Prompt)
    }

    /// Ids of a conversation whose last message is unfinished, up to where the model is to continue it.
    ///
    /// As `continue_final_message` in `transformers`; see [`ChatTemplate::render_prefill`].
    pub fn prefill_ids<'a>(&self, conversation: impl Into<Conversation<'a>>) -> Result<Vec<u32>> {
        self.ids(&conversation.into(), Ending::Prefill)
    }

    /// Ids of a whole conversation.
    pub fn conversation_ids<'a>(&self, conversation: impl Into<Conversation<'a>>) -> Result<Vec<u32>> {
        self.ids(&conversation.into(), Ending::Whole)
    }

    /// Ids between a sampled answer and the next one of the same episode.
    ///
    /// `messages` end with the answer just sampled; `next` is what the environment says to it. The result is the rest
    /// of the assistant's turn (its end-of-turn token only if the sampler did not emit it: `ended_with_stop` false),
    /// the turn of `next`, and the prompt for the next answer. So `prompt_ids ++ response_ids ++ feedback_ids` is the
    /// next prompt with the sampled tokens untouched; the answer's text has no influence on the result.
    pub fn feedback_ids<'a>(
        &self,
        conversation: impl Into<Conversation<'a>>,
        next: &Message,
        ended_with_stop: bool,
    ) -> Result<Vec<u32>> {
        let conversation = conversation.into();
        let (messages, variables) = (conversation.messages, conversation.variables()?);
        let index = match messages.last() {
            Some(message) if message.role == Role::Assistant => messages.len() - 1,
            last => {
                let found = last.map_or("nothing".to_string(), |message| format!("a {} message", message.role));
                return Err(Error::NotAnAnswer { found });
            }
        };
        let mut messages = messages.to_vec();
        messages.push(next.clone());
        let mark = mark_absent_from(&messages, &variables, self.template.source());
        // What was sampled is text, whatever calls or thoughts were found in it.
        messages[index] = Message::assistant(mark.as_str());
        // The text is tokenised as a whole and then cut, so that the ids are those the context gives.
        let (text, tokens) = self.encode(Chat { messages: &messages, variables: &variables }, Ending::Prompt)?;
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

    fn ids(&self, conversation: &Conversation, ending: Ending) -> Result<Vec<u32>> {
        let variables = self.variables(conversation)?;
        self.chat_ids(Chat { messages: conversation.messages, variables: &variables }, ending)
    }

    fn chat_ids(&self, chat: Chat, ending: Ending) -> Result<Vec<u32>> {
        Ok(self.encode(chat, ending)?.1.into_iter().map(|(id, _)| id).collect())
    }

    /// The variables of a row. Its tools and calls must change what the template prints, or they would be lost unseen.
    pub(crate) fn variables(&self, conversation: &Conversation) -> Result<Map<String, Json>> {
        let (messages, variables) = (conversation.messages, conversation.variables()?);
        if variables.get("tools").and_then(Json::as_array).is_some_and(|tools| !tools.is_empty()) {
            let mut without = variables.clone();
            without.insert("tools".into(), Json::Null);
            let [with, without] = [&variables, &without].map(|v| self.template.render_with(messages, false, v));
            if with? == without? {
                return Err(Error::ToolsNotPrinted);
            }
        }
        if messages.iter().any(|message| !message.tool_calls.is_empty()) {
            let mark = mark_absent_from(messages, &variables, self.template.source());
            let mut marked = messages.to_vec();
            let mut calls = Vec::new();
            for (index, message) in marked.iter_mut().enumerate() {
                for call in &mut message.tool_calls {
                    call.function.name = format!("{mark}{}.", calls.len());
                    calls.push((index, call.function.name.clone()));
                }
            }
            let text = self.template.render_with(&marked, false, &variables)?;
            if let Some((message, _)) = calls.into_iter().find(|(_, name)| !text.contains(name.as_str())) {
                return Err(Error::ToolCallNotPrinted { message });
            }
        }
        Ok(variables)
    }

    /// The rendered text and its tokens with the bytes they cover.
    fn encode(&self, chat: Chat, ending: Ending) -> Result<(String, Spans)> {
        let render = |messages: &[Message], variables: &Map<String, Json>| match ending {
            Ending::Prompt => self.template.render_with(messages, true, variables),
            Ending::Whole => self.template.render_with(messages, false, variables),
            Ending::Prefill => self.template.render_prefill_with(messages, variables),
        };
        let marked = match self.content_tokens {
            ContentTokens::Recognised => None,
            ContentTokens::Text => Marked::new(chat.messages, chat.variables, self.template.source(), &self.tokenizer)?,
        };
        let (text, tokens) = match marked {
            Some(marked) => marked.encode(&render(&marked.messages, &marked.variables)?, &self.tokenizer)?,
            None => {
                let text = render(chat.messages, chat.variables)?;
                let tokens = self.tokenizer.encode_with_offsets(&text)?;
                (text, tokens)
            }
        };
        let first = self.template.bos_token().and_then(|token| self.tokenizer.token_to_id(token));
        if let (Some(first), [(a, _), (b, _), ..]) = (first, tokens.as_slice())
            && (*a, *b) == (first, first)
        {
            return Err(Error::RepeatedFirstToken { token: self.tokenizer.known_token(first)? });
        }
        Ok((text, tokens))
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
