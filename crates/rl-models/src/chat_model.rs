//! A decoder together with its tokenizer and chat template: what converses.

use std::path::Path;

use rl_core::random::RandomKey;
use rl_data::{Conversation, Message, PromptRecord, Renderer, Role};
use serde_json::{Map, Value as Json};
use tch::{Device, Kind};

use crate::checkpoint::{SideFiles, read_config};
use crate::decoder::Decoder;
use crate::generate::{Engine, FinishReason, Request, Response, SamplingConfig, Stats, TokenStream};
use crate::lora::base_and_adapters;
use crate::{Error, Result};

/// A checkpoint folder, loaded: weights, tokenizer, chat template, and the files that go along when it is saved.
#[derive(Debug)]
pub struct ChatModel {
    /// The weights.
    pub decoder: Decoder,
    /// Conversations to token ids.
    pub renderer: Renderer,
    /// Tokenizer and template files, copied unchanged into every checkpoint.
    pub side_files: SideFiles,
}

impl ChatModel {
    /// Loads a folder in the Hugging Face layout, with weights in f32.
    ///
    /// A path `ORG/NAME` that does not exist is taken as a repository in the Hugging Face cache; see
    /// [`resolve_model`](crate::checkpoint::resolve_model).
    ///
    /// # Errors
    /// A missing folder or file, tensors that do not match the config, or a tokenizer with more ids than the model.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        Self::load_as(folder, Kind::Float, device)
    }

    /// As [`ChatModel::load`], with weights of type `kind`: f32, bf16 or f16.
    ///
    /// A folder of adapters (`adapter_config.json`) gives its base model, read from the path that the settings name, with
    /// the updates merged into the weights.
    ///
    /// # Errors
    /// As [`ChatModel::load`]; [`Error::Argument`] for another `kind`.
    pub fn load_as(folder: &Path, kind: Kind, device: Device) -> Result<Self> {
        let (base, adapters) = base_and_adapters(folder)?;
        let config = read_config(&base)?;
        let renderer = Renderer::from_folder(&base)?; // adapters converse as their base does
        check_vocabulary(&renderer, config.vocab_size)?;
        let decoder = Decoder::load_merged(&base, &adapters, kind, device)?;
        Ok(ChatModel { decoder, renderer, side_files: SideFiles::from_folder(&base)? })
    }

    /// Joins parts that were made separately, such as a new decoder and a newly trained tokenizer.
    ///
    /// # Errors
    /// [`Error::TokenizerMismatch`] when the tokenizer has ids the model has no row for.
    pub fn new(decoder: Decoder, renderer: Renderer, side_files: SideFiles) -> Result<Self> {
        check_vocabulary(&renderer, decoder.config().vocab_size)?;
        Ok(ChatModel { decoder, renderer, side_files })
    }

    /// Ids that end a turn.
    pub fn stop_ids(&self) -> Vec<i64> {
        self.renderer.stop_ids().iter().map(|&id| i64::from(id)).collect()
    }

    /// An engine that ends responses where the chat template ends a turn, finds stop strings and makes text.
    ///
    /// # Errors
    /// As [`SamplingConfig::validate`].
    pub fn engine(&self, sampling: &SamplingConfig) -> Result<Engine<'_>> {
        Ok(Engine::new(&self.decoder, sampling, &self.stop_ids())?.with_tokenizer(self.renderer.tokenizer()))
    }

    /// Answers the last turn of every dialogue; `keys[i]` names the draws of `dialogues[i]`.
    ///
    /// Each dialogue gets a [`Turn`]; its ids grow by the response. `on_finish` receives the tokens of each response.
    ///
    /// # Errors
    /// [`Error::Argument`] unless there is one key per dialogue; otherwise as [`Engine::push`] and [`Engine::step`].
    pub fn respond(
        &self,
        dialogues: &mut [&mut Dialogue],
        keys: &[RandomKey],
        sampling: &SamplingConfig,
        on_finish: &mut dyn FnMut(usize),
    ) -> Result<()> {
        check_len("keys", keys.len(), dialogues.len())?;
        let mut engine = self.engine(sampling)?;
        for (dialogue, &key) in dialogues.iter().zip(keys) {
            engine.push(Request::new(dialogue.ids.clone(), key))?;
        }
        let responses = engine.run(&mut |response| on_finish(response.ids.len()))?;
        for (dialogue, response) in dialogues.iter_mut().zip(responses) {
            dialogue.add_response(response);
        }
        Ok(())
    }

    /// Answers the last turn of `dialogue` piece by piece; the dialogue grows by the turn when the reply has ended.
    ///
    /// # Errors
    /// As [`Engine::push`].
    pub fn reply<'a>(
        &'a self,
        dialogue: &'a mut Dialogue,
        key: RandomKey,
        sampling: &SamplingConfig,
    ) -> Result<Reply<'a>> {
        self.reply_with(self.engine(sampling)?, dialogue, key)
    }

    /// [`ChatModel::reply`] by an engine of [`ChatModel::engine`], such as one that can be cancelled.
    ///
    /// # Errors
    /// As [`Engine::push`].
    pub fn reply_with<'a>(
        &'a self,
        engine: Engine<'a>,
        dialogue: &'a mut Dialogue,
        key: RandomKey,
    ) -> Result<Reply<'a>> {
        let tokens = TokenStream::new(engine, Request::new(dialogue.ids.clone(), key))?;
        Ok(Reply { tokens, dialogue, shown: 0, is_added: false })
    }

    /// Starts a dialogue from messages whose last is the user's, or from a whole row with its `tools` and
    /// `chat_template_kwargs`.
    ///
    /// # Errors
    /// When the template refuses the conversation, or prints nothing of the row's tools.
    pub fn dialogue(&self, prompt: impl Into<PromptRecord>) -> Result<Dialogue> {
        let PromptRecord { prompt: messages, extra: columns } = prompt.into();
        let ids = self.renderer.prompt_ids(Conversation::new(&messages, &columns))?;
        Ok(Dialogue { messages, columns, ids: ids.into_iter().map(i64::from).collect(), turns: Vec::new() })
    }

    /// Whether the context has room for an answer to `dialogue`.
    pub fn has_room(&self, dialogue: &Dialogue) -> bool {
        dialogue.ids.len() < self.context()
    }

    /// Adds a user turn after a response; the tokens sampled so far stay exactly as they were.
    ///
    /// Gives false and changes nothing when the context would then have no room for an answer.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub fn add_feedback(&self, dialogue: &mut Dialogue, message: Message) -> Result<bool> {
        let stopped = dialogue.turns.last().is_some_and(|turn| turn.finish_reason == FinishReason::StopId);
        let ids =
            self.renderer.feedback_ids(Conversation::new(&dialogue.messages, &dialogue.columns), &message, stopped)?;
        if self.context() <= dialogue.ids.len() + ids.len() {
            return Ok(false);
        }
        dialogue.ids.extend(ids.into_iter().map(i64::from));
        dialogue.messages.push(message);
        Ok(true)
    }

    fn context(&self) -> usize {
        self.decoder.config().max_positions() as usize
    }
}

/// A conversation as the model sees it: one growing row of token ids.
#[derive(Debug, Clone)]
pub struct Dialogue {
    /// The conversation as text.
    pub messages: Vec<Message>,
    /// The other columns of its row; the chat template prints `tools` and reads `chat_template_kwargs`.
    pub columns: Map<String, Json>,
    /// Prompt, responses and feedback as token ids, `[seq]`.
    pub ids: Vec<i64>,
    /// The model's turns, in order.
    pub turns: Vec<Turn>,
}

impl Dialogue {
    /// Adds a response to the last turn: its text as a message, its tokens as they were sampled.
    pub fn add_response(&mut self, response: Response) {
        let text = response.text.unwrap_or_default();
        self.messages.push(Message::new(Role::Assistant, text.clone()));
        self.turns.push(Turn {
            start: self.ids.len(),
            log_probs: response.log_probs,
            full_log_probs: response.full_log_probs,
            text,
            finish_reason: response.finish_reason,
        });
        self.ids.extend(response.ids);
    }
}

/// Iterator over the text of one reply; made by [`ChatModel::reply`].
///
/// The pieces joined are the text of the [`Turn`] that the dialogue has after the last one. Dropped before that, the
/// reply ends and the dialogue stays as it was.
#[derive(Debug)]
pub struct Reply<'a> {
    tokens: TokenStream<'a>,
    dialogue: &'a mut Dialogue,
    /// Bytes of the text given out.
    shown: usize,
    is_added: bool,
}

impl Reply<'_> {
    /// What the engine has done so far.
    pub fn stats(&self) -> Stats {
        self.tokens.stats()
    }
}

impl Iterator for Reply<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        for token in self.tokens.by_ref() {
            match token {
                Ok(token) if token.text.is_empty() => {}
                Ok(token) => {
                    self.shown += token.text.len();
                    return Some(Ok(token.text));
                }
                Err(error) => return Some(Err(error)),
            }
        }
        if self.is_added {
            return None;
        }
        self.is_added = true;
        let response = self.tokens.response()?.clone();
        // A cancelled response ends without a last token, so text may have been held back.
        let rest = response.text.as_ref().and_then(|text| text.get(self.shown..)).unwrap_or_default().to_string();
        self.dialogue.add_response(response);
        (!rest.is_empty()).then_some(Ok(rest))
    }
}

/// One response of the model inside a [`Dialogue`].
#[derive(Debug, Clone)]
pub struct Turn {
    /// Index of the first sampled token in [`Dialogue::ids`]; everything before it is this turn's prompt.
    pub start: usize,
    /// Log-probability of each sampled token under the distribution it was drawn from, `[response]`.
    pub log_probs: Vec<f32>,
    /// Log-probability of each sampled token under the model at the sampling temperature, `[response]`.
    pub full_log_probs: Vec<f32>,
    /// The response as text, without special tokens, and without the stop string that ended it unless that is kept.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

impl Turn {
    /// Indices of the sampled tokens in [`Dialogue::ids`].
    pub fn range(&self) -> std::ops::Range<usize> {
        self.start..self.start + self.log_probs.len()
    }
}

/// Refuses a slice that should have one entry per dialogue or episode and has not.
pub(crate) fn check_len(name: &'static str, found: usize, expected: usize) -> Result<()> {
    if found == expected {
        return Ok(());
    }
    Err(Error::Argument {
        name,
        value: format!("{found} entries"),
        reason: format!("{expected} are needed, one for each"),
    })
}

fn check_vocabulary(renderer: &Renderer, model_vocab: i64) -> Result<()> {
    let tokenizer_vocab = renderer.tokenizer().vocab_size() as i64;
    if model_vocab < tokenizer_vocab {
        return Err(Error::TokenizerMismatch { tokenizer_vocab, model_vocab });
    }
    Ok(())
}
