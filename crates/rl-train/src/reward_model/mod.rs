//! Bradley-Terry reward model: two answers to one prompt, the preferred one is to score higher.
//!
//! The reward is the head's output at a sequence's last token. Not here: how a policy is trained on it.

pub(crate) mod scorer;
mod source;
mod statistics;

use std::path::Path;

use rl_core::random::RandomKey;
use rl_core::reward_loss::{RewardLoss, RewardNormalizer, bradley_terry_loss};
use rl_data::{Cursor, Renderer};
use rl_track::{Manifest, MetricsRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use crate::batch::{backward_from, to_host};
use crate::checkpoint::{OPTIMIZER_FILE, Saved};
use crate::config::RewardModelConfig;
use crate::data::{Loaded, input_datasets, under};
use crate::digest::Digest;
use crate::examples::{Examples, TrainingSet};
use crate::learner::{Learner, LearnerConfig, LearnerState};
use crate::pair_batch::{self, PairBatch, PairLayout, TrainingPair, pair_micro_batches};
use crate::sft::{input_model, to_state};
use crate::trainer::{Method, StepReport, Trainer};
use crate::{Error, Result};

use scorer::Scorer;
pub use source::RewardSource;
use statistics::write_statistics;

/// What an evaluation gives of each held-out file.
pub(crate) const MEASURED: [&str; 8] =
    ["loss", "accuracy", "margin", "rewards_chosen", "rewards_rejected", "num_pairs", "reward_mean", "reward_std"];

/// A run of a reward model.
pub type RewardModelTrainer = Trainer<RewardModel>;

/// Training of a Bradley-Terry reward model.
pub struct RewardModel {
    config: RewardModelConfig,
    scorer: Scorer,
    learner: Learner,
    examples: Examples<TrainingPair>,
    held_out: Vec<(String, Vec<TrainingPair>)>,
    /// Of the rewards of all held-out pairs, and the step that they were measured after.
    statistics: Option<(u64, RewardNormalizer)>,
    steps_done: u64,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RewardModelState {
    cursor: Cursor,
    learner: LearnerState,
}

impl Method for RewardModel {
    type Config = RewardModelConfig;
    const NAME: &'static str = "reward model";

    fn manifest(config: &RewardModelConfig) -> Result<Manifest> {
        let manifest = Manifest::new().seed("seed", config.seed);
        let manifest = input_datasets(manifest, &config.data, &config.held_out)?;
        input_model(manifest, "model", config.model.path.as_deref())
    }

    fn build(config: &RewardModelConfig, device: Device, resume: Option<&Saved>) -> Result<Self> {
        let scorer = Scorer::load(config, resume, device)?;
        let (pairs, held_out) = load_pairs(config, &scorer.renderer)?.into_parts();
        Self::assemble(config, scorer, pairs, held_out, resume)
    }

    fn max_steps(&self) -> u64 {
        self.examples.num_steps(self.config.batch_size, &self.config.training)
    }

    /// One optimizer step over `batch_size` pairs.
    fn step(&mut self, step: u64) -> Result<StepReport> {
        let Self { config, scorer, learner, examples, .. } = self;
        let batch = examples.next(config.batch_size);
        let micro_batches = pair_micro_batches(&batch, config.training.micro_batch_tokens);
        let (mut loss, mut totals) = (0.0, Totals::default());
        let mut digest = Digest::default();

        learner.zero_grad()?;
        for (index, pairs) in micro_batches.into_iter().enumerate() {
            let micro = PairBatch::new(&scorer.model.decoder, &batch, pairs, PairLayout::default())?;
            scorer.set_dropout(Some(RandomKey::new(config.seed, "dropout").at(step).at(index as u64)));
            let scores = scorer.model.scores(&micro.micro.packed)?; // [2 pairs], a pair's sides beside each other
            let host = to_host(&scores)?;
            let margins = config.margins.then(|| margins(&batch, &micro.pairs));
            let [chosen, rejected] = sides(&host);
            let part = bradley_terry_loss(&chosen, &rejected, margins.as_deref(), config.centering_coef, batch.len());
            let part = part.map_err(Error::from);
            let Some(part) = learner.guard().admit(|| micro.ids.clone(), part)? else { continue };
            let grads = part.grad_chosen_rewards.iter().zip(&part.grad_rejected_rewards);
            let grads: Vec<f32> = grads.flat_map(|(&chosen, &rejected)| [chosen as f32, rejected as f32]).collect();
            backward_from(&scores, &grads)?;
            digest.numbers(&host);
            loss += part.loss;
            totals.add(&part, &chosen, &rejected);
        }
        scorer.set_dropout(None);
        let update = learner.step(step)?;
        self.steps_done = step + 1;

        batch.iter().flat_map(|pair| pair.sides()).for_each(|side| digest.ids(&side.ids));
        let num_tokens: usize = batch.iter().map(|pair| pair.num_tokens()).sum();
        let row = MetricsRow::new(step + 1, "train").with("loss", loss);
        let row = totals
            .into_metrics(row)
            .with("learning_rate", update.learning_rate)
            .with("num_pairs", batch.len() as f64)
            .with("num_tokens", num_tokens as f64);
        let message = format!("loss {loss:.4}");
        Ok(StepReport::new(learner.report(update, row), message, digest))
    }

    /// Loss, accuracy, mean and spread of the rewards of each held-out file.
    fn evaluate(&mut self, step: u64) -> Result<Vec<MetricsRow>> {
        let (mut rows, mut all) = (Vec::new(), Vec::new());
        for (name, pairs) in &self.held_out {
            let (row, rewards) = self.measure(MetricsRow::new(step, name.as_str()), pairs)?;
            rows.push(row);
            all.extend(rewards);
        }
        if !all.is_empty() {
            self.statistics = Some((step, RewardNormalizer::from_rewards(all)?));
        }
        self.steps_done = step;
        Ok(rows)
    }

    /// The statistics of these very weights go along, measured now where the step was not evaluated.
    fn save(&self, folder: &Path) -> Result<()> {
        self.scorer.write_into(folder)?;
        let statistics = match self.statistics.filter(|(step, _)| *step == self.steps_done) {
            Some((_, statistics)) => Some(statistics),
            None => self.held_out_statistics()?,
        };
        statistics.map_or(Ok(()), |statistics| write_statistics(folder, &statistics))?;
        self.learner.save(&folder.join(OPTIMIZER_FILE))?;
        let averaged = folder.join("ema");
        self.learner.with_averages(|| {
            std::fs::create_dir(&averaged).map_err(Error::file("create", &averaged))?;
            self.scorer.write_into(&averaged)?;
            let statistics = self.held_out_statistics()?;
            statistics.map_or(Ok(()), |statistics| write_statistics(&averaged, &statistics))
        })?;
        Ok(())
    }

    fn state(&self) -> Result<Value> {
        to_state(&RewardModelState { cursor: self.examples.cursor(), learner: self.learner.state() })
    }
}

impl RewardModel {
    /// The layers and the head that are trained.
    pub fn model(&self) -> &rl_models::RewardModel {
        &self.scorer.model
    }

    /// Mean and spread of the rewards of all held-out pairs; none without any. Numbers that are not finite are a matter of
    /// evaluations: they are no reason to lose a checkpoint.
    fn held_out_statistics(&self) -> Result<Option<RewardNormalizer>> {
        let mut rewards = Vec::new();
        for (name, pairs) in &self.held_out {
            match self.measure(MetricsRow::new(self.steps_done, name.as_str()), pairs) {
                Ok((_, more)) => rewards.extend(more),
                Err(error) if error.is_non_finite() => {
                    tracing::warn!("the checkpoint has no mean and spread of the rewards: {error}");
                    return Ok(None);
                }
                Err(error) => return Err(error),
            }
        }
        if rewards.is_empty() { Ok(None) } else { Ok(Some(RewardNormalizer::from_rewards(rewards)?)) }
    }

    /// As [`Method::build`] on pairs that were made elsewhere; the files that `config` names are not read. Pairs are visited
    /// in the order of [`rl_data::epoch_order`].
    ///
    /// # Errors
    /// Model and checkpoint errors; [`Error::NoResponse`] for a pair without a target.
    pub fn from_pairs(
        config: &RewardModelConfig,
        pairs: Vec<TrainingPair>,
        held_out: Vec<(String, Vec<TrainingPair>)>,
        device: Device,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        Self::assemble(config, Scorer::load(config, resume, device)?, pairs.into(), held_out, resume)
    }

    fn assemble(
        config: &RewardModelConfig,
        scorer: Scorer,
        pairs: TrainingSet<TrainingPair>,
        held_out: Vec<(String, Vec<TrainingPair>)>,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        pairs.items.iter().chain(held_out.iter().flat_map(|(_, pairs)| pairs)).try_for_each(TrainingPair::check)?;
        let state: Option<RewardModelState> = resume.map(Saved::method).transpose()?;
        let cursor = state.as_ref().map(|state| state.cursor);
        let examples = Examples::new(pairs, config.seed, cursor, &config.training)?;
        let learner_config =
            LearnerConfig::new(&config.training, examples.num_steps(config.batch_size, &config.training));
        let saved = resume.zip(state.map(|state| state.learner));
        let learner = Learner::resume(scorer.model.trainable_parameters(), &learner_config, saved)?;
        let (statistics, steps_done) = (None, resume.map_or(0, |saved| saved.state().step));
        Ok(RewardModel { config: config.clone(), scorer, learner, examples, held_out, statistics, steps_done })
    }

    /// Adds what the model makes of `pairs` to `row`; gives all their rewards too.
    fn measure(&self, row: MetricsRow, pairs: &[TrainingPair]) -> Result<(MetricsRow, Vec<f64>)> {
        let all: Vec<&TrainingPair> = pairs.iter().collect();
        let (mut loss, mut totals, mut rewards) = (0.0, Totals::default(), Vec::new());
        for indices in pair_micro_batches(&all, self.config.training.micro_batch_tokens) {
            let micro = PairBatch::new(&self.scorer.model.decoder, &all, indices, PairLayout::default())?;
            let host = to_host(&tch::no_grad(|| self.scorer.model.scores(&micro.micro.packed))?)?;
            let [chosen, rejected] = sides(&host);
            let part = bradley_terry_loss(&chosen, &rejected, None, 0.0, all.len()).map_err(Error::from);
            let part = part.map_err(|error| error.in_rows(micro.ids.clone()))?;
            loss += part.loss;
            totals.add(&part, &chosen, &rejected);
            rewards.extend(host.into_iter().map(f64::from));
        }
        let normalizer = RewardNormalizer::from_rewards(rewards.iter().copied())?;
        let row = totals.into_metrics(row.with("loss", loss)).with("num_pairs", all.len() as f64);
        Ok((row.with("reward_mean", normalizer.mean).with("reward_std", normalizer.std), rewards))
    }
}

/// Sums over pairs.
#[derive(Default)]
struct Totals {
    pairs: usize,
    correct: usize,
    margin: f64,
    chosen: f64,
    rejected: f64,
}

impl Totals {
    fn add(&mut self, part: &RewardLoss, chosen: &[f64], rejected: &[f64]) {
        self.pairs += part.num_pairs;
        self.correct += part.num_correct;
        self.margin += part.sum_margin;
        self.chosen += chosen.iter().sum::<f64>();
        self.rejected += rejected.iter().sum::<f64>();
    }

    fn into_metrics(self, row: MetricsRow) -> MetricsRow {
        let pairs = self.pairs.max(1) as f64;
        row.with("accuracy", self.correct as f64 / pairs)
            .with("margin", self.margin / pairs)
            .with("rewards_chosen", self.chosen / pairs)
            .with("rewards_rejected", self.rejected / pairs)
    }
}

/// What is trained on and what is held out, as pairs.
pub(crate) fn load_pairs(config: &RewardModelConfig, renderer: &Renderer) -> Result<Loaded<TrainingPair>> {
    let renderer = under(renderer, config.end_of_turn);
    pair_batch::load_pairs(&renderer, &config.data, &config.held_out, config.seams, &config.selection)
}

/// Chosen and rejected of `[2 pairs]`.
fn sides(scores: &[f32]) -> [Vec<f64>; 2] {
    [0, 1].map(|side| scores.iter().skip(side).step_by(2).copied().map(f64::from).collect())
}

/// Margins of the data, 0 where a pair has none, `[pairs]`.
fn margins(batch: &[&TrainingPair], pairs: &[usize]) -> Vec<f64> {
    pairs.iter().map(|&pair| batch[pair].margin.unwrap_or(0.0)).collect()
}
