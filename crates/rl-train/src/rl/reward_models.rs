//! Reward models among the sources of reward: they score on the training thread and its device.

use std::path::Path;
use std::sync::Arc;

use rl_core::reward_loss::RewardNormalizer;
use rl_data::{Message, Renderer, Seams, UnpairedRecord};
use rl_models::RewardModel;
use tch::Device;

use crate::batch::{MicroBatch, TrainingRow, micro_batches, to_host};
use crate::reward::{ExternalScores, ModelReward, Prompt, RewardConfig, RewardRequest, Score, SourceKind};
use crate::{Error, Result};

/// Mean and spread of a reward model's scores, beside its weights.
const STATISTICS_FILE: &str = "reward_statistics.json";

/// The frozen reward models of a run, by the names of their sources.
pub(super) struct RewardModels {
    models: Vec<(String, Frozen)>,
    micro_batch_tokens: usize,
}

struct Frozen {
    model: RewardModel,
    renderer: Renderer,
    normalizer: Option<RewardNormalizer>,
}

/// Names and folders of the reward models of a configuration.
pub(super) fn paths(config: Option<&RewardConfig>) -> impl Iterator<Item = (&str, &Path)> {
    configured(config).map(|(name, source)| (name, source.path.as_path()))
}

fn configured(config: Option<&RewardConfig>) -> impl Iterator<Item = (&str, &ModelReward)> {
    config.into_iter().flat_map(|config| &config.sources).filter_map(|source| match &source.source {
        SourceKind::RewardModel(model) => Some((source.name.as_str(), model)),
        _ => None,
    })
}

impl RewardModels {
    /// Loads what the configuration names.
    pub fn load(config: Option<&RewardConfig>, micro_batch_tokens: usize, device: Device) -> Result<Self> {
        let load = |(name, source): (&str, &ModelReward)| Ok((name.to_owned(), Frozen::load(source, device)?));
        Ok(RewardModels { models: configured(config).map(load).collect::<Result<_>>()?, micro_batch_tokens })
    }

    /// Scores of all requests by every model.
    pub fn scores(&self, requests: &[Arc<RewardRequest>]) -> Result<ExternalScores> {
        let of =
            |(name, model): &(String, Frozen)| Ok((name.clone(), model.scores(requests, self.micro_batch_tokens)?));
        self.models.iter().map(of).collect()
    }
}

impl Frozen {
    fn load(source: &ModelReward, device: Device) -> Result<Self> {
        let model = RewardModel::load(&source.path, source.dtype.kind(), device)?;
        model.decoder.set_trainable(false);
        let renderer = Renderer::from_folder(&source.path)?;
        let normalizer = source.normalized.then(|| statistics(&source.path)).transpose()?;
        Ok(Frozen { model, renderer, normalizer })
    }

    /// A request that cannot be rendered, or is longer than the model reads, has no score; the rest is not touched by it.
    fn scores(&self, requests: &[Arc<RewardRequest>], micro_batch_tokens: usize) -> Result<Vec<Score>> {
        let limit = self.model.decoder.config().max_positions() as usize;
        let mut scores = vec![Score::Invalid("failed: the answer has no token".into()); requests.len()];
        let mut rows: Vec<TrainingRow> = Vec::new();
        for (index, request) in requests.iter().enumerate() {
            match self.row(index, request) {
                Ok(row) if row.ids.len() <= limit => rows.push(row),
                Ok(row) => {
                    let length = row.ids.len();
                    scores[index] =
                        Score::Invalid(format!("too long: {length} tokens, the reward model reads {limit}"));
                }
                Err(error) => scores[index] = Score::Invalid(format!("failed: {error}")),
            }
        }
        for chosen in micro_batches(&rows, micro_batch_tokens) {
            let micro = MicroBatch::new(&self.model.decoder, &rows, chosen)?;
            let host = to_host(&tch::no_grad(|| self.model.scores(&micro.packed))?)?;
            for (&row, &score) in micro.rows.iter().zip(&host) {
                let score = self.normalizer.map_or(score.into(), |normalizer| normalizer.normalize(score.into()));
                scores[rows[row].id as usize] = Score::from_value(score);
            }
        }
        Ok(scores)
    }

    /// Prompt and answer up to its end-of-turn token.
    fn row(&self, index: usize, request: &RewardRequest) -> Result<TrainingRow> {
        let record = UnpairedRecord {
            prompt: match &request.prompt {
                Prompt::Text(text) => vec![Message::user(text.clone())],
                Prompt::Messages(messages) => messages.clone(),
            },
            completion: vec![Message::assistant(request.response.clone())],
            label: true,
            extra: Default::default(),
        };
        let example = self.renderer.unpaired_example(&record, Seams::Response)?;
        let ids: Vec<i64> = example.completion.ids.into_iter().map(i64::from).collect();
        let trainable = example.completion.trainable;
        Ok(TrainingRow { id: index as u64, ids, trainable, group: Some(request.sample) })
    }
}

fn statistics(folder: &Path) -> Result<RewardNormalizer> {
    let file = folder.join(STATISTICS_FILE);
    let bytes = std::fs::read(&file).map_err(Error::file("read", &file))?;
    let statistics: RewardNormalizer = serde_json::from_slice(&bytes)
        .map_err(|error| Error::Resume { path: file.clone(), reason: error.to_string() })?;
    statistics.validate()?;
    Ok(statistics)
}
