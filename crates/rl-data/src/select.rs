//! Which examples are kept: every row that is dropped or cut is counted by reason, and nothing goes silently.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::render::Example;

/// What becomes of an example above the length limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// The run stops with [`Error::TooLong`].
    Error,
    /// The row is dropped and counted.
    Drop,
    /// Tokens are cut from the start; the end, with its answer, stays.
    Left,
    /// Tokens are cut from the end; a cut answer then has no end-of-turn token.
    Right,
}

/// What becomes of a row that cannot be learned from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unusable {
    /// The run stops with the error of that row.
    Error,
    /// The row is dropped and counted.
    Drop,
}

/// Rules of [`select`]. None has a default, because each moves results.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionPolicy {
    /// Most tokens of an example; 2 or more.
    pub max_length: usize,
    /// For longer ones.
    pub too_long: Truncation,
    /// For conversations that failed to render and for examples without a target token.
    pub unusable: Unusable,
}

/// What [`select`] did, by reason. `rows = kept + dropped_too_long + dropped_untrainable + dropped_unrenderable`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SelectionReport {
    /// Rows seen.
    pub rows: usize,
    /// Rows kept, cut ones included.
    pub kept: usize,
    /// Kept rows that were cut.
    pub truncated: usize,
    /// Tokens cut from kept rows.
    pub tokens_cut: usize,
    /// Rows above the limit, dropped.
    pub dropped_too_long: usize,
    /// Rows without a target token (possibly after a cut), dropped.
    pub dropped_untrainable: usize,
    /// Rows whose conversation could not be turned into an example, dropped.
    pub dropped_unrenderable: usize,
    /// Row and message of the first such failure.
    pub first_failure: Option<String>,
    /// Tokens of the kept rows.
    pub tokens: usize,
    /// Target tokens of the kept rows.
    pub trainable_tokens: usize,
}

/// The kept examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// In the order of the rows.
    pub examples: Vec<Example>,
    /// For each example the index of its row.
    pub rows: Vec<usize>,
    /// The counts.
    pub report: SelectionReport,
}

/// Applies `policy` to rows as [`crate::Renderer::examples`] gives them.
///
/// Errors name the row: [`Error::TooLong`], [`Error::Untrainable`], [`Error::Row`], each only where the policy says
/// `error`.
pub fn select(rows: impl IntoIterator<Item = Result<Example>>, policy: &SelectionPolicy) -> Result<Selection> {
    if policy.max_length < 2 {
        let value = policy.max_length.to_string();
        return Err(Error::Setting { name: "max_length", value, rule: "must be 2 or more: a token and its predictor" });
    }
    let mut selection = Selection { examples: Vec::new(), rows: Vec::new(), report: SelectionReport::default() };
    for (row, example) in rows.into_iter().enumerate() {
        selection.report.rows += 1;
        selection.consider(row, example, policy)?;
    }
    Ok(selection)
}

impl Selection {
    fn consider(&mut self, row: usize, example: Result<Example>, policy: &SelectionPolicy) -> Result<()> {
        let report = &mut self.report;
        let mut example = match (example, policy.unusable) {
            (Ok(example), _) => example,
            (Err(error), Unusable::Error) => return Err(Error::Row { row, source: Box::new(error) }),
            (Err(error), Unusable::Drop) => {
                report.dropped_unrenderable += 1;
                report.first_failure.get_or_insert_with(|| format!("row {row}: {error}"));
                return Ok(());
            }
        };
        let (length, limit) = (example.ids.len(), policy.max_length);
        let excess = length.saturating_sub(limit);
        if excess > 0 {
            match policy.too_long {
                Truncation::Error => return Err(Error::TooLong { row, length, limit }),
                Truncation::Drop => {
                    report.dropped_too_long += 1;
                    return Ok(());
                }
                Truncation::Left => example.keep(excess..length),
                Truncation::Right => example.keep(0..limit),
            }
        }
        if example.num_trainable() == 0 {
            return match policy.unusable {
                Unusable::Error => Err(Error::Untrainable { row }),
                Unusable::Drop => {
                    report.dropped_untrainable += 1;
                    Ok(())
                }
            };
        }
        report.kept += 1;
        report.truncated += usize::from(excess > 0);
        report.tokens_cut += excess;
        report.tokens += example.ids.len();
        report.trainable_tokens += example.num_trainable();
        self.examples.push(example);
        self.rows.push(row);
        Ok(())
    }
}

impl Example {
    fn keep(&mut self, range: std::ops::Range<usize>) {
        self.ids = self.ids[range.clone()].to_vec();
        self.trainable = self.trainable[range.clone()].to_vec();
        self.roles = self.roles[range].to_vec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Trainable tokens are the positive numbers.
    fn example(signed: &[i32]) -> Result<Example> {
        Ok(Example {
            ids: signed.iter().map(|x| x.unsigned_abs()).collect(),
            trainable: signed.iter().map(|&x| x > 0).collect(),
            roles: vec![None; signed.len()],
        })
    }

    fn policy(too_long: Truncation, unusable: Unusable) -> SelectionPolicy {
        SelectionPolicy { max_length: 3, too_long, unusable }
    }

    /// Rows: fits; five tokens with targets 4 and 5; nothing to learn; only its first token, which is no target;
    /// failed to render; five tokens with target 2.
    fn rows() -> Vec<Result<Example>> {
        vec![
            example(&[-1, 2]),
            example(&[-1, -2, -3, 4, 5]),
            example(&[-1, -2]),
            example(&[1, -2]),
            Err(Error::NoAnswer),
            example(&[-1, 2, -3, -4, -5]),
        ]
    }

    #[test]
    fn every_row_is_counted_once() {
        let dropped = select(rows(), &policy(Truncation::Drop, Unusable::Drop)).unwrap();
        assert_eq!(dropped.rows, [0]);
        let first_failure = Some(format!("row 4: {}", Error::NoAnswer));
        let expected = SelectionReport {
            rows: 6,
            kept: 1,
            dropped_too_long: 2,
            dropped_untrainable: 2,
            dropped_unrenderable: 1,
            first_failure: first_failure.clone(),
            tokens: 2,
            trainable_tokens: 1,
            ..SelectionReport::default()
        };
        assert_eq!(dropped.report, expected);

        let left = select(rows(), &policy(Truncation::Left, Unusable::Drop)).unwrap();
        assert_eq!(left.rows, [0, 1]);
        assert_eq!(left.examples[1].ids, [3, 4, 5]);
        assert_eq!(left.examples[1].trainable, [false, true, true]);
        // Row 5 loses its only target to the cut, so its cut tokens are not those of a kept row.
        let expected = SelectionReport {
            rows: 6,
            kept: 2,
            truncated: 1,
            tokens_cut: 2,
            dropped_untrainable: 3,
            dropped_unrenderable: 1,
            first_failure,
            tokens: 5,
            trainable_tokens: 3,
            ..SelectionReport::default()
        };
        assert_eq!(left.report, expected);

        let right = select(rows(), &policy(Truncation::Right, Unusable::Drop)).unwrap();
        assert_eq!(right.rows, [0, 5]);
        assert_eq!(right.examples[1].ids, [1, 2, 3]);
    }

    #[test]
    fn errors_name_the_row() {
        let error = select(rows(), &policy(Truncation::Error, Unusable::Error)).unwrap_err();
        assert!(matches!(error, Error::TooLong { row: 1, length: 5, limit: 3 }), "{error}");
        let error = select(rows(), &policy(Truncation::Drop, Unusable::Error)).unwrap_err();
        assert!(matches!(error, Error::Untrainable { row: 2 }), "{error}");
        let error = select(rows().into_iter().skip(4), &policy(Truncation::Drop, Unusable::Error)).unwrap_err();
        assert!(matches!(error, Error::Row { row: 0, .. }), "{error}");
        let tiny = SelectionPolicy { max_length: 1, ..policy(Truncation::Drop, Unusable::Drop) };
        assert!(select(rows(), &tiny).is_err());
    }
}
