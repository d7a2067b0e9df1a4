//! Scaled rotary embeddings: from keys and factors of a file to `rope_scaling` of a configuration.

use serde_json::{Value, json};

use super::metadata::key_error;
use super::reader::Gguf;
use crate::error::Result;

/// Divisors of the rotary frequencies, `[head_dim / 2]`: how files store the type `llama3`.
pub(super) const FREQUENCIES: &str = "rope_freqs.weight";

/// Largest relative difference between stored and computed divisors: writers compute them in f32.
const TOLERANCE: f64 = 1e-4;
/// Wavelengths, as parts of the original context, between which Llama 3.1 and later blend.
const LOW_FREQ_FACTOR: f64 = 1.0;
const HIGH_FREQ_FACTOR: f64 = 4.0;

/// The `rope_scaling` object; null without scaling. `key` puts the architecture before a key.
///
/// # Errors
/// [`crate::Error::GgufKey`] for a type that is not supported, or divisors that no `llama3` scaling gives.
pub(super) fn scaling(
    gguf: &Gguf,
    key: &dyn Fn(&str) -> String,
    rope_theta: f64,
    head_dim: Option<i64>,
) -> Result<Value> {
    let metadata = &gguf.metadata;
    let (type_key, factor_key) = (key("rope.scaling.type"), key("rope.scaling.factor"));
    let kind = metadata.string(&type_key)?;
    let factor = match metadata.float(&factor_key)? {
        Some(factor) => Some(factor),
        None => metadata.float(&key("rope.scale_linear"))?,
    };
    let original = metadata.integer(&key("rope.scaling.original_context_length"))?;
    let divisors = match gguf.tensor(FREQUENCIES) {
        None => None,
        Some(info) => Some(gguf.read(info)?),
    };
    let factor = factor.filter(|&factor| factor != 0.0 && factor != 1.0);
    match (kind, factor, divisors) {
        (None | Some("none"), None, Some(divisors)) => llama3(&divisors, rope_theta, head_dim, original),
        (_, _, Some(_)) => {
            Err(key_error(FREQUENCIES, "stands beside another scaling of the rotary embeddings".to_owned()))
        }
        (Some("none"), _, None) | (None | Some("linear"), None, None) => Ok(Value::Null),
        // The format's default type is linear.
        (None | Some("linear"), Some(factor), None) => Ok(json!({ "rope_type": "linear", "factor": factor })),
        (Some(kind), _, None) => {
            Err(key_error(&type_key, format!("is `{kind}`; only `linear` and Llama 3's scaling are supported")))
        }
    }
}

/// The `llama3` scaling whose divisors these are.
///
/// The longest wavelength is divided by `factor`. The original context is the one the file states, or the power of two
/// that reproduces every divisor; Llama 3.1 and 3.2 have 8192.
fn llama3(divisors: &[f32], rope_theta: f64, head_dim: Option<i64>, original: Option<i64>) -> Result<Value> {
    let refuse = |reason: String| Err(key_error(FREQUENCIES, reason));
    let half = head_dim.and_then(|head_dim| usize::try_from(head_dim / 2).ok()).unwrap_or(0);
    if divisors.len() != half || half == 0 {
        return refuse(format!("has {} numbers, must have {half}, one per rotated pair", divisors.len()));
    }
    let factor = f64::from(divisors[half - 1]);
    if factor == 1.0 && divisors.iter().all(|&d| d == 1.0) {
        return Ok(Value::Null);
    }
    let candidates = match original {
        Some(original) => vec![original],
        None => [8192].into_iter().chain((8..=20).map(|power| 1 << power)).collect(),
    };
    let fits = |context: &i64| {
        let computed = (0..half).map(|pair| {
            let wavelength = std::f64::consts::TAU * rope_theta.powf(2.0 * pair as f64 / (2 * half) as f64);
            divisor(wavelength, *context as f64, factor)
        });
        computed.zip(divisors).all(|(computed, &stored)| (computed / f64::from(stored) - 1.0).abs() <= TOLERANCE)
    };
    match candidates.iter().find(|context| fits(context)) {
        Some(context) => Ok(json!({
            "rope_type": "llama3", "factor": factor, "low_freq_factor": LOW_FREQ_FACTOR,
            "high_freq_factor": HIGH_FREQ_FACTOR, "original_max_position_embeddings": context,
        })),
        None => refuse(format!("holds divisors up to {factor} that Llama 3's scaling does not give")),
    }
}

/// What Llama 3.1 divides a frequency by: 1 for short wavelengths, `factor` for long ones, a blend between.
fn divisor(wavelength: f64, context: f64, factor: f64) -> f64 {
    if wavelength < context / HIGH_FREQ_FACTOR {
        1.0
    } else if context / LOW_FREQ_FACTOR < wavelength {
        factor
    } else {
        let smooth = (context / wavelength - LOW_FREQ_FACTOR) / (HIGH_FREQ_FACTOR - LOW_FREQ_FACTOR);
        1.0 / ((1.0 - smooth) / factor + smooth)
    }
}
