//! Stops an episode after a number of responses.

use super::stopped::{StopRule, Stopped};
use crate::environment::Environment;
use crate::error::{Result, ensure};

/// Truncates an episode with its `max_attempts`-th response, unless that ends it anyway.
pub type AttemptLimit<E> = Stopped<E, Attempts>;

/// The rule of [`AttemptLimit`].
#[derive(Debug, Clone)]
pub struct Attempts {
    max_attempts: u32,
    attempts: u32,
}

impl<E: Environment> AttemptLimit<E> {
    /// A limit around `inner`.
    ///
    /// # Errors
    /// [`crate::Error::Config`] when `max_attempts` is 0.
    pub fn new(inner: E, max_attempts: u32) -> Result<Self> {
        ensure(max_attempts >= 1, "max_attempts", max_attempts, "must be at least 1")?;
        Ok(Stopped::by(Attempts { max_attempts, attempts: 0 }, inner))
    }
}

impl StopRule for Attempts {
    fn start(&mut self) {
        self.attempts = 0;
    }

    fn is_due(&mut self) -> bool {
        self.attempts += 1;
        self.max_attempts <= self.attempts
    }
}
