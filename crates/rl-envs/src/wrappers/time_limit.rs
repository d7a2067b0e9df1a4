//! Stops an episode that takes too long by the clock.

use std::time::{Duration, Instant};

use super::stopped::{StopRule, Stopped};
use crate::environment::Environment;

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
pub type TimeLimit<E, C = SystemClock> = Stopped<E, Deadline<C>>;

/// The rule of [`TimeLimit`].
#[derive(Debug, Clone)]
pub struct Deadline<C> {
    limit: Duration,
    clock: C,
    started: Duration,
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
        Stopped::by(Deadline { limit, clock, started: Duration::ZERO }, inner)
    }
}

impl<C: Clock> StopRule for Deadline<C> {
    fn start(&mut self) {
        self.started = self.clock.now();
    }

    fn is_due(&mut self) -> bool {
        self.limit < self.clock.now().saturating_sub(self.started)
    }
}
