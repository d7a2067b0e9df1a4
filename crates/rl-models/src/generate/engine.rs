//! The generation engine: slots of a key/value cache that decode together and are refilled as responses end.
//!
//! Nothing is padded: prompts are read packed, and while decoding a slot's length alone says what counts. Which
//! requests share a step changes no response, because a draw is named by its request's key and its position.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::time::Instant;

use rl_data::Tokenizer;
use tch::Tensor;

use super::cache::{CachedAttention, KeyValueCache};
use super::cancel::CancelToken;
use super::config::SamplingConfig;
use super::prompts::Prompts;
use super::request::{Request, Response, Token};
use super::sample::{Row, Sampler};
use super::slot::Slot;
use super::stats::Stats;
use crate::decoder::Decoder;
use crate::{Error, Result};

/// Called for every token; `Break` cancels that token's request.
pub type OnToken<'f> = dyn FnMut(&Token) -> ControlFlow<()> + 'f;

/// Answers requests: fed with [`Engine::push`], driven by [`Engine::step`].
///
/// ```no_run
/// # use rl_core::random::RandomKey;
/// # use rl_models::{Decoder, generate::{Engine, Request, SamplingConfig}};
/// # fn run(decoder: &Decoder, prompts: Vec<Vec<i64>>) -> rl_models::Result<()> {
/// let mut engine = Engine::new(decoder, &SamplingConfig::sampled(256, 1.0, 32), &[2])?;
/// for (row, prompt_ids) in prompts.into_iter().enumerate() {
///     engine.push(Request::new(prompt_ids, RandomKey::new(0, "answers").at(row as u64)))?;
/// }
/// while !engine.is_idle() {
///     for (request, response) in engine.step()? {
///         println!("{request}: {} tokens", response.ids.len());
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Engine<'a> {
    pub(super) decoder: &'a Decoder,
    pub(super) config: SamplingConfig,
    pub(super) stop_ids: Vec<i64>,
    pub(super) tokenizer: Option<Tokenizer>,
    pub(super) cancel: CancelToken,
    pub(super) cache: KeyValueCache,
    pub(super) sampler: Sampler,
    /// Slot `i` of the cache belongs to `slots[i]`.
    pub(super) slots: Vec<Option<Slot>>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) prompts: Prompts,
    pub(super) finished: Vec<(usize, Response)>,
    pub(super) next_request: usize,
    pub(super) stats: Stats,
}

/// A request without a slot; `prompt` is its place among the prompts.
pub(super) struct Waiting {
    pub(super) number: usize,
    pub(super) prompt: usize,
    pub(super) request: Request,
}

impl<'a> Engine<'a> {
    /// An engine without requests; `stop_ids` end a response.
    ///
    /// # Errors
    /// As [`SamplingConfig::validate`].
    pub fn new(decoder: &'a Decoder, config: &SamplingConfig, stop_ids: &[i64]) -> Result<Self> {
        config.validate()?;
        let vocab = decoder.config().vocab_size;
        let drawable = stop_ids.iter().copied().filter(|id| (0..vocab).contains(id)).collect();
        Ok(Engine {
            decoder,
            config: config.clone(),
            stop_ids: stop_ids.to_vec(),
            tokenizer: None,
            cancel: CancelToken::new(),
            cache: KeyValueCache::new(decoder),
            sampler: Sampler::new(config.clone(), drawable),
            slots: Vec::new(),
            waiting: VecDeque::new(),
            prompts: Prompts::default(),
            finished: Vec::new(),
            next_request: 0,
            stats: Stats::default(),
        })
    }

    /// Gives responses a text and makes stop strings work. For requests pushed from now on.
    #[must_use]
    pub fn with_tokenizer(mut self, tokenizer: &Tokenizer) -> Self {
        self.tokenizer = Some(tokenizer.clone());
        self
    }

    /// Ends everything with [`super::FinishReason::Cancelled`] in the step after `cancel` is set.
    #[must_use]
    pub fn with_cancel(mut self, cancel: CancelToken) -> Self {
        self.cancel = cancel;
        self
    }

    /// Adds a request and gives its number: 0, 1, 2 and so on.
    ///
    /// # Errors
    /// [`Error::PromptTooLong`], [`Error::TokenOutOfRange`], or [`Error::Argument`] for an empty prompt, a limit of 0
    /// tokens, and stop strings without a tokenizer. The engine is then as before.
    pub fn push(&mut self, request: Request) -> Result<usize> {
        self.check(&request)?;
        let number = self.next_request;
        self.next_request += 1;
        let prompt = self.prompts.add(&request.prompt_ids);
        self.waiting.push_back(Waiting { number, prompt, request });
        Ok(number)
    }

    /// Whether there is nothing to do and nothing to hand out.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.num_active() == 0 && self.finished.is_empty()
    }

    /// Requests that wait for a slot.
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Responses under way.
    pub fn num_active(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    /// What was done so far.
    pub fn stats(&self) -> Stats {
        Stats { wide_rows: self.sampler.wide_rows, ..self.stats }
    }

    /// Admits waiting requests or draws one token for every response under way; gives the responses that ended, with
    /// their requests' numbers.
    ///
    /// # Errors
    /// [`Error::NonFinite`] when logits hold NaN or plus infinity, [`Error::Tch`] as for want of memory, or from the
    /// tokenizer. Then every request is dropped and the cache emptied.
    pub fn step(&mut self) -> Result<Vec<(usize, Response)>> {
        self.step_with(&mut |_| ControlFlow::Continue(()))
    }

    /// [`Engine::step`] that shows each token as it is drawn.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn step_with(&mut self, on_token: &mut OnToken) -> Result<Vec<(usize, Response)>> {
        let result = if self.cancel.is_cancelled() {
            self.cancel_all()
        } else {
            let started = Instant::now();
            match self.admission() {
                Some(read) => tch::no_grad(|| self.admit(read, on_token))
                    .inspect(|()| self.stats.prefill_time += started.elapsed()),
                None if self.num_active() == 0 => Ok(()),
                None => {
                    tch::no_grad(|| self.decode(on_token)).inspect(|()| self.stats.decode_time += started.elapsed())
                }
            }
        };
        if let Err(error) = result {
            // What is cached may be the cause; a later request must not see it.
            self.slots.clear();
            self.waiting.clear();
            self.finished.clear();
            self.prompts = Prompts::default();
            self.cache = KeyValueCache::new(self.decoder);
            return Err(error);
        }
        Ok(std::mem::take(&mut self.finished))
    }

    /// Steps until nothing is left; gives all responses in the order in which their requests were pushed.
    ///
    /// # Errors
    /// As [`Engine::step`].
    pub fn run(&mut self, on_finish: &mut dyn FnMut(&Response)) -> Result<Vec<Response>> {
        let mut responses = Vec::new();
        while !self.is_idle() {
            for (number, response) in self.step()? {
                on_finish(&response);
                responses.push((number, response));
            }
        }
        responses.sort_unstable_by_key(|(number, _)| *number);
        Ok(responses.into_iter().map(|(_, response)| response).collect())
    }

    /// Ends one request with [`super::FinishReason::Cancelled`]; the next step hands its response out. False when it is not
    /// there any more.
    ///
    /// # Errors
    /// From the tokenizer.
    pub fn cancel(&mut self, number: usize) -> Result<bool> {
        if let Some(index) = self.waiting.iter().position(|waiting| waiting.number == number) {
            if let Some(waiting) = self.waiting.remove(index) {
                self.prompts.leave(waiting.prompt);
                self.finished.push((number, self.unstarted(&waiting)?));
            }
            return Ok(true);
        }
        let is_wanted = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.request == number);
        let Some(index) = self.slots.iter().position(is_wanted) else { return Ok(false) };
        if let Some(slot) = &mut self.slots[index] {
            slot.cancel()?;
        }
        self.retire(index)?;
        Ok(true)
    }

    fn check(&self, request: &Request) -> Result<()> {
        let fails = |name, value: String, reason: &str| Err(Error::Argument { name, value, reason: reason.into() });
        let (vocab_size, context) = (self.decoder.config().vocab_size, self.context());
        let length = request.prompt_ids.len();
        if length == 0 {
            return fails("prompt_ids", "empty".into(), "a prompt needs a token");
        }
        if context <= length {
            return Err(Error::PromptTooLong { length, limit: context - 1 });
        }
        if let Some(&id) = request.prompt_ids.iter().find(|&&id| !(0..vocab_size).contains(&id)) {
            return Err(Error::TokenOutOfRange { id, vocab_size });
        }
        if let Some(limit) = request.max_new_tokens
            && (limit == 0 || limit < self.config.min_new_tokens)
        {
            let reason = format!("must be positive and not below min_new_tokens = {}", self.config.min_new_tokens);
            return fails("max_new_tokens", limit.to_string(), &reason);
        }
        if !self.config.stop_strings.is_empty() && self.tokenizer.is_none() {
            let value = format!("{:?}", self.config.stop_strings);
            return fails("stop_strings", value, "the engine needs a tokenizer to find them: Engine::with_tokenizer");
        }
        Ok(())
    }

    pub(super) fn context(&self) -> usize {
        self.decoder.config().max_positions() as usize
    }

    /// One token for every response under way.
    fn decode(&mut self, on_token: &mut OnToken) -> Result<()> {
        self.close_gaps()?;
        let device = self.decoder.device();
        let slots = || self.slots.iter().flatten();
        let ids: Vec<i64> = slots().filter_map(Slot::last_id).collect();
        let positions: Vec<i64> = slots().map(|slot| slot.cached as i64).collect();
        let lengths: Vec<i64> = positions.iter().map(|position| position + 1).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0) as usize;
        self.cache.reserve(self.slots.len(), longest)?;
        let mut context = CachedAttention::new(&mut self.cache, &lengths, device)?;
        let ids = Tensor::from_slice(&ids).f_to_device(device)?;
        let positions = Tensor::from_slice(&positions).f_to_device(device)?;
        let hidden = self.decoder.forward(&ids, &positions, &mut context)?;
        for slot in self.slots.iter_mut().flatten() {
            slot.cached += 1;
        }
        self.stats.decode_steps += 1;
        let rows: Vec<usize> = (0..self.slots.len()).collect();
        self.choose(self.decoder.logits(&hidden)?, &rows, on_token)
    }

    /// Moves the last responses into empty slots before them: no step pays for a slot without a response.
    fn close_gaps(&mut self) -> Result<()> {
        let mut index = 0;
        while index < self.slots.len() {
            if self.slots[index].is_some() {
                index += 1;
                continue;
            }
            let last = self.slots.len() - 1;
            if let Some(slot) = &self.slots[last] {
                self.cache.copy_slot(last, index, slot.cached)?;
            }
            self.slots.swap_remove(index);
        }
        Ok(())
    }

    /// Draws the next token of `slots` from `logits` `[slots, vocab]` and retires the responses that end.
    pub(super) fn choose(&mut self, logits: Tensor, slots: &[usize], on_token: &mut OnToken) -> Result<()> {
        let started = Instant::now();
        let states = slots.iter().filter_map(|&index| self.slots[index].as_ref());
        let rows: Vec<Row> = states.map(|slot| slot.row(&self.config)).collect();
        let chosen = self.sampler.choose(logits, &rows)?;
        self.stats.sampling_time += started.elapsed();
        self.stats.new_tokens += chosen.len();
        for (&index, chosen) in slots.iter().zip(chosen) {
            let Some(slot) = &mut self.slots[index] else { continue };
            let text = slot.push(chosen, &self.stop_ids, self.config.min_new_tokens)?;
            let token = Token {
                request: slot.request,
                position: slot.num_tokens() - 1,
                id: chosen.id,
                log_prob: chosen.log_prob as f32,
                full_log_prob: chosen.full_log_prob as f32,
                text,
                finish_reason: slot.finish_reason(),
            };
            if on_token(&token).is_break() && slot.finish_reason().is_none() {
                slot.cancel()?;
            }
            if slot.finish_reason().is_some() {
                self.retire(index)?;
            }
        }
        Ok(())
    }

    /// Frees a slot and hands its response out; keeps its prompt where requests still wait for it.
    fn retire(&mut self, index: usize) -> Result<()> {
        let Some(slot) = self.slots[index].take() else { return Ok(()) };
        if self.slot_with(slot.prompt).is_none() {
            let has_room = self.prompts.num_stored() < self.config.num_slots;
            if let Some(prompt) = self.prompts.get_mut(slot.prompt)
                && prompt.stored.is_none()
            {
                if has_room {
                    prompt.stored = Some(self.cache.store(index, slot.prompt_len)?);
                } else {
                    prompt.logits = None; // it will be read again
                }
            }
        }
        self.finished.push(slot.into_response());
        Ok(())
    }

    fn cancel_all(&mut self) -> Result<()> {
        for waiting in std::mem::take(&mut self.waiting) {
            self.prompts.leave(waiting.prompt);
            self.finished.push((waiting.number, self.unstarted(&waiting)?));
        }
        for index in 0..self.slots.len() {
            if let Some(slot) = &mut self.slots[index] {
                slot.cancel()?;
            }
            self.retire(index)?;
        }
        self.slots.clear();
        Ok(())
    }

    /// The response of a request that never had a slot.
    fn unstarted(&self, waiting: &Waiting) -> Result<Response> {
        let mut slot =
            Slot::new(waiting.number, waiting.prompt, &waiting.request, &self.config, 1, self.tokenizer.as_ref());
        slot.cancel()?;
        Ok(slot.into_response().1)
    }
}

impl std::fmt::Debug for Engine<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let counts = (self.num_waiting(), self.num_active());
        f.debug_struct("Engine")
            .field("config", &self.config)
            .field("waiting_and_active", &counts)
            .finish_non_exhaustive()
    }
}

/// Answers every request; the result has the order of `requests`.
///
/// `on_finish` is called once per finished response with the number of tokens it has (for a progress bar). Stop strings
/// need a tokenizer: see [`Engine::with_tokenizer`] or [`crate::ChatModel`].
///
/// # Errors
/// [`Error::Argument`], [`Error::PromptTooLong`], [`Error::TokenOutOfRange`], and [`Error::NonFinite`] when the model's
/// logits hold NaN.
pub fn generate(
    decoder: &Decoder,
    requests: &[Request],
    stop_ids: &[i64],
    config: &SamplingConfig,
    on_finish: &mut dyn FnMut(usize),
) -> Result<Vec<Response>> {
    let mut engine = Engine::new(decoder, config, stop_ids)?;
    for request in requests {
        engine.push(request.clone())?;
    }
    engine.run(&mut |response| on_finish(response.ids.len()))
}

#[cfg(test)]
mod tests {
    use rl_core::random::RandomKey;
    use tch::Device;

    use super::*;

    fn decoder() -> Decoder {
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 32, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 48, "max_position_embeddings": 256,
            "rms_norm_eps": 1e-5, "tie_word_embeddings": true, "initializer_range": 0.3,
        });
        Decoder::random(serde_json::from_value(config).unwrap(), 7, Device::Cpu).unwrap()
    }

    /// Between all steps everything that no sequence holds is NaN: free slots, and what lies behind a length.
    #[test]
    fn nothing_cached_leaks_between_slots() {
        let decoder = decoder();
        let answer = |poison: bool| {
            let mut engine = Engine::new(&decoder, &SamplingConfig::sampled(100, 1.0, 3), &[]).unwrap();
            for row in 0..11_u64 {
                let prompt =
                    (0..1 + row as i64 / 2 % 4 * 9).map(|position| (row as i64 / 2 * 5 + position) % 48).collect();
                let request = Request::new(prompt, RandomKey::new(1, "leak").at(row));
                engine.push(request.max_new_tokens(1 + row as usize * 37 % 80)).unwrap();
            }
            let (mut responses, mut poisoned) = (Vec::new(), 0);
            while !engine.is_idle() {
                responses.extend(engine.step().unwrap());
                for slot in (0..engine.cache.num_slots()).filter(|_| poison) {
                    let cached = engine.slots.get(slot).and_then(Option::as_ref).map_or(0, |slot| slot.cached);
                    engine.cache.poison(slot, cached);
                    poisoned += usize::from(cached == 0);
                }
            }
            responses.sort_by_key(|(number, _)| *number);
            (responses, poisoned)
        };
        let (expected, _) = answer(false);
        let (found, poisoned) = answer(true);
        assert_eq!((expected.len(), &found), (11, &expected));
        assert!(5 < poisoned, "free slots were poisoned {poisoned} times");
    }
}
