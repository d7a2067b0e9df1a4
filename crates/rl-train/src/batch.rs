//! Rows of token ids to packed micro-batches with their labels.

use std::borrow::Borrow;
use std::cmp::Reverse;

use rl_models::{Decoder, Packed, SharedRows, token_log_probs};
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
    /// Rows of one group begin alike, as answers to one prompt do: neighbours share that beginning in the model. None for
    /// a row on its own.
    pub group: Option<u64>,
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
    /// Packs the chosen rows of `all`; the common beginning of neighbours of one group goes through the model once.
    ///
    /// # Errors
    /// When a row has an id or a length that the model does not have.
    pub fn new<R: Borrow<TrainingRow>>(decoder: &Decoder, all: &[R], rows: Vec<usize>) -> Result<Self> {
        let chosen: Vec<&TrainingRow> = rows.iter().map(|&row| all[row].borrow()).collect();
        let packed = decoder.pack_shared(&shared_groups(&chosen))?;
        let mut label_rows = Vec::new();
        let mut label_ids = Vec::new();
        let mut num_labels = Vec::with_capacity(rows.len());
        for (sequence, TrainingRow { ids, trainable, .. }) in chosen.iter().enumerate() {
            let before = label_ids.len();
            for position in (1..ids.len()).filter(|&position| trainable[position]) {
                label_rows.push(packed.row_of(sequence, position - 1)? as i64);
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

/// Splits rows into micro-batches of at most `max_tokens` tokens each, longest first, so that the largest memory comes
/// first and rows of like length share an attention call. Neighbours of one group stay together as far as they fit, and
/// their common beginning counts once. A longer row has a micro-batch of its own; a row without a label has none.
pub fn micro_batches<R: Borrow<TrainingRow>>(rows: &[R], max_tokens: usize) -> Vec<Vec<usize>> {
    let labelled: Vec<usize> = (0..rows.len()).filter(|&row| 0 < rows[row].borrow().num_labels()).collect();
    let mut units: Vec<Vec<usize>> = Vec::new();
    for group in labelled.chunk_by(|&a, &b| are_neighbours(rows[a].borrow(), rows[b].borrow())) {
        let mut unit: Vec<usize> = Vec::new();
        for &row in group {
            unit.push(row);
            if 1 < unit.len() && max_tokens < unit_tokens(rows, &unit) {
                unit.pop();
                units.push(std::mem::replace(&mut unit, vec![row]));
            }
        }
        units.push(unit);
    }
    let tokens: Vec<usize> = units.iter().map(|unit| unit_tokens(rows, unit)).collect();
    let batches = unit_micro_batches(&tokens, max_tokens).into_iter();
    batches.map(|batch| batch.into_iter().flat_map(|unit| units[unit].iter().copied()).collect()).collect()
}

/// Tokens that go through the model when these rows, all of one group, are packed together.
pub fn unit_tokens<R: Borrow<TrainingRow>>(all: &[R], rows: &[usize]) -> usize {
    let chosen: Vec<&TrainingRow> = rows.iter().map(|&row| all[row].borrow()).collect();
    shared_rows(&chosen).num_tokens()
}

/// As [`micro_batches`] for units that stay together whatever their size, such as pairs: `unit_tokens` is `[units]`.
pub fn unit_micro_batches(unit_tokens: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
    split(unit_tokens.iter().copied().enumerate().collect(), max_tokens)
}

/// The rows of one pass as the model packs them: neighbours of one group by their common beginning.
pub(crate) fn shared_groups<'a>(rows: &[&'a TrainingRow]) -> Vec<SharedRows<'a>> {
    rows.chunk_by(|a, b| are_neighbours(a, b)).map(shared_rows).collect()
}

fn are_neighbours(a: &TrainingRow, b: &TrainingRow) -> bool {
    a.group.is_some() && a.group == b.group
}

fn shared_rows<'a>(group: &[&'a TrainingRow]) -> SharedRows<'a> {
    SharedRows::of(&group.iter().map(|row| row.ids.as_slice()).collect::<Vec<_>>())
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
        TrainingRow { ids: vec![1; length], trainable, ..Default::default() }
    }

    fn answer(group: u64, ids: &[i64]) -> TrainingRow {
        let trainable = (0..ids.len()).map(|position| 2 < position).collect();
        TrainingRow { id: 0, ids: ids.to_vec(), trainable, group: Some(group) }
    }

    #[test]
    fn the_common_beginning_of_a_group_counts_once_and_every_row_keeps_a_token() {
        let rows =
            [answer(0, &[1, 2, 3, 4]), answer(0, &[1, 2, 3, 5, 6]), answer(0, &[1, 2, 3, 4]), answer(1, &[1, 2, 3, 4])];
        assert_eq!(unit_tokens(&rows, &[0, 1]), 6);
        assert_eq!(unit_tokens(&rows, &[0, 2]), 5);
        assert_eq!(unit_tokens(&rows, &[3]), 4);
        // Seven tokens hold the first two rows of the group, or three rows but for one token.
        assert_eq!(micro_batches(&rows, 7), vec![vec![0, 1, 2], vec![3]]);
        assert_eq!(micro_batches(&rows, 6), vec![vec![0, 1], vec![2], vec![3]]);
        assert_eq!(micro_batches(&rows, 11), vec![vec![0, 1, 2, 3]]);
    }

    #[test]
    fn micro_batches_hold_every_labelled_row_once_and_keep_the_budget() {
        let rows = [row(5, 2), row(9, 3), row(4, 0), row(3, 1), row(20, 5)];
        assert_eq!(micro_batches(&rows, 12), vec![vec![4], vec![1], vec![0, 3]]);
        assert_eq!(unit_micro_batches(&[5, 9, 4, 3, 20], 12), vec![vec![4], vec![1], vec![0, 2, 3]]);
    }

    #[test]
    fn the_first_token_is_no_target() {
        assert_eq!(TrainingRow { ids: vec![1, 2], trainable: vec![true, true], ..Default::default() }.num_labels(), 1);
    }
}
