//! Stops an episode after a number of responses.

use super::{pass_on, truncate};
use crate::environment::{Environment, Observation, Step};
use crate::error::{Error, Result, ensure};
use crate::picture::Picture;
use crate::price::Prices;

/// Truncates an episode with its `max_attempts`-th response, unless that ends it anyway.
///
/// The step that truncates pays the inner environment's price of truncation too.
#[derive(Debug, Clone)]
pub struct AttemptLimit<E> {
    inner: E,
    max_attempts: u32,
    attempts: u32,
    stopped: bool,
}

impl<E: Environment> AttemptLimit<E> {
    /// A limit around `inner`.
    ///
    /// # Errors
    /// [`Error::Config`] when `max_attempts` is 0.
    pub fn new(inner: E, max_attempts: u32) -> Result<Self> {
        ensure(max_attempts >= 1, "max_attempts", max_attempts, "must be at least 1")?;
        Ok(AttemptLimit { inner, max_attempts, attempts: 0, stopped: false })
    }
}

impl<E: Environment> Environment for AttemptLimit<E> {
    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let observation = self.inner.reset(seed, index)?;
        (self.attempts, self.stopped) = (0, false);
        Ok(observation)
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        if self.stopped {
            return Err(Error::EpisodeEnded { environment: self.inner.name() });
        }
        let mut step = self.inner.step(response)?;
        self.attempts += 1;
        if self.attempts == self.max_attempts && !step.ended() {
            self.stopped = true;
            truncate(&self.inner, &mut step);
        }
        Ok(step)
    }

    fn expert(&self) -> Option<String> {
        self.inner.expert().filter(|_| !self.stopped)
    }

    fn starts_over(&self) -> bool {
        !self.stopped && self.inner.starts_over()
    }

    pass_on! {
        name -> &'static str, info -> serde_json::Value, task_kind -> Option<&'static str>,
        prices -> Option<Prices>, picture -> Option<Picture>,
    }
}
