//! One model on all splits and decodings.

use std::collections::{BTreeMap, BTreeSet};

use rl_core::random::RandomKey;
use rl_data::{ChatRecord, JsonlReader, Message};
use rl_envs::general_points::Deck;
use rl_envs::{Environment, EnvironmentConfig};
use rl_models::generate::FinishReason;
use rl_models::{ChatModel, Episode, play_episodes};

use crate::config::{Decoding, EvaluationConfig, Split};
use crate::proportion::Proportion;
use crate::result::{AnswerLength, SplitResult, Transcript};
use crate::{Error, Result};

/// Gives finished answers a number, as a trained reward model does.
pub trait AnswerScorer {
    /// One score per pair of prompt and answer, in their order.
    ///
    /// # Errors
    /// Whatever keeps it from scoring; it ends the evaluation.
    fn score(
        &self,
        answers: &[(&[Message], &str)],
    ) -> std::result::Result<Vec<f64>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Everything that stays the same from model to model.
pub struct Protocol<'a> {
    config: &'a EvaluationConfig,
    scorer: Option<&'a dyn AnswerScorer>,
    /// Sorted card values of the training hands.
    trained_values: Option<BTreeSet<Vec<u8>>>,
}

impl<'a> Protocol<'a> {
    /// Prepares a protocol; reads the training data once. `scorer` is given exactly when the config names a reward model.
    ///
    /// # Errors
    /// Config errors; [`Error::File`] when a training row has no list `values`; [`Error::Scorer`] without the scorer.
    pub fn new(config: &'a EvaluationConfig, scorer: Option<&'a dyn AnswerScorer>) -> Result<Self> {
        config.validate()?;
        if config.reward_model.is_some() != scorer.is_some() {
            return Err(Error::Scorer("`reward_model` in the config and a scorer from the program go together".into()));
        }
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
        Ok(Protocol { config, scorer, trained_values })
    }

    /// Plays `model` everywhere; `on_finish` is called once per response.
    ///
    /// # Errors
    /// From the environment, generation and the scorer.
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
        let EvaluationConfig { seed, num_tasks, transcripts, .. } = *self.config;
        let build = |_| split.environment.build();
        let mut environments = (0..num_tasks).map(build).collect::<rl_envs::Result<Vec<Box<dyn Environment>>>>()?;
        let indices: Vec<u64> = (0..num_tasks).collect();
        let key = RandomKey::new(seed, "evaluation");
        let keys: Vec<RandomKey> = indices.iter().map(|&index| key.at(index)).collect();
        let sampling = &decoding.sampling;
        let episodes = play_episodes(model, &mut environments, seed, &indices, &keys, sampling, on_finish)?;

        let count = |matches: &dyn Fn(&Episode) -> bool| {
            Proportion::new(episodes.iter().filter(|episode| matches(episode)).count() as u64, num_tasks)
        };
        let mut outcomes = BTreeMap::new();
        for step in episodes.iter().flat_map(|episode| &episode.steps) {
            *outcomes.entry(step.outcome.to_string()).or_insert(0_u64) += 1;
        }
        let (seen_in_training, first_attempt_unseen) = self.by_training_data(split, &episodes)?;
        Ok(SplitResult {
            split: split.name.clone(),
            decoding: decoding.name.clone(),
            first_attempt: count(&Episode::is_first_attempt_success)?,
            within_attempts: count(&Episode::is_success)?,
            max_attempts: split.environment.max_attempts(),
            by_kind: by_kind(&environments, &episodes)?,
            process_accuracy: process_accuracy(&environments, &episodes)?,
            outcomes,
            reward_mean: episodes.iter().map(Episode::total_reward).sum::<f64>() / num_tasks as f64,
            answer_length: answer_length(&episodes)?,
            model_rewards: self.scorer.map(|scorer| model_rewards(scorer, &episodes)).transpose()?,
            seen_in_training,
            first_attempt_unseen,
            solved_first: episodes.iter().filter(|e| e.is_first_attempt_success()).map(|e| e.index).collect(),
            transcripts: episodes.iter().take(transcripts).map(transcript).collect(),
        })
    }

    /// The share of hands whose values stand in the training data, and success among the others.
    fn by_training_data(
        &self,
        split: &Split,
        episodes: &[Episode],
    ) -> Result<(Option<Proportion>, Option<Proportion>)> {
        let (Some(trained), EnvironmentConfig::GeneralPoints(game)) = (&self.trained_values, &split.environment) else {
            return Ok((None, None));
        };
        let deck = Deck::new(game)?;
        let mut unseen = Vec::new();
        for episode in episodes {
            let mut values = deck.deal(self.config.seed, episode.index)?.numbers().to_vec();
            values.sort_unstable();
            if !trained.contains(&values) {
                unseen.push(episode);
            }
        }
        let (all, trials) = (episodes.len() as u64, unseen.len() as u64);
        let solved = unseen.iter().filter(|episode| episode.is_first_attempt_success()).count() as u64;
        let among_unseen = if trials == 0 { None } else { Some(Proportion::new(solved, trials)?) };
        Ok((Some(Proportion::new(all - trials, all)?), among_unseen))
    }
}

/// First-attempt success by the class of the task, where the environment has classes.
fn by_kind(environments: &[Box<dyn Environment>], episodes: &[Episode]) -> Result<BTreeMap<String, Proportion>> {
    let mut counts: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (environment, episode) in environments.iter().zip(episodes) {
        let Some(kind) = environment.task_kind() else { continue };
        let (solved, all) = counts.entry(kind.to_owned()).or_default();
        *solved += u64::from(episode.is_first_attempt_success());
        *all += 1;
    }
    counts.into_iter().map(|(kind, (solved, all))| Ok((kind, Proportion::new(solved, all)?))).collect()
}

/// Tasks whose first answer is right in every step, where the environment judges steps.
fn process_accuracy(environments: &[Box<dyn Environment>], episodes: &[Episode]) -> Result<Option<Proportion>> {
    let mut judged = Vec::new();
    for (environment, episode) in environments.iter().zip(episodes) {
        let answer = episode.dialogues().next().and_then(|dialogue| dialogue.turns.first());
        judged.extend(environment.process_correct(answer.map_or("", |turn| turn.text.as_str())));
    }
    let sound = judged.iter().filter(|&&sound| sound).count() as u64;
    if judged.is_empty() { Ok(None) } else { Ok(Some(Proportion::new(sound, judged.len() as u64)?)) }
}

fn answer_length(episodes: &[Episode]) -> Result<AnswerLength> {
    let turns = || episodes.iter().flat_map(Episode::dialogues).flat_map(|dialogue| &dialogue.turns);
    let count = turns().count() as u64;
    let tokens: usize = turns().map(|turn| turn.log_probs.len()).sum();
    let is_cut = |reason| matches!(reason, FinishReason::Length | FinishReason::Context);
    let cut = turns().filter(|turn| is_cut(turn.finish_reason)).count() as u64;
    Ok(AnswerLength { mean_tokens: tokens as f64 / count.max(1) as f64, truncated: Proportion::new(cut, count)? })
}

/// The scorer's number for each first answer, `[tasks]`.
fn model_rewards(scorer: &dyn AnswerScorer, episodes: &[Episode]) -> Result<Vec<f64>> {
    let mut answers = Vec::with_capacity(episodes.len());
    for episode in episodes {
        let Some(dialogue) = episode.dialogues().next() else { continue };
        // The first answer stands after the messages it was asked with: each turn adds one, each feedback another.
        let first = dialogue.messages.iter().position(|message| message.role == rl_data::Role::Assistant);
        let prompt = &dialogue.messages[..first.unwrap_or(dialogue.messages.len())];
        answers.push((prompt, dialogue.turns.first().map_or("", |turn| turn.text.as_str())));
    }
    let scores = scorer.score(&answers).map_err(Error::Scorer)?;
    if scores.len() != answers.len() {
        return Err(Error::Scorer(format!("{} scores for {} answers", scores.len(), answers.len()).into()));
    }
    Ok(scores)
}

fn transcript(episode: &Episode) -> Transcript {
    Transcript {
        task: episode.index,
        messages: episode.dialogues().flat_map(|dialogue| &dialogue.messages).cloned().collect(),
        outcomes: episode.steps.iter().map(|step| step.outcome.to_string()).collect(),
        reward: episode.total_reward(),
    }
}

#[cfg(test)]
mod tests {
    use rl_envs::Preset;
    use rl_models::{Dialogue, Turn};
    use serde_json::Map;

    use super::*;

    /// An episode of one answer.
    fn answered(text: &str) -> Episode {
        let turn = Turn {
            start: 0,
            log_probs: Vec::new(),
            full_log_probs: Vec::new(),
            text: text.into(),
            finish_reason: FinishReason::StopId,
        };
        let dialogue = Dialogue { messages: Vec::new(), columns: Map::new(), ids: Vec::new(), turns: vec![turn] };
        Episode { index: 0, earlier: Vec::new(), dialogue, steps: Vec::new() }
    }

    #[test]
    fn a_right_number_is_not_yet_right_reasoning() {
        let play = |_| {
            let mut environment = Preset::Igsm.config().build().unwrap();
            environment.reset(1, 2).unwrap();
            environment
        };
        let right = play(0).expert().unwrap();
        // The right number behind a chain of reasoning with one false number in it.
        let (head, last) = right.rsplit_once(" = ").unwrap();
        let wrong = format!("{head} = 1{last}");
        assert!(play(0).step(&wrong).unwrap().success);
        let environments: Vec<_> = (0..3).map(play).collect();
        let episodes = [right.as_str(), &wrong, ""].map(answered);
        let found = process_accuracy(&environments, &episodes).unwrap().unwrap();
        assert_eq!((found.successes, found.trials), (1, 3));

        let cards = vec![Preset::GeneralPoints.config().build().unwrap()];
        assert_eq!(process_accuracy(&cards, &[answered(&right)]).unwrap(), None);
    }
}
