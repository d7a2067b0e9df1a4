//! Several documents in one row without padding: which documents share a row, and where a document is cut.
//!
//! Not here: the tokens of a row (`packed_batch`) and batches of rows of like length (`length_groups`).

use serde::{Deserialize, Serialize};

use crate::best_fit::best_fit_decreasing;
use crate::error::{Error, Result};

/// How documents share rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Longest first, each into the row with the least room that still holds it, else into a new row. Documents stay
    /// whole; one above the capacity is an error.
    BestFitDecreasing,
    /// The same after documents above the capacity were cut into pieces of the capacity and a rest. For plain text: each
    /// later piece has lost what stood before it.
    BestFitDecreasingSplit,
    /// One document behind the other, cut wherever a row is full. Only the last row has room left.
    Wrapped,
    /// One document a row, in order; one above the capacity is an error.
    None,
}

/// Tokens `start..end` of a document; of a whole document all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Piece {
    /// Index of the document.
    pub document: usize,
    /// First token.
    pub start: usize,
    /// One past the last token.
    pub end: usize,
}

impl Piece {
    /// A document of `length` tokens as it is.
    pub fn whole(document: usize, length: usize) -> Self {
        Piece { document, start: 0, end: length }
    }

    /// Number of tokens.
    pub fn num_tokens(&self) -> usize {
        self.end.saturating_sub(self.start)
    }
}

/// Assigns documents of `lengths` tokens to rows of at most `capacity` tokens; each row lists its pieces.
///
/// Every token is in exactly one piece. A function of its arguments: equal lengths keep their order, and of rows with
/// equal room the one that has had it longest is taken. These are the rows of `pack_dataset` in TRL (`bfd`, `bfd_split`,
/// `wrapped`), except that its `bfd` cuts what is too long, which is [`crate::select()`]'s work here, and that its `wrapped`
/// lets attention run over the ends of documents, which pieces here do not.
///
/// Errors: [`Error::TooLong`], [`Error::EmptyRow`], [`Error::Setting`] for a capacity of 0.
///
/// Johnson 1973, "Near-optimal bin packing algorithms", best fit decreasing: at most 11/9 of the fewest rows, plus 4.
/// Ding et al. 2024, "Fewer truncations improve language modeling", for the split form: <https://arxiv.org/abs/2404.10830>.
pub fn pack(packing: Packing, lengths: &[usize], capacity: usize) -> Result<Vec<Vec<Piece>>> {
    if capacity == 0 {
        return Err(Error::Setting { name: "capacity", value: "0".into(), rule: "a row must hold a token" });
    }
    let may_cut = matches!(packing, Packing::BestFitDecreasingSplit | Packing::Wrapped);
    for (row, &length) in lengths.iter().enumerate() {
        if length == 0 {
            return Err(Error::EmptyRow { row });
        }
        if length > capacity && !may_cut {
            return Err(Error::TooLong { row, length, limit: capacity });
        }
    }
    let whole = || lengths.iter().enumerate().map(|(document, &length)| Piece::whole(document, length));
    Ok(match packing {
        Packing::None => whole().map(|piece| vec![piece]).collect(),
        Packing::BestFitDecreasing => best_fit(whole().collect(), capacity),
        Packing::BestFitDecreasingSplit => best_fit(whole().flat_map(|piece| cut(piece, capacity)).collect(), capacity),
        Packing::Wrapped => wrapped(lengths, capacity),
    })
}

fn best_fit(pieces: Vec<Piece>, capacity: usize) -> Vec<Vec<Piece>> {
    let lengths: Vec<usize> = pieces.iter().map(Piece::num_tokens).collect();
    let rows = best_fit_decreasing(&lengths, capacity).into_iter();
    rows.map(|row| row.into_iter().map(|index| pieces[index]).collect()).collect()
}

/// Pieces of `capacity` tokens and one of the rest.
fn cut(document: Piece, capacity: usize) -> impl Iterator<Item = Piece> {
    let starts = (document.start..document.end).step_by(capacity);
    starts.map(move |start| Piece { start, end: document.end.min(start.saturating_add(capacity)), ..document })
}

fn wrapped(lengths: &[usize], capacity: usize) -> Vec<Vec<Piece>> {
    let mut rows = Vec::new();
    let (mut row, mut room) = (Vec::new(), capacity);
    for (document, &length) in lengths.iter().enumerate() {
        let mut start = 0;
        while start < length {
            let end = length.min(start.saturating_add(room));
            row.push(Piece { document, start, end });
            room -= end - start;
            start = end;
            if room == 0 {
                rows.push(std::mem::take(&mut row));
                room = capacity;
            }
        }
    }
    if !row.is_empty() {
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Packing; 4] =
        [Packing::BestFitDecreasing, Packing::BestFitDecreasingSplit, Packing::Wrapped, Packing::None];

    fn documents(packing: Packing, lengths: &[usize], capacity: usize) -> Vec<Vec<usize>> {
        let rows = pack(packing, lengths, capacity).unwrap().into_iter();
        rows.map(|row| row.into_iter().map(|piece| piece.document).collect()).collect()
    }

    /// By hand, capacity 10, lengths 4 8 1 4 2 1: 8 opens row 0 (room 2); 4 opens row 1 (room 6); the second 4 goes
    /// there (room 2); 2 finds two rooms of 2 and takes the one that came first, row 0 (room 0); both 1s fit only row 1.
    #[test]
    fn best_fit_takes_the_tightest_room() {
        let best = Packing::BestFitDecreasing;
        assert_eq!(documents(best, &[4, 8, 1, 4, 2, 1], 10), [vec![1, 4], vec![0, 3, 2, 5]]);
        // 6 leaves room 3 and 5 leaves room 4: the 4 fits only the latter, and a 3 takes the tighter room 3.
        assert_eq!(documents(best, &[5, 6, 4, 3], 9), [vec![1, 3], vec![0, 2]]);
        assert_eq!(documents(best, &[5, 6, 3], 9), [vec![1, 2], vec![0]]);
        assert_eq!(documents(Packing::None, &[5, 6], 9), [vec![0], vec![1]]);
        for packing in ALL {
            assert!(pack(packing, &[], 9).unwrap().is_empty());
            assert_eq!(pack(packing, &[3], usize::MAX).unwrap(), [[Piece::whole(0, 3)]]);
        }
    }

    /// Capacity 4, lengths 5 2 4 1, as in TRL's own example but for the order: pieces 4 1 | 2 | 4 | 1.
    #[test]
    fn long_documents_are_cut() {
        let piece = |document, start, end| Piece { document, start, end };
        let split = pack(Packing::BestFitDecreasingSplit, &[5, 2, 4, 1], 4).unwrap();
        assert_eq!(
            split,
            [vec![piece(0, 0, 4)], vec![piece(2, 0, 4)], vec![piece(1, 0, 2), piece(0, 4, 5), piece(3, 0, 1)]]
        );
        let wrapped = pack(Packing::Wrapped, &[5, 2, 4, 1], 4).unwrap();
        assert_eq!(
            wrapped,
            [
                vec![piece(0, 0, 4)],
                vec![piece(0, 4, 5), piece(1, 0, 2), piece(2, 0, 1)],
                vec![piece(2, 1, 4), piece(3, 0, 1)]
            ]
        );
    }

    #[test]
    fn what_does_not_fit_is_named() {
        for packing in ALL {
            assert!(matches!(pack(packing, &[3, 0], 10).unwrap_err(), Error::EmptyRow { row: 1 }));
            assert!(matches!(pack(packing, &[3], 0).unwrap_err(), Error::Setting { name: "capacity", .. }));
        }
        for packing in [Packing::BestFitDecreasing, Packing::None] {
            let error = pack(packing, &[3, 11], 10).unwrap_err();
            assert!(matches!(error, Error::TooLong { row: 1, length: 11, limit: 10 }), "{error}");
        }
    }
}
