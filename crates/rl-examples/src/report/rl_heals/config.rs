//! What a report's TOML file holds.

use std::path::PathBuf;

use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

/// Where the records of the experiment lie, and what its parts are called.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReportConfig {
    /// Folder that `report.html` and `summary.json` are written to.
    pub run: PathBuf,
    /// Heading of the page.
    pub title: String,
    /// What is smaller than in the published experiment, one sentence each.
    pub scaled_down: Vec<String>,
    /// Run folder of the supervised fine-tuning.
    pub sft: PathBuf,
    /// Folder of the evaluation of every checkpoint of `sft`.
    pub sft_evaluation: PathBuf,
    /// Folder of the evaluation of the stages, on hands that chose no checkpoint.
    pub final_evaluation: PathBuf,
    /// Run folders of the reinforcement learning.
    pub rl: RlRuns,
    /// The file `comparison.json` of the weights.
    pub comparison: PathBuf,
    /// Names of the models in the final evaluation.
    pub stages: Stages,
    /// Names of the splits in both evaluations.
    pub splits: Splits,
    /// Name of the decoding that curves, bars and tests are about; the headline table shows all.
    pub decoding: String,
}

/// The two starts of reinforcement learning.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RlRuns {
    /// From the checkpoint with the best out-of-distribution success.
    pub from_best: PathBuf,
    /// From the last checkpoint.
    pub from_last: PathBuf,
}

/// Names of models. `pretrained` is looked up in both evaluations, the others in the final one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stages {
    /// Before fine-tuning; stands at step 0 of its curves.
    pub pretrained: String,
    /// The fine-tuning checkpoint with the best out-of-distribution success.
    pub best: String,
    /// The last fine-tuning checkpoint.
    pub last: String,
    /// After reinforcement learning from `best`.
    pub rl_from_best: String,
    /// After reinforcement learning from `last`.
    pub rl_from_last: String,
}

impl Stages {
    /// Names and labels, in the order of the experiment.
    pub fn labelled(&self) -> [(&str, &'static str); 5] {
        [
            (&self.pretrained, "before SFT"),
            (&self.best, "best OOD checkpoint"),
            (&self.last, "end of SFT"),
            (&self.rl_from_best, "RL from best OOD"),
            (&self.rl_from_last, "RL from end"),
        ]
    }
}

/// Names of the two distributions.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splits {
    /// The rule that was trained.
    pub id: String,
    /// The other rule.
    pub ood: String,
}

impl ReportConfig {
    /// Checks what types cannot.
    ///
    /// # Errors
    /// The key, its value and its limit.
    pub fn validate(&self) -> Result<(), ConfigError> {
        ensure(!self.title.trim().is_empty(), "title", "\"\"", "give the page a heading")?;
        let blank = self.scaled_down.iter().position(|sentence| sentence.trim().is_empty());
        let at = blank.map_or(String::new(), |index| format!(".{index}"));
        ensure(blank.is_none(), format!("scaled_down{at}"), "\"\"", "must be a sentence")?;
        ensure(self.splits.id != self.splits.ood, "splits.ood", &self.splits.ood, "must differ from splits.id")?;
        ensure(
            self.rl.from_best != self.rl.from_last,
            "rl.from_last",
            self.rl.from_last.display(),
            "must differ from rl.from_best",
        )
    }
}
