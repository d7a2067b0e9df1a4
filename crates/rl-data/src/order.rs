//! The order in which rows are visited: a function of seed and epoch, resumable from two numbers.

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::mix::Mix;

/// A permutation of `0..n`, a function of its arguments alone.
pub fn epoch_order(seed: u64, epoch: u64, n: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    RandomKey::new(seed, "epoch order").at(epoch).shuffle(&mut order);
    order
}

/// What an epoch visits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Epochs {
    /// Each of this many rows once.
    All(usize),
    /// Rows of several datasets, numbered through.
    Mixed(Mix),
}

impl Epochs {
    /// Row numbers of an epoch in their order, a function of the arguments alone.
    pub fn order(&self, seed: u64, epoch: u64) -> Vec<usize> {
        match self {
            Epochs::All(n) => epoch_order(seed, epoch, *n),
            Epochs::Mixed(mix) => mix.epoch(seed, epoch),
        }
    }

    /// Rows of an epoch.
    pub fn epoch_rows(&self) -> usize {
        match self {
            Epochs::All(n) => *n,
            Epochs::Mixed(mix) => mix.epoch_rows(),
        }
    }

    /// Rows there are; row numbers are below.
    pub fn num_rows(&self) -> usize {
        match self {
            Epochs::All(n) => *n,
            Epochs::Mixed(mix) => mix.num_rows(),
        }
    }

    /// That `cursor` can stand in an epoch of these rows.
    pub(crate) fn check(&self, cursor: Cursor) -> Result<()> {
        let rows = self.epoch_rows();
        if rows == 0 {
            return Err(Error::Setting { name: "rows", value: "0".into(), rule: "there must be a row to visit" });
        }
        if cursor.position >= rows {
            let value = format!("{} of {rows} rows", cursor.position);
            let rule = "must be below the number of rows; the cursor belongs to another data set";
            return Err(Error::Setting { name: "cursor.position", value, rule });
        }
        Ok(())
    }
}

impl From<usize> for Epochs {
    fn from(n: usize) -> Self {
        Epochs::All(n)
    }
}

impl From<Mix> for Epochs {
    fn from(mix: Mix) -> Self {
        Epochs::Mixed(mix)
    }
}

/// Where a pass over the data stands; all that a checkpoint needs. It is the same on every rank.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cursor {
    /// Complete passes so far.
    pub epoch: u64,
    /// Rows already visited in this pass, below the number of rows.
    pub position: usize,
}

/// Endless visit of rows, each epoch in its own order.
#[derive(Debug, Clone)]
pub struct DataOrder {
    seed: u64,
    epochs: Epochs,
    cursor: Cursor,
    order: Vec<usize>,
}

impl DataOrder {
    /// Starts at the first row of epoch 0: of `n` rows, which must be positive, or of a [`Mix`].
    pub fn new(seed: u64, epochs: impl Into<Epochs>) -> Result<Self> {
        DataOrder::resume(seed, epochs, Cursor::default())
    }

    /// Goes on where `cursor` stands: the rows to come are those an uninterrupted visit would give.
    ///
    /// `seed` and `epochs` must be those of the interrupted visit; a position beyond the epoch is an error.
    pub fn resume(seed: u64, epochs: impl Into<Epochs>, cursor: Cursor) -> Result<Self> {
        let epochs = epochs.into();
        epochs.check(cursor)?;
        let order = epochs.order(seed, cursor.epoch);
        Ok(DataOrder { seed, epochs, cursor, order })
    }

    /// Where the visit stands now.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The next `count` rows; goes over into the next epoch where one ends.
    pub fn take(&mut self, count: usize) -> Vec<usize> {
        (0..count).map(|_| self.advance()).collect()
    }

    /// The next `count` rows of this epoch, fewer at its end. Without a mix none comes twice in one batch.
    pub fn take_within_epoch(&mut self, count: usize) -> Vec<usize> {
        let left = self.order.len() - self.cursor.position;
        self.take(count.min(left))
    }

    fn advance(&mut self) -> usize {
        let row = self.order[self.cursor.position];
        self.cursor.position += 1;
        if self.cursor.position == self.order.len() {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, position: 0 };
            self.order = self.epochs.order(self.seed, self.cursor.epoch);
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mix::{MixConfig, MixStop};

    #[test]
    fn each_epoch_visits_every_row_once_in_its_own_order() {
        let mut order = DataOrder::new(3, 50).unwrap();
        let (first, second) = (order.take(50), order.take(50));
        assert_ne!(first, second);
        for epoch in [first, second] {
            let mut sorted = epoch.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..50).collect::<Vec<_>>());
            assert_ne!(epoch, sorted);
        }
        assert_ne!(epoch_order(3, 0, 50), epoch_order(4, 0, 50));
    }

    #[test]
    fn a_resumed_visit_equals_the_uninterrupted_one() {
        let config = MixConfig { weights: vec![1.0, 2.0], stop: MixStop::FirstExhausted };
        for epochs in [Epochs::All(7), Epochs::Mixed(Mix::new(&[3, 9], &config).unwrap())] {
            let whole = DataOrder::new(9, epochs.clone()).unwrap().take(40);
            for stop in 0..40 {
                let mut head = DataOrder::new(9, epochs.clone()).unwrap();
                let mut rows = head.take(stop);
                let saved = serde_json::to_string(&head.cursor()).unwrap();
                let mut tail = DataOrder::resume(9, epochs.clone(), serde_json::from_str(&saved).unwrap()).unwrap();
                rows.extend(tail.take(40 - stop));
                assert_eq!(rows, whole, "stopped after {stop}");
            }
        }
    }

    #[test]
    fn a_batch_within_the_epoch_ends_with_it() {
        let mut order = DataOrder::new(1, 5).unwrap();
        assert_eq!([3, 2, 3].map(|count| order.take_within_epoch(count).len()), [3, 2, 3]);
        assert_eq!(order.cursor(), Cursor { epoch: 1, position: 3 });
        assert!(order.take_within_epoch(0).is_empty());
    }

    #[test]
    fn a_cursor_of_other_data_is_refused() {
        assert!(DataOrder::new(1, 0).is_err());
        let error = DataOrder::resume(1, 5, Cursor { epoch: 0, position: 5 }).unwrap_err().to_string();
        assert!(error.contains("5 of 5"), "{error}");
    }
}
