//! Rows of preference training and of sampling: a prompt as ids, with two responses, with one, or with none.
//!
//! A response is tokenised together with its prompt, once, and its tokens follow from byte offsets; nothing is tokenised
//! on its own and laid end to end. Not here: which rows are kept (`select`).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::conversation::Conversation;
use crate::error::Result;
use crate::preference_record::PreferenceRecord;
use crate::prompt_record::PromptRecord;
use crate::record::Message;
use crate::render::{Chat, Example, Renderer};
use crate::unpaired_record::UnpairedRecord;

/// What becomes of a row whose tokens merge over the seam between prompt and response, so that its ids differ from
/// those a sampler would have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seams {
    /// The row is refused with [`crate::Error::Seam`], as in supervised training.
    Error,
    /// The merged token belongs to the response. The prompt ends where its ids, alone and before either response, stop
    /// being the same, so both responses are conditioned on the same tokens. Such rows are counted.
    Response,
}

/// Two responses to one prompt as token ids.
///
/// Both sides begin with `prompt_ids` and end with the last response's end-of-turn token: what a template prints after
/// it (often a line break) is cut off, since a sampler never goes that far and a reward is read at the last token.
#[derive(Debug, Clone, PartialEq)]
pub struct PreferenceExample {
    /// Ids of the prompt up to where the assistant is to answer, as [`Renderer::prompt_ids`] gives them unless
    /// `merged_seam`.
    pub prompt_ids: Vec<u32>,
    /// Prompt and preferred response. Trainable are the assistant's answers with their end-of-turn tokens.
    pub chosen: Example,
    /// Prompt and other response.
    pub rejected: Example,
    /// [`PreferenceRecord::margin`].
    pub margin: Option<f64>,
    /// The prompt's last tokens merge with a response and were given to it.
    pub merged_seam: bool,
}

/// One response with a verdict as token ids; its conventions are those of [`PreferenceExample`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnpairedExample {
    /// Ids of the prompt up to where the assistant is to answer.
    pub prompt_ids: Vec<u32>,
    /// Prompt and response. Trainable are the assistant's answers with their end-of-turn tokens.
    pub completion: Example,
    /// True if the response is desirable.
    pub label: bool,
    /// The prompt's last tokens merge with the response and were given to it.
    pub merged_seam: bool,
}

/// A prompt to sample from as token ids, `[seq]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromptExample {
    /// Ids up to where the assistant is to answer.
    pub prompt_ids: Vec<u32>,
}

impl PreferenceExample {
    /// The tokens of the preferred response, end of turn included.
    pub fn chosen_ids(&self) -> &[u32] {
        &self.chosen.ids[self.prompt_ids.len()..]
    }

    /// The tokens of the other response, end of turn included.
    pub fn rejected_ids(&self) -> &[u32] {
        &self.rejected.ids[self.prompt_ids.len()..]
    }
}

impl UnpairedExample {
    /// The tokens of the response, end of turn included.
    pub fn completion_ids(&self) -> &[u32] {
        &self.completion.ids[self.prompt_ids.len()..]
    }
}

impl Renderer {
    /// Both conversations of a pair as ids. Errors as for [`Renderer::example`].
    pub fn preference_example(&self, record: &PreferenceRecord, seams: Seams) -> Result<PreferenceExample> {
        let prompt = Conversation::new(&record.prompt, &record.extra);
        let mut prompt_ids = self.prompt_ids(prompt)?;
        let mut sides =
            [self.response(prompt, &record.chosen, seams)?, self.response(prompt, &record.rejected, seams)?];
        let merged_seam = share_prompt(&mut prompt_ids, &mut sides);
        let [chosen, rejected] = sides;
        Ok(PreferenceExample { prompt_ids, chosen, rejected, margin: record.margin, merged_seam })
    }

    /// The conversation of a response with a verdict as ids. Errors as for [`Renderer::example`].
    pub fn unpaired_example(&self, record: &UnpairedRecord, seams: Seams) -> Result<UnpairedExample> {
        let prompt = Conversation::new(&record.prompt, &record.extra);
        let mut prompt_ids = self.prompt_ids(prompt)?;
        let mut sides = [self.response(prompt, &record.completion, seams)?];
        let merged_seam = share_prompt(&mut prompt_ids, &mut sides);
        let [completion] = sides;
        Ok(UnpairedExample { prompt_ids, completion, label: record.label, merged_seam })
    }

    /// A prompt as ids.
    pub fn prompt_example(&self, record: &PromptRecord) -> Result<PromptExample> {
        Ok(PromptExample { prompt_ids: self.prompt_ids(record)? })
    }

    /// [`Renderer::preference_example`] for many pairs in parallel, in their order, each with its own result.
    pub fn preference_examples(&self, records: &[PreferenceRecord], seams: Seams) -> Vec<Result<PreferenceExample>> {
        records.par_iter().map(|record| self.preference_example(record, seams)).collect()
    }

    /// [`Renderer::unpaired_example`] for many rows in parallel, in their order, each with its own result.
    pub fn unpaired_examples(&self, records: &[UnpairedRecord], seams: Seams) -> Vec<Result<UnpairedExample>> {
        records.par_iter().map(|record| self.unpaired_example(record, seams)).collect()
    }

    /// [`Renderer::prompt_example`] for many prompts in parallel, in their order, each with its own result.
    pub fn prompt_examples(&self, records: &[PromptRecord]) -> Vec<Result<PromptExample>> {
        records.par_iter().map(|record| self.prompt_example(record)).collect()
    }

    /// Prompt and response, cut after the last trained token.
    fn response(&self, prompt: Conversation, response: &[Message], seams: Seams) -> Result<Example> {
        let messages = [prompt.messages, response].concat();
        let variables = self.variables(&prompt.with_messages(&messages))?;
        let chat = Chat { messages: &messages, variables: &variables };
        let mut example = self.masked(chat, |index| index >= prompt.messages.len(), seams)?;
        let end = example.trainable.iter().rposition(|&flag| flag).map_or(0, |last| last + 1);
        example.keep(0..end);
        Ok(example)
    }
}

/// Shortens `prompt_ids` to what all sides begin with and gives the rest to the responses; whether there was a rest.
fn share_prompt(prompt_ids: &mut Vec<u32>, sides: &mut [Example]) -> bool {
    let common = |side: &Example| prompt_ids.iter().zip(&side.ids).take_while(|(a, b)| a == b).count();
    let shared = sides.iter().map(common).min().unwrap_or(prompt_ids.len());
    let merged = shared < prompt_ids.len();
    if merged {
        prompt_ids.truncate(shared);
        for side in sides {
            let first = side.trainable.iter().position(|&flag| flag).unwrap_or(side.ids.len());
            side.trainable[shared.min(first)..first].fill(true);
        }
    }
    merged
}
