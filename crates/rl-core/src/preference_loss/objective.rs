//! What a trainer is configured with: losses with weights, and what is done to log-ratios before and to losses after.

use serde::{Deserialize, Serialize};

use super::divergence::FDivergence;
use super::loss::PreferenceLoss;
use crate::error::{Error, Result, ensure};
use crate::masked::{Reduction, StepCounts};
use crate::rows::Rows;

/// A weighted sum of losses over pairs, as read from a configuration.
///
/// Defaults are neutral: everything that is not named is off.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PreferenceObjective {
    /// The losses; the first one says what the implicit rewards are.
    pub losses: Vec<WeightedLoss>,
    /// Divergence that scores the log-ratios; every loss must allow it, see [`PreferenceLoss::uses_f_divergence`].
    #[serde(default)]
    pub f_divergence: FDivergence,
    /// Divides every log-ratio by the answer's length before anything else.
    #[serde(default)]
    pub length_norm: bool,
    /// Clamps every log-ratio, after length normalisation, to `[-x, x]`. A clamped side has no gradient and is counted.
    #[serde(default)]
    pub ratio_clamp: Option<f64>,
    /// LD-DPO: weight of the response tokens past the shorter answer of the pair, in `[0, 1]`; 1 changes nothing. The
    /// caller applies [`ld_dpo_token_weights`](super::ld_dpo_token_weights) where it sums log-probabilities.
    #[serde(default)]
    pub ld_alpha: Option<f64>,
    /// WPO: each pair's loss is multiplied by a weight that the caller gives, see [`wpo_weights`](super::wpo_weights).
    #[serde(default)]
    pub wpo: bool,
    /// Supervised loss on the chosen answer, which the caller computes per token and adds.
    #[serde(default)]
    pub nll: Option<NllTerm>,
}

/// A loss and its share.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WeightedLoss {
    /// The loss.
    pub loss: PreferenceLoss,
    /// What it is multiplied by.
    #[serde(default = "one")]
    pub weight: f64,
}

/// `coef` times the negative log-likelihood of the chosen answers: RPO's `alpha`, CPO's and ORPO's supervised term.
///
/// Pang et al. 2024 (RPO): <https://arxiv.org/abs/2404.19733>. TRL reduces by token mean over the micro-batch
/// ([`Reduction::TokenMeanLocal`]; [`Reduction::TokenMean`] is the same over the step), OpenRLHF by sequence mean of token
/// means ([`Reduction::SeqMeanTokenMean`]). Llama 3.1 used 0.2. TRL multiplies this term too by the mean WPO weight; ours
/// is not weighted.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NllTerm {
    /// What the term is multiplied by.
    pub coef: f64,
    /// How tokens become one number; the counts are those of the chosen answers alone.
    pub reduction: Reduction,
    /// Which tokens it covers.
    #[serde(default)]
    pub tokens: NllTokens,
}

/// The tokens a supervised term covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NllTokens {
    /// The response.
    #[default]
    Response,
    /// Prompt and response, as TRL's ORPO.
    PromptAndResponse,
}

impl NllTerm {
    /// Checks that the coefficient is finite and not negative.
    pub fn validate(&self) -> Result<()> {
        ensure(self.coef >= 0.0 && self.coef.is_finite(), "nll.coef", self.coef, "must be finite and at least 0")
    }

    /// Weight per token for [`cross_entropy_loss`](crate::cross_entropy::cross_entropy_loss) over the chosen answers, the
    /// coefficient included: its loss and gradient are then to be added as they are.
    ///
    /// `mask` is `[batch, seq]`, true on the tokens that [`NllTerm::tokens`] names; `step` counts the same mask over the
    /// chosen answers of the whole step.
    ///
    /// # Errors
    /// Those of [`Reduction::token_weights`], or a bad coefficient.
    pub fn token_weights<'a>(&self, mask: &[bool], rows: impl Into<Rows<'a>>, step: &StepCounts) -> Result<Vec<f64>> {
        self.validate()?;
        let mut weights = self.reduction.token_weights(mask, rows, step)?;
        weights.iter_mut().for_each(|weight| *weight *= self.coef);
        Ok(weights)
    }
}

impl From<PreferenceLoss> for PreferenceObjective {
    /// That loss alone, nothing else.
    fn from(loss: PreferenceLoss) -> Self {
        PreferenceObjective {
            losses: vec![WeightedLoss { loss, weight: 1.0 }],
            f_divergence: FDivergence::ReverseKl,
            length_norm: false,
            ratio_clamp: None,
            ld_alpha: None,
            wpo: false,
            nll: None,
        }
    }
}

impl PreferenceObjective {
    /// Whether log-probabilities of a reference policy are read.
    pub fn needs_reference(&self) -> bool {
        self.losses.iter().any(|part| part.loss.needs_reference())
    }

    /// Whether a step may be cut into micro-batches; if not, the trainer makes two passes, see
    /// [`PreferenceLoss::is_separable`].
    pub fn is_separable(&self) -> bool {
        self.losses.iter().all(|part| part.loss.is_separable())
    }

    /// Whether [`PreferenceBatch::pair_weights`](super::PreferenceBatch::pair_weights) must be given.
    pub fn needs_pair_weights(&self) -> bool {
        self.wpo
    }

    /// Checks every setting, and that each has something to act on.
    ///
    /// # Errors
    /// No loss, a value outside its range, or a setting that no loss would use.
    pub fn validate(&self) -> Result<()> {
        if self.losses.is_empty() {
            return Err(Error::EmptyBatch { what: "losses of the preference objective" });
        }
        for part in &self.losses {
            part.loss.validate()?;
            ensure(
                part.weight >= 0.0 && part.weight.is_finite(),
                "weight",
                part.weight,
                "must be finite and at least 0",
            )?;
        }
        self.f_divergence.validate()?;
        let any = |holds: fn(PreferenceLoss) -> bool| self.losses.iter().any(|part| holds(part.loss));
        let conflict = |wrong: bool, first, second, reason| {
            if wrong { Err(Error::Conflict { first, second, reason }) } else { Ok(()) }
        };
        // The f-divergence's normaliser cancels only in a difference of scores.
        conflict(
            self.f_divergence != FDivergence::ReverseKl && any(|loss| !loss.uses_f_divergence()),
            "f_divergence",
            "losses",
            "one of these losses is not a function of the difference of two scores; leave it out",
        )?;
        conflict(
            self.length_norm && any(PreferenceLoss::is_length_averaged),
            "length_norm",
            "losses",
            "one of these losses divides by the length already; take one or the other",
        )?;
        let ratio_settings = self.length_norm || self.ratio_clamp.is_some();
        conflict(
            ratio_settings && any(|loss| !loss.needs_reference()),
            "length_norm or ratio_clamp",
            "losses",
            "a reference-free loss has no log-ratio; leave both out",
        )?;
        conflict(
            self.ratio_clamp.is_some() && any(|loss| matches!(loss, PreferenceLoss::Aot { .. })),
            "ratio_clamp",
            "aot",
            "it sorts log-probabilities and not log-ratios; use aot_unpaired or leave the clamp out",
        )?;
        conflict(
            self.wpo && !self.is_separable(),
            "wpo",
            "losses",
            "a loss of sorted ranks belongs to no pair that could be weighted",
        )?;
        if let Some(clamp) = self.ratio_clamp {
            ensure(clamp > 0.0 && clamp.is_finite(), "ratio_clamp", clamp, "must be finite and above 0")?;
        }
        if let Some(alpha) = self.ld_alpha {
            ensure((0.0..=1.0).contains(&alpha), "ld_alpha", alpha, "must be in [0, 1]")?;
        }
        self.nll.map_or(Ok(()), |nll| nll.validate())
    }
}

fn one() -> f64 {
    1.0
}
