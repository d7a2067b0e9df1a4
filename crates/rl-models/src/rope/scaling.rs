//! Stretching rotary frequencies past the context that a model was first trained on, as `config.json` describes it.

use std::f64::consts::TAU;

use serde_json::{Map, Value, json};

use crate::config::{config_error, ensure};
use crate::error::Result;

/// The rotary type of a checkpoint (`rope_scaling`, or `rope_parameters` in newer files) with its constants.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RopeScaling {
    /// Frequencies as they are.
    #[default]
    Default,
    /// Every frequency divided by `factor`. Chen et al. 2023: <https://arxiv.org/abs/2306.15595>.
    Linear {
        /// The context grows this many times.
        factor: f64,
    },
    /// Llama 3.1: long wavelengths divided by `factor`, short ones kept, a smooth passage between them.
    /// Grattafiori et al. 2024, section 3.4.2 and the published model code: <https://arxiv.org/abs/2407.21783>.
    Llama3 {
        /// Divides the frequencies whose wavelength exceeds `original_max_position_embeddings / low_freq_factor`.
        factor: f64,
        /// Where the passage begins, in turns over the original context.
        low_freq_factor: f64,
        /// Where it ends: frequencies with more turns over the original context are kept.
        high_freq_factor: f64,
        /// The original context in tokens.
        original_max_position_embeddings: i64,
    },
}

const SUPPORTED: &str = "`default`, `linear` and `llama3` are supported";
/// The keys under which files state the scaling; transformers 5 writes the second and reads both.
const KEYS: [&str; 2] = ["rope_scaling", "rope_parameters"];

impl RopeScaling {
    /// The scaled frequency, in radians per token.
    pub(super) fn scale(self, frequency: f64) -> f64 {
        match self {
            RopeScaling::Default => frequency,
            RopeScaling::Linear { factor } => frequency / factor,
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                let turns = original_max_position_embeddings as f64 * frequency / TAU; // over the original context
                let kept = ((turns - low_freq_factor) / (high_freq_factor - low_freq_factor)).clamp(0.0, 1.0);
                (1.0 - kept) * frequency / factor + kept * frequency
            }
        }
    }

    pub(crate) fn validate(self) -> Result<()> {
        let key = KEYS[0];
        match self {
            RopeScaling::Default => Ok(()),
            RopeScaling::Linear { factor } => check_factor(factor),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                check_factor(factor)?;
                let ordered =
                    0.0 < low_freq_factor && low_freq_factor < high_freq_factor && high_freq_factor.is_finite();
                let factors = format!("low_freq_factor {low_freq_factor}, high_freq_factor {high_freq_factor}");
                ensure(ordered, key, factors, "both must be positive and the first the smaller")?;
                let original = format!("original_max_position_embeddings {original_max_position_embeddings}");
                ensure(0 < original_max_position_embeddings, key, original, "must be positive")
            }
        }
    }

    fn to_json(self) -> Value {
        match self {
            RopeScaling::Default => Value::Null,
            RopeScaling::Linear { factor } => json!({ "rope_type": "linear", "factor": factor }),
            RopeScaling::Llama3 { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } => {
                json!({
                    "rope_type": "llama3", "factor": factor, "low_freq_factor": low_freq_factor,
                    "high_freq_factor": high_freq_factor,
                    "original_max_position_embeddings": original_max_position_embeddings,
                })
            }
        }
    }
}

/// The scaling that the fields of a `config.json` describe.
///
/// # Errors
/// [`crate::Error::Config`] for a type that is not supported, a constant that is missing or no number, or two
/// descriptions that contradict each other.
pub(crate) fn read_scaling(fields: &Map<String, Value>, max_position_embeddings: i64) -> Result<RopeScaling> {
    let mut found: Option<(&str, RopeScaling)> = None;
    for key in KEYS {
        let Some(value) = fields.get(key).filter(|value| !value.is_null()) else { continue };
        let scaling = read_one(key, value, fields, max_position_embeddings)?;
        if let Some((other, first)) = found {
            ensure(first == scaling, key, value, &format!("contradicts {other}"))?;
        }
        found = Some((key, scaling));
    }
    Ok(found.map_or(RopeScaling::Default, |(_, scaling)| scaling))
}

/// Makes the fields of a `config.json` say `scaling` and `rope_theta`; what says so already stays as it is.
pub(crate) fn write_scaling(
    fields: &mut Map<String, Value>,
    scaling: RopeScaling,
    max_position_embeddings: i64,
    rope_theta: f64,
) {
    if read_scaling(fields, max_position_embeddings).ok() != Some(scaling) {
        fields.shift_remove(KEYS[1]);
        fields.insert(KEYS[0].to_owned(), scaling.to_json());
    }
    for key in KEYS {
        // Some files say the base here too; it must follow a change of the field.
        if let Some(theta) = fields.get_mut(key).and_then(|parameters| parameters.get_mut("rope_theta")) {
            *theta = rope_theta.into();
        }
    }
}

fn read_one(
    key: &'static str,
    value: &Value,
    fields: &Map<String, Value>,
    max_position_embeddings: i64,
) -> Result<RopeScaling> {
    let refuse = |reason: String| Err(config_error(key, value, reason));
    let Some(object) = value.as_object() else { return refuse("must be an object or null".to_owned()) };
    if object.values().any(Value::is_object) {
        return refuse("rotary parameters per kind of layer are not supported; one set for all layers is".to_owned());
    }
    if object.get("partial_rotary_factor").is_some_and(|part| !part.is_null() && part.as_f64() != Some(1.0)) {
        return refuse("only whole heads are rotated: partial_rotary_factor must be 1".to_owned());
    }
    let number = |name: &str| match object.get(name).and_then(Value::as_f64) {
        Some(number) => Ok(number),
        None => Err(config_error(key, value, format!("must state `{name}`, a number"))),
    };
    let kind = match object.get("rope_type").or_else(|| object.get("type")) {
        None | Some(Value::Null) => "default",
        Some(kind) => kind.as_str().unwrap_or("not a string"),
    };
    match kind {
        "default" => {
            let factor = object.get("factor").filter(|factor| !factor.is_null());
            if factor.is_some_and(|factor| factor.as_f64() != Some(1.0)) {
                return refuse(format!("has a factor but no type that uses it; {SUPPORTED}"));
            }
            Ok(RopeScaling::Default)
        }
        "linear" => Ok(RopeScaling::Linear { factor: number("factor")? }),
        "llama3" => Ok(RopeScaling::Llama3 {
            factor: number("factor")?,
            low_freq_factor: number("low_freq_factor")?,
            high_freq_factor: number("high_freq_factor")?,
            original_max_position_embeddings: original_context(key, object, fields)?.unwrap_or(max_position_embeddings),
        }),
        other => refuse(format!("the rotary type `{other}` is not supported; {SUPPORTED}")),
    }
}

/// The original context; a field of its own comes first, as in transformers.
fn original_context(
    key: &'static str,
    object: &Map<String, Value>,
    fields: &Map<String, Value>,
) -> Result<Option<i64>> {
    let name = "original_max_position_embeddings";
    match fields.get(name).or_else(|| object.get(name)) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_i64() {
            Some(length) => Ok(Some(length)),
            None => Err(config_error(key, value, format!("`{name}` must be a whole number of tokens"))),
        },
    }
}

fn check_factor(factor: f64) -> Result<()> {
    ensure(factor.is_finite() && 1.0 <= factor, KEYS[0], format!("factor {factor}"), "must be 1 or more")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half way between the two factors half of the frequency is kept: `(1/8 + 1) / 2` of it.
    #[test]
    fn llama3_keeps_short_waves_and_stretches_long_ones() {
        let scaling = RopeScaling::Llama3 {
            factor: 8.0,
            low_freq_factor: 1.0,
            high_freq_factor: 4.0,
            original_max_position_embeddings: 1000,
        };
        let frequency = |turns: f64| turns * TAU / 1000.0;
        for (turns, share) in [(0.1, 0.125), (1.0, 0.125), (2.5, 0.5625), (4.0, 1.0), (50.0, 1.0)] {
            let scaled = scaling.scale(frequency(turns)) / frequency(turns);
            assert!((scaled - share).abs() < 1e-12, "{turns} turns: {scaled}, not {share}");
        }
        assert_eq!(RopeScaling::Linear { factor: 4.0 }.scale(0.5), 0.125);
        assert_eq!(RopeScaling::Default.scale(0.5), 0.5);
    }
}
