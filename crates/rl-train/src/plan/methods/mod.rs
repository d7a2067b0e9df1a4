//! Each trainer's side of a plan: its models, its data, its steps.

mod distill;
mod preference;
mod reward_model;
mod rl;
mod sft;
mod unpaired;

use rl_data::Renderer;
use rl_models::ModelConfig;

use super::{FilePlan, Models, Work};
use crate::batch::{TrainingRow, micro_batches};
use crate::config::TrainingConfig;
use crate::data::Loaded;
use crate::examples::TrainingSet;
use crate::pair_batch::{TrainingPair, pair_micro_batches};
use crate::plan::passes::{LargestPass, largest_pass};
use crate::{Error, Result};

/// Tokenizer and template of models that begin at a checkpoint.
fn renderer(models: &Models) -> Result<&Renderer> {
    models.renderer.as_ref().ok_or(Error::NothingToTrain)
}

/// Steps of a run over epochs of `epoch_rows` items, `per_step` at a time.
fn num_steps(training: &TrainingConfig, epoch_rows: usize, per_step: usize) -> u64 {
    match training.epochs {
        Some(epochs) => epochs.saturating_mul(epoch_rows as u64).div_ceil(per_step.max(1) as u64),
        None => training.max_steps.unwrap_or(0),
    }
}

/// The micro-batches of rows, each as its rows.
fn row_passes<'a>(rows: &[&'a TrainingRow], max_tokens: usize) -> Vec<Vec<&'a TrainingRow>> {
    let batches = micro_batches(rows, max_tokens).into_iter();
    batches.map(|batch| batch.into_iter().map(|row| rows[row]).collect()).collect()
}

/// The work of a trainer that visits pairs, and the pairs of its largest step.
fn pair_work(
    loaded: Loaded<TrainingPair>,
    seed: u64,
    batch_size: usize,
    training: &TrainingConfig,
    config: &ModelConfig,
) -> Result<(Work, Vec<TrainingPair>)> {
    for file in loaded.train.iter().chain(&loaded.held_out) {
        file.items.iter().try_for_each(TrainingPair::check)?;
    }
    let files = FilePlan::all(&loaded, |pair| pair.sides().to_vec())?;
    let pairs = loaded.into_train();
    let steps = num_steps(training, pairs.epochs()?.epoch_rows(), batch_size);
    let largest = largest_pass(&pairs, seed, batch_size, steps, config, |batch| {
        let passes = pair_micro_batches(batch, training.micro_batch_tokens).into_iter();
        passes.map(|pass| pass.into_iter().flat_map(|pair| batch[pair].sides()).collect()).collect()
    })?;
    let work = Work {
        files,
        unit: "pairs",
        per_step: batch_size,
        steps,
        largest: largest.shape,
        rollout: None,
        new_config: None,
    };
    let step = chosen(&pairs, &largest);
    Ok((work, step))
}

/// The items of the step with the largest pass.
fn chosen<T: Clone>(set: &TrainingSet<T>, largest: &LargestPass) -> Vec<T> {
    largest.items.iter().filter_map(|&place| set.items.get(place).cloned()).collect()
}
