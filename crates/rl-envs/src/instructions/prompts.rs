//! Which prompts there are, which are held out, and which one (seed, index) names.
//!
//! A prompt is a topic, a constraint and a wording. Whether a pair of topic and constraint is held out depends on that
//! pair alone, never on a seed, so no wording of a held-out pair is ever trained on.

use std::collections::BTreeSet;

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::constraint::{Constraint, ConstraintKind, NUM_WORDINGS};
use super::topic::{TOPICS, Topic};
use super::verifier::{Outcome, grade};
use super::writer::{AnswerPair, write_answers};
use crate::error::{Error, Result, ensure};

/// Share of the pairs of topic and constraint that training never sees.
pub const HELD_OUT_SHARE: f64 = 0.15;
/// Fixed for good: another seed would move pairs from one side to the other.
const SPLIT_SEED: u64 = 0;

/// Which side of the fixed split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// To learn from.
    Train,
    /// To measure on.
    HeldOut,
}

/// Which prompts are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptConfig {
    /// Side of the split.
    pub split: Split,
    /// Kinds of constraints, each at most once.
    pub kinds: Vec<ConstraintKind>,
}

/// A prompt with what its answers are judged by; in a file it is an object with topic, constraint and wording.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Named", try_from = "Named")]
pub struct Instruction {
    /// What is asked about.
    pub topic: &'static Topic,
    /// What is demanded.
    pub constraint: Constraint,
    /// Which of the wordings.
    pub wording: usize,
}

impl Instruction {
    /// The text of the prompt.
    pub fn prompt(&self) -> String {
        self.constraint.prompt(self.topic, self.wording)
    }

    /// Judges an answer; see [`grade`].
    pub fn grade(&self, answer: &str) -> Outcome {
        grade(self.topic, &self.constraint, answer)
    }
}

/// All prompts of one config.
#[derive(Debug, Clone)]
pub struct Prompts {
    /// In an order that mixes topics and kinds; the same whatever the seed.
    instructions: Vec<Instruction>,
}

impl Prompts {
    /// The prompts of `config`.
    ///
    /// # Errors
    /// [`Error::Config`] when no kind is named, when one is named twice, or when the split has no prompt of them.
    pub fn new(config: &PromptConfig) -> Result<Self> {
        let kinds: BTreeSet<ConstraintKind> = config.kinds.iter().copied().collect();
        ensure(!kinds.is_empty(), "kinds", "[]", "must name at least one kind of constraint")?;
        let named = config.kinds.len();
        ensure(kinds.len() == named, "kinds", format!("{:?}", config.kinds), "must name each kind once")?;
        let split = RandomKey::new(SPLIT_SEED, "instructions/split");
        let mut instructions = Vec::new();
        for (topic_index, topic) in (0..).zip(TOPICS.iter()) {
            for (index, constraint) in (0..).zip(Constraint::all(topic)) {
                let held_out = split.at(topic_index).uniform(index) < HELD_OUT_SHARE;
                if kinds.contains(&constraint.kind()) && held_out == (config.split == Split::HeldOut) {
                    instructions.extend((0..NUM_WORDINGS).map(|wording| Instruction {
                        topic,
                        constraint: constraint.clone(),
                        wording,
                    }));
                }
            }
        }
        ensure(!instructions.is_empty(), "kinds", format!("{:?}", config.kinds), "must have prompts in this split")?;
        RandomKey::new(SPLIT_SEED, "instructions/order").shuffle(&mut instructions);
        Ok(Prompts { instructions })
    }

    /// Number of distinct prompts.
    pub fn len(&self) -> usize {
        self.instructions.len()
    }

    /// Whether there is none, which no config gives.
    pub fn is_empty(&self) -> bool {
        self.instructions.is_empty()
    }

    /// The prompt that (`seed`, `index`) names. Indices of one round of [`Prompts::len`] name each prompt once.
    ///
    /// A round walks the list in equal strides without a common divisor with its length, from a start of its own.
    pub fn instruction(&self, seed: u64, index: u64) -> &Instruction {
        let count = self.instructions.len() as u64;
        let (round, place) = (index / count, index % count);
        let key = RandomKey::new(seed, "instructions/round").at(round);
        let first = 1 + key.below(0, count);
        let stride = (first..).find(|&stride| greatest_common_divisor(stride, count) == 1).unwrap_or(1);
        let at = (u128::from(key.below(1, count)) + u128::from(stride) * u128::from(place)) % u128::from(count);
        &self.instructions[at as usize]
    }

    /// The answers of (`seed`, `index`) to its prompt. Another round has other answers to the same prompts.
    pub fn answers(&self, seed: u64, index: u64) -> AnswerPair {
        let instruction = self.instruction(seed, index);
        let key = RandomKey::new(seed, "instructions/answers").at(index);
        write_answers(instruction.topic, &instruction.constraint, key)
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// An instruction as it stands in a file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    topic: String,
    constraint: Constraint,
    wording: usize,
}

impl From<Instruction> for Named {
    fn from(instruction: Instruction) -> Self {
        let Instruction { topic, constraint, wording } = instruction;
        Named { topic: topic.name.into(), constraint, wording }
    }
}

impl TryFrom<Named> for Instruction {
    type Error = Error;

    fn try_from(Named { topic, constraint, wording }: Named) -> Result<Self> {
        let unknown = || Error::Config { key: "topic", value: topic.clone(), limit: "is no topic of this task".into() };
        Ok(Instruction { topic: Topic::named(&topic).ok_or_else(unknown)?, constraint, wording })
    }
}
