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
use crate::data::DataFile;
use crate::pair_batch::{TrainingPair, pair_micro_batches};
use crate::plan::passes::{LargestPass, largest_pass};
use crate::{Error, Result};

/// Tokenizer and template of models that begin at a checkpoint.
fn renderer(models: &Models) -> Result<&Renderer> {
    models.renderer.as_ref().ok_or(Error::NothingToTrain)
}

/// Steps of a run over `count` items, `per_step` at a time.
fn num_steps(training: &TrainingConfig, count: usize, per_step: usize) -> u64 {
    match training.epochs {
        Some(epochs) => epochs.saturating_mul(count as u64).div_ceil(per_step.max(1) as u64),
        None => training.max_steps.unwrap_or(0),
    }
}

/// The micro-batches of rows, each as its rows.
fn row_passes<'a>(rows: &[&'a TrainingRow], max_tokens: usize) -> Vec<Vec<&'a TrainingRow>> {
    let batches = micro_batches(rows, max_tokens).into_iter();
    batches.map(|batch| batch.into_iter().map(|row| rows[row]).collect()).collect()
}

/// The work of a trainer that visits pairs.
fn pair_work(
    files: &[DataFile<TrainingPair>],
    seed: u64,
    batch_size: usize,
    training: &TrainingConfig,
    config: &ModelConfig,
) -> Result<(Work, LargestPass)> {
    for file in files {
        file.items.iter().try_for_each(TrainingPair::check)?;
    }
    let pairs = files.first().map_or(&[][..], |file| &file.items);
    let steps = num_steps(training, pairs.len(), batch_size);
    let largest = largest_pass(pairs, seed, batch_size, steps, config, |batch| {
        let passes = pair_micro_batches(batch, training.micro_batch_tokens).into_iter();
        passes.map(|pass| pass.into_iter().flat_map(|pair| batch[pair].sides()).collect()).collect()
    })?;
    let work = Work {
        files: files.iter().map(|file| FilePlan::new(file, |pair| pair.sides().to_vec())).collect(),
        unit: "pairs",
        per_step: batch_size,
        steps,
        largest: largest.shape,
        rollout: None,
        new_config: None,
    };
    Ok((work, largest))
}

/// The items at `places`.
fn chosen<T: Clone>(file: &DataFile<T>, places: &[usize]) -> Vec<T> {
    places.iter().filter_map(|&place| file.items.get(place).cloned()).collect()
}
