//! Files of data as the trainers take them: read, rendered, selected, each with what was dropped and why.
//!
//! Every trainer and its plan read through here, so a plan sees the very rows that the run will see. Not here: what a row is
//! made of (`rl_data`), and the order in which rows are visited.

use std::path::{Path, PathBuf};

use rl_data::{Selectable, Selection, SelectionPolicy, SelectionReport, Turns, read_jsonl, select_records};
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A file of the configuration, as examples.
#[derive(Debug, Clone)]
pub struct DataFile<T> {
    /// Its key in the configuration: `data`, `held_out.NAME`.
    pub key: String,
    /// The file.
    pub path: PathBuf,
    /// What is trained on or measured, in the order of the file.
    pub items: Vec<T>,
    /// Rows kept and dropped, by reason.
    pub report: SelectionReport,
}

/// What a line of a file must look like; for error messages.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Layout {
    Chat,
    Pairs,
    Answers,
    Prompts,
}

impl Layout {
    fn example(self) -> &'static str {
        match self {
            Layout::Chat => {
                r#"{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}"#
            }
            Layout::Pairs => r#"{"prompt": "...", "chosen": "...", "rejected": "..."}"#,
            Layout::Answers => r#"{"prompt": "...", "completion": "...", "label": true}"#,
            Layout::Prompts => r#"{"prompt": "..."}"#,
        }
    }
}

/// The records of the file at `path`, which the configuration names under `key`.
pub(crate) fn read_records<R: DeserializeOwned>(key: &str, path: &Path, layout: Layout) -> Result<Vec<R>> {
    let records = read_jsonl(path).map_err(|error| {
        let mend = match &error {
            rl_data::Error::Line { .. } => format!("mend the line or take it out; a line is {}", layout.example()),
            _ => "check the path; it must name a file of JSON Lines".into(),
        };
        Error::input(key, path, mend)(error)
    })?;
    if records.is_empty() {
        let what = "0 rows".into();
        let mend = format!("each line of it must be {}", layout.example());
        return Err(Error::input(key, path, mend)(Error::UnsuitableData { what, reason: "there is nothing to read" }));
    }
    Ok(records)
}

/// The rows of `records` that `policy` keeps, as `convert` makes examples of them.
pub(crate) fn select_rows<R: Turns, T: Selectable, I>(
    key: &str,
    path: &Path,
    records: &[R],
    rows: Vec<rl_data::Result<T>>,
    policy: &SelectionPolicy,
    convert: impl FnOnce(Selection<T>) -> Vec<I>,
) -> Result<DataFile<I>> {
    let selection = select_records(records, rows, policy).map_err(|error| {
        let mend = match &error {
            rl_data::Error::Row { .. } | rl_data::Error::Untrainable { .. } | rl_data::Error::IdenticalPair { .. } => {
                r#"mend the row, or leave such rows out with `selection.unusable = "drop"`"#
            }
            _ => "",
        };
        Error::input(key, path, mend.into())(error)
    })?;
    let report = selection.report.clone();
    tracing::info!("{}: {}", path.display(), describe(&report));
    if selection.examples.is_empty() {
        let what = format!("0 of {} rows kept ({})", report.rows, dropped(&report).join(", "));
        let reason = "nothing is left to learn from; change `selection` or the file";
        return Err(Error::input(key, path, String::new())(Error::UnsuitableData { what, reason }));
    }
    Ok(DataFile { key: key.into(), path: path.into(), items: convert(selection), report })
}

/// The first file, which is trained on, and the others by the names of their keys.
pub(crate) fn train_and_held_out<T>(files: Vec<DataFile<T>>) -> (Vec<T>, Vec<(String, Vec<T>)>) {
    let mut files = files.into_iter();
    let train = files.next().map(|file| file.items).unwrap_or_default();
    let name = |key: &str| key.strip_prefix("held_out.").unwrap_or(key).to_owned();
    (train, files.map(|file| (name(&file.key), file.items)).collect())
}

/// One line of what a selection kept.
fn describe(report: &SelectionReport) -> String {
    format!(
        "{} rows kept, {} dropped, {} cut; {} tokens, {} of them targets",
        report.kept,
        report.rows - report.kept,
        report.truncated,
        report.tokens,
        report.trainable_tokens
    )
}

/// Why rows were dropped, with their numbers, such as `3 too long`.
pub(crate) fn dropped(report: &SelectionReport) -> Vec<String> {
    let counts = report.dropped().into_iter().filter(|(_, count)| 0 < *count);
    counts.map(|(reason, count)| format!("{count} {reason}")).collect()
}
