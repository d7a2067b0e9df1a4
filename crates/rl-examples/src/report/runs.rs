//! Training runs in a report: their curves, what these are at either end, where they come from and how long they took.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use rl_track::html::Report;
use rl_track::run::names;
use rl_track::{MetricsRow, metrics};
use serde::Serialize;

use super::RunProvenance;

/// Split of the rows that trainers write about their own steps.
pub(super) const TRAIN: &str = "train";
/// Steps at either end of a run over which its curves are averaged for the table.
const END_STEPS: usize = 5;

/// Curves of one run: `(step, value)` by `SPLIT/NAME`.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct RunNumbers {
    /// The curves.
    pub curves: BTreeMap<String, Vec<(u64, f64)>>,
}

impl RunNumbers {
    /// The curves of `names` in every split.
    pub(super) fn new(rows: &[MetricsRow], names: &[&str]) -> Self {
        let mut curves = BTreeMap::new();
        for split in rows.iter().map(|row| row.split.as_str()) {
            for name in names {
                let key = format!("{split}/{name}");
                curves.entry(key).or_insert_with(|| metrics::series(rows, split, name));
            }
        }
        curves.retain(|_, curve| !curve.is_empty());
        RunNumbers { curves }
    }

    /// The curve of the trainer's own steps.
    pub fn train(&self, name: &str) -> Option<&[(u64, f64)]> {
        self.curves.get(&format!("{TRAIN}/{name}")).map(Vec::as_slice)
    }
}

/// A column of [`table`].
pub(super) struct Column {
    header: &'static str,
    metric: &'static str,
    digits: usize,
}

impl Column {
    /// The mean of `metric` with so many decimals.
    pub(super) fn new(header: &'static str, metric: &'static str, digits: usize) -> Self {
        Column { header, metric, digits }
    }
}

/// What the curves of runs are over their first and their last steps.
pub(super) fn table<'a>(
    report: &mut Report,
    runs: impl Iterator<Item = (&'a str, &'a RunNumbers)>,
    columns: &[Column],
) {
    let mut rows = Vec::new();
    for (label, run) in runs {
        for (when, is_end) in [("first steps", false), ("last steps", true)] {
            let cell = |Column { metric, digits, .. }: &Column| {
                let Some(curve) = run.train(metric) else { return "–".to_owned() };
                let count = END_STEPS.min(curve.len());
                let part = if is_end { &curve[curve.len() - count..] } else { &curve[..count] };
                let mean = part.iter().map(|(_, value)| value).sum::<f64>() / count as f64;
                format!("{mean:.digits$}")
            };
            let mut row = vec![label.to_owned(), when.to_owned()];
            row.extend(columns.iter().map(cell));
            rows.push(row);
        }
    }
    let mut headers = vec!["run", "mean over"];
    headers.extend(columns.iter().map(|column| column.header));
    report.table(&headers, &rows);
    report.note(&format!("Means over the first and the last {END_STEPS} steps."));
}

/// Seeds, hashes of inputs and seconds by run.
pub(super) fn provenance(
    report: &mut Report,
    provenance: &BTreeMap<String, RunProvenance>,
    timing: &BTreeMap<String, f64>,
) {
    report.heading("Provenance");
    let mut rows = Vec::new();
    for (run, provenance) in provenance {
        rows.extend(provenance.seeds.iter().map(|(name, seed)| vec![run.clone(), name.clone(), seed.to_string()]));
        rows.extend(provenance.inputs.iter().map(|(name, hash)| vec![run.clone(), name.clone(), hash.clone()]));
    }
    let seconds =
        |(run, seconds): (&String, &f64)| vec![run.clone(), "seconds in steps".into(), format!("{seconds:.0}")];
    rows.extend(timing.iter().map(seconds));
    report.table(&["run", "what", "value"], &rows);
}

/// The record of a run, step by step.
pub(super) fn rows(run: &Path) -> Result<Vec<MetricsRow>> {
    Ok(metrics::read(&run.join(names::METRICS))?)
}
