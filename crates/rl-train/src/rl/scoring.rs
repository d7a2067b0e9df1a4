//! The scores of the `[reward]` section: asked for in a run, read from its record in a replay.
//!
//! Programs and services need not answer the same twice, so a step that asked any leaves all its scores in
//! `rewards/step-N.json`, and a replay takes them from there. Rules and reward models, where there is
//! nothing else, are computed again.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::reward::{
    CustomRewards, ExternalScores, RewardConfig, RewardRequest, ScoredBatch, Scorer, SourceKind, SourceScores,
};
use crate::{Error, Result};

/// Where the scores come from.
pub(super) struct Scoring {
    config: RewardConfig,
    /// Objects of the program, until the sources are started.
    custom: CustomRewards,
    scorer: Option<Scorer>,
    /// What the calls of the step under way gave, in their order.
    calls: Vec<Call>,
    /// In a replay: what the next calls give.
    recalled: Option<VecDeque<Call>>,
}

/// One call of the scorer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Call {
    totals: Vec<Option<f64>>,
    sources: Vec<SourceScores>,
}

/// The file of a step.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    step: u64,
    calls: Vec<Call>,
}

impl Scoring {
    /// Nothing is started yet.
    pub fn new(config: &RewardConfig, custom: CustomRewards) -> Self {
        Scoring { config: config.clone(), custom, scorer: None, calls: Vec::new(), recalled: None }
    }

    /// Starts the sources, if that is still to be done.
    pub fn connect(&mut self) -> Result<&mut Scorer> {
        let scorer = match self.scorer.take() {
            Some(scorer) => scorer,
            None => Scorer::new(&self.config, std::mem::take(&mut self.custom))?,
        };
        Ok(self.scorer.insert(scorer))
    }

    /// Scores answers, or gives what the record says of them. `external` has the scores of the models in this process.
    pub fn score(
        &mut self,
        requests: &[Arc<RewardRequest>],
        external: impl FnOnce() -> Result<ExternalScores>,
    ) -> Result<ScoredBatch> {
        if let Some(recalled) = &mut self.recalled {
            let call = recalled.pop_front().filter(|call| call.fits(requests.len()));
            let Call { totals, sources } = call.ok_or(Error::OtherScores { samples: requests.len() })?;
            return Ok(ScoredBatch { totals, sources, num_abandoned: 0, num_still_running: 0, seconds: 0.0 });
        }
        let scored = self.connect()?.score(requests, &external()?)?;
        self.calls.push(Call { totals: scored.totals.clone(), sources: scored.sources.clone() });
        Ok(scored)
    }

    /// Forgets the calls before a step, such as those of an evaluation.
    pub fn begin_step(&mut self) {
        self.calls.clear();
    }

    /// Name and content of the file that a replay of the step after `step` steps needs; none when it needs none.
    pub fn record(&mut self, step: u64) -> Result<Option<(String, Vec<u8>)>> {
        let calls = std::mem::take(&mut self.calls);
        if self.is_reproducible() || self.recalled.is_some() {
            return Ok(None);
        }
        let name = file_name(step);
        let json = serde_json::to_vec(&Record { step: step + 1, calls })
            .map_err(|error| Error::Resume { path: name.clone().into(), reason: error.to_string() })?;
        Ok(Some((name, json)))
    }

    /// Takes the scores of the step after `step` steps from the record of the run in `folder`.
    pub fn recall(&mut self, folder: &Path, step: u64) -> Result<()> {
        if self.is_reproducible() {
            return Ok(());
        }
        let path = folder.join(file_name(step));
        let bytes = std::fs::read(&path).map_err(Error::file("read", &path))?;
        let record: Record = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Resume { path, reason: format!("is no record of rewards: {error}") })?;
        self.recalled = Some(record.calls.into());
        Ok(())
    }

    /// Whether every source is a rule or a model in this process.
    fn is_reproducible(&self) -> bool {
        self.config.sources.iter().all(|source| match source.source {
            SourceKind::Match(_)
            | SourceKind::Contains(_)
            | SourceKind::Length(_)
            | SourceKind::Format(_)
            | SourceKind::RewardModel(_) => true,
            SourceKind::Command(_) | SourceKind::Http(_) | SourceKind::Custom {} | SourceKind::External {} => false,
        })
    }
}

impl Call {
    fn fits(&self, samples: usize) -> bool {
        self.totals.len() == samples && self.sources.iter().all(|source| source.scores.len() == samples)
    }
}

fn file_name(step: u64) -> String {
    format!("rewards/step-{:06}.json", step + 1)
}
