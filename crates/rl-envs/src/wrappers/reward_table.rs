//! Other prices for the same outcomes.

use std::collections::BTreeMap;

use super::pass_on;
use crate::environment::{Environment, Observation, Step};
use crate::error::{Error, Result, ensure};
use crate::picture::Picture;
use crate::price::{Combination, Prices};

/// Pays every step by the label of its outcome, whatever the inner environment pays.
#[derive(Debug, Clone)]
pub struct RewardTable<E> {
    inner: E,
    prices: Prices,
}

impl<E: Environment> RewardTable<E> {
    /// `table` holds one price for each outcome that `inner` declares; `truncation` is added to a step that truncates.
    ///
    /// # Errors
    /// [`Error::Config`] when `inner` declares no outcomes, when one of them has no price, when a price belongs to none of
    /// them, or when a number is not finite.
    pub fn new(inner: E, table: &BTreeMap<String, f64>, truncation: f64) -> Result<Self> {
        let refused = |key: &'static str, value: &str, limit: String| Error::Config { key, value: value.into(), limit };
        let Some(declared) = inner.prices() else {
            return Err(refused("prices", inner.name(), "the environment declares no outcomes to price".into()));
        };
        let labels: Vec<&'static str> = declared.outcomes.iter().map(|&(label, _)| label).collect();
        if let Some(unknown) = table.keys().find(|key| !labels.contains(&key.as_str())) {
            return Err(refused("prices", unknown, format!("is none of the outcomes {labels:?}")));
        }
        let mut outcomes = Vec::with_capacity(labels.len());
        for label in labels {
            let price = table.get(label).copied();
            let price = price.ok_or_else(|| refused("prices", label, "this outcome has no price".into()))?;
            ensure(price.is_finite(), "prices", format!("{label}: {price}"), "must be a finite number")?;
            outcomes.push((label, price));
        }
        ensure(truncation.is_finite(), "truncation", truncation, "must be a finite number")?;
        Ok(RewardTable { inner, prices: Prices { outcomes, truncation, combination: Combination::Single } })
    }
}

impl<E: Environment> Environment for RewardTable<E> {
    fn reset(&mut self, seed: u64, index: u64) -> Result<Observation> {
        self.inner.reset(seed, index)
    }

    fn step(&mut self, response: &str) -> Result<Step> {
        let mut step = self.inner.step(response)?;
        let price = self
            .prices
            .of(step.outcome)
            .ok_or_else(|| Error::UndeclaredOutcome { environment: self.inner.name(), outcome: step.outcome })?;
        step.reward = price + if step.truncated { self.prices.truncation } else { 0.0 };
        Ok(step)
    }

    fn prices(&self) -> Option<Prices> {
        Some(self.prices.clone())
    }

    pass_on! {
        name -> &'static str, info -> serde_json::Value, task_kind -> Option<&'static str>, starts_over -> bool,
        process_correct(response: &str) -> Option<bool>,
        expert -> Option<String>, picture -> Option<Picture>,
    }
}
