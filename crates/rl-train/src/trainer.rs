//! The loop around every training method: record, evaluation, checkpoints, best and early end, signals, replay.

use std::path::Path;
use std::time::Instant;

use rl_torch::memory::accelerator_memory;
use rl_torch::{keep_freed_memory, parse_device, peak_resident_bytes};
use rl_track::run::names;
use rl_track::{Manifest, MetricsRow, Progress, Run, SampleWriter};
use serde_json::Value;
use tch::Device;

use crate::checkpoint::{self, Best, Saved, TrainingState};
use crate::config::RunConfig;
use crate::digest::Digest;
use crate::interrupt::Interrupt;
use crate::plan::{Planned, check_memory};
use crate::recorder::{BegunRun, Recorder};
use crate::{Error, Finish, Result};

/// One training method: what a step computes and what a checkpoint of it holds.
///
/// `supervised fine-tuning`, `preference optimisation`, ... implement it; [`Trainer`] runs it.
pub trait Method: Sized {
    /// What its TOML file holds.
    type Config: Planned + Clone;

    /// Shown beside the progress bar.
    const NAME: &'static str;

    /// Hashes of the files that the run reads; before anything is built.
    ///
    /// # Errors
    /// A file that cannot be read.
    fn manifest(config: &Self::Config) -> Result<Manifest>;

    /// Reads data and model; goes on from `resume`.
    ///
    /// # Errors
    /// Data, model and file errors, each naming the key, row or file.
    fn build(config: &Self::Config, device: Device, resume: Option<&Saved>) -> Result<Self>;

    /// Starts what lies outside this process, such as programs that score, before the first step of a run. [`replay`]
    /// never calls it.
    ///
    /// # Errors
    /// What cannot be started.
    fn connect(&mut self) -> Result<()> {
        Ok(())
    }

    /// In [`replay`], before each step: takes from the folder `run` what came from outside when the step after `step`
    /// steps was recorded, in place of asking again.
    ///
    /// # Errors
    /// When the record lacks it.
    fn recall(&mut self, run: &Path, step: u64) -> Result<()> {
        let _ = (run, step);
        Ok(())
    }

    /// Steps of the whole run.
    fn max_steps(&self) -> u64;

    /// The step that comes after `step` steps.
    ///
    /// # Errors
    /// The first error; the run stands where its last checkpoint stands.
    fn step(&mut self, step: u64) -> Result<StepReport>;

    /// Measures the model after `step` steps, without changing anything.
    ///
    /// # Errors
    /// As [`Method::step`].
    fn evaluate(&mut self, step: u64) -> Result<Vec<MetricsRow>>;

    /// Writes everything but [`Method::state`] into the folder of a checkpoint.
    ///
    /// # Errors
    /// File errors with their path.
    fn save(&self, folder: &Path) -> Result<()>;

    /// What a checkpoint has to remember beside files.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    fn state(&self) -> Result<Value>;
}

/// What a step leaves for the record.
#[derive(Debug)]
pub struct StepReport {
    /// Measurements of the split `train`.
    pub row: MetricsRow,
    /// What the bar shows.
    pub message: String,
    /// Transcripts to keep.
    pub samples: Vec<Value>,
    /// Files of the run's folder by relative path, such as `advantages/step-000001.json`.
    pub files: Vec<(String, Vec<u8>)>,
    pub(crate) digest: Digest,
}

impl StepReport {
    pub(crate) fn new(row: MetricsRow, message: String, digest: Digest) -> Self {
        StepReport { row, message, samples: Vec::new(), files: Vec::new(), digest }
    }
}

/// A run of one method, ready to go on from its last checkpoint or from the start.
pub struct Trainer<M: Method> {
    config: M::Config,
    run: Run,
    method: M,
    step: u64,
    best: Option<Best>,
    evaluations_since_best: u64,
}

/// Outcome of [`replay`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// Step of the checkpoint that the replay began from; 0 is the start of the run.
    pub from: u64,
    /// Steps whose digest was compared and is the recorded one.
    pub agreed: Vec<u64>,
}

impl<M: Method> Trainer<M> {
    /// Reads data and model and opens the run's folder; an interrupted run continues from its last checkpoint. From here on the
    /// process keeps the memory of freed tensors ([`keep_freed_memory`]).
    ///
    /// # Errors
    /// Config, data, model and file errors, each naming the key, row or file.
    pub fn new(config: M::Config) -> Result<Self> {
        Self::with_method(config, M::build)
    }

    /// As [`Trainer::new`], with `build` in place of [`Method::build`]: for a method that needs more than its file can say,
    /// such as rewards written in Rust.
    ///
    /// # Errors
    /// As [`Trainer::new`].
    pub fn with_method(
        config: M::Config,
        build: impl FnOnce(&M::Config, Device, Option<&Saved>) -> Result<M>,
    ) -> Result<Self> {
        config.validate()?;
        keep_freed_memory();
        let device = parse_device(config.device())?;
        check_memory(&config)?;
        let manifest = M::manifest(&config)?
            .version(env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"))
            .version("libtorch", rl_torch::LIBTORCH_VERSION);
        let run = Run::open(config.run(), &config, manifest)?;
        let begun = BegunRun::new(&run);
        let resume = checkpoint::latest(run.folder(), None)?;
        let mut method = build(&config, device, resume.as_ref())?;
        method.connect()?;
        begun.keep();
        let mut trainer = Trainer { config, run, method, step: 0, best: None, evaluations_since_best: 0 };
        if let Some(saved) = &resume {
            let state = saved.state();
            tracing::info!("resuming after step {} from {}", state.step, saved.folder().display());
            trainer.step = state.step;
            trainer.best = state.best;
            trainer.evaluations_since_best = state.evaluations_since_best;
            if let Some(best) = state.best.filter(|best| best.step != state.step) {
                checkpoint::check_best(&trainer.run, best.step);
            }
        }
        Ok(trainer)
    }

    /// The method with its model, as after the steps done so far.
    pub fn method(&self) -> &M {
        &self.method
    }

    /// Steps done.
    pub fn steps_done(&self) -> u64 {
        self.step
    }

    /// Trains to the end, or to the checkpoint that an interrupt asks for.
    ///
    /// # Errors
    /// The first error, with its step; the last checkpoint stays valid.
    pub fn run(&mut self, interrupt: &Interrupt, progress: &Progress) -> Result<Finish> {
        let max_steps = self.method.max_steps();
        let mut recorder = Recorder::open(&self.run, progress, M::NAME, self.step, max_steps)?;
        let mut samples = self.run.samples(1, usize::MAX)?;
        if self.step == 0 {
            self.evaluate(&mut recorder)?;
        }
        while self.step < max_steps && !self.is_out_of_patience() {
            let message = self.take_step(&mut recorder, &mut samples)?;
            recorder.advance(message);
            let stop = interrupt.raised(); // asked once: a signal that comes later has the next step's checkpoint
            // Measured at due steps only: an interrupt must leave no line that an uninterrupted run has not.
            let is_best = self.evaluate(&mut recorder)?;
            if self.is_due(self.step) || is_best || self.is_out_of_patience() || stop {
                recorder.sync()?;
                self.save()?;
            }
            if stop && self.step < max_steps && !self.is_out_of_patience() {
                return Ok(Finish::Interrupted { step: self.step });
            }
        }
        self.tidy()?;
        match self.best {
            Some(best) if self.step < max_steps => Ok(Finish::EndedEarly { step: self.step, best: best.step }),
            _ => Ok(Finish::Complete { step: self.step }),
        }
    }

    /// One step and its record; gives what the bar shows.
    fn take_step(&mut self, recorder: &mut Recorder, samples: &mut SampleWriter) -> Result<String> {
        let (row, report) = timed_step(&mut self.method, self.step)?;
        self.step += 1;
        for sample in &report.samples {
            samples.write(self.step, sample)?;
        }
        for (name, bytes) in &report.files {
            let path = self.run.folder().join(name);
            let folder = path.parent().unwrap_or(self.run.folder());
            std::fs::create_dir_all(folder).map_err(Error::file("create", folder))?;
            rl_track::atomic::write_atomically(&path, bytes)?;
        }
        recorder.write(&with_peak(row, parse_device(self.config.device())?)?)?;
        Ok(report.message)
    }

    /// Measures the model if that is due; says whether it is the best so far.
    fn evaluate(&mut self, recorder: &mut Recorder) -> Result<bool> {
        let training = self.config.training();
        if !training.evaluates_at(self.step, self.method.max_steps()) {
            return Ok(false);
        }
        let rows = self.method.evaluate(self.step).map_err(|error| error.at_step(self.step))?;
        for row in &rows {
            recorder.write(row)?;
        }
        let Some(best) = training.best() else { return Ok(false) };
        let value = rows.iter().find_map(|row| {
            let name = best.metric.strip_prefix(row.split.as_str())?.strip_prefix('/')?;
            row.get(name)
        });
        let Some(value) = value else { return Err(Error::NoSuchMetric { metric: best.metric.clone() }) };
        if self.step == 0 {
            return Ok(false); // the start has no checkpoint that could be the best
        }
        let is_best = self.best.is_none_or(|so_far| best.goal.is_better(value, so_far.value));
        self.evaluations_since_best = if is_best { 0 } else { self.evaluations_since_best + 1 };
        if is_best {
            self.best = Some(Best { step: self.step, value });
        }
        Ok(is_best)
    }

    fn is_out_of_patience(&self) -> bool {
        let patience = self.config.training().best().and_then(|best| best.patience);
        patience.is_some_and(|patience| patience <= self.evaluations_since_best)
    }

    /// Whether the state after `step` is kept for good, whatever the evaluations say.
    fn is_due(&self, step: u64) -> bool {
        self.config.training().checkpoints.is_due(step, self.method.max_steps())
    }

    fn save(&self) -> Result<()> {
        let state = TrainingState {
            step: self.step,
            best: self.best,
            evaluations_since_best: self.evaluations_since_best,
            method: self.method.state()?,
        };
        checkpoint::save(&self.run, &state, |folder| self.method.save(folder))?;
        self.tidy()
    }

    fn tidy(&self) -> Result<()> {
        let keep_last = self.config.training().checkpoints.keep_last;
        let best = self.best.map(|best| best.step);
        let ended = self.is_out_of_patience().then_some(self.step);
        checkpoint::tidy(&self.run, self.step, best, keep_last, |step| self.is_due(step) || ended == Some(step))
    }
}

/// Computes `step` of a recorded run again, with every step between it and the checkpoint before it, and compares their
/// digests with the record. Writes nothing and takes no lock, so that a run can be replayed while it goes on.
///
/// What came from outside, such as scores of a program, is read from the record and not asked for again.
///
/// # Errors
/// [`Error::Diverged`] at the first step whose digest is another; [`Error::NotRecorded`] when the record lacks the step;
/// otherwise as [`Trainer::new`] and [`Method::step`].
pub fn replay<M: Method>(config: &M::Config, step: u64) -> Result<Replayed> {
    config.validate()?;
    let device = parse_device(config.device())?;
    let rows = rl_track::metrics::read(&config.run().join(names::METRICS))?;
    let recorded = |step: u64| -> Option<&str> {
        rows.iter().find(|row| row.step == step && row.split == "train").and_then(|row| row.digest.as_deref())
    };
    recorded(step).ok_or(Error::NotRecorded { step })?;
    let start = match checkpoint::latest(config.run(), Some(step)) {
        Err(Error::NothingToResume { .. }) => None, // from the start of the run, then
        other => other?,
    };
    let from = start.as_ref().map_or(0, |saved| saved.state().step);
    let mut method = M::build(config, device, start.as_ref())?;
    let mut agreed = Vec::new();
    tracing::info!("replaying from step {from}");
    for done in from..step {
        method.recall(config.run(), done).map_err(|error| error.at_step(done + 1))?;
        let (row, _) = timed_step(&mut method, done)?;
        let expected = recorded(done + 1).ok_or(Error::NotRecorded { step: done + 1 })?;
        let found = row.digest.unwrap_or_default();
        if found != expected {
            return Err(Error::Diverged { step: done + 1, recorded: expected.into(), found });
        }
        agreed.push(done + 1);
    }
    Ok(Replayed { from, agreed })
}

/// Adds the most memory held so far: of tensors on an accelerator, else of the process.
fn with_peak(row: MetricsRow, device: Device) -> Result<MetricsRow> {
    let bytes = match accelerator_memory(device)? {
        Some(memory) => Some(memory.peak_allocated_bytes as f64),
        None => peak_resident_bytes().map(|bytes| bytes as f64),
    };
    Ok(match bytes {
        Some(bytes) => row.with_timing("peak_bytes", bytes),
        None => row,
    })
}

/// A step with its digest sealed and its time taken.
fn timed_step<M: Method>(method: &mut M, step: u64) -> Result<(MetricsRow, StepReport)> {
    let started = Instant::now();
    let mut report = method.step(step).map_err(|error| error.at_step(step + 1))?;
    let mut row = std::mem::replace(&mut report.row, MetricsRow::new(step + 1, "train"));
    std::mem::take(&mut report.digest).seal(&mut row);
    let seconds = started.elapsed().as_secs_f64();
    row = row.with_timing("seconds", seconds);
    if let Some(tokens) = row.get("num_tokens") {
        row = row.with_timing("tokens_per_second", tokens / seconds);
    }
    Ok((row, report))
}
