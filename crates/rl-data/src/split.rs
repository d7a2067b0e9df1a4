//! Training and held-out rows by a hash of what they say.
//!
//! A row's side depends on its own content, the seed and the share alone: rows that are added, removed or reordered move
//! no other row, equal rows are never parted, and a larger share holds out what a smaller one did and more.

use rl_core::random::RandomKey;
use serde::Serialize;

use crate::error::{Error, Result};

/// Holds out a share of all contents.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HashSplit {
    seed: u64,
    share: f64,
}

/// Rows by side, each side in the order of the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split<T> {
    /// To train on.
    pub train: Vec<T>,
    /// To validate on.
    pub held_out: Vec<T>,
}

impl HashSplit {
    /// `share` of the contents is held out, in expectation; above 0 and below 1, else [`Error::Setting`].
    pub fn new(seed: u64, share: f64) -> Result<Self> {
        if !(share > 0.0 && share < 1.0) {
            let rule = "must be above 0 and below 1";
            return Err(Error::Setting { name: "held_out_share", value: share.to_string(), rule });
        }
        Ok(HashSplit { seed, share })
    }

    /// Whether the row with this content is held out.
    ///
    /// The content is hashed as JSON (FNV-1a, then Philox under the seed). Give the part that says what the row is about:
    /// its messages, or its prompt alone, so that all answers to a prompt are on one side. A map counts with the order of
    /// its keys. [`Error::Content`] if it has no JSON form.
    pub fn holds_out(&self, content: &(impl Serialize + ?Sized)) -> Result<bool> {
        let json = serde_json::to_string(content).map_err(|source| Error::Content { source })?;
        Ok(RandomKey::new(self.seed, &json).uniform(0) < self.share)
    }

    /// Parts `rows` by the content that `content` names.
    pub fn split<T, C: Serialize + ?Sized>(
        &self,
        rows: impl IntoIterator<Item = T>,
        content: impl Fn(&T) -> &C,
    ) -> Result<Split<T>> {
        let mut split = Split { train: Vec::new(), held_out: Vec::new() };
        for row in rows {
            let side = if self.holds_out(content(&row))? { &mut split.held_out } else { &mut split.train };
            side.push(row);
        }
        Ok(split)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Message;

    #[test]
    fn the_share_is_kept_and_grows_from_within() {
        let split = |seed, share| {
            let split = HashSplit::new(seed, share).unwrap();
            (0..10_000).filter(|row| split.holds_out(&[Message::user(format!("q{row}"))]).unwrap()).collect::<Vec<_>>()
        };
        let (small, large) = (split(1, 0.1), split(1, 0.2));
        // Five standard deviations of a binomial: 5 * sqrt(10000 * 0.1 * 0.9) = 150, and 200 for a share of 0.2.
        assert!((850..=1150).contains(&small.len()), "{}", small.len());
        assert!((1800..=2200).contains(&large.len()), "{}", large.len());
        assert!(small.iter().all(|row| large.contains(row)));
        // Another seed holds out others: by chance a tenth of a tenth are common to both.
        let other = split(2, 0.1);
        assert!(small.iter().filter(|row| other.contains(row)).count() < 200);
    }

    #[test]
    fn other_rows_move_nothing() {
        let split = HashSplit::new(5, 0.3).unwrap();
        let sides = |rows: Vec<usize>| split.split(rows, |row| row).unwrap();
        let all = sides((0..100).collect());
        let odd = sides((0..100).rev().filter(|row| row % 2 == 1).collect());
        let of_all = |side: &[usize]| side.iter().rev().copied().filter(|row| row % 2 == 1).collect::<Vec<_>>();
        assert_eq!((odd.train, odd.held_out), (of_all(&all.train), of_all(&all.held_out)));
        assert_eq!(all.train.len() + all.held_out.len(), 100);
    }

    #[test]
    fn a_share_outside_its_range_is_refused() {
        for share in [0.0, 1.0, -0.5, f64::NAN] {
            assert!(HashSplit::new(1, share).is_err(), "{share}");
        }
        let split = HashSplit::new(1, 0.5).unwrap();
        let no_json = std::collections::BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(split.holds_out(&no_json).unwrap_err(), Error::Content { .. }));
    }
}
