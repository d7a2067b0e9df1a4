//! One dataset of a run: rows kept and dropped, lengths, tokens.

use std::path::PathBuf;

use rl_data::SelectionReport;

use crate::Result;
use crate::batch::TrainingRow;
use crate::data::{DataFile, Loaded, dropped};

/// What a run reads of a dataset, or of one side of it.
#[derive(Debug, Clone)]
pub struct FilePlan {
    /// Its key in the configuration.
    pub key: String,
    /// The dataset as the configuration names it; of an environment its name.
    pub path: PathBuf,
    /// Rows read.
    pub rows: usize,
    /// Rows kept.
    pub kept: usize,
    /// Rows that an epoch of training visits: all that are kept unless datasets are mixed, none of what is held out.
    pub epoch_rows: usize,
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
    /// Counts the datasets of a run, whose examples have the sequences `sides`.
    pub(crate) fn all<T>(loaded: &Loaded<T>, sides: impl Fn(&T) -> Vec<&TrainingRow>) -> Result<Vec<Self>> {
        let train = loaded.train.iter().zip(loaded.epoch_rows()?);
        let train = train.map(|(file, epoch_rows)| FilePlan::new(file, epoch_rows, &sides));
        Ok(train.chain(loaded.held_out.iter().map(|file| FilePlan::new(file, 0, &sides))).collect())
    }

    fn new<T>(file: &DataFile<T>, epoch_rows: usize, sides: impl Fn(&T) -> Vec<&TrainingRow>) -> Self {
        let rows = || file.items.iter().map(&sides);
        let length = |sides: Vec<&TrainingRow>| sides.iter().map(|row| row.ids.len()).max().unwrap_or(0);
        FilePlan {
            key: file.key.clone(),
            path: file.path.clone(),
            rows: file.report.rows,
            kept: file.items.len(),
            epoch_rows,
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
            epoch_rows: kept,
            dropped: reasons,
            report: SelectionReport::default(),
            tokens: lengths.iter().map(|&length| length as u64).sum(),
            lengths,
            trained: 0,
        }
    }
}
