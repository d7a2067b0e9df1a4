//! The losses over pairs, as a configuration names them. What each computes is in `pair.rs` and `transport.rs`.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// Whether a squared loss compares sums over the answers or means per token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioScale {
    /// Sums over the response tokens, as OpenRLHF.
    Sum,
    /// Sums divided by the answer's length, as TRL.
    Mean,
}

/// A loss over pairs of a chosen and a rejected answer.
///
/// `c` and `r` are the log-ratios to the reference, `D = c - r` (of the scores, see
/// [`FDivergence`](super::FDivergence)), `T_c` and `T_r` the lengths, `s` the logistic function and `ls` its logarithm.
/// `beta` is how strongly the policy is held to the reference; every published default is 0.1 unless said otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum PreferenceLoss {
    /// `-ls(beta D)`. Rafailov et al. 2023 (DPO), eq. 7: <https://arxiv.org/abs/2305.18290>.
    ///
    /// TRL ignores label smoothing here; for smoothed labels use [`PreferenceLoss::ConservativeSigmoid`].
    Sigmoid {
        /// Strength of the hold.
        beta: f64,
    },
    /// `-(1 - e) ls(beta D) - e ls(-beta D)`: a share `e` of the labels is wrong. Mitchell 2023 (cDPO), eq. 3.
    ///
    /// OpenRLHF's DPO loss with `label_smoothing`.
    ConservativeSigmoid {
        /// Strength of the hold.
        beta: f64,
        /// `e`, in `[0, 0.5)`.
        label_smoothing: f64,
    },
    /// `(-(1 - e) ls(beta D) + e ls(-beta D)) / (1 - 2 e)`, unbiased under flipped labels. Chowdhury et al. 2024:
    /// <https://arxiv.org/abs/2403.00409>. Not bounded below.
    Robust {
        /// Strength of the hold.
        beta: f64,
        /// `e`, in `[0, 0.5)`.
        label_smoothing: f64,
    },
    /// `max(0, 1 - beta D)`. Zhao et al. 2023 (SLiC), Liu et al. 2023 (RSO): <https://arxiv.org/abs/2309.06657>.
    Hinge {
        /// Strength of the hold.
        beta: f64,
    },
    /// `(X - 1 / (2 beta))^2` with `X = D`, or with length-averaged scores. Azar et al. 2023 (IPO), eq. 17:
    /// <https://arxiv.org/abs/2310.12036>.
    Ipo {
        /// Strength of the hold, `tau` in the paper.
        beta: f64,
        /// OpenRLHF compares sums, TRL means.
        scale: RatioScale,
    },
    /// `-ls(beta (c / T_c - r / T_r))`: the scores are averaged over the answers' tokens.
    SigmoidNorm {
        /// Strength of the hold.
        beta: f64,
    },
    /// `q (log q - log(1 - e)) + (1 - q) (log(1 - q) - log e)` with `q = s(beta D)`: the reverse KL to the label. Ji et al.
    /// 2024 (EXO), eq. 16: <https://arxiv.org/abs/2402.00856>.
    ExoPair {
        /// Strength of the hold.
        beta: f64,
        /// `e`, in `(0, 0.5)`; 1e-3 in the paper.
        label_smoothing: f64,
    },
    /// `-ls(beta c) - 0.5 ls(-beta c) - 0.5 ls(-beta r)`. Chen et al. 2024 (NCA): <https://arxiv.org/abs/2402.05369>.
    NcaPair {
        /// Strength of the hold.
        beta: f64,
    },
    /// `-ls(beta c) - ls(-beta r)`, each answer against the reference alone. Jung et al. 2024 (BCO), without its reward
    /// shift: <https://arxiv.org/abs/2404.04656>.
    BcoPair {
        /// Strength of the hold.
        beta: f64,
    },
    /// `(c - 1 / (2 beta))^2 + (r + 1 / (2 beta))^2`. Wu et al. 2024 (SPPO), eq. 4.7 with probabilities 1 and 0:
    /// <https://arxiv.org/abs/2405.00675>.
    SppoHard {
        /// Strength of the hold; `1 / eta` in the paper.
        beta: f64,
    },
    /// `1 - s(beta c) + s(beta r)`, for chosen answers better than the model's. D'Oosterlinck et al. 2024 (APO), eq. 7:
    /// <https://arxiv.org/abs/2408.06266>.
    ApoZero {
        /// Strength of the hold.
        beta: f64,
    },
    /// `s(beta c) + 1 - s(beta D)` without f-divergence, for chosen answers worse than the model's. The same, eq. 8.
    ApoDown {
        /// Strength of the hold.
        beta: f64,
    },
    /// Sorts `lp_c - lp_r` and `ref_c - ref_r` over the step, each by itself, and pays cDPO on the differences of equal
    /// ranks. Melnyk et al. 2024 (AOT): <https://arxiv.org/abs/2406.05882>. Not separable; TRL sorts each micro-batch.
    Aot {
        /// Strength of the hold.
        beta: f64,
        /// `e`, in `[0, 0.5)`.
        label_smoothing: f64,
    },
    /// Sorts `c` and `r` over the step, each by itself, and pays cDPO on the differences of equal ranks. The same paper.
    /// Not separable; TRL sorts each micro-batch.
    AotUnpaired {
        /// Strength of the hold.
        beta: f64,
        /// `e`, in `[0, 0.5)`.
        label_smoothing: f64,
    },
    /// `(1 - w) (-ls(beta D)) + w exp(-beta D)` with `w = s(beta D / temperature)`. Lu et al. 2024 (DiscoPOP), eq. 5:
    /// <https://arxiv.org/abs/2406.08414>. Evaluated so that no product of 0 and infinity arises, as it does in TRL.
    Discopop {
        /// Strength of the hold.
        beta: f64,
        /// 0.05 in the paper.
        temperature: f64,
    },
    /// Reference-free: cDPO on `beta (m_c - m_r) - gamma`, `m` the mean log-probability per token. Meng et al. 2024
    /// (SimPO), eq. 6: <https://arxiv.org/abs/2405.14734>.
    ///
    /// The paper takes `beta` about 2 and `gamma / beta` about 0.5; TRL 0.1 and `gamma` 0.5, and adds the supervised term
    /// with coefficient 1 unless told otherwise.
    Simpo {
        /// Scale of the rewards.
        beta: f64,
        /// Margin that the chosen reward must win by.
        gamma: f64,
        /// `e`, in `[0, 0.5)`.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// [`PreferenceLoss::Simpo`] on `(1 - p^-alpha) / alpha` instead of `m = log p`, which is its limit at 0. Gupta et al.
    /// 2025 (AlphaPO): <https://arxiv.org/abs/2501.03884>. The exponent stops at
    /// [`MAX_SCORE_EXPONENT`](super::MAX_SCORE_EXPONENT), which TRL does not.
    AlphaPo {
        /// Scale of the rewards.
        beta: f64,
        /// Margin that the chosen reward must win by.
        gamma: f64,
        /// Bend of the reward; 0 is SimPO.
        alpha: f64,
        /// `e`, in `[0, 0.5)`.
        #[serde(default)]
        label_smoothing: f64,
    },
    /// Reference-free: cDPO on `beta (lp_c - lp_r)`, sums. Xu et al. 2024 (CPO), eq. 3: <https://arxiv.org/abs/2401.08417>.
    ///
    /// The paper and TRL add the supervised term with coefficient 1: [`NllTerm`](super::NllTerm).
    CpoSigmoid {
        /// Scale of the log-probabilities.
        beta: f64,
        /// `e`, in `[0, 0.5)`.
        #[serde(default)]
        label_smoothing: f64,
        /// Bend as in [`PreferenceLoss::AlphaPo`], which TRL offers for every CPO loss.
        #[serde(default)]
        alpha: f64,
    },
    /// Reference-free: `max(0, 1 - beta (lp_c - lp_r))`, sums.
    CpoHinge {
        /// Scale of the log-probabilities.
        beta: f64,
        /// Bend as in [`PreferenceLoss::AlphaPo`].
        #[serde(default)]
        alpha: f64,
    },
    /// Reference-free: `(X - 1 / (2 beta))^2` with `X = lp_c - lp_r` of sums or of means.
    CpoIpo {
        /// Half the inverse of the wanted difference.
        beta: f64,
        /// TRL compares means.
        scale: RatioScale,
        /// Bend as in [`PreferenceLoss::AlphaPo`].
        #[serde(default)]
        alpha: f64,
    },
    /// Reference-free: `-beta ls(log_odds)`, `log_odds = (m_c - m_r) - (log(1 - exp(m_c)) - log(1 - exp(m_r)))` with mean
    /// log-probabilities `m`. Hong et al. 2024 (ORPO), eq. 4 and 7: <https://arxiv.org/abs/2403.07691>.
    ///
    /// The method needs the supervised term too, [`NllTerm`](super::NllTerm) with coefficient 1; TRL takes it over prompt
    /// and response. `m` above -1e-7 is held there, without gradient, and counted; TRL becomes infinite at 0.
    Orpo {
        /// Weight of the odds ratio, `lambda` in the paper.
        beta: f64,
    },
}

impl PreferenceLoss {
    /// The strength of the hold, which also scales the implicit rewards.
    pub fn beta(self) -> f64 {
        use PreferenceLoss::*;
        match self {
            Sigmoid { beta }
            | ConservativeSigmoid { beta, .. }
            | Robust { beta, .. }
            | Hinge { beta }
            | Ipo { beta, .. }
            | SigmoidNorm { beta }
            | ExoPair { beta, .. }
            | NcaPair { beta }
            | BcoPair { beta }
            | SppoHard { beta }
            | ApoZero { beta }
            | ApoDown { beta }
            | Aot { beta, .. }
            | AotUnpaired { beta, .. }
            | Discopop { beta, .. }
            | Simpo { beta, .. }
            | AlphaPo { beta, .. }
            | CpoSigmoid { beta, .. }
            | CpoHinge { beta, .. }
            | CpoIpo { beta, .. }
            | Orpo { beta } => beta,
        }
    }

    /// Whether log-probabilities of the reference policy are read.
    pub fn needs_reference(self) -> bool {
        use PreferenceLoss::*;
        !matches!(
            self,
            Simpo { .. } | AlphaPo { .. } | CpoSigmoid { .. } | CpoHinge { .. } | CpoIpo { .. } | Orpo { .. }
        )
    }

    /// Whether a step may be cut into micro-batches. Losses that sort over the step may not: a trainer computes all
    /// log-probabilities first, asks for the gradients of the whole step at once, and then runs its backward passes.
    pub fn is_separable(self) -> bool {
        !matches!(self, PreferenceLoss::Aot { .. } | PreferenceLoss::AotUnpaired { .. })
    }

    /// Whether it is a function of the scores of an [`FDivergence`](super::FDivergence); the others read plain log-ratios.
    pub fn uses_f_divergence(self) -> bool {
        use PreferenceLoss::*;
        matches!(
            self,
            Sigmoid { .. }
                | ConservativeSigmoid { .. }
                | Robust { .. }
                | Hinge { .. }
                | Ipo { .. }
                | SigmoidNorm { .. }
                | ExoPair { .. }
                | Discopop { .. }
        )
    }

    /// Whether it divides by the answers' lengths itself.
    pub fn is_length_averaged(self) -> bool {
        use PreferenceLoss::*;
        matches!(
            self,
            SigmoidNorm { .. }
                | Ipo { scale: RatioScale::Mean, .. }
                | CpoIpo { scale: RatioScale::Mean, .. }
                | Simpo { .. }
                | AlphaPo { .. }
                | Orpo { .. }
        )
    }

    /// Checks every hyperparameter.
    ///
    /// # Errors
    /// One is outside its range; the message says which.
    pub fn validate(self) -> Result<()> {
        use PreferenceLoss::*;
        let beta = self.beta();
        ensure(beta > 0.0 && beta.is_finite(), "beta", beta, "must be finite and above 0")?;
        match self {
            ConservativeSigmoid { label_smoothing, .. }
            | Robust { label_smoothing, .. }
            | Aot { label_smoothing, .. }
            | AotUnpaired { label_smoothing, .. } => smoothing(label_smoothing),
            ExoPair { label_smoothing, .. } => {
                ensure(label_smoothing > 0.0, "label_smoothing", label_smoothing, "must be above 0 for exo_pair")?;
                smoothing(label_smoothing)
            }
            Discopop { temperature, .. } => {
                ensure(temperature > 0.0 && temperature.is_finite(), "temperature", temperature, "must be above 0")
            }
            Simpo { gamma, label_smoothing, .. } => {
                finite_hyperparameter("gamma", gamma)?;
                smoothing(label_smoothing)
            }
            AlphaPo { gamma, alpha, label_smoothing, .. } => {
                finite_hyperparameter("gamma", gamma)?;
                finite_hyperparameter("alpha", alpha)?;
                smoothing(label_smoothing)
            }
            CpoSigmoid { label_smoothing, alpha, .. } => {
                finite_hyperparameter("alpha", alpha)?;
                smoothing(label_smoothing)
            }
            CpoHinge { alpha, .. } | CpoIpo { alpha, .. } => finite_hyperparameter("alpha", alpha),
            Sigmoid { .. }
            | Hinge { .. }
            | Ipo { .. }
            | SigmoidNorm { .. }
            | NcaPair { .. }
            | BcoPair { .. }
            | SppoHard { .. }
            | ApoZero { .. }
            | ApoDown { .. }
            | Orpo { .. } => Ok(()),
        }
    }
}

fn smoothing(value: f64) -> Result<()> {
    ensure((0.0..0.5).contains(&value), "label_smoothing", value, "must be in [0, 0.5)")
}

fn finite_hyperparameter(name: &'static str, value: f64) -> Result<()> {
    ensure(value.is_finite(), name, value, "must be finite")
}
