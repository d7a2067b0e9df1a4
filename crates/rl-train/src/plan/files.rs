//! One file of a run: rows kept and dropped, lengths, tokens.

use std::path::PathBuf;

use rl_data::SelectionReport;

use crate::batch::TrainingRow;
use crate::data::{DataFile, dropped};

/// What a run reads of a file.
#[derive(Debug, Clone)]
pub struct FilePlan {
    /// Its key in the configuration.
    pub key: String,
    /// The file; for an environment its name.
    pub path: PathBuf,
    /// Rows read.
    pub rows: usize,
    /// Rows kept.
    pub kept: usize,
    /// Why rows were dropped, with their numbers.
    pub dropped: Vec<String>,
    /// The selection's own account; empty for prompts.
    pub report: SelectionReport,
    /// Tokens of each kept example, of a pair those of its longer side.
    pub lengths: Vec<usize>,
    /// Tokens of all kept examples.
    pub tokens: u64,
    /// Those that are trained.
    pub trained: u64,
}

impl FilePlan {
    /// Counts a file whose examples have the sequences `sides`.
    pub(crate) fn new<T>(file: &DataFile<T>, sides: impl Fn(&T) -> Vec<&TrainingRow>) -> Self {
        let rows = || file.items.iter().map(&sides);
        let length = |sides: Vec<&TrainingRow>| sides.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        FilePlan {
            key: file.key.clone(),
            path: file.path.clone(),
            rows: file.report.rows,
            kept: file.items.len(),
            dropped: dropped(&file.report),
            report: file.report.clone(),
            lengths: rows().map(length).collect(),
            tokens: rows().flatten().map(|row| row.ids.len() as u64).sum(),
            trained: rows().flatten().map(|row| row.num_labels() as u64).sum(),
        }
    }

    /// Counts prompts, `[prompts]` tokens each, of which `dropped` more were too long.
    pub(crate) fn of_prompts(key: &str, path: PathBuf, lengths: Vec<usize>, dropped: usize) -> Self {
        let kept = lengths.len();
        let reasons = if 0 < dropped { vec![format!("{dropped} too long")] } else { Vec::new() };
        FilePlan {
            key: key.into(),
            path,
            rows: kept + dropped,
            kept,
            dropped: reasons,
            report: SelectionReport::default(),
            tokens: lengths.iter().map(|&length| length as u64).sum(),
            lengths,
            trained: 0,
        }
    }
}
