//! Environments around environments: they change when an episode stops, what it pays or what is remembered of it.
//!
//! A wrapper is an [`crate::Environment`] itself, so wrappers can be put around each other. All pass on what they do not
//! change. An inner environment that stops an episode has the last word.

mod attempt_limit;
mod reward_table;
mod stopped;
mod time_limit;
mod transcript;

pub use attempt_limit::{AttemptLimit, Attempts};
pub use reward_table::RewardTable;
pub use stopped::{StopRule, Stopped};
pub use time_limit::{Clock, Deadline, SystemClock, TimeLimit};
pub use transcript::{EpisodeState, Recorder, Transcript};

/// Passes the methods that only look at the inner environment on to it.
macro_rules! pass_on {
    ($($method:ident $(($argument:ident: $kind:ty))? -> $result:ty),* $(,)?) => {
        $(fn $method(&self $(, $argument: $kind)?) -> $result {
            self.inner.$method($($argument)?)
        })*
    };
}
use pass_on;
