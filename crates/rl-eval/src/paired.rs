//! Two models on the same tasks.

use std::collections::{BTreeMap, BTreeSet};

use rl_core::statistics::{Z_95, mcnemar};
use serde::Serialize;

use crate::proportion::Proportion;
use crate::result::SplitResult;
use crate::{Error, Result};

/// Level of the tests.
pub const ALPHA: f64 = 0.05;

/// First-attempt success of two models on the same tasks, tested task by task.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairedTest {
    /// Name of the split.
    pub split: String,
    /// The model it starts from.
    pub before: String,
    /// The model that is compared with it.
    pub after: String,
    /// Success of `before` with its 95 % interval.
    pub before_success: Proportion,
    /// Success of `after`.
    pub after_success: Proportion,
    /// Tasks that only `before` solved.
    pub only_before: u64,
    /// Tasks that only `after` solved.
    pub only_after: u64,
    /// Success of `after` less that of `before`.
    pub difference: f64,
    /// Lower end of a 95 % interval of the difference.
    pub difference_low: f64,
    /// Upper end of it.
    pub difference_high: f64,
    /// Two-sided mid-p of McNemar's test.
    pub mid_p: f64,
}

/// How much more a second change of a model brings than a first one, such as the gain from RL after one kind of supervised
/// fine-tuning against that after another: a difference of differences on the same tasks.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct GainDifference {
    /// The second gain less the first, as a share of the tasks: -2 to 2.
    pub difference: f64,
    /// Lower end of its 95 % interval: Wald's, over the tasks' own differences of -2 to 2.
    pub low: f64,
    /// Upper end of it.
    pub high: f64,
}

/// How the answers of two models to the same tasks compare by a reward model.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct WinRate {
    /// Tasks.
    pub num_tasks: u64,
    /// Tasks whose answer by `after` has the higher reward.
    pub wins: u64,
    /// Tasks on which both have the same reward, such as equal answers.
    pub ties: u64,
    /// Mean over the tasks of the probability that `after`'s answer is preferred, `sigmoid(after - before)`: the model of
    /// Bradley and Terry 1952 that the reward model was trained under.
    pub probability: f64,
    /// Standard error of `probability` over the tasks; 0 for one task.
    pub standard_error: f64,
}

impl PairedTest {
    /// Compares two results of the same split, decoding and tasks.
    ///
    /// # Errors
    /// [`Error::NotPaired`] when the numbers of tasks differ.
    pub fn new(before: (&str, &SplitResult), after: (&str, &SplitResult)) -> Result<Self> {
        let num_tasks = before.1.first_attempt.trials;
        let other = after.1.first_attempt.trials;
        if num_tasks != other {
            return Err(Error::NotPaired { models: [before.0.into(), after.0.into()], tasks: [num_tasks, other] });
        }
        let (first, second) = (solved(before.1), solved(after.1));
        let only_before = first.difference(&second).count() as u64;
        let only_after = second.difference(&first).count() as u64;
        let (low, high) = difference_interval(only_before, only_after, num_tasks);
        Ok(PairedTest {
            split: before.1.split.clone(),
            before: before.0.to_owned(),
            after: after.0.to_owned(),
            before_success: before.1.first_attempt,
            after_success: after.1.first_attempt,
            only_before,
            only_after,
            difference: (only_after as f64 - only_before as f64) / num_tasks as f64,
            difference_low: low,
            difference_high: high,
            mid_p: mcnemar(only_before, only_after).mid_p,
        })
    }

    /// The difference is below 0 beyond chance.
    pub fn fell(&self) -> bool {
        self.mid_p < ALPHA && self.only_after < self.only_before
    }

    /// The difference is above 0 beyond chance.
    pub fn rose(&self) -> bool {
        self.mid_p < ALPHA && self.only_before < self.only_after
    }

    /// Whether so many discordant tasks could reach the level at all, had they all gone one way.
    pub fn is_decidable(&self) -> bool {
        mcnemar(0, self.only_before + self.only_after).mid_p < ALPHA
    }
}

impl GainDifference {
    /// Compares the gains `[before, after]` of two models, all four on the same tasks.
    ///
    /// # Errors
    /// [`Error::NotPaired`] when the numbers of tasks differ.
    pub fn new(first: [(&str, &SplitResult); 2], second: [(&str, &SplitResult); 2]) -> Result<Self> {
        let results = [first[0], first[1], second[0], second[1]];
        let num_tasks = first[0].1.first_attempt.trials;
        if let Some(other) = results.iter().find(|(_, result)| result.first_attempt.trials != num_tasks) {
            let tasks = [num_tasks, other.1.first_attempt.trials];
            return Err(Error::NotPaired { models: [first[0].0.into(), other.0.into()], tasks });
        }
        let signs = [1.0, -1.0, -1.0, 1.0];
        let mut per_task: BTreeMap<u64, f64> = BTreeMap::new();
        for ((_, result), sign) in results.iter().zip(signs) {
            for &task in &result.solved_first {
                *per_task.entry(task).or_default() += sign;
            }
        }
        // Tasks that none of the four solved add nothing to either sum.
        let count = num_tasks as f64;
        let sum: f64 = per_task.values().sum();
        let squares: f64 = per_task.values().map(|value| value * value).sum();
        let difference = sum / count;
        let variance = ((squares - sum * difference) / (count - 1.0).max(1.0)).max(0.0);
        let spread = Z_95 * (variance / count).sqrt();
        Ok(GainDifference { difference, low: difference - spread, high: difference + spread })
    }

    /// The interval holds no 0.
    pub fn is_decided(&self) -> bool {
        0.0 < self.low || self.high < 0.0
    }
}

impl WinRate {
    /// Compares the rewards of two results; none when a result has none.
    ///
    /// # Errors
    /// [`Error::NotPaired`] when the numbers of tasks differ.
    pub fn new(before: (&str, &SplitResult), after: (&str, &SplitResult)) -> Result<Option<Self>> {
        let (Some(first), Some(second)) = (&before.1.model_rewards, &after.1.model_rewards) else { return Ok(None) };
        let tasks = [first.len() as u64, second.len() as u64];
        if tasks[0] != tasks[1] {
            return Err(Error::NotPaired { models: [before.0.into(), after.0.into()], tasks });
        }
        let gaps = || first.iter().zip(second).map(|(before, after)| after - before);
        let count = tasks[0] as f64;
        let probabilities: Vec<f64> = gaps().map(|gap| 1.0 / (1.0 + (-gap).exp())).collect();
        let probability = probabilities.iter().sum::<f64>() / count;
        let squares: f64 = probabilities.iter().map(|value| (value - probability).powi(2)).sum();
        Ok(Some(WinRate {
            num_tasks: tasks[0],
            wins: gaps().filter(|&gap| 0.0 < gap).count() as u64,
            ties: gaps().filter(|&gap| gap == 0.0).count() as u64,
            probability,
            standard_error: (squares / (count - 1.0).max(1.0) / count).sqrt(),
        }))
    }
}

fn solved(result: &SplitResult) -> BTreeSet<u64> {
    result.solved_first.iter().copied().collect()
}

/// 95 % interval of a difference of paired rates: Wald's with half a task added to each of the four cells, which keeps
/// its level where few tasks differ. Agresti and Min 2005, "Simple improved confidence intervals for comparing matched
/// proportions".
fn difference_interval(only_before: u64, only_after: u64, num_tasks: u64) -> (f64, f64) {
    let tasks = num_tasks as f64 + 2.0;
    let (gap, discordant) = (only_after as f64 - only_before as f64, (only_before + only_after) as f64 + 1.0);
    let center = gap / tasks;
    let spread = Z_95 * (discordant - gap * gap / tasks).max(0.0).sqrt() / tasks;
    ((center - spread).max(-1.0), (center + spread).min(1.0))
}
