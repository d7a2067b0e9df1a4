//! The contract between an environment and whoever plays it: text in, text out, seeded by index.
//!
//! The caller owns the conversation: it answers the [`Observation`], and while the episode goes on it appends its own
//! raw response and the [`Step::feedback`] turn. Nothing here tokenises or generates. What an implementation must keep to
//! is written down as the laws of [`crate::check`]. Since an episode is a function of its seed, its index and the
//! responses so far, those three are its state: [`crate::wrappers::EpisodeState`].

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::picture::Picture;
use crate::price::Prices;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Standing instructions.
    System,
    /// The environment.
    User,
    /// The policy.
    Assistant,
}

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said, before any chat template.
    pub content: String,
}

impl Message {
    /// A turn of the environment.
    pub fn user(content: impl Into<String>) -> Self {
        Message { role: Role::User, content: content.into() }
    }

    /// Standing instructions.
    pub fn system(content: impl Into<String>) -> Self {
        Message { role: Role::System, content: content.into() }
    }

    /// A turn of the policy.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message { role: Role::Assistant, content: content.into() }
    }
}

/// The conversation to answer at the start of an episode.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Turns so far; the last is the user's.
    pub messages: Vec<Message>,
}

/// What one response led to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Step {
    /// Label of the environment's outcome, such as `wrong_total`; one of a fixed set per environment.
    pub outcome: &'static str,
    /// Price of the outcome by the config's reward table, plus the price of truncation if this step truncates.
    pub reward: f64,
    /// Whether the response solved the task. Never inferred from the reward.
    pub success: bool,
    /// The next user turn; present exactly while the episode goes on. It continues the conversation unless
    /// [`Environment::starts_over`] says otherwise.
    pub feedback: Option<Message>,
    /// The game ended.
    pub terminated: bool,
    /// We stopped the game.
    pub truncated: bool,
}

impl Step {
    /// Whether the episode is over, for either reason.
    pub fn ended(&self) -> bool {
        self.terminated || self.truncated
    }
}

/// A game or task played in text. Object safe; episodes are independent of each other and of their order.
pub trait Environment: Send {
    /// Name in logs and records.
    fn name(&self) -> &'static str;

    /// Starts the episode named by (`seed`, `index`), dropping any episode in progress.
    ///
    /// # Errors
    /// When the environment cannot make the episode, for example because no task fits the config.
    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation>;

    /// Judges `response`, the raw text of the policy without special tokens.
    ///
    /// # Errors
    /// [`crate::Error::NotReset`] before the first reset and [`crate::Error::EpisodeEnded`] after the last step.
    fn step(&mut self, response: &str) -> Result<Step>;

    /// The state behind the last reset or step as a JSON object, for records; null before the first reset.
    ///
    /// It is built on request because it is far more expensive than a step.
    fn info(&self) -> serde_json::Value;

    /// Class of this episode's task, one of a fixed set per environment, by which success is counted too; `None` where the
    /// environment has no classes, and before the first reset.
    fn task_kind(&self) -> Option<&'static str> {
        None
    }

    /// Whether [`Step::feedback`] of the last step opens a conversation of its own: the caller then drops all turns so far and
    /// answers that message alone. False for environments whose episodes are one conversation.
    fn starts_over(&self) -> bool {
        false
    }

    /// The outcomes that a step can have and what they are worth; `None` where the environment does not say.
    fn prices(&self) -> Option<Prices> {
        None
    }

    /// A right response to what stands now: the one that solves the task, or the next on the way there.
    ///
    /// `None` where the environment has no expert, before the first reset and after the episode's end. It is a function
    /// of the episode alone and costs more than a step.
    fn expert(&self) -> Option<String> {
        None
    }

    /// Whether every step of the reasoning in `response` to this episode's task is right, and so is what it ends in; `None` where
    /// the environment judges answers alone, and before the first reset. It costs more than a step.
    fn process_correct(&self, _response: &str) -> Option<bool> {
        None
    }

    /// The picture that stands before the text of the first user turn, drawn on request; `None` where there is none.
    fn picture(&self) -> Option<Picture> {
        None
    }
}

impl<E: Environment + ?Sized> Environment for Box<E> {
    fn name(&self) -> &'static str {
        (**self).name()
    }

    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        (**self).reset(seed, index)
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        (**self).step(response)
    }

    fn info(&self) -> serde_json::Value {
        (**self).info()
    }

    fn task_kind(&self) -> Option<&'static str> {
        (**self).task_kind()
    }

    fn starts_over(&self) -> bool {
        (**self).starts_over()
    }

    fn prices(&self) -> Option<Prices> {
        (**self).prices()
    }

    fn expert(&self) -> Option<String> {
        (**self).expert()
    }

    fn process_correct(&self, response: &str) -> Option<bool> {
        (**self).process_correct(response)
    }

    fn picture(&self) -> Option<Picture> {
        (**self).picture()
    }
}
