//! Which examples are kept: every row that is dropped or cut is counted by reason, and nothing goes silently.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::preference_example::{PreferenceExample, PromptExample, UnpairedExample};
use crate::render::Example;

/// What becomes of an example above the length limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Truncation {
    /// The run stops with [`Error::TooLong`].
    Error,
    /// The row is dropped and counted.
    Drop,
    /// Tokens are cut from the start; the end, with its answer, stays. Both sides of a pair lose the same tokens, and
    /// a cut that would reach a response of preference data leaves a row without a target.
    Left,
    /// Tokens are cut from the end; a cut answer then has no end-of-turn token. Not for prompts alone, which would lose
    /// the header of the answer.
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

/// Rules of [`select`]. Those that every run needs have no default, because each moves results.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionPolicy {
    /// Most tokens of an example, of each side of a pair, or of a prompt alone; 2 or more.
    pub max_length: usize,
    /// For longer ones.
    pub too_long: Truncation,
    /// For conversations that failed to render, for examples without a target token and for pairs of equal sides.
    pub unusable: Unusable,
    /// Rows with more prompt tokens than this share of `max_length` are dropped and counted; above 0, at most 1; none
    /// by default. The prompt ends at the first target token, before any cut.
    #[serde(default)]
    pub max_prompt_share: Option<f64>,
}

/// What [`select`] did, by reason. `rows` is `kept` and all that begin with `dropped` together.
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
    /// Rows whose prompt takes more than its share, dropped.
    #[serde(default)]
    pub dropped_long_prompt: usize,
    /// Pairs whose two responses are the same tokens (possibly after a cut), dropped.
    #[serde(default)]
    pub dropped_identical: usize,
    /// Rows without a target token (possibly after a cut), dropped.
    pub dropped_untrainable: usize,
    /// Rows whose conversation could not be turned into an example, dropped.
    pub dropped_unrenderable: usize,
    /// Row and message of the first such failure.
    pub first_failure: Option<String>,
    /// Kept rows in which a token of the prompt was given to the response, see [`crate::Seams::Response`].
    #[serde(default)]
    pub merged_seams: usize,
    /// Tokens of the kept rows, of a pair those of both sides.
    pub tokens: usize,
    /// Target tokens of the kept rows.
    pub trainable_tokens: usize,
}

/// The kept examples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection<T = Example> {
    /// In the order of the rows.
    pub examples: Vec<T>,
    /// For each example the index of its row.
    pub rows: Vec<usize>,
    /// The counts.
    pub report: SelectionReport,
}

/// A tokenised row that [`select`] can measure and cut.
pub trait Selectable {
    /// Its sequences: one, for a pair two, for a prompt alone none.
    fn sides(&self) -> Vec<&Example>;

    /// Tokens before the first target.
    fn num_prompt(&self) -> usize;

    /// Tokens of its longest sequence.
    fn longest(&self) -> usize {
        self.sides().iter().map(|side| side.ids.len()).max().unwrap_or(self.num_prompt())
    }

    /// Whether a token of the prompt was given to a response.
    fn merged_seam(&self) -> bool {
        false
    }

    /// Removes the first `count` tokens of every sequence.
    fn cut_left(&mut self, count: usize);

    /// Keeps the first `limit` tokens of every sequence. An error if the row makes no sense without its end.
    fn cut_right(&mut self, limit: usize) -> Result<()>;
}

/// Applies `policy` to rows as [`crate::Renderer::examples`] and its siblings give them.
///
/// Errors name the row: [`Error::TooLong`], [`Error::Untrainable`], [`Error::IdenticalPair`], [`Error::Row`], each only
/// where the policy says `error`.
pub fn select<T: Selectable>(
    rows: impl IntoIterator<Item = Result<T>>,
    policy: &SelectionPolicy,
) -> Result<Selection<T>> {
    if policy.max_length < 2 {
        let value = policy.max_length.to_string();
        return Err(Error::Setting { name: "max_length", value, rule: "must be 2 or more: a token and its predictor" });
    }
    if let Some(share) = policy.max_prompt_share.filter(|share| !(*share > 0.0 && *share <= 1.0)) {
        let rule = "must be above 0 and at most 1";
        return Err(Error::Setting { name: "max_prompt_share", value: share.to_string(), rule });
    }
    let mut selection = Selection { examples: Vec::new(), rows: Vec::new(), report: SelectionReport::default() };
    for (row, example) in rows.into_iter().enumerate() {
        selection.report.rows += 1;
        selection.consider(row, example, policy)?;
    }
    Ok(selection)
}

impl<T: Selectable> Selection<T> {
    fn consider(&mut self, row: usize, example: Result<T>, policy: &SelectionPolicy) -> Result<()> {
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
        let (length, limit) = (example.longest(), policy.max_length);
        if policy.max_prompt_share.is_some_and(|share| example.num_prompt() as f64 > share * limit as f64) {
            report.dropped_long_prompt += 1;
            return Ok(());
        }
        let before = num_tokens(&example);
        if length > limit {
            match policy.too_long {
                Truncation::Error => return Err(Error::TooLong { row, length, limit }),
                Truncation::Drop => {
                    report.dropped_too_long += 1;
                    return Ok(());
                }
                Truncation::Left => example.cut_left(length - limit),
                Truncation::Right => example.cut_right(limit)?,
            }
        }
        let sides = example.sides();
        let untrainable = sides.iter().any(|side| side.num_trainable() == 0);
        let identical = matches!(sides[..], [a, b] if a.ids == b.ids);
        if untrainable || identical {
            return match policy.unusable {
                Unusable::Error if untrainable => Err(Error::Untrainable { row }),
                Unusable::Error => Err(Error::IdenticalPair { row }),
                Unusable::Drop => {
                    *if untrainable { &mut report.dropped_untrainable } else { &mut report.dropped_identical } += 1;
                    Ok(())
                }
            };
        }
        report.kept += 1;
        report.truncated += usize::from(length > limit);
        report.tokens_cut += before - num_tokens(&example);
        report.merged_seams += usize::from(example.merged_seam());
        report.tokens += num_tokens(&example);
        report.trainable_tokens += sides.iter().map(|side| side.num_trainable()).sum::<usize>();
        self.examples.push(example);
        self.rows.push(row);
        Ok(())
    }
}

impl Selectable for Example {
    fn sides(&self) -> Vec<&Example> {
        vec![self]
    }

    fn num_prompt(&self) -> usize {
        self.trainable.iter().position(|&flag| flag).unwrap_or(self.ids.len())
    }

    fn cut_left(&mut self, count: usize) {
        self.keep(count..self.ids.len());
    }

    fn cut_right(&mut self, limit: usize) -> Result<()> {
        self.keep(0..limit.min(self.ids.len()));
        Ok(())
    }
}

impl Selectable for PreferenceExample {
    fn sides(&self) -> Vec<&Example> {
        vec![&self.chosen, &self.rejected]
    }

    fn num_prompt(&self) -> usize {
        self.prompt_ids.len()
    }

    fn merged_seam(&self) -> bool {
        self.merged_seam
    }

    fn cut_left(&mut self, count: usize) {
        cut_prompt(&mut self.prompt_ids, [&mut self.chosen, &mut self.rejected], count);
    }

    fn cut_right(&mut self, limit: usize) -> Result<()> {
        cut_ends(&mut self.prompt_ids, [&mut self.chosen, &mut self.rejected], limit)
    }
}

impl Selectable for UnpairedExample {
    fn sides(&self) -> Vec<&Example> {
        vec![&self.completion]
    }

    fn num_prompt(&self) -> usize {
        self.prompt_ids.len()
    }

    fn merged_seam(&self) -> bool {
        self.merged_seam
    }

    fn cut_left(&mut self, count: usize) {
        cut_prompt(&mut self.prompt_ids, [&mut self.completion], count);
    }

    fn cut_right(&mut self, limit: usize) -> Result<()> {
        cut_ends(&mut self.prompt_ids, [&mut self.completion], limit)
    }
}

impl Selectable for PromptExample {
    fn sides(&self) -> Vec<&Example> {
        Vec::new()
    }

    fn num_prompt(&self) -> usize {
        self.prompt_ids.len()
    }

    fn cut_left(&mut self, count: usize) {
        self.prompt_ids.drain(..count.min(self.prompt_ids.len()));
    }

    fn cut_right(&mut self, _: usize) -> Result<()> {
        let rule = "a prompt cut at its end loses the header of the answer; choose error, drop or left";
        Err(Error::Setting { name: "too_long", value: "right".into(), rule })
    }
}

impl Example {
    pub(crate) fn keep(&mut self, range: std::ops::Range<usize>) {
        self.ids = self.ids[range.clone()].to_vec();
        self.trainable = self.trainable[range.clone()].to_vec();
        self.roles = self.roles[range].to_vec();
    }
}

/// Tokens of all sequences.
fn num_tokens(example: &impl Selectable) -> usize {
    let sides = example.sides();
    if sides.is_empty() { example.num_prompt() } else { sides.iter().map(|side| side.ids.len()).sum() }
}

/// A response keeps all its tokens, and one of the prompt to predict the first of them, or nothing is left to train.
fn cut_prompt<const N: usize>(prompt_ids: &mut Vec<u32>, sides: [&mut Example; N], count: usize) {
    let reaches_response = count >= prompt_ids.len();
    prompt_ids.drain(..count.min(prompt_ids.len()));
    for side in sides {
        side.keep(count.min(side.ids.len())..side.ids.len());
        if reaches_response {
            side.trainable.fill(false);
        }
    }
}

fn cut_ends<const N: usize>(prompt_ids: &mut Vec<u32>, sides: [&mut Example; N], limit: usize) -> Result<()> {
    prompt_ids.truncate(limit);
    sides.into_iter().try_for_each(|side| side.cut_right(limit))
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
        SelectionPolicy { max_length: 3, too_long, unusable, max_prompt_share: None }
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
