//! How tokens are chosen and when a response ends: the settings of a generation run.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// How tokens are chosen, and when a response ends.
///
/// The steps that change a distribution come in the order in which transformers applies them: `repetition_penalty`,
/// `min_new_tokens`, `temperature`, `top_k`, `top_p`, `min_p`. Keys that are absent in a file change nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingConfig {
    /// Most tokens of one response; the context's end may come first. [`super::Request::max_new_tokens`] overrides it.
    pub max_new_tokens: usize,
    /// Fewest tokens of one response: before that no stop id can be drawn and no stop string ends it.
    #[serde(default)]
    pub min_new_tokens: usize,
    /// Divides the logits; 0 takes the most probable token (greedy), and then `top_k`, `top_p` and `min_p` are not read.
    pub temperature: f64,
    /// Keep only the `top_k` most probable tokens, and those as probable as the last of them; 0 keeps all.
    #[serde(default)]
    pub top_k: usize,
    /// Keep the fewest most probable tokens whose probabilities reach `top_p`; 1 keeps all. Of equally probable tokens
    /// the lower id comes first. Holtzman et al. 2019, section 3.1: <https://arxiv.org/abs/1904.09751>.
    #[serde(default = "one")]
    pub top_p: f64,
    /// Keep tokens at least `min_p` times as probable as the most probable one; 0 keeps all.
    /// Nguyen et al. 2024: <https://arxiv.org/abs/2407.01082>.
    #[serde(default)]
    pub min_p: f64,
    /// Logits of tokens that are in the prompt or the response so far are divided by this when positive and multiplied
    /// when negative; 1 changes nothing. Keskar et al. 2019, section 4.1: <https://arxiv.org/abs/1909.05858>.
    #[serde(default = "one")]
    pub repetition_penalty: f64,
    /// Texts that end a response, also where tokens split them. Special tokens have no text here: they are stop ids.
    #[serde(default)]
    pub stop_strings: Vec<String>,
    /// Whether the stop string that ended a response stays at the end of its text.
    #[serde(default)]
    pub keep_stop_string: bool,
    /// Sequences that decode together; changes memory and speed.
    pub num_slots: usize,
}

fn one() -> f64 {
    1.0
}

impl SamplingConfig {
    /// Greedy decoding.
    pub fn greedy(max_new_tokens: usize, num_slots: usize) -> Self {
        Self::sampled(max_new_tokens, 0.0, num_slots)
    }

    /// Sampling from the whole distribution at `temperature`.
    pub fn sampled(max_new_tokens: usize, temperature: f64, num_slots: usize) -> Self {
        SamplingConfig {
            max_new_tokens,
            min_new_tokens: 0,
            temperature,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            stop_strings: Vec::new(),
            keep_stop_string: false,
            num_slots,
        }
    }

    /// Whether tokens are drawn from the model's own distribution at `temperature`: nothing truncated, nothing
    /// penalised, nothing masked. Then `log_probs` and `full_log_probs` of a response are the same numbers.
    pub fn is_untruncated(&self) -> bool {
        !self.truncates() && !self.reweighs()
    }

    /// Whether top-k, top-p or min-p leaves tokens out.
    pub(super) fn truncates(&self) -> bool {
        0.0 < self.temperature && (self.top_k != 0 || self.top_p < 1.0 || 0.0 < self.min_p)
    }

    /// Whether logits are changed before the temperature.
    pub(super) fn reweighs(&self) -> bool {
        self.repetition_penalty != 1.0 || 0 < self.min_new_tokens
    }

    /// What divides the logits: the temperature, 1 for greedy decoding.
    pub(super) fn divisor(&self) -> f64 {
        if self.temperature == 0.0 { 1.0 } else { self.temperature }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`Error::Argument`] with key, value and limit.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, name: &'static str, value: String, reason: &str| {
            if ok { Ok(()) } else { Err(Error::Argument { name, value, reason: reason.into() }) }
        };
        let Self { max_new_tokens, min_new_tokens, temperature, top_p, min_p, repetition_penalty, num_slots, .. } = self;
        check(0 < *max_new_tokens, "max_new_tokens", max_new_tokens.to_string(), "must be positive")?;
        check(
            min_new_tokens <= max_new_tokens,
            "min_new_tokens",
            min_new_tokens.to_string(),
            &format!("must not exceed max_new_tokens = {max_new_tokens}"),
        )?;
        check(0 < *num_slots, "num_slots", num_slots.to_string(), "must be positive")?;
        let is_temperature = temperature.is_finite() && 0.0 <= *temperature;
        check(is_temperature, "temperature", temperature.to_string(), "must be 0 or more")?;
        check(0.0 < *top_p && *top_p <= 1.0, "top_p", top_p.to_string(), "must be in (0, 1]")?;
        check((0.0..=1.0).contains(min_p), "min_p", min_p.to_string(), "must be in [0, 1]")?;
        let is_penalty = repetition_penalty.is_finite() && 0.0 < *repetition_penalty;
        check(is_penalty, "repetition_penalty", repetition_penalty.to_string(), "must be positive; 1 changes nothing")?;
        let has_empty = self.stop_strings.iter().any(String::is_empty);
        check(!has_empty, "stop_strings", format!("{:?}", self.stop_strings), "must not hold the empty string")
    }
}
