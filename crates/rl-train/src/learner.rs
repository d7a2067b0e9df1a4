//! What an optimizer step is: gradients of all groups clipped on their true global norm, AdamW per group, running average.

use std::collections::BTreeMap;
use std::path::Path;

use rl_core::schedule::{Schedule, ScheduleConfig};
use rl_models::checkpoint::{load_tensors, save_tensors};
use rl_torch::{AdamW, AdamWConfig, clip_grad_norm, foreach, grad_norm, zero_grad};
use rl_track::MetricsRow;
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::checkpoint::{OPTIMIZER_FILE, Saved};
use crate::config::{ParameterGroup, TrainingConfig, in_section};
use crate::non_finite::{NonFiniteConfig, NonFiniteCounts, NonFiniteGuard};
use crate::{Error, Result};

const EMA_SUFFIX: &str = "ema";

/// Settings of a [`Learner`].
#[derive(Debug, Clone)]
pub(crate) struct LearnerConfig {
    pub optimizer: AdamWConfig,
    pub learning_rate: ScheduleConfig,
    /// Steps of the run, which a schedule may end with.
    pub run_steps: u64,
    pub groups: Vec<ParameterGroup>,
    pub max_grad_norm: f64,
    pub ema_decay: Option<f64>,
    pub non_finite: NonFiniteConfig,
}

impl LearnerConfig {
    /// Of the `[training]` section, for a run of `run_steps` steps.
    pub fn new(training: &TrainingConfig, run_steps: u64) -> Self {
        LearnerConfig {
            optimizer: training.optimizer,
            learning_rate: training.learning_rate,
            run_steps,
            groups: training.groups.clone(),
            max_grad_norm: training.max_grad_norm,
            ema_decay: training.ema_decay,
            non_finite: training.non_finite,
        }
    }
}

/// The trained parameters of one model with all that moves them.
pub(crate) struct Learner {
    groups: Vec<Group>,
    /// Of the parameters outside every group.
    learning_rate: Schedule,
    parameters: Vec<(String, Tensor)>,
    max_grad_norm: f64,
    guard: NonFiniteGuard,
    ema: Option<Ema>,
}

struct Group {
    optimizer: AdamW,
    learning_rate: Schedule,
}

/// Running average of the parameters: `average = decay * average + (1 - decay) * parameter`, from their first values.
struct Ema {
    decay: f64,
    averages: Vec<Tensor>,
}

/// What one optimizer step did.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Update {
    /// Global gradient norm before clipping; none when the update was skipped because it is not finite.
    pub grad_norm: Option<f64>,
    /// Rate of the parameters outside every group.
    pub learning_rate: f64,
}

/// What a checkpoint keeps of a learner beside its tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LearnerState {
    /// Optimizer updates done.
    pub num_updates: u64,
    /// Skipped numbers.
    pub non_finite: NonFiniteCounts,
}

impl Learner {
    /// Takes charge of `parameters`, which must be in place: half-precision ones get their masters now. Parameters of
    /// frozen groups no longer ask for gradients.
    pub fn new(parameters: Vec<(String, Tensor)>, config: &LearnerConfig) -> Result<Self> {
        let mut shares: Vec<Vec<(String, Tensor)>> = (0..=config.groups.len()).map(|_| Vec::new()).collect();
        for (name, parameter) in parameters {
            let fits = |group: &ParameterGroup| group.parameters.iter().any(|part| name.contains(part.as_str()));
            let group = config.groups.iter().position(fits);
            if group.is_some_and(|group| config.groups[group].frozen) {
                let _ = parameter.f_set_requires_grad(false)?;
                shares[group.unwrap_or_default()].push((name, parameter));
                continue;
            }
            shares[group.unwrap_or(config.groups.len())].push((name, parameter));
        }
        let mut groups = Vec::new();
        let rest = ParameterGroup { parameters: Vec::new(), frozen: false, learning_rate: None, weight_decay: None };
        for (share, group) in shares.into_iter().zip(config.groups.iter().chain([&rest])) {
            if share.is_empty() && !group.parameters.is_empty() {
                return Err(Error::EmptyGroup { parameters: group.parameters.join(", ") });
            }
            if group.frozen || share.is_empty() {
                continue;
            }
            let weight_decay = group.weight_decay.unwrap_or(config.optimizer.weight_decay);
            let optimizer = AdamW::new(share, AdamWConfig { weight_decay, ..config.optimizer });
            let learning_rate = group.learning_rate.unwrap_or(config.learning_rate);
            let learning_rate =
                learning_rate.resolve(config.run_steps as usize).map_err(in_section("learning_rate"))?;
            groups.push(Group { optimizer, learning_rate });
        }
        let learning_rate =
            config.learning_rate.resolve(config.run_steps as usize).map_err(in_section("learning_rate"))?;
        let parameters: Vec<(String, Tensor)> =
            groups.iter().flat_map(|group| named(group.optimizer.parameters())).collect();
        if parameters.is_empty() {
            return Err(Error::NothingToTrain);
        }
        let ema = config.ema_decay.map(|decay| Ema::new(decay, &parameters)).transpose()?;
        let guard = NonFiniteGuard::new(config.non_finite);
        Ok(Learner { groups, learning_rate, parameters, max_grad_norm: config.max_grad_norm, guard, ema })
    }

    /// As [`Learner::new`], going on where the checkpoint stands if there is one.
    pub fn resume(
        parameters: Vec<(String, Tensor)>,
        config: &LearnerConfig,
        saved: Option<(&Saved, LearnerState)>,
    ) -> Result<Self> {
        let mut learner = Learner::new(parameters, config)?;
        if let Some((saved, state)) = saved {
            learner.restore(&saved.folder().join(OPTIMIZER_FILE), state)?;
        }
        Ok(learner)
    }

    /// Rate of the parameters outside every group after `steps_done` steps, whether or not there are any.
    pub fn learning_rate(&self, steps_done: u64) -> f64 {
        self.learning_rate.learning_rate(steps_done as usize)
    }

    /// The numbers that are not finite, and what became of them.
    pub fn guard(&mut self) -> &mut NonFiniteGuard {
        &mut self.guard
    }

    /// Sets the gradients to zero: the beginning of a step.
    pub fn zero_grad(&self) -> Result<()> {
        Ok(zero_grad(&self.parameters)?)
    }

    /// One update from the accumulated gradients, with the rates after `steps_done` steps.
    pub fn step(&mut self, steps_done: u64) -> Result<Update> {
        if self.guard.skipped_all() {
            self.guard.end_step()?;
            return Ok(Update { grad_norm: None, learning_rate: self.learning_rate(steps_done) });
        }
        let norm = if self.max_grad_norm.is_finite() {
            clip_grad_norm(&self.parameters, self.max_grad_norm)
        } else {
            grad_norm(&self.parameters)
        };
        let grad_norm = self.guard.admit(Vec::new, norm.map_err(Error::from))?;
        let learning_rate = self.learning_rate(steps_done);
        if grad_norm.is_some() {
            for group in &mut self.groups {
                let rate = group.learning_rate.learning_rate(steps_done as usize);
                group.optimizer.step(rate)?;
            }
            if let Some(ema) = &self.ema {
                let values: Vec<Tensor> =
                    self.groups.iter().flat_map(|group| group.optimizer.precise_values()).collect();
                ema.update(&values)?;
            }
        }
        self.guard.end_step()?;
        Ok(Update { grad_norm, learning_rate })
    }

    /// Adds an update's norm, and the skips of the run if there are any, to a row.
    pub fn report(&self, update: Update, mut row: MetricsRow) -> MetricsRow {
        if let Some(grad_norm) = update.grad_norm {
            row = row.with("grad_norm", grad_norm);
        }
        self.report_skips(row)
    }

    /// Adds the skips of the run, if there are any, to a row.
    pub fn report_skips(&self, row: MetricsRow) -> MetricsRow {
        let skipped = self.guard.counts().skipped;
        if 0 < skipped { row.with("nonfinite_skipped", skipped as f64) } else { row }
    }

    /// Counts for a checkpoint.
    pub fn state(&self) -> LearnerState {
        let num_updates = self.groups.first().map_or(0, |group| group.optimizer.num_steps());
        LearnerState { num_updates, non_finite: self.guard.counts() }
    }

    /// Writes moments, masters and averages to one file.
    pub fn save(&self, file: &Path) -> Result<()> {
        let mut tensors = Vec::new();
        for group in &self.groups {
            tensors.extend(group.optimizer.state()?);
        }
        if let Some(ema) = &self.ema {
            let averages = self.parameters.iter().zip(&ema.averages);
            tensors.extend(averages.map(|((name, _), tensor)| (ema_name(name), tensor.shallow_clone())));
        }
        let borrowed: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        Ok(save_tensors(file, &borrowed)?)
    }

    /// Takes up what [`Learner::save`] and [`Learner::state`] left.
    ///
    /// # Errors
    /// When the saved tensors do not fit the parameters.
    pub fn restore(&mut self, file: &Path, state: LearnerState) -> Result<()> {
        let mut saved: BTreeMap<String, Tensor> = load_tensors(file, Device::Cpu)?;
        if let Some(ema) = &self.ema {
            let mut averages = Vec::with_capacity(self.parameters.len());
            for (name, parameter) in &self.parameters {
                let average = saved.remove(&ema_name(name)).filter(|average| average.size() == parameter.size());
                averages.push(average.ok_or_else(|| Error::Resume {
                    path: file.into(),
                    reason: format!("has no average of `{name}`; it was saved without `ema_decay`"),
                })?);
            }
            foreach::copy(&ema.averages, &averages)?;
        }
        for group in &mut self.groups {
            let is_own = |key: &str| {
                let own = group.optimizer.parameters();
                key.rsplit_once('.').is_some_and(|(name, _)| own.iter().any(|(parameter, _)| parameter == name))
            };
            let (own, others) = saved.into_iter().partition(|(key, _)| is_own(key));
            saved = others;
            group.optimizer.restore(&own, state.num_updates)?;
        }
        if let Some((name, _)) = saved.first_key_value() {
            let reason = format!("holds `{name}`, which this run does not train");
            return Err(Error::Resume { path: file.into(), reason });
        }
        self.guard.restore(state.non_finite);
        Ok(())
    }

    /// Runs `f` while the parameters hold their running averages; gives none when no average is kept.
    pub fn with_averages<T>(&self, f: impl FnOnce() -> Result<T>) -> Result<Option<T>> {
        let Some(ema) = &self.ema else { return Ok(None) };
        let own: Vec<Tensor> = self.parameters.iter().map(|(_, parameter)| parameter.detach().copy()).collect();
        let parameters = tensors(&self.parameters);
        foreach::copy(&parameters, &ema.averages)?;
        let result = f();
        foreach::copy(&parameters, &own)?;
        result.map(Some)
    }
}

impl Ema {
    fn new(decay: f64, parameters: &[(String, Tensor)]) -> Result<Self> {
        let copy = |(_, parameter): &(String, Tensor)| {
            Ok::<_, Error>(parameter.f_detach()?.f_to_kind(tch::Kind::Float)?.copy())
        };
        let averages = parameters.iter().map(copy).collect::<Result<_>>()?;
        Ok(Ema { decay, averages })
    }

    /// `values` are the parameters', those of half precision from their masters: an average of rounded numbers would not see
    /// updates that are smaller than the rounding.
    fn update(&self, values: &[Tensor]) -> Result<()> {
        let widened = |value: &Tensor| value.f_to_kind(tch::Kind::Float);
        let now = values.iter().map(widened).collect::<std::result::Result<Vec<_>, _>>()?;
        Ok(foreach::lerp(&self.averages, &now, 1.0 - self.decay)?)
    }
}

fn ema_name(parameter: &str) -> String {
    format!("{parameter}.{EMA_SUFFIX}")
}

fn named(parameters: &[(String, Tensor)]) -> impl Iterator<Item = (String, Tensor)> + '_ {
    parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone()))
}

fn tensors(parameters: &[(String, Tensor)]) -> Vec<Tensor> {
    parameters.iter().map(|(_, tensor)| tensor.detach()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rl_core::schedule::Warmup;
    use tch::Kind;

    fn config(groups: Vec<ParameterGroup>, ema_decay: Option<f64>) -> LearnerConfig {
        LearnerConfig {
            optimizer: AdamWConfig::default(),
            learning_rate: constant(0.1),
            run_steps: 3,
            groups,
            max_grad_norm: f64::INFINITY,
            ema_decay,
            non_finite: NonFiniteConfig::Error,
        }
    }

    fn constant(learning_rate: f64) -> ScheduleConfig {
        ScheduleConfig::Constant { learning_rate, warmup: Warmup::default() }
    }

    fn parameter(name: &str, value: f32) -> (String, Tensor) {
        (name.into(), Tensor::from_slice(&[value]).set_requires_grad(true))
    }

    fn value(tensor: &Tensor) -> f64 {
        tensor.double_value(&[0])
    }

    /// The first update of AdamW without decay moves a parameter by the rate, against the sign of its gradient.
    #[test]
    fn groups_have_their_own_rates_and_frozen_ones_stay() {
        let (a, b, c) = (parameter("a.weight", 1.0), parameter("b.weight", 1.0), parameter("c.weight", 1.0));
        let tensors = [&a, &b, &c].map(|(_, tensor)| tensor.shallow_clone());
        let group = |name: &str, frozen, rate: Option<f64>| ParameterGroup {
            parameters: vec![name.into()],
            frozen,
            learning_rate: rate.map(constant),
            weight_decay: None,
        };
        let groups = vec![group("a.", true, None), group("b.", false, Some(0.5))];
        let mut learner = Learner::new(vec![a, b, c], &config(groups, None)).unwrap();
        let loss: Tensor = tensors.iter().map(|tensor| tensor.sum(Kind::Float)).sum();
        loss.backward();
        let update = learner.step(0).unwrap();
        approx::assert_abs_diff_eq!(update.grad_norm.unwrap(), 2f64.sqrt(), epsilon = 1e-6);
        assert_eq!(update.learning_rate, 0.1);
        for (tensor, expected) in tensors.iter().zip([1.0, 0.5, 0.9]) {
            approx::assert_abs_diff_eq!(value(tensor), expected, epsilon = 1e-6);
        }
    }

    #[test]
    fn a_group_that_fits_nothing_is_named() {
        let group =
            ParameterGroup { parameters: vec!["typo".into()], frozen: true, learning_rate: None, weight_decay: None };
        let error = Learner::new(vec![parameter("a", 1.0)], &config(vec![group], None)).err().unwrap();
        assert!(error.to_string().contains("typo"), "{error}");
    }

    #[test]
    fn averages_follow_their_recurrence_and_are_swapped_in_and_out() {
        let (name, tensor) = parameter("w", 1.0);
        let mut learner = Learner::new(vec![(name, tensor.shallow_clone())], &config(Vec::new(), Some(0.75))).unwrap();
        let mut average = 1.0;
        for step in 0..3 {
            learner.zero_grad().unwrap();
            tensor.sum(Kind::Float).backward();
            learner.step(step).unwrap();
            average = 0.75 * average + 0.25 * value(&tensor);
        }
        let before = value(&tensor);
        let inside = learner.with_averages(|| Ok(value(&tensor))).unwrap().unwrap();
        approx::assert_abs_diff_eq!(inside, average, epsilon = 1e-6);
        assert_eq!(value(&tensor), before);
    }

    /// Every update is smaller than bf16 can tell near 1. A group holds all parameters; the run's rate is still the run's.
    #[test]
    fn averages_of_half_precision_are_those_of_the_masters() {
        let tensor = Tensor::ones([1], (Kind::BFloat16, Device::Cpu)).set_requires_grad(true);
        let group = ParameterGroup {
            parameters: vec!["w".into()],
            frozen: false,
            learning_rate: Some(constant(1e-4)),
            weight_decay: None,
        };
        let named = vec![("w".to_owned(), tensor.shallow_clone())];
        let mut learner = Learner::new(named, &config(vec![group], Some(0.75))).unwrap();
        let (mut average, mut master) = (1.0, 1.0);
        for step in 0..3 {
            learner.zero_grad().unwrap();
            tensor.sum(Kind::Float).backward();
            assert_eq!(learner.step(step).unwrap().learning_rate, 0.1);
            master -= 1e-4;
            average = 0.75 * average + 0.25 * master;
        }
        assert_eq!(value(&tensor), 1.0);
        let averages = &learner.ema.as_ref().unwrap().averages;
        approx::assert_abs_diff_eq!(value(&averages[0]), average, epsilon = 1e-6);
    }
}
