//! From examples in memory to the packed batches of each step: shuffled, shared out over ranks, packed, resumable.
//!
//! What a step trains on is a function of seed, cursor and [`Batching`]; ranks and prefetching only part and hasten the
//! work. Not here: examples that do not fit into memory (`pack_stream`).

use std::collections::VecDeque;
use std::sync::Arc;

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::length_groups::{LengthGroups, length_grouped};
use crate::order::{Cursor, Epochs};
use crate::pack::{Packing, pack};
use crate::packed_batch::PackedBatch;
use crate::prefetch::Prefetch;
use crate::render::Example;
use crate::shard::Shard;

/// Which rows make a step, over all ranks together. Every value moves results, so none has a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Batching {
    /// The next rows of the epoch, fewer in its last step.
    Rows {
        /// Rows of a step.
        batch_size: usize,
        /// How they share packed rows.
        packing: Packing,
        /// Most tokens of a packed row.
        max_tokens: usize,
    },
    /// Rows of like length, as [`length_grouped`] finds them; each rank's share is one packed row.
    LengthGrouped {
        /// Most tokens of a step.
        max_tokens: usize,
        /// Rows that are sorted together.
        window: usize,
    },
}

/// What a rank trains on in one step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepBatch {
    /// The rank's rows, indices into the examples.
    pub rows: Vec<usize>,
    /// Their tokens.
    pub packed: Vec<PackedBatch>,
    /// How many of `rows`, the last ones, another rank has too, see [`crate::Remainder::Repeat`].
    pub num_repeated: usize,
    /// Rows of the step that no rank has, see [`crate::Remainder::Drop`].
    pub num_dropped: usize,
    /// Where the visit stands after this step: what a checkpoint made after it has to keep, however far ahead batches
    /// were made.
    pub next: Cursor,
}

/// The steps of a run, epoch after epoch.
#[derive(Debug, Clone)]
pub struct Batches {
    examples: Arc<[Example]>,
    lengths: Vec<usize>,
    seed: u64,
    epochs: Epochs,
    batching: Batching,
    shard: Shard,
    cursor: Cursor,
    last_epoch: Option<u64>,
    /// Rows of the steps to come in the cursor's epoch.
    steps: VecDeque<Vec<usize>>,
}

impl Batches {
    /// Steps from `cursor` on: `Cursor::default()`, or what the last [`StepBatch::next`] said.
    ///
    /// `epochs` is `examples.len()` or a [`crate::Mix`] of their datasets, one behind the other. [`Error::Setting`] if it does
    /// not fit the examples, the cursor is not at the start of a step, or a number is 0; [`Error::TooLong`] and
    /// [`Error::EmptyRow`] name examples that no step could hold.
    pub fn new(
        examples: Arc<[Example]>,
        seed: u64,
        epochs: impl Into<Epochs>,
        batching: Batching,
        shard: Shard,
        cursor: Cursor,
    ) -> Result<Self> {
        let epochs = epochs.into();
        if epochs.num_rows() != examples.len() {
            let value = format!("{} rows for {} examples", epochs.num_rows(), examples.len());
            return Err(Error::Setting { name: "epochs", value, rule: "must visit the examples that are given" });
        }
        epochs.check(cursor)?;
        let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
        // What cannot be packed is found now and not in the middle of the run.
        match batching {
            Batching::Rows { batch_size: 0, .. } => {
                return Err(Error::Setting { name: "batch_size", value: "0".into(), rule: "must be 1 or more" });
            }
            Batching::Rows { packing, max_tokens, .. } => drop(pack(packing, &lengths, max_tokens)?),
            Batching::LengthGrouped { .. } => {}
        }
        let (steps, last_epoch) = (VecDeque::new(), None);
        let mut batches = Batches { examples, lengths, seed, epochs, batching, shard, cursor, last_epoch, steps };
        batches.open_epoch()?;
        Ok(batches)
    }

    /// The same steps, ended after `epochs` epochs; without this they never end.
    pub fn ending_after(mut self, epochs: u64) -> Self {
        self.last_epoch = Some(epochs);
        self
    }

    /// Where the visit stands.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The same steps, made on another thread, up to `ahead` of them ready.
    pub fn prefetch(self, ahead: usize) -> Result<Prefetch<StepBatch>> {
        Prefetch::new(ahead, self)
    }

    /// Makes the steps of the cursor's epoch and leaves out those before it.
    fn open_epoch(&mut self) -> Result<()> {
        let Cursor { epoch, position } = self.cursor;
        let order = self.epochs.order(self.seed, epoch);
        self.steps = match self.batching {
            Batching::Rows { batch_size, .. } => order.chunks(batch_size).map(<[usize]>::to_vec).collect(),
            Batching::LengthGrouped { max_tokens, window } => {
                let key = RandomKey::new(self.seed, "length groups").at(epoch);
                length_grouped(&order, &self.lengths, LengthGroups { max_tokens, window }, key)?.into()
            }
        };
        let mut before = 0;
        while before < position {
            before += self.steps.pop_front().map_or(usize::MAX - before, |step| step.len());
        }
        if before == position {
            return Ok(());
        }
        let rule = "is in the middle of a step; the cursor belongs to another batch size or other data";
        Err(Error::Setting { name: "cursor.position", value: position.to_string(), rule })
    }

    fn step(&mut self) -> Result<Option<StepBatch>> {
        if self.last_epoch.is_some_and(|last| last <= self.cursor.epoch) {
            return Ok(None);
        }
        if self.steps.is_empty() {
            self.open_epoch()?;
        }
        let Some(step) = self.steps.pop_front() else { return Ok(None) };
        let share = self.shard.share(&step);
        let lengths: Vec<usize> = share.rows.iter().map(|&row| self.lengths[row]).collect();
        let rows = match self.batching {
            Batching::Rows { packing, max_tokens, .. } => pack(packing, &lengths, max_tokens)?,
            // The rows of a group fit into one packed row, and so does a share of them.
            Batching::LengthGrouped { max_tokens, .. } if !lengths.is_empty() => {
                pack(Packing::Wrapped, &lengths, max_tokens)?
            }
            Batching::LengthGrouped { .. } => Vec::new(),
        };
        let examples: Vec<&Example> = share.rows.iter().map(|&row| &self.examples[row]).collect();
        let packed = rows.iter().map(|row| PackedBatch::new(&examples, row)).collect::<Result<_>>()?;
        self.cursor.position += step.len();
        if self.steps.is_empty() {
            self.cursor = Cursor { epoch: self.cursor.epoch + 1, position: 0 };
        }
        let (num_repeated, num_dropped) = (share.num_repeated, share.num_dropped);
        Ok(Some(StepBatch { rows: share.rows, packed, num_repeated, num_dropped, next: self.cursor }))
    }
}

impl Iterator for Batches {
    type Item = Result<StepBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        self.step().transpose()
    }
}
