//! `metrics.jsonl`: one line per step and split, the source of truth for every curve of a run.
//!
//! A line reads `{"step":7,"split":"train","loss":0.5,"timing":{"seconds":1.2}}`. What depends on the clock lies under
//! `timing` alone, so a resumed run and an uninterrupted one are equal in everything else. A `digest` stands for what the
//! step read and computed, so that a replay can be compared with it.

use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::jsonl::{self, Appender, Line};

pub use crate::jsonl::truncate_after;

const RESERVED: [&str; 4] = ["step", "split", "digest", "timing"];

/// The measurements of one step on one split.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricsRow {
    /// Optimizer steps done.
    pub step: u64,
    /// `train`, `eval`, or another name of the data.
    pub split: String,
    /// Names and finite values, in the order they are written.
    pub values: Vec<(String, f64)>,
    /// Hash of what the step read and computed.
    pub digest: Option<String>,
    /// What depends on the clock: seconds, tokens per second.
    pub timing: Vec<(String, f64)>,
}

impl MetricsRow {
    /// An empty row.
    pub fn new(step: u64, split: impl Into<String>) -> Self {
        Self { step, split: split.into(), values: Vec::new(), digest: None, timing: Vec::new() }
    }

    /// Adds a measurement.
    pub fn with(mut self, name: impl Into<String>, value: f64) -> Self {
        self.values.push((name.into(), value));
        self
    }

    /// Adds a measurement that depends on the clock.
    pub fn with_timing(mut self, name: impl Into<String>, value: f64) -> Self {
        self.timing.push((name.into(), value));
        self
    }

    /// A measurement by name, outside `timing`.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.values.iter().find(|(own, _)| own == name).map(|(_, value)| *value)
    }

    fn to_object(&self) -> Result<Map<String, Value>> {
        let mut object = Map::new();
        object.insert("step".into(), self.step.into());
        object.insert("split".into(), self.split.clone().into());
        self.insert_all(&self.values, &mut object)?;
        if let Some(digest) = &self.digest {
            object.insert("digest".into(), digest.clone().into());
        }
        if !self.timing.is_empty() {
            let mut timing = Map::new();
            self.insert_all(&self.timing, &mut timing)?;
            object.insert("timing".into(), Value::Object(timing));
        }
        Ok(object)
    }

    fn insert_all(&self, values: &[(String, f64)], object: &mut Map<String, Value>) -> Result<()> {
        for (name, value) in values {
            let bad = |message| Error::BadName { name: name.clone(), step: self.step, message };
            if name.is_empty() {
                return Err(bad("a metric needs a name"));
            }
            if RESERVED.contains(&name.as_str()) {
                return Err(bad("this name is reserved; choose another"));
            }
            let number = serde_json::Number::from_f64(*value).ok_or_else(|| Error::NonFinite {
                name: name.clone(),
                split: self.split.clone(),
                step: self.step,
                value: *value,
            })?;
            if object.insert(name.clone(), Value::Number(number)).is_some() {
                return Err(bad("given twice in one row"));
            }
        }
        Ok(())
    }

    pub(crate) fn from_line(path: &Path, line: Line) -> Result<Self> {
        let bad = |message: String| Error::BadLine { path: path.to_path_buf(), line: line.number, message };
        let split = line.object.get("split").and_then(Value::as_str);
        let mut row = Self::new(line.step, split.ok_or_else(|| bad("`split` is missing or not a string".into()))?);
        let number = |name: &str, value: &Value| {
            let number = value.as_f64().ok_or_else(|| bad(format!("`{name}` is not a number")))?;
            Ok::<_, Error>((name.to_owned(), number))
        };
        for (name, value) in &line.object {
            match (name.as_str(), value) {
                ("step" | "split", _) => {}
                ("digest", Value::String(digest)) => row.digest = Some(digest.clone()),
                ("timing", Value::Object(timing)) => {
                    row.timing = timing.iter().map(|(name, value)| number(name, value)).collect::<Result<_>>()?;
                }
                (name, value) => row.values.push(number(name, value)?),
            }
        }
        Ok(row)
    }
}

/// Appends rows to a metrics file.
#[derive(Debug)]
pub struct MetricsWriter {
    appender: Appender,
    last_step: u64,
}

impl MetricsWriter {
    /// Opens or creates the file. A line that a killed process left unfinished is removed.
    ///
    /// When resuming from a checkpoint call [`truncate_after`] first, else the steps after it stand twice.
    pub fn open(path: &Path) -> Result<Self> {
        let (appender, lines) = Appender::open(path)?;
        let last_step = lines.iter().map(|line| line.step).max().unwrap_or(0);
        Ok(Self { appender, last_step })
    }

    /// Appends a row. Once this returns, killing the process does not lose it.
    ///
    /// # Errors
    /// A NaN or infinite value, a reserved or repeated name, or a step below the last one; then nothing is written.
    pub fn write(&mut self, row: &MetricsRow) -> Result<()> {
        if row.step < self.last_step {
            let path = self.appender.path().to_path_buf();
            return Err(Error::StepBack { path, step: row.step, last: self.last_step });
        }
        self.appender.append(&row.to_object()?)?;
        self.last_step = row.step;
        Ok(())
    }

    /// Forces the rows to the disk; call it before a checkpoint is committed.
    pub fn sync(&self) -> Result<()> {
        self.appender.sync()
    }
}

/// All rows of a metrics file in file order; an unfinished last line is skipped.
pub fn read(path: &Path) -> Result<Vec<MetricsRow>> {
    jsonl::read(path)?.into_iter().map(|line| MetricsRow::from_line(path, line)).collect()
}

/// The curve of one metric on one split: steps and values of the rows that have it.
pub fn series(rows: &[MetricsRow], split: &str, name: &str) -> Vec<(u64, f64)> {
    rows.iter().filter(|row| row.split == split).filter_map(|row| Some((row.step, row.get(name)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_have_the_documented_form_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::open(&path).unwrap();
        let mut train =
            MetricsRow::new(7, "train").with("loss", 0.1).with("num_tokens", 12.0).with_timing("seconds", 1.5);
        train.digest = Some("9f".into());
        let eval = MetricsRow::new(7, "eval").with("loss", 1e-300);
        writer.write(&train).unwrap();
        writer.write(&eval).unwrap();
        writer.sync().unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"step\":7,\"split\":\"train\",\"loss\":0.1,\"num_tokens\":12.0,\"digest\":\"9f\",\"timing\":{\"seconds\":1.5}}\n\
             {\"step\":7,\"split\":\"eval\",\"loss\":1e-300}\n"
        );
        let rows = read(&path).unwrap();
        assert_eq!(series(&rows, "train", "loss"), [(7, 0.1)]);
        assert_eq!(series(&rows, "train", "seconds"), []);
        assert_eq!(rows, [train, eval]);
    }

    #[test]
    fn bad_rows_are_refused_and_leave_no_trace() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let mut writer = MetricsWriter::open(&path).unwrap();
        writer.write(&MetricsRow::new(5, "train").with("loss", 1.0)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let table = [
            (MetricsRow::new(6, "train").with("kl", f64::NAN), "metric `kl` of split `train` at step 6 is NaN"),
            (MetricsRow::new(6, "train").with_timing("rate", f64::INFINITY), "metric `rate`"),
            (MetricsRow::new(6, "train").with("step", 1.0), "reserved"),
            (MetricsRow::new(6, "train").with("a", 1.0).with("a", 2.0), "twice"),
            (MetricsRow::new(6, "train").with("", 1.0), "needs a name"),
            (MetricsRow::new(4, "train"), "step 4 comes after step 5"),
        ];
        for (row, expected) in table {
            let error = writer.write(&row).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }
}
