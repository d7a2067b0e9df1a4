//! Expert data: a hand and one of its solutions, sampled uniformly, in chat layout.

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::answer::render_answer;
use super::config::{GeneralPointsConfig, TemplateKind};
use super::deck::Deck;
use super::prompt::Prompt;
use crate::environment::Message;
use crate::error::Result;

/// One example for supervised fine-tuning: the prompt of an episode and a right answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpertExample {
    /// A user turn, identical to the environment's, and the assistant's answer.
    pub messages: Vec<Message>,
}

/// Writes expert examples; build it once for many.
#[derive(Debug, Clone)]
pub struct Expert {
    deck: Deck,
    prompt: Prompt,
    template: TemplateKind,
}

impl Expert {
    /// The expert of `config`.
    ///
    /// # Errors
    /// [`crate::Error::Config`], as for [`super::GeneralPoints::new`].
    pub fn new(config: &GeneralPointsConfig) -> Result<Self> {
        let deck = Deck::new(config)?;
        let prompt = Prompt::new(config, deck.table())?;
        Ok(Expert { deck, prompt, template: config.template })
    }

    /// The example of episode (`seed`, `index`), the same hand the environment deals.
    ///
    /// # Errors
    /// When the hand cannot be dealt.
    pub fn example(&self, seed: u64, index: u64) -> Result<ExpertExample> {
        let hand = self.deck.deal(seed, index)?;
        let solutions = self.deck.table().solutions(hand.values());
        // A stream of its own: which solution is shown never changes which hands are dealt.
        let key = RandomKey::new(seed, "general_points/solution").at(index);
        let formula = &solutions[key.below(0, solutions.len() as u64) as usize];
        let cards: Vec<&str> = hand.cards().iter().map(|card| card.plain()).collect();
        let answer = render_answer(self.template, &cards, hand.numbers(), formula, self.deck.table().target());
        Ok(ExpertExample { messages: vec![Message::user(self.prompt.render(&hand)), Message::assistant(answer)] })
    }
}

/// The example of episode (`seed`, `index`) of `config`; [`Expert`] is cheaper for many.
///
/// # Errors
/// When the config is invalid or the hand cannot be dealt.
pub fn expert_example(config: &GeneralPointsConfig, seed: u64, index: u64) -> Result<ExpertExample> {
    Expert::new(config)?.example(seed, index)
}
