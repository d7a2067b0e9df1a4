//! What is known about every multiset of card values, worked out once per process and target.
//!
//! A reset or a grade is then a lookup. Entries fill on first use, so a new target costs nothing up front.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, OnceLock, PoisonError};

use super::solver;
use crate::error::{Error, Result};

/// A sorted multiset of 1 to 4 card values, each 1 to 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Values {
    sorted: [u8; Values::MAX_CARDS],
    count: u8,
}

impl Values {
    /// Most cards a hand can hold.
    pub const MAX_CARDS: usize = 4;
    /// Largest card value.
    pub const MAX_VALUE: u8 = 13;

    /// The multiset of `values`, in any order.
    ///
    /// # Errors
    /// [`Error::CardValues`] unless there are 1 to 4 values between 1 and 13.
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

    /// Position among all multisets of 1 to 4 values: the combinatorial number system, after the smaller hands.
    fn index(self) -> usize {
        let s = self.sorted.map(usize::from);
        match self.count {
            1 => s[0] - 1,
            2 => 13 + (s[0] - 1) + choose2(s[1]),
            3 => 13 + 91 + (s[0] - 1) + choose2(s[1]) + choose3(s[2] + 1),
            _ => 13 + 91 + 455 + (s[0] - 1) + choose2(s[1]) + choose3(s[2] + 1) + choose4(s[3] + 2),
        }
    }
}

/// 13 + 91 + 455 + 1820 multisets of 1, 2, 3 and 4 values.
const NUM_MULTISETS: usize = 2379;

fn choose2(n: usize) -> usize {
    n * (n - 1) / 2
}

fn choose3(n: usize) -> usize {
    n * (n - 1) * (n - 2) / 6
}

fn choose4(n: usize) -> usize {
    n * (n - 1) * (n - 2) * (n - 3) / 24
}

/// Solvability and solutions of every hand for one target.
#[derive(Debug)]
pub struct SolutionTable {
    target: i32,
    entries: Box<[Entry]>,
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
        let table = tables.entry(target).or_insert_with(|| {
            let entries = (0..NUM_MULTISETS).map(|_| Entry::default()).collect();
            Arc::new(SolutionTable { target, entries })
        });
        Arc::clone(table)
    }

    /// The value to reach.
    pub fn target(&self) -> i32 {
        self.target
    }

    /// Whether some formula over the values reaches the target.
    pub fn is_solvable(&self, values: Values) -> bool {
        *self.entries[values.index()].is_solvable.get_or_init(|| solver::is_solvable(values, self.target))
    }

    /// All solution strings in byte order; see [`solver::solutions`].
    pub fn solutions(&self, values: Values) -> &Arc<[String]> {
        self.entries[values.index()].solutions.get_or_init(|| solver::solutions(values, self.target).into())
    }

    /// Whether some solution string starts with `prefix`.
    pub fn has_prefix(&self, values: Values, prefix: &str) -> bool {
        let solutions = self.solutions(values);
        let first = solutions.partition_point(|solution| solution.as_str() < prefix);
        solutions.get(first).is_some_and(|solution| solution.starts_with(prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_multiset_has_its_own_index() {
        let mut seen = vec![false; NUM_MULTISETS];
        for count in 1..=4 {
            for values in Values::all(count, 1, 13).unwrap() {
                assert!(!std::mem::replace(&mut seen[values.index()], true), "{values:?} shares its index");
            }
        }
        assert!(seen.into_iter().all(|seen| seen));
    }
}
