//! Which examples are kept: every row that is dropped is listed with its reason, every cut is counted, and nothing goes
//! silently.

mod length;
mod policy;
mod report;
mod rules;
mod selectable;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use length::{LengthDraw, LengthPercentile};
pub use policy::{SelectionPolicy, Truncation, Unusable};
pub use report::{DropReason, Dropped, SelectionReport};
pub use rules::{Duplicates, EmptyTurns, LanguageRule, RoleOrder, UnknownLanguage};
pub use selectable::Selectable;

use selectable::{content_hash, num_tokens};

use crate::conversation::Turns;
use crate::error::{Error, Result};
use crate::render::Example;

/// The kept examples.
#[derive(Debug, Clone, PartialEq)]
pub struct Selection<T = Example> {
    /// In the order of the rows.
    pub examples: Vec<T>,
    /// For each example the index of its row.
    pub rows: Vec<usize>,
    /// Every dropped row with its reason. In the order of the rows, but for those above a measured limit, which come last.
    pub dropped: Vec<Dropped>,
    /// The counts.
    pub report: SelectionReport,
}

/// Applies `policy` to rows as [`crate::Renderer::examples`] and its siblings give them.
///
/// Errors name the row: [`Error::TooLong`], [`Error::Untrainable`], [`Error::IdenticalPair`], [`Error::Row`], each only
/// where the policy says `error`. Rules about conversations (`role_order`, `empty_turns`, `language`) cannot be applied to
/// tokens: with one of them this is [`Error::Setting`], and [`select_records`] is meant.
pub fn select<T: Selectable>(
    rows: impl IntoIterator<Item = Result<T>>,
    policy: &SelectionPolicy,
) -> Result<Selection<T>> {
    if policy.has_conversation_rules() {
        let rule = "rules about conversations need the records: call select_records";
        return Err(Error::Setting { name: "selection", value: "role_order, empty_turns or language".into(), rule });
    }
    run(rows.into_iter().map(|example| Ok((None, example))), policy)
}

/// [`select`] for rows whose records are at hand, in the same order and number, so that every rule can be applied.
pub fn select_records<R: Turns, T: Selectable>(
    records: &[R],
    rows: impl IntoIterator<Item = Result<T>>,
    policy: &SelectionPolicy,
) -> Result<Selection<T>> {
    let mut records = records.iter();
    let mismatch = |value: &str| {
        let rule = "there must be one tokenised row for every record";
        Error::Setting { name: "rows", value: value.into(), rule }
    };
    let mut judged = Vec::new();
    for example in rows {
        let record = records.next().ok_or_else(|| mismatch("more than records"))?;
        judged.push((record.turns().iter().find_map(|messages| policy.broken_rule(messages)), example));
    }
    match records.next() {
        Some(_) => Err(mismatch("fewer than records")),
        None => run(judged.into_iter().map(Ok), policy),
    }
}

/// Rows come with the rule that their conversation breaks.
fn run<T: Selectable>(
    rows: impl Iterator<Item = Result<(Option<DropReason>, Result<T>)>>,
    policy: &SelectionPolicy,
) -> Result<Selection<T>> {
    policy.validate()?;
    let report = SelectionReport { max_length: policy.max_length, ..SelectionReport::default() };
    let mut selection = Selection { examples: Vec::new(), rows: Vec::new(), dropped: Vec::new(), report };
    let mut seen = HashMap::new();
    let mut waiting = Vec::new();
    for (row, judged) in rows.enumerate() {
        selection.report.rows += 1;
        let (broken, example) = judged?;
        if let Some(reason) = broken {
            selection.drop_row(row, reason);
        } else if let Some(example) = selection.screen(row, example, policy, &mut seen)? {
            match policy.length_percentile {
                Some(_) => waiting.push((row, example)),
                None => selection.place(row, example, policy)?,
            }
        }
    }
    if let (Some(percentile), false) = (policy.length_percentile, waiting.is_empty()) {
        selection.report.max_length =
            percentile.limit(waiting.iter().map(|(_, example)| example.longest()).collect())?;
        for (row, example) in waiting {
            selection.place(row, example, policy)?;
        }
    }
    Ok(selection)
}

impl<T: Selectable> Selection<T> {
    fn drop_row(&mut self, row: usize, reason: DropReason) {
        self.report.count(row, &reason);
        self.dropped.push(Dropped { row, reason });
    }

    /// What can be judged before the limit is known; `None` if the row was dropped. `seen` holds the first row of each
    /// content.
    fn screen(
        &mut self,
        row: usize,
        example: Result<T>,
        policy: &SelectionPolicy,
        seen: &mut HashMap<u128, usize>,
    ) -> Result<Option<T>> {
        let reason = match (example, policy.unusable) {
            (Err(error), Unusable::Error) => return Err(Error::Row { row, source: Box::new(error) }),
            (Err(error), Unusable::Drop) => DropReason::Unrenderable { error: error.to_string() },
            (Ok(example), _) => {
                let first = match policy.duplicates {
                    Duplicates::Keep => row,
                    Duplicates::Drop => *seen.entry(content_hash(&example)).or_insert(row),
                };
                let limit = policy.max_prompt_share.map(|share| share * policy.max_length as f64);
                let tokens = example.num_prompt();
                match limit.filter(|limit| tokens as f64 > *limit) {
                    _ if first != row => DropReason::Duplicate { of: first },
                    Some(limit) => DropReason::LongPrompt { tokens, limit },
                    None => return Ok(Some(example)),
                }
            }
        };
        self.drop_row(row, reason);
        Ok(None)
    }

    /// Cuts or drops a row by the limit and takes it if there is something to train.
    fn place(&mut self, row: usize, mut example: T, policy: &SelectionPolicy) -> Result<()> {
        let (length, limit) = (example.longest(), self.report.max_length);
        let before = num_tokens(&example);
        if length > limit {
            match policy.too_long {
                Truncation::Error => return Err(Error::TooLong { row, length, limit }),
                Truncation::Drop => {
                    self.drop_row(row, DropReason::TooLong { tokens: length, limit });
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
            match policy.unusable {
                Unusable::Error if untrainable => return Err(Error::Untrainable { row }),
                Unusable::Error => return Err(Error::IdenticalPair { row }),
                Unusable::Drop if untrainable => {
                    let tokens = example.longest();
                    self.drop_row(row, DropReason::Untrainable { tokens });
                }
                Unusable::Drop => self.drop_row(row, DropReason::Identical),
            }
            return Ok(());
        }
        let report = &mut self.report;
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
