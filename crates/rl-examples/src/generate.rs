//! Settings of the `generate` program.

use std::path::{Path, PathBuf};

use anyhow::Result;
use rl_models::generate::SamplingConfig;
use serde::{Deserialize, Serialize};

/// What holds without a file.
const BUILT_IN: &str = r#"
model = "data/models/smollm2-135m"
prompts = []
device = "auto"
seed = 0
sampling = { max_new_tokens = 128, temperature = 0.7, top_k = 0, top_p = 0.95, num_slots = 8 }
"#;

/// Which model answers what, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GenerateConfig {
    /// Checkpoint folder.
    pub model: PathBuf,
    /// User messages, each a conversation of its own.
    pub prompts: Vec<String>,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: String,
    /// Seed of the sampling.
    pub seed: u64,
    /// How tokens are chosen.
    pub sampling: SamplingConfig,
}

impl GenerateConfig {
    /// Reads `file`, or the built-in settings, with `overrides` of the form `key=value`.
    ///
    /// Greedy decoding (temperature 0) does not truncate, so `top_p` is then not read.
    ///
    /// # Errors
    /// Names the file, line or key.
    pub fn load(file: Option<&Path>, overrides: &[String]) -> Result<Self> {
        Ok(match file {
            Some(file) => rl_track::config::load(file, overrides)?,
            None => rl_track::config::parse(BUILT_IN, "built-in settings", overrides)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_settings_take_overrides_and_refuse_unknown_keys() {
        let config = GenerateConfig::load(None, &["model=\"m\"".into(), "sampling.temperature=0.0".into()]).unwrap();
        assert_eq!((config.model, config.sampling.temperature), (PathBuf::from("m"), 0.0));
        let message = format!("{:#}", GenerateConfig::load(None, &["sampling.top=1".into()]).unwrap_err());
        assert!(message.contains("top_k") || message.contains("top_p"), "{message}");
    }
}
