//! How far the sampler's log-probabilities are from those a trainer computes again.

use tch::Tensor;

use super::request::Response;
use crate::decoder::Decoder;
use crate::log_probs::token_log_probs;
use crate::{Error, Result};

/// Absolute differences of log-probabilities, in nats.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Gap {
    /// The greatest.
    pub max: f64,
    /// Their mean.
    pub mean: f64,
    /// How many tokens were compared.
    pub num_tokens: usize,
}

impl Gap {
    /// The gap over the tokens of both.
    #[must_use]
    pub fn join(self, other: Gap) -> Gap {
        let num_tokens = self.num_tokens + other.num_tokens;
        let sum = self.mean * self.num_tokens as f64 + other.mean * other.num_tokens as f64;
        Gap { max: self.max.max(other.max), mean: sum / num_tokens.max(1) as f64, num_tokens }
    }
}

/// Compares [`Response::full_log_probs`] with [`token_log_probs`] of the packed forward pass over prompt and response.
///
/// `temperature` is that of the sampling; 0 (greedy decoding) reports log-probabilities at temperature 1.
///
/// # Errors
/// As [`Decoder::pack`], and [`Error::NonFinite`] where a log-probability on either side is not a number.
pub fn log_prob_gap(decoder: &Decoder, prompt_ids: &[i64], response: &Response, temperature: f64) -> Result<Gap> {
    let num_tokens = response.ids.len();
    if num_tokens == 0 {
        return Ok(Gap::default());
    }
    let row = [prompt_ids, &response.ids].concat();
    let recomputed = tch::no_grad(|| -> Result<Vec<f32>> {
        // The last token is predicted, never read.
        let packed = decoder.pack(&[&row[..row.len() - 1]])?;
        let hidden = decoder.hidden_states(&packed)?;
        let first = prompt_ids.len() as i64 - 1;
        let rows: Vec<i64> = (first..first + num_tokens as i64).collect();
        let on_device = |values: &[i64]| Tensor::from_slice(values).f_to_device(decoder.device());
        let temperature = if temperature == 0.0 { 1.0 } else { temperature };
        let log_probs =
            token_log_probs(decoder, &hidden, &on_device(&rows)?, &on_device(&response.ids)?, temperature)?;
        Ok(Vec::<f32>::try_from(log_probs.f_to_device(tch::Device::Cpu)?)?)
    })?;
    let differences = response.full_log_probs.iter().zip(&recomputed).map(|(a, b)| f64::from((a - b).abs()));
    let (mut max, mut sum) = (0.0_f64, 0.0);
    for difference in differences {
        if !difference.is_finite() {
            return Err(Error::NonFinite { what: "log-probabilities of a response".into() });
        }
        max = max.max(difference);
        sum += difference;
    }
    Ok(Gap { max, mean: sum / num_tokens as f64, num_tokens })
}
