//! Stops an episode that takes too long by the clock.

use std::time::{Duration, Instant};

use super::{pass_on, truncate};
use crate::environment::{Environment, Observation, Step};
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::price::Prices;

/// Says how much time has passed.
pub trait Clock: Send {
    /// Time since some moment that stays the same.
    fn now(&self) -> Duration;
}

/// The machine's monotonic clock.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock(Instant);

impl Default for SystemClock {
    fn default() -> Self {
        SystemClock(Instant::now())
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// Truncates an episode with the first response that is judged later than `limit` after the reset.
///
/// It cannot interrupt a step. An episode under a real clock is no longer a function of seed, index and responses: use it
/// where people or services answer, and not where results must be repeated.
#[derive(Debug, Clone)]
pub struct TimeLimit<E, C = SystemClock> {
    inner: E,
    limit: Duration,
    clock: C,
    started: Duration,
    stopped: bool,
}

impl<E: Environment> TimeLimit<E> {
    /// A limit around `inner` by the machine's clock.
    pub fn new(inner: E, limit: Duration) -> Self {
        Self::with_clock(inner, limit, SystemClock::default())
    }
}

impl<E: Environment, C: Clock> TimeLimit<E, C> {
    /// A limit around `inner` by another clock.
    pub fn with_clock(inner: E, limit: Duration, clock: C) -> Self {
        TimeLimit { inner, limit, clock, started: Duration::ZERO, stopped: false }
    }
}

impl<E: Environment, C: Clock> Environment for TimeLimit<E, C> {
    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let observation = self.inner.reset(seed, index)?;
        (self.started, self.stopped) = (self.clock.now(), false);
        Ok(observation)
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        if self.stopped {
            return Err(Error::EpisodeEnded { environment: self.inner.name() });
        }
        let mut step = self.inner.step(response)?;
        if self.limit < self.clock.now().saturating_sub(self.started) && !step.ended() {
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
