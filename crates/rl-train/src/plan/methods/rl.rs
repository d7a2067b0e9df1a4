//! Reinforcement learning: what is answered is known, the answers are taken to be as long as they may be.

use rl_data::{Message, Renderer};
use rl_envs::EnvironmentConfig;
use rl_models::ModelConfig;
use rl_track::ConfigError;
use tch::Device;

use super::renderer;
use crate::batch::TrainingRow;
use crate::config::{CriticConfig, CriticStart, PromptsConfig, RlConfig, TaskConfig, ValueHeadConfig};
use crate::plan::measure::{Measured, measure};
use crate::plan::methods::row_passes;
use crate::plan::models::{ModelFiles, PlannedModel, policy, reference};
use crate::plan::{FilePlan, HeadKind, Models, PassShape, Planned, RolloutShape, Work};
use crate::reward::{RewardConfig, SourceKind};
use crate::rl::Rl;
use crate::rl::source::{PromptTask, read_prompts};
use crate::trainer::Method;
use crate::{Error, Result};

/// Tasks of an environment that are looked at, and most turns of one.
const EPISODES: u64 = 64;
const MAX_TURNS: usize = 64;
/// Rows that the largest pass is laid out from at most.
const MAX_ROWS: usize = 1024;

/// Tasks as tokens.
struct Tasks {
    files: Vec<FilePlan>,
    /// Tokens of the longest first prompt.
    prompt: usize,
    /// Tokens of the longest row when every turn is answered with 0 tokens, and turns of it.
    without_answers: usize,
    turns: usize,
}

impl Planned for RlConfig {
    fn method(&self) -> &'static str {
        "rl"
    }

    fn models(&self) -> Result<Models> {
        let (mut policy, renderer) = policy(&self.model)?;
        if let Some(CriticConfig::Shared { head, .. }) = &self.critic {
            policy.add_head("value_head", value_head(*head, &policy.config), true);
        }
        let config = policy.config.clone();
        let mut list = vec![policy];
        if self.needs_reference() {
            list.extend(reference("reference", self.reference.as_deref(), &self.model, &config)?);
        }
        if let Some(CriticConfig::Own { start, dtype, lora, .. }) = &self.critic {
            let (key, wants_score) = match start {
                CriticStart::LanguageModel(_) => ("critic.start.language_model", false),
                CriticStart::RewardModel(_) => ("critic.start.reward_model", true),
            };
            let files = ModelFiles::open(key, start.path())?;
            if files.is_reward_model() != wants_score {
                let message =
                    "does not hold what its name says; `reward_model` scores, `language_model` predicts tokens";
                let value = start.path().display().to_string();
                return Err(ConfigError { key: key.into(), value, message: message.into() }.into());
            }
            let mut critic = PlannedModel::new("critic", &files.config, *dtype, lora.is_none());
            if let Some(lora) = lora {
                critic.add_adapters("critic.lora.target_modules", lora)?;
            }
            critic.add_head("value_head", value_head(ValueHeadConfig::Linear, &files.config), true);
            list.push(critic);
        }
        for (name, source) in crate::rl::reward_models::configured(self.reward.as_ref()) {
            let key = format!("reward.sources[{name}].source.path");
            let files = ModelFiles::open(&key, &source.path)?;
            if !files.is_reward_model() {
                return Err(Error::input(&key, &source.path, "train one with `reward_model`".into())(
                    Error::NotARewardModel { path: source.path.clone() },
                ));
            }
            let model = PlannedModel::new(format!("reward model {name}"), &files.config, source.dtype, false);
            list.push(model.with_score(false));
        }
        Ok(Models { list, renderer: Some(renderer) })
    }

    fn head(&self) -> HeadKind {
        let has_entropies = self.entropy.is_some() || self.selection.top_entropy_fraction.is_some();
        if has_entropies { HeadKind::Entropies } else { HeadKind::LogProbs }
    }

    fn max_length(&self) -> Option<(&'static str, usize)> {
        match &self.rollout.task {
            // An answer needs a place of its own.
            TaskConfig::Prompts(prompts) => Some(("rollout.task.max_length", prompts.max_length.saturating_add(1))),
            TaskConfig::Environment { .. } => None,
        }
    }

    fn unit_bound(&self) -> Option<(usize, usize)> {
        None
    }

    fn work(&self, models: &Models) -> Result<Work> {
        let (renderer, config) = (renderer(models)?, &models.list[0].config);
        let tasks = tasks("rollout.task", &self.rollout.task, self.seed, renderer, self.reward.as_ref())?;
        let mut files = tasks.files;
        if let Some(validation) = &self.validation {
            let held_out =
                self::tasks("validation.task", &validation.task, validation.seed, renderer, self.reward.as_ref())?;
            files.extend(held_out.files.into_iter().map(|file| FilePlan { epoch_rows: 0, ..file }));
        }
        let (count, group) = (self.rollout.prompts_per_step, self.rollout.group_size);
        let sampling = &self.rollout.sampling;
        let context = config.max_positions().unsigned_abs() as usize;
        let all = tasks.turns.saturating_mul(sampling.max_new_tokens).saturating_add(tasks.without_answers);
        let longest = all.min(context);
        let prompt = tasks.prompt.min(longest.saturating_sub(1));
        let largest = largest_pass(config, prompt, longest, (count, group), self.training.micro_batch_tokens)?;
        let answers = (count * group) as u64;
        let rollout = RolloutShape {
            slots: (sampling.num_slots as u64).min(answers),
            prompt: prompt as u64,
            longest: longest as u64,
            prompts: count as u64,
        };
        Ok(Work {
            files,
            unit: "prompts",
            per_step: count,
            steps: self.training.max_steps.unwrap_or(0),
            largest,
            rollout: Some(rollout),
            new_config: None,
        })
    }

    /// The first steps of the run: answers are not known before.
    fn measure(&self, device: Device) -> Result<Measured> {
        measure(Rl::build(self, device, None)?)
    }
}

fn value_head(head: ValueHeadConfig, config: &ModelConfig) -> u64 {
    let hidden = config.hidden_size.unsigned_abs();
    match head {
        ValueHeadConfig::Linear => hidden + 1,
        ValueHeadConfig::Network => {
            let (first, second) = ((hidden / 4).max(1), (hidden / 8).max(1));
            (hidden + 1) * first + (first + 1) * second + second + 1
        }
    }
}

/// The largest micro-batch of a rollout whose answers are all as long as they may be.
fn largest_pass(
    config: &ModelConfig,
    prompt: usize,
    longest: usize,
    (count, group): (usize, usize),
    max_tokens: usize,
) -> Result<PassShape> {
    let vocab = config.vocab_size.max(1);
    let row = |index: usize| {
        // Answers of a group share their prompt and nothing else.
        let answer = (index % group.max(1)) as i64 % vocab;
        TrainingRow {
            id: index as u64,
            ids: (0..longest).map(|place| if place < prompt { 0 } else { answer }).collect(),
            trainable: (0..longest).map(|place| prompt <= place).collect(),
            group: Some((index / group.max(1)) as u64),
        }
    };
    let rows = count.saturating_mul(group).min(MAX_ROWS).min(max_tokens / (longest - prompt).max(1) + group + 1);
    let rows: Vec<TrainingRow> = (0..rows).map(row).collect();
    let rows: Vec<&TrainingRow> = rows.iter().collect();
    let mut largest = PassShape::default();
    for pass in row_passes(&rows, max_tokens) {
        let shape = PassShape::of(&pass, config)?;
        largest = if largest.tokens < shape.tokens { shape } else { largest };
    }
    Ok(largest)
}

fn tasks(key: &str, task: &TaskConfig, seed: u64, renderer: &Renderer, reward: Option<&RewardConfig>) -> Result<Tasks> {
    match task {
        TaskConfig::Prompts(prompts) => prompt_tasks(key, prompts, renderer, reward),
        TaskConfig::Environment { environment } => episodes(key, environment, seed, renderer),
    }
}

fn prompt_tasks(
    key: &str,
    prompts: &PromptsConfig,
    renderer: &Renderer,
    reward: Option<&RewardConfig>,
) -> Result<Tasks> {
    let (loaded, dropped) = read_prompts(key, prompts, renderer)?;
    let epoch_rows = loaded.epoch_rows()?;
    let mut files = Vec::with_capacity(loaded.train.len());
    for ((file, dropped), epoch_rows) in loaded.train.iter().zip(dropped).zip(epoch_rows) {
        let lengths: Vec<usize> = file.items.iter().map(|task| task.ids.len()).collect();
        let key = file.key.replacen(".data", "", 1);
        files.push(FilePlan { epoch_rows, ..FilePlan::of_prompts(&key, file.path.clone(), lengths, dropped) });
    }
    let tasks = loaded.into_train().items;
    check_fields(key, &tasks, reward)?;
    let prefix = renderer.tokenizer().encode(&prompts.response_prefix)?.len();
    let prompt = tasks.iter().map(|task| task.ids.len()).max().unwrap_or(0) + prefix;
    Ok(Tasks { files, prompt, without_answers: prompt, turns: 1 })
}

/// A field that a rule reads must be there in some row; a row without it has no score, which is legal.
fn check_fields(key: &str, tasks: &[PromptTask], reward: Option<&RewardConfig>) -> Result<()> {
    for source in reward.into_iter().flat_map(|reward| &reward.sources) {
        let field = match &source.source {
            SourceKind::Match(rule) => &rule.field,
            SourceKind::Contains(rule) => &rule.field,
            _ => continue,
        };
        if tasks.iter().any(|task| task.record.extra.contains_key(field)) {
            continue;
        }
        let there: Vec<&str> =
            tasks.first().into_iter().flat_map(|task| task.record.extra.keys().map(String::as_str)).collect();
        let beside = if there.is_empty() { "none".to_owned() } else { format!("`{}`", there.join("`, `")) };
        let message = format!("no row of `{key}.data` has such a field; beside the prompt its first has {beside}");
        return Err(ConfigError {
            key: format!("reward.sources[{}].source.field", source.name),
            value: field.clone(),
            message,
        }
        .into());
    }
    Ok(())
}

/// Plays the first episodes with an answer of one letter, for the lengths of their prompts and feedback.
fn episodes(key: &str, config: &EnvironmentConfig, seed: u64, renderer: &Renderer) -> Result<Tasks> {
    let mut environment = config.build()?;
    let mut found = Tasks { files: Vec::new(), prompt: 0, without_answers: 0, turns: 0 };
    let mut lengths = Vec::new();
    for index in 0..EPISODES {
        let said = |message: rl_envs::Message| match message.role {
            rl_envs::Role::System => Message::system(message.content),
            rl_envs::Role::User => Message::user(message.content),
            rl_envs::Role::Assistant => Message::assistant(message.content),
        };
        let mut messages: Vec<Message> = environment.reset(seed, index)?.messages.into_iter().map(said).collect();
        let first = renderer.prompt_ids(&messages)?.len();
        let (mut longest, mut turns) = (first, 1);
        while turns < MAX_TURNS {
            messages.push(Message::assistant("x"));
            let Some(feedback) = environment.step("x")?.feedback else { break };
            messages.push(said(feedback));
            longest = renderer.prompt_ids(&messages)?.len();
            turns += 1;
        }
        lengths.push(first);
        found.prompt = found.prompt.max(first);
        found.without_answers = found.without_answers.max(longest);
        found.turns = found.turns.max(turns);
    }
    // Episodes are made, without end.
    found.files = vec![FilePlan { epoch_rows: 0, ..FilePlan::of_prompts(key, environment.name().into(), lengths, 0) }];
    Ok(found)
}
