//! Rewards that cannot hang a run: many samples, several weighted sources, a deadline for each score.
//!
//! A [`Scorer`] is built from a [`RewardConfig`] and turns finished answers into one total per sample. A source is a rule
//! over the text, a program of the user's own, a web service, a Rust object, or numbers the caller computed itself (a
//! reward model on the training thread, an environment's verifier). Whatever a source does, the call comes back: every
//! score is [`Score::Ok`], [`Score::TimedOut`] or [`Score::Invalid`], and all are counted.
//!
//! **When a call ends.** One score (one sample at one source, retries and pauses included) may take
//! [`RewardConfig::deadline_seconds`], counted from the moment a worker takes it up. A call therefore ends within
//! `ceil(scores / workers) * deadline`, plus a second for the machinery; rules and external numbers take no worker and do
//! not count. With [`RewardConfig::step_deadline_seconds`] it also ends within that time plus a second, and whatever was
//! not scored by then is [`Score::TimedOut`]. Only the start of a program's process does not run on the deadline of a score
//! (it does on the step's): where one had to be killed, a score may wait up to its `start_seconds` for the next.
//!
//! **What is contained.** A program is killed with all the processes of its group and started again, and its memory can be
//! limited. Code inside this process cannot be stopped: a thread stuck in a [`Reward`] is left behind and replaced,
//! and goes on using its core and its memory until it returns. [`RewardConfig::max_abandoned`] says how many such threads
//! are too many. Nothing contains an object that allocates without end, overflows its stack or aborts, nor one that
//! panics in a build with `panic = "abort"`: such code belongs into a `command` source.
//!
//! **Failed scores.** A total needs every source of non-zero weight; with one missing it is `None`, because a sum over
//! what happened to be there would compare samples of a group on different scales. Such a sample takes no part in
//! group statistics. A source of weight 0 is recorded only, and its failures cost nothing.
//!
//! Absent on purpose: how rewards become advantages, and any batching of samples into one request.

mod command;
mod config;
mod http;
mod pool;
mod process;
mod reply;
mod request;
mod rule;
mod score;
mod scorer;
mod source;

pub use command::{CommandConfig, Lifetime};
pub use config::{ModelReward, OnFailure, RetryConfig, RewardConfig, SourceConfig, SourceKind};
pub use http::HttpConfig;
pub use request::{Prompt, Reward, RewardRequest};
pub use rule::{Compare, ContainsRule, Extract, FormatRule, LengthRule, LengthUnit, MatchRule};
pub use score::{Score, ScoreCounts};
pub use scorer::{CustomRewards, ExternalScores, ScoredBatch, Scorer, SourceScores};
