//! One response under way: its tokens, its text, and whether it has ended.

use std::collections::HashSet;

use rl_core::random::RandomKey;
use rl_data::{TextStream, Tokenizer};

use super::config::SamplingConfig;
use super::request::{FinishReason, Request, Response};
use super::sample::{Chosen, Row};
use super::stop::StopStrings;
use crate::Result;

/// The state of one response, wherever its keys and values are.
pub(super) struct Slot {
    /// Number of the request.
    pub request: usize,
    /// Number of its prompt.
    pub prompt: usize,
    pub prompt_len: usize,
    /// Tokens in the cache.
    pub cached: usize,
    /// Most tokens, and what the response ends with when they are reached.
    limit: (usize, FinishReason),
    key: RandomKey,
    seen: Option<Seen>,
    text: Option<Text>,
    ids: Vec<i64>,
    log_probs: Vec<f32>,
    full_log_probs: Vec<f32>,
    finish_reason: Option<FinishReason>,
}

/// Distinct ids of prompt and response.
struct Seen {
    set: HashSet<i64>,
    list: Vec<i64>,
}

struct Text {
    stream: TextStream,
    stop: StopStrings,
    /// Everything given out.
    text: String,
}

impl Slot {
    /// A response without tokens; `room` is how many fit behind the prompt.
    pub fn new(
        number: usize,
        prompt: usize,
        request: &Request,
        config: &SamplingConfig,
        room: usize,
        tokenizer: Option<&Tokenizer>,
    ) -> Self {
        let wanted = request.max_new_tokens.unwrap_or(config.max_new_tokens);
        let limit = if wanted <= room { (wanted, FinishReason::Length) } else { (room, FinishReason::Context) };
        let seen = (config.repetition_penalty != 1.0).then(|| {
            let mut seen = Seen { set: HashSet::new(), list: Vec::new() };
            request.prompt_ids.iter().for_each(|&id| seen.add(id));
            seen
        });
        let text = tokenizer.map(|tokenizer| Text {
            stream: tokenizer.stream(true),
            stop: StopStrings::new(config.stop_strings.clone(), config.keep_stop_string),
            text: String::new(),
        });
        Slot {
            request: number,
            prompt,
            prompt_len: request.prompt_ids.len(),
            cached: request.prompt_ids.len(),
            limit,
            key: request.key,
            seen,
            text,
            ids: Vec::new(),
            log_probs: Vec::new(),
            full_log_probs: Vec::new(),
            finish_reason: None,
        }
    }

    /// The last token: the one that goes into the cache next.
    pub fn last_id(&self) -> Option<i64> {
        self.ids.last().copied()
    }

    pub fn num_tokens(&self) -> usize {
        self.ids.len()
    }

    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// What the sampler needs for the next token.
    pub fn row(&self, config: &SamplingConfig) -> Row<'_> {
        Row {
            uniform: self.key.uniform(self.ids.len() as u64),
            seen: self.seen.as_ref().map_or(&[], |seen| seen.list.as_slice()),
            is_too_short: self.ids.len() < config.min_new_tokens,
        }
    }

    /// Adds a token, decides whether it is the last, and gives the text that it makes certain.
    pub fn push(&mut self, chosen: Chosen, stop_ids: &[i64], min_new_tokens: usize) -> Result<String> {
        let is_too_short = self.ids.len() < min_new_tokens;
        self.ids.push(chosen.id);
        self.log_probs.push(chosen.log_prob as f32);
        self.full_log_probs.push(chosen.full_log_prob as f32);
        if let Some(seen) = &mut self.seen {
            seen.add(chosen.id);
        }
        let mut piece = String::new();
        if stop_ids.contains(&chosen.id) {
            self.finish_reason = Some(FinishReason::StopId);
        } else if let Some(text) = &mut self.text {
            let (released, found) = text.push(chosen.id, is_too_short)?;
            piece = released;
            self.finish_reason = found.map(FinishReason::StopString);
        }
        if self.finish_reason.is_none() && self.limit.0 <= self.ids.len() {
            self.finish_reason = Some(self.limit.1);
        }
        if let Some(reason) = self.finish_reason {
            piece += &self.end(reason)?;
        }
        Ok(piece)
    }

    /// Ends the response now; gives the text that was held back.
    pub fn cancel(&mut self) -> Result<String> {
        self.end(FinishReason::Cancelled)
    }

    /// The response; the number of its request comes with it.
    pub fn into_response(self) -> (usize, Response) {
        let response = Response {
            ids: self.ids,
            log_probs: self.log_probs,
            full_log_probs: self.full_log_probs,
            text: self.text.map(|text| text.text),
            finish_reason: self.finish_reason.unwrap_or(FinishReason::Cancelled),
        };
        (self.request, response)
    }

    fn end(&mut self, reason: FinishReason) -> Result<String> {
        self.finish_reason = Some(reason);
        let Some(text) = &mut self.text else { return Ok(String::new()) };
        if matches!(reason, FinishReason::StopString(_)) {
            return Ok(String::new()); // what follows the stop string is dropped
        }
        let (piece, found) = text.finish()?;
        if let (Some(index), false) = (found, reason == FinishReason::Cancelled) {
            self.finish_reason = Some(FinishReason::StopString(index));
        }
        Ok(piece)
    }
}

impl Seen {
    fn add(&mut self, id: i64) {
        if self.set.insert(id) {
            self.list.push(id);
        }
    }
}

impl Text {
    /// Text that `id` makes certain, and the stop string that it completes; none is looked for while `is_too_short`.
    fn push(&mut self, id: i64, is_too_short: bool) -> Result<(String, Option<usize>)> {
        let piece = self.stream.push(id as u32)?;
        if is_too_short {
            self.text += &piece;
            return Ok((piece, None));
        }
        let released = self.stop.push(&piece);
        self.text += &released.text;
        Ok((released.text, released.found))
    }

    /// Text held back, and a stop string that only the end completes.
    fn finish(&mut self) -> Result<(String, Option<usize>)> {
        let tail = self.stream.finish()?;
        let released = self.stop.push(&tail);
        let piece = if released.found.is_some() { released.text } else { released.text + &self.stop.finish() };
        self.text += &piece;
        Ok((piece, released.found))
    }
}
