//! One environment under observation: every call is guarded, timed and counted.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use serde_json::Value;

use super::{CheckOptions, CheckReport, Law, Violation};
use crate::environment::{Environment, Observation, Step};
use crate::error::{Error, Result};

pub(super) type Checked<T> = std::result::Result<T, Violation>;

/// An environment and the episode it is in.
pub(super) struct Probe<'a, E> {
    environment: E,
    name: &'static str,
    pub seed: u64,
    pub index: u64,
    options: &'a CheckOptions,
}

impl<'a, E: Environment> Probe<'a, E> {
    pub fn new(build: &mut impl FnMut() -> Result<E>, options: &'a CheckOptions) -> Checked<Self> {
        let violation = |law, detail| Violation { environment: "build", law, seed: options.seed, index: 0, detail };
        let built = catch_unwind(AssertUnwindSafe(&mut *build));
        let built = built.map_err(|panic| violation(Law::NoPanic, format!("making it panicked: {}", said(&*panic))))?;
        let environment = built.map_err(|error| violation(Law::JudgesAnyText, format!("cannot be made: {error}")))?;
        Ok(Probe { name: environment.name(), environment, seed: options.seed, index: 0, options })
    }

    pub fn violation(&self, law: Law, detail: impl Into<String>) -> Violation {
        Violation { environment: self.name, law, seed: self.seed, index: self.index, detail: detail.into() }
    }

    /// Counts a test of `law` and fails unless `holds`.
    pub fn ensure(
        &self,
        report: &mut CheckReport,
        law: Law,
        holds: bool,
        detail: impl FnOnce() -> String,
    ) -> Checked<()> {
        *report.tested.entry(law).or_insert(0) += 1;
        if holds { Ok(()) } else { Err(self.violation(law, detail())) }
    }

    pub fn reset(&mut self, report: &mut CheckReport, seed: u64, index: u64) -> Checked<Observation> {
        (self.seed, self.index) = (seed, index);
        let result = self.guard(report, "reset", |environment| environment.reset(seed, index))?;
        let detail = |error: &Error| format!("reset failed: {error}");
        self.ensure(report, Law::JudgesAnyText, result.is_ok(), || {
            result.as_ref().err().map_or(String::new(), detail)
        })?;
        result.map_err(|error| self.violation(Law::JudgesAnyText, detail(&error)))
    }

    /// A step that must be judged.
    pub fn step(&mut self, report: &mut CheckReport, response: &str) -> Checked<Step> {
        let result = self.try_step(report, response)?;
        *report.tested.entry(Law::JudgesAnyText).or_insert(0) += 1;
        result.map_err(|error| {
            self.violation(Law::JudgesAnyText, format!("a step failed: {error}; the text was {}", shown(response)))
        })
    }

    /// A step that may be refused.
    pub fn try_step(&mut self, report: &mut CheckReport, response: &str) -> Checked<Result<Step>> {
        let started = Instant::now();
        let result =
            self.guard(report, &format!("step({})", shown(response)), |environment| environment.step(response))?;
        let elapsed = started.elapsed();
        if report.slowest_step < elapsed {
            (report.slowest_step, report.slowest_length) = (elapsed, response.len());
        }
        let limit = self.options.max_step_time;
        self.ensure(report, Law::TimeIsBounded, elapsed <= limit, || {
            let (length, text) = (response.len(), shown(response));
            format!("a text of {length} bytes took {elapsed:.2?}, the limit is {limit:.2?}: {text}")
        })?;
        Ok(result)
    }

    pub fn info(&mut self, report: &mut CheckReport) -> Checked<Value> {
        self.guard(report, "info", |environment| environment.info())
    }

    /// Anything else that is asked of the environment.
    pub fn ask<T>(&mut self, report: &mut CheckReport, what: &str, ask: impl FnOnce(&mut E) -> T) -> Checked<T> {
        self.guard(report, what, ask)
    }

    fn guard<T>(&mut self, report: &mut CheckReport, what: &str, call: impl FnOnce(&mut E) -> T) -> Checked<T> {
        *report.tested.entry(Law::NoPanic).or_insert(0) += 1;
        catch_unwind(AssertUnwindSafe(|| call(&mut self.environment)))
            .map_err(|panic| self.violation(Law::NoPanic, format!("{what} panicked: {}", said(&*panic))))
    }
}

/// The message of a panic.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// The start of a text, escaped.
pub(super) fn shown(text: &str) -> String {
    const SHOWN: usize = 80;
    let start: String = text.chars().take(SHOWN).collect();
    let more = if start.len() < text.len() { "..." } else { "" };
    format!("{start:?}{more}")
}
