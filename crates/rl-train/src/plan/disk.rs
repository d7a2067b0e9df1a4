//! Disk that the checkpoints of a run take.

use super::models::{PlannedModel, PlannedTensor};
use crate::config::{CheckpointConfig, TrainingConfig};

/// Checkpoints that keep their moments, see `checkpoint`.
const RESUMABLE: u64 = 2;
/// Tokenizer, template, configuration and lists, roughly.
const SIDE_FILES: u64 = 4 << 20;
const F32: u64 = 4;

/// What the run writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DiskPlan {
    /// Checkpoints that are kept at the end.
    pub kept: u64,
    /// Bytes of a checkpoint that can be resumed from.
    pub whole: u64,
    /// Bytes of one that is kept as a model.
    pub model: u64,
    /// Bytes of all that stand there at one time at most.
    pub most: u64,
}

impl DiskPlan {
    /// Checkpoints of `models`, of which `num_steps` steps are trained under `training`. A checkpoint holds the trained model or its
    /// adapters, and while it can be resumed from two moments, f32 masters and averages; a new one is written before an old one
    /// goes.
    pub(crate) fn new(models: &[PlannedModel], training: &TrainingConfig, num_steps: u64) -> Self {
        let due = num_due(&training.checkpoints, num_steps);
        let best = u64::from(training.best().is_some());
        let kept = due.min(training.checkpoints.keep_last.map_or(u64::MAX, |keep| keep as u64)) + best;
        let (mut weights, mut state) = (0, 0);
        let has_average = training.ema_decay.is_some();
        for model in models {
            let trained = || model.tensors.iter().filter(|tensor| tensor.is_trained);
            if trained().next().is_none() {
                continue;
            }
            let bytes = |tensor: &PlannedTensor| tensor.numel * tensor.bytes_each;
            let own: u64 = match &model.lora {
                Some(_) => trained().map(bytes).sum(),
                None => model.tensors.iter().map(bytes).sum(),
            };
            weights += own * if has_average { 2 } else { 1 };
            let numel: u64 = trained().map(|tensor| tensor.numel).sum();
            let halves: u64 = trained().filter(|tensor| tensor.bytes_each < F32).map(|tensor| tensor.numel).sum();
            state += F32 * (2 * numel + halves + if has_average { numel } else { 0 });
        }
        let model = weights + SIDE_FILES;
        let whole = model + state;
        let most = (kept + 1) * model + RESUMABLE.min(kept + 1) * state;
        DiskPlan { kept, whole, model, most }
    }
}

/// Steps of `num_steps` after which a checkpoint is due.
fn num_due(checkpoints: &CheckpointConfig, num_steps: u64) -> u64 {
    let dense_until = checkpoints.dense_until.min(num_steps);
    let dense = dense_until / checkpoints.dense_every.max(1);
    let every = checkpoints.every.max(1);
    let last = if checkpoints.is_due(num_steps, u64::MAX) { 0 } else { 1 };
    dense + num_steps / every - dense_until / every + last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn due_steps_are_counted_without_walking_through_them() {
        for (every, dense_until, dense_every) in [(100, 30, 10), (7, 0, 0), (5, 12, 3), (1, 0, 0), (1000, 0, 0)] {
            let checkpoints = CheckpointConfig { every, dense_until, dense_every, keep_last: None };
            for num_steps in [1, 2, 29, 30, 31, 250] {
                let walked = (1..=num_steps).filter(|&step| checkpoints.is_due(step, num_steps)).count() as u64;
                assert_eq!(num_due(&checkpoints, num_steps), walked, "{checkpoints:?} over {num_steps}");
            }
        }
    }
}
