//! What is known about every multiset of card values, worked out once per process and target.
//!
//! A reset or a grade is then a lookup. Entries fill on first use, so a new target costs nothing up front.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use rl_core::random::RandomKey;

use super::solver::{self, MAX_LISTED};
use crate::error::{Error, Result};

/// A sorted multiset of 1 to 6 card values, each 1 to 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Values {
    sorted: [u8; Values::MAX_CARDS],
    count: u8,
}

impl Values {
    /// Most cards a hand can hold.
    pub const MAX_CARDS: usize = 6;
    /// Largest card value.
    pub const MAX_VALUE: u8 = 13;

    /// The multiset of `values`, in any order.
    ///
    /// # Errors
    /// [`Error::CardValues`] unless there are 1 to 6 values between 1 and 13.
    pub fn new(values: &[u8]) -> Result<Self> {
        let in_range = values.iter().all(|value| (1..=Self::MAX_VALUE).contains(value));
        if values.is_empty() || values.len() > Self::MAX_CARDS || !in_range {
            return Err(Error::CardValues { values: values.to_vec() });
        }
        let mut sorted = [0; Self::MAX_CARDS];
        sorted[..values.len()].copy_from_slice(values);
        sorted[..values.len()].sort_unstable();
        Ok(Values { sorted, count: values.len() as u8 })
    }

    /// The values, ascending.
    pub fn as_slice(&self) -> &[u8] {
        &self.sorted[..usize::from(self.count)]
    }

    /// Every multiset of `count` values from `low..=high`, in ascending order.
    ///
    /// # Errors
    /// [`Error::CardValues`] when `count`, `low` or `high` is outside what a hand allows.
    pub fn all(count: usize, low: u8, high: u8) -> Result<Vec<Values>> {
        let mut current = vec![low; count];
        Values::new(&current)?;
        Values::new(&[high.max(low)])?;
        let mut all = Vec::new();
        loop {
            all.push(Values::new(&current)?);
            let Some(position) = current.iter().rposition(|&value| value < high) else { return Ok(all) };
            let next = current[position] + 1;
            current[position..].fill(next);
        }
    }

    /// Position among all multisets of as many values: the combinatorial number system.
    fn index(self) -> usize {
        self.as_slice()
            .iter()
            .enumerate()
            .map(|(place, &value)| CHOOSE[usize::from(value) - 1 + place][place + 1])
            .sum()
    }
}

/// Multisets of `count` values.
const fn num_multisets(count: usize) -> usize {
    CHOOSE[Values::MAX_VALUE as usize + count - 1][count]
}

/// Binomial coefficients, `CHOOSE[n][k]`.
const CHOOSE: [[usize; Values::MAX_CARDS + 1]; Values::MAX_VALUE as usize + Values::MAX_CARDS] = {
    let mut table = [[0; Values::MAX_CARDS + 1]; Values::MAX_VALUE as usize + Values::MAX_CARDS];
    let mut n = 0;
    while n < table.len() {
        table[n][0] = 1;
        let mut k = 1;
        while k <= Values::MAX_CARDS && 0 < n {
            table[n][k] = table[n - 1][k - 1] + table[n - 1][k];
            k += 1;
        }
        n += 1;
    }
    table
};

/// Solvability and solutions of every hand for one target.
#[derive(Debug)]
pub struct SolutionTable {
    target: i32,
    /// By number of cards, less one; then by [`Values::index`].
    entries: [OnceLock<Box<[Entry]>>; Values::MAX_CARDS],
}

#[derive(Debug, Default)]
struct Entry {
    is_solvable: OnceLock<bool>,
    solutions: OnceLock<Arc<[String]>>,
}

impl SolutionTable {
    /// The process-wide table of `target`.
    pub fn shared(target: i32) -> Arc<SolutionTable> {
        static TABLES: LazyLock<Mutex<HashMap<i32, Arc<SolutionTable>>>> = LazyLock::new(Mutex::default);
        // A panic elsewhere cannot leave the map half written, so a poisoned lock is still good.
        let mut tables = TABLES.lock().unwrap_or_else(PoisonError::into_inner);
        let table =
            tables.entry(target).or_insert_with(|| Arc::new(SolutionTable { target, entries: Default::default() }));
        Arc::clone(table)
    }

    /// The value to reach.
    pub fn target(&self) -> i32 {
        self.target
    }

    /// Whether some formula over the values reaches the target.
    pub fn is_solvable(&self, values: Values) -> bool {
        *self.entry(values).is_solvable.get_or_init(|| solver::is_solvable(values, self.target))
    }

    /// All solution strings in byte order; see [`solver::solutions`]. Up to [`MAX_LISTED`] cards they are kept, with more
    /// they are worked out each time, since there can be a hundred thousand.
    pub fn solutions(&self, values: Values) -> Arc<[String]> {
        let all = || solver::solutions(values, self.target).into();
        if values.as_slice().len() <= MAX_LISTED {
            Arc::clone(self.entry(values).solutions.get_or_init(all))
        } else {
            all()
        }
    }

    /// One solution, chosen by `key`: up to [`MAX_LISTED`] cards uniformly from all, with more the first that
    /// [`solver::find_solution`] meets. `None` when there is none.
    pub fn solution(&self, values: Values, key: RandomKey) -> Option<String> {
        if MAX_LISTED < values.as_slice().len() {
            return solver::find_solution(values, self.target, key);
        }
        let all = self.solutions(values);
        all.get(key.below(0, all.len() as u64) as usize).cloned()
    }

    /// Whether some solution string starts with `prefix`.
    pub fn has_prefix(&self, values: Values, prefix: &str) -> bool {
        let solutions = self.solutions(values);
        let first = solutions.partition_point(|solution| solution.as_str() < prefix);
        solutions.get(first).is_some_and(|solution| solution.starts_with(prefix))
    }

    fn entry(&self, values: Values) -> &Entry {
        let count = values.as_slice().len();
        let entries =
            self.entries[count - 1].get_or_init(|| (0..num_multisets(count)).map(|_| Entry::default()).collect());
        &entries[values.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_multiset_has_its_own_index() {
        for (count, multisets) in [(1, 13), (2, 91), (3, 455), (4, 1820), (5, 6188), (6, 18564)] {
            let mut seen = vec![false; num_multisets(count)];
            assert_eq!(seen.len(), multisets);
            for values in Values::all(count, 1, 13).unwrap() {
                assert!(!std::mem::replace(&mut seen[values.index()], true), "{values:?} shares its index");
            }
            assert!(seen.into_iter().all(|seen| seen));
        }
    }
}
