//! Rewards: what they give, and that nothing they do can hang a call.

mod chaos;
mod command;
mod config;
mod http;
mod rules;

use std::sync::Arc;

use rl_core::advantages::RewardAggregation;
use rl_train::reward::{
    CustomRewards, ExternalScores, OnFailure, Prompt, RetryConfig, Reward, RewardConfig, RewardRequest, ScoredBatch,
    Scorer, SourceConfig, SourceKind,
};
use serde_json::{Map, Value, json};

/// What a call may take beyond its deadline.
const SLACK: f64 = 1.0;

/// The first block of the README's rewards in a language.
fn from_readme(language: &str) -> &'static str {
    let (_, rewards) = include_str!("../../../README.md").split_once("## Rewards").unwrap();
    let (_, block) = rewards.split_once(&format!("```{language}\n")).unwrap();
    block.split_once("```").unwrap().0
}

fn request(sample: u64, response: &str, metadata: Value) -> Arc<RewardRequest> {
    let metadata: Map<String, Value> = serde_json::from_value(metadata).unwrap();
    let prompt = Prompt::Text("2 + 2 = ?".to_string());
    Arc::new(RewardRequest { sample, prompt, response: response.to_string(), truncated: false, metadata })
}

/// Samples whose metadata says how the reward is to behave; the response of sample `i` is `i % 10` letters long.
fn told(what: &[&str]) -> Vec<Arc<RewardRequest>> {
    let sample = |(index, what): (usize, &&str)| request(index as u64, &"a".repeat(index % 10), json!({"do": what}));
    what.iter().enumerate().map(sample).collect()
}

fn config(workers: usize, deadline_seconds: f64, sources: Vec<SourceConfig>) -> RewardConfig {
    let aggregation = RewardAggregation::SumThenNormalize;
    RewardConfig { workers, deadline_seconds, step_deadline_seconds: None, max_abandoned: 64, aggregation, sources }
}

fn source(name: &str, source: SourceKind) -> SourceConfig {
    SourceConfig {
        name: name.to_string(),
        weight: 1.0,
        deadline_seconds: None,
        retry: RetryConfig::default(),
        on_failure: OnFailure::Skip,
        source,
    }
}

fn custom(name: &str, reward: impl Reward + 'static) -> CustomRewards {
    CustomRewards::from([(name.to_string(), Arc::new(reward) as Arc<dyn Reward>)])
}

fn score(config: &RewardConfig, custom: CustomRewards, requests: &[Arc<RewardRequest>]) -> ScoredBatch {
    Scorer::new(config, custom).unwrap().score(requests, &ExternalScores::new()).unwrap()
}

/// Counts of invalid scores by class as pairs.
fn invalid(batch: &ScoredBatch, source: usize) -> Vec<(&str, usize)> {
    batch.sources[source].counts.invalid.iter().map(|(class, &count)| (class.as_str(), count)).collect()
}
