//! Batched generation: fixed slots of a key/value cache, refilled as answers end.

mod cache;
mod sample;

use std::collections::{HashMap, VecDeque};

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::decoder::Decoder;
use crate::{Error, Result};
use cache::{CachedAttention, KeyValueCache, PrefillAttention};
use sample::draw;

/// How tokens are chosen, and when an answer ends.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Most tokens of one response; the context's end may come first.
    pub max_new_tokens: usize,
    /// Divides the logits; 0 takes the most probable token (greedy).
    pub temperature: f64,
    /// Keep only the `top_k` most probable tokens; 0 keeps all.
    #[serde(default)]
    pub top_k: usize,
    /// Keep the most probable tokens whose probabilities reach `top_p`; 1 keeps all.
    #[serde(default = "one")]
    pub top_p: f64,
    /// Sequences that decode together; changes memory and speed.
    pub num_slots: usize,
}

fn one() -> f64 {
    1.0
}

impl SamplingConfig {
    /// Greedy decoding.
    pub fn greedy(max_new_tokens: usize, num_slots: usize) -> Self {
        SamplingConfig { max_new_tokens, temperature: 0.0, top_k: 0, top_p: 1.0, num_slots }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`Error::Argument`] with key, value and limit.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, name: &'static str, value: String, reason: &str| {
            if ok { Ok(()) } else { Err(Error::Argument { name, value, reason: reason.into() }) }
        };
        check(0 < self.max_new_tokens, "max_new_tokens", self.max_new_tokens.to_string(), "must be positive")?;
        check(0 < self.num_slots, "num_slots", self.num_slots.to_string(), "must be positive")?;
        let temperature = self.temperature;
        check(
            temperature.is_finite() && 0.0 <= temperature,
            "temperature",
            temperature.to_string(),
            "must be 0 or more",
        )?;
        check(0.0 < self.top_p && self.top_p <= 1.0, "top_p", self.top_p.to_string(), "must be in (0, 1]")
    }
}

/// One prompt to answer.
#[derive(Debug, Clone)]
pub struct Request {
    /// Token ids of the prompt.
    pub prompt_ids: Vec<i64>,
    /// Names the draws of this response; token `t` uses position `t`, so neighbours and batch size do not matter.
    pub key: RandomKey,
}

/// Why a response ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    /// A stop token was produced; it is the last of `ids`.
    Stop,
    /// `max_new_tokens` or the context's end was reached.
    Length,
}

/// The answer to one [`Request`].
#[derive(Debug, Clone)]
pub struct Response {
    /// Tokens produced, the stop token included.
    pub ids: Vec<i64>,
    /// Log-probability of each token under the distribution it was sampled from (temperature and truncation applied;
    /// for greedy decoding, of the model's distribution at temperature 1).
    pub log_probs: Vec<f32>,
    /// Why it ended.
    pub finish_reason: FinishReason,
}

/// Answers every request; the result has the order of `requests`.
///
/// `on_finish` is called once per finished response with the number of tokens it has (for a progress bar).
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
    config.validate()?;
    let context = decoder.config().max_position_embeddings as usize;
    for request in requests {
        if context <= request.prompt_ids.len() {
            return Err(Error::PromptTooLong { length: request.prompt_ids.len(), limit: context - 1 });
        }
    }
    let longest = requests.iter().map(|request| request.prompt_ids.len()).max().unwrap_or(0);
    let capacity = context.min(longest.saturating_add(config.max_new_tokens));
    let num_slots = config.num_slots.min(requests.len());
    let mut engine = Engine {
        decoder,
        cache: KeyValueCache::new(decoder, num_slots, capacity),
        active: Vec::with_capacity(num_slots),
        waiting: (0..requests.len()).collect(),
        responses: vec![None; requests.len()],
        requests,
        stop_ids,
        config,
        num_slots,
        on_finish,
    };
    tch::no_grad(|| engine.run())?;
    // Every request leaves `waiting` and `active` only by leaving a response behind.
    Ok(engine.responses.into_iter().flatten().collect())
}

struct Engine<'a> {
    decoder: &'a Decoder,
    cache: KeyValueCache,
    /// Slot `i` of the cache belongs to `active[i]`.
    active: Vec<Active>,
    waiting: VecDeque<usize>,
    responses: Vec<Option<Response>>,
    requests: &'a [Request],
    stop_ids: &'a [i64],
    config: &'a SamplingConfig,
    num_slots: usize,
    on_finish: &'a mut dyn FnMut(usize),
}

/// A response under way.
struct Active {
    request: usize,
    /// Tokens in the cache.
    cached: usize,
    ids: Vec<i64>,
    log_probs: Vec<f32>,
}

impl Engine<'_> {
    fn run(&mut self) -> Result<()> {
        while !self.waiting.is_empty() || !self.active.is_empty() {
            // Admitting in batches keeps prefill efficient; a quarter of the slots is a compromise between that and
            // slots standing empty.
            let free = self.num_slots - self.active.len();
            if !self.waiting.is_empty() && (self.active.is_empty() || self.num_slots <= 4 * free) {
                self.admit(free)?;
            } else {
                self.decode()?;
            }
        }
        Ok(())
    }

    /// Reads each distinct prompt of the next requests once, fills their slots and draws their first tokens.
    fn admit(&mut self, free: usize) -> Result<()> {
        let requests = self.requests;
        let admitted: Vec<usize> = self.waiting.drain(..free.min(self.waiting.len())).collect();
        let mut distinct: Vec<&[i64]> = Vec::new();
        let mut seen: HashMap<&[i64], usize> = HashMap::new();
        let mut prompt_of = Vec::with_capacity(admitted.len());
        for &request in &admitted {
            let prompt = requests[request].prompt_ids.as_slice();
            prompt_of.push(*seen.entry(prompt).or_insert_with(|| {
                distinct.push(prompt);
                distinct.len() - 1
            }));
        }
        let packed = self.decoder.pack(&distinct)?;
        let first_slot = self.active.len();
        let mut slots_of = vec![Vec::new(); distinct.len()];
        for (offset, &prompt) in prompt_of.iter().enumerate() {
            slots_of[prompt].push(first_slot + offset);
        }
        let mut context = PrefillAttention::new(&packed, &mut self.cache, &slots_of);
        let hidden = self.decoder.forward(&packed.ids, &packed.positions, &mut context)?;
        let last_rows: Vec<i64> = prompt_of.iter().map(|&prompt| packed.boundaries[prompt + 1] as i64 - 1).collect();
        let last_rows = Tensor::from_slice(&last_rows).to_device(self.decoder.device());
        let logits = self.decoder.logits(&hidden.f_index_select(0, &last_rows)?)?;
        for &request in &admitted {
            let cached = requests[request].prompt_ids.len();
            self.active.push(Active { request, cached, ids: Vec::new(), log_probs: Vec::new() });
        }
        self.choose(&logits, first_slot)
    }

    /// One token for every active slot.
    fn decode(&mut self) -> Result<()> {
        let device = self.decoder.device();
        let last = |active: &Active| active.ids[active.ids.len() - 1];
        let ids: Vec<i64> = self.active.iter().map(last).collect();
        let positions: Vec<i64> = self.active.iter().map(|active| active.cached as i64).collect();
        let positions = Tensor::from_slice(&positions).to_device(device);
        let longest = self.active.iter().map(|active| active.cached + 1).max().unwrap_or(0);
        let mut context = CachedAttention::new(&mut self.cache, &positions, longest);
        let hidden = self.decoder.forward(&Tensor::from_slice(&ids).to_device(device), &positions, &mut context)?;
        for active in &mut self.active {
            active.cached += 1;
        }
        self.choose(&self.decoder.logits(&hidden)?, 0)
    }

    /// Draws the next token of slots `first_slot..` from `logits` `[slots, vocab]` and retires the responses that end.
    fn choose(&mut self, logits: &Tensor, first_slot: usize) -> Result<()> {
        let vocab = logits.size()[1] as usize;
        let host = Vec::<f32>::try_from(logits.to_kind(Kind::Float).contiguous().view([-1]))?;
        let mut finished = Vec::new();
        for (row, logits) in host.chunks_exact(vocab).enumerate() {
            let slot = first_slot + row;
            let active = &mut self.active[slot];
            let request = &self.requests[active.request];
            let uniform = request.key.uniform(active.ids.len() as u64);
            let (id, log_prob) = draw(logits, self.config, uniform)?;
            active.ids.push(id);
            active.log_probs.push(log_prob);
            let full = active.ids.len() == self.config.max_new_tokens
                || request.prompt_ids.len() + active.ids.len()
                    == self.decoder.config().max_position_embeddings as usize;
            if self.stop_ids.contains(&id) {
                finished.push((slot, FinishReason::Stop));
            } else if full {
                finished.push((slot, FinishReason::Length));
            }
        }
        // From the back, so that the slot moved into a freed place is never one still to be retired.
        for (slot, finish_reason) in finished.into_iter().rev() {
            let last = self.active.len() - 1;
            if slot != last {
                self.cache.move_slot(last, slot, self.active[last].cached);
            }
            let Active { request, ids, log_probs, .. } = self.active.swap_remove(slot);
            (self.on_finish)(ids.len());
            self.responses[request] = Some(Response { ids, log_probs, finish_reason });
        }
        Ok(())
    }
}
