//! Rows of the datasets that a configuration names, parted into sides, with the numbers that messages call them by.

use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_data::source::Detection;
use rl_data::{
    ChatRecord, DatasetConfig, HashSplit, Message, PreferenceRecord, PromptRecord, Record, Role, Turns, UnpairedRecord,
};

use crate::config::{DataConfig, HeldOutConfig, ShareConfig};
use crate::{Error, Result};

/// Records of a dataset, or of one side of it.
#[derive(Debug, Clone)]
pub(crate) struct Rows<R> {
    /// Key of the dataset in the configuration, or of the share.
    pub key: String,
    /// The dataset as the configuration names it.
    pub path: PathBuf,
    /// In the order of the dataset.
    pub records: Vec<R>,
    /// Row of each record in the dataset; none where that is its place here.
    numbers: Option<Vec<usize>>,
    /// Rows of the datasets before this one.
    before: u64,
    /// How the dataset is read and why; none of the side that is held out of it.
    detection: Option<Detection>,
}

/// A record that trainers read.
pub(crate) trait RecordRow: Record + Turns {
    /// What a row must look like; for error messages.
    const EXAMPLE: &'static str;

    /// What is asked: rows that ask the same are not parted.
    fn question(&self) -> &[Message];
}

impl RecordRow for ChatRecord {
    const EXAMPLE: &'static str =
        r#"{"messages": [{"role": "user", "content": "..."}, {"role": "assistant", "content": "..."}]}"#;

    /// All before the first answer; of a conversation that begins with it, everything.
    fn question(&self) -> &[Message] {
        match self.messages.iter().position(|message| message.role == Role::Assistant) {
            None | Some(0) => &self.messages,
            Some(first) => &self.messages[..first],
        }
    }
}

impl RecordRow for PreferenceRecord {
    const EXAMPLE: &'static str = r#"{"prompt": "...", "chosen": "...", "rejected": "..."}"#;

    fn question(&self) -> &[Message] {
        if self.prompt.is_empty() { &self.chosen } else { &self.prompt }
    }
}

impl RecordRow for UnpairedRecord {
    const EXAMPLE: &'static str = r#"{"prompt": "...", "completion": "...", "label": true}"#;

    fn question(&self) -> &[Message] {
        &self.prompt
    }
}

impl RecordRow for PromptRecord {
    const EXAMPLE: &'static str = r#"{"prompt": "..."}"#;

    fn question(&self) -> &[Message] {
        &self.prompt
    }
}

impl<R> Rows<R> {
    /// Logs how the dataset is read.
    pub fn log_detection(&self) {
        if let Some(detection) = &self.detection {
            tracing::info!("{} = {}: {detection}", self.key, self.path.display());
        }
    }

    /// The row in its dataset of the record at `place`, from 0.
    pub fn number(&self, place: usize) -> usize {
        self.numbers.as_ref().map_or(place, |numbers| numbers[place])
    }

    /// The row among those of all datasets of the key.
    pub fn id(&self, place: usize) -> u64 {
        self.before + self.number(place) as u64
    }

    /// An error about a place here as one about a row of the dataset.
    pub fn renumber(&self, error: rl_data::Error) -> rl_data::Error {
        use rl_data::Error::{IdenticalPair, Row, TooLong, Untrainable};
        match error {
            Row { row, source } => Row { row: self.number(row), source },
            TooLong { row, length, limit } => TooLong { row: self.number(row), length, limit },
            Untrainable { row } => Untrainable { row: self.number(row) },
            IdenticalPair { row } => IdenticalPair { row: self.number(row) },
            other => other,
        }
    }
}

/// What is trained on, and what is held out.
type Sides<R> = (Vec<Rows<R>>, Vec<Rows<R>>);

/// The records of the datasets under `key`, and those held out. A share is taken of every dataset of `data`.
pub(crate) fn read_records<R: RecordRow>(
    key: &str,
    data: &DataConfig,
    held_out: &BTreeMap<String, HeldOutConfig>,
) -> Result<Sides<R>> {
    let (mut train, mut apart) = (Vec::new(), Vec::new());
    let mut before = 0;
    let share = share_of(held_out);
    for (key, dataset) in data.datasets(key) {
        let rows = Rows { before, ..read_dataset(key, dataset)? };
        before += rows.records.len() as u64;
        match &share {
            Some((name, share)) => {
                let (kept, held_out) = part(rows, name, *share)?;
                train.push(kept);
                apart.push(held_out);
            }
            None => train.push(rows),
        }
    }
    for (name, config) in held_out {
        if let HeldOutConfig::Dataset(dataset) = config {
            apart.push(read_dataset(format!("held_out.{name}"), dataset)?);
        }
    }
    Ok((train, apart))
}

/// The records that are trained on, of all datasets.
pub(crate) fn training_records<R: RecordRow>(
    key: &str,
    data: &DataConfig,
    held_out: &BTreeMap<String, HeldOutConfig>,
) -> Result<Vec<R>> {
    let share = held_out.iter().filter(|(_, config)| matches!(config, HeldOutConfig::Share(_)));
    let share = share.map(|(name, config)| (name.clone(), config.clone())).collect();
    let (train, _) = read_records::<R>(key, data, &share)?;
    Ok(train.into_iter().flat_map(|rows| rows.records).collect())
}

fn share_of(held_out: &BTreeMap<String, HeldOutConfig>) -> Option<(&str, ShareConfig)> {
    held_out.iter().find_map(|(name, config)| match config {
        HeldOutConfig::Share(share) => Some((name.as_str(), *share)),
        HeldOutConfig::Dataset(_) => None,
    })
}

/// The one place where trainers read a dataset.
fn read_dataset<R: RecordRow>(key: String, dataset: &DatasetConfig) -> Result<Rows<R>> {
    let path = PathBuf::from(dataset.to_string());
    let read = || -> rl_data::Result<(Detection, Vec<R>)> {
        let records = dataset.stream::<R>()?;
        Ok((records.detection().clone(), records.collect::<rl_data::Result<_>>()?))
    };
    let (detection, records) = read().map_err(|error| {
        use rl_data::Error::{BadRow, Cell, Line};
        let mend = match &error {
            Line { .. } | Cell { .. } | BadRow { .. } => {
                format!("mend the row or take it out; a row is {}", R::EXAMPLE)
            }
            rl_data::Error::Columns { .. } => format!("a row is {}", R::EXAMPLE),
            _ => String::new(),
        };
        Error::input(&key, &path, mend)(error)
    })?;
    Ok(Rows { key, path, records, numbers: None, before: 0, detection: Some(detection) })
}

/// What stays, and what is held out under `name`.
fn part<R: RecordRow>(rows: Rows<R>, name: &str, config: ShareConfig) -> Result<(Rows<R>, Rows<R>)> {
    let split = HashSplit::new(config.seed, config.share)?;
    let Rows { key, path, records, before, detection, .. } = rows;
    let count = records.len();
    let sides = split.split(records.into_iter().enumerate(), |(_, record)| record.question())?;
    let held_out_key = format!("held_out.{name}");
    let side = |key: &str, side: Vec<(usize, R)>, detection| {
        let (numbers, records) = side.into_iter().unzip();
        Rows { key: key.to_owned(), path: path.clone(), records, numbers: Some(numbers), before, detection }
    };
    let (train, held_out) = (side(&key, sides.train, detection), side(&held_out_key, sides.held_out, None));
    if train.records.is_empty() || held_out.records.is_empty() {
        let what = format!("share = {} holds out {} of {count} rows", config.share, held_out.records.len());
        let reason = "neither side may be empty; change the share or its seed, or hold out a dataset of its own";
        return Err(Error::input(&held_out_key, &path, String::new())(Error::UnsuitableData { what, reason }));
    }
    Ok((train, held_out))
}
