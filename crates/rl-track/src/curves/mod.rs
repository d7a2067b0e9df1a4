//! The curves of a run as it was recorded, and pictures of one or several runs.
//!
//! Reads run folders of ours and folders with TensorBoard files of anybody. Nothing is interpolated or left out: a number
//! that is not finite is a gap.

mod panel;
mod plot;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Table;

use crate::error::{Error, Result};
use crate::run::{self, names};
use crate::tensorboard::{self, Point};
use crate::{MetricsRow, metrics};

pub(crate) use plot::csv_field;

pub use panel::glob_matches;
pub use plot::{PlotOptions, XAxis, plot};

/// Measurements whose sum over the steps of `train` is the number of samples trained on.
const SAMPLE_COUNTS: [&str; 4] = ["train/num_samples", "train/num_rows", "train/num_pairs", "train/num_answers"];

/// What one run recorded.
#[derive(Debug, Clone)]
pub struct Curves {
    /// The folder.
    pub folder: PathBuf,
    /// The folder's last name.
    pub name: String,
    /// Points with rising steps, by tag: `SPLIT/NAME` for what our trainers write.
    pub by_tag: BTreeMap<String, Vec<Point>>,
    /// Samples per step by the configuration, if it says.
    samples_per_step: Option<u64>,
}

impl Curves {
    /// Reads the event files and `metrics.jsonl` of a folder; either may be missing.
    ///
    /// Values come from `metrics.jsonl` where it has them, since event files hold single precision; times come from the event
    /// files, and are NaN where only `metrics.jsonl` has the point.
    ///
    /// # Errors
    /// The folder cannot be read, a file is damaged, or nothing is recorded there.
    pub fn read(folder: &Path) -> Result<Self> {
        let mut by_tag = tensorboard::read_folder(folder)?;
        let path = folder.join(names::METRICS);
        if path.exists() {
            metrics::read(&path)?.iter().for_each(|row| overlay(&mut by_tag, row));
        }
        if by_tag.is_empty() {
            let message =
                "holds no scalars, neither in event files nor in metrics.jsonl; give the folder of a run".into();
            return Err(Error::NoCurves { path: folder.to_path_buf(), message });
        }
        let has_config = folder.join(names::CONFIG).exists();
        let config = if has_config { run::read_config(folder)? } else { Table::new() };
        Ok(Self {
            folder: folder.to_path_buf(),
            name: folder_name(folder),
            by_tag,
            samples_per_step: samples_per_step(&config),
        })
    }

    /// Seconds since 1970 of the run's first point; `None` if no point has a time.
    pub fn start(&self) -> Option<f64> {
        let times = self.by_tag.values().flatten().map(|point| point.wall_time);
        times.filter(|time| time.is_finite()).min_by(f64::total_cmp)
    }

    /// Samples trained on after each of `steps`: the sum of what the steps say they took, else steps times the
    /// configuration's `batch_size`, or `prompts_per_step` times `group_size`.
    ///
    /// # Errors
    /// The run says neither.
    pub fn samples(&self, steps: &[i64]) -> Result<Vec<f64>> {
        if let Some(counts) = SAMPLE_COUNTS.iter().find_map(|tag| self.by_tag.get(*tag)) {
            let until =
                |step: &i64| counts.iter().take_while(|point| point.step <= *step).map(|point| point.value).sum();
            return Ok(steps.iter().map(until).collect());
        }
        if let Some(per_step) = self.samples_per_step {
            return Ok(steps.iter().map(|step| *step as f64 * per_step as f64).collect());
        }
        let message = format!(
            "does not say how many samples a step takes (none of {} and no batch size in its configuration); choose the x axis \
             `step`",
            SAMPLE_COUNTS.join(", ")
        );
        Err(Error::NoCurves { path: self.folder.clone(), message })
    }
}

/// Reads several runs; those whose folders have the same last name are told apart by as much of their paths as it takes.
///
/// # Errors
/// As [`Curves::read`], for the first run that cannot be read.
pub fn read_runs(folders: &[PathBuf]) -> Result<Vec<Curves>> {
    let mut runs = folders.iter().map(|folder| Curves::read(folder)).collect::<Result<Vec<_>>>()?;
    let names = distinct_names(folders);
    runs.iter_mut().zip(names).for_each(|(run, name)| run.name = name);
    Ok(runs)
}

fn overlay(by_tag: &mut BTreeMap<String, Vec<Point>>, row: &MetricsRow) {
    let step = i64::try_from(row.step).unwrap_or(i64::MAX);
    for (name, value) in row.values.iter().chain(&row.timing) {
        let points = by_tag.entry(format!("{}/{name}", row.split)).or_default();
        match points.binary_search_by_key(&step, |point| point.step) {
            Ok(place) => points[place].value = *value,
            Err(place) => points.insert(place, Point { step, wall_time: f64::NAN, value: *value }),
        }
    }
}

fn samples_per_step(config: &Table) -> Option<u64> {
    let number = |key| run::config_number(config, key);
    number("batch_size").or_else(|| Some(number("prompts_per_step")? * number("group_size").unwrap_or(1)))
}

/// The last name of a path, also of `.` and of one that ends in `..`.
fn folder_name(folder: &Path) -> String {
    let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
    let name = whole.file_name().map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| folder.display().to_string())
}

fn distinct_names(folders: &[PathBuf]) -> Vec<String> {
    let parts: Vec<Vec<String>> = folders
        .iter()
        .map(|folder| {
            let whole = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            whole.iter().map(|part| part.to_string_lossy().into_owned()).collect()
        })
        .collect();
    let tail = |parts: &[String], count: usize| parts[parts.len().saturating_sub(count)..].join("/");
    let name = |own: &Vec<String>| {
        let rivals: Vec<&Vec<String>> = parts.iter().filter(|other| *other != own).collect();
        let is_unique = |count: &usize| rivals.iter().all(|other| tail(other, *count) != tail(own, *count));
        let count = (1..=own.len()).find(is_unique).unwrap_or(own.len());
        tail(own, count)
    };
    parts.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_the_same_name_are_told_apart() {
        let paths = ["/x/a/run", "/x/b/run", "/x/b/other"].map(PathBuf::from);
        assert_eq!(distinct_names(&paths), ["a/run", "b/run", "other"]);
    }

    #[test]
    fn samples_follow_the_configuration() {
        let config: Table = toml::from_str("prompts_per_step = 2\n[algorithm]\ngroup_size = 4\n").unwrap();
        assert_eq!(samples_per_step(&config), Some(8));
        assert_eq!(samples_per_step(&toml::from_str("batch_size = 3\n").unwrap()), Some(3));
        assert_eq!(samples_per_step(&Table::new()), None);
    }
}
