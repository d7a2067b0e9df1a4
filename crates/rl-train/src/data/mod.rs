//! Data as the trainers take it: read, parted into what is trained on and what is held out, rendered, selected; each with
//! what was dropped and why.
//!
//! Every trainer and its plan read through here, so a plan sees the very rows that the run will see. Not here: what a row is
//! made of and how datasets are found (`rl_data`), and the order in which rows are visited (`examples`).

mod records;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use rl_data::{
    DropReason, EndOfTurn, Mix, MixConfig, Renderer, Selectable, SelectionPolicy, SelectionReport, Turns,
    select_records,
};
use rl_track::{ConfigError, Manifest};

use crate::config::{DataConfig, HeldOutConfig};
use crate::examples::TrainingSet;
use crate::{Error, Result};

pub(crate) use records::{RecordRow, Rows, read_records, training_records};

/// A dataset of the configuration, or one side of it, as examples.
#[derive(Debug, Clone)]
pub struct DataFile<T> {
    /// Its key in the configuration: `data`, `data.datasets.1`, `held_out.NAME`.
    pub key: String,
    /// The dataset as the configuration names it.
    pub path: PathBuf,
    /// What is trained on or measured, in the order of the dataset.
    pub items: Vec<T>,
    /// Rows kept and dropped, by reason.
    pub report: SelectionReport,
}

/// All that a configuration names under `data` and `held_out`.
#[derive(Debug, Clone)]
pub(crate) struct Loaded<T> {
    /// The datasets that are trained on, in order.
    pub train: Vec<DataFile<T>>,
    /// Those held out; of a share of several datasets one for each, under the same key.
    pub held_out: Vec<DataFile<T>>,
    /// How an epoch mixes the first.
    mix: Option<MixConfig>,
}

/// What rows are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Train,
    HeldOut,
}

/// Reads the datasets under `key` and `held_out`; `select` makes examples of the rows of each.
pub(crate) fn load<R: RecordRow, T>(
    key: &str,
    data: &DataConfig,
    held_out: &BTreeMap<String, HeldOutConfig>,
    select: impl Fn(&Rows<R>, Side) -> Result<DataFile<T>>,
) -> Result<Loaded<T>> {
    let (train, held_out) = read_records::<R>(key, data, held_out)?;
    let files = |rows: Vec<Rows<R>>, side| rows.iter().map(|rows| select(rows, side)).collect::<Result<Vec<_>>>();
    let loaded =
        Loaded { train: files(train, Side::Train)?, held_out: files(held_out, Side::HeldOut)?, mix: data.mix() };
    if let Some(mix) = &loaded.mix {
        let sizes: Vec<usize> = loaded.train.iter().map(|file| file.items.len()).collect();
        Mix::new(&sizes, mix).map_err(|error| match error {
            rl_data::Error::Setting { name, value, rule } => {
                Error::Config(ConfigError { key: format!("{key}.{name}"), value, message: rule.into() })
            }
            other => other.into(),
        })?;
    }
    Ok(loaded)
}

impl<T> Loaded<T> {
    /// What is trained on, and what is held out by name.
    pub fn into_parts(self) -> (TrainingSet<T>, Vec<(String, Vec<T>)>) {
        let train = self.train.into_iter().map(|file| file.items).collect();
        let mut held_out: Vec<(String, Vec<T>)> = Vec::new();
        for file in self.held_out {
            let name = file.key.strip_prefix("held_out.").unwrap_or(&file.key).to_owned();
            match held_out.iter_mut().find(|(known, _)| *known == name) {
                Some((_, items)) => items.extend(file.items),
                None => held_out.push((name, file.items)),
            }
        }
        (TrainingSet::new(train, self.mix), held_out)
    }

    /// What is trained on.
    pub fn into_train(self) -> TrainingSet<T> {
        self.into_parts().0
    }

    /// Rows that an epoch visits of each dataset that is trained on.
    pub fn epoch_rows(&self) -> Result<Vec<usize>> {
        let sizes: Vec<usize> = self.train.iter().map(|file| file.items.len()).collect();
        match &self.mix {
            Some(mix) => Ok(Mix::new(&sizes, mix)?.counts().to_vec()),
            None => Ok(sizes),
        }
    }
}

/// The rows that `policy` keeps; `convert` makes of each record and its example what is trained on, under the id that it is
/// given.
pub(crate) fn select_rows<R: Turns, T: Selectable, I>(
    rows: &Rows<R>,
    examples: Vec<rl_data::Result<T>>,
    policy: &SelectionPolicy,
    convert: impl Fn(u64, &R, T) -> Result<I>,
) -> Result<DataFile<I>> {
    let Rows { key, path, records, .. } = rows;
    rows.log_detection();
    let selection = select_records(records, examples, policy).map_err(|error| {
        let mend = match &error {
            rl_data::Error::Row { .. } | rl_data::Error::Untrainable { .. } | rl_data::Error::IdenticalPair { .. } => {
                r#"mend the row, or leave such rows out with `selection.unusable = "drop"`"#
            }
            _ => "",
        };
        Error::input(key, path, mend.into())(rows.renumber(error))
    })?;
    let mut report = selection.report;
    let failure = |reason: &DropReason| match reason {
        DropReason::Unrenderable { error } => Some(error.clone()),
        _ => None,
    };
    let first = selection.dropped.iter().find_map(|dropped| Some((dropped.row, failure(&dropped.reason)?)));
    report.first_failure = first.map(|(row, error)| format!("row {}: {error}", rows.number(row)));
    tracing::info!("{key} = {}: {}", path.display(), describe(&report));
    if selection.examples.is_empty() {
        let what = format!("0 of {} rows kept ({})", report.rows, dropped(&report).join(", "));
        let reason = "nothing is left to learn from; change `selection` or the file";
        return Err(Error::input(key, path, String::new())(Error::UnsuitableData { what, reason }));
    }
    let kept = selection.rows.into_iter().zip(selection.examples);
    let items = kept.map(|(row, example)| convert(rows.id(row), &records[row], example)).collect::<Result<_>>()?;
    Ok(DataFile { key: key.clone(), path: path.clone(), items, report })
}

/// The renderer under the rule that the configuration gives for ends of turns.
pub(crate) fn under(renderer: &Renderer, end_of_turn: EndOfTurn) -> Cow<'_, Renderer> {
    match end_of_turn {
        EndOfTurn::Required => Cow::Borrowed(renderer),
        EndOfTurn::Optional => Cow::Owned(renderer.clone().with_end_of_turn(end_of_turn)),
    }
}

/// Adds the hashes of the datasets under `key` to the manifest, each over all its files, as inputs that begin with `name`.
pub(crate) fn input_data(mut manifest: Manifest, name: &str, key: &str, data: &DataConfig) -> Result<Manifest> {
    for ((name, dataset), (key, _)) in data.datasets(name).zip(data.datasets(key)) {
        let path = PathBuf::from(&dataset.path);
        let digest = dataset.digest().map_err(Error::input(&key, &path, String::new()))?;
        manifest = manifest.input(name, digest);
    }
    Ok(manifest)
}

/// [`input_data`] of `data` and `held_out`. A share of `data` is no input of its own.
pub(crate) fn input_datasets(
    manifest: Manifest,
    data: &DataConfig,
    held_out: &BTreeMap<String, HeldOutConfig>,
) -> Result<Manifest> {
    let mut manifest = input_data(manifest, "data", "data", data)?;
    for (name, config) in held_out {
        if let HeldOutConfig::Dataset(dataset) = config {
            let key = format!("held_out.{name}");
            manifest = input_data(manifest, &key, &key, &DataConfig::One(dataset.clone()))?;
        }
    }
    Ok(manifest)
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
