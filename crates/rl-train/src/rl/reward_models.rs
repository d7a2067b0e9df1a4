//! Reward models among the sources of reward: they score on the training thread and its device.

use std::path::Path;
use std::sync::Arc;

use rl_data::{Message, Renderer, Seams, UnpairedRecord};
use tch::Device;

use crate::Result;
use crate::batch::TrainingRow;
use crate::reward::{ExternalScores, ModelReward, Prompt, RewardConfig, RewardRequest, Score, SourceKind};
use crate::reward_model::RewardSource;

/// The frozen reward models of a run, by the names of their sources.
pub(super) struct RewardModels(Vec<(String, RewardSource)>);

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
        let mut models = Vec::new();
        for (name, source) in configured(config) {
            let model = RewardSource::load(&source.path, source.dtype, device)?;
            let model = model.with_micro_batch_tokens(micro_batch_tokens);
            models.push((name.to_owned(), if source.normalized { model.normalized()? } else { model }));
        }
        Ok(RewardModels(models))
    }

    /// Scores of all requests by every model.
    pub fn scores(&self, requests: &[Arc<RewardRequest>]) -> Result<ExternalScores> {
        self.0.iter().map(|(name, model)| Ok((name.clone(), scores(model, requests)?))).collect()
    }
}

/// A request that cannot be rendered, or is longer than the model reads, has no score; the others are not touched by it.
fn scores(model: &RewardSource, requests: &[Arc<RewardRequest>]) -> Result<Vec<Score>> {
    let limit = model.max_length();
    let mut scores = vec![Score::TimedOut; requests.len()]; // each is replaced
    let mut rows: Vec<TrainingRow> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        match row(model.renderer(), index, request) {
            Ok(row) if row.ids.len() <= limit => rows.push(row),
            Ok(row) => {
                let length = row.ids.len();
                let reason = format!("too long: {length} tokens, the reward model reads {limit}");
                scores[index] = Score::Invalid(reason);
            }
            Err(error) => scores[index] = Score::Invalid(format!("failed: {error}")),
        }
    }
    for (row, reward) in rows.iter().zip(model.score(&rows)?) {
        scores[row.id as usize] = Score::Ok(reward);
    }
    Ok(scores)
}

/// Prompt and answer up to its end-of-turn token; answers to one prompt share it in the model.
fn row(renderer: &Renderer, index: usize, request: &RewardRequest) -> Result<TrainingRow> {
    let record = UnpairedRecord {
        prompt: match &request.prompt {
            Prompt::Text(text) => vec![Message::user(text.clone())],
            Prompt::Messages(messages) => messages.clone(),
        },
        completion: vec![Message::assistant(request.response.clone())],
        label: true,
        extra: Default::default(),
    };
    let example = renderer.unpaired_example(&record, Seams::Response)?.completion;
    let ids = example.ids.into_iter().map(i64::from).collect();
    Ok(TrainingRow { id: index as u64, ids, trainable: example.trainable, group: Some(request.sample) })
}
