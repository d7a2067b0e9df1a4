//! Following instructions as an environment: one prompt, one answer, one verdict.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::prompts::{Instruction, PromptConfig, Prompts};
use super::verifier::Outcome;
use crate::environment::{Environment, Message, Observation, Step};
use crate::error::{Error, Result, ensure};
use crate::price::{Combination, Prices};

const NAME: &str = "instructions";

/// The task, as read from a config file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstructionsConfig {
    /// Which prompts are asked.
    pub prompts: PromptConfig,
    /// What the outcomes are worth.
    pub reward: RewardTable,
}

/// Price of each outcome.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RewardTable {
    /// On the topic and as demanded.
    pub obeyed: f64,
    /// On the topic, but not as demanded.
    pub violated: f64,
    /// Not on the topic.
    pub off_topic: f64,
    /// Nothing said.
    pub empty: f64,
}

impl RewardTable {
    /// One for obeying, nothing for anything else.
    pub const BINARY: RewardTable = RewardTable { obeyed: 1.0, violated: 0.0, off_topic: 0.0, empty: 0.0 };

    /// Price of `outcome`.
    pub fn price(&self, outcome: Outcome) -> f64 {
        match outcome {
            Outcome::Obeyed => self.obeyed,
            Outcome::Violated => self.violated,
            Outcome::OffTopic => self.off_topic,
            Outcome::Empty => self.empty,
        }
    }
}

/// The environment. An episode is one prompt; every answer ends it.
#[derive(Debug, Clone)]
pub struct Instructions {
    prompts: Prompts,
    reward: RewardTable,
    episode: Option<Episode>,
}

#[derive(Debug, Clone)]
struct Episode {
    seed: u64,
    index: u64,
    instruction: Instruction,
    outcome: Option<Outcome>,
}

impl Instructions {
    /// The task of `config`.
    ///
    /// # Errors
    /// [`Error::Config`] as for [`Prompts::new`], and when a price is not finite.
    pub fn new(config: &InstructionsConfig) -> Result<Self> {
        let reward = config.reward;
        for (key, price) in [
            ("reward.obeyed", reward.obeyed),
            ("reward.violated", reward.violated),
            ("reward.off_topic", reward.off_topic),
            ("reward.empty", reward.empty),
        ] {
            ensure(price.is_finite(), key, price, "must be a finite number")?;
        }
        Ok(Instructions { prompts: Prompts::new(&config.prompts)?, reward, episode: None })
    }

    /// All prompts of the task.
    pub fn prompts(&self) -> &Prompts {
        &self.prompts
    }

    /// The prompt of this episode; `None` before the first reset.
    pub fn instruction(&self) -> Option<&Instruction> {
        self.episode.as_ref().map(|episode| &episode.instruction)
    }
}

impl Environment for Instructions {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let instruction = self.prompts.instruction(seed, index).clone();
        let prompt = instruction.prompt();
        self.episode = Some(Episode { seed, index, instruction, outcome: None });
        Ok(Observation { messages: vec![Message::user(prompt)] })
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        let episode = self.episode.as_mut().ok_or(Error::NotReset { environment: NAME })?;
        if episode.outcome.is_some() {
            return Err(Error::EpisodeEnded { environment: NAME });
        }
        let outcome = episode.instruction.grade(response);
        episode.outcome = Some(outcome);
        Ok(Step {
            outcome: outcome.label(),
            reward: self.reward.price(outcome),
            success: outcome == Outcome::Obeyed,
            feedback: None,
            terminated: true,
            truncated: false,
        })
    }

    /// `instruction` (topic, constraint, wording) and `outcome`, null until an answer was graded.
    fn info(&self) -> Value {
        let Some(episode) = &self.episode else { return Value::Null };
        json!({ "instruction": episode.instruction, "outcome": episode.outcome })
    }

    /// The kind of the constraint.
    fn task_kind(&self) -> Option<&'static str> {
        self.instruction().map(|instruction| instruction.constraint.kind().label())
    }

    fn prices(&self) -> Option<Prices> {
        let outcomes = [Outcome::Obeyed, Outcome::Violated, Outcome::OffTopic, Outcome::Empty];
        Some(Prices {
            outcomes: outcomes.map(|outcome| (outcome.label(), self.reward.price(outcome))).to_vec(),
            truncation: 0.0,
            combination: Combination::Single,
        })
    }

    fn expert(&self) -> Option<String> {
        let episode = self.episode.as_ref().filter(|episode| episode.outcome.is_none())?;
        Some(self.prompts.answers(episode.seed, episode.index).chosen)
    }
}
