//! Environments around environments: they change when an episode stops, what it pays or what is remembered of it.
//!
//! A wrapper is an [`crate::Environment`] itself, so wrappers can be put around each other. All pass on what they do not
//! change. An inner environment that stops an episode has the last word.

mod attempt_limit;
mod reward_table;
mod time_limit;
mod transcript;

pub use attempt_limit::AttemptLimit;
pub use reward_table::RewardTable;
pub use time_limit::{Clock, SystemClock, TimeLimit};
pub use transcript::{EpisodeState, Recorder, Transcript};

use crate::environment::{Environment, Step};

/// Turns a step that goes on into one that truncates, at the price the environment itself sets on truncation.
fn truncate(inner: &impl Environment, step: &mut Step) {
    step.truncated = true;
    step.feedback = None;
    step.reward += inner.prices().map_or(0.0, |prices| prices.truncation);
}

/// Passes the methods that only look at the inner environment on to it.
macro_rules! pass_on {
    ($($method:ident -> $result:ty),* $(,)?) => {
        $(fn $method(&self) -> $result {
            self.inner.$method()
        })*
    };
}
use pass_on;
