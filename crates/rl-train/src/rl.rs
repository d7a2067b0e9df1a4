//! Reinforcement learning in an environment: sample, score, advantages, clipped updates.

use std::path::Path;
use std::time::Instant;

use rl_core::advantages::{Whitening, group_relative_advantages, whiten};
use rl_core::policy_loss::clipped_policy_loss;
use rl_core::random::RandomKey;
use rl_core::returns::{EpisodeBoundary, episode_gae};
use rl_core::value_loss::clipped_value_loss;
use rl_envs::general_points::GeneralPoints;
use rl_envs::general_points::prompt::template_sha256;
use rl_models::checkpoint::{load_tensors, save_tensors};
use rl_models::{Episode, ValueHead, play_episodes, token_log_probs};
use rl_track::{Manifest, MetricsRow};
use serde::Serialize;
use serde_json::Value;
use tch::{Device, Tensor};

use crate::batch::{MicroBatch, TrainingRow, micro_batches};
use crate::checkpoint::{OPTIMIZER_FILE, Saved};
use crate::config::{Algorithm, RlConfig};
use crate::digest::Digest;
use crate::learner::{Learner, LearnerConfig, LearnerState};
use crate::policy::Policy;
use crate::sft::{input_model, save_averages, to_state};
use crate::statistics::UpdateStatistics;
use crate::trainer::{Method, StepReport, Trainer};
use crate::{Error, Result};

/// Largest `|ratio - 1|` allowed before the first update of a rollout: old log-probabilities come from the same forward
/// pass over the same micro-batches, so on the CPU the difference is exactly 0.
const FIRST_RATIO_LIMIT: f64 = 1e-5;
/// Added to the standard deviation of turn-level advantages.
const WHITENING_EPS: f64 = 1e-5;

/// File of the critic's head in a checkpoint.
const VALUE_HEAD_FILE: &str = "value_head.safetensors";

/// A run of GRPO or PPO.
pub type RlTrainer = Trainer<Rl>;

/// Reinforcement learning in an environment.
pub struct Rl {
    config: RlConfig,
    policy: Policy,
    value_head: Option<ValueHead>,
    learner: Learner,
    /// Rollouts done.
    step: u64,
}

/// One sequence of a rollout with all that its loss needs; per-label arrays are `[labels]`, per-turn arrays `[turns]`.
struct Sample {
    row: TrainingRow,
    /// Last prompt token of each turn: where the value head reads.
    value_positions: Vec<usize>,
    sampler_log_probs: Vec<f32>,
    old_log_probs: Vec<f32>,
    old_values: Vec<f32>,
    advantages: Vec<f32>,
    returns: Vec<f32>,
}

/// Advantages of one rollout before whitening, kept for the analysis of their distribution.
#[derive(Serialize)]
struct AdvantageRecord<'a> {
    step: u64,
    advantages: &'a [f32],
    rewards: &'a [f64],
}

impl Method for Rl {
    type Config = RlConfig;
    const NAME: &'static str = "rl";

    fn manifest(config: &RlConfig) -> Result<Manifest> {
        let manifest = Manifest::new()
            .seed("seed", config.seed)
            .input("prompt_template", template_sha256(config.environment.template));
        input_model(manifest, "model", config.model.path.as_deref())
    }

    fn build(config: &RlConfig, device: Device, resume: Option<&Saved>) -> Result<Self> {
        config.sampling.validate()?;
        let policy = Policy::load(&config.model, resume, config.seed, device, || Err(Error::NothingToTrain))?;
        let hidden = policy.decoder().config().hidden_size as usize;
        let value_head =
            matches!(config.algorithm, Algorithm::Ppo { .. }).then(|| ValueHead::new(hidden, config.seed, device));
        let mut parameters = policy.parameters();
        parameters.extend(value_head.iter().flat_map(ValueHead::parameters));
        let mut learner = Learner::new(parameters, &LearnerConfig::from(&config.training))?;
        let mut step = 0;
        if let Some(saved) = resume {
            let state: LearnerState = saved.method()?;
            learner.restore(&saved.folder().join(OPTIMIZER_FILE), state)?;
            if let Some(head) = &value_head {
                head.restore(&load_tensors(&saved.folder().join(VALUE_HEAD_FILE), Device::Cpu)?)?;
            }
            step = saved.state().step;
        }
        Ok(Rl { config: config.clone(), policy, value_head, learner, step })
    }

    fn max_steps(&self) -> u64 {
        self.config.training.max_steps.unwrap_or(0)
    }

    /// One step: play the hands, make advantages, take `update_epochs` passes of clipped updates.
    fn step(&mut self, step: u64) -> Result<StepReport> {
        self.step = step;
        let started = Instant::now();
        let episodes = self.rollout()?;
        let rollout_seconds = started.elapsed().as_secs_f64();
        let mut samples: Vec<Sample> = episodes.iter().map(Sample::new).collect();
        let whole: Vec<usize> = (0..samples.len()).collect();
        let minibatches = self.minibatches(&whole);
        for minibatch in &minibatches {
            self.score_old(&mut samples, minibatch)?;
        }
        let raw = self.set_advantages(&episodes, &mut samples)?;

        let mut statistics = UpdateStatistics::default();
        for epoch in 0..self.config.update_epochs {
            for (index, minibatch) in minibatches.iter().enumerate() {
                let update = self.update(&samples, minibatch, &mut statistics)?;
                if (epoch, index) == (0, 0) && FIRST_RATIO_LIMIT < update.ratio_deviation {
                    let (deviation, limit) = (update.ratio_deviation, FIRST_RATIO_LIMIT);
                    return Err(Error::RatioNotOne { deviation, limit });
                }
            }
        }
        let row = MetricsRow::new(step + 1, "train");
        let row = rollout_metrics(row, &episodes, &samples, &raw);
        let row = statistics.into_metrics(row);
        let num_tokens: usize = samples.iter().map(|sample| sample.row.num_labels()).sum();
        let row = row
            .with("learning_rate", self.config.training.learning_rate.learning_rate(step as usize))
            .with("num_tokens", num_tokens as f64)
            .with_timing("rollout_seconds", rollout_seconds);
        let value = |name: &str| row.get(name).unwrap_or(f64::NAN);
        let message = format!("reward {:.2} success {:.2}", value("reward_mean"), value("success_rate"));
        let mut digest = Digest::default();
        samples.iter().for_each(|sample| digest.ids(&sample.row.ids));
        digest.numbers(&raw);
        let mut report = StepReport::new(row, message, digest);
        self.record(step + 1, &episodes, &raw, &mut report)?;
        Ok(report)
    }

    fn evaluate(&mut self, _step: u64) -> Result<Vec<MetricsRow>> {
        Ok(Vec::new())
    }

    fn save(&self, folder: &Path) -> Result<()> {
        self.policy.write_into(folder)?;
        self.learner.save(&folder.join(OPTIMIZER_FILE))?;
        if let Some(head) = &self.value_head {
            let parameters = head.parameters();
            let borrowed: Vec<(&str, &Tensor)> =
                parameters.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            save_tensors(&folder.join(VALUE_HEAD_FILE), &borrowed)?;
        }
        save_averages(&self.policy, &self.learner, folder)
    }

    fn state(&self) -> Result<Value> {
        to_state(&self.learner.state())
    }
}

impl Rl {
    /// `prompts_per_step` new hands, `group_size` episodes each, those of one hand next to each other.
    fn rollout(&self) -> Result<Vec<Episode>> {
        let RlConfig { seed, prompts_per_step, environment, sampling, .. } = &self.config;
        let group_size = self.config.algorithm.group_size();
        let key = RandomKey::new(*seed, "rollout").at(self.step);
        let mut environments = Vec::new();
        let (mut indices, mut keys) = (Vec::new(), Vec::new());
        for prompt in 0..*prompts_per_step as u64 {
            for member in 0..group_size as u64 {
                environments.push(GeneralPoints::new(environment.clone())?);
                indices.push(self.step * *prompts_per_step as u64 + prompt);
                keys.push(key.at(prompt).at(member));
            }
        }
        Ok(play_episodes(&self.policy.chat, &mut environments, *seed, &indices, &keys, sampling, &mut |_| ())?)
    }

    /// The sequences of each update of an epoch: contiguous shares, so that a group stays together where it can.
    fn minibatches(&self, samples: &[usize]) -> Vec<Vec<usize>> {
        let size = samples.len().div_ceil(self.config.updates_per_epoch);
        samples.chunks(size).map(<[usize]>::to_vec).collect()
    }

    /// Old log-probabilities and values, by the forward pass and the micro-batches that the update will use.
    fn score_old(&self, samples: &mut [Sample], minibatch: &[usize]) -> Result<()> {
        let rows: Vec<TrainingRow> = minibatch.iter().map(|&index| samples[index].row.clone()).collect();
        for indices in micro_batches(&rows, self.config.training.micro_batch_tokens) {
            let micro = MicroBatch::new(self.policy.decoder(), &rows, indices)?;
            let chosen: Vec<usize> = micro.rows.iter().map(|&row| minibatch[row]).collect();
            // Recorded, though nothing is done with the graph: an unrecorded pass may run other kernels, whose last bits
            // differ, and the first ratio would not be 1. The update of this micro-batch needs the same memory anyway.
            let (log_probs, values) = self.forward(&micro, samples, &chosen)?;
            let (log_probs, values) = (log_probs.f_detach()?, values.map(|values| values.f_detach()).transpose()?);
            let mut log_probs = Vec::<f32>::try_from(&log_probs)?.into_iter();
            let mut values = values.map(|values| Vec::<f32>::try_from(&values)).transpose()?.map(Vec::into_iter);
            for index in chosen {
                let sample = &mut samples[index];
                sample.old_log_probs = log_probs.by_ref().take(sample.row.num_labels()).collect();
                if let Some(values) = &mut values {
                    sample.old_values = values.by_ref().take(sample.value_positions.len()).collect();
                }
            }
        }
        Ok(())
    }

    /// Log-probabilities `[labels]` and, with a value head, values `[turns]` of the chosen samples of a micro-batch.
    fn forward(&self, micro: &MicroBatch, samples: &[Sample], chosen: &[usize]) -> Result<(Tensor, Option<Tensor>)> {
        let decoder = self.policy.decoder();
        let hidden = decoder.hidden_states(&micro.packed)?;
        let temperature = self.config.sampling.temperature;
        let log_probs = token_log_probs(decoder, &hidden, &micro.label_rows, &micro.label_ids, temperature)?;
        let values = self.value_head.as_ref().map(|head| {
            let mut rows = Vec::new();
            for (sequence, &index) in chosen.iter().enumerate() {
                for &position in &samples[index].value_positions {
                    rows.push(micro.packed.row_of(sequence, position)? as i64);
                }
            }
            let rows = Tensor::from_slice(&rows).f_to_device(decoder.device())?;
            Ok::<_, Error>(head.forward(&hidden.f_index_select(0, &rows)?)?)
        });
        Ok((log_probs, values.transpose()?))
    }

    /// Fills advantages (and returns) of every sample; gives the raw advantages, one per episode or turn.
    fn set_advantages(&self, episodes: &[Episode], samples: &mut [Sample]) -> Result<Vec<f32>> {
        match self.config.algorithm {
            Algorithm::Grpo { group_size, std_eps } => {
                let rewards: Vec<Option<f64>> = episodes.iter().map(|episode| Some(episode.total_reward())).collect();
                let advantages = group_relative_advantages(&rewards, group_size, std_eps)?.advantages;
                for (sample, &advantage) in samples.iter_mut().zip(&advantages) {
                    sample.advantages = vec![advantage as f32; sample.row.num_labels()];
                }
                Ok(advantages.into_iter().map(|advantage| advantage as f32).collect())
            }
            Algorithm::Ppo { gamma, gae_lambda, .. } => {
                // Episodes end inside the rollout, so laid end to end they form one stream without a bootstrap value.
                let steps: Vec<_> = episodes.iter().flat_map(|episode| &episode.steps).collect();
                let rewards: Vec<f32> = steps.iter().map(|step| step.reward as f32).collect();
                let terminated: Vec<bool> = steps.iter().map(|step| step.terminated).collect();
                let truncated: Vec<bool> = steps.iter().map(|step| step.truncated).collect();
                let values: Vec<f32> = samples.iter().flat_map(|sample| sample.old_values.iter().copied()).collect();
                let boundary = EpisodeBoundary::TerminatedOrTruncated;
                let gae = episode_gae(&rewards, &values, 0.0, &terminated, &truncated, boundary, gamma, gae_lambda)?;
                let whitening = Whitening::standardized(WHITENING_EPS);
                let whitened = whiten(&gae.advantages, &vec![true; gae.advantages.len()], whitening)?;
                let mut turn = 0;
                for (sample, episode) in samples.iter_mut().zip(episodes) {
                    for played in &episode.dialogue.turns {
                        sample.advantages.extend(vec![whitened[turn]; played.log_probs.len()]);
                        sample.returns.push(gae.returns[turn]);
                        turn += 1;
                    }
                }
                Ok(gae.advantages)
            }
        }
    }

    /// One optimizer step over the samples of a minibatch.
    fn update(&mut self, samples: &[Sample], minibatch: &[usize], statistics: &mut UpdateStatistics) -> Result<Update> {
        let rows: Vec<TrainingRow> = minibatch.iter().map(|&index| samples[index].row.clone()).collect();
        let num_tokens: usize = rows.iter().map(TrainingRow::num_labels).sum();
        let num_turns: usize = minibatch.iter().map(|&index| samples[index].value_positions.len()).sum();
        let mut ratio_deviation = 0.0_f64;
        self.learner.zero_grad()?;
        for indices in micro_batches(&rows, self.config.training.micro_batch_tokens) {
            let micro = MicroBatch::new(self.policy.decoder(), &rows, indices)?;
            let chosen: Vec<usize> = micro.rows.iter().map(|&row| minibatch[row]).collect();
            let gather = |field: fn(&Sample) -> &[f32]| -> Vec<f32> {
                chosen.iter().flat_map(|&index| field(&samples[index]).iter().copied()).collect()
            };
            let (log_probs, values) = self.forward(&micro, samples, &chosen)?;
            let host = Vec::<f32>::try_from(&log_probs)?;
            let policy = clipped_policy_loss(
                &host,
                &gather(|sample| &sample.old_log_probs),
                &gather(|sample| &sample.advantages),
                &vec![true; host.len()],
                self.config.clip,
                num_tokens,
            )?;
            ratio_deviation = ratio_deviation.max((policy.ratio_max - 1.0).abs()).max((policy.ratio_min - 1.0).abs());
            statistics.add_policy(&policy);
            let grad = Tensor::from_slice(&policy.grad_log_probs).to_device(log_probs.device());
            let mut objective = (&log_probs * grad).sum(tch::Kind::Float);
            if let (Some(values), Algorithm::Ppo { value_coef, value_clip, .. }) = (&values, &self.config.algorithm) {
                let host = Vec::<f32>::try_from(values)?;
                let (old, returns) = (gather(|sample| &sample.old_values), gather(|sample| &sample.returns));
                let loss = clipped_value_loss(&host, &old, &returns, &vec![true; host.len()], *value_clip, num_turns)?;
                statistics.add_value(&loss);
                let grad = Tensor::from_slice(&loss.grad_values).to_device(values.device());
                objective += (values * grad).sum(tch::Kind::Float) * *value_coef;
            }
            objective.backward();
        }
        let update = self.learner.step(self.step)?;
        statistics.add_update(update.grad_norm.unwrap_or(0.0));
        Ok(Update { ratio_deviation })
    }

    fn record(&self, step: u64, episodes: &[Episode], raw: &[f32], report: &mut StepReport) -> Result<()> {
        for episode in episodes.iter().take(self.config.samples_per_step) {
            let outcomes: Vec<&str> = episode.steps.iter().map(|step| step.outcome).collect();
            let reward = episode.total_reward();
            report.samples.push(serde_json::json!({
                "hand": episode.index, "messages": episode.dialogue.messages, "outcomes": outcomes, "reward": reward,
            }));
        }
        let rewards: Vec<f64> = episodes.iter().map(Episode::total_reward).collect();
        let record = AdvantageRecord { step, advantages: raw, rewards: &rewards };
        let name = format!("advantages/step-{step:06}.json");
        let json = serde_json::to_vec(&record)
            .map_err(|error| Error::Resume { path: name.clone().into(), reason: error.to_string() })?;
        report.files.push((name, json));
        Ok(())
    }
}

struct Update {
    ratio_deviation: f64,
}

impl Sample {
    fn new(episode: &Episode) -> Self {
        let dialogue = &episode.dialogue;
        let mut trainable = vec![false; dialogue.ids.len()];
        for turn in &dialogue.turns {
            trainable[turn.range()].fill(true);
        }
        Sample {
            row: TrainingRow { id: episode.index, ids: dialogue.ids.clone(), trainable, group: Some(episode.index) },
            value_positions: dialogue.turns.iter().map(|turn| turn.start - 1).collect(),
            sampler_log_probs: dialogue.turns.iter().flat_map(|turn| turn.log_probs.iter().copied()).collect(),
            old_log_probs: Vec::new(),
            old_values: Vec::new(),
            advantages: Vec::new(),
            returns: Vec::new(),
        }
    }
}

fn rollout_metrics(row: MetricsRow, episodes: &[Episode], samples: &[Sample], raw: &[f32]) -> MetricsRow {
    let count = episodes.len() as f64;
    let mean = |value: &dyn Fn(&Episode) -> f64| episodes.iter().map(value).sum::<f64>() / count;
    let reward_mean = mean(&Episode::total_reward);
    let variance = mean(&|episode| (episode.total_reward() - reward_mean).powi(2));
    let first = |episode: &Episode| f64::from(u8::from(episode.steps.first().is_some_and(|step| step.success)));
    // How far sampling and training disagree on the same tokens: rounding alone, when both run the same kernels.
    let gaps = samples.iter().flat_map(|sample| sample.sampler_log_probs.iter().zip(&sample.old_log_probs));
    let gaps: Vec<f64> = gaps.map(|(sampler, trainer)| f64::from((sampler - trainer).abs())).collect();
    let advantage_mean = raw.iter().map(|&value| f64::from(value)).sum::<f64>() / raw.len() as f64;
    row.with("reward_mean", reward_mean)
        .with("reward_std", variance.sqrt())
        .with("success_rate", mean(&|episode| f64::from(u8::from(episode.is_success()))))
        .with("first_attempt_success_rate", mean(&first))
        .with("turns_per_episode", mean(&|episode| episode.steps.len() as f64))
        .with("response_tokens_per_turn", gaps.len() as f64 / (count * mean(&|episode| episode.steps.len() as f64)))
        .with("advantage_mean", advantage_mean)
        .with("sampler_gap_max", gaps.iter().copied().fold(0.0, f64::max))
        .with("sampler_gap_mean", gaps.iter().sum::<f64>() / gaps.len().max(1) as f64)
}

#[cfg(test)]
mod tests {
    use rl_envs::Step;
    use rl_models::generate::FinishReason;
    use rl_models::{Dialogue, Turn};

    use super::*;

    /// Prompt 1 2 3, response 4 5, feedback 6 7 8, response 9, feedback 10 11, response 12 13.
    #[test]
    fn only_sampled_tokens_are_trained() {
        let turn = |start, len| Turn {
            start,
            log_probs: (0..len).map(|offset| -(start as f32) - offset as f32).collect(),
            full_log_probs: vec![0.0; len],
            text: String::new(),
            finish_reason: FinishReason::StopId,
        };
        let dialogue = Dialogue {
            messages: Vec::new(),
            ids: (1..=13).collect(),
            turns: vec![turn(3, 2), turn(8, 1), turn(11, 2)],
        };
        let sample = Sample::new(&Episode { index: 0, dialogue, steps: Vec::<Step>::new() });
        let trained = sample.row.ids.iter().zip(&sample.row.trainable).filter(|(_, trained)| **trained);
        assert_eq!(trained.map(|(id, _)| *id).collect::<Vec<_>>(), [4, 5, 9, 12, 13]);
        assert_eq!(sample.row.num_labels(), 5);
        assert_eq!(sample.sampler_log_probs, [-3.0, -4.0, -8.0, -11.0, -12.0]);
        // The tokens 3, 8 and 11: what the policy saw last before it answered.
        assert_eq!(sample.value_positions, [2, 7, 10]);
    }
}
