//! What a trainer leaves behind: nothing if it could not be built, then at each step metrics in two formats and a bar.

use std::path::PathBuf;

use rl_track::progress::Bar;
use rl_track::run::names;
use rl_track::tensorboard::EventWriter;
use rl_track::{MetricsRow, MetricsWriter, Progress, Run};

use crate::Result;

/// Takes the record of a new run back unless [`BegunRun::keep`] is called: a run whose model or data could not be read has
/// not begun, and the mended configuration must not be refused because of it.
pub(crate) struct BegunRun {
    folder: Option<PathBuf>,
}

impl BegunRun {
    /// Watches `run`; a resumed one is left alone.
    pub fn new(run: &Run) -> Self {
        BegunRun { folder: (!run.is_resumed()).then(|| run.folder().to_path_buf()) }
    }

    /// The trainer is built: the run stays.
    pub fn keep(mut self) {
        self.folder = None;
    }
}

impl Drop for BegunRun {
    fn drop(&mut self) {
        // The manifest makes the run, so it goes first. The error that brought us here is the one to report.
        for name in self.folder.iter().flat_map(|folder| [names::MANIFEST, names::CONFIG].map(|name| folder.join(name)))
        {
            let _ = std::fs::remove_file(name);
        }
    }
}

/// Writes each row to `metrics.jsonl` and to the TensorBoard events, and moves the bar.
pub(crate) struct Recorder {
    metrics: MetricsWriter,
    events: EventWriter,
    bar: Bar,
}

impl Recorder {
    /// Opens the record at `resumed_at` (0 for a new run), dropping what a killed run wrote after it.
    pub fn open(run: &Run, progress: &Progress, label: &str, resumed_at: u64, max_steps: u64) -> Result<Self> {
        if run.is_resumed() {
            if resumed_at == 0 { run.restart()? } else { run.rewind(resumed_at)? }
        }
        let events = run.events(run.is_resumed().then_some(resumed_at))?;
        Ok(Recorder { metrics: run.metrics()?, events, bar: progress.bar_from(label, max_steps, resumed_at) })
    }

    /// Records the measurements of a step.
    pub fn write(&mut self, row: &MetricsRow) -> Result<()> {
        self.metrics.write(row)?;
        let tags: Vec<(String, f64)> = row
            .values
            .iter()
            .chain(&row.timing)
            .map(|(name, value)| (format!("{}/{name}", row.split), *value))
            .collect();
        let tags: Vec<(&str, f64)> = tags.iter().map(|(tag, value)| (tag.as_str(), *value)).collect();
        Ok(self.events.scalars(row.step, &tags)?)
    }

    /// Moves the bar by one step.
    pub fn advance(&mut self, message: String) {
        self.bar.set_message(message);
        self.bar.inc(1);
    }

    /// Forces the metrics to the disk, before a checkpoint says that the run got this far.
    pub fn sync(&mut self) -> Result<()> {
        Ok(self.metrics.sync()?)
    }
}
