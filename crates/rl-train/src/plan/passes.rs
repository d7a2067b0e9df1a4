//! The largest pass of a run: which rows go through the model together, and how much of what that makes.

use rl_data::{DataOrder, Epochs};
use rl_models::{ModelConfig, Packed};
use rl_torch::attention::AttentionCells;
use tch::Device;

use crate::Result;
use crate::batch::{TrainingRow, shared_groups};
use crate::examples::TrainingSet;

/// Steps whose batches are looked at.
const MAX_STEPS: u64 = 20_000;
/// Passes with the most tokens that are laid out to compare what they keep.
const CANDIDATES: usize = 4;

/// What memory depends on, of the rows of one forward and backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PassShape {
    /// Rows of the model's matrices: tokens, a common beginning counted once.
    pub tokens: usize,
    /// Tokens whose log-probability is computed.
    pub labels: usize,
    /// What attention on the CPU regroups.
    pub cells: AttentionCells,
}

impl PassShape {
    /// The pass of these rows, as the trainers pack them.
    ///
    /// # Errors
    /// A row with an id or a length that the model does not have.
    pub(crate) fn of(rows: &[&TrainingRow], config: &ModelConfig) -> Result<Self> {
        let groups = shared_groups(rows);
        let packed = Packed::shared(&groups, config.vocab_size, config.max_positions() as usize, Device::Cpu)?;
        let labels = rows.iter().map(|row| row.num_labels()).sum();
        Ok(PassShape { tokens: packed.num_tokens(), labels, cells: packed.attention_cells()? })
    }

    /// A pass of `tokens` tokens that no packing of such rows exceeds by much: as many labels, cells a quarter more.
    pub(crate) fn bound(tokens: usize, longest: usize) -> Self {
        let cells = tokens + tokens / 4;
        let masks = longest.saturating_mul(tokens.min(2 * longest));
        PassShape {
            tokens,
            labels: tokens,
            cells: AttentionCells { queries: cells, keys: 2 * tokens, masks, regrouped: true },
        }
    }
}

/// The largest pass of the steps of a run, and the step it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LargestPass {
    pub shape: PassShape,
    /// Places of the step's items in their file, in the order in which they are visited.
    pub items: Vec<usize>,
}

/// Looks through the steps of the first pass over `set`, `per_step` at a time in the order of `seed`, and of a mix through
/// those of all; `passes` gives the micro-batches of a step, each as its rows.
pub(crate) fn largest_pass<'a, T>(
    set: &'a TrainingSet<T>,
    seed: u64,
    per_step: usize,
    num_steps: u64,
    config: &ModelConfig,
    passes: impl Fn(&[&'a T]) -> Vec<Vec<&'a TrainingRow>>,
) -> Result<LargestPass> {
    let (items, epochs) = (&set.items, set.epochs()?);
    let enough = match &epochs {
        Epochs::All(rows) => rows.div_ceil(per_step.max(1)) as u64,
        Epochs::Mixed(_) => MAX_STEPS,
    };
    let mut order = DataOrder::new(seed, epochs)?;
    let steps = num_steps.min(enough).clamp(1, MAX_STEPS);
    let mut best: Vec<(usize, Vec<usize>, Vec<&TrainingRow>)> = Vec::new();
    for _ in 0..steps {
        let places = order.take(per_step);
        let batch: Vec<&T> = places.iter().map(|&place| &items[place]).collect();
        for rows in passes(&batch) {
            let tokens = shared_groups(&rows).iter().map(|group| group.num_tokens()).sum();
            best.push((tokens, places.clone(), rows));
        }
        best.sort_by_key(|(tokens, ..)| std::cmp::Reverse(*tokens));
        best.truncate(CANDIDATES);
    }
    let mut largest = LargestPass { shape: PassShape::default(), items: Vec::new() };
    for (_, items, rows) in best {
        let shape = PassShape::of(&rows, config)?;
        let cells = |shape: &PassShape| shape.tokens + shape.cells.queries + shape.cells.keys;
        if cells(&largest.shape) < cells(&shape) {
            largest = LargestPass { shape, items };
        }
    }
    Ok(largest)
}
