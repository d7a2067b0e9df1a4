//! Reinforcement learning in an environment: sample, score, advantages, clipped updates.

use std::path::PathBuf;
use std::time::Instant;

use rl_core::advantages::{Whitening, group_relative_advantages, whiten};
use rl_core::policy_loss::clipped_policy_loss;
use rl_core::random::RandomKey;
use rl_core::returns::{EpisodeBoundary, episode_gae};
use rl_core::value_loss::clipped_value_loss;
use rl_envs::general_points::GeneralPoints;
use rl_envs::general_points::prompt::template_sha256;
use rl_models::{ChatModel, Episode, ValueHead, play_episodes, token_log_probs};
use rl_torch::{AdamW, clip_grad_norm, parse_device};
use rl_track::{Manifest, MetricsRow, Progress, Run, SampleWriter};
use serde::Serialize;
use tch::Tensor;

use crate::batch::{MicroBatch, TrainingRow, micro_batches};
use crate::checkpoint::{self, TrainingState};
use crate::config::{Algorithm, RlConfig};
use crate::interrupt::Interrupt;
use crate::recorder::{BegunRun, Recorder};
use crate::statistics::UpdateStatistics;
use crate::{Error, Finish, Result};

/// Largest `|ratio - 1|` allowed before the first update of a rollout: old log-probabilities come from the same forward
/// pass over the same micro-batches, so on the CPU the difference is exactly 0.
const FIRST_RATIO_LIMIT: f64 = 1e-5;
/// Added to the standard deviation of turn-level advantages.
const WHITENING_EPS: f64 = 1e-5;

/// A run of GRPO or PPO, ready to go on from its last checkpoint or from the start.
pub struct RlTrainer {
    config: RlConfig,
    run: Run,
    model: ChatModel,
    value_head: Option<ValueHead>,
    optimizer: AdamW,
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

impl RlTrainer {
    /// Loads the policy and opens the run's folder; an interrupted run continues from its last checkpoint.
    ///
    /// # Errors
    /// Config, model and file errors, each naming the key or file.
    pub fn new(config: RlConfig) -> Result<Self> {
        config.validate()?;
        config.environment.validate()?;
        config.sampling.validate()?;
        config.clip.validate()?;
        config.learning_rate.validate()?;
        let device = parse_device(&config.device)?;
        let manifest = Manifest::new()
            .seed("seed", config.seed)
            .input_path("model", &config.model)?
            .input("prompt_template", template_sha256(config.environment.template));
        let run = Run::open(&config.run, &config, manifest)?;
        let begun = BegunRun::new(&run);
        let resume_from = checkpoint::latest(&run)?;
        let model = ChatModel::load(resume_from.as_deref().unwrap_or(&config.model), device)?;
        model.decoder.set_trainable(true);
        let hidden = model.decoder.config().hidden_size as usize;
        let value_head =
            matches!(config.algorithm, Algorithm::Ppo { .. }).then(|| ValueHead::new(hidden, config.seed, device));
        let mut parameters = model.decoder.parameters();
        parameters.extend(value_head.iter().flat_map(ValueHead::parameters));
        let mut optimizer = AdamW::new(parameters, config.optimizer);
        let mut step = 0;
        if let Some(folder) = &resume_from {
            let state = checkpoint::read_state(folder)?;
            checkpoint::restore(folder, &state, &mut optimizer, value_head.as_ref())?;
            tracing::info!("resuming after step {} from {}", state.step, folder.display());
            step = state.step;
        }
        begun.keep();
        Ok(RlTrainer { config, run, model, value_head, optimizer, step })
    }

    /// Trains to `max_steps`, or to the checkpoint that an interrupt asks for.
    ///
    /// # Errors
    /// The first error, with its step; the last checkpoint stays valid.
    pub fn run(&mut self, interrupt: &Interrupt, progress: &Progress) -> Result<Finish> {
        let mut recorder = Recorder::open(&self.run, progress, "rl", self.step, self.config.max_steps)?;
        let mut samples = self.run.samples(1, self.config.samples_per_step.max(1))?;
        while self.step < self.config.max_steps {
            let row = self.step(&mut samples).map_err(|error| error.at_step(self.step + 1))?;
            recorder.write(&row)?;
            let value = |name: &str| row.get(name).unwrap_or(f64::NAN);
            recorder.advance(format!("reward {:.2} success {:.2}", value("reward_mean"), value("success_rate")));
            let stop = interrupt.raised(); // asked once: a signal that comes later has the next step's checkpoint
            if self.is_due(self.step) || stop {
                recorder.sync()?;
                self.save()?;
            }
            if stop && self.step < self.config.max_steps {
                return Ok(Finish::Interrupted { step: self.step });
            }
        }
        checkpoint::tidy(&self.run, self.step, |step| self.is_due(step))?;
        Ok(Finish::Complete { step: self.step })
    }

    /// One step: play the hands, make advantages, take `update_epochs` passes of clipped updates.
    fn step(&mut self, writer: &mut SampleWriter) -> Result<MetricsRow> {
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
        self.step += 1;
        self.record(&episodes, &raw, writer)?;
        let row = MetricsRow::new(self.step, "train");
        let row = rollout_metrics(row, &episodes, &samples, &raw);
        let row = statistics.into_metrics(row);
        let num_tokens: usize = samples.iter().map(|sample| sample.row.num_labels()).sum();
        let seconds = started.elapsed().as_secs_f64();
        Ok(row
            .with("learning_rate", self.config.learning_rate.learning_rate(self.step as usize - 1))
            .with_timing("seconds", seconds)
            .with_timing("rollout_seconds", rollout_seconds)
            .with_timing("response_tokens_per_second", num_tokens as f64 / seconds))
    }

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
        Ok(play_episodes(&self.model, &mut environments, *seed, &indices, &keys, sampling, &mut |_| ())?)
    }

    /// The sequences of each update of an epoch: contiguous shares, so that a group stays together where it can.
    fn minibatches(&self, samples: &[usize]) -> Vec<Vec<usize>> {
        let size = samples.len().div_ceil(self.config.updates_per_epoch);
        samples.chunks(size).map(<[usize]>::to_vec).collect()
    }

    /// Old log-probabilities and values, by the forward pass and the micro-batches that the update will use.
    fn score_old(&self, samples: &mut [Sample], minibatch: &[usize]) -> Result<()> {
        let rows: Vec<TrainingRow> = minibatch.iter().map(|&index| samples[index].row.clone()).collect();
        for indices in micro_batches(&rows, self.config.micro_batch_tokens) {
            let micro = MicroBatch::new(&self.model, &rows, indices)?;
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
        let decoder = &self.model.decoder;
        let hidden = decoder.hidden_states(&micro.packed)?;
        let temperature = self.config.sampling.temperature;
        let log_probs = token_log_probs(decoder, &hidden, &micro.label_rows, &micro.label_ids, temperature)?;
        let values = self.value_head.as_ref().map(|head| {
            let rows = chosen.iter().zip(&micro.packed.boundaries).flat_map(|(&index, &start)| {
                samples[index].value_positions.iter().map(move |&position| (start + position) as i64)
            });
            let rows = Tensor::from_slice(&rows.collect::<Vec<_>>()).to_device(decoder.device());
            head.forward(&hidden.index_select(0, &rows))
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
        self.optimizer.zero_grad()?;
        for indices in micro_batches(&rows, self.config.micro_batch_tokens) {
            let micro = MicroBatch::new(&self.model, &rows, indices)?;
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
        let grad_norm = clip_grad_norm(self.optimizer.parameters(), self.config.max_grad_norm)?;
        statistics.add_update(grad_norm);
        self.optimizer.step(self.config.learning_rate.learning_rate(self.step as usize))?;
        Ok(Update { ratio_deviation })
    }

    fn record(&self, episodes: &[Episode], raw: &[f32], writer: &mut SampleWriter) -> Result<()> {
        for episode in episodes.iter().take(self.config.samples_per_step) {
            let outcomes: Vec<&str> = episode.steps.iter().map(|step| step.outcome).collect();
            let reward = episode.total_reward();
            let sample = serde_json::json!({
                "hand": episode.index, "messages": episode.dialogue.messages, "outcomes": outcomes, "reward": reward,
            });
            writer.write(self.step, &sample)?;
        }
        let rewards: Vec<f64> = episodes.iter().map(Episode::total_reward).collect();
        let record = AdvantageRecord { step: self.step, advantages: raw, rewards: &rewards };
        let folder = self.run.folder().join("advantages");
        std::fs::create_dir_all(&folder).map_err(Error::file("create", &folder))?;
        let json = serde_json::to_vec(&record)
            .map_err(|error| Error::Resume { path: folder.clone(), reason: error.to_string() })?;
        Ok(rl_track::atomic::write_atomically(&folder.join(format!("step-{:06}.json", self.step)), &json)?)
    }

    /// Whether the state after `step` is kept for good.
    fn is_due(&self, step: u64) -> bool {
        self.config.checkpoints.is_due(step, self.config.max_steps)
    }

    fn save(&self) -> Result<PathBuf> {
        let state = TrainingState { step: self.step, num_updates: self.optimizer.num_steps(), cursor: None };
        checkpoint::save(&self.run, &self.model, &self.optimizer, self.value_head.as_ref(), &state, |step| {
            self.is_due(step)
        })
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
            row: TrainingRow { ids: dialogue.ids.clone(), trainable },
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
