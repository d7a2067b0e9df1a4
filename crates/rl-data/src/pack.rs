//! Several documents in one row without padding.
//!
//! Positions restart with every document and `boundaries` tell the attention where documents end, so the loss of a
//! packed row is the sum of the losses of its documents.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::render::Example;

/// How documents share rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Longest first, each into the row with the least room that still holds it, else into a new row.
    BestFitDecreasing,
    /// One document a row, in order.
    None,
}

/// Assigns documents of `lengths` tokens to rows of at most `capacity` tokens; each row lists its documents.
///
/// A function of its arguments: equal lengths keep their order, equal rooms go to the older row.
/// Errors: [`Error::TooLong`], [`Error::EmptyRow`]. Apply [`crate::select()`] first to cut or drop long ones.
///
/// Johnson 1973, "Near-optimal bin packing algorithms", best fit decreasing: at most 11/9 of the fewest rows, plus 4.
pub fn pack(packing: Packing, lengths: &[usize], capacity: usize) -> Result<Vec<Vec<usize>>> {
    for (row, &length) in lengths.iter().enumerate() {
        if length == 0 {
            return Err(Error::EmptyRow { row });
        }
        if length > capacity {
            return Err(Error::TooLong { row, length, limit: capacity });
        }
    }
    match packing {
        Packing::None => Ok((0..lengths.len()).map(|row| vec![row]).collect()),
        Packing::BestFitDecreasing => Ok(best_fit_decreasing(lengths, capacity)),
    }
}

fn best_fit_decreasing(lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&document| std::cmp::Reverse(lengths[document]));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut rooms: BTreeSet<(usize, usize)> = BTreeSet::new(); // (room left, row)
    for document in order {
        let length = lengths[document];
        let (room, row) = match rooms.range((length, 0)..).next().copied() {
            Some(found) => {
                rooms.remove(&found);
                found
            }
            None => {
                rows.push(Vec::new());
                (capacity, rows.len() - 1)
            }
        };
        rows[row].push(document);
        rooms.insert((room - length, row));
    }
    rows
}

/// One packed row of `tokens` tokens from `documents` documents, with its targets already shifted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackedBatch {
    /// Token ids, `[tokens]`.
    pub ids: Vec<i64>,
    /// Position of each token in its document, `[tokens]`.
    pub positions: Vec<i64>,
    /// Where documents begin, and the end of the last: `[documents + 1]`, first 0, last `tokens`.
    pub boundaries: Vec<usize>,
    /// Positions of the row whose *next* token is a target, `[targets]`, increasing.
    ///
    /// The last token of a document is never among them, so the first token of a document is never a target.
    pub label_rows: Vec<i64>,
    /// Those next tokens, `[targets]`.
    pub label_ids: Vec<i64>,
}

impl PackedBatch {
    /// Joins `examples` in their order. [`Error::EmptyRow`] names an example without tokens by its place in the list.
    pub fn new<'a>(examples: impl IntoIterator<Item = &'a Example>) -> Result<Self> {
        let mut batch = PackedBatch { boundaries: vec![0], ..PackedBatch::default() };
        for (row, example) in examples.into_iter().enumerate() {
            if example.ids.is_empty() {
                return Err(Error::EmptyRow { row });
            }
            batch.push(example);
        }
        Ok(batch)
    }

    fn push(&mut self, example: &Example) {
        let start = self.ids.len();
        self.ids.extend(example.ids.iter().map(|&id| i64::from(id)));
        self.positions.extend((0..).take(example.ids.len()));
        self.boundaries.push(self.ids.len());
        for next in (1..example.ids.len()).filter(|&next| example.trainable[next]) {
            self.label_rows.push((start + next - 1) as i64);
            self.label_ids.push(i64::from(example.ids[next]));
        }
    }

    /// Number of documents.
    pub fn num_documents(&self) -> usize {
        self.boundaries.len().saturating_sub(1)
    }

    /// Length of the longest document in tokens; 0 without documents.
    pub fn max_document_length(&self) -> usize {
        self.boundaries.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0)
    }

    /// Indices into `label_rows` that belong to each document, `[documents]`.
    pub fn labels_by_document(&self) -> Vec<std::ops::Range<usize>> {
        let before = |end: usize| self.label_rows.partition_point(|&row| row < end as i64);
        self.boundaries.windows(2).map(|pair| before(pair[0])..before(pair[1])).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By hand, capacity 10, lengths 4 8 1 4 2 1: 8 opens row 0 (room 2); 4 opens row 1 (room 6); the second 4 goes
    /// there (room 2); 2 finds two rooms of 2 and takes the older, row 0 (room 0); both 1s fit only row 1 (room 0).
    #[test]
    fn best_fit_takes_the_tightest_room() {
        let rows = pack(Packing::BestFitDecreasing, &[4, 8, 1, 4, 2, 1], 10).unwrap();
        assert_eq!(rows, [vec![1, 4], vec![0, 3, 2, 5]]);
        // 6 leaves room 3 and 5 leaves room 4: the 4 fits only the latter, and a 3 takes the tighter room 3.
        assert_eq!(pack(Packing::BestFitDecreasing, &[5, 6, 4, 3], 9).unwrap(), [vec![1, 3], vec![0, 2]]);
        assert_eq!(pack(Packing::BestFitDecreasing, &[5, 6, 3], 9).unwrap(), [vec![1, 2], vec![0]]);
        assert_eq!(pack(Packing::None, &[5, 6], 9).unwrap(), [vec![0], vec![1]]);
        assert!(pack(Packing::BestFitDecreasing, &[], 9).unwrap().is_empty());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for packing in [Packing::BestFitDecreasing, Packing::None] {
            let error = pack(packing, &[3, 11], 10).unwrap_err();
            assert!(matches!(error, Error::TooLong { row: 1, length: 11, limit: 10 }), "{error}");
            assert!(matches!(pack(packing, &[3, 0], 10).unwrap_err(), Error::EmptyRow { row: 1 }));
        }
    }

    /// Documents `10 11* 12*` and `20* 21 22*`, targets starred; 20 is the first of its document, so no target.
    #[test]
    fn labels_are_shifted_and_stay_in_their_document() {
        let document = |ids: [u32; 3], trainable: [bool; 3]| Example {
            ids: ids.into(),
            trainable: trainable.into(),
            roles: vec![None; 3],
        };
        let (first, second) =
            (document([10, 11, 12], [false, true, true]), document([20, 21, 22], [true, false, true]));
        let batch = PackedBatch::new([&first, &second]).unwrap();
        assert_eq!(batch.ids, [10, 11, 12, 20, 21, 22]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 2]);
        assert_eq!(batch.boundaries, [0, 3, 6]);
        assert_eq!(batch.label_rows, [0, 1, 4]);
        assert_eq!(batch.label_ids, [11, 12, 22]);
        assert_eq!(batch.labels_by_document(), [0..2, 2..3]);
        assert_eq!((batch.num_documents(), batch.max_document_length()), (2, 3));
        assert_eq!(PackedBatch::new([]).unwrap().num_documents(), 0);
    }
}
