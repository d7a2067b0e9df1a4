//! Packed rows from a stream of examples, for data that is read once and in its order: the first row is there as soon as
//! the first window of examples is, and no more than a window is held.

use std::collections::VecDeque;

use crate::error::{Error, Result};
use crate::pack::{Packing, pack};
use crate::packed_batch::PackedBatch;
use crate::render::Example;

/// Packed rows of a stream; see [`pack_stream`].
#[derive(Debug)]
pub struct PackStream<I> {
    examples: I,
    packing: Packing,
    capacity: usize,
    window: usize,
    /// Examples of the windows before.
    seen: usize,
    ready: VecDeque<PackedBatch>,
    failure: Option<Error>,
}

/// Packs every `window` examples by themselves into rows of at most `capacity` tokens, as TRL does with the batches of
/// its `map` (1 000 rows).
///
/// An error among the examples comes after the rows of the examples before it, and packing goes on behind it. Errors of
/// packing are those of [`pack()`], their rows counted from the first example of the stream, and end it.
pub fn pack_stream<I>(examples: I, packing: Packing, capacity: usize, window: usize) -> Result<PackStream<I::IntoIter>>
where
    I: IntoIterator<Item = Result<Example>>,
{
    if window == 0 {
        return Err(Error::Setting { name: "window", value: "0".into(), rule: "must be 1 or more" });
    }
    // A capacity of 0 is refused before anything is read.
    pack(packing, &[], capacity)?;
    let (examples, ready) = (examples.into_iter(), VecDeque::new());
    Ok(PackStream { examples, packing, capacity, window, seen: 0, ready, failure: None })
}

impl<I: Iterator<Item = Result<Example>>> PackStream<I> {
    fn fill(&mut self) -> Result<()> {
        let mut examples: Vec<Example> = Vec::with_capacity(self.window);
        while examples.len() < self.window {
            match self.examples.next() {
                Some(Ok(example)) => examples.push(example),
                Some(Err(error)) => {
                    self.failure = Some(error);
                    break;
                }
                None => break,
            }
        }
        let lengths: Vec<usize> = examples.iter().map(|example| example.ids.len()).collect();
        let in_stream = |error| match error {
            Error::EmptyRow { row } => Error::EmptyRow { row: self.seen + row },
            Error::TooLong { row, length, limit } => Error::TooLong { row: self.seen + row, length, limit },
            other => other,
        };
        for row in pack(self.packing, &lengths, self.capacity).map_err(in_stream)? {
            self.ready.push_back(PackedBatch::new(&examples, &row)?);
        }
        self.seen += examples.len();
        Ok(())
    }
}

impl<I: Iterator<Item = Result<Example>>> Iterator for PackStream<I> {
    type Item = Result<PackedBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty()
            && self.failure.is_none()
            && let Err(error) = self.fill()
        {
            return Some(Err(error));
        }
        self.ready.pop_front().map(Ok).or_else(|| self.failure.take().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example(length: usize) -> Result<Example> {
        Ok(Example { ids: vec![7; length], trainable: vec![true; length], roles: vec![None; length] })
    }

    fn lengths(row: Option<Result<PackedBatch>>) -> Vec<usize> {
        row.unwrap().unwrap().boundaries.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    /// Windows 4 6 3 and 7 2 of capacity 10: rows 6 4 | 3, then 7 2.
    #[test]
    fn windows_are_packed_by_themselves() {
        let best = Packing::BestFitDecreasing;
        let mut rows = pack_stream([4, 6, 3, 7, 2].map(example), best, 10, 3).unwrap();
        let found: Vec<Vec<usize>> = (0..3).map(|_| lengths(rows.next())).collect();
        assert_eq!(found, [vec![6, 4], vec![3], vec![7, 2]]);
        assert!(rows.next().is_none());
    }

    #[test]
    fn errors_come_in_their_place() {
        let examples = vec![example(4), Err(Error::NoAnswer), example(5), example(2), example(11)];
        let mut rows = pack_stream(examples, Packing::None, 10, 2).unwrap();
        assert_eq!(lengths(rows.next()), [4]);
        assert!(matches!(rows.next(), Some(Err(Error::NoAnswer))));
        assert_eq!((lengths(rows.next()), lengths(rows.next())), (vec![5], vec![2]));
        assert!(matches!(rows.next(), Some(Err(Error::TooLong { row: 3, length: 11, limit: 10 }))));
        assert!(pack_stream(Vec::new(), Packing::None, 0, 2).is_err());
        assert!(pack_stream(Vec::new(), Packing::None, 9, 0).is_err());
    }
}
