//! Every number of the report, as it stands in `summary.json`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rl_eval::{AnswerLength, GainDifference, PairedTest, Proportion, SplitResult, Summary};
use rl_track::Manifest;
use rl_track::run::names;
use serde::Serialize;

use super::config::{ReportConfig, Split, Trained, Variant};
use crate::report::runs::{RunNumbers, rows};
use crate::report::{RunProvenance, records};

/// Classes of problems, as iGSM names them.
const ZERO: &str = "zero_answer";
const NONZERO: &str = "nonzero_answer";
/// The outcome of an answer without a number.
const NO_ANSWER: &str = "no_answer";
/// Curves of reinforcement learning that are kept, where a run has them.
const RL_CURVES: [&str; 8] = [
    "success_rate",
    "reward_mean",
    "zero_advantage_fraction",
    "response_tokens_per_turn",
    "truncated_fraction",
    "entropy",
    "ref_kl",
    "grad_norm",
];

/// The report as data. Deterministic but for `timing`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Numbers {
    /// Heading.
    pub title: String,
    /// What to know of the experiment's size.
    pub notes: Vec<String>,
    /// Problems per split.
    pub num_tasks: u64,
    /// Accuracies and gains, in the order of the page.
    pub splits: Vec<SplitNumbers>,
    /// Curves of training, in the order of the page.
    pub variants: Vec<VariantRuns>,
    /// Seeds and hashes of inputs by run.
    pub provenance: BTreeMap<String, RunProvenance>,
    /// Seconds spent in the steps of each training run.
    pub timing: BTreeMap<String, f64>,
}

/// All models on one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SplitNumbers {
    /// Its name in the evaluation.
    pub split: String,
    /// What it is called on the page.
    pub label: String,
    /// What answering 0 to every problem would score; absent when no problem has the answer 0.
    pub always_zero: Option<Proportion>,
    /// The model before fine-tuning.
    pub base: ModelNumbers,
    /// One per kind of fine-tuning data.
    pub variants: Vec<VariantNumbers>,
}

/// A kind of fine-tuning data on one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantNumbers {
    /// What it is called on the page.
    pub label: String,
    /// After supervised fine-tuning.
    pub sft: ModelNumbers,
    /// After reinforcement learning.
    pub rl: ModelNumbers,
    /// From the one to the other, problem by problem.
    pub gain: PairedTest,
    /// This gain less that of the first kind of data; absent for the first itself.
    pub beyond_first: Option<GainDifference>,
}

/// A model on one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelNumbers {
    /// Problems answered rightly.
    pub accuracy: Proportion,
    /// Those among the problems whose answer is not 0; absent when there are none.
    pub nonzero_accuracy: Option<Proportion>,
    /// Problems answered rightly in every step, by the step verifier; absent from evaluations made without it.
    pub process_accuracy: Option<Proportion>,
    /// Answers without a number in the demanded place.
    pub no_answer: Proportion,
    /// Lengths of answers.
    pub answer_length: AnswerLength,
}

/// The training runs of a kind of data.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VariantRuns {
    /// What it is called on the page.
    pub label: String,
    /// Supervised fine-tuning: its loss in nats per token.
    pub sft: RunNumbers,
    /// Reinforcement learning.
    pub rl: RunNumbers,
}

impl Numbers {
    /// Computes everything.
    ///
    /// # Errors
    /// A record that cannot be read; a model, split or decoding that the evaluation does not hold.
    pub fn new(config: &ReportConfig, evaluation: &Summary) -> Result<Self> {
        let splits = config.splits.iter().map(|split| SplitNumbers::new(config, split, evaluation));
        let splits = splits.collect::<Result<_>>()?;
        let mut variants = Vec::new();
        let mut provenance = BTreeMap::new();
        let mut timing = BTreeMap::new();
        let mut note = |name: String, folder: &Path| -> Result<()> {
            let manifest: Manifest = records::read_json(&folder.join(names::MANIFEST))?;
            provenance.insert(name, RunProvenance::new(&manifest));
            Ok(())
        };
        note("evaluation".into(), &config.evaluation)?;
        for Variant { label, sft, rl } in &config.variants {
            let (sft_rows, rl_rows) = (rows(&sft.run)?, rows(&rl.run)?);
            for (stage, run, rows) in [("SFT", &sft.run, &sft_rows), ("RL", &rl.run, &rl_rows)] {
                let name = format!("{label}, {stage}");
                note(name.clone(), run)?;
                timing.insert(name, records::total_seconds(rows));
            }
            variants.push(VariantRuns {
                label: label.clone(),
                sft: RunNumbers::new(&sft_rows, &["loss"]),
                rl: RunNumbers::new(&rl_rows, &RL_CURVES),
            });
        }
        Ok(Numbers {
            title: config.title.clone(),
            notes: config.notes.clone(),
            num_tasks: evaluation.num_tasks,
            splits,
            variants,
            provenance,
            timing,
        })
    }
}

impl SplitNumbers {
    fn new<'a>(config: &'a ReportConfig, split: &Split, evaluation: &'a Summary) -> Result<Self> {
        let result = |model: &str| records::result(records::model(evaluation, model)?, &split.name, &config.decoding);
        let named = |trained: &'a Trained| -> Result<_> { Ok((trained.model.as_str(), result(&trained.model)?)) };
        let mut first = None;
        let mut variants = Vec::new();
        for Variant { label, sft, rl } in &config.variants {
            let [sft, rl] = [named(sft)?, named(rl)?];
            variants.push(VariantNumbers {
                label: label.clone(),
                sft: ModelNumbers::new(sft.1)?,
                rl: ModelNumbers::new(rl.1)?,
                gain: PairedTest::new(sft, rl)?,
                beyond_first: first.map(|first| GainDifference::new(first, [sft, rl])).transpose()?,
            });
            first = first.or(Some([sft, rl]));
        }
        let base = result(&config.base)?;
        let zeros = base.by_kind.get(ZERO).map(|kind| Proportion::new(kind.trials, base.first_attempt.trials));
        Ok(SplitNumbers {
            split: split.name.clone(),
            label: split.label.clone(),
            always_zero: zeros.transpose()?,
            base: ModelNumbers::new(base)?,
            variants,
        })
    }
}

impl ModelNumbers {
    fn new(result: &SplitResult) -> Result<Self> {
        Ok(ModelNumbers {
            accuracy: result.first_attempt,
            nonzero_accuracy: result.by_kind.get(NONZERO).copied(),
            process_accuracy: result.process_accuracy,
            no_answer: result.outcome_share(NO_ANSWER)?,
            answer_length: result.answer_length,
        })
    }
}
