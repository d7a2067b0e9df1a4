//! Several datasets in one epoch, by ratio.
//!
//! The counts of an epoch are exact, not drawn: they are fixed by sizes, weights and the stopping rule, and only the
//! places in the epoch are random. What an epoch leaves out of a dataset the next one begins with, so that over the
//! epochs every row of a dataset is visited equally often, give or take one.

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// More rows in an epoch than this is taken for a mistake in the weights.
const MAX_EPOCH_ROWS: f64 = 1e9;
/// A limit that is a whole number but for rounding counts as that number.
const ROUNDING: f64 = 1e-9;

/// When an epoch of a mix ends. The names are those of `interleave_datasets` of Hugging Face `datasets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixStop {
    /// With the first dataset that is used up: no row comes twice in an epoch, larger datasets give a part.
    FirstExhausted,
    /// When every dataset was visited whole: smaller datasets come again, in another order.
    AllExhausted,
}

/// Weights and stopping rule of a [`Mix`]; both move results, so neither has a default.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MixConfig {
    /// Share of each dataset, up to a common factor; positive.
    pub weights: Vec<f64>,
    /// When an epoch ends.
    pub stop: MixStop,
}

/// Datasets of known sizes, mixed. Rows are numbered through: those of the first dataset, then those of the second, ...
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mix {
    sizes: Vec<usize>,
    counts: Vec<usize>,
}

impl Mix {
    /// Fixes the counts of an epoch: in proportion to the weights, rounded by largest remainder.
    ///
    /// [`Error::Setting`] if weights and sizes differ in number, a weight is not positive and finite, a dataset is empty,
    /// or would give an epoch no row, or the epoch would be longer than 10^9 rows.
    pub fn new(sizes: &[usize], config: &MixConfig) -> Result<Self> {
        let MixConfig { weights, stop } = config;
        let refuse = |value: String, rule| Err(Error::Setting { name: "weights", value, rule });
        if weights.len() != sizes.len() || sizes.is_empty() {
            let value = format!("{weights:?} for {} datasets", sizes.len());
            return refuse(value, "there must be a dataset, and one weight for each");
        }
        if let Some(weight) = weights.iter().find(|weight| !(weight.is_finite() && **weight > 0.0)) {
            return refuse(weight.to_string(), "must be positive and finite; leave a dataset of weight 0 out");
        }
        if sizes.contains(&0) {
            return Err(Error::Setting { name: "rows", value: "0".into(), rule: "every dataset must have a row" });
        }
        let counts = counts(sizes, weights, *stop);
        match counts {
            None => {
                refuse(format!("{weights:?}"), "an epoch would have more than 10^9 rows; weights are too far apart")
            }
            Some(counts) if counts.contains(&0) => {
                let value = format!("{weights:?} with {sizes:?} rows");
                refuse(value, "a dataset would give no row to an epoch; raise its weight or use `all_exhausted`")
            }
            Some(counts) => Ok(Mix { sizes: sizes.to_vec(), counts }),
        }
    }

    /// Rows that each dataset gives to an epoch, `[datasets]`.
    pub fn counts(&self) -> &[usize] {
        &self.counts
    }

    /// Rows of an epoch.
    pub fn epoch_rows(&self) -> usize {
        self.counts.iter().sum()
    }

    /// Rows of all datasets together.
    pub fn num_rows(&self) -> usize {
        self.sizes.iter().sum()
    }

    /// Dataset and row in it of a row number; none above [`Mix::num_rows`].
    pub fn locate(&self, row: usize) -> Option<(usize, usize)> {
        let mut left = row;
        for (dataset, &size) in self.sizes.iter().enumerate() {
            if left < size {
                return Some((dataset, left));
            }
            left -= size;
        }
        None
    }

    /// Row numbers of an epoch in their order, `[epoch_rows]`: a function of the arguments alone.
    pub fn epoch(&self, seed: u64, epoch: u64) -> Vec<usize> {
        let datasets = self.counts.iter().enumerate();
        let mut places: Vec<usize> = datasets.flat_map(|(dataset, &count)| vec![dataset; count]).collect();
        RandomKey::new(seed, "mix places").at(epoch).shuffle(&mut places);
        let mut first = 0;
        let mut rows: Vec<std::vec::IntoIter<usize>> = Vec::with_capacity(self.sizes.len());
        for (dataset, (&size, &count)) in self.sizes.iter().zip(&self.counts).enumerate() {
            let key = RandomKey::new(seed, "mix rows").at(dataset as u64);
            let visited = visit(key, size, u128::from(epoch) * count as u128, count);
            rows.push(visited.into_iter().map(|row| first + row).collect::<Vec<_>>().into_iter());
            first += size;
        }
        // Each dataset has as many rows as places, so none is left over.
        places.into_iter().filter_map(|dataset| rows[dataset].next()).collect()
    }
}

/// Places `start..start + count` of the endless visit of `0..size`, each pass in an order of its own.
fn visit(key: RandomKey, size: usize, start: u128, count: usize) -> Vec<usize> {
    let mut rows = Vec::with_capacity(count);
    let (mut pass, mut skip) = (start / size as u128, (start % size as u128) as usize);
    while rows.len() < count {
        let mut order: Vec<usize> = (0..size).collect();
        key.at(pass as u64).shuffle(&mut order);
        rows.extend(order[skip..].iter().take(count - rows.len()));
        (pass, skip) = (pass + 1, 0);
    }
    rows
}

/// None if there would be too many.
fn counts(sizes: &[usize], weights: &[f64], stop: MixStop) -> Option<Vec<usize>> {
    let total: f64 = weights.iter().sum();
    let limits = sizes.iter().zip(weights).map(|(&size, weight)| size as f64 * (total / weight));
    let rows = match stop {
        MixStop::FirstExhausted => (limits.fold(f64::INFINITY, f64::min) * (1.0 + ROUNDING)).floor(),
        MixStop::AllExhausted => (limits.fold(0.0, f64::max) * (1.0 - ROUNDING)).ceil(),
    };
    if rows > MAX_EPOCH_ROWS {
        return None;
    }
    let quotas: Vec<f64> = weights.iter().map(|weight| rows * (weight / total)).collect();
    let bounded = |count: usize, size: usize| match stop {
        MixStop::FirstExhausted => count.min(size),
        MixStop::AllExhausted => count.max(size),
    };
    let mut counts: Vec<usize> =
        quotas.iter().zip(sizes).map(|(quota, &size)| bounded(quota.floor() as usize, size)).collect();
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    let remainder = |at: usize| quotas[at] - quotas[at].floor();
    order.sort_by(|&a, &b| remainder(b).total_cmp(&remainder(a)));
    let mut missing = (rows as usize).saturating_sub(counts.iter().sum());
    for at in order {
        let fits = stop == MixStop::AllExhausted || counts[at] < sizes[at];
        if 0 < missing && fits {
            counts[at] += 1;
            missing -= 1;
        }
    }
    Some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mix(sizes: &[usize], weights: &[f64], stop: MixStop) -> Result<Mix> {
        Mix::new(sizes, &MixConfig { weights: weights.to_vec(), stop })
    }

    #[test]
    fn counts_worked_by_hand() {
        use MixStop::{AllExhausted, FirstExhausted};
        for (sizes, weights, stop, expected) in [
            // The small one ends the epoch: 10 / 0.5 = 20 rows.
            (vec![10, 100], vec![1.0, 1.0], FirstExhausted, vec![10, 10]),
            (vec![10, 100], vec![1.0, 1.0], AllExhausted, vec![100, 100]),
            // Limits 30 / 0.3 = 100 and 90 / 0.7 = 128.6: 100 rows; 3 / 0.3 is a hair off 10 in floating point.
            (vec![30, 90], vec![0.3, 0.7], FirstExhausted, vec![30, 70]),
            (vec![3, 90], vec![0.3, 0.7], FirstExhausted, vec![3, 7]),
            // 129 rows: quotas 38.7 and 90.3; the larger remainder rounds up.
            (vec![30, 90], vec![0.3, 0.7], AllExhausted, vec![39, 90]),
            // Limits 15, 15, 15.
            (vec![5, 5, 5], vec![2.0, 2.0, 2.0], FirstExhausted, vec![5, 5, 5]),
            (vec![7], vec![0.1], AllExhausted, vec![7]),
        ] {
            assert_eq!(mix(&sizes, &weights, stop).unwrap().counts(), expected, "{sizes:?} {weights:?} {stop:?}");
        }
    }

    #[test]
    fn over_the_epochs_every_row_comes_equally_often() {
        let mix = mix(&[4, 10], &[1.0, 1.0], MixStop::FirstExhausted).unwrap();
        assert_eq!((mix.counts(), mix.epoch_rows(), mix.num_rows()), ([4, 4].as_slice(), 8, 14));
        let mut visits = vec![0; 14];
        for epoch in 0..5 {
            let rows = mix.epoch(3, epoch);
            assert_eq!(rows.iter().filter(|&&row| row < 4).count(), 4);
            rows.into_iter().for_each(|row| visits[row] += 1);
        }
        // Five epochs take 20 rows of each: five passes over the first, two over the second.
        assert_eq!(visits, [5, 5, 5, 5, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2]);
        assert_eq!(
            [0, 3, 4, 13, 14].map(|row| mix.locate(row)),
            [Some((0, 0)), Some((0, 3)), Some((1, 0)), Some((1, 9)), None]
        );
    }

    #[test]
    fn an_epoch_is_a_function_of_seed_and_number() {
        let mix = mix(&[50, 20], &[1.0, 3.0], MixStop::AllExhausted).unwrap();
        assert_eq!(mix.counts(), [50, 150]);
        assert_eq!(mix.epoch(1, 2), mix.epoch(1, 2));
        assert_ne!(mix.epoch(1, 2), mix.epoch(1, 3));
        assert_ne!(mix.epoch(1, 2), mix.epoch(2, 2));
        // 150 rows are seven passes and a half over 20: every row comes 7 or 8 times.
        let mut visits = vec![0; 70];
        mix.epoch(1, 0).into_iter().for_each(|row| visits[row] += 1);
        assert!(visits[..50].iter().all(|&count| count == 1));
        assert!(visits[50..].iter().all(|count| [7, 8].contains(count)), "{visits:?}");
        // Places are mixed: neither dataset has the first half to itself.
        let first: Vec<usize> = mix.epoch(1, 0).into_iter().take(100).collect();
        assert!((10..40).contains(&first.iter().filter(|&&row| row < 50).count()));
    }

    #[test]
    fn what_cannot_be_mixed_is_refused() {
        use MixStop::{AllExhausted, FirstExhausted};
        for (sizes, weights, stop, word) in [
            (vec![], vec![], FirstExhausted, "one weight for each"),
            (vec![3], vec![1.0, 2.0], FirstExhausted, "one weight for each"),
            (vec![3, 4], vec![1.0, 0.0], FirstExhausted, "positive"),
            (vec![3, 4], vec![1.0, f64::NAN], FirstExhausted, "positive"),
            (vec![3, 0], vec![1.0, 1.0], FirstExhausted, "must have a row"),
            (vec![10, 1000], vec![0.99, 0.01], FirstExhausted, "no row to an epoch"),
            (vec![1000, 1000], vec![1.0, 1e-9], AllExhausted, "10^9 rows"),
        ] {
            let error = mix(&sizes, &weights, stop).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }
}
