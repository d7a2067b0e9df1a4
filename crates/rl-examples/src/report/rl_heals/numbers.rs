//! Every number of the report, as it stands in `summary.json`.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rl_core::statistics::{Variance, excess_kurtosis, mean, skewness, standard_deviation};
use rl_eval::{Evaluation, Proportion, SplitResult};
use rl_track::metrics;
use serde::Serialize;

use super::claims::Claim;
use super::config::ReportConfig;
use super::inputs::{Inputs, RlRecord};
use super::judge::judge;
use super::weights::WeightNumbers;
use crate::report::records::{RunProvenance, model, result, total_seconds};

/// Split of the rows that trainers write about their own steps.
const TRAIN: &str = "train";
/// Steps at either end of a run over which its curves are averaged for the table.
const END_STEPS: usize = 5;

/// The report as data. Deterministic but for `timing`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Numbers {
    /// Heading.
    pub title: String,
    /// What is smaller than in the published experiment.
    pub scaled_down: Vec<String>,
    /// The policy at the end of fine-tuning, in distribution, on new tasks.
    pub headline: Headline,
    /// Each claim with its verdict.
    pub claims: Vec<Claim>,
    /// Every stage on every split with every decoding.
    pub stages: Vec<StageNumbers>,
    /// Fine-tuning by step.
    pub sft: SftNumbers,
    /// Reinforcement learning by start: `from_best`, `from_last`.
    pub rl: BTreeMap<String, RlNumbers>,
    /// The weights.
    pub weights: WeightNumbers,
    /// What is needed to repeat it.
    pub provenance: Provenance,
    /// Seconds spent in the steps of each training run.
    pub timing: BTreeMap<String, f64>,
}

/// The policy at the end of fine-tuning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Headline {
    /// First-attempt success in distribution.
    pub first_attempt: Proportion,
    /// Hands whose multiset of values stood in the training data.
    pub seen_in_training: Option<Proportion>,
    /// First-attempt success among the others.
    pub first_attempt_unseen: Option<Proportion>,
}

/// One stage on one split with one decoding.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StageNumbers {
    /// What the model is in the experiment.
    pub stage: String,
    /// Its name in the evaluation.
    pub model: String,
    /// Name of the split.
    pub split: String,
    /// Name of the decoding.
    pub decoding: String,
    /// Tasks solved at the first attempt.
    pub first_attempt: Proportion,
    /// Tasks solved within `max_attempts`.
    pub within_attempts: Proportion,
    /// Attempts per task.
    pub max_attempts: u32,
    /// Answers without a usable formula; none where the game has no outcome for what cannot be read.
    pub format_errors: Option<Proportion>,
    /// Mean reward of an episode.
    pub reward_mean: f64,
    /// Hands whose multiset of values stood in the training data.
    pub seen_in_training: Option<Proportion>,
    /// First-attempt success among the others.
    pub first_attempt_unseen: Option<Proportion>,
    /// Answers by outcome.
    pub outcomes: BTreeMap<String, u64>,
}

/// Fine-tuning by step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SftNumbers {
    /// Name of the checkpoint with the best out-of-distribution success.
    pub best: String,
    /// Its step.
    pub best_step: u64,
    /// Name of the last checkpoint.
    pub last: String,
    /// Each checkpoint by split, in the order of training; the model before fine-tuning stands at step 0.
    pub checkpoints: BTreeMap<String, Vec<CheckpointNumbers>>,
    /// `(step, loss)` on held-out data, nats per token, by the name of the data.
    pub held_out_loss: BTreeMap<String, Vec<(u64, f64)>>,
    /// `(step, loss)` on the training batches, nats per token.
    pub train_loss: Vec<(u64, f64)>,
}

/// One checkpoint on one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckpointNumbers {
    /// Training step.
    pub step: u64,
    /// Tasks solved at the first attempt.
    pub first_attempt: Proportion,
    /// Answers without a usable formula; none where the game has no outcome for what cannot be read.
    pub format_errors: Option<Proportion>,
}

/// One run of reinforcement learning.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RlNumbers {
    /// `(step, value)` by the name of the metric.
    pub curves: BTreeMap<String, Vec<(u64, f64)>>,
    /// Mean over the first steps, by the name of the metric.
    pub first_steps: BTreeMap<String, f64>,
    /// Mean over the last steps.
    pub last_steps: BTreeMap<String, f64>,
    /// The first rollout's raw advantages.
    pub advantages: AdvantageNumbers,
    /// The rewards of its episodes: what the advantages would be, up to discounting, if the value head said 0
    /// everywhere.
    pub rewards: AdvantageNumbers,
}

/// Shape of a distribution.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AdvantageNumbers {
    /// Numbers.
    pub count: usize,
    /// Their mean.
    pub mean: f64,
    /// Their biased standard deviation.
    pub std: f64,
    /// Third standardised moment; absent if all are equal.
    pub skewness: Option<f64>,
    /// Fourth standardised moment less 3; absent if all are equal.
    pub excess_kurtosis: Option<f64>,
    /// Share above 0.
    pub share_positive: f64,
}

/// What is needed to repeat the experiment. The code's revision stands in the manifests and on the page: two revisions
/// may well give the same numbers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    /// Hash of every text a prompt is made from.
    pub template_sha256: String,
    /// Seed of the tasks on which the best checkpoint was chosen.
    pub selection_seed: u64,
    /// Seed of the tasks of the stages.
    pub final_seed: u64,
    /// Seeds and inputs by run.
    pub runs: BTreeMap<String, RunProvenance>,
}

impl Numbers {
    /// Computes everything.
    ///
    /// # Errors
    /// A stage, split or decoding that the evaluations do not hold.
    pub fn new(config: &ReportConfig, inputs: &Inputs) -> Result<Self> {
        let sft = SftNumbers::new(config, inputs)?;
        let rl = BTreeMap::from([
            ("from_best".to_owned(), RlNumbers::new(&inputs.rl_from_best).context("RL from the best checkpoint")?),
            ("from_last".to_owned(), RlNumbers::new(&inputs.rl_from_last).context("RL from the last checkpoint")?),
        ]);
        let weights = WeightNumbers::new(&inputs.comparison);
        let last = model(&inputs.final_evaluation, &config.stages.last)?;
        let headline = result(last, &config.splits.id, &config.decoding)?;
        let seconds = [
            ("sft", &inputs.sft_metrics),
            ("rl_from_best", &inputs.rl_from_best.metrics),
            ("rl_from_last", &inputs.rl_from_last.metrics),
        ];
        Ok(Numbers {
            title: config.title.clone(),
            scaled_down: config.scaled_down.clone(),
            headline: Headline {
                first_attempt: headline.first_attempt,
                seen_in_training: headline.seen_in_training,
                first_attempt_unseen: headline.first_attempt_unseen,
            },
            claims: judge(config, inputs, &sft, &rl, &weights)?,
            stages: stages(config, inputs)?,
            sft,
            rl,
            weights,
            provenance: Provenance::new(inputs),
            timing: seconds.into_iter().map(|(name, rows)| (name.to_owned(), total_seconds(rows))).collect(),
        })
    }

    /// The result of a stage, by its name in the evaluation.
    pub fn stage(&self, model: &str, split: &str, decoding: &str) -> Option<&StageNumbers> {
        let is_it = |stage: &&StageNumbers| stage.model == model && stage.split == split && stage.decoding == decoding;
        self.stages.iter().find(is_it)
    }
}

fn stages(config: &ReportConfig, inputs: &Inputs) -> Result<Vec<StageNumbers>> {
    let mut stages = Vec::new();
    for (name, label) in config.stages.labelled() {
        for result in &model(&inputs.final_evaluation, name)?.results {
            stages.push(StageNumbers {
                stage: label.to_owned(),
                model: name.to_owned(),
                split: result.split.clone(),
                decoding: result.decoding.clone(),
                first_attempt: result.first_attempt,
                within_attempts: result.within_attempts,
                max_attempts: result.max_attempts,
                format_errors: format_errors(inputs, result)?,
                reward_mean: result.reward_mean,
                seen_in_training: result.seen_in_training,
                first_attempt_unseen: result.first_attempt_unseen,
                outcomes: result.outcomes.clone(),
            });
        }
    }
    Ok(stages)
}

/// Share of the answers that could not be read.
fn format_errors(inputs: &Inputs, result: &SplitResult) -> Result<Option<Proportion>> {
    Ok(inputs.game.format_error().map(|outcome| result.outcome_share(outcome)).transpose()?)
}

/// Checkpoints of the fine-tuning evaluation with their steps; `pretrained` is step 0.
pub(super) fn checkpoints<'a>(config: &ReportConfig, inputs: &'a Inputs) -> Vec<(u64, &'a Evaluation)> {
    let step = |evaluation: &Evaluation| {
        evaluation.step.or_else(|| (evaluation.name == config.stages.pretrained).then_some(0))
    };
    let mut found: Vec<(u64, &Evaluation)> = inputs
        .sft_evaluation
        .evaluations
        .iter()
        .filter_map(|evaluation| Some((step(evaluation)?, evaluation)))
        .collect();
    found.sort_by_key(|(step, _)| *step);
    found
}

impl SftNumbers {
    fn new(config: &ReportConfig, inputs: &Inputs) -> Result<Self> {
        let summary = &inputs.sft_evaluation;
        let checkpoints = checkpoints(config, inputs);
        let best = checkpoints.iter().find(|(_, evaluation)| evaluation.name == summary.best);
        let (best_step, _) = best.with_context(|| {
            format!(
                "the best model {:?} of the SFT evaluation is neither a checkpoint nor the pretrained one",
                summary.best
            )
        })?;
        let mut by_split = BTreeMap::new();
        for split in [&config.splits.id, &config.splits.ood] {
            let mut rows = Vec::new();
            for (step, evaluation) in &checkpoints {
                let result = result(evaluation, split, &config.decoding)?;
                let (first_attempt, format_errors) = (result.first_attempt, format_errors(inputs, result)?);
                rows.push(CheckpointNumbers { step: *step, first_attempt, format_errors });
            }
            by_split.insert(split.clone(), rows);
        }
        let rows = &inputs.sft_metrics;
        let loss_of = |split: &String| (split.clone(), metrics::series(rows, split, "loss"));
        let losses = [&config.splits.id, &config.splits.ood].into_iter().map(loss_of);
        Ok(SftNumbers {
            best: summary.best.clone(),
            best_step: *best_step,
            last: summary.last.clone(),
            checkpoints: by_split,
            held_out_loss: losses.filter(|(_, curve)| !curve.is_empty()).collect(),
            train_loss: metrics::series(rows, TRAIN, "loss"),
        })
    }
}

/// Metrics of reinforcement learning that are kept, where a run has them.
const RL_CURVES: [&str; 10] = [
    "reward_mean",
    "success_rate",
    "first_attempt_success_rate",
    "turns_per_episode",
    "policy_loss",
    "value_loss",
    "clip_fraction",
    "approx_kl",
    "grad_norm",
    "sampler_gap_max",
];

impl RlNumbers {
    fn new(record: &RlRecord) -> Result<Self> {
        let curves: BTreeMap<String, Vec<(u64, f64)>> = RL_CURVES
            .iter()
            .map(|name| ((*name).to_owned(), metrics::series(&record.metrics, TRAIN, name)))
            .filter(|(_, curve)| !curve.is_empty())
            .collect();
        let count = |curve: &[(u64, f64)]| END_STEPS.min(curve.len());
        Ok(RlNumbers {
            first_steps: means(&curves, |curve| &curve[..count(curve)])?,
            last_steps: means(&curves, |curve| &curve[curve.len() - count(curve)..])?,
            advantages: AdvantageNumbers::new(&record.advantages).context("advantages of the first rollout")?,
            rewards: AdvantageNumbers::new(&record.rewards).context("rewards of the first rollout")?,
            curves,
        })
    }
}

/// Mean of a part of each curve.
fn means(
    curves: &BTreeMap<String, Vec<(u64, f64)>>,
    part: impl Fn(&[(u64, f64)]) -> &[(u64, f64)],
) -> Result<BTreeMap<String, f64>> {
    let values = |curve: &[(u64, f64)]| part(curve).iter().map(|(_, value)| *value).collect::<Vec<_>>();
    curves.iter().map(|(name, curve)| Ok((name.clone(), mean(&values(curve))?))).collect()
}

impl AdvantageNumbers {
    /// Moments of `values`.
    ///
    /// # Errors
    /// No values, or one that is not finite.
    pub fn new(values: &[f64]) -> Result<Self> {
        Ok(AdvantageNumbers {
            count: values.len(),
            mean: mean(values)?,
            std: standard_deviation(values, Variance::Biased)?,
            // The mean was computed, so the only reason left is that all values are equal.
            skewness: skewness(values).ok(),
            excess_kurtosis: excess_kurtosis(values).ok(),
            share_positive: values.iter().filter(|value| **value > 0.0).count() as f64 / values.len() as f64,
        })
    }
}

impl Provenance {
    fn new(inputs: &Inputs) -> Self {
        let runs = inputs.manifests.iter().map(|(name, manifest)| (name.clone(), RunProvenance::new(manifest)));
        Provenance {
            template_sha256: inputs.template_sha256.clone(),
            selection_seed: inputs.selection_seed,
            final_seed: inputs.final_config.seed,
            runs: runs.collect(),
        }
    }
}
