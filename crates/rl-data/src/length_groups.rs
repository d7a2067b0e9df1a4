//! Batches of rows of like length under a token budget: attention works on like lengths together, and no batch is
//! much smaller than another.
//!
//! A padding-free batch costs its tokens, so the budget counts those and not `rows x longest`.

use std::cmp::Reverse;

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// Rules of [`length_grouped`]. Both move results, so neither has a default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthGroups {
    /// Most tokens of a batch.
    pub max_tokens: usize,
    /// Rows that are sorted together. More rows make batches of more equal lengths, fewer keep more of the given order.
    pub window: usize,
}

/// Cuts `order`, which lists rows of `lengths`, into batches of at most `max_tokens` tokens, every row in one batch.
///
/// Each `window` rows in turn are sorted by length, longest first, and fill batches one after the other; the batches of
/// a window are then shuffled by `key`, so that long rows do not always come first. A function of its arguments.
///
/// Errors: [`Error::EmptyRow`] and [`Error::TooLong`] by row, [`Error::NoSuchRow`], [`Error::Setting`] for a window of 0.
pub fn length_grouped(
    order: &[usize],
    lengths: &[usize],
    groups: LengthGroups,
    key: RandomKey,
) -> Result<Vec<Vec<usize>>> {
    let LengthGroups { max_tokens, window } = groups;
    if window == 0 {
        return Err(Error::Setting { name: "window", value: "0".into(), rule: "must be 1 or more" });
    }
    for &row in order {
        match lengths.get(row) {
            None => return Err(Error::NoSuchRow { row, rows: lengths.len() }),
            Some(0) => return Err(Error::EmptyRow { row }),
            Some(&length) if length > max_tokens => return Err(Error::TooLong { row, length, limit: max_tokens }),
            Some(_) => {}
        }
    }
    let mut all = Vec::new();
    for (index, rows) in order.chunks(window).enumerate() {
        let mut sorted = rows.to_vec();
        sorted.sort_by_key(|&row| Reverse(lengths[row]));
        let mut batches: Vec<Vec<usize>> = Vec::new();
        let mut room = 0;
        for row in sorted {
            match batches.last_mut().filter(|_| lengths[row] <= room) {
                Some(batch) => batch.push(row),
                None => {
                    batches.push(vec![row]);
                    room = max_tokens;
                }
            }
            room -= lengths[row];
        }
        key.at(index as u64).shuffle(&mut batches);
        all.append(&mut batches);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows `[3 0 1]` and `[2 4]` of lengths 5 2 7 4 1: sorted 0 3 1 and 2 4; batches of 8: [0] (4 does not fit),
    /// [3 1]; [2 4].
    #[test]
    fn windows_are_sorted_and_filled() {
        let lengths = [5, 2, 7, 4, 1];
        let groups = LengthGroups { max_tokens: 8, window: 3 };
        let key = RandomKey::new(1, "test");
        let batches = length_grouped(&[3, 0, 1, 2, 4], &lengths, groups, key).unwrap();
        assert_eq!(batches.len(), 3);
        assert!(batches[..2].contains(&vec![0]) && batches[..2].contains(&vec![3, 1]), "{batches:?}");
        assert_eq!(batches[2], [2, 4]);
        // Both orders of the first window come up under some key.
        let firsts: std::collections::HashSet<Vec<usize>> =
            (0..20).map(|at| length_grouped(&[3, 0, 1], &lengths, groups, key.at(at)).unwrap()[0].clone()).collect();
        assert_eq!(firsts.len(), 2);
    }

    #[test]
    fn what_cannot_be_grouped_is_named() {
        let groups = LengthGroups { max_tokens: 8, window: 3 };
        let key = RandomKey::new(1, "test");
        let error =
            |order: &[usize], lengths: &[usize], groups| length_grouped(order, lengths, groups, key).unwrap_err();
        assert!(matches!(error(&[1], &[1, 9], groups), Error::TooLong { row: 1, length: 9, limit: 8 }));
        assert!(matches!(error(&[0], &[0], groups), Error::EmptyRow { row: 0 }));
        assert!(matches!(error(&[2], &[1], groups), Error::NoSuchRow { row: 2, rows: 1 }));
        let none = LengthGroups { window: 0, ..groups };
        assert!(matches!(error(&[0], &[1], none), Error::Setting { name: "window", .. }));
    }
}
