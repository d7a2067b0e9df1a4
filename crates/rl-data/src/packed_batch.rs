//! The tokens of a packed row.
//!
//! Positions restart with every document and `boundaries` tell the attention where documents end, so the loss of a
//! packed row is the sum of the losses of its documents.

use std::borrow::Borrow;

use crate::error::{Error, Result};
use crate::pack::Piece;
use crate::render::Example;

/// One packed row of `tokens` tokens from `documents` documents or pieces of them, with its targets already shifted.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PackedBatch {
    /// Token ids, `[tokens]`.
    pub ids: Vec<i64>,
    /// Position of each token in its piece, `[tokens]`.
    pub positions: Vec<i64>,
    /// Where pieces begin, and the end of the last: `[documents + 1]`, first 0, last `tokens`.
    pub boundaries: Vec<usize>,
    /// Positions of the row whose *next* token is a target, `[targets]`, increasing.
    ///
    /// The last token of a piece is never among them, so the first token of a piece is never a target.
    pub label_rows: Vec<i64>,
    /// Those next tokens, `[targets]`.
    pub label_ids: Vec<i64>,
    /// Trainable tokens that are no targets because a cut took away the token before them; 0 where documents are whole.
    pub cut_targets: usize,
}

impl PackedBatch {
    /// Joins the pieces of `row` in their order; their documents are indices into `examples`.
    ///
    /// [`Error::EmptyRow`] names an example without tokens; [`Error::NoSuchPiece`] a piece that is not in its example.
    pub fn new<E: Borrow<Example>>(examples: &[E], row: &[Piece]) -> Result<Self> {
        let num_tokens = row.iter().map(Piece::num_tokens).sum();
        let mut batch = PackedBatch {
            ids: Vec::with_capacity(num_tokens),
            positions: Vec::with_capacity(num_tokens),
            boundaries: Vec::with_capacity(row.len() + 1),
            ..PackedBatch::default()
        };
        batch.boundaries.push(0);
        for &piece in row {
            let length = examples.get(piece.document).map(|example| example.borrow().ids.len());
            match (length, examples.get(piece.document)) {
                (Some(0), _) => return Err(Error::EmptyRow { row: piece.document }),
                (Some(length), Some(example)) if piece.start < piece.end && piece.end <= length => {
                    batch.push(example.borrow(), piece);
                }
                _ => {
                    let Piece { document, start, end } = piece;
                    return Err(Error::NoSuchPiece { document, start, end, length });
                }
            }
        }
        Ok(batch)
    }

    fn push(&mut self, example: &Example, piece: Piece) {
        let offset = self.ids.len();
        self.ids.extend(example.ids[piece.start..piece.end].iter().map(|&id| i64::from(id)));
        self.positions.extend((0..).take(piece.num_tokens()));
        self.boundaries.push(self.ids.len());
        self.cut_targets += usize::from(0 < piece.start && example.trainable[piece.start]);
        for next in (piece.start + 1..piece.end).filter(|&next| example.trainable[next]) {
            self.label_rows.push((offset + next - piece.start - 1) as i64);
            self.label_ids.push(i64::from(example.ids[next]));
        }
    }

    /// Number of documents or pieces.
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

    fn document(ids: [u32; 3], trainable: [bool; 3]) -> Example {
        Example { ids: ids.into(), trainable: trainable.into(), roles: vec![None; 3] }
    }

    /// Documents `10 11* 12*` and `20* 21 22*`, targets starred; 20 is the first of its document, so no target.
    #[test]
    fn labels_are_shifted_and_stay_in_their_document() {
        let examples = [document([10, 11, 12], [false, true, true]), document([20, 21, 22], [true, false, true])];
        let batch = PackedBatch::new(&examples, &[Piece::whole(0, 3), Piece::whole(1, 3)]).unwrap();
        assert_eq!(batch.ids, [10, 11, 12, 20, 21, 22]);
        assert_eq!(batch.positions, [0, 1, 2, 0, 1, 2]);
        assert_eq!(batch.boundaries, [0, 3, 6]);
        assert_eq!(batch.label_rows, [0, 1, 4]);
        assert_eq!(batch.label_ids, [11, 12, 22]);
        assert_eq!(batch.labels_by_document(), [0..2, 2..3]);
        assert_eq!((batch.num_documents(), batch.max_document_length(), batch.cut_targets), (2, 3, 0));
        assert_eq!(PackedBatch::new::<Example>(&[], &[]).unwrap().num_documents(), 0);
    }

    #[test]
    fn a_cut_costs_the_target_behind_it_and_that_is_counted() {
        let examples = [document([10, 11, 12], [false, true, true])];
        let piece = |start, end| Piece { document: 0, start, end };
        let batch = PackedBatch::new(&examples, &[piece(1, 3), piece(0, 1)]).unwrap();
        assert_eq!((batch.ids.as_slice(), batch.positions.as_slice()), ([11, 12, 10].as_slice(), [0, 1, 0].as_slice()));
        assert_eq!((batch.label_rows, batch.label_ids, batch.cut_targets), (vec![0], vec![12], 1));
    }

    #[test]
    fn pieces_of_other_data_are_refused() {
        let examples =
            [document([10, 11, 12], [false, true, true]), Example { ids: vec![], trainable: vec![], roles: vec![] }];
        for piece in [Piece::whole(0, 4), Piece::whole(2, 1), Piece { document: 0, start: 2, end: 2 }] {
            let error = PackedBatch::new(&examples, &[piece]).unwrap_err();
            assert!(matches!(error, Error::NoSuchPiece { .. }), "{error}");
        }
        let error = PackedBatch::new(&examples, &[Piece::whole(1, 0)]).unwrap_err();
        assert!(matches!(error, Error::EmptyRow { row: 1 }), "{error}");
    }
}
