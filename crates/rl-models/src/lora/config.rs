//! Settings of low-rank adapters, in PEFT's words where it has one.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Which projections get an adapter, and how it is scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoraConfig {
    /// Rows of `A` and columns of `B`.
    pub rank: i64,
    /// The update is scaled by `alpha / rank`, or `alpha / sqrt(rank)` with [`LoraConfig::use_rslora`].
    pub alpha: f64,
    /// Chance that an input feature of a token is dropped on its way into `A` while training; at least 0, below 1.
    #[serde(default)]
    pub dropout: f64,
    /// The projections.
    pub target_modules: TargetModules,
    /// Rank-stabilised scaling: Kalajdzievski 2023, <https://arxiv.org/abs/2312.03732>.
    #[serde(default)]
    pub use_rslora: bool,
}

/// Names of projections, as PEFT matches them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum TargetModules {
    /// One word: `all-linear`, every projection of every layer.
    Word(String),
    /// Each a whole name (`model.layers.0.self_attn.q_proj`) or its end after a dot (`q_proj`, `self_attn.q_proj`).
    Names(Vec<String>),
}

/// The one word that [`TargetModules::Word`] may hold.
const ALL_LINEAR: &str = "all-linear";

impl LoraConfig {
    /// Factor of `B A`.
    pub fn scaling(&self) -> f64 {
        let rank = self.rank as f64;
        self.alpha / if self.use_rslora { rank.sqrt() } else { rank }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`Error::Argument`] with the setting, its value and the limit.
    pub fn validate(&self) -> Result<()> {
        let ensure = |ok: bool, name: &'static str, value: String, reason: &str| match ok {
            true => Ok(()),
            false => Err(Error::Argument { name, value, reason: reason.to_owned() }),
        };
        ensure(0 < self.rank, "rank", self.rank.to_string(), "must be positive")?;
        let finite = self.alpha.is_finite() && 0.0 < self.alpha;
        ensure(finite, "alpha", self.alpha.to_string(), "must be positive and finite")?;
        let share = (0.0..1.0).contains(&self.dropout);
        ensure(share, "dropout", self.dropout.to_string(), "must be at least 0 and below 1")?;
        match &self.target_modules {
            TargetModules::Word(word) => {
                let reason = "the only word is `all-linear`; patterns are not supported, list the names";
                ensure(word == ALL_LINEAR, "target_modules", word.clone(), reason)
            }
            TargetModules::Names(names) => {
                ensure(!names.is_empty(), "target_modules", "empty".into(), "name a projection, such as `q_proj`")
            }
        }
    }

    /// Whether the projection of this full name gets an adapter.
    pub fn targets(&self, module: &str) -> bool {
        match &self.target_modules {
            TargetModules::Word(word) => word == ALL_LINEAR,
            TargetModules::Names(names) => names.iter().any(|name| is_end_of(name, module)),
        }
    }

    /// Listed names that fit none of `modules`.
    pub(crate) fn unmatched<'a>(&'a self, modules: &[String]) -> Vec<&'a str> {
        match &self.target_modules {
            TargetModules::Word(_) => Vec::new(),
            TargetModules::Names(names) => {
                let fits = |name: &str| modules.iter().any(|module| is_end_of(name, module));
                names.iter().map(String::as_str).filter(|name| !fits(name)).collect()
            }
        }
    }
}

fn is_end_of(name: &str, module: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(names: &[&str]) -> LoraConfig {
        let target_modules = TargetModules::Names(names.iter().map(|name| (*name).to_owned()).collect());
        LoraConfig { rank: 16, alpha: 8.0, dropout: 0.0, target_modules, use_rslora: false }
    }

    #[test]
    fn names_match_whole_or_after_a_dot() {
        let module = "model.layers.1.self_attn.q_proj";
        for (name, expected) in [
            ("q_proj", true),
            ("self_attn.q_proj", true),
            (module, true),
            ("proj", false),
            ("layers.11.self_attn.q_proj", false),
            ("k_proj", false),
        ] {
            assert_eq!(config(&[name]).targets(module), expected, "{name}");
        }
        assert_eq!(config(&["q_proj", "qproj"]).unmatched(&[module.to_owned()]), ["qproj"]);
    }

    #[test]
    fn scaling_divides_by_the_rank_or_its_root() {
        assert_eq!(config(&["q_proj"]).scaling(), 0.5);
        assert_eq!(LoraConfig { use_rslora: true, ..config(&["q_proj"]) }.scaling(), 2.0);
    }

    #[test]
    fn settings_that_cannot_be_used_are_named() {
        let good = config(&["q_proj"]);
        let word = |word: &str| TargetModules::Word(word.to_owned());
        for (bad, expected) in [
            (LoraConfig { rank: 0, ..good.clone() }, "`rank` is 0"),
            (LoraConfig { alpha: f64::NAN, ..good.clone() }, "`alpha` is NaN"),
            (LoraConfig { dropout: 1.0, ..good.clone() }, "`dropout` is 1"),
            (LoraConfig { target_modules: word(".*q_proj"), ..good.clone() }, "patterns are not supported"),
            (config(&[]), "`target_modules` is empty"),
        ] {
            let message = bad.validate().unwrap_err().to_string();
            assert!(message.contains(expected), "`{message}` should contain `{expected}`");
        }
        good.validate().unwrap();
        LoraConfig { target_modules: word("all-linear"), ..good }.validate().unwrap();
    }
}
