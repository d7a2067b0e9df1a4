//! The records a report is made from, read and checked before anything is computed.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rl_analysis::Comparison;
use rl_eval::{EvaluationConfig, Summary, read_summary};
use rl_track::run::names;
use rl_track::{Manifest, MetricsRow, metrics};
use serde::Deserialize;

use super::config::ReportConfig;
use super::game::Game;
use crate::report::records::read_json;

/// Everything read from disk.
#[derive(Debug, Clone)]
pub struct Inputs {
    /// All checkpoints of fine-tuning.
    pub sft_evaluation: Summary,
    /// The stages.
    pub final_evaluation: Summary,
    /// Rows of the fine-tuning run.
    pub sft_metrics: Vec<MetricsRow>,
    /// Reinforcement learning from the best checkpoint.
    pub rl_from_best: RlRecord,
    /// Reinforcement learning from the last checkpoint.
    pub rl_from_last: RlRecord,
    /// Weights of the best and of the last checkpoint, and after reinforcement learning from the last.
    pub comparison: Comparison,
    /// Settings of the final evaluation.
    pub final_config: EvaluationConfig,
    /// The game of the first split; the splits differ in its rule alone.
    pub game: Game,
    /// Seed of the tasks on which the best checkpoint was chosen.
    pub selection_seed: u64,
    /// Hash of every text a prompt is made from.
    pub template_sha256: String,
    /// Manifests by the name of the run.
    pub manifests: BTreeMap<String, Manifest>,
}

/// What one run of reinforcement learning left.
#[derive(Debug, Clone)]
pub struct RlRecord {
    /// Rows of the run.
    pub metrics: Vec<MetricsRow>,
    /// Raw advantages of the first rollout, one per turn or episode.
    pub advantages: Vec<f64>,
    /// Rewards of its episodes.
    pub rewards: Vec<f64>,
}

/// `advantages/step-000001.json` of a run.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AdvantageFile {
    #[serde(rename = "step")]
    _step: u64,
    advantages: Vec<f64>,
    rewards: Vec<f64>,
}

impl Inputs {
    /// Reads all that `config` names.
    ///
    /// # Errors
    /// The first file that is missing or not what it should be.
    pub fn read(config: &ReportConfig) -> Result<Self> {
        let final_config = evaluation_config(&config.final_evaluation)?;
        let game = match final_config.splits.first().and_then(|split| Game::new(&split.environment)) {
            Some(game) => game,
            None => anyhow::bail!("{} is no evaluation of GeneralPoints or V-IRL", config.final_evaluation.display()),
        };
        let runs = [
            ("sft", &config.sft),
            ("sft_evaluation", &config.sft_evaluation),
            ("final_evaluation", &config.final_evaluation),
            ("rl_from_best", &config.rl.from_best),
            ("rl_from_last", &config.rl.from_last),
        ];
        let manifests = runs.into_iter().map(|(name, folder)| Ok((name.to_owned(), manifest(folder)?)));
        Ok(Inputs {
            sft_evaluation: read_summary(&config.sft_evaluation)?,
            final_evaluation: read_summary(&config.final_evaluation)?,
            sft_metrics: metrics::read(&config.sft.join(names::METRICS))?,
            rl_from_best: RlRecord::read(&config.rl.from_best)?,
            rl_from_last: RlRecord::read(&config.rl.from_last)?,
            comparison: Comparison::read_json(&config.comparison)?,
            selection_seed: evaluation_config(&config.sft_evaluation)?.seed,
            template_sha256: game.template_sha256(),
            game,
            final_config,
            manifests: manifests.collect::<Result<_>>()?,
        })
    }
}

impl RlRecord {
    fn read(run: &Path) -> Result<Self> {
        let path = run.join("advantages/step-000001.json");
        let file: AdvantageFile = read_json(&path)?;
        Ok(RlRecord {
            metrics: metrics::read(&run.join(names::METRICS))?,
            advantages: file.advantages,
            rewards: file.rewards,
        })
    }
}

fn evaluation_config(folder: &Path) -> Result<EvaluationConfig> {
    Ok(rl_track::config::load(&folder.join(names::CONFIG), &[])?)
}

fn manifest(folder: &Path) -> Result<Manifest> {
    read_json(&folder.join(names::MANIFEST))
}
