//! Keeping the rows that are neither too easy nor too hard, by how often they were solved.
//!
//! Not here: solving them, which a policy does in an environment.

use rl_core::statistics::{Interval, Z_95, wilson_interval};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// How often a row was tried and solved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Attempts {
    /// Solved.
    pub successes: u64,
    /// Tried.
    pub trials: u64,
}

/// Rules of [`filter_by_difficulty`]; all move results, so none has a default.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DifficultyPolicy {
    /// Smallest success rate that is kept, in `[0, 1]`.
    pub low: f64,
    /// Largest success rate that is kept, in `[low, 1]`.
    pub high: f64,
    /// Rows with fewer trials are dropped as not measured; 1 or more.
    pub min_trials: u64,
}

/// What [`filter_by_difficulty`] did. `rows` is `kept` and all that begin with `dropped` together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct DifficultyReport {
    /// Rows seen.
    pub rows: usize,
    /// Rows kept.
    pub kept: usize,
    /// Rows solved less often than `low`.
    pub dropped_hard: usize,
    /// Rows solved more often than `high`.
    pub dropped_easy: usize,
    /// Rows with too few trials.
    pub dropped_unmeasured: usize,
    /// Rows, kept or dropped by their rate, whose 95 % interval reaches over `low` or `high`: more trials might move them.
    pub unsure: usize,
    /// Success rate over all trials of all rows; none without a trial.
    pub rate: Option<f64>,
}

/// A row that was kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured<T> {
    /// Its index.
    pub index: usize,
    /// The row.
    pub row: T,
    /// Its success rate.
    pub rate: f64,
    /// Wilson's 95 % interval of the rate, see [`wilson_interval`].
    pub interval: Interval,
}

/// Keeps the rows whose success rate is in `[low, high]`, both ends included, in their order.
///
/// [`Error::Setting`] for a policy outside its ranges or rows and attempts that differ in number; [`Error::Row`] names a
/// row with more successes than trials.
pub fn filter_by_difficulty<T>(
    rows: Vec<T>,
    attempts: &[Attempts],
    policy: DifficultyPolicy,
) -> Result<(Vec<Measured<T>>, DifficultyReport)> {
    let DifficultyPolicy { low, high, min_trials } = policy;
    let refuse = |name, value: String, rule| Err(Error::Setting { name, value, rule });
    if !(0.0 <= low && low <= high && high <= 1.0) {
        return refuse("low, high", format!("{low}, {high}"), "must be rates, and low not above high");
    }
    if min_trials == 0 {
        return refuse("min_trials", "0".into(), "must be 1 or more: without a trial there is no rate");
    }
    if rows.len() != attempts.len() {
        let value = format!("{} for {} rows", attempts.len(), rows.len());
        return refuse("attempts", value, "must be one for each row");
    }
    let (mut kept, mut report) = (Vec::new(), DifficultyReport { rows: rows.len(), ..Default::default() });
    let mut total = Attempts { successes: 0, trials: 0 };
    for (index, (row, &Attempts { successes, trials })) in rows.into_iter().zip(attempts).enumerate() {
        let in_row = |source: Error| Error::Row { row: index, source: Box::new(source) };
        if successes > trials {
            let value = format!("{successes} of {trials} trials");
            let rule = "must be at most the trials";
            return Err(in_row(Error::Setting { name: "successes", value, rule }));
        }
        total = Attempts { successes: total.successes + successes, trials: total.trials + trials };
        if trials < min_trials {
            report.dropped_unmeasured += 1;
            continue;
        }
        let rate = successes as f64 / trials as f64;
        let interval = wilson_interval(successes, trials, Z_95).map_err(|error| in_row(error.into()))?;
        let crosses = |bound: f64| interval.low < bound && bound < interval.high;
        report.unsure += usize::from(crosses(low) || crosses(high));
        if rate < low {
            report.dropped_hard += 1;
        } else if high < rate {
            report.dropped_easy += 1;
        } else {
            report.kept += 1;
            kept.push(Measured { index, row, rate, interval });
        }
    }
    report.rate = (0 < total.trials).then(|| total.successes as f64 / total.trials as f64);
    Ok((kept, report))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: DifficultyPolicy = DifficultyPolicy { low: 0.25, high: 0.75, min_trials: 4 };
    const TOLERANCE: f64 = 1e-4;

    fn attempts(pairs: &[(u64, u64)]) -> Vec<Attempts> {
        pairs.iter().map(|&(successes, trials)| Attempts { successes, trials }).collect()
    }

    #[test]
    fn both_ends_are_kept_and_every_row_is_counted() {
        let rows = vec!["never", "low end", "high end", "always", "hardly tried", "sure"];
        let tried = attempts(&[(0, 8), (2, 8), (6, 8), (8, 8), (1, 3), (500, 1000)]);
        let (kept, report) = filter_by_difficulty(rows, &tried, POLICY).unwrap();
        let found: Vec<_> = kept.iter().map(|row| (row.index, row.row, row.rate)).collect();
        assert_eq!(found, [(1, "low end", 0.25), (2, "high end", 0.75), (5, "sure", 0.5)]);
        // Wilson's interval of 2 in 8 is 0.0715 to 0.5907; of 0 in 8 it ends at 0.3244, so that row is unsure too.
        assert!((kept[0].interval.low - 0.0715).abs() < TOLERANCE, "{:?}", kept[0].interval);
        assert!((kept[0].interval.high - 0.5907).abs() < TOLERANCE, "{:?}", kept[0].interval);
        let expected = DifficultyReport {
            rows: 6,
            kept: 3,
            dropped_hard: 1,
            dropped_easy: 1,
            dropped_unmeasured: 1,
            unsure: 4,
            rate: Some(517.0 / 1035.0),
        };
        assert_eq!(report, expected);
        assert_eq!(filter_by_difficulty(Vec::<u8>::new(), &[], POLICY).unwrap().1.rate, None);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let filter =
            |tried: &[(u64, u64)], policy| filter_by_difficulty(vec!["a"], &attempts(tried), policy).unwrap_err();
        assert!(matches!(filter(&[(9, 8)], POLICY), Error::Row { row: 0, .. }));
        assert!(matches!(filter(&[], POLICY), Error::Setting { name: "attempts", .. }));
        for (low, high) in [(0.8, 0.7), (-0.1, 0.5), (0.5, 1.1), (f64::NAN, 0.5)] {
            let policy = DifficultyPolicy { low, high, ..POLICY };
            assert!(matches!(filter(&[(1, 8)], policy), Error::Setting { name: "low, high", .. }));
        }
        let policy = DifficultyPolicy { min_trials: 0, ..POLICY };
        assert!(matches!(filter(&[(1, 8)], policy), Error::Setting { name: "min_trials", .. }));
    }
}
