//! Reward models among the sources of reward: they score on the training thread and its device.

use std::path::Path;
use std::sync::Arc;

use rl_data::Message;
use tch::Device;

use crate::Result;
use crate::batch::TrainingRow;
use crate::reward::{ExternalScores, ModelReward, Prompt, RewardConfig, RewardRequest, Score, SourceKind};
use crate::reward_model::RewardSource;

/// The frozen reward models of a run, by the names of their sources.
pub(super) struct RewardModels(Vec<(String, RewardSource)>);

/// Names and folders of the reward models of a configuration.
pub(crate) fn paths(config: Option<&RewardConfig>) -> impl Iterator<Item = (&str, &Path)> {
    configured(config).map(|(name, source)| (name, source.path.as_path()))
}

/// Reward models of a configuration by the names of their sources.
pub(crate) fn configured(config: Option<&RewardConfig>) -> impl Iterator<Item = (&str, &ModelReward)> {
    config.into_iter().flat_map(|config| &config.sources).filter_map(|source| match &source.source {
        SourceKind::RewardModel(model) => Some((source.name.as_str(), model)),
        _ => None,
    })
}

impl RewardModels {
    /// Loads what the configuration names.
    ///
    /// # Errors
    /// As [`RewardSource::load`] and [`RewardSource::normalized`].
    pub fn load(config: Option<&RewardConfig>, micro_batch_tokens: usize, device: Device) -> Result<Self> {
        let load = |(name, source): (&str, &ModelReward)| {
            let model = RewardSource::load(&source.path, source.dtype, device)?;
            let model = model.with_micro_batch_tokens(micro_batch_tokens);
            Ok((name.to_owned(), if source.normalized { model.normalized()? } else { model }))
        };
        Ok(RewardModels(configured(config).map(load).collect::<Result<_>>()?))
    }

    /// Scores of all requests by every model; `groups[i]` is the prompt of request `i`, which is read once for all answers.
    pub fn scores(&self, requests: &[Arc<RewardRequest>], groups: &[u64]) -> Result<ExternalScores> {
        let of = |(name, model): &(String, RewardSource)| Ok((name.clone(), scores(model, requests, groups)?));
        self.0.iter().map(of).collect()
    }
}

/// A request that cannot be rendered, or is longer than the model reads, has no score; the rest is not touched by it.
fn scores(model: &RewardSource, requests: &[Arc<RewardRequest>], groups: &[u64]) -> Result<Vec<Score>> {
    let limit = model.max_length();
    let mut scores = vec![Score::Invalid("failed: the answer has no token".into()); requests.len()];
    let mut rows: Vec<TrainingRow> = Vec::new();
    for (index, request) in requests.iter().enumerate() {
        let prompt = match &request.prompt {
            Prompt::Text(text) => vec![Message::user(text.clone())],
            Prompt::Messages(messages) => messages.clone(),
        };
        match model.row(index as u64, &prompt, &request.response, groups.get(index).copied()) {
            Ok(row) if row.ids.len() <= limit => rows.push(row),
            Ok(row) => {
                let length = row.ids.len();
                scores[index] = Score::Invalid(format!("too long: {length} tokens, the reward model reads {limit}"));
            }
            Err(error) => scores[index] = Score::Invalid(format!("failed: {error}")),
        }
    }
    for (row, output) in rows.iter().zip(model.outputs(&rows)?) {
        scores[row.id as usize] = Score::from_value(output);
    }
    Ok(scores)
}
