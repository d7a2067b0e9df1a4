//! A decoder together with its tokenizer and chat template: what converses.

use std::path::Path;

use rl_core::random::RandomKey;
use rl_data::{Message, Renderer, Role};
use tch::Device;

use crate::checkpoint::{SideFiles, folder_or_repository, read_config, read_tensors};
use crate::decoder::Decoder;
use crate::generate::{FinishReason, Request, SamplingConfig, generate};
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
    /// Loads a folder in the Hugging Face layout.
    ///
    /// A path `ORG/NAME` that does not exist is taken as a repository in the Hugging Face cache; see
    /// [`resolve_model`](crate::checkpoint::resolve_model).
    ///
    /// # Errors
    /// A missing folder or file, tensors that do not match the config, or a tokenizer with more ids than the model.
    pub fn load(folder: &Path, device: Device) -> Result<Self> {
        let folder = &folder_or_repository(folder)?;
        let config = read_config(folder)?;
        let renderer = Renderer::from_folder(folder)?;
        check_vocabulary(&renderer, config.vocab_size)?;
        let decoder = Decoder::from_tensors(config, read_tensors(folder, device)?, device)?;
        Ok(ChatModel { decoder, renderer, side_files: SideFiles::from_folder(folder)? })
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

    /// Answers the last turn of every dialogue; `keys[i]` names the draws of `dialogues[i]`.
    ///
    /// Each dialogue gets a [`Turn`]; its ids grow by the response. `on_finish` receives the tokens of each response.
    ///
    /// # Errors
    /// [`Error::Argument`] unless there is one key per dialogue; otherwise as [`generate`].
    pub fn respond(
        &self,
        dialogues: &mut [&mut Dialogue],
        keys: &[RandomKey],
        sampling: &SamplingConfig,
        on_finish: &mut dyn FnMut(usize),
    ) -> Result<()> {
        check_len("keys", keys.len(), dialogues.len())?;
        let requests: Vec<Request> = dialogues
            .iter()
            .zip(keys)
            .map(|(dialogue, &key)| Request { prompt_ids: dialogue.ids.clone(), key })
            .collect();
        let stop_ids = self.stop_ids();
        let responses = generate(&self.decoder, &requests, &stop_ids, sampling, on_finish)?;
        for (dialogue, response) in dialogues.iter_mut().zip(responses) {
            let spoken = match response.finish_reason {
                FinishReason::Stop => &response.ids[..response.ids.len() - 1],
                FinishReason::Length => &response.ids[..],
            };
            let spoken: Vec<u32> = spoken.iter().map(|&id| id as u32).collect();
            let text = self.renderer.tokenizer().decode(&spoken, true)?;
            dialogue.messages.push(Message::new(Role::Assistant, text.clone()));
            dialogue.turns.push(Turn {
                start: dialogue.ids.len(),
                log_probs: response.log_probs,
                text,
                finish_reason: response.finish_reason,
            });
            dialogue.ids.extend(response.ids);
        }
        Ok(())
    }

    /// Starts a dialogue from a rendered conversation whose last turn is the user's.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub fn dialogue(&self, messages: Vec<Message>) -> Result<Dialogue> {
        let ids = self.renderer.prompt_ids(&messages)?.into_iter().map(i64::from).collect();
        Ok(Dialogue { messages, ids, turns: Vec::new() })
    }

    /// Adds a user turn after a response; the tokens sampled so far stay exactly as they were.
    ///
    /// Gives false and changes nothing when the context would then have no room for an answer.
    ///
    /// # Errors
    /// When the template refuses the conversation.
    pub fn add_feedback(&self, dialogue: &mut Dialogue, message: Message) -> Result<bool> {
        let stopped = dialogue.turns.last().is_some_and(|turn| turn.finish_reason == FinishReason::Stop);
        let ids = self.renderer.feedback_ids(&dialogue.messages, &message, stopped)?;
        if self.decoder.config().max_position_embeddings as usize <= dialogue.ids.len() + ids.len() {
            return Ok(false);
        }
        dialogue.ids.extend(ids.into_iter().map(i64::from));
        dialogue.messages.push(message);
        Ok(true)
    }
}

/// A conversation as the model sees it: one growing row of token ids.
#[derive(Debug, Clone)]
pub struct Dialogue {
    /// The conversation as text.
    pub messages: Vec<Message>,
    /// Prompt, responses and feedback as token ids, `[seq]`.
    pub ids: Vec<i64>,
    /// The model's turns, in order.
    pub turns: Vec<Turn>,
}

/// One response of the model inside a [`Dialogue`].
#[derive(Debug, Clone)]
pub struct Turn {
    /// Index of the first sampled token in [`Dialogue::ids`]; everything before it is this turn's prompt.
    pub start: usize,
    /// Log-probability of each sampled token, `[response]`.
    pub log_probs: Vec<f32>,
    /// The response as text, without special tokens.
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
