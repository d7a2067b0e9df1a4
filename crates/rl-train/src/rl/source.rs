//! Where tasks come from, and the sampling of answers to them.

use std::cell::RefCell;
use std::collections::BTreeMap;

use rl_core::random::RandomKey;
use rl_data::{Conversation, Cursor, PromptRecord, Renderer, SelectionReport};
use rl_envs::{Environment, EnvironmentConfig};
use rl_models::generate::SamplingConfig;
use rl_models::{ChatModel, Dialogue, play_episodes};
use serde::{Deserialize, Serialize};

use super::trajectory::Trajectory;
use crate::config::{LongPrompts, PromptsConfig, TaskConfig, TrainingConfig};
use crate::data::{DataFile, Loaded, Rows, load};
use crate::examples::Examples;
use crate::{Error, Result};

/// An endless supply of tasks.
pub(crate) enum Source {
    /// Episodes, numbered.
    Environment {
        /// How environments are made.
        config: EnvironmentConfig,
        /// Number of the next episode.
        next: u64,
    },
    /// Prompts of a file, epoch by epoch.
    Prompts {
        /// In the order of the run.
        examples: Examples<PromptTask>,
        /// What every answer begins with, as ids.
        prefix: Vec<i64>,
        /// The same as text.
        prefix_text: String,
        /// Who answers.
        sampler: Box<dyn Sampler>,
    },
}

/// Answers prompts for the trainer. The built-in one is the model's own generation engine.
pub trait Sampler {
    /// Adds one answer to each dialogue, with the log-probability of each of its tokens; `keys[i]` names the draws of
    /// `dialogues[i]`.
    ///
    /// # Errors
    /// What ends the run.
    fn answer(
        &mut self,
        model: &ChatModel,
        dialogues: &mut [&mut Dialogue],
        keys: &[RandomKey],
        sampling: &SamplingConfig,
    ) -> Result<()>;
}

/// The generation engine of the model itself.
struct OwnEngine;

impl Sampler for OwnEngine {
    fn answer(
        &mut self,
        model: &ChatModel,
        dialogues: &mut [&mut Dialogue],
        keys: &[RandomKey],
        sampling: &SamplingConfig,
    ) -> Result<()> {
        Ok(model.respond(dialogues, keys, sampling, &mut |_| ())?)
    }
}

/// A prompt as ids.
#[derive(Debug, Clone)]
pub(crate) struct PromptTask {
    pub row: u64,
    pub record: PromptRecord,
    pub ids: Vec<i64>,
}

/// Where a source stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SourceState {
    Episode(u64),
    Prompt(Cursor),
}

impl Source {
    /// Reads the prompts, or remembers the environment; goes on where `state` stands. The configuration names the task under
    /// `key`.
    pub fn new(
        key: &str,
        task: &TaskConfig,
        chat: &ChatModel,
        seed: u64,
        state: Option<SourceState>,
        training: &TrainingConfig,
    ) -> Result<Self> {
        match task {
            TaskConfig::Environment { environment } => {
                let next = match state {
                    Some(SourceState::Episode(next)) => next,
                    _ => 0,
                };
                Ok(Source::Environment { config: environment.clone(), next })
            }
            TaskConfig::Prompts(prompts) => {
                let cursor = match state {
                    Some(SourceState::Prompt(cursor)) => Some(cursor),
                    _ => None,
                };
                let (tasks, _) = read_prompts(key, prompts, &chat.renderer)?;
                let examples = Examples::new(tasks.into_train(), seed, cursor, training)?;
                let prefix_text = prompts.response_prefix.clone();
                let prefix = chat.renderer.tokenizer().encode(&prefix_text)?.into_iter().map(i64::from).collect();
                Ok(Source::Prompts { examples, prefix, prefix_text, sampler: Box::new(OwnEngine) })
            }
        }
    }

    /// The same tasks from `state`, answered by the model itself.
    pub fn from(&self, state: SourceState) -> Result<Self> {
        Ok(match (self, state) {
            (Source::Environment { config, .. }, SourceState::Episode(next)) => {
                Source::Environment { config: config.clone(), next }
            }
            (Source::Environment { config, .. }, SourceState::Prompt(_)) => {
                Source::Environment { config: config.clone(), next: 0 }
            }
            (Source::Prompts { examples, prefix, prefix_text, .. }, state) => {
                let cursor = if let SourceState::Prompt(cursor) = state { cursor } else { Cursor::default() };
                let (prefix, prefix_text) = (prefix.clone(), prefix_text.clone());
                Source::Prompts { examples: examples.from(cursor)?, prefix, prefix_text, sampler: Box::new(OwnEngine) }
            }
        })
    }

    /// Lets another sampler answer prompts; false for an environment, which is played by the model itself.
    pub fn set_sampler(&mut self, replacement: Box<dyn Sampler>) -> bool {
        match self {
            Source::Environment { .. } => false,
            Source::Prompts { sampler, .. } => {
                *sampler = replacement;
                true
            }
        }
    }

    /// Where the source stands.
    pub fn state(&self) -> SourceState {
        match self {
            Source::Environment { next, .. } => SourceState::Episode(*next),
            Source::Prompts { examples, .. } => SourceState::Prompt(examples.cursor()),
        }
    }

    /// `group_size` answers to each of the next `count` tasks, those of one task next to each other. The answer `member`
    /// to task `i` draws by `key.at(first + i).at(member)`; groups are numbered from `first`.
    pub fn sample(
        &mut self,
        chat: &ChatModel,
        count: usize,
        group_size: usize,
        seed: u64,
        key: RandomKey,
        first: u64,
        sampling: &SamplingConfig,
    ) -> Result<Vec<Trajectory>> {
        let places = (first..first + count as u64).flat_map(|group| (0..group_size as u64).map(move |m| (group, m)));
        let keys: Vec<RandomKey> = places.map(|(group, member)| key.at(group).at(member)).collect();
        match self {
            Source::Environment { config, next } => {
                let indices = repeat(*next..*next + count as u64, group_size);
                *next += count as u64;
                let environments = indices.iter().map(|_| config.build()).collect::<rl_envs::Result<Vec<_>>>();
                let mut environments: Vec<Box<dyn Environment>> = environments?;
                let episodes = play_episodes(chat, &mut environments, seed, &indices, &keys, sampling, &mut |_| ());
                let episodes = episodes.map_err(|error| while_answering(error.into(), indices.iter().copied()))?;
                let groups = repeat(first..first + count as u64, group_size);
                let pairs = episodes.into_iter().zip(groups);
                Ok(pairs.map(|(episode, group)| Trajectory::from_episode(episode, group)).collect())
            }
            Source::Prompts { examples, prefix, prefix_text, sampler } => {
                let tasks = examples.next(count);
                let mut dialogues = Vec::with_capacity(tasks.len() * group_size);
                for task in &tasks {
                    for _ in 0..group_size {
                        let ids = [task.ids.as_slice(), prefix.as_slice()].concat();
                        let PromptRecord { prompt: messages, extra: columns } = task.record.clone();
                        dialogues.push(Dialogue { messages, columns, ids, turns: Vec::new() });
                    }
                }
                let mut borrowed: Vec<&mut Dialogue> = dialogues.iter_mut().collect();
                let answered = sampler.answer(chat, &mut borrowed, &keys, sampling);
                answered.map_err(|error| while_answering(error, tasks.iter().map(|task| task.row)))?;
                let mut trajectories = Vec::with_capacity(dialogues.len());
                for (index, mut dialogue) in dialogues.into_iter().enumerate() {
                    let task = tasks[index / group_size];
                    if let Some(answer) = dialogue.messages.last_mut() {
                        answer.content.insert_str(0, prefix_text);
                    }
                    let mut trajectory = Trajectory::from_dialogue(&dialogue, first + (index / group_size) as u64);
                    trajectory.record = task.record.extra.clone();
                    trajectory.record.insert("row".into(), task.row.into());
                    trajectories.push(trajectory);
                }
                Ok(trajectories)
            }
        }
    }
}

/// Names the tasks that were being answered when the model gave a number that is not finite.
fn while_answering(error: Error, tasks: impl Iterator<Item = u64>) -> Error {
    if !error.is_non_finite() {
        return error;
    }
    let mut tasks: Vec<u64> = tasks.collect();
    tasks.dedup();
    error.in_rows(tasks)
}

/// Every item `times` times.
fn repeat(items: std::ops::Range<u64>, times: usize) -> Vec<u64> {
    items.flat_map(|item| std::iter::repeat_n(item, times)).collect()
}

/// The prompts that are short enough, of the datasets that the configuration names under `key`, and how many of each were
/// not.
pub(crate) fn read_prompts(
    key: &str,
    config: &PromptsConfig,
    renderer: &Renderer,
) -> Result<(Loaded<PromptTask>, Vec<usize>)> {
    let dropped = RefCell::new(Vec::new());
    let loaded = load::<PromptRecord, _>(&format!("{key}.data"), &config.data, &BTreeMap::new(), |rows, _| {
        let (file, too_long) = short_prompts(rows, config, renderer)?;
        dropped.borrow_mut().push(too_long);
        Ok(file)
    })?;
    Ok((loaded, dropped.into_inner()))
}

fn short_prompts(
    rows: &Rows<PromptRecord>,
    config: &PromptsConfig,
    renderer: &Renderer,
) -> Result<(DataFile<PromptTask>, usize)> {
    let Rows { key, path, records, .. } = rows;
    rows.log_detection();
    let in_row = |row: usize, error: rl_data::Error| {
        let error = rl_data::Error::Row { row, source: Box::new(error) };
        Error::input(key, path, String::new())(error)
    };
    let mut tasks = Vec::with_capacity(records.len());
    for (place, record) in records.iter().enumerate() {
        let row = rows.number(place) + 1;
        let ids = match (config.plain, record.prompt.as_slice()) {
            (false, _) => renderer.prompt_example(record).map_err(|error| in_row(place, error))?.prompt_ids,
            (true, [message]) => {
                let variables = Conversation::from(record).variables().map_err(|error| in_row(place, error))?;
                let lost = variables.iter().find(|(_, value)| value.as_array().is_none_or(|list| !list.is_empty()));
                if let Some((name, _)) = lost {
                    return Err(Error::PlainVariable { path: path.clone(), row, name: name.clone() });
                }
                renderer.tokenizer().encode(&message.content)?
            }
            (true, messages) => {
                let found = messages.len();
                return Err(Error::PlainPrompt { path: path.clone(), row, found });
            }
        };
        let ids: Vec<i64> = ids.into_iter().map(i64::from).collect();
        if config.max_length < ids.len() {
            match config.too_long {
                LongPrompts::Drop => continue,
                LongPrompts::Error => {
                    let (length, limit) = (ids.len(), config.max_length);
                    return Err(Error::PromptTooLong { path: path.clone(), row, length, limit });
                }
            }
        }
        tasks.push(PromptTask { row: rows.id(place), record: record.clone(), ids });
    }
    let (kept, dropped) = (tasks.len(), records.len() - tasks.len());
    let limit = config.max_length;
    tracing::info!("{key} = {}: {kept} prompts kept, {dropped} above {limit} tokens dropped", path.display());
    if kept == 0 {
        let what = format!("all {dropped} prompts are above max_length = {limit} and were dropped");
        let reason = "no prompt is left; raise `max_length` or give shorter prompts";
        return Err(Error::input(key, path, String::new())(Error::UnsuitableData { what, reason }));
    }
    let report = SelectionReport { rows: records.len(), kept, ..SelectionReport::default() };
    Ok((DataFile { key: key.clone(), path: path.clone(), items: tasks, report }, dropped))
}
