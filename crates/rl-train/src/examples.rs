//! Training examples in the order of the run, and how many steps they make.

use rl_data::{Cursor, DataOrder};

use crate::Result;
use crate::config::TrainingConfig;

/// Examples visited epoch by epoch, each epoch in its own order.
pub(crate) struct Examples<T> {
    items: Vec<T>,
    order: DataOrder,
    /// Examples of the whole run; none when its length is counted in steps.
    total: Option<u64>,
}

impl<T> Examples<T> {
    /// Starts, or goes on where `cursor` stands.
    pub fn new(items: Vec<T>, seed: u64, cursor: Option<Cursor>, training: &TrainingConfig) -> Result<Self> {
        let order = DataOrder::resume(seed, items.len(), cursor.unwrap_or_default())?;
        let total = training.epochs.map(|epochs| epochs.saturating_mul(items.len() as u64));
        Ok(Examples { items, order, total })
    }

    /// Steps of the run with `batch_size` examples each; the last may have fewer.
    pub fn num_steps(&self, batch_size: usize, training: &TrainingConfig) -> u64 {
        self.total.map_or(training.max_steps.unwrap_or(0), |total| total.div_ceil(batch_size as u64))
    }

    /// The examples of the next step.
    pub fn next(&mut self, batch_size: usize) -> Vec<&T> {
        let Cursor { epoch, position } = self.order.cursor();
        let visited = epoch * self.items.len() as u64 + position as u64;
        let left = self.total.map_or(u64::MAX, |total| total.saturating_sub(visited));
        let count = batch_size.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.order.take(count).into_iter().map(|index| &self.items[index]).collect()
    }

    /// Where the visit stands.
    pub fn cursor(&self) -> Cursor {
        self.order.cursor()
    }
}
