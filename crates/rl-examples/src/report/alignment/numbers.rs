//! Every number of the report, as it stands in `summary.json`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rl_core::statistics::mean;
use rl_eval::{AnswerLength, PairedTest, Proportion, Summary, WinRate};
use rl_track::run::names;
use rl_track::{Manifest, MetricsRow};
use serde::Serialize;

use super::config::ReportConfig;
use crate::report::records;
use crate::report::runs::{RunNumbers, TRAIN, rows};

/// Curves of reinforcement learning that are kept, where a run has them.
const RL_CURVES: [&str; 9] = [
    "reward_mean",
    "reward/reward_model/mean",
    "success_rate",
    "ref_kl",
    "response_tokens_per_turn",
    "truncated_fraction",
    "zero_advantage_fraction",
    "grad_norm",
    "sampler_gap_max",
];

/// The report as data. Deterministic but for `timing`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Numbers {
    /// Heading.
    pub title: String,
    /// What to know of the experiment's size.
    pub notes: Vec<String>,
    /// Held-out tasks of the evaluation.
    pub num_tasks: u64,
    /// Every stage, in the order of the page.
    pub stages: Vec<StageNumbers>,
    /// Stages compared task by task.
    pub comparisons: Vec<Comparison>,
    /// Supervised fine-tuning: `train` and held-out losses by step, in nats per token.
    pub sft: RunNumbers,
    /// The reward model on training and held-out pairs.
    pub reward_model: PreferenceRun,
    /// Preference optimisation, by its implicit rewards.
    pub dpo: PreferenceRun,
    /// Reinforcement learning by label, in the order of the page.
    pub rl: Vec<(String, RunNumbers)>,
    /// Seeds and hashes of inputs by run.
    pub provenance: BTreeMap<String, records::RunProvenance>,
    /// Seconds spent in the steps of each training run.
    pub timing: BTreeMap<String, f64>,
}

/// One evaluated model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageNumbers {
    /// Its name in the evaluation.
    pub model: String,
    /// What it is called on the page.
    pub label: String,
    /// Instructions obeyed.
    pub obedience: Proportion,
    /// The same by kind of constraint.
    pub by_kind: BTreeMap<String, Proportion>,
    /// Answers by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Lengths of answers.
    pub answer_length: AnswerLength,
    /// Mean output of the reward model; absent when none scored the answers.
    pub model_reward: Option<f64>,
}

/// Two stages on the same tasks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// Obedience.
    pub test: PairedTest,
    /// Rewards of the reward model, when there are any.
    pub win_rate: Option<WinRate>,
}

/// A run on preference pairs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PreferenceRun {
    /// Its loss, accuracy and margin.
    pub run: RunNumbers,
    /// Held-out pairs that it ranks rightly at its end, by the name of the file.
    pub held_out: BTreeMap<String, PairAccuracy>,
}

/// How well pairs are ranked.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PairAccuracy {
    /// Pairs whose preferred answer has the higher reward.
    pub accuracy: Proportion,
    /// Mean difference of the two rewards.
    pub margin: f64,
}

impl Numbers {
    /// Computes everything.
    ///
    /// # Errors
    /// A record that cannot be read; a model, split or decoding that the evaluation does not hold.
    pub fn new(config: &ReportConfig, evaluation: &Summary) -> Result<Self> {
        let result = |model: &str| records::result(records::model(evaluation, model)?, &config.split, &config.decoding);
        let mut stages = Vec::new();
        for stage in &config.stages {
            let result = result(&stage.model)?;
            stages.push(StageNumbers {
                model: stage.model.clone(),
                label: stage.label.clone(),
                obedience: result.first_attempt,
                by_kind: result.by_kind.clone(),
                outcomes: result.outcomes.clone(),
                answer_length: result.answer_length,
                model_reward: result.model_rewards.as_deref().map(mean).transpose()?,
            });
        }
        let mut comparisons = Vec::new();
        for [before, after] in &config.comparisons {
            let pair = ((config.label(before), result(before)?), (config.label(after), result(after)?));
            let test = PairedTest::new(pair.0, pair.1)?;
            comparisons.push(Comparison { test, win_rate: WinRate::new(pair.0, pair.1)? });
        }
        let mut folders = vec![("sft", &config.sft), ("reward_model", &config.reward_model), ("dpo", &config.dpo)];
        folders.extend(config.rl.iter().map(|rl| (rl.label.as_str(), &rl.run)));
        let mut provenance = BTreeMap::new();
        let mut timing = BTreeMap::new();
        for (name, folder) in folders.iter().chain(&[("evaluation", &config.evaluation)]) {
            let manifest: Manifest = records::read_json(&folder.join(names::MANIFEST))?;
            provenance.insert((*name).to_owned(), records::RunProvenance::new(&manifest));
        }
        for (name, folder) in folders {
            timing.insert(name.to_owned(), records::total_seconds(&rows(folder)?));
        }
        let rl = config.rl.iter().map(|rl| Ok((rl.label.clone(), RunNumbers::new(&rows(&rl.run)?, &RL_CURVES))));
        Ok(Numbers {
            title: config.title.clone(),
            notes: config.notes.clone(),
            num_tasks: evaluation.num_tasks,
            stages,
            comparisons,
            sft: RunNumbers::new(&rows(&config.sft)?, &["loss"]),
            reward_model: PreferenceRun::new(&rows(&config.reward_model)?).context("the reward model")?,
            dpo: PreferenceRun::new(&rows(&config.dpo)?).context("preference optimisation")?,
            rl: rl.collect::<Result<_>>()?,
            provenance,
            timing,
        })
    }
}

impl PreferenceRun {
    fn new(rows: &[MetricsRow]) -> Result<Self> {
        let mut held_out = BTreeMap::new();
        // Later rows of a split stand in for earlier ones.
        for row in rows.iter().filter(|row| row.split != TRAIN) {
            let read = |name: &str| row.get(name).with_context(|| format!("{} has no `{name}`", row.split));
            let (accuracy, pairs) = (read("accuracy")?, read("num_pairs")?);
            let accuracy = Proportion::new((accuracy * pairs).round() as u64, pairs as u64)?;
            held_out.insert(row.split.clone(), PairAccuracy { accuracy, margin: read("margin")? });
        }
        Ok(PreferenceRun { run: RunNumbers::new(rows, &["loss", "accuracy", "margin"]), held_out })
    }
}
