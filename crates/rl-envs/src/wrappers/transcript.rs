//! What was said in an episode, and the state by which it goes on elsewhere.

use serde::{Deserialize, Serialize};

use super::pass_on;
use crate::environment::{Environment, Message, Observation, Step};
use crate::error::Result;
use crate::picture::Picture;
use crate::price::Prices;

/// The state of an episode: its name and the responses so far. Small, readable, and the same for every environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpisodeState {
    /// Seed of the episode.
    pub seed: u64,
    /// Index of the episode.
    pub index: u64,
    /// Raw responses of the policy, in order.
    pub responses: Vec<String>,
}

impl EpisodeState {
    /// Brings `environment` into this state by playing the episode again. Returns the conversation's start and the steps.
    ///
    /// # Errors
    /// From the environment; [`crate::Error::EpisodeEnded`] when the episode ends before the responses do.
    pub fn restore<E: Environment + ?Sized>(&self, environment: &mut E) -> Result<(Observation, Vec<Step>)> {
        let observation = environment.reset(self.seed, self.index)?;
        let steps = self.responses.iter().map(|response| environment.step(response)).collect::<Result<_>>()?;
        Ok((observation, steps))
    }
}

/// An episode as it was played.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transcript {
    /// Name of the environment.
    pub environment: &'static str,
    /// Seed, index and responses.
    pub state: EpisodeState,
    /// The conversation so far: observation, responses and feedback.
    pub messages: Vec<Message>,
    /// What each response led to.
    pub steps: Vec<Step>,
}

impl Transcript {
    /// Sum of the rewards.
    pub fn total_reward(&self) -> f64 {
        self.steps.iter().map(|step| step.reward).sum()
    }

    /// Whether some response solved the task.
    pub fn is_success(&self) -> bool {
        self.steps.iter().any(|step| step.success)
    }
}

/// Keeps the transcript of the episode that is played.
#[derive(Debug, Clone)]
pub struct Recorder<E> {
    inner: E,
    transcript: Option<Transcript>,
}

impl<E: Environment> Recorder<E> {
    /// A recorder around `inner`. What `inner` has played before is not known to it.
    pub fn new(inner: E) -> Self {
        Recorder { inner, transcript: None }
    }

    /// A recorder around `inner`, which is brought into `state`.
    ///
    /// # Errors
    /// As for [`EpisodeState::restore`].
    pub fn resume(inner: E, state: &EpisodeState) -> Result<Self> {
        let mut recorder = Recorder::new(inner);
        state.restore(&mut recorder)?;
        Ok(recorder)
    }

    /// The episode so far; `None` before the first reset.
    pub fn transcript(&self) -> Option<&Transcript> {
        self.transcript.as_ref()
    }

    /// The state of the episode; `None` before the first reset.
    pub fn state(&self) -> Option<&EpisodeState> {
        self.transcript.as_ref().map(|transcript| &transcript.state)
    }

    /// Hands the transcript over; the next one begins with the next reset.
    pub fn take(&mut self) -> Option<Transcript> {
        self.transcript.take()
    }
}

impl<E: Environment> Environment for Recorder<E> {
    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let observation = self.inner.reset(seed, index)?;
        self.transcript = Some(Transcript {
            environment: self.inner.name(),
            state: EpisodeState { seed, index, responses: Vec::new() },
            messages: observation.messages.clone(),
            steps: Vec::new(),
        });
        Ok(observation)
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        let step = self.inner.step(response)?;
        if let Some(transcript) = &mut self.transcript {
            transcript.state.responses.push(response.to_string());
            transcript.messages.push(Message::assistant(response));
            transcript.messages.extend(step.feedback.clone());
            transcript.steps.push(step.clone());
        }
        Ok(step)
    }

    pass_on! {
        name -> &'static str, info -> serde_json::Value, task_kind -> Option<&'static str>, starts_over -> bool,
        process_correct(response: &str) -> Option<bool>,
        prices -> Option<Prices>, expert -> Option<String>, picture -> Option<Picture>,
    }
}
