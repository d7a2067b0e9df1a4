//! `samples.jsonl`: a few prompts and answers now and then, for a person to read.
//!
//! A line reads `{"step":100,"sample":{...}}`. Which samples are kept depends on the step and their order alone, so a
//! resumed run keeps the same ones.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::config::ensure;
use crate::error::{Error, Result};
use crate::jsonl::{self, Appender};

pub use crate::jsonl::truncate_after;

/// Keeps at most `per_step` samples at every `every`-th step.
#[derive(Debug)]
pub struct SampleWriter {
    appender: Appender,
    every: u64,
    per_step: usize,
    /// Step of the last kept sample, and how many of that step are kept.
    kept: (u64, usize),
}

impl SampleWriter {
    /// Opens or creates the file. `every` (steps) and `per_step` must be positive.
    pub fn open(path: &Path, every: u64, per_step: usize) -> Result<Self> {
        ensure(every > 0, "every", every, "must be positive")?;
        ensure(per_step > 0, "per_step", per_step, "must be positive")?;
        let (appender, lines) = Appender::open(path)?;
        let step = lines.last().map_or(0, |line| line.step);
        let count = lines.iter().rev().take_while(|line| line.step == step).count();
        Ok(Self { appender, every, per_step, kept: (step, count) })
    }

    /// True if a sample of this step would be kept; ask before building one.
    pub fn wants(&self, step: u64) -> bool {
        step.is_multiple_of(self.every) && (step != self.kept.0 || self.kept.1 < self.per_step)
    }

    /// Appends a sample if the step [wants](Self::wants) it, and says whether it did.
    pub fn write(&mut self, step: u64, sample: &impl Serialize) -> Result<bool> {
        if !self.wants(step) {
            return Ok(false);
        }
        let sample = serde_json::to_value(sample).map_err(|error| Error::Serialize {
            what: "a sample",
            format: "JSON",
            message: error.to_string(),
        })?;
        self.appender
            .append(&Map::from_iter([("step".to_owned(), Value::from(step)), ("sample".to_owned(), sample)]))?;
        let count = if step == self.kept.0 { self.kept.1 } else { 0 };
        self.kept = (step, count + 1);
        Ok(true)
    }
}

/// All samples of a file with their steps, in file order; an unfinished last line is skipped.
pub fn read(path: &Path) -> Result<Vec<(u64, Value)>> {
    jsonl::read(path)?.into_iter().map(|line| from_line(path, line)).collect()
}

pub(crate) fn from_line(path: &Path, mut line: jsonl::Line) -> Result<(u64, Value)> {
    let sample = line.object.shift_remove("sample").ok_or_else(|| Error::BadLine {
        path: path.to_path_buf(),
        line: line.number,
        message: "`sample` is missing".into(),
    })?;
    Ok((line.step, sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_tenth_step_keeps_two_also_across_a_reopening() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("samples.jsonl");
        let mut writer = SampleWriter::open(&path, 10, 2).unwrap();
        for step in [0, 0, 0, 5, 10] {
            writer.write(step, &format!("answer {step}")).unwrap();
        }
        drop(writer);
        let mut writer = SampleWriter::open(&path, 10, 2).unwrap();
        assert!(writer.write(10, &"answer 10").unwrap());
        assert!(!writer.write(10, &"answer 10").unwrap());
        assert!(writer.wants(20));
        let steps: Vec<u64> = read(&path).unwrap().into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [0, 0, 10, 10]);
        assert!(SampleWriter::open(&path, 0, 1).unwrap_err().to_string().contains("`every` = 0"));
    }
}
