//! The laws of an [`Environment`], and a checker that any environment can be run through.
//!
//! [`check_environment`] plays episodes with good answers, bad answers and hostile text, and stops at the first law that
//! does not hold. A test of an environment is then one line:
//! `check_environment(|| MyGame::new(config.clone()), &CheckOptions::default()).unwrap()`.

mod laws;
mod probe;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::environment::Environment;
use crate::error::Result;

/// What every environment must keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Law {
    /// Before the first reset a step is [`crate::Error::NotReset`] and the info is null.
    ResetComesFirst,
    /// No call panics, whatever the text.
    NoPanic,
    /// Resets succeed, and a running episode judges any text; only misuse is an error.
    JudgesAnyText,
    /// The observation of (seed, index) is always the same, in one environment and in another.
    ResetIsDeterministic,
    /// Which episodes were reset before, and in which order, changes nothing.
    OrderIsFree,
    /// Different indices and different seeds give different episodes.
    EpisodesDiffer,
    /// An observation has messages, none empty, a system message only in front, then user and assistant in turn, the last
    /// the user's; feedback is a user turn that says something.
    WellFormedMessages,
    /// The same responses lead to the same steps and the same info, in one environment and in another.
    StepIsDeterministic,
    /// A step ends the episode as terminated or truncated, never both; it carries feedback exactly while the episode goes
    /// on; a success terminates.
    EndsAreExclusive,
    /// Every episode ends within [`CheckOptions::max_steps`] responses.
    EpisodesEnd,
    /// After the end a step is [`crate::Error::EpisodeEnded`] and changes nothing.
    EndIsFinal,
    /// A reset after the end leaves nothing of what was played before.
    ResetIsFresh,
    /// Asking for info, prices, class, expert or picture changes nothing, and info is an object after a reset.
    LookingIsFree,
    /// Rewards are finite numbers.
    RewardIsFinite,
    /// Where prices are declared, the outcome of every step is among them and its reward is made of them.
    RewardIsPriced,
    /// An episode goes on identically when its state is written as JSON, read back, and restored over another episode that
    /// was not played to its end.
    StateRoundTrips,
    /// Where there is an expert, its responses solve the episode; after the end it is silent.
    ExpertSolves,
    /// A step judges its text within [`CheckOptions::max_step_time`].
    TimeIsBounded,
}

impl Law {
    /// Name in records.
    pub fn label(self) -> &'static str {
        match self {
            Law::ResetComesFirst => "reset_comes_first",
            Law::NoPanic => "no_panic",
            Law::JudgesAnyText => "judges_any_text",
            Law::ResetIsDeterministic => "reset_is_deterministic",
            Law::OrderIsFree => "order_is_free",
            Law::EpisodesDiffer => "episodes_differ",
            Law::WellFormedMessages => "well_formed_messages",
            Law::StepIsDeterministic => "step_is_deterministic",
            Law::EndsAreExclusive => "ends_are_exclusive",
            Law::EpisodesEnd => "episodes_end",
            Law::EndIsFinal => "end_is_final",
            Law::ResetIsFresh => "reset_is_fresh",
            Law::LookingIsFree => "looking_is_free",
            Law::RewardIsFinite => "reward_is_finite",
            Law::RewardIsPriced => "reward_is_priced",
            Law::StateRoundTrips => "state_round_trips",
            Law::ExpertSolves => "expert_solves",
            Law::TimeIsBounded => "time_is_bounded",
        }
    }
}

impl fmt::Display for Law {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// How thorough the checker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckOptions {
    /// Seed of episodes and texts.
    pub seed: u64,
    /// Episodes played.
    pub num_episodes: u64,
    /// Responses after which an episode must have ended.
    pub max_steps: usize,
    /// Hostile texts answered with, about one in a thousand a megabyte long; the longest of each kind come on top.
    pub num_hostile: u64,
    /// Longest time for one step, however long its text; generous, because other programs run too.
    pub max_step_time: Duration,
}

impl Default for CheckOptions {
    fn default() -> Self {
        CheckOptions {
            seed: 0,
            num_episodes: 24,
            max_steps: 1000,
            num_hostile: 500,
            max_step_time: Duration::from_secs(2),
        }
    }
}

/// A law that does not hold, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{environment} breaks the law {law} in episode (seed {seed}, index {index}): {detail}")]
pub struct Violation {
    /// Name of the environment.
    pub environment: &'static str,
    /// Which law.
    pub law: Law,
    /// Seed of the episode.
    pub seed: u64,
    /// Index of the episode.
    pub index: u64,
    /// What was found and what was due.
    pub detail: String,
}

/// What the checker looked at.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct CheckReport {
    /// How often each law was put to the test. A law without an entry could not be: there are no prices, or no expert.
    pub tested: BTreeMap<Law, u64>,
    /// Longest time of one step.
    pub slowest_step: Duration,
    /// Length in bytes of the text that took longest.
    pub slowest_length: usize,
}

/// Runs environments that `build` makes through every [`Law`].
///
/// Panics are caught to be reported; the process's panic hook still prints them.
///
/// # Errors
/// The first [`Violation`]; a `build` that fails counts as [`Law::JudgesAnyText`].
pub fn check_environment<E: Environment>(
    build: impl FnMut() -> Result<E>,
    options: &CheckOptions,
) -> std::result::Result<CheckReport, Violation> {
    laws::check(build, options)
}
