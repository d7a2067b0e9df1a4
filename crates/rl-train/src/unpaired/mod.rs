//! Preference optimisation on single answers with verdicts: KTO and its relatives.

pub(crate) mod answer;

use std::path::Path;

use rl_core::preference_loss::{KtoBaseline, UnpairedLoss, UnpairedObjective, UnpairedOutput, unpaired_loss};
use rl_core::random::RandomKey;
use rl_core::statistics::RunningStatistics;
use rl_data::{Cursor, Renderer, UnpairedRecord};
use rl_track::{Manifest, MetricsRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use crate::batch::{MicroBatch, TrainingRow, backward_from, micro_batches, to_host};
use crate::checkpoint::{OPTIMIZER_FILE, Saved};
use crate::config::UnpairedConfig;
use crate::data::{Loaded, input_datasets, load, select_rows, under};
use crate::digest::Digest;
use crate::examples::{Examples, TrainingSet};
use crate::learner::{Learner, LearnerConfig, LearnerState};
use crate::policy::Policy;
use crate::preference::reference::FrozenReference;
use crate::sft::{input_model, save_averages, to_state};
use crate::trainer::{Method, StepReport, Trainer};
use crate::{Error, Result};

pub use answer::TrainingAnswer;
use answer::{check_both, training_answer, units};

/// What an evaluation gives of each held-out file that holds answers of both verdicts.
pub(crate) const MEASURED: [&str; 8] = [
    "loss",
    "rewards_desirable",
    "log_probs_desirable",
    "rewards_undesirable",
    "log_probs_undesirable",
    "margin",
    "kl_desirable",
    "kl_undesirable",
];

/// A run of preference optimisation on single answers.
pub type UnpairedTrainer = Trainer<Unpaired>;

/// Preference optimisation on single answers.
pub struct Unpaired {
    config: UnpairedConfig,
    policy: Policy,
    reference: FrozenReference,
    learner: Learner,
    /// In units of answers that stay together: one, or two for even sampling.
    examples: Examples<Vec<TrainingAnswer>>,
    held_out: Vec<(String, Vec<TrainingAnswer>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct UnpairedState {
    cursor: Cursor,
    learner: LearnerState,
}

impl Method for Unpaired {
    type Config = UnpairedConfig;
    const NAME: &'static str = "unpaired preference";

    fn manifest(config: &UnpairedConfig) -> Result<Manifest> {
        let manifest = Manifest::new().seed("seed", config.seed);
        let mut manifest = input_datasets(manifest, &config.data, &config.held_out)?;
        manifest = input_model(manifest, "model", config.model.path.as_deref())?;
        input_model(manifest, "reference", config.reference.as_deref())
    }

    fn build(config: &UnpairedConfig, device: Device, resume: Option<&Saved>) -> Result<Self> {
        let policy = load_policy(config, resume, device)?;
        let (answers, held_out) = load_answers(config, &policy.chat.renderer)?.into_parts();
        Self::assemble(config, policy, answers, held_out, device, resume)
    }

    fn max_steps(&self) -> u64 {
        self.examples.num_steps(units_per_step(&self.config), &self.config.training)
    }

    /// One optimizer step over `batch_size` answers.
    fn step(&mut self, step: u64) -> Result<StepReport> {
        let Self { config, policy, reference, learner, examples, .. } = self;
        let answers: Vec<&TrainingAnswer> = examples.next(units_per_step(config)).into_iter().flatten().collect();
        let rows: Vec<&TrainingRow> = answers.iter().map(|answer| &answer.row).collect();
        let mut micro_batches = micro_batches(&rows, config.training.micro_batch_tokens);
        let dropout = |index: usize| Some(RandomKey::new(config.seed, "dropout").at(step).at(index as u64));
        let mut digest = Digest::default();

        let passes = Passes { config, policy, reference };
        let ref_log_probs = passes.reference(&rows)?; // [answers]
        let prepared = passes.prepare(&answers, &ref_log_probs, &dropout);
        let prepared = learner.guard().admit(|| rows.iter().map(|row| row.id).collect(), prepared)?;
        if prepared.is_none() {
            micro_batches.clear();
        }
        let Prepared { baseline, whole } = prepared.unwrap_or(Prepared { baseline: KtoBaseline::ZERO, whole: None });
        let mut totals = Totals::default();
        // Under a baseline that carries a gradient the value of the step is a sum over micro-batches all the same.
        let separable = without_baseline_gradient(config.objective);

        learner.zero_grad()?;
        for (index, indices) in micro_batches.into_iter().enumerate() {
            let micro = MicroBatch::new(policy.decoder(), &rows, indices)?;
            policy.set_dropout(dropout(index));
            let log_probs = micro.log_probs(policy.decoder(), 1.0)?; // [labels]
            let host = to_host(&log_probs)?;
            let own = sums(&micro, &host); // [rows]
            let known: Vec<f64> = micro.rows.iter().map(|&row| ref_log_probs[row]).collect();
            let verdicts: Vec<bool> = micro.rows.iter().map(|&row| answers[row].is_desirable).collect();
            let part = unpaired_loss(&own, &known, &verdicts, baseline, &separable, answers.len());
            let part = part.map_err(Error::from);
            let Some(mut part) = learner.guard().admit(|| micro.row_ids(&rows), part)? else { continue };
            if let Some(whole) = &whole {
                part.grad_log_probs = micro.rows.iter().map(|&row| whole[row]).collect();
            }
            backward_from(&log_probs, &spread(&micro, &part.grad_log_probs))?;
            digest.numbers(&host);
            totals.add(&part, &verdicts, &own);
        }
        policy.set_dropout(None);
        let update = learner.step(step)?;

        rows.iter().for_each(|row| digest.ids(&row.ids));
        let num_tokens: usize = rows.iter().map(|row| row.ids.len()).sum();
        let message = format!("loss {:.4}", totals.loss);
        let row = totals
            .into_metrics(MetricsRow::new(step + 1, "train"), baseline)
            .with("learning_rate", update.learning_rate)
            .with("num_answers", answers.len() as f64)
            .with("num_tokens", num_tokens as f64);
        Ok(StepReport::new(learner.report(update, row), message, digest))
    }

    /// Loss, rewards and log-probabilities of each held-out file, taken as one step in the order of the file.
    fn evaluate(&mut self, step: u64) -> Result<Vec<MetricsRow>> {
        let passes = Passes { config: &self.config, policy: &self.policy, reference: &self.reference };
        let measure = |(name, answers): &(String, Vec<TrainingAnswer>)| {
            let answers: Vec<&TrainingAnswer> = answers.iter().collect();
            let rows: Vec<&TrainingRow> = answers.iter().map(|answer| &answer.row).collect();
            let ref_log_probs = passes.reference(&rows)?;
            let baseline = passes.prepare(&answers, &ref_log_probs, &|_| None)?.baseline;
            let own = passes.policy(&rows, &|_| None)?;
            let verdicts: Vec<bool> = answers.iter().map(|answer| answer.is_desirable).collect();
            let objective = &self.config.objective;
            let output = unpaired_loss(&own, &ref_log_probs, &verdicts, baseline, objective, answers.len())?;
            let mut totals = Totals::default();
            totals.add(&output, &verdicts, &own);
            Ok(totals.into_metrics(MetricsRow::new(step, name.as_str()), baseline))
        };
        self.held_out.iter().map(measure).collect()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.policy.write_into(folder)?;
        self.learner.save(&folder.join(OPTIMIZER_FILE))?;
        save_averages(&self.policy, &self.learner, folder)
    }

    fn state(&self) -> Result<Value> {
        to_state(&UnpairedState { cursor: self.examples.cursor(), learner: self.learner.state() })
    }
}

impl Unpaired {
    /// As [`Method::build`] on answers that were made elsewhere; the files that `config` names are not read. Answers are
    /// visited in the order of [`rl_data::epoch_order`]; for even sampling that of pairs of a desirable and an undesirable
    /// one.
    ///
    /// # Errors
    /// Model and checkpoint errors; [`Error::NoResponse`] for an answer without a target; [`Error::UnsuitableData`] when the
    /// answers cannot make the steps that the objective needs.
    pub fn from_answers(
        config: &UnpairedConfig,
        answers: Vec<TrainingAnswer>,
        held_out: Vec<(String, Vec<TrainingAnswer>)>,
        device: Device,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        Self::assemble(config, load_policy(config, resume, device)?, answers.into(), held_out, device, resume)
    }

    fn assemble(
        config: &UnpairedConfig,
        policy: Policy,
        answers: TrainingSet<TrainingAnswer>,
        held_out: Vec<(String, Vec<TrainingAnswer>)>,
        device: Device,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        answers
            .items
            .iter()
            .chain(held_out.iter().flat_map(|(_, answers)| answers))
            .try_for_each(TrainingAnswer::check)?;
        check_suitable(config, &answers, held_out.iter().map(|(_, answers)| answers.as_slice()))?;
        let units = answers.map_datasets(|answers| units(answers, 1 < unit_size(config)))?;
        let reference =
            FrozenReference::load(&policy, config.reference.as_deref(), &config.model, None, device, resume)?;
        let state: Option<UnpairedState> = resume.map(Saved::method).transpose()?;
        let cursor = state.as_ref().map(|state| state.cursor);
        let examples = Examples::new(units, config.seed, cursor, &config.training)?;
        let learner_config =
            LearnerConfig::new(&config.training, examples.num_steps(config.batch_size, &config.training));
        let saved = resume.zip(state.map(|state| state.learner));
        let learner = Learner::resume(policy.parameters(), &learner_config, saved)?;
        Ok(Unpaired { config: config.clone(), policy, reference, learner, examples, held_out })
    }
}

/// Refuses answers that cannot make the steps that the objective needs.
pub(crate) fn check_suitable<'a>(
    config: &UnpairedConfig,
    answers: &'a TrainingSet<TrainingAnswer>,
    held_out: impl Iterator<Item = &'a [TrainingAnswer]> + Clone,
) -> Result<()> {
    if config.objective.needs_mismatched() {
        let mut counts = held_out.clone().map(<[_]>::len).chain([last_step(config, answers.epochs()?.epoch_rows())]);
        if counts.any(|count| count == 1) {
            let what = "1 answer in the last step or in a held-out file".into();
            let reason = "KTO mismatches answers with each other; change `batch_size`, the length or the file";
            let error = Error::UnsuitableData { what, reason };
            let path =
                config.data.datasets("data").map(|(_, dataset)| dataset.to_string()).collect::<Vec<_>>().join(", ");
            return Err(Error::input("data", Path::new(&path), String::new())(error));
        }
    }
    if 1 < unit_size(config) {
        std::iter::once(answers.items.as_slice()).chain(held_out).try_for_each(check_both)?;
    }
    Ok(())
}

/// The passes that leave no graph.
struct Passes<'a> {
    config: &'a UnpairedConfig,
    policy: &'a Policy,
    reference: &'a FrozenReference,
}

/// What a step needs before its first gradient.
struct Prepared {
    baseline: KtoBaseline,
    /// Gradients of the step's sums, `[answers]`, where they are no matter of single micro-batches.
    whole: Option<Vec<f64>>,
}

type Dropout<'a> = &'a dyn Fn(usize) -> Option<RandomKey>;

impl Passes<'_> {
    fn prepare(&self, answers: &[&TrainingAnswer], ref_log_probs: &[f64], dropout: Dropout) -> Result<Prepared> {
        let objective = &self.config.objective;
        match objective.loss {
            UnpairedLoss::ApoZeroUnpaired { .. } => Ok(Prepared { baseline: KtoBaseline::ZERO, whole: None }),
            UnpairedLoss::Kto { .. } => Ok(Prepared { baseline: self.mismatched(answers)?, whole: None }),
            UnpairedLoss::KtoEvenSampling { .. } => {
                let rows: Vec<&TrainingRow> = answers.iter().map(|answer| &answer.row).collect();
                let own = self.policy(&rows, dropout)?;
                let mut ratios = [RunningStatistics::default(), RunningStatistics::default()];
                for ((answer, own), reference) in answers.iter().zip(&own).zip(ref_log_probs) {
                    ratios[usize::from(answer.is_desirable)].push(own - reference)?;
                }
                let baseline = KtoBaseline::from_other_side(&ratios[1], &ratios[0])?;
                let verdicts: Vec<bool> = answers.iter().map(|answer| answer.is_desirable).collect();
                let all = || unpaired_loss(&own, ref_log_probs, &verdicts, baseline, objective, answers.len());
                let whole = (!objective.is_separable()).then(all).transpose()?.map(|output| output.grad_log_probs);
                Ok(Prepared { baseline, whole })
            }
        }
    }

    /// KTO's estimate of the divergence: every prompt with the response of the answer before it, the first with the last.
    fn mismatched(&self, answers: &[&TrainingAnswer]) -> Result<KtoBaseline> {
        let before = |index: usize| answers[(index + answers.len() - 1) % answers.len()];
        let max_length = self.config.selection.max_length;
        let rows: Vec<TrainingRow> =
            (0..answers.len()).map(|index| answers[index].mismatched(before(index), max_length)).collect();
        let rows: Vec<&TrainingRow> = rows.iter().collect();
        let mut ratios = RunningStatistics::default();
        for (own, reference) in self.policy(&rows, &|_| None)?.iter().zip(self.reference(&rows)?) {
            ratios.push(own - reference)?;
        }
        Ok(KtoBaseline::from_mismatched(&ratios)?)
    }

    /// The policy's sums over the responses of `rows`, `[rows]`.
    fn policy(&self, rows: &[&TrainingRow], dropout: Dropout) -> Result<Vec<f64>> {
        let pass = |index: usize, micro: &MicroBatch| {
            self.policy.set_dropout(dropout(index));
            to_host(&tch::no_grad(|| micro.log_probs(self.policy.decoder(), 1.0))?)
        };
        let sums = self.each(rows, pass);
        self.policy.set_dropout(None);
        sums
    }

    /// The reference's, `[rows]`.
    fn reference(&self, rows: &[&TrainingRow]) -> Result<Vec<f64>> {
        self.each(rows, |_, micro| self.reference.log_probs(self.policy, micro))
    }

    fn each(&self, rows: &[&TrainingRow], pass: impl Fn(usize, &MicroBatch) -> Result<Vec<f32>>) -> Result<Vec<f64>> {
        let mut all = vec![0.0; rows.len()];
        for (index, indices) in micro_batches(rows, self.config.training.micro_batch_tokens).into_iter().enumerate() {
            let micro = MicroBatch::new(self.policy.decoder(), rows, indices)?;
            for (&row, sum) in micro.rows.iter().zip(sums(&micro, &pass(index, &micro)?)) {
                all[row] = sum;
            }
        }
        Ok(all)
    }
}

/// Sums over the answers of a step.
#[derive(Default)]
struct Totals {
    loss: f64,
    desirable: Side,
    undesirable: Side,
}

/// Sums over the answers of one verdict.
#[derive(Default)]
struct Side {
    count: usize,
    reward: f64,
    log_prob: f64,
}

impl Totals {
    fn add(&mut self, part: &UnpairedOutput, verdicts: &[bool], log_probs: &[f64]) {
        self.loss += part.loss;
        for ((&is_desirable, reward), log_prob) in verdicts.iter().zip(&part.rewards).zip(log_probs) {
            let side = if is_desirable { &mut self.desirable } else { &mut self.undesirable };
            side.count += 1;
            side.reward += reward;
            side.log_prob += log_prob;
        }
    }

    /// A side without answers has no numbers.
    fn into_metrics(self, mut row: MetricsRow, baseline: KtoBaseline) -> MetricsRow {
        row = row.with("loss", self.loss);
        for (name, side) in [("desirable", &self.desirable), ("undesirable", &self.undesirable)] {
            if 0 < side.count {
                let count = side.count as f64;
                row = row
                    .with(format!("rewards_{name}"), side.reward / count)
                    .with(format!("log_probs_{name}"), side.log_prob / count);
            }
        }
        if 0 < self.desirable.count && 0 < self.undesirable.count {
            let mean = |side: &Side| side.reward / side.count as f64;
            row = row.with("margin", mean(&self.desirable) - mean(&self.undesirable));
        }
        row.with("kl_desirable", baseline.desirable).with("kl_undesirable", baseline.undesirable)
    }
}

/// Sums of `log_probs` `[labels]` over each row, `[rows]`.
fn sums(micro: &MicroBatch, log_probs: &[f32]) -> Vec<f64> {
    let mut rest = log_probs;
    let sum = |&labels: &usize| {
        let (own, others) = rest.split_at(labels);
        rest = others;
        own.iter().copied().map(f64::from).sum()
    };
    micro.num_labels.iter().map(sum).collect()
}

/// Gradient of every label, `[labels]`, from those of the sums, `[rows]`.
fn spread(micro: &MicroBatch, grads: &[f64]) -> Vec<f32> {
    let rows = micro.num_labels.iter().zip(grads);
    rows.flat_map(|(&labels, &grad)| std::iter::repeat_n(grad as f32, labels)).collect()
}

/// The same values, cut into micro-batches.
fn without_baseline_gradient(objective: UnpairedObjective) -> UnpairedObjective {
    let loss = match objective.loss {
        UnpairedLoss::KtoEvenSampling { beta, .. } => UnpairedLoss::KtoEvenSampling { beta, baseline_gradient: false },
        other => other,
    };
    UnpairedObjective { loss, ..objective }
}

/// Answers that stay together.
pub(crate) fn unit_size(config: &UnpairedConfig) -> usize {
    if matches!(config.objective.loss, UnpairedLoss::KtoEvenSampling { .. }) { 2 } else { 1 }
}

pub(crate) fn units_per_step(config: &UnpairedConfig) -> usize {
    config.batch_size / unit_size(config)
}

/// Answers in the last step of a run over `count` answers, each a unit.
fn last_step(config: &UnpairedConfig, count: usize) -> usize {
    let total = config.training.epochs.map(|epochs| epochs.saturating_mul(count as u64));
    match total.map(|total| total % config.batch_size.max(1) as u64) {
        None | Some(0) => config.batch_size,
        Some(rest) => rest as usize,
    }
}

fn load_policy(config: &UnpairedConfig, resume: Option<&Saved>, device: Device) -> Result<Policy> {
    Policy::load(&config.model, resume, config.seed, device, || Err(Error::NothingToTrain))
}

/// What is trained on and what is held out, as answers.
pub(crate) fn load_answers(config: &UnpairedConfig, renderer: &Renderer) -> Result<Loaded<TrainingAnswer>> {
    let renderer = under(renderer, config.end_of_turn);
    load::<UnpairedRecord, _>("data", &config.data, &config.held_out, |rows, _| {
        let examples = renderer.unpaired_examples(&rows.records, config.seams);
        select_rows(rows, examples, &config.selection, |id, _, example| Ok(training_answer(id, example)))
    })
}
