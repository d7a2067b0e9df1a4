//! The setting a trainer embeds: rewards in, one advantage per response token out.

use serde::{Deserialize, Serialize};

use super::group::GroupEstimator;
use super::whitening::{Whitening, masked_statistics, whiten_with};
use crate::error::{Result, ensure};
use crate::returns::{Gae, MaskedTime, discounted_returns, token_gae, unit_interval};
use crate::rewards::{RewardInputs, RewardShaping, ShapedRewards};
use crate::statistics::RunningStatistics;

/// Where advantages come from.
///
/// | method | setting |
/// |---|---|
/// | PPO | `Gae`, whitened |
/// | REINFORCE++ | `Reinforce`, whitened |
/// | REINFORCE++-baseline | `Group` with `MeanBaseline`, whitened |
/// | RLOO, GRPO, Dr. GRPO, OPO, ReMax, GPG, best of group | `Group` with that estimator |
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdvantageEstimator {
    /// Without a critic: the sample against its group at [`RewardStep::Baseline`](crate::rewards::RewardStep::Baseline),
    /// then the undiscounted sum of the token rewards to come, so that every token of a response has the same advantage
    /// unless the rewards hold a KL per token.
    Group {
        /// The comparison.
        estimator: GroupEstimator,
        /// Over all response tokens of the rollout; absent, none.
        #[serde(default)]
        whitening: Option<Whitening>,
    },
    /// Without a critic: the discounted sum of the token rewards to come.
    Reinforce {
        /// Discount per token.
        gamma: f64,
        /// What masked tokens inside a response do.
        #[serde(default)]
        masked_time: MaskedTime,
        /// Over all response tokens of the rollout; absent, none.
        #[serde(default)]
        whitening: Option<Whitening>,
    },
    /// With a critic: see [`token_gae`].
    Gae {
        /// Discount per token.
        gamma: f64,
        /// Decay of the estimator.
        gae_lambda: f64,
        /// What masked tokens inside a response do.
        #[serde(default)]
        masked_time: MaskedTime,
        /// Over all response tokens of the rollout; absent, none. Returns are never whitened.
        #[serde(default)]
        whitening: Option<Whitening>,
    },
}

/// What [`AdvantageEstimator::token_advantages`] finds.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenAdvantages {
    /// `[batch, seq]`, not yet whitened; 0 where `shaped.response_mask` is false.
    pub advantages: Vec<f32>,
    /// `[batch, seq]`: what a critic learns, and the sums of rewards to come without one.
    pub returns: Vec<f32>,
    /// The rewards they come from; `shaped.response_mask` is the mask of the loss.
    pub shaped: ShapedRewards,
}

impl AdvantageEstimator {
    /// Checks the constants, and that `group_size` is large enough to compare within it.
    ///
    /// # Errors
    /// The first constant that is out of range.
    pub fn validate(&self, group_size: usize) -> Result<()> {
        match *self {
            AdvantageEstimator::Group { estimator, .. } => {
                estimator.validate()?;
                let limit = "must be at least 2: a sample is compared with others";
                ensure(group_size >= estimator.min_group_size(), "group_size", group_size as f64, limit)?;
            }
            AdvantageEstimator::Reinforce { gamma, .. } => unit_interval("gamma", gamma)?,
            AdvantageEstimator::Gae { gamma, gae_lambda, .. } => {
                unit_interval("gamma", gamma)?;
                unit_interval("gae_lambda", gae_lambda)?;
            }
        }
        self.whitening().map_or(Ok(()), |whitening| whitening.validate())
    }

    /// Whether a critic's values are read.
    pub fn needs_values(&self) -> bool {
        matches!(self, AdvantageEstimator::Gae { .. })
    }

    /// The comparison within the group, if this is one.
    pub fn group_estimator(&self) -> Option<GroupEstimator> {
        match *self {
            AdvantageEstimator::Group { estimator, .. } => Some(estimator),
            _ => None,
        }
    }

    /// The whitening that follows.
    pub fn whitening(&self) -> Option<Whitening> {
        match *self {
            AdvantageEstimator::Group { whitening, .. }
            | AdvantageEstimator::Reinforce { whitening, .. }
            | AdvantageEstimator::Gae { whitening, .. } => whitening,
        }
    }

    /// Shapes the rewards and makes advantages of them, not yet whitened: a run on several ranks merges the
    /// [`statistics`](TokenAdvantages::statistics) of all ranks first, then calls [`TokenAdvantages::whiten`].
    ///
    /// `values` is `[batch, seq]`, read by [`AdvantageEstimator::Gae`] only.
    ///
    /// # Errors
    /// Those of [`RewardShaping::shape`], and missing values.
    pub fn token_advantages(
        &self,
        shaping: &RewardShaping,
        inputs: &RewardInputs<'_>,
        values: Option<&[f32]>,
    ) -> Result<TokenAdvantages> {
        self.validate(inputs.group_size)?;
        let shaped = shaping.shape(inputs, self.group_estimator())?;
        let (rewards, mask, rows) = (&shaped.token_rewards, &shaped.response_mask, inputs.rows);
        let sums = |gamma, masked_time| {
            let returns = discounted_returns(rewards, mask, rows, gamma, masked_time)?;
            Ok(Gae { advantages: returns.clone(), returns })
        };
        let Gae { advantages, returns } = match *self {
            AdvantageEstimator::Group { .. } => sums(1.0, MaskedTime::StandsStill)?,
            AdvantageEstimator::Reinforce { gamma, masked_time, .. } => sums(gamma, masked_time)?,
            AdvantageEstimator::Gae { gamma, gae_lambda, masked_time, .. } => {
                ensure(values.is_some(), "values", 0.0, "must be given: this estimator reads a critic")?;
                token_gae(rewards, values.unwrap_or_default(), None, mask, rows, gamma, gae_lambda, masked_time)?
            }
        };
        Ok(TokenAdvantages { advantages, returns, shaped })
    }

    /// [`token_advantages`](Self::token_advantages), whitened by their own statistics: for a run on one rank.
    ///
    /// # Errors
    /// As [`token_advantages`](Self::token_advantages); too few tokens to whiten, or equal ones with a floor of 0.
    pub fn whitened_advantages(
        &self,
        shaping: &RewardShaping,
        inputs: &RewardInputs<'_>,
        values: Option<&[f32]>,
    ) -> Result<TokenAdvantages> {
        let mut result = self.token_advantages(shaping, inputs, values)?;
        if let Some(whitening) = self.whitening() {
            result.whiten(whitening, &result.statistics()?)?;
        }
        Ok(result)
    }
}

impl TokenAdvantages {
    /// Statistics of the advantages of all response tokens; those of several ranks can be merged.
    ///
    /// # Errors
    /// An advantage is not finite.
    pub fn statistics(&self) -> Result<RunningStatistics> {
        masked_statistics(&self.advantages, &self.shaped.response_mask)
    }

    /// Whitens the advantages by `statistics`.
    ///
    /// # Errors
    /// As [`whiten_with`].
    pub fn whiten(&mut self, whitening: Whitening, statistics: &RunningStatistics) -> Result<()> {
        self.advantages = whiten_with(&self.advantages, &self.shaped.response_mask, whitening, statistics)?;
        Ok(())
    }
}
