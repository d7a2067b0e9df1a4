//! Expert data: a point of a walk and the right answer there, in chat layout; and how a failed attempt is put right.

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::config::{EpisodeKind, VirlConfig};
use super::direction::Action;
use super::env::Virl;
use super::verifier::Verifier;
use crate::environment::{Environment, Message};
use crate::error::Result;

/// One example for supervised fine-tuning: the prompt at a point and a right answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertExample {
    /// A user turn, identical to the environment's, and the assistant's answer.
    pub messages: Vec<Message>,
    /// Number of the route in its set.
    pub route: u64,
    /// Position on the rail, from 0.
    pub position: usize,
}

/// Writes expert examples; build it once for many.
#[derive(Debug, Clone)]
pub struct Expert {
    point: Virl,
    route: Virl,
}

impl Expert {
    /// The expert of `config`; its `episode` key is not looked at.
    ///
    /// # Errors
    /// As for [`Virl::new`].
    pub fn new(config: &VirlConfig) -> Result<Self> {
        let route = Virl::new(VirlConfig { episode: EpisodeKind::Route, ..config.clone() })?;
        let point = Virl::new(VirlConfig { episode: EpisodeKind::Point, ..config.clone() })?;
        Ok(Expert { point, route })
    }

    /// The example at the point that episode (`seed`, `index`) of [`EpisodeKind::Point`] stands at.
    ///
    /// # Errors
    /// When the route cannot be made.
    pub fn example(&mut self, seed: u64, index: u64) -> Result<ExpertExample> {
        let messages = self.point.reset(seed, index)?.messages;
        Ok(example(&self.point, messages))
    }

    /// One example for each point of the walk that episode (`seed`, `index`) of [`EpisodeKind::Route`] takes, in order.
    ///
    /// # Errors
    /// When the route cannot be made.
    pub fn walk(&mut self, seed: u64, index: u64) -> Result<Vec<ExpertExample>> {
        let mut messages = self.route.reset(seed, index)?.messages;
        let mut examples = Vec::new();
        loop {
            let next = example(&self.route, messages);
            let step = self.route.step(next.messages.last().map_or("", |answer| answer.content.as_str()))?;
            examples.push(next);
            match step.feedback {
                Some(feedback) => messages = vec![feedback],
                None => return Ok(examples),
            }
        }
    }

    /// The example of (`seed`, `index`) after one wrong action, any other of the space, and the feedback on it.
    ///
    /// # Errors
    /// When the route cannot be made.
    pub fn retry(&mut self, seed: u64, index: u64) -> Result<ExpertExample> {
        let mut found = self.example(seed, index)?;
        let space = self.point.config().action_space();
        let right = self.point.expected_action();
        let others: Vec<Action> = space.actions().filter(|&action| Some(action) != right).collect();
        // A stream of its own: which mistake is made never changes where it is made.
        let draw = RandomKey::new(seed, "virl/mistake").at(index).below(0, others.len() as u64) as usize;
        let wrong = self.point.answer_with(others[draw]);
        let verdict = self.point.rail().zip(self.point.position()).and_then(|(rail, (_, at))| {
            let verifier = Verifier::new(self.point.config());
            Some(verifier.grade(&Answer::parse(&wrong), rail, rail.points().get(at)?))
        });
        let feedback = verdict.map(|verdict| self.point.feedback(&verdict)).unwrap_or_default();
        found.messages.splice(1..1, [Message::assistant(wrong), Message::user(feedback)]);
        Ok(found)
    }
}

/// The example of `config` at the point of (`seed`, `index`); [`Expert`] is cheaper for many.
///
/// # Errors
/// When the config is invalid or the route cannot be made.
pub fn expert_example(config: &VirlConfig, seed: u64, index: u64) -> Result<ExpertExample> {
    Expert::new(config)?.example(seed, index)
}

fn example(task: &Virl, mut messages: Vec<Message>) -> ExpertExample {
    messages.push(Message::assistant(task.expert_answer().unwrap_or_default()));
    let (route, position) = task.position().unwrap_or_default();
    ExpertExample { messages, route, position }
}
