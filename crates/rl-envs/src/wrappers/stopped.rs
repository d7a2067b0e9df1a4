//! Stops an episode by a rule.

use super::pass_on;
use crate::environment::{Environment, Observation, Step};
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::price::Prices;

/// Says when an episode has lasted long enough.
pub trait StopRule: Send {
    /// An episode starts.
    fn start(&mut self);

    /// A response was judged; whether the episode stops with it.
    fn is_due(&mut self) -> bool;
}

/// Truncates an episode with the first response at which its rule is due, unless that ends it anyway.
///
/// The step that truncates pays the inner environment's price of truncation too.
#[derive(Debug, Clone)]
pub struct Stopped<E, R> {
    inner: E,
    rule: R,
    stopped: bool,
}

impl<E: Environment, R: StopRule> Stopped<E, R> {
    /// `inner` under `rule`.
    pub fn by(rule: R, inner: E) -> Self {
        Stopped { inner, rule, stopped: false }
    }
}

impl<E: Environment, R: StopRule> Environment for Stopped<E, R> {
    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let observation = self.inner.reset(seed, index)?;
        self.rule.start();
        self.stopped = false;
        Ok(observation)
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        if self.stopped {
            return Err(Error::EpisodeEnded { environment: self.inner.name() });
        }
        let mut step = self.inner.step(response)?;
        if self.rule.is_due() && !step.ended() {
            self.stopped = true;
            step.truncated = true;
            step.feedback = None;
            step.reward += self.inner.prices().map_or(0.0, |prices| prices.truncation);
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
        process_correct(response: &str) -> Option<bool>,
        prices -> Option<Prices>, picture -> Option<Picture>,
    }
}
