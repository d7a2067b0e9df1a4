//! Rows of token ids to packed micro-batches with their labels.

use rl_models::{ChatModel, Packed};
use tch::Tensor;

use crate::Result;

/// One training sequence.
#[derive(Debug, Clone)]
pub struct TrainingRow {
    /// Token ids, `[seq]`.
    pub ids: Vec<i64>,
    /// True on tokens that are trained, `[seq]`; the first is never a target.
    pub trainable: Vec<bool>,
}

impl TrainingRow {
    /// Tokens of this row that are targets.
    pub fn num_labels(&self) -> usize {
        self.trainable.iter().skip(1).filter(|&&trained| trained).count()
    }
}

/// Rows that go through the model together, in one forward and one backward pass.
#[derive(Debug)]
pub struct MicroBatch {
    /// Indices into the rows of the step, in packing order.
    pub rows: Vec<usize>,
    /// The packed tokens.
    pub packed: Packed,
    /// Hidden row that predicts each label, `[labels]`, in the order of `rows`.
    pub label_rows: Tensor,
    /// Target id of each label, `[labels]`.
    pub label_ids: Tensor,
}

impl MicroBatch {
    /// Packs the chosen rows of `all`.
    ///
    /// # Errors
    /// When a row has an id or a length that the model does not have.
    pub fn new(model: &ChatModel, all: &[TrainingRow], rows: Vec<usize>) -> Result<Self> {
        let sequences: Vec<&[i64]> = rows.iter().map(|&row| all[row].ids.as_slice()).collect();
        let packed = model.decoder.pack(&sequences)?;
        let mut label_rows = Vec::new();
        let mut label_ids = Vec::new();
        for (&row, &start) in rows.iter().zip(&packed.boundaries) {
            let TrainingRow { ids, trainable } = &all[row];
            for position in (1..ids.len()).filter(|&position| trainable[position]) {
                label_rows.push((start + position - 1) as i64);
                label_ids.push(ids[position]);
            }
        }
        let on_device = |values: &[i64]| Tensor::from_slice(values).to_device(model.decoder.device());
        Ok(MicroBatch { rows, packed, label_rows: on_device(&label_rows), label_ids: on_device(&label_ids) })
    }
}

/// Splits rows into micro-batches of at most `max_tokens` tokens each, longest rows first, so that the largest memory
/// comes first and rows of like length share an attention call. A longer row has a micro-batch of its own.
pub fn micro_batches(rows: &[TrainingRow], max_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..rows.len()).filter(|&row| 0 < rows[row].num_labels()).collect();
    order.sort_by_key(|&row| std::cmp::Reverse(rows[row].ids.len()));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = usize::MAX;
    for row in order {
        let length = rows[row].ids.len();
        match batches.last_mut() {
            Some(batch) if tokens + length <= max_tokens => {
                batch.push(row);
                tokens += length;
            }
            _ => {
                batches.push(vec![row]);
                tokens = length;
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(length: usize, labels: usize) -> TrainingRow {
        TrainingRow { ids: vec![1; length], trainable: (0..length).map(|i| length - labels <= i).collect() }
    }

    #[test]
    fn micro_batches_hold_every_labelled_row_once_and_keep_the_budget() {
        let rows = [row(5, 2), row(9, 3), row(4, 0), row(3, 1), row(20, 5)];
        let batches = micro_batches(&rows, 12);
        assert_eq!(batches, vec![vec![4], vec![1], vec![0, 3]]);
    }

    #[test]
    fn the_first_token_is_no_target() {
        assert_eq!(TrainingRow { ids: vec![1, 2], trainable: vec![true, true] }.num_labels(), 1);
    }
}
