//! Which examples are kept: every row that is dropped is listed with its reason, every cut is counted, and nothing goes
//! silently.

mod length;
mod report;
mod rules;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::{Deserialize, Serialize};

pub use length::{LengthDraw, LengthPercentile};
pub use report::{DropReason, Dropped, SelectionReport};
pub use rules::{Duplicates, EmptyTurns, LanguageRule, RoleOrder, UnknownLanguage};

use crate::conversation::Turns;
use crate::error::{Error, Result};
use crate::preference_example::{PreferenceExample, PromptExample, UnpairedExample};
use crate::record::Message;
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

/// Rules of [`select`] and [`select_records`]. Those that every run needs have no default, because each moves results; the
/// others are off.
///
/// A row is judged by the first rule that drops it: role order, empty turns, language, rendering, duplicates, prompt share,
/// length, targets.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionPolicy {
    /// Most tokens of an example, of each side of a pair, or of a prompt alone; 2 or more. `length_percentile` takes its
    /// place as the limit.
    pub max_length: usize,
    /// For longer ones.
    pub too_long: Truncation,
    /// For conversations that failed to render, for examples without a target token and for pairs of equal sides.
    pub unusable: Unusable,
    /// Rows with more prompt tokens than this share of `max_length` are dropped and counted; above 0, at most 1; none
    /// by default. The prompt ends at the first target token, before any cut.
    #[serde(default)]
    pub max_prompt_share: Option<f64>,
    /// Measures the limit instead.
    #[serde(default)]
    pub length_percentile: Option<LengthPercentile>,
    /// For rows equal to an earlier one.
    #[serde(default)]
    pub duplicates: Duplicates,
    /// For conversations with a message that says nothing.
    #[serde(default)]
    pub empty_turns: EmptyTurns,
    /// Which conversations are kept.
    #[serde(default)]
    pub role_order: RoleOrder,
    /// Which language is kept.
    #[serde(default)]
    pub language: Option<LanguageRule>,
}

impl SelectionPolicy {
    /// The rules that every run needs, the others off.
    pub fn new(max_length: usize, too_long: Truncation, unusable: Unusable) -> Self {
        SelectionPolicy {
            max_length,
            too_long,
            unusable,
            max_prompt_share: None,
            length_percentile: None,
            duplicates: Duplicates::default(),
            empty_turns: EmptyTurns::default(),
            role_order: RoleOrder::default(),
            language: None,
        }
    }

    /// Checks the ranges. [`Error::Setting`] names the value and the rule.
    pub fn validate(&self) -> Result<()> {
        let setting = |name, value: String, rule| Err(Error::Setting { name, value, rule });
        if self.max_length < 2 {
            let rule = "must be 2 or more: a token and its predictor";
            return setting("max_length", self.max_length.to_string(), rule);
        }
        let is_share = |share: f64| share > 0.0 && share <= 1.0;
        if let Some(share) = self.max_prompt_share.filter(|share| !is_share(*share)) {
            return setting("max_prompt_share", share.to_string(), "must be above 0 and at most 1");
        }
        if let Some(rule) = self.language.filter(|rule| !(0.0..=1.0).contains(&rule.min_share)) {
            return setting("language.min_share", rule.min_share.to_string(), "must be in [0, 1]");
        }
        self.length_percentile.map_or(Ok(()), |percentile| percentile.validate())
    }

    /// The first rule that a conversation breaks.
    fn broken_rule(&self, messages: &[&Message]) -> Option<DropReason> {
        rules::role_order(self.role_order, messages)
            .or_else(|| (self.empty_turns == EmptyTurns::Drop).then(|| rules::empty_turn(messages)).flatten())
            .or_else(|| rules::language(self.language.as_ref()?, messages))
    }

    fn has_conversation_rules(&self) -> bool {
        (self.role_order, self.empty_turns, self.language) != (RoleOrder::Any, EmptyTurns::Keep, None)
    }
}

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

    /// Feeds what makes two rows the same: tokens, targets and verdicts.
    fn hash_content<H: Hasher>(&self, hasher: &mut H);

    /// Removes the first `count` tokens of every sequence.
    fn cut_left(&mut self, count: usize);

    /// Keeps the first `limit` tokens of every sequence. An error if the row makes no sense without its end.
    fn cut_right(&mut self, limit: usize) -> Result<()>;
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

/// Two 64-bit hashes: among billions of rows two different ones share it with a chance below 1e-18.
fn content_hash(example: &impl Selectable) -> u128 {
    let [low, high] = [0_u8, 1].map(|salt| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        example.hash_content(&mut hasher);
        u128::from(hasher.finish())
    });
    low | high << 64
}

impl Selectable for Example {
    fn sides(&self) -> Vec<&Example> {
        vec![self]
    }

    fn hash_content<H: Hasher>(&self, hasher: &mut H) {
        (&self.ids, &self.trainable).hash(hasher);
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

    fn hash_content<H: Hasher>(&self, hasher: &mut H) {
        self.chosen.hash_content(hasher);
        self.rejected.hash_content(hasher);
        self.margin.map(f64::to_bits).hash(hasher);
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

    fn hash_content<H: Hasher>(&self, hasher: &mut H) {
        self.completion.hash_content(hasher);
        self.label.hash(hasher);
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

    fn hash_content<H: Hasher>(&self, hasher: &mut H) {
        self.prompt_ids.hash(hasher);
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
        SelectionPolicy::new(3, too_long, unusable)
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
            max_length: 3,
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
            max_length: 3,
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

    #[test]
    fn every_dropped_row_is_listed_with_its_figures() {
        let dropped = select(rows(), &policy(Truncation::Drop, Unusable::Drop)).unwrap();
        let lines: Vec<String> = dropped.dropped.iter().map(|d| format!("{} {}", d.row, d.reason)).collect();
        let unrenderable = format!("4 not renderable: {}", Error::NoAnswer);
        assert_eq!(
            lines,
            [
                "1 too long: 5 tokens, limit 3",
                "2 nothing to train: none of 2 tokens is a target",
                "3 nothing to train: none of 2 tokens is a target",
                unrenderable.as_str(),
                "5 too long: 5 tokens, limit 3",
            ]
        );
        let total: usize = dropped.report.dropped().iter().map(|(_, count)| count).sum();
        assert_eq!(total + dropped.report.kept, dropped.report.rows);
    }

    #[test]
    fn only_the_first_of_equal_rows_stays() {
        let rows = || vec![example(&[-1, 2]), example(&[1, 2]), example(&[-1, 2]), example(&[-1, 2, 3])];
        let keep = policy(Truncation::Drop, Unusable::Drop);
        assert_eq!(select(rows(), &keep).unwrap().rows, [0, 1, 2, 3]);
        let found = select(rows(), &SelectionPolicy { duplicates: Duplicates::Drop, ..keep }).unwrap();
        assert_eq!((found.rows, found.report.dropped_duplicate), (vec![0, 1, 3], 1));
        assert_eq!(found.dropped, [Dropped { row: 2, reason: DropReason::Duplicate { of: 0 } }]);
    }

    #[test]
    fn a_measured_limit_takes_the_place_of_the_given_one() {
        // Lengths 10, 20, ..., 100 with a prompt of all but one token: the 95th percentile is 95.5.
        let rows =
            || (1..=10).map(|n| example(&(1..=10 * n).map(|x| if x == 10 * n { x } else { -x }).collect::<Vec<_>>()));
        let length_percentile = Some(LengthPercentile { percentile: 95.0, draw: None });
        let given = SelectionPolicy { max_length: 50, length_percentile, ..policy(Truncation::Drop, Unusable::Drop) };
        let found = select(rows(), &given).unwrap();
        assert_eq!((found.report.max_length, found.report.kept, found.report.dropped_too_long), (95, 9, 1));
        // The prompt share is of the given length, and the limit is measured on what it leaves: 10, 20, 30 give 29.
        let found = select(rows(), &SelectionPolicy { max_prompt_share: Some(0.7), ..given }).unwrap();
        assert_eq!((found.report.dropped_long_prompt, found.report.max_length), (7, 29));
        assert_eq!((found.rows, found.report.dropped_too_long), (vec![0, 1], 1));
    }

    #[test]
    fn rules_about_conversations_need_them() {
        let records =
            ["", "two"].map(|text| vec![Message::user("one"), Message::assistant(text)]).map(crate::ChatRecord::new);
        let rows = || vec![example(&[-1, 2]), example(&[-1, 3])];
        let rule = SelectionPolicy { empty_turns: EmptyTurns::Drop, ..policy(Truncation::Drop, Unusable::Drop) };
        assert!(matches!(select(rows(), &rule).unwrap_err(), Error::Setting { name: "selection", .. }));
        let found = select_records(&records, rows(), &rule).unwrap();
        assert_eq!(
            (found.rows, found.dropped),
            (vec![1], vec![Dropped { row: 0, reason: DropReason::EmptyTurn { message: 1 } }])
        );
        assert!(matches!(
            select_records(&records[..1], rows(), &rule).unwrap_err(),
            Error::Setting { name: "rows", .. }
        ));
        assert!(matches!(
            select_records(&records, rows().split_off(1), &rule).unwrap_err(),
            Error::Setting { name: "rows", .. }
        ));
    }
}
