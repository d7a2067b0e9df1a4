//! A length limit measured from the data.

use rl_core::random::RandomKey;
use rl_core::statistics::quantile;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The limit is a percentile of the lengths of the rows that passed every other rule, rounded down.
///
/// The percentile interpolates linearly between neighbours, as in S1, where SmolTalk's limit is the 95th of at most 1000
/// conversations drawn after the prompt filter.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthPercentile {
    /// Above 0, at most 100.
    pub percentile: f64,
    /// Measures a draw; all rows without it.
    #[serde(default)]
    pub draw: Option<LengthDraw>,
}

/// Rows drawn without replacement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthDraw {
    /// How many, at most; 1 or more.
    pub rows: usize,
    /// Of the draw alone.
    pub seed: u64,
}

impl LengthPercentile {
    pub(super) fn validate(&self) -> Result<()> {
        let setting = |name, value: String, rule| Err(Error::Setting { name, value, rule });
        if !(self.percentile > 0.0 && self.percentile <= 100.0) {
            return setting("percentile", self.percentile.to_string(), "must be above 0 and at most 100");
        }
        match self.draw {
            Some(LengthDraw { rows: 0, .. }) => setting("draw.rows", "0".into(), "must be 1 or more"),
            _ => Ok(()),
        }
    }

    /// The limit of rows with these lengths; there is at least one.
    pub(super) fn limit(&self, mut lengths: Vec<usize>) -> Result<usize> {
        if let Some(draw) = self.draw {
            RandomKey::new(draw.seed, "length percentile").shuffle(&mut lengths);
            lengths.truncate(draw.rows);
        }
        let lengths: Vec<f64> = lengths.into_iter().map(|length| length as f64).collect();
        let limit = quantile(&lengths, self.percentile / 100.0).map_err(|error| Error::Setting {
            name: "length_percentile",
            value: error.to_string(),
            rule: "there must be rows to measure",
        })?;
        Ok(limit.floor() as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_the_rounded_percentile() {
        let tens: Vec<usize> = (1..=10).map(|n| 10 * n).collect();
        // 95.5 by hand; 100 and 55 likewise.
        for (percentile, expected) in [(95.0, 95), (100.0, 100), (50.0, 55)] {
            let rule = LengthPercentile { percentile, draw: None };
            assert_eq!(rule.limit(tens.clone()).unwrap(), expected);
        }
        // A draw of all rows is no draw, and one row is its own percentile.
        let all = LengthPercentile { percentile: 95.0, draw: Some(LengthDraw { rows: 10, seed: 3 }) };
        assert_eq!(all.limit(tens.clone()).unwrap(), 95);
        let one = LengthPercentile { percentile: 95.0, draw: Some(LengthDraw { rows: 1, seed: 3 }) };
        assert!(tens.contains(&one.limit(tens.clone()).unwrap()));
        assert_eq!(one.limit(tens.clone()).unwrap(), one.limit(tens).unwrap());
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for percentile in [0.0, -1.0, 100.5, f64::NAN] {
            assert!(LengthPercentile { percentile, draw: None }.validate().is_err(), "{percentile}");
        }
        let none = LengthPercentile { percentile: 95.0, draw: Some(LengthDraw { rows: 0, seed: 3 }) };
        assert!(none.validate().is_err());
    }
}
