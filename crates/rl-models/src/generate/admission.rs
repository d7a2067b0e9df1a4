//! How waiting requests come into slots: which, when, and their prompts read once.

use tch::Tensor;

use super::cache::PrefillAttention;
use super::engine::{Engine, OnToken, Waiting};
use super::request::Request;
use super::slot::Slot;
use crate::Result;

/// Prompt tokens read in one forward pass at most, unless a single prompt has more: bounds the memory of a prefill.
const MAX_PREFILL_TOKENS: usize = 8192;
/// Prompt tokens from which reading them at once is as efficient per token as waiting for more.
const MIN_PREFILL_TOKENS: usize = 64;
/// Tokens for which a slot has room at first; longer responses let the cache grow.
const FIRST_RESPONSE_TOKENS: usize = 64;

impl Engine<'_> {
    /// Whether to admit requests now, and if so, whether prompts are read for it.
    ///
    /// A prompt that is cached costs nothing. Reading few tokens costs as much as reading some more, so a slot may stand
    /// empty for a while until there is enough to read, but not more than a quarter of the slots.
    pub(super) fn admission(&self) -> Option<bool> {
        let active = self.num_active();
        let free = self.config.num_slots - active;
        if free == 0 || self.waiting.is_empty() {
            return None;
        }
        let mut unread: Vec<usize> = Vec::new();
        let mut tokens = 0;
        for waiting in self.waiting.iter().take(free) {
            let is_read = self.prompts.get(waiting.prompt).is_some_and(|prompt| prompt.logits.is_some());
            if !is_read && !unread.contains(&waiting.prompt) {
                unread.push(waiting.prompt);
                tokens += waiting.request.prompt_ids.len();
                if MIN_PREFILL_TOKENS <= tokens {
                    return Some(true);
                }
            }
        }
        if active == 0 || self.config.num_slots <= 4 * free {
            return Some(true);
        }
        let is_first_read = self.waiting.front().is_some_and(|first| !unread.contains(&first.prompt));
        is_first_read.then_some(false)
    }

    /// Fills free slots with waiting requests and draws their first tokens; a prompt is read once for all of them.
    pub(super) fn admit(&mut self, read: bool, on_token: &mut OnToken) -> Result<()> {
        let (admitted, unread) = self.assign(read);
        let longest = admitted.iter().map(|(_, waiting)| self.wanted_capacity(&waiting.request)).max().unwrap_or(0);
        self.cache.reserve(self.slots.len(), longest)?;
        let mut slots_of = vec![Vec::new(); unread.len()];
        for (index, waiting) in &admitted {
            match unread.iter().position(|&prompt| prompt == waiting.prompt) {
                Some(place) => slots_of[place].push(*index),
                None => self.share(waiting.prompt, *index)?,
            }
        }
        self.read(&unread, &slots_of)?;
        let mut logits = Vec::with_capacity(admitted.len());
        for (_, waiting) in &admitted {
            let row = self.prompts.get(waiting.prompt).and_then(|prompt| prompt.logits.as_ref());
            logits.extend(row.map(Tensor::shallow_clone));
        }
        let logits = Tensor::f_cat(&logits, 0)?; // [admitted, vocab]
        let context = self.context();
        let mut rows = Vec::with_capacity(admitted.len());
        for (index, waiting) in admitted {
            let Waiting { number, prompt, request } = waiting;
            let room = context - request.prompt_ids.len();
            let slot = Slot::new(number, prompt, &request, &self.config, room, self.tokenizer.as_ref());
            self.slots[index] = Some(slot);
            self.prompts.leave(prompt);
            rows.push(index);
        }
        self.choose(logits, &rows, on_token)
    }

    /// Takes requests off the queue into free slots, first come first served; also gives the prompts to be read.
    fn assign(&mut self, read: bool) -> (Vec<(usize, Waiting)>, Vec<usize>) {
        let (mut admitted, mut unread, mut tokens) = (Vec::new(), Vec::new(), 0);
        let mut index = 0;
        while index < self.config.num_slots {
            let Some(next) = self.waiting.front() else { break };
            if self.slots.get(index).is_some_and(Option::is_some) {
                index += 1;
                continue;
            }
            let length = next.request.prompt_ids.len();
            let is_read = self.prompts.get(next.prompt).is_some_and(|prompt| prompt.logits.is_some());
            if !is_read && !unread.contains(&next.prompt) {
                if !read || (!unread.is_empty() && MAX_PREFILL_TOKENS < tokens + length) {
                    break;
                }
                unread.push(next.prompt);
                tokens += length;
                self.stats.prompt_tokens_read += length;
            } else {
                self.stats.prompt_tokens_shared += length;
            }
            if self.slots.len() <= index {
                self.slots.push(None);
            }
            admitted.extend(self.waiting.pop_front().map(|waiting| (index, waiting)));
            index += 1;
        }
        (admitted, unread)
    }

    /// Tokens for which a slot with this request should have room at first.
    fn wanted_capacity(&self, request: &Request) -> usize {
        let limit = request.max_new_tokens.unwrap_or(self.config.max_new_tokens).min(FIRST_RESPONSE_TOKENS);
        (request.prompt_ids.len() + limit).min(self.context())
    }

    /// Copies the keys and values of a prompt that was read into slot `to`.
    fn share(&mut self, number: usize, to: usize) -> Result<()> {
        let Some(prompt) = self.prompts.get(number) else { return Ok(()) };
        match (&prompt.stored, self.slot_with(number)) {
            (_, Some(from)) => self.cache.copy_slot(from, to, prompt.ids.len()),
            (Some(stored), None) => self.cache.restore(stored, to),
            // `retire` keeps one of the two while a request waits.
            (None, None) => unreachable!("a prompt that was read is in a slot or stored"),
        }
    }

    /// A slot under way that starts with this prompt.
    pub(super) fn slot_with(&self, number: usize) -> Option<usize> {
        self.slots.iter().position(|slot| slot.as_ref().is_some_and(|slot| slot.prompt == number))
    }

    /// Reads `unread` prompts in one packed pass into the slots that start from them and keeps their last logits.
    fn read(&mut self, unread: &[usize], slots_of: &[Vec<usize>]) -> Result<()> {
        if unread.is_empty() {
            return Ok(());
        }
        let prompts: Vec<_> = unread.iter().filter_map(|&number| self.prompts.get(number)).collect();
        let packed = self.decoder.pack(&prompts.iter().map(|prompt| &*prompt.ids).collect::<Vec<_>>())?;
        let mut context = PrefillAttention::new(&packed, &mut self.cache, slots_of);
        let hidden = self.decoder.forward(&packed.ids, &packed.positions, &mut context)?;
        let last_rows: Vec<i64> = packed.boundaries[1..].iter().map(|&end| end as i64 - 1).collect();
        let last_rows = Tensor::from_slice(&last_rows).f_to_device(self.decoder.device())?;
        let logits = self.decoder.logits(&hidden.f_index_select(0, &last_rows)?)?; // [unread, vocab]
        for (row, &number) in unread.iter().enumerate() {
            if let Some(prompt) = self.prompts.get_mut(number) {
                prompt.logits = Some(logits.f_narrow(0, row as i64, 1)?);
            }
        }
        Ok(())
    }
}
