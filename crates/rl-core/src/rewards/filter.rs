//! Dynamic sampling: which groups are worth training on. Sampling again, and when to give up, are the trainer's.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, finite};
use crate::statistics::RunningStatistics;

/// Which groups are kept. Yu et al. 2025 (DAPO), section 3.2: <https://arxiv.org/abs/2503.14476>.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum GroupFilter {
    /// `low + margin < mean < high - margin`, strictly. OpenRLHF: (0, 1) without a margin; its 2025 fork: 1e-6.
    MeanInside {
        /// Lower bound of the mean.
        low: f64,
        /// Upper bound of the mean.
        high: f64,
        /// How far inside the bounds; 0 is off.
        #[serde(default)]
        margin: f64,
    },
    /// The numbers of the group are not all equal (verl). A group with one scored sample is kept, as in verl.
    NotConstant,
}

/// What a [`GroupFilter`] decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSelection {
    /// `[prompts]`.
    pub kept: Vec<bool>,
    /// Groups dropped because none of their samples was scored.
    pub num_unscored: usize,
}

impl GroupSelection {
    /// Indices of the kept samples, `[kept * group_size]`.
    pub fn samples(&self, group_size: usize) -> Vec<usize> {
        let kept = self.kept.iter().enumerate().filter(|&(_, &kept)| kept);
        kept.flat_map(|(prompt, _)| prompt * group_size..(prompt + 1) * group_size).collect()
    }
}

impl GroupFilter {
    /// Checks that the bounds are finite and leave room.
    ///
    /// # Errors
    /// A bound is not finite, the margin is negative, or nothing lies between the bounds.
    pub fn validate(&self) -> Result<()> {
        if let GroupFilter::MeanInside { low, high, margin } = *self {
            finite("low", 0, low)?;
            finite("high", 0, high)?;
            ensure(margin >= 0.0 && margin.is_finite(), "margin", margin, "must be finite and at least 0")?;
            ensure(low + margin < high - margin, "low", low, "must be below high, margins included")?;
        }
        Ok(())
    }

    /// Decides over `metric`, `[prompts * group_size]`: the score of each sample, or whatever the run filters by.
    ///
    /// # Errors
    /// A bound is bad, `group_size` is 0 or does not divide the batch, or a number is not finite.
    pub fn select(&self, metric: &[Option<f64>], group_size: usize) -> Result<GroupSelection> {
        self.validate()?;
        ensure(group_size > 0, "group_size", 0.0, "must be positive")?;
        if !metric.len().is_multiple_of(group_size) {
            let (length, divisor) = (metric.len(), group_size);
            return Err(Error::NotAMultiple { name: "metric", length, divisor_name: "group_size", divisor });
        }
        let mut selection = GroupSelection { kept: Vec::with_capacity(metric.len() / group_size), num_unscored: 0 };
        for (prompt, group) in metric.chunks(group_size).enumerate() {
            let mut statistics = RunningStatistics::default();
            let mut first = None;
            let mut constant = true;
            for (offset, value) in group.iter().enumerate() {
                let Some(value) = *value else { continue };
                statistics.push(finite("metric", prompt * group_size + offset, value)?)?;
                constant &= *first.get_or_insert(value) == value;
            }
            let Some(first) = first else {
                selection.num_unscored += 1;
                selection.kept.push(false);
                continue;
            };
            // The mean of equal numbers is that number, without the rounding of a sum.
            let mean = if constant { first } else { statistics.mean() };
            selection.kept.push(match *self {
                GroupFilter::MeanInside { low, high, margin } => low + margin < mean && mean < high - margin,
                GroupFilter::NotConstant => !constant || statistics.count() == 1,
            });
        }
        Ok(selection)
    }
}
