//! All sources together: many samples in, one total per sample out, and the record of how each score ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::command::CommandReward;
use super::config::{OnFailure, RewardConfig, SourceConfig, SourceKind};
use super::http::HttpReward;
use super::pool::{Job, Next, Outcome, Pool};
use super::request::{Reward, RewardRequest};
use super::rule::Rule;
use super::score::{Score, ScoreCounts};
use super::source::{By, Scoring, Source, Work};
use crate::{Error, Result};

/// Rust rewards by the name of their `custom` source.
pub type CustomRewards = BTreeMap<String, Arc<dyn Reward>>;

/// Scores computed by the caller, one per request, by the name of their `external` or `reward_model` source.
pub type ExternalScores = BTreeMap<String, Vec<Score>>;

/// Scores answers with several weighted sources, within a bounded time.
pub struct Scorer {
    sources: Vec<Source>,
    pool: Pool,
    step_deadline: Option<Duration>,
}

/// The scores of one call; index `i` belongs to request `i`.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoredBatch {
    /// `[samples]`: the sum over sources of `weight * score`, or `None` if a source of non-zero weight has no number for
    /// this sample. Such a sample is unscorable and takes no part in group statistics.
    pub totals: Vec<Option<f64>>,
    /// Every source by itself, in the order of the config.
    pub sources: Vec<SourceScores>,
    /// Threads stuck in user code that were left behind during this call.
    pub num_abandoned: usize,
    /// Threads left behind in this or earlier calls that have not come back.
    pub num_still_running: usize,
    /// Duration of the call.
    pub seconds: f64,
}

/// The scores of one source over one call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceScores {
    /// Name of the source.
    pub name: String,
    /// Its factor in the total.
    pub weight: f64,
    /// `[samples]`: its own scores, before the weight.
    pub scores: Vec<Score>,
    /// How they ended.
    pub counts: ScoreCounts,
}

impl ScoredBatch {
    /// Samples without a total.
    pub fn num_unscorable(&self) -> usize {
        self.totals.iter().filter(|total| total.is_none()).count()
    }
}

impl Scorer {
    /// Checks the config and starts the programs of persistent `command` sources. `custom` holds exactly the objects that
    /// the config's `custom` sources name.
    ///
    /// # Errors
    /// [`Error::Config`] for values out of their limits; [`Error::RewardSource`] for a program that cannot be started, a
    /// missing token, a custom source without object or an object without source.
    pub fn new(config: &RewardConfig, mut custom: CustomRewards) -> Result<Self> {
        config.validate().map_err(|error| error.within("reward"))?;
        let build = |source| build(config, source, &mut custom);
        let sources = config.sources.iter().map(build).collect::<Result<Vec<_>>>()?;
        if let Some((name, _)) = custom.first_key_value() {
            let reason = "an object was given, but no source of kind `custom` has this name".to_string();
            return Err(Error::RewardSource { name: name.clone(), reason });
        }
        let step_deadline = config.step_deadline_seconds.map(Duration::from_secs_f64);
        Ok(Scorer { sources, pool: Pool::new(config.workers, config.max_abandoned), step_deadline })
    }

    /// Names of the sources whose scores the caller has to give.
    pub fn external_sources(&self) -> impl Iterator<Item = &str> {
        let external = self.sources.iter().filter(|source| matches!(source.scoring, Scoring::External));
        external.map(|source| source.name.as_str())
    }

    /// Scores all requests; how long that may take is said at the head of this module.
    ///
    /// `external` has one score per request for each source of kind `external` or `reward_model`; its numbers are checked like
    /// all others.
    ///
    /// # Errors
    /// [`Error::RewardFailed`] for the first failed sample of a source whose `on_failure` is `stop`: no further score is
    /// begun, those under way are waited for. [`Error::RewardAbandoned`] when too many threads are stuck: nothing is waited for.
    /// [`Error::RewardSource`] for external scores that are missing, of another number than the requests, or of no source.
    /// [`Error::RewardOverflow`] for a sum that is not finite.
    pub fn score(&mut self, requests: &[Arc<RewardRequest>], external: &ExternalScores) -> Result<ScoredBatch> {
        let started = Instant::now();
        let step_end = self.step_deadline.map(|deadline| started + deadline);
        self.check_external(requests.len(), external)?;

        let mut sheet = Sheet::new(&self.sources, requests);
        let mut jobs = Vec::new();
        let mut cells = Vec::new(); // (source, sample) of each job
        for (sample, request) in requests.iter().enumerate() {
            for (column, source) in self.sources.iter().enumerate() {
                match &source.scoring {
                    Scoring::External => sheet.set(column, sample, checked(&external[&source.name][sample])),
                    Scoring::Rule(rule) => sheet.set(column, sample, rule.score(request)),
                    Scoring::Work(work) => {
                        jobs.push(Job { work: Arc::clone(work), request: Arc::clone(request) });
                        cells.push((column, sample));
                        continue;
                    }
                };
            }
        }
        let mut num_abandoned = 0;
        if sheet.first_stop.is_none() {
            num_abandoned = self.pool.run(&jobs, step_end, |job, outcome| {
                let (column, sample) = cells[job];
                sheet.record(column, sample, outcome)
            })?;
        }
        sheet.into_batch(started, num_abandoned, self.pool.num_still_running())
    }

    fn check_external(&self, num_requests: usize, external: &ExternalScores) -> Result<()> {
        for name in self.external_sources() {
            let given = external.get(name).map(Vec::len);
            if given != Some(num_requests) {
                let given = given.map_or("none were".to_string(), |given| format!("{given} were"));
                let reason = format!("its scores come from the caller: {num_requests} are needed, {given} given");
                return Err(Error::RewardSource { name: name.to_string(), reason });
            }
        }
        match external.keys().find(|name| !self.external_sources().any(|known| known == name.as_str())) {
            Some(name) => {
                let reason =
                    "scores were given, but no source of kind `external` or `reward_model` has this name".to_string();
                Err(Error::RewardSource { name: name.clone(), reason })
            }
            None => Ok(()),
        }
    }
}

impl Drop for Scorer {
    fn drop(&mut self) {
        for source in &self.sources {
            if let Scoring::Work(work) = &source.scoring {
                work.close(); // also when a thread left behind still holds the source
            }
        }
    }
}

/// The scores of a call while it runs.
struct Sheet<'a> {
    sources: &'a [Source],
    requests: &'a [Arc<RewardRequest>],
    /// `[sources][samples]`
    scores: Vec<Vec<Option<Score>>>,
    retries: Vec<u64>,
    not_started: Vec<usize>,
    /// (sample, source) of the lowest failure that ends the run.
    first_stop: Option<(usize, usize)>,
}

impl<'a> Sheet<'a> {
    fn new(sources: &'a [Source], requests: &'a [Arc<RewardRequest>]) -> Self {
        Sheet {
            sources,
            requests,
            scores: vec![vec![None; requests.len()]; sources.len()],
            retries: vec![0; sources.len()],
            not_started: vec![0; sources.len()],
            first_stop: None,
        }
    }

    fn record(&mut self, column: usize, sample: usize, outcome: Outcome) -> Next {
        self.retries[column] += outcome.retries;
        self.not_started[column] += usize::from(!outcome.started);
        self.set(column, sample, outcome.score)
    }

    fn set(&mut self, column: usize, sample: usize, score: Score) -> Next {
        let ends_run = score.value().is_none() && self.sources[column].on_failure == OnFailure::Stop;
        self.scores[column][sample] = Some(score);
        if !ends_run {
            return Next::GoOn;
        }
        let here = (sample, column);
        self.first_stop = Some(self.first_stop.map_or(here, |first| first.min(here)));
        Next::Stop
    }

    fn into_batch(self, started: Instant, num_abandoned: usize, num_still_running: usize) -> Result<ScoredBatch> {
        if let Some((sample, column)) = self.first_stop {
            let reason = match &self.scores[column][sample] {
                Some(Score::Invalid(reason)) => reason.clone(),
                _ => "no score before the deadline".to_string(),
            };
            let name = self.sources[column].name.clone();
            return Err(Error::RewardFailed { sample: self.requests[sample].sample, name, reason });
        }
        let mut totals = vec![Some(0.0); self.requests.len()];
        let mut sources = Vec::new();
        for (column, (source, scores)) in self.sources.iter().zip(self.scores).enumerate() {
            // Every score is there when nothing stopped the run.
            let scores: Vec<Score> = scores.into_iter().map(|score| score.unwrap_or(Score::TimedOut)).collect();
            let mut counts = ScoreCounts {
                retries: self.retries[column],
                not_started: self.not_started[column],
                ..ScoreCounts::default()
            };
            for (score, total) in scores.iter().zip(&mut totals) {
                counts.add(score);
                if source.weight != 0.0 {
                    *total = total.zip(score.value()).map(|(total, score)| total + source.weight * score);
                }
            }
            sources.push(SourceScores { name: source.name.clone(), weight: source.weight, scores, counts });
        }
        if let Some(bad) = totals.iter().position(|total| total.is_some_and(|total| !total.is_finite())) {
            return Err(Error::RewardOverflow { sample: self.requests[bad].sample });
        }
        let seconds = started.elapsed().as_secs_f64();
        Ok(ScoredBatch { totals, sources, num_abandoned, num_still_running, seconds })
    }
}

fn build(config: &RewardConfig, source: &SourceConfig, custom: &mut CustomRewards) -> Result<Source> {
    let failed = |reason| Error::RewardSource { name: source.name.clone(), reason };
    let work = |by| {
        let name = source.name.clone();
        Scoring::Work(Arc::new(Work { name, deadline: config.deadline_of(source), retry: source.retry, by }))
    };
    let scoring = match &source.source {
        SourceKind::Command(command) => work(By::Command(CommandReward::new(command, config.workers).map_err(failed)?)),
        SourceKind::Http(http) => work(By::Http(HttpReward::new(http, config.workers).map_err(failed)?)),
        SourceKind::Match(rule) => Scoring::Rule(Rule::Match(rule.clone())),
        SourceKind::Contains(rule) => Scoring::Rule(Rule::Contains(rule.clone())),
        SourceKind::Length(rule) => Scoring::Rule(Rule::Length(*rule)),
        SourceKind::Format(rule) => Scoring::Rule(Rule::Format(rule.clone())),
        SourceKind::Custom {} => match custom.remove(&source.name) {
            Some(reward) => work(By::Custom(reward)),
            None => return Err(failed("a `custom` source needs an object of this name from the program".to_string())),
        },
        SourceKind::RewardModel(_) | SourceKind::External {} => Scoring::External,
    };
    Ok(Source { name: source.name.clone(), weight: source.weight, on_failure: source.on_failure, scoring })
}

fn checked(score: &Score) -> Score {
    match score {
        Score::Ok(value) => Score::from_value(*value),
        other => other.clone(),
    }
}
