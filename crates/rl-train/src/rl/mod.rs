//! Reinforcement learning: sample, score, advantages, updates. One loop for PPO and for the critic-free family.
//!
//! The step is [`Rl::step`]; around it: where tasks come from (`source`), one answer (`trajectory`), what is known of the
//! sampled tokens (`experience`), rewards to advantages (`credit`), the critic (`critic`), one optimizer step (`update`).

mod credit;
mod critic;
mod experience;
mod pretrain;
pub(crate) mod reward_models;
mod scoring;
pub(crate) mod source;
mod statistics;
mod trajectory;
mod update;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use rl_core::entropy::EntropyController;
use rl_core::kl::KlController;
use rl_core::random::RandomKey;
use rl_data::Cursor;
use rl_envs::EnvironmentConfig;
use rl_envs::general_points::prompt::template_sha256;
use rl_models::ChatModel;
use rl_models::generate::SamplingConfig;
use rl_track::{Manifest, MetricsRow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::Device;

use crate::checkpoint::{OPTIMIZER_FILE, Saved};
use crate::config::{CriticConfig, KlPlace, RlConfig, TaskConfig};
use crate::data::input_data;
use crate::digest::Digest;
use crate::learner::{Learner, LearnerConfig, LearnerState};
use crate::policy::{Policy, Reference};
use crate::reward::{CustomRewards, Prompt, RewardRequest, ScoredBatch};
use crate::sft::{input_model, save_averages, to_state};
use crate::trainer::{Method, StepReport, Trainer};
use crate::{Error, Result};

use credit::AdvantageRecord;
use critic::Critic;
use experience::Experience;
use pretrain::Pretrain;
use reward_models::RewardModels;
use scoring::Scoring;
pub use source::Sampler;
use source::{Source, SourceState};
use statistics::UpdateStatistics;
use trajectory::Trajectory;

/// What an evaluation gives: of answers in an environment where it `plays`, else to prompts, and of each source of reward.
pub(crate) fn measured<'a>(plays: bool, sources: impl Iterator<Item = &'a str>) -> Vec<String> {
    let always = [
        "reward_mean",
        "reward_std",
        "turns_per_episode",
        "response_tokens_per_turn",
        "truncated_fraction",
        "unscorable",
    ];
    let played = ["success_rate", "first_attempt_success_rate"].into_iter().filter(|_| plays);
    let of_source = |source: &str| ["mean", "timed_out", "invalid"].map(|what| format!("reward/{source}/{what}"));
    always.into_iter().chain(played).map(String::from).chain(sources.flat_map(of_source)).collect()
}

/// A run of reinforcement learning.
pub type RlTrainer = Trainer<Rl>;

/// Reinforcement learning.
pub struct Rl {
    config: RlConfig,
    policy: Policy,
    reference: Option<Reference>,
    critic: Option<Critic>,
    learner: Learner,
    source: Source,
    /// The tasks of evaluations, from their first; read by the first of them.
    validation: Option<Source>,
    scoring: Option<Scoring>,
    reward_models: RewardModels,
    pretrain: Option<Pretrain>,
    kl: Option<KlController>,
    entropy: Option<EntropyController>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RlState {
    learner: LearnerState,
    critic: LearnerState,
    source: SourceState,
    #[serde(default)]
    pretrain: Option<Cursor>,
    kl: Option<KlController>,
    entropy: Option<EntropyController>,
}

/// Answers to the tasks of one round; the greedy answers' rewards are `[tasks]`.
struct Sampled {
    answers: Vec<Trajectory>,
    greedy_rewards: Option<Vec<Option<f64>>>,
}

/// Answers of one step with what their sampling and scoring was like.
struct Rollout {
    trajectories: Vec<Trajectory>,
    greedy_rewards: Option<Vec<Option<f64>>>,
    scored: Vec<ScoredBatch>,
    /// Of the greedy answers.
    greedy_scored: Vec<ScoredBatch>,
    groups_dropped: usize,
    sampling_seconds: f64,
    reward_seconds: f64,
}

impl Method for Rl {
    type Config = RlConfig;
    const NAME: &'static str = "rl";

    fn manifest(config: &RlConfig) -> Result<Manifest> {
        let mut manifest = Manifest::new().seed("seed", config.seed);
        manifest = input_model(manifest, "model", config.model.path.as_deref())?;
        manifest = input_model(manifest, "reference", config.reference.as_deref())?;
        if let Some(CriticConfig::Own { start, .. }) = &config.critic {
            manifest = input_model(manifest, "critic", Some(start.path()))?;
        }
        let tasks = [("task", Some(&config.rollout.task)), ("validation", config.validation.as_ref().map(|v| &v.task))];
        for (name, task) in tasks {
            manifest = match task {
                Some(TaskConfig::Prompts(prompts)) => {
                    let key = if name == "task" { "rollout.task.data" } else { "validation.task.data" };
                    input_data(manifest, name, key, &prompts.data)?
                }
                Some(TaskConfig::Environment { environment: EnvironmentConfig::GeneralPoints(game) }) => {
                    manifest.input(format!("{name}.prompt_template"), template_sha256(game))
                }
                Some(TaskConfig::Environment { environment: EnvironmentConfig::Virl(walk) }) => {
                    let template = rl_envs::virl::prompt::template_sha256(walk.template);
                    manifest.input(format!("{name}.prompt_template"), template)
                }
                _ => manifest,
            };
        }
        if let Some(pretrain) = &config.pretrain {
            manifest = input_data(manifest, "pretrain", "pretrain.data", &pretrain.data)?;
        }
        for (name, path) in reward_models::paths(config.reward.as_ref()) {
            manifest = input_model(manifest, &format!("reward.{name}"), Some(path))?;
        }
        Ok(manifest)
    }

    fn build(config: &RlConfig, device: Device, resume: Option<&Saved>) -> Result<Self> {
        Rl::with_rewards(config, device, resume, CustomRewards::new())
    }

    fn connect(&mut self) -> Result<()> {
        self.scoring.as_mut().map_or(Ok(()), |scoring| scoring.connect().map(drop))
    }

    fn recall(&mut self, run: &Path, step: u64) -> Result<()> {
        self.scoring.as_mut().map_or(Ok(()), |scoring| scoring.recall(run, step))
    }

    fn max_steps(&self) -> u64 {
        self.config.training.max_steps.unwrap_or(0)
    }

    /// One step: answer the tasks, score the answers, make advantages, take the updates.
    fn step(&mut self, step: u64) -> Result<StepReport> {
        if let Some(scoring) = &mut self.scoring {
            scoring.begin_step();
        }
        let rollout = self.rollout(step)?;
        let trajectories = &rollout.trajectories;
        let mut experience = Experience::new(trajectories);
        experience.token_weights = self.token_weights(trajectories)?;
        let mut minibatches = self.prepare(step, &rollout, &mut experience)?;

        let mut statistics = UpdateStatistics::default();
        for epoch in 0..self.config.updates.epochs {
            if 0 < epoch && self.config.updates.shuffle {
                minibatches = self.reshuffled(step, epoch, trajectories, &experience)?;
            }
            for (index, minibatch) in minibatches.iter().enumerate() {
                let is_first = (epoch, index) == (0, 0);
                self.update(step, trajectories, &experience, minibatch, is_first, &mut statistics)?;
            }
        }
        let advantages = credit::record(&experience, self.config.turn_advantage.is_some());
        let row = self.measure(step, &rollout, &experience, &advantages, statistics)?;
        self.steer(&row, trajectories.len())?;
        self.report(step, rollout, advantages, row)
    }

    /// Answers the validation tasks.
    fn evaluate(&mut self, step: u64) -> Result<Vec<MetricsRow>> {
        let Some(validation) = self.config.validation.clone() else { return Ok(Vec::new()) };
        let training = &self.config.training;
        let tasks = match &self.validation {
            Some(tasks) => tasks,
            None => {
                let chat = &self.policy.chat;
                let tasks = Source::new("validation.task", &validation.task, chat, validation.seed, None, training)?;
                self.validation.insert(tasks)
            }
        };
        let mut source = tasks.from(tasks.state())?;
        let key = RandomKey::new(validation.seed, "validation");
        let (count, sampling) = (validation.num_prompts, &validation.sampling);
        let sample = |chat: &ChatModel| source.sample(chat, count, 1, validation.seed, key, 0, sampling);
        let mut trajectories = self.policy.sampling(sample)?;
        let scored: Vec<ScoredBatch> = self.score(&mut trajectories)?.into_iter().collect();
        let row = statistics::rollout_metrics(MetricsRow::new(step, "validation"), &trajectories);
        Ok(vec![statistics::reward_metrics(row, &scored, &[])])
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.policy.write_into(folder)?;
        self.learner.save(&folder.join(OPTIMIZER_FILE))?;
        if let Some(critic) = &self.critic {
            critic.save(folder)?;
        }
        save_averages(&self.policy, &self.learner, folder)
    }

    fn state(&self) -> Result<Value> {
        to_state(&RlState {
            learner: self.learner.state(),
            critic: self.critic.as_ref().map_or_else(LearnerState::default, Critic::state),
            source: self.source.state(),
            pretrain: self.pretrain.as_ref().map(Pretrain::cursor),
            kl: self.kl,
            entropy: self.entropy,
        })
    }
}

impl Rl {
    /// As [`Method::build`], with Rust rewards for the `custom` sources of the `[reward]` section.
    ///
    /// # Errors
    /// As [`Method::build`]; a source without its object, or an object without its source.
    pub fn with_rewards(
        config: &RlConfig,
        device: Device,
        resume: Option<&Saved>,
        custom: CustomRewards,
    ) -> Result<Self> {
        let state: Option<RlState> = resume.map(Saved::method).transpose()?;
        let policy = Policy::load(&config.model, resume, config.seed, device, || Err(Error::NothingToTrain))?;
        let needs_reference = config.needs_reference();
        let reference = needs_reference
            .then(|| Reference::load(&policy, config.reference.as_deref(), &config.model, device))
            .transpose()?;
        let critic_resume = resume.zip(state.as_ref()).map(|(saved, state)| (saved, state.critic));
        let critic = config
            .critic
            .as_ref()
            .map(|critic| Critic::new(critic, policy.decoder(), &config.training, config.seed, device, critic_resume));
        let critic = critic.transpose()?;
        let mut parameters = policy.parameters();
        parameters.extend(critic.iter().flat_map(Critic::shared_parameters));
        let learner_config = LearnerConfig::new(&config.training, config.training.max_steps.unwrap_or(0));
        let saved = resume.zip(state.as_ref().map(|state| state.learner));
        let learner = Learner::resume(parameters, &learner_config, saved)?;
        let (kl, entropy) = match &state {
            Some(state) => (state.kl, state.entropy),
            None => (config.kl.map(|kl| kl.controller), config.entropy),
        };
        let source_state = state.as_ref().map(|state| state.source);
        let (task, training) = (&config.rollout.task, &config.training);
        let source = Source::new("rollout.task", task, &policy.chat, config.seed, source_state, training)?;
        let scoring = config.reward.as_ref().map(|reward| Scoring::new(reward, custom));
        let micro_batch_tokens = config.training.micro_batch_tokens;
        let reward_models = RewardModels::load(config.reward.as_ref(), micro_batch_tokens, device)?;
        let cursor = state.as_ref().and_then(|state| state.pretrain);
        let load = |mix| Pretrain::load(mix, &policy.chat, config.seed, cursor, &config.training);
        let pretrain = config.pretrain.as_ref().map(load).transpose()?;
        let config = config.clone();
        Ok(Rl {
            config,
            policy,
            reference,
            critic,
            learner,
            source,
            scoring,
            reward_models,
            pretrain,
            kl,
            entropy,
            validation: None,
        })
    }

    /// Lets `sampler` answer the prompts, in training and not in validation. A replay answers with the run's own engine, so it
    /// agrees only if that gives the same answers.
    ///
    /// # Errors
    /// [`Error::NoPrompts`] when the task is an environment, which the model plays itself.
    pub fn set_sampler(&mut self, sampler: Box<dyn Sampler>) -> Result<()> {
        if self.source.set_sampler(sampler) { Ok(()) } else { Err(Error::NoPrompts) }
    }

    /// Answers `prompts_per_step` tasks, or as many as dynamic sampling takes, and scores the answers.
    fn rollout(&mut self, step: u64) -> Result<Rollout> {
        let config = &self.config.rollout;
        let (count, group_size) = (config.prompts_per_step, config.group_size);
        let mut rollout = Rollout {
            trajectories: Vec::new(),
            greedy_rewards: self.config.needs_greedy().then(Vec::new),
            scored: Vec::new(),
            greedy_scored: Vec::new(),
            groups_dropped: 0,
            sampling_seconds: 0.0,
            reward_seconds: 0.0,
        };
        let dynamic = config.dynamic_sampling;
        let mut first = 0;
        for round in 0.. {
            if dynamic.is_some_and(|dynamic| dynamic.max_rounds <= round) {
                let found = rollout.trajectories.len() / group_size;
                return Err(Error::TooFewGroups { found, wanted: count, rounds: round });
            }
            let Sampled { mut answers, greedy_rewards } = self.sample(step, count, group_size, first, &mut rollout)?;
            let started = Instant::now();
            rollout.scored.extend(self.score(&mut answers)?);
            rollout.reward_seconds += started.elapsed().as_secs_f64();
            first += count as u64;
            let rewards: Vec<Option<f64>> = answers.iter().map(|answer| answer.reward).collect();
            let mut kept = match &dynamic {
                Some(dynamic) => dynamic.filter.select(&rewards, group_size)?.kept,
                None => vec![true; count],
            };
            rollout.groups_dropped += kept.iter().filter(|&&kept| !kept).count();
            let mut room = count - rollout.trajectories.len() / group_size;
            for kept in kept.iter_mut().filter(|kept| **kept) {
                *kept = 0 < room;
                room = room.saturating_sub(1);
            }
            let answers = answers.into_iter().enumerate().filter(|(index, _)| kept[index / group_size]);
            rollout.trajectories.extend(answers.map(|(_, answer)| answer));
            if let (Some(greedy), Some(rewards)) = (greedy_rewards, &mut rollout.greedy_rewards) {
                rewards.extend(greedy.into_iter().zip(&kept).filter(|(_, kept)| **kept).map(|(reward, _)| reward));
            }
            if rollout.trajectories.len() == count * group_size {
                break;
            }
        }
        Ok(rollout)
    }

    /// Answers from the policy, with its adapters merged while it samples; and one greedy answer per task when the
    /// advantages need its reward.
    fn sample(
        &mut self,
        step: u64,
        count: usize,
        group_size: usize,
        first: u64,
        rollout: &mut Rollout,
    ) -> Result<Sampled> {
        let started = Instant::now();
        let seed = self.config.seed;
        let key = RandomKey::new(seed, "rollout").at(step);
        let before = self.source.state();
        let (config, source) = (&self.config, &mut self.source);
        let sampling = &config.rollout.sampling;
        let wants_greedy = rollout.greedy_rewards.is_some();
        let (answers, greedy) = self.policy.sampling(|chat| {
            let answers = source.sample(chat, count, group_size, seed, key, first, sampling)?;
            if !wants_greedy {
                return Ok((answers, None));
            }
            let sampling = SamplingConfig { temperature: 0.0, ..sampling.clone() };
            let mut again = source.from(before)?;
            Ok((answers, Some(again.sample(chat, count, 1, seed, key, first, &sampling)?)))
        })?;
        rollout.sampling_seconds += started.elapsed().as_secs_f64();
        let Some(mut greedy) = greedy else { return Ok(Sampled { answers, greedy_rewards: None }) };
        let scored = self.score(&mut greedy)?;
        rollout.greedy_scored.extend(scored);
        let greedy_rewards = Some(greedy.iter().map(|answer| answer.reward).collect());
        Ok(Sampled { answers, greedy_rewards })
    }

    /// Gives every answer its outcome reward: the environment's and the weighted sum of the sources.
    fn score(&mut self, answers: &mut [Trajectory]) -> Result<Option<ScoredBatch>> {
        let Some(scoring) = &mut self.scoring else {
            answers.iter_mut().for_each(|answer| answer.reward = answer.environment_reward);
            return Ok(None);
        };
        let group_size = self.config.rollout.group_size as u64;
        let mut requests: Vec<Arc<RewardRequest>> = Vec::with_capacity(answers.len());
        let mut member = 0;
        for (index, answer) in answers.iter().enumerate() {
            let is_next = 0 < index && answers[index - 1].row.id == answer.row.id;
            member = if is_next { member + 1 } else { 0 };
            requests.push(Arc::new(request(answer, answer.row.id * group_size + member)));
        }
        let groups: Vec<u64> = answers.iter().map(|answer| answer.row.id).collect();
        let models = &self.reward_models;
        let scored = scoring.score(&requests, || models.scores(&requests, &groups))?;
        for (index, answer) in answers.iter_mut().enumerate() {
            let total = scored.totals[index];
            answer.reward = total.map(|total| total + answer.environment_reward.unwrap_or(0.0));
            if let (Some(total), Some(turn)) = (total, answer.turns.last_mut()) {
                turn.reward += total;
            }
            let sources =
                scored.sources.iter().map(|source| (source.name.clone(), json!(source.scores[index].value())));
            answer.record.insert("scores".into(), Value::Object(sources.collect()));
            answer.scores = scored.sources.iter().map(|source| source.scores[index].value()).collect();
        }
        Ok(Some(scored))
    }

    /// Weight of each token in its action, where turns are actions.
    fn token_weights(&self, trajectories: &[Trajectory]) -> Result<Option<Vec<f64>>> {
        let Some(action) = &self.config.action else { return Ok(None) };
        let tokenizer = self.policy.chat.renderer.tokenizer();
        let mut weights = Vec::new();
        for trajectory in trajectories {
            weights.extend(trajectory.action_weights(action, tokenizer)?);
        }
        Ok(Some(weights))
    }

    /// Lets the controllers take note of the step.
    fn steer(&mut self, row: &MetricsRow, num_samples: usize) -> Result<()> {
        if let (Some(controller), Some(kl)) = (&mut self.kl, row.get("rollout_kl")) {
            controller.update(kl, num_samples)?;
        }
        if let (Some(controller), Some(entropy)) = (&mut self.entropy, row.get("entropy")) {
            controller.update(entropy)?;
        }
        Ok(())
    }

    fn measure(
        &self,
        step: u64,
        rollout: &Rollout,
        experience: &Experience,
        advantages: &[f32],
        statistics: UpdateStatistics,
    ) -> Result<MetricsRow> {
        let mut row = statistics::rollout_metrics(MetricsRow::new(step + 1, "train"), &rollout.trajectories);
        let by_turn = self.config.turn_advantage.is_some();
        row = statistics::experience_metrics(row, experience, advantages, by_turn);
        if self.config.rollout.dynamic_sampling.is_some() {
            row = row.with("groups_dropped", rollout.groups_dropped as f64);
        }
        row = statistics::reward_metrics(row, &rollout.scored, &rollout.greedy_scored);
        if let Some(kl) = &self.kl {
            row = row.with("kl_coef", kl.kl_coef());
        }
        if let Some(entropy) = &self.entropy {
            row = row.with("entropy_coef", entropy.entropy_coef());
        }
        let row = statistics.into_metrics(row);
        Ok(self
            .learner
            .report_skips(row)
            .with("learning_rate", self.learner.learning_rate(step))
            .with("num_tokens", experience.mask.len() as f64)
            .with_timing("rollout_seconds", rollout.sampling_seconds)
            .with_timing("reward_seconds", rollout.reward_seconds))
    }

    fn report(&mut self, step: u64, rollout: Rollout, advantages: Vec<f32>, row: MetricsRow) -> Result<StepReport> {
        let mut message = format!("reward {:.3}", row.get("reward_mean").unwrap_or(f64::NAN));
        if let Some(rate) = row.get("success_rate") {
            message += &format!(" success {rate:.2}");
        }
        let mut digest = Digest::default();
        rollout.trajectories.iter().for_each(|trajectory| digest.ids(&trajectory.row.ids));
        digest.numbers(&advantages);
        let mut report = StepReport::new(row, message, digest);
        for trajectory in rollout.trajectories.iter().take(self.config.rollout.samples_per_step) {
            let mut sample = trajectory.record.clone();
            sample.insert("messages".into(), json!(trajectory.messages));
            sample.insert("reward".into(), json!(trajectory.reward));
            report.samples.push(Value::Object(sample));
        }
        let rewards: Vec<Option<f64>> = rollout.trajectories.iter().map(|trajectory| trajectory.reward).collect();
        let record = AdvantageRecord { step: step + 1, advantages: &advantages, rewards: &rewards };
        let name = format!("advantages/step-{:06}.json", step + 1);
        let json = serde_json::to_vec(&record)
            .map_err(|error| Error::Resume { path: name.clone().into(), reason: error.to_string() })?;
        report.files.push((name, json));
        if let Some(scoring) = &mut self.scoring {
            report.files.extend(scoring.record(step)?);
        }
        Ok(report)
    }

    /// Whether the divergence from the reference is subtracted from the reward.
    fn kl_in_reward(&self) -> bool {
        self.config.kl.is_some_and(|kl| kl.place == KlPlace::Reward)
    }
}

impl Trainer<Rl> {
    /// As [`Trainer::new`], with Rust rewards for the `custom` sources of the `[reward]` section, by their names.
    ///
    /// # Errors
    /// As [`Trainer::new`]; a source without its object, or an object without its source.
    pub fn with_rewards(config: RlConfig, rewards: CustomRewards) -> Result<Self> {
        Self::with_method(config, |config, device, resume| Rl::with_rewards(config, device, resume, rewards))
    }
}

/// What rewards see of an answer: the conversation before it and its text.
fn request(answer: &Trajectory, sample: u64) -> RewardRequest {
    let (response, prompt) = match answer.messages.split_last() {
        Some((last, before)) => (last.content.clone(), before.to_vec()),
        None => (String::new(), Vec::new()),
    };
    RewardRequest {
        sample,
        prompt: Prompt::Messages(prompt),
        response,
        truncated: answer.truncated,
        metadata: answer.record.clone(),
    }
}
