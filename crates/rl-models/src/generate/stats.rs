//! What an engine has done, and how fast.

use std::time::Duration;

/// What an [`super::Engine`] has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Prompt tokens that went through the model.
    pub prompt_tokens_read: usize,
    /// Prompt tokens whose keys and values were copied instead.
    pub prompt_tokens_shared: usize,
    /// Tokens drawn, of all responses.
    pub new_tokens: usize,
    /// Decoding steps: forward passes of one token per slot.
    pub decode_steps: usize,
    /// Rows of which truncation needed more than the first candidates.
    pub wide_rows: u64,
    /// Time in steps that admitted requests: their prompts and their first tokens.
    pub prefill_time: Duration,
    /// Time in decoding steps, sampling included.
    pub decode_time: Duration,
    /// Time in which tokens were chosen; on a GPU this includes waiting for the logits.
    pub sampling_time: Duration,
}

impl Stats {
    /// Tokens of decoding steps per second.
    pub fn decode_tokens_per_second(&self, num_responses: usize) -> f64 {
        // The first token of a response comes from its prompt.
        self.new_tokens.saturating_sub(num_responses) as f64 / self.decode_time.as_secs_f64()
    }
}
