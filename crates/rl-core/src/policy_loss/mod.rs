//! Policy-gradient losses: one [`PolicyObjective`], one entry, value and gradient.
//!
//! An objective is a choice of *ratio* (per token, per sequence, per weighted action: [`Ratio`]) and of what is made of it.
//! What is averaged over what is not here but in [`Reduction`](crate::masked::Reduction), so well-known names are pairs:
//!
//! | name | objective | reduction |
//! | --- | --- | --- |
//! | PPO, GRPO, DAPO, Dr. GRPO | `clipped`, ratio `token` | `token_mean`, `seq_mean_token_mean`, `token_mean`, `const_norm` |
//! | dual clip; two-sided clip | the same with `dual_clip`; with `max_ratio` | as PPO |
//! | GSPO | `clipped`, ratio `sequence_mean` (verl: `sequence_mean_token_gradient`) | `seq_mean_token_mean` |
//! | LUSPO | `clipped`, ratio `sequence_mean` | `seq_mean_token_sum`: the sequence's loss times its length |
//! | RLOO of TRL | `clipped`, ratio `sequence_sum` | `seq_mean_token_mean` |
//! | one action per turn | `clipped`, ratio `weighted_sum`; rows are turns | `seq_mean_token_mean` |
//! | RLOO without a ratio | `reinforce` | `seq_mean_token_mean` for mean log-probabilities, `seq_mean_token_sum` for sums |
//!
//! An objective on sequences gives each token the loss of its sequence; the reduction then weighs it as any other. So a
//! sequence weighs the sum of its tokens' weights, every denominator counts the whole step, and no loss depends on how
//! the step is split.
//!
//! Not here: KL and entropy terms ([`crate::kl`], [`crate::entropy`]), importance weights against the sampling engine
//! ([`crate::importance`]), and which tokens take part ([`crate::selection`]).

mod clipped;
mod covariance;
mod detached;
mod geometric;
mod ratio;
mod soft;
mod statistics;
mod vespo;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result, ensure, same_length};
use crate::masked::Normalizer;
use crate::random::RandomKey;
use crate::rows::Rows;

pub use clipped::{ClipRange, ClippedSurrogate, clipped_policy_loss};
pub use covariance::{ClipCov, KlCov};
pub use detached::{Cispo, Divergence, Dppo, Dro};
pub use geometric::Gmpo;
pub use ratio::{LogRatioClamp, MAX_LOG_RATIO, Ratio, RatioLevel};
pub use soft::Sapo;
pub use statistics::PolicyLoss;
pub use vespo::Vespo;

/// What a policy loss reads. Slices are `[batch, seq]`; where `response_mask` is false nothing is read.
#[derive(Debug, Clone, Copy)]
pub struct PolicyInputs<'a> {
    /// Log-probabilities of the chosen tokens under the policy that is trained.
    pub log_probs: &'a [f32],
    /// The same under the policy of the rollout. Absent: those of now, detached, so every ratio is 1; this is exact when
    /// a rollout is used for one update.
    pub old_log_probs: Option<&'a [f32]>,
    /// Advantage of every token.
    pub advantages: &'a [f32],
    /// True on tokens the policy chose.
    pub response_mask: &'a [bool],
    /// How the arrays are cut into sequences (or turns).
    pub rows: Rows<'a>,
    /// Importance weight of every token against the sampling engine, from [`crate::importance`]; a constant factor of
    /// the token's loss. [`Vespo`] and [`Gmpo`] use it in their own way.
    pub importance: Option<&'a [f64]>,
    /// Weight of every token in its action, for [`RatioLevel::WeightedSum`] only.
    pub token_weights: Option<&'a [f64]>,
    /// Tokens picked by [`PolicyObjective::select_tokens`], for [`ClipCov`] and [`KlCov`] only.
    pub selected: Option<&'a [bool]>,
}

impl<'a> PolicyInputs<'a> {
    /// Inputs without importance weights, token weights or a selection.
    pub fn new(
        log_probs: &'a [f32],
        old_log_probs: &'a [f32],
        advantages: &'a [f32],
        response_mask: &'a [bool],
        rows: impl Into<Rows<'a>>,
    ) -> Self {
        PolicyInputs {
            log_probs,
            old_log_probs: Some(old_log_probs),
            advantages,
            response_mask,
            rows: rows.into(),
            importance: None,
            token_weights: None,
            selected: None,
        }
    }

    fn check(&self) -> Result<()> {
        let expected = self.response_mask.len();
        let fits = |name, length: Option<usize>| {
            length.map_or(Ok(()), |length| same_length(name, length, "response_mask", expected))
        };
        fits("log_probs", Some(self.log_probs.len()))?;
        fits("old_log_probs", self.old_log_probs.map(<[f32]>::len))?;
        fits("advantages", Some(self.advantages.len()))?;
        fits("importance", self.importance.map(<[f64]>::len))?;
        fits("token_weights", self.token_weights.map(<[f64]>::len))?;
        fits("selected", self.selected.map(<[bool]>::len))
    }
}

/// A policy-gradient objective. See the [module](self) for the well-known names.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PolicyObjective {
    /// Score function, `-advantage * log_prob`. Williams 1992, "Simple statistical gradient-following algorithms for
    /// connectionist reinforcement learning". verl calls the same loss `gpg`.
    Reinforce {},
    /// Clipped surrogate of PPO on ratios of tokens, sequences or weighted actions.
    Clipped(ClippedSurrogate),
    /// Clipped ratio as a constant weight of the score function.
    Cispo(Cispo),
    /// A sigmoid gate in place of the clip.
    Sapo(Sapo),
    /// Geometric mean of the clipped token ratios of a sequence.
    Gmpo(Gmpo),
    /// Smooth weight of the sequence ratio on the score function.
    Vespo(Vespo),
    /// Clipped surrogate that stops tokens of high covariance.
    ClipCov(ClipCov),
    /// Surrogate with a divergence penalty on the tokens of highest covariance.
    KlCov(KlCov),
    /// Score function with a quadratic penalty on the log-ratio.
    Dro(Dro),
    /// Score function on tokens inside a trust region of probabilities.
    Dppo(Dppo),
}

impl PolicyObjective {
    /// Checks every hyperparameter.
    pub fn validate(&self) -> Result<()> {
        match self {
            PolicyObjective::Reinforce {} => Ok(()),
            PolicyObjective::Clipped(objective) => objective.validate(),
            PolicyObjective::Cispo(objective) => objective.validate(),
            PolicyObjective::Sapo(objective) => objective.validate(),
            PolicyObjective::Gmpo(objective) => objective.validate(),
            PolicyObjective::Vespo(objective) => objective.validate(),
            PolicyObjective::ClipCov(objective) => objective.validate(),
            PolicyObjective::KlCov(objective) => objective.validate(),
            PolicyObjective::Dro(objective) => objective.validate(),
            PolicyObjective::Dppo(objective) => objective.validate(),
        }
    }

    /// The loss and its gradient with respect to `log_probs`, summed over response tokens with the normalizer's weights.
    ///
    /// `normalizer` is `num_tokens`, the response tokens of the whole step, or the weights of a
    /// [`Reduction`](crate::masked::Reduction). Losses and gradients of micro-batches are to be summed.
    ///
    /// # Errors
    /// Lengths differ, a hyperparameter is bad, an input that the objective needs is absent, the step is empty, or a
    /// number is not finite.
    pub fn loss<'n>(&self, inputs: &PolicyInputs<'_>, normalizer: impl Into<Normalizer<'n>>) -> Result<PolicyLoss> {
        self.validate()?;
        let normalizer = normalizer.into();
        match self {
            PolicyObjective::Reinforce {} => detached::reinforce(inputs, normalizer),
            PolicyObjective::Clipped(objective) => objective.loss(inputs, normalizer),
            PolicyObjective::Cispo(objective) => objective.loss(inputs, normalizer),
            PolicyObjective::Sapo(objective) => objective.loss(inputs, normalizer),
            PolicyObjective::Gmpo(objective) => objective.loss(inputs, normalizer),
            PolicyObjective::Vespo(objective) => objective.loss(inputs, normalizer),
            PolicyObjective::ClipCov(objective) => objective.loss(inputs, normalizer),
            PolicyObjective::KlCov(objective) => objective.loss(inputs, normalizer),
            PolicyObjective::Dro(objective) => objective.loss(inputs, normalizer),
            PolicyObjective::Dppo(objective) => objective.loss(inputs, normalizer),
        }
    }

    /// Tokens that [`ClipCov`] or [`KlCov`] single out, `[batch, seq]`; `None` for every other objective.
    ///
    /// The choice compares tokens with each other. Over the whole step, with the rollout's log-probabilities as
    /// `log_probs`, it does not depend on how the step is split; over each micro-batch, with those of now, it is verl's.
    /// `key` draws among the candidates of [`ClipCov`].
    ///
    /// # Errors
    /// As [`PolicyObjective::loss`].
    pub fn select_tokens(&self, inputs: &PolicyInputs<'_>, key: RandomKey) -> Result<Option<Vec<bool>>> {
        self.validate()?;
        match self {
            PolicyObjective::ClipCov(objective) => objective.select(inputs, key).map(Some),
            PolicyObjective::KlCov(objective) => objective.select(inputs).map(Some),
            _ => Ok(None),
        }
    }
}

fn needed<'a, T>(input: Option<&'a [T]>, name: &'static str, user: &'static str) -> Result<&'a [T]> {
    input.ok_or(Error::MissingInput { name, user })
}

fn positive(name: &'static str, value: f64) -> Result<()> {
    ensure(value > 0.0 && value.is_finite(), name, value, "must be finite and positive")
}

fn not_negative(name: &'static str, value: f64) -> Result<()> {
    ensure(value >= 0.0 && value.is_finite(), name, value, "must be finite and at least 0")
}
