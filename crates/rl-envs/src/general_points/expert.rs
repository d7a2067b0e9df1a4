//! Expert data: a hand and one of its solutions, sampled, in chat layout.

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::answer::render_answer;
use super::config::{GeneralPointsConfig, TemplateKind};
use super::deck::{Deck, Hand};
use super::prompt::Prompt;
use crate::environment::Message;
use crate::error::{Error, Result};

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
    layout: TemplateKind,
}

impl Expert {
    /// The expert of `config`.
    ///
    /// # Errors
    /// [`crate::Error::Config`], as for [`super::GeneralPoints::new`].
    pub fn new(config: &GeneralPointsConfig) -> Result<Self> {
        let deck = Deck::new(config)?;
        let prompt = Prompt::new(config, deck.table())?;
        Ok(Expert { deck, prompt, layout: layout(config) })
    }

    /// The example of episode (`seed`, `index`), the same hand the environment deals.
    ///
    /// # Errors
    /// When the hand cannot be dealt.
    pub fn example(&self, seed: u64, index: u64) -> Result<ExpertExample> {
        let hand = self.deck.deal(seed, index)?;
        let answer = solved(&self.deck, self.layout, &hand, seed, index)?;
        Ok(ExpertExample { messages: vec![Message::user(self.prompt.render(&hand)), Message::assistant(answer)] })
    }
}

/// A right answer to `hand`, dealt as episode (`seed`, `index`).
pub(super) fn solved(deck: &Deck, layout: TemplateKind, hand: &Hand, seed: u64, index: u64) -> Result<String> {
    // Only solvable hands are dealt.
    let formula = solution(deck, hand, seed, index).ok_or(Error::NoSolvableHand { seed, index, draws: 1 })?;
    let cards: Vec<&str> = hand.cards().iter().map(|card| card.plain()).collect();
    Ok(render_answer(layout, &cards, hand.numbers(), &formula, deck.table().target()))
}

/// The solution that is shown of `hand`, dealt as episode (`seed`, `index`).
pub(super) fn solution(deck: &Deck, hand: &Hand, seed: u64, index: u64) -> Option<String> {
    // A stream of its own: which solution is shown never changes which hands are dealt.
    deck.table().solution(hand.values(), RandomKey::new(seed, "general_points/solution").at(index))
}

/// The layout of right answers: one line of strict JSON where the prompt asks for that.
pub(super) fn layout(config: &GeneralPointsConfig) -> TemplateKind {
    if config.vision.is_some() { TemplateKind::Compact } else { config.template }
}

/// The example of episode (`seed`, `index`) of `config`; [`Expert`] is cheaper for many.
///
/// # Errors
/// When the config is invalid or the hand cannot be dealt.
pub fn expert_example(config: &GeneralPointsConfig, seed: u64, index: u64) -> Result<ExpertExample> {
    Expert::new(config)?.example(seed, index)
}
