//! Rows of token ids to packed micro-batches with their labels.

use std::borrow::Borrow;
use std::cmp::Reverse;

use rl_models::{Decoder, Packed, token_log_probs};
use tch::{Kind, Tensor};

use crate::Result;

/// One training sequence.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TrainingRow {
    /// What error messages and records call it: its row in the file, or its number in the rollout.
    pub id: u64,
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
    /// Labels of each row, `[rows]`.
    pub num_labels: Vec<usize>,
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
    pub fn new<R: Borrow<TrainingRow>>(decoder: &Decoder, all: &[R], rows: Vec<usize>) -> Result<Self> {
        let sequences: Vec<&[i64]> = rows.iter().map(|&row| all[row].borrow().ids.as_slice()).collect();
        let packed = decoder.pack(&sequences)?;
        let mut label_rows = Vec::new();
        let mut label_ids = Vec::new();
        let mut num_labels = Vec::with_capacity(rows.len());
        for (&row, &start) in rows.iter().zip(&packed.boundaries) {
            let TrainingRow { ids, trainable, .. } = all[row].borrow();
            let before = label_ids.len();
            for position in (1..ids.len()).filter(|&position| trainable[position]) {
                label_rows.push((start + position - 1) as i64);
                label_ids.push(ids[position]);
            }
            num_labels.push(label_ids.len() - before);
        }
        let on_device = |values: &[i64]| Tensor::from_slice(values).f_to_device(decoder.device());
        let (label_rows, label_ids) = (on_device(&label_rows)?, on_device(&label_ids)?);
        Ok(MicroBatch { rows, packed, num_labels, label_rows, label_ids })
    }

    /// Log-probabilities of the labels at `temperature`, f32 `[labels]`, with their graph.
    ///
    /// # Errors
    /// As [`rl_models::token_log_probs`].
    pub fn log_probs(&self, decoder: &Decoder, temperature: f64) -> Result<Tensor> {
        let hidden = decoder.hidden_states(&self.packed)?;
        Ok(token_log_probs(decoder, &hidden, &self.label_rows, &self.label_ids, temperature)?)
    }

    /// Names of the rows, for errors and records.
    pub fn row_ids<R: Borrow<TrainingRow>>(&self, all: &[R]) -> Vec<u64> {
        self.rows.iter().map(|&row| all[row].borrow().id).collect()
    }
}

/// Sends the gradient of a loss with respect to `outputs` `[n]` through the model, by the chain rule.
///
/// # Errors
/// When libtorch refuses an operation, as for want of memory.
pub fn backward_from(outputs: &Tensor, grad: &[f32]) -> Result<()> {
    let grad = Tensor::from_slice(grad).f_to_device(outputs.device())?;
    Ok(outputs.f_mul(&grad)?.f_sum(Kind::Float)?.f_backward()?)
}

/// A copy on the host; one device synchronisation.
///
/// # Errors
/// When libtorch refuses the copy.
pub fn to_host(tensor: &Tensor) -> Result<Vec<f32>> {
    Ok(Vec::<f32>::try_from(&tensor.f_detach()?)?)
}

/// Splits rows into micro-batches of at most `max_tokens` tokens each, longest rows first, so that the largest memory
/// comes first and rows of like length share an attention call. A longer row has a micro-batch of its own; a row without
/// a label has none.
pub fn micro_batches<R: Borrow<TrainingRow>>(rows: &[R], max_tokens: usize) -> Vec<Vec<usize>> {
    let labelled = (0..rows.len()).filter(|&row| 0 < rows[row].borrow().num_labels());
    split(labelled.map(|row| (row, rows[row].borrow().ids.len())).collect(), max_tokens)
}

/// As [`micro_batches`] for units of several rows that stay together, such as pairs: `unit_tokens` is `[units]`.
pub fn unit_micro_batches(unit_tokens: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
    split(unit_tokens.iter().copied().enumerate().collect(), max_tokens)
}

/// Longest first; equal lengths keep their order.
fn split(mut units: Vec<(usize, usize)>, max_tokens: usize) -> Vec<Vec<usize>> {
    units.sort_by_key(|&(_, length)| Reverse(length));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = usize::MAX;
    for (unit, length) in units {
        match batches.last_mut() {
            Some(batch) if tokens.saturating_add(length) <= max_tokens => {
                batch.push(unit);
                tokens += length;
            }
            _ => {
                batches.push(vec![unit]);
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
        let trainable = (0..length).map(|i| length - labels <= i).collect();
        TrainingRow { id: 0, ids: vec![1; length], trainable }
    }

    #[test]
    fn micro_batches_hold_every_labelled_row_once_and_keep_the_budget() {
        let rows = [row(5, 2), row(9, 3), row(4, 0), row(3, 1), row(20, 5)];
        assert_eq!(micro_batches(&rows, 12), vec![vec![4], vec![1], vec![0, 3]]);
        assert_eq!(unit_micro_batches(&[5, 9, 4, 3, 20], 12), vec![vec![4], vec![1], vec![0, 2, 3]]);
    }

    #[test]
    fn the_first_token_is_no_target() {
        assert_eq!(TrainingRow { id: 0, ids: vec![1, 2], trainable: vec![true, true] }.num_labels(), 1);
    }
}
