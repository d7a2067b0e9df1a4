//! Which rows of a step or of a pass are a rank's own.
//!
//! Every rank holds the same order and the same cursor and takes its share of each batch, so what a step trains on does
//! not depend on the number of ranks, and a run may be resumed with another number.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// What becomes of the rows that cannot be shared out evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remainder {
    /// The first ranks have one row more: every row comes exactly once. For losses with denominators of the whole step.
    Uneven,
    /// The last rows are left out, and counted.
    Drop,
    /// The first rows come again, and are counted, until every rank has the same number.
    Repeat,
}

/// One rank of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shard {
    rank: usize,
    num_ranks: usize,
    remainder: Remainder,
}

/// What [`Shard::share`] gives a rank.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Share {
    /// The rank's rows, in the order of the batch.
    pub rows: Vec<usize>,
    /// How many at the end of `rows` another rank (or this one) has too.
    pub num_repeated: usize,
    /// Rows of the batch that no rank has; the same number on every rank.
    pub num_dropped: usize,
}

impl Shard {
    /// `rank` of `num_ranks`, as in torchrun's `RANK` and `WORLD_SIZE`. [`Error::Setting`] unless `rank < num_ranks`.
    pub fn new(rank: usize, num_ranks: usize, remainder: Remainder) -> Result<Self> {
        if rank >= num_ranks {
            let value = format!("{rank} of {num_ranks} ranks");
            return Err(Error::Setting { name: "rank", value, rule: "must be below the number of ranks" });
        }
        Ok(Shard { rank, num_ranks, remainder })
    }

    /// The only rank there is.
    pub fn alone() -> Self {
        Shard { rank: 0, num_ranks: 1, remainder: Remainder::Uneven }
    }

    /// The rank's share of `rows`: every `num_ranks`-th, from `rank` on.
    ///
    /// Over all ranks these are all of `rows`, each once, but for what [`Remainder`] says.
    pub fn share(&self, rows: &[usize]) -> Share {
        let Shard { rank, num_ranks, remainder } = *self;
        let over = rows.len() % num_ranks;
        let (kept, wanted) = match remainder {
            Remainder::Uneven => (rows.len(), rows.len()),
            Remainder::Drop => (rows.len() - over, rows.len() - over),
            Remainder::Repeat => (rows.len(), rows.len().next_multiple_of(num_ranks)),
        };
        let mine = |limit: usize| (rank..limit).step_by(num_ranks);
        Share {
            rows: mine(wanted).map(|place| rows[place % rows.len()]).collect(),
            num_repeated: mine(wanted).count() - mine(kept).count(),
            num_dropped: rows.len() - kept,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(rows: &[usize], num_ranks: usize, remainder: Remainder) -> Vec<Share> {
        (0..num_ranks).map(|rank| Shard::new(rank, num_ranks, remainder).unwrap().share(rows)).collect()
    }

    fn share(rows: &[usize], num_repeated: usize, num_dropped: usize) -> Share {
        Share { rows: rows.to_vec(), num_repeated, num_dropped }
    }

    #[test]
    fn remainders_by_hand() {
        let rows = [9, 8, 7, 6, 5, 4, 3];
        let uneven = [share(&[9, 6, 3], 0, 0), share(&[8, 5], 0, 0), share(&[7, 4], 0, 0)];
        assert_eq!(shares(&rows, 3, Remainder::Uneven), uneven);
        let drop = [share(&[9, 6], 0, 1), share(&[8, 5], 0, 1), share(&[7, 4], 0, 1)];
        assert_eq!(shares(&rows, 3, Remainder::Drop), drop);
        let repeat = [share(&[9, 6, 3], 0, 0), share(&[8, 5, 9], 1, 0), share(&[7, 4, 8], 1, 0)];
        assert_eq!(shares(&rows, 3, Remainder::Repeat), repeat);
        // Fewer rows than ranks: they come as often as needed.
        let few = [share(&[1], 0, 0), share(&[1], 1, 0), share(&[1], 1, 0)];
        assert_eq!(shares(&[1], 3, Remainder::Repeat), few);
        assert_eq!(shares(&[], 2, Remainder::Repeat), [share(&[], 0, 0), share(&[], 0, 0)]);
        assert_eq!(shares(&[1], 2, Remainder::Drop), [share(&[], 0, 1), share(&[], 0, 1)]);
        assert_eq!(Shard::alone().share(&rows), share(&rows, 0, 0));
    }

    #[test]
    fn a_rank_beyond_the_last_is_refused() {
        assert!(Shard::new(2, 2, Remainder::Drop).is_err());
        assert!(Shard::new(0, 0, Remainder::Drop).is_err());
    }
}
