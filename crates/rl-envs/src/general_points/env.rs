//! The game as an environment: deal, grade, feed back, stop after the last attempt.

use serde_json::{Value, json};

use super::answer::{Answer, ParseMode};
use super::config::GeneralPointsConfig;
use super::deck::{Deck, Hand};
use super::expert::{layout, solution, solved};
use super::prompt::{Prompt, feedback, template_sha256};
use super::solver::MAX_LISTED;
use super::table_top;
use super::verifier::{Verdict, Verifier, unused_numbers};
use crate::environment::{Environment, Message, Observation, Step};
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::price::Prices;

const NAME: &str = "general_points";

/// GeneralPoints. In the visual variant [`Environment::picture`] is the table with the cards.
#[derive(Debug, Clone)]
pub struct GeneralPoints {
    config: GeneralPointsConfig,
    deck: Deck,
    prompt: Prompt,
    verifier: Verifier,
    episode: Option<Episode>,
    /// Left side of the last graded formula; kept here so that its buffer is reused.
    last_left_side: String,
}

#[derive(Debug, Clone)]
struct Episode {
    seed: u64,
    index: u64,
    hand: Hand,
    attempts_left: u32,
    ended: bool,
    last: Option<Attempt>,
}

#[derive(Debug, Clone, Copy)]
struct Attempt {
    verdict: Verdict,
    /// `None` for a response that was not graded.
    parse_mode: Option<ParseMode>,
}

impl GeneralPoints {
    /// The game of `config`.
    ///
    /// # Errors
    /// [`Error::Config`] when a value is out of range or no hand it could deal reaches the target.
    pub fn new(config: GeneralPointsConfig) -> Result<Self> {
        let deck = Deck::new(&config)?;
        let prompt = Prompt::new(&config, deck.table())?;
        let verifier = Verifier::new(&config)?;
        Ok(GeneralPoints { config, deck, prompt, verifier, episode: None, last_left_side: String::new() })
    }

    /// The config the game was made from.
    pub fn config(&self) -> &GeneralPointsConfig {
        &self.config
    }

    /// Hash of the prompt's wording, for the manifest of a run.
    pub fn template_sha256(&self) -> String {
        template_sha256(&self.config)
    }

    /// The hand on the table; `None` before the first reset.
    pub fn hand(&self) -> Option<&Hand> {
        self.episode.as_ref().map(|episode| &episode.hand)
    }

    /// The last verdict of this episode and how its answer was read (`None` if it was not graded).
    pub fn last_verdict(&self) -> Option<(Verdict, Option<ParseMode>)> {
        let attempt = self.episode.as_ref()?.last?;
        Some((attempt.verdict, attempt.parse_mode))
    }

    fn last_formula(&self, attempt: Attempt) -> Option<&str> {
        let found = matches!(attempt.parse_mode, Some(ParseMode::Strict | ParseMode::Lenient));
        found.then_some(self.last_left_side.as_str())
    }
}

impl Environment for GeneralPoints {
    fn name(&self) -> &'static str {
        NAME
    }

    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        let hand = self.deck.deal(seed, index)?;
        let attempts_left = self.config.max_attempts;
        self.episode = Some(Episode { seed, index, hand, attempts_left, ended: false, last: None });
        Ok(Observation { messages: vec![Message::user(self.prompt.render(&hand))] })
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        let Self { config, verifier, episode, last_left_side, .. } = self;
        let episode = episode.as_mut().ok_or(Error::NotReset { environment: NAME })?;
        if episode.ended {
            return Err(Error::EpisodeEnded { environment: NAME });
        }
        if episode.attempts_left == 0 {
            let verdict = verifier.attempt_limit();
            episode.ended = true;
            episode.last = Some(Attempt { verdict, parse_mode: None });
            return Ok(Step {
                outcome: verdict.outcome.label(),
                reward: verdict.reward,
                success: false,
                feedback: None,
                terminated: false,
                truncated: true,
            });
        }
        episode.attempts_left -= 1;

        let answer = Answer::parse(response);
        let left_side = answer.left_side();
        let values = episode.hand.values();
        let verdict = verifier.grade_answer(&answer, &episode.hand);
        episode.last = Some(Attempt { verdict, parse_mode: Some(answer.parse_mode()) });
        last_left_side.clear();
        last_left_side.push_str(left_side.unwrap_or(""));

        let terminated = verdict.success;
        let truncated = !terminated && episode.attempts_left == 0 && !config.legacy_extra_step;
        episode.ended = terminated || truncated;
        let limit = if truncated { verifier.attempt_limit().reward } else { 0.0 };
        let feedback =
            (!episode.ended).then(|| Message::user(feedback(&verifier.message(&verdict, left_side, values))));
        Ok(Step {
            outcome: verdict.outcome.label(),
            reward: verdict.reward + limit,
            success: verdict.success,
            feedback,
            terminated,
            truncated,
        })
    }

    /// `cards`, `plain_cards`, `numbers`, `solutions` (all of them, or with more than four cards one), `remaining_attempts`; then, null until a response was graded,
    /// `formula` (left side), `remaining_numbers` (cards it leaves unused), `parse_mode`, `outcome`, `verify_info`.
    fn info(&self) -> Value {
        let Some(episode) = &self.episode else { return Value::Null };
        let hand = &episode.hand;
        let formula = episode.last.and_then(|attempt| self.last_formula(attempt));
        let table = self.deck.table();
        let solutions = match hand.cards().len() <= MAX_LISTED {
            true => table.solutions(hand.values()).to_vec(),
            false => solution(&self.deck, hand, episode.seed, episode.index).into_iter().collect(),
        };
        let message = episode.last.map(|attempt| self.verifier.message(&attempt.verdict, formula, hand.values()));
        json!({
            "cards": hand.cards().iter().map(ToString::to_string).collect::<Vec<_>>(),
            "plain_cards": hand.cards().iter().map(|card| card.plain()).collect::<Vec<_>>(),
            "numbers": hand.numbers(),
            "solutions": solutions,
            "remaining_attempts": episode.attempts_left,
            "formula": formula,
            "remaining_numbers": unused_numbers(formula, hand.values()),
            "parse_mode": episode.last.and_then(|attempt| attempt.parse_mode),
            "outcome": episode.last.map(|attempt| attempt.verdict.outcome),
            "verify_info": message,
        })
    }

    fn prices(&self) -> Option<Prices> {
        Some(self.verifier.prices())
    }

    fn expert(&self) -> Option<String> {
        let episode = self.episode.as_ref().filter(|episode| !episode.ended)?;
        solved(&self.deck, layout(&self.config), &episode.hand, episode.seed, episode.index).ok()
    }

    fn picture(&self) -> Option<Picture> {
        let (vision, episode) = (self.config.vision.as_ref()?, self.episode.as_ref()?);
        Some(table_top::draw(episode.hand.cards(), vision.resolution))
    }
}
