//! What a run's folder holds at the moment.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde_json::Value;
use toml::Table;

use crate::jsonl::{Follower, News};
use crate::manifest::Manifest;
use crate::run::{self, names};
use crate::{MetricsRow, samples};

/// So many samples are kept, the latest ones.
const MAX_SAMPLES: usize = 100;
/// The pace is that of so many steps, the latest ones.
const PACE_STEPS: usize = 20;

/// One run's record, read again and again.
#[derive(Debug)]
pub struct Record {
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) config: Option<Table>,
    pub(super) manifest: Option<Manifest>,
    pub(super) curves: Vec<Curve>,
    /// Steps and samples, the oldest first.
    pub(super) samples: VecDeque<(u64, Value)>,
    pub(super) activity: Activity,
    /// What is awaited, or wrong with the record; empty if all is well.
    pub(super) remark: String,
    /// Place in `curves` by split and name.
    places: BTreeMap<(String, String), usize>,
    metrics: Follower,
    sample_file: Follower,
    bad_lines: usize,
}

/// One measurement on one split.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    pub split: String,
    pub name: String,
    pub points: Vec<(u64, f64)>,
}

/// Whether a run is going, as far as its folder tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activity {
    /// Nothing is recorded yet.
    NotBegun,
    /// A process on this machine holds the run's lock.
    Running,
    /// Nobody does; the last line was written so long ago. The run may go on on another machine.
    Quiet(Duration),
}

impl Record {
    /// A record of `folder`, which need not exist yet. Nothing is read before [`refresh`](Self::refresh).
    pub fn new(folder: &Path) -> Self {
        Self {
            name: folder
                .file_name()
                .map_or_else(|| folder.display().to_string(), |name| name.to_string_lossy().into_owned()),
            folder: folder.to_path_buf(),
            config: None,
            manifest: None,
            curves: Vec::new(),
            samples: VecDeque::new(),
            activity: Activity::NotBegun,
            remark: String::new(),
            places: BTreeMap::new(),
            metrics: Follower::new(folder.join(names::METRICS)),
            sample_file: Follower::new(folder.join(names::SAMPLES)),
            bad_lines: 0,
        }
    }

    /// Reads what is new since the last time; `now` tells how long ago the last line was written.
    ///
    /// Never fails: what cannot be read is said on the screen.
    pub fn refresh(&mut self, now: SystemTime) {
        let mut remarks = Vec::new();
        self.config = run::read_config(&self.folder).ok();
        self.manifest = match Manifest::read(&self.folder.join(names::MANIFEST)) {
            Ok(manifest) => Some(manifest),
            Err(_) if !self.folder.exists() => {
                remarks.push(format!("waiting for the folder {}", self.folder.display()));
                None
            }
            Err(_) if !self.folder.join(names::MANIFEST).exists() => {
                remarks.push(format!("waiting for {} (the run has not begun)", names::MANIFEST));
                None
            }
            Err(error) => {
                remarks.push(error.to_string());
                None
            }
        };
        match self.metrics.poll() {
            Err(error) => remarks.push(error.to_string()),
            Ok(News::Missing) => {
                self.forget_metrics();
                remarks.push(format!("waiting for {} (no step yet)", names::METRICS));
            }
            Ok(News::Lines { is_replaced, lines }) => {
                if is_replaced {
                    self.forget_metrics();
                }
                let path = self.folder.join(names::METRICS);
                for line in lines {
                    match line.and_then(|line| MetricsRow::from_line(&path, line)) {
                        Ok(row) => self.take(row),
                        Err(error) => {
                            self.bad_lines += 1;
                            tracing::debug!("{error}");
                        }
                    }
                }
                if self.curves.is_empty() && self.bad_lines == 0 {
                    remarks.push(format!("waiting for the first line of {}", names::METRICS));
                }
            }
        }
        if self.bad_lines > 0 {
            remarks.push(format!("{} damaged lines of {} left out", self.bad_lines, names::METRICS));
        }
        match self.sample_file.poll() {
            Err(error) => remarks.push(error.to_string()),
            Ok(News::Missing) => self.samples.clear(),
            Ok(News::Lines { is_replaced, lines }) => {
                if is_replaced {
                    self.samples.clear();
                }
                let path = self.folder.join(names::SAMPLES);
                // A damaged sample is no loss to a screen that shows one at a time.
                let samples = lines.into_iter().filter_map(|line| samples::from_line(&path, line.ok()?).ok());
                self.samples.extend(samples);
                let excess = self.samples.len().saturating_sub(MAX_SAMPLES);
                self.samples.drain(..excess);
            }
        }
        self.activity = activity(&self.folder, now);
        self.remark = remarks.join("; ");
    }

    /// Number of panels of curves, for scrolling.
    pub fn num_metrics(&self) -> usize {
        self.curves.len()
    }

    /// Number of samples to look at.
    pub fn num_samples(&self) -> usize {
        self.samples.len()
    }

    /// Steps done.
    pub(super) fn last_step(&self) -> Option<u64> {
        self.curves.iter().filter_map(|curve| curve.points.last()).map(|(step, _)| *step).max()
    }

    /// Steps to do, if the configuration says.
    pub(super) fn max_steps(&self) -> Option<u64> {
        run::config_number(self.config.as_ref()?, "max_steps")
    }

    /// Mean seconds of a step of late.
    pub(super) fn seconds_per_step(&self) -> Option<f64> {
        let points = &self.curve("train", "seconds")?.points;
        let recent = &points[points.len().saturating_sub(PACE_STEPS)..];
        (!recent.is_empty()).then(|| recent.iter().map(|(_, seconds)| seconds).sum::<f64>() / recent.len() as f64)
    }

    pub(super) fn curve(&self, split: &str, name: &str) -> Option<&Curve> {
        self.curves.get(*self.places.get(&(split.to_owned(), name.to_owned()))?)
    }

    fn forget_metrics(&mut self) {
        self.curves.clear();
        self.places.clear();
        self.bad_lines = 0;
    }

    fn take(&mut self, row: MetricsRow) {
        for (name, value) in row.values.into_iter().chain(row.timing) {
            let place = *self.places.entry((row.split.clone(), name)).or_insert_with_key(|(split, name)| {
                self.curves.push(Curve { split: split.clone(), name: name.clone(), points: Vec::new() });
                self.curves.len() - 1
            });
            self.curves[place].points.push((row.step, value));
        }
    }
}

fn activity(folder: &Path, now: SystemTime) -> Activity {
    if is_locked(folder) {
        return Activity::Running;
    }
    let modified = fs::metadata(folder.join(names::METRICS)).and_then(|metadata| metadata.modified());
    modified.map_or(Activity::NotBegun, |time| Activity::Quiet(now.duration_since(time).unwrap_or(Duration::ZERO)))
}

/// True if the kernel lists a lock on the run's lock file. Taking the lock to find out could keep a run from starting.
fn is_locked(folder: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let Ok(inode) = fs::metadata(folder.join(names::LOCK)).map(|metadata| metadata.ino()) else { return false };
        // `1: FLOCK  ADVISORY  WRITE 31919 fe:01:123456 0 EOF`: kind, mode, process, device and inode
        let is_ours = |line: &str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let own = |field: &&str| field.rsplit_once(':').is_some_and(|(_, number)| number == inode.to_string());
            fields.get(1) == Some(&"FLOCK") && fields.get(5).is_some_and(own)
        };
        fs::read_to_string("/proc/locks").is_ok_and(|locks| locks.lines().any(is_ours))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        false
    }
}
