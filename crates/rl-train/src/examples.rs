//! Training examples in the order of the run, and how many steps they make.

use std::sync::Arc;

use rl_data::{Cursor, DataOrder, Epochs, Mix, MixConfig};

use crate::Result;
use crate::config::TrainingConfig;

/// Examples of one dataset, or of several that an epoch mixes.
#[derive(Debug, Clone)]
pub(crate) struct TrainingSet<T> {
    /// Those of the first dataset, then those of the second, ...
    pub items: Vec<T>,
    /// Examples of each dataset.
    sizes: Vec<usize>,
    mix: Option<MixConfig>,
}

/// Examples visited epoch by epoch, each epoch in its own order.
pub(crate) struct Examples<T> {
    items: Arc<Vec<T>>,
    seed: u64,
    epochs: Epochs,
    order: DataOrder,
    /// Examples of the whole run; none when its length is counted in steps.
    total: Option<u64>,
}

impl<T> TrainingSet<T> {
    /// The examples of each dataset; without `mix` every epoch visits all of them.
    pub fn new(parts: Vec<Vec<T>>, mix: Option<MixConfig>) -> Self {
        let sizes = parts.iter().map(Vec::len).collect();
        TrainingSet { items: parts.into_iter().flatten().collect(), sizes, mix }
    }

    /// What the epochs visit.
    pub fn epochs(&self) -> Result<Epochs> {
        Ok(match &self.mix {
            Some(mix) => Mix::new(&self.sizes, mix)?.into(),
            None => self.items.len().into(),
        })
    }

    /// Other examples in the place of these.
    pub fn map<U>(self, convert: impl FnMut(T) -> U) -> TrainingSet<U> {
        let TrainingSet { items, sizes, mix } = self;
        TrainingSet { items: items.into_iter().map(convert).collect(), sizes, mix }
    }

    /// Other examples in the place of those of each dataset, maybe not as many.
    pub fn map_datasets<U>(self, mut convert: impl FnMut(Vec<T>) -> Result<Vec<U>>) -> Result<TrainingSet<U>> {
        let TrainingSet { items, sizes, mix } = self;
        let mut items = items.into_iter();
        let parts = sizes.iter().map(|&size| convert(items.by_ref().take(size).collect())).collect::<Result<_>>()?;
        Ok(TrainingSet::new(parts, mix))
    }
}

impl<T> From<Vec<T>> for TrainingSet<T> {
    fn from(items: Vec<T>) -> Self {
        TrainingSet::new(vec![items], None)
    }
}

impl<T> Examples<T> {
    /// Starts, or goes on where `cursor` stands.
    pub fn new(set: TrainingSet<T>, seed: u64, cursor: Option<Cursor>, training: &TrainingConfig) -> Result<Self> {
        let epochs = set.epochs()?;
        let order = DataOrder::resume(seed, epochs.clone(), cursor.unwrap_or_default())?;
        let total = training.epochs.map(|count| count.saturating_mul(epochs.epoch_rows() as u64));
        Ok(Examples { items: Arc::new(set.items), seed, epochs, order, total })
    }

    /// The same examples visited from `cursor`.
    pub fn from(&self, cursor: Cursor) -> Result<Self> {
        let Self { items, seed, epochs, total, .. } = self;
        let order = DataOrder::resume(*seed, epochs.clone(), cursor)?;
        Ok(Examples { items: Arc::clone(items), seed: *seed, epochs: epochs.clone(), order, total: *total })
    }

    /// Steps of the run with `batch_size` examples each; the last may have fewer.
    pub fn num_steps(&self, batch_size: usize, training: &TrainingConfig) -> u64 {
        self.total.map_or(training.max_steps.unwrap_or(0), |total| total.div_ceil(batch_size as u64))
    }

    /// The examples of the next step.
    pub fn next(&mut self, batch_size: usize) -> Vec<&T> {
        let Cursor { epoch, position } = self.order.cursor();
        let visited = epoch * self.epochs.epoch_rows() as u64 + position as u64;
        let left = self.total.map_or(u64::MAX, |total| total.saturating_sub(visited));
        let count = batch_size.min(usize::try_from(left).unwrap_or(usize::MAX));
        self.order.take(count).into_iter().map(|index| &self.items[index]).collect()
    }

    /// Where the visit stands.
    pub fn cursor(&self) -> Cursor {
        self.order.cursor()
    }
}
