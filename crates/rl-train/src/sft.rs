//! Supervised fine-tuning, and training from scratch: packed rows, loss on the trainable tokens.

use std::path::Path;

use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::masked::StepCounts;
use rl_core::random::RandomKey;
use rl_data::{ChatRecord, Cursor, Example, Renderer, TrainOn};
use rl_track::{Manifest, MetricsRow};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tch::Device;

use crate::batch::{MicroBatch, TrainingRow, backward_from, micro_batches, to_host};
use crate::checkpoint::{OPTIMIZER_FILE, Saved};
use crate::config::{DataConfig, SftConfig, TOKENIZER_DATA};
use crate::data::{Loaded, Side, input_data, input_datasets, load, select_rows, under};
use crate::digest::Digest;
use crate::examples::{Examples, TrainingSet};
use crate::learner::{Learner, LearnerConfig, LearnerState};
use crate::new_model::new_model;
use crate::policy::Policy;
use crate::trainer::{Method, StepReport, Trainer};
use crate::{Error, Result};

/// What an evaluation gives of each held-out file.
pub(crate) const MEASURED: [&str; 1] = ["loss"];

/// A run of supervised fine-tuning.
pub type SftTrainer = Trainer<Sft>;

/// Supervised fine-tuning.
pub struct Sft {
    config: SftConfig,
    policy: Policy,
    learner: Learner,
    examples: Examples<TrainingRow>,
    held_out: Vec<(String, Vec<TrainingRow>)>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SftState {
    cursor: Cursor,
    learner: LearnerState,
}

impl Method for Sft {
    type Config = SftConfig;
    const NAME: &'static str = "sft";

    fn manifest(config: &SftConfig) -> Result<Manifest> {
        let manifest = Manifest::new().seed("seed", config.seed);
        let mut manifest = input_datasets(manifest, &config.data, &config.held_out)?;
        if let Some(dataset) = config.model.new.as_ref().and_then(|new| new.tokenizer_data.clone()) {
            manifest = input_data(manifest, "tokenizer_data", TOKENIZER_DATA, &DataConfig::One(dataset))?;
        }
        input_model(manifest, "model", config.model.path.as_deref())
    }

    fn build(config: &SftConfig, device: Device, resume: Option<&Saved>) -> Result<Self> {
        let new = || match &config.model.new {
            Some(shape) => new_model(shape, config, device),
            None => Err(Error::NothingToTrain),
        };
        let policy = Policy::load(&config.model, resume, config.seed, device, new)?;
        let (rows, held_out) = load_rows(config, &policy.chat.renderer)?.into_parts();
        Self::assemble(config, policy, rows, held_out, resume)
    }

    fn max_steps(&self) -> u64 {
        self.examples.num_steps(self.config.batch_size, &self.config.training)
    }

    /// One optimizer step over `batch_size` rows.
    fn step(&mut self, step: u64) -> Result<StepReport> {
        let Self { config, policy, learner, examples, .. } = self;
        let batch = examples.next(config.batch_size);
        let micro_batches = micro_batches(&batch, config.training.micro_batch_tokens);
        let counts = step_counts(&batch, &micro_batches)?;
        if counts.num_tokens == 0 {
            let ids = batch.iter().map(|row| row.id).collect();
            return Err(Error::from(rl_core::Error::EmptyBatch { what: "labels of the step" }).in_rows(ids));
        }
        let num_tokens: usize = batch.iter().map(|row| row.ids.len()).sum();
        let mut digest = Digest::default();
        let mut loss = 0.0;

        learner.zero_grad()?;
        for (index, rows) in micro_batches.into_iter().enumerate() {
            let micro = MicroBatch::new(policy.decoder(), &batch, rows)?;
            policy.set_dropout(Some(RandomKey::new(config.seed, "dropout").at(step).at(index as u64)));
            let log_probs = micro.log_probs(policy.decoder(), 1.0)?; // [labels]
            let host = to_host(&log_probs)?;
            let mask = vec![true; host.len()];
            let weights = config.reduction.token_weights(&mask, &micro.num_labels, &counts)?;
            let part = cross_entropy_loss(&host, &mask, config.loss, &weights).map_err(Error::from);
            let Some(part) = learner.guard().admit(|| micro.row_ids(&batch), part)? else { continue };
            backward_from(&log_probs, &part.grad_log_probs)?;
            digest.numbers(&host);
            loss += part.loss;
        }
        policy.set_dropout(None);
        let update = learner.step(step)?;

        batch.iter().for_each(|row| digest.ids(&row.ids));
        let row = MetricsRow::new(step + 1, "train")
            .with("loss", loss)
            .with("learning_rate", update.learning_rate)
            .with("num_tokens", num_tokens as f64)
            .with("num_labels", counts.num_tokens as f64);
        Ok(StepReport::new(learner.report(update, row), format!("loss {loss:.4}"), digest))
    }

    /// Token-mean negative log-likelihood of the held-out rows.
    fn evaluate(&mut self, step: u64) -> Result<Vec<MetricsRow>> {
        let row = |(name, rows): &(String, Vec<TrainingRow>)| {
            Ok(MetricsRow::new(step, name.as_str()).with("loss", self.held_out_loss(rows)?))
        };
        self.held_out.iter().map(row).collect()
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.policy.write_into(folder)?;
        self.learner.save(&folder.join(OPTIMIZER_FILE))?;
        save_averages(&self.policy, &self.learner, folder)
    }

    fn state(&self) -> Result<Value> {
        to_state(&SftState { cursor: self.examples.cursor(), learner: self.learner.state() })
    }
}

impl Sft {
    /// As [`Method::build`] on rows that were made elsewhere; the files that `config` names are not read. Rows are visited
    /// in the order of [`rl_data::epoch_order`].
    ///
    /// # Errors
    /// Model and checkpoint errors; [`Error::NothingToTrain`] without `model.path`: a new model needs text.
    pub fn from_rows(
        config: &SftConfig,
        rows: Vec<TrainingRow>,
        held_out: Vec<(String, Vec<TrainingRow>)>,
        device: Device,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        let policy = Policy::load(&config.model, resume, config.seed, device, || Err(Error::NothingToTrain))?;
        Self::assemble(config, policy, rows.into(), held_out, resume)
    }

    fn assemble(
        config: &SftConfig,
        policy: Policy,
        rows: TrainingSet<TrainingRow>,
        held_out: Vec<(String, Vec<TrainingRow>)>,
        resume: Option<&Saved>,
    ) -> Result<Self> {
        let state: Option<SftState> = resume.map(Saved::method).transpose()?;
        let cursor = state.as_ref().map(|state| state.cursor);
        let examples = Examples::new(rows, config.seed, cursor, &config.training)?;
        let learner_config =
            LearnerConfig::new(&config.training, examples.num_steps(config.batch_size, &config.training));
        let saved = resume.zip(state.map(|state| state.learner));
        let learner = Learner::resume(policy.parameters(), &learner_config, saved)?;
        Ok(Sft { config: config.clone(), policy, learner, examples, held_out })
    }

    fn held_out_loss(&self, rows: &[TrainingRow]) -> Result<f64> {
        let decoder = self.policy.decoder();
        let num_labels: usize = rows.iter().map(TrainingRow::num_labels).sum();
        let mut loss = 0.0;
        for indices in micro_batches(rows, self.config.training.micro_batch_tokens) {
            let micro = MicroBatch::new(decoder, rows, indices)?;
            let host = to_host(&tch::no_grad(|| micro.log_probs(decoder, 1.0))?)?;
            let part = cross_entropy_loss(&host, &vec![true; host.len()], CrossEntropyKind::Nll, num_labels);
            loss += part.map_err(|error| Error::from(error).in_rows(micro.row_ids(rows)))?.loss;
        }
        Ok(loss)
    }
}

/// Denominators of a step, over all its micro-batches.
pub(crate) fn step_counts<R: std::borrow::Borrow<TrainingRow>>(
    rows: &[R],
    micro_batches: &[Vec<usize>],
) -> Result<StepCounts> {
    let mut counts = StepCounts::default();
    for indices in micro_batches {
        let labels: Vec<usize> = indices.iter().map(|&row| rows[row].borrow().num_labels()).collect();
        let mask = vec![true; labels.iter().sum()];
        counts = counts.merge(StepCounts::of_micro_batch(&mask, &labels)?);
    }
    Ok(counts)
}

/// Writes the averaged model beside the trained one, in `ema/`, when averages are kept.
pub(crate) fn save_averages(policy: &Policy, learner: &Learner, folder: &Path) -> Result<()> {
    let target = folder.join("ema");
    learner.with_averages(|| {
        std::fs::create_dir(&target).map_err(Error::file("create", &target))?;
        policy.write_into(&target)
    })?;
    Ok(())
}

/// Adds the hash of a model to the manifest; a name in the Hugging Face cache is recorded as it stands.
pub(crate) fn input_model(manifest: Manifest, name: &str, path: Option<&Path>) -> Result<Manifest> {
    match path {
        Some(path) if path.exists() => Ok(manifest.input_path(name, path)?),
        Some(path) => {
            let folder = path.to_str().map(rl_models::checkpoint::resolve_model).transpose()?;
            Ok(manifest.input_path(name, folder.as_deref().unwrap_or(path))?)
        }
        None => Ok(manifest),
    }
}

/// A method's state as JSON.
pub(crate) fn to_state(state: &impl Serialize) -> Result<Value> {
    serde_json::to_value(state)
        .map_err(|error| Error::Resume { path: crate::checkpoint::STATE_FILE.into(), reason: error.to_string() })
}

/// What is trained on and what is held out, as rows.
pub(crate) fn load_rows(config: &SftConfig, renderer: &Renderer) -> Result<Loaded<TrainingRow>> {
    let renderer = under(renderer, config.end_of_turn);
    load::<ChatRecord, _>("data", &config.data, &config.held_out, |rows, side| {
        let train_on = if side == Side::Train { config.train_on } else { TrainOn::Assistant };
        let examples = renderer.examples(&rows.records, train_on);
        select_rows(rows, examples, &config.selection, |id, _, example| Ok(training_row(id, example)))
    })
}

/// An example as the trainers take it.
pub(crate) fn training_row(id: u64, example: Example) -> TrainingRow {
    let ids = example.ids.into_iter().map(i64::from).collect();
    TrainingRow { id, ids, trainable: example.trainable, group: None }
}
