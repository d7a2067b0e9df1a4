//! One model on all splits and decodings.

use std::collections::{BTreeMap, BTreeSet};

use rl_core::random::RandomKey;
use rl_core::statistics::{Z_95, wilson_interval};
use rl_data::{ChatRecord, JsonlReader, Message};
use rl_envs::general_points::{Deck, GeneralPoints};
use rl_models::{ChatModel, Episode, play_episodes};
use serde::{Deserialize, Serialize};

use crate::config::{Decoding, EvaluationConfig, Split};
use crate::{Error, Result};

/// Outcome of an answer without a usable formula.
const FORMAT_ERROR: &str = "illegal_formula";

/// A counted share with its 95 % Wilson interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Proportion {
    /// How many.
    pub successes: u64,
    /// Out of how many.
    pub trials: u64,
    /// `successes / trials`.
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Proportion {
    /// `successes` out of `trials`.
    ///
    /// # Errors
    /// No trials, or more successes than trials.
    pub fn new(successes: u64, trials: u64) -> Result<Self> {
        let interval = wilson_interval(successes, trials, Z_95)?;
        let rate = successes as f64 / trials as f64;
        Ok(Proportion { successes, trials, rate, low: interval.low, high: interval.high })
    }
}

/// A model's results on one split with one decoding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SplitResult {
    /// Name of the split.
    pub split: String,
    /// Name of the decoding.
    pub decoding: String,
    /// Hands solved at the first attempt.
    pub first_attempt: Proportion,
    /// Hands solved within `max_attempts`.
    pub within_attempts: Proportion,
    /// Graded attempts per hand.
    pub max_attempts: u32,
    /// Answers without a usable formula, out of all graded answers.
    pub format_errors: Proportion,
    /// Answers by outcome.
    pub outcomes: BTreeMap<String, u64>,
    /// Mean reward of an episode.
    pub reward_mean: f64,
    /// Hands whose multiset of card values stands in the training data.
    pub seen_in_training: Option<Proportion>,
    /// First-attempt success among hands whose multiset of values does not stand in the training data.
    pub first_attempt_unseen: Option<Proportion>,
    /// Indices of the hands solved at the first attempt, for paired tests between models.
    pub solved_first: Vec<u64>,
    /// Some conversations.
    pub transcripts: Vec<Transcript>,
}

/// One episode as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// Index of the hand.
    pub hand: u64,
    /// The conversation.
    pub messages: Vec<Message>,
    /// Outcome of each answer.
    pub outcomes: Vec<String>,
    /// Sum of the rewards.
    pub reward: f64,
}

/// Everything that stays the same from model to model.
pub struct Protocol<'a> {
    config: &'a EvaluationConfig,
    /// Sorted card values of the training hands.
    trained_values: Option<BTreeSet<Vec<u8>>>,
}

impl<'a> Protocol<'a> {
    /// Prepares a protocol; reads the training data once.
    ///
    /// # Errors
    /// Config errors; [`Error::File`] when a training row has no list `values`.
    pub fn new(config: &'a EvaluationConfig) -> Result<Self> {
        config.validate()?;
        config.decodings.iter().try_for_each(|decoding| decoding.sampling.validate())?;
        config.splits.iter().try_for_each(|split| config.environment_of(split).validate())?;
        let trained_values = match &config.training_data {
            None => None,
            Some(path) => {
                let mut seen = BTreeSet::new();
                for record in JsonlReader::<ChatRecord>::open(path)? {
                    let record = record?;
                    let values = record.extra.get("values").cloned();
                    let values: Option<Vec<u8>> = values.and_then(|values| serde_json::from_value(values).ok());
                    let mut values = values.ok_or_else(|| Error::File {
                        path: path.clone(),
                        reason: "a row has no `values` list; write it with the make_dataset example".into(),
                    })?;
                    values.sort_unstable();
                    seen.insert(values);
                }
                Some(seen)
            }
        };
        Ok(Protocol { config, trained_values })
    }

    /// Plays `model` everywhere; `on_finish` is called once per response.
    ///
    /// # Errors
    /// From the environment and generation.
    pub fn play(&self, model: &ChatModel, on_finish: &mut dyn FnMut(usize)) -> Result<Vec<SplitResult>> {
        let mut results = Vec::new();
        for split in &self.config.splits {
            for decoding in &self.config.decodings {
                results.push(self.play_split(model, split, decoding, on_finish)?);
            }
        }
        Ok(results)
    }

    fn play_split(
        &self,
        model: &ChatModel,
        split: &Split,
        decoding: &Decoding,
        on_finish: &mut dyn FnMut(usize),
    ) -> Result<SplitResult> {
        let EvaluationConfig { seed, num_hands, transcripts, .. } = *self.config;
        let game = self.config.environment_of(split);
        let environment = || GeneralPoints::new(game.clone());
        let mut environments = (0..num_hands).map(|_| environment()).collect::<rl_envs::Result<Vec<_>>>()?;
        let indices: Vec<u64> = (0..num_hands).collect();
        let key = RandomKey::new(seed, "evaluation");
        let keys: Vec<RandomKey> = indices.iter().map(|&index| key.at(index)).collect();
        let sampling = &decoding.sampling;
        let episodes = play_episodes(model, &mut environments, seed, &indices, &keys, sampling, on_finish)?;

        let deck = Deck::new(&game)?;
        let mut unseen = Vec::new();
        if let Some(trained) = &self.trained_values {
            for episode in &episodes {
                let mut values = deck.deal(seed, episode.index)?.numbers().to_vec();
                values.sort_unstable();
                if !trained.contains(&values) {
                    unseen.push(episode);
                }
            }
        }
        let solved_first = |episode: &Episode| episode.steps.first().is_some_and(|step| step.success);
        let count = |matches: &dyn Fn(&Episode) -> bool| {
            Proportion::new(episodes.iter().filter(|episode| matches(episode)).count() as u64, num_hands)
        };
        let mut outcomes = BTreeMap::new();
        for step in episodes.iter().flat_map(|episode| &episode.steps) {
            *outcomes.entry(step.outcome.to_string()).or_insert(0_u64) += 1;
        }
        let seen_in_training = match self.trained_values {
            Some(_) => Some(Proportion::new(num_hands - unseen.len() as u64, num_hands)?),
            None => None,
        };
        let first_attempt_unseen = match unseen.len() as u64 {
            0 => None,
            trials => {
                Some(Proportion::new(unseen.iter().filter(|episode| solved_first(episode)).count() as u64, trials)?)
            }
        };
        Ok(SplitResult {
            split: split.name.clone(),
            decoding: decoding.name.clone(),
            first_attempt: count(&solved_first)?,
            within_attempts: count(&Episode::is_success)?,
            max_attempts: game.max_attempts,
            format_errors: Proportion::new(
                outcomes.get(FORMAT_ERROR).copied().unwrap_or(0),
                outcomes.values().sum::<u64>(),
            )?,
            outcomes,
            reward_mean: episodes.iter().map(Episode::total_reward).sum::<f64>() / num_hands as f64,
            seen_in_training,
            first_attempt_unseen,
            solved_first: episodes.iter().filter(|episode| solved_first(episode)).map(|e| e.index).collect(),
            transcripts: episodes.iter().take(transcripts).map(transcript).collect(),
        })
    }
}

fn transcript(episode: &Episode) -> Transcript {
    Transcript {
        hand: episode.index,
        messages: episode.dialogue.messages.clone(),
        outcomes: episode.steps.iter().map(|step| step.outcome.to_string()).collect(),
        reward: episode.total_reward(),
    }
}
