//! Correction for a sampling engine that is not quite the trained policy: importance weights and rejection.
//!
//! `q = exp(old_log_prob - sampling_log_prob)`, where `old_log_probs` come from the trainer's own forward pass over the
//! rollout and `sampling_log_probs` from the engine that made it. The weights are constants: they multiply the token losses
//! ([`PolicyInputs::importance`](crate::policy_loss::PolicyInputs::importance)), not the KL or entropy terms.
//!
//! The other way is to bypass the correction: give `sampling_log_probs` to the objective as `old_log_probs`. The ratio then
//! holds the mismatch already, and weights from here would count it twice.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure, finite, same_length};
use crate::policy_loss::LogRatioClamp;
use crate::rows::Rows;
use crate::selection::Selection;

/// Which tokens share one importance ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ImportanceLevel {
    /// Each token has its own.
    Token,
    /// A sequence has one, `exp(sum of the log-ratios)`.
    SequenceSum,
    /// A sequence has one, `exp(mean of the log-ratios)`.
    SequenceMean,
}

/// What happens to a ratio outside the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutOfBounds {
    /// It is held at the bound.
    Truncate,
    /// Its tokens weigh nothing.
    Drop,
}

/// How importance weights are made of two sets of log-probabilities.
///
/// | known as | judged | weight | outside | bounds |
/// | --- | --- | --- | --- | --- |
/// | TIS; OpenRLHF `tis`, its 2025 fork (at most 2), verl `token`, TRL `token_truncate` | `token` | `token` | `truncate` | 0.5, 5; -, 2; -, 2; -, 3 |
/// | IcePop; TRL `token_mask` | `token` | `token` | `drop` | 0.5, 5; -, 3 |
/// | OpenRLHF `seq-mask-tis` | `sequence_mean` | `token` | `drop` | 0.5, 5 |
/// | TRL `sequence_mask`, its default | `sequence_sum` | `sequence_sum` | `drop` | -, 3 |
/// | verl `sequence`, TRL `sequence_truncate` | `sequence_sum` | `sequence_sum` | `truncate` | -, 2; -, 3 |
///
/// OpenRLHF and TRL do not clamp log-ratios (`clamp` off); verl does, within 20.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportanceCorrection {
    /// The ratio that the bounds judge.
    pub judged: ImportanceLevel,
    /// The ratio that becomes the weight; the judged one if ratios are truncated.
    pub weight: ImportanceLevel,
    /// What happens outside the bounds.
    pub outside: OutOfBounds,
    /// Smallest ratio; absent for none.
    #[serde(default)]
    pub low: Option<f64>,
    /// Largest ratio; absent for none.
    #[serde(default)]
    pub high: Option<f64>,
    /// Divide the weights by their mean (over tokens, or over sequences if they are a sequence's), as verl can.
    #[serde(default)]
    pub normalize: bool,
    /// Bounds on log-ratios before `exp`.
    #[serde(default)]
    pub clamp: LogRatioClamp,
}

/// Importance weights and what they did.
#[derive(Debug, Clone, PartialEq)]
pub struct ImportanceWeights {
    /// Weight of every token, `[batch, seq]`, 0 where masked.
    pub weights: Vec<f64>,
    /// Response tokens whose ratio was held at a bound.
    pub num_truncated_tokens: usize,
    /// Response tokens whose weight became 0.
    pub num_dropped_tokens: usize,
    /// Rows all of whose tokens were dropped.
    pub num_dropped_rows: usize,
    /// Mean over tokens of the weights before normalisation; 0 without tokens.
    pub mean_weight: f64,
    /// `(sum of weights)^2 / (tokens * sum of squares)`: 1 when all weights are equal; 0 when all are 0.
    pub effective_sample_size: f64,
    /// Mean of `sampling_log_prob - old_log_prob`, in nats per token.
    pub mismatch_kl: f64,
}

impl ImportanceCorrection {
    /// Checks `0 <= low <= high`, and that truncated ratios are the weights.
    pub fn validate(&self) -> Result<()> {
        self.clamp.validate()?;
        let low = self.low.unwrap_or(0.0);
        ensure(low >= 0.0 && low.is_finite(), "low", low, "must be finite and at least 0")?;
        if let Some(high) = self.high {
            ensure(high > 0.0 && high.is_finite(), "high", high, "must be finite and positive")?;
            ensure(low <= high, "low", low, "must not be above high")?;
        }
        let sensible = self.outside == OutOfBounds::Drop || self.judged == self.weight;
        ensure(sensible, "high", self.high.unwrap_or(f64::INFINITY), "must judge the ratio that it truncates")
    }

    /// Weights of a batch; slices are `[batch, seq]`, and where `response_mask` is false nothing is read.
    ///
    /// With `normalize`, give the whole step at once, or the weights depend on how it is split.
    ///
    /// # Errors
    /// Lengths differ, a setting is bad, or a number (also a ratio, unclamped) is not finite. TRL takes an absent (NaN)
    /// sampling log-probability for ratio 1; here it is an error.
    pub fn weights<'a>(
        &self,
        old_log_probs: &[f32],
        sampling_log_probs: &[f32],
        response_mask: &[bool],
        rows: impl Into<Rows<'a>>,
    ) -> Result<ImportanceWeights> {
        self.validate()?;
        let rows = rows.into();
        let log_ratios = log_ratios(old_log_probs, sampling_log_probs, response_mask)?;
        let (low, high) = (self.low.unwrap_or(0.0), self.high.unwrap_or(f64::INFINITY));
        let mut made = ImportanceWeights {
            weights: vec![0.0; response_mask.len()],
            num_truncated_tokens: 0,
            num_dropped_tokens: 0,
            num_dropped_rows: 0,
            mean_weight: 0.0,
            effective_sample_size: 0.0,
            mismatch_kl: 0.0,
        };
        let (mut num_tokens, mut sum, mut sum_squares, mut row_sum, mut num_rows) = (0_usize, 0.0, 0.0, 0.0, 0_usize);
        for range in rows.ranges(response_mask.len())? {
            let tokens: Vec<usize> = range.filter(|&index| response_mask[index]).collect();
            if tokens.is_empty() {
                continue;
            }
            let total: f64 = tokens.iter().map(|&index| log_ratios[index]).sum();
            let ratio = |level, index: usize| {
                let log_ratio = match level {
                    ImportanceLevel::Token => log_ratios[index],
                    ImportanceLevel::SequenceSum => total,
                    ImportanceLevel::SequenceMean => total / tokens.len() as f64,
                };
                self.clamp.apply(log_ratio).0.exp()
            };
            let (mut dropped, mut row_weight) = (0, 0.0);
            for &index in &tokens {
                let judged = ratio(self.judged, index);
                let inside = judged >= low && judged <= high;
                let weight = match self.outside {
                    OutOfBounds::Truncate => judged.clamp(low, high),
                    OutOfBounds::Drop if inside => ratio(self.weight, index),
                    OutOfBounds::Drop => 0.0,
                };
                let weight = finite("importance", index, weight)?;
                made.num_truncated_tokens += usize::from(!inside && self.outside == OutOfBounds::Truncate);
                dropped += usize::from(!inside && self.outside == OutOfBounds::Drop);
                made.weights[index] = weight;
                row_weight += weight;
                sum_squares += weight * weight;
            }
            made.num_dropped_tokens += dropped;
            made.num_dropped_rows += usize::from(dropped == tokens.len());
            made.mismatch_kl -= total;
            sum += row_weight;
            row_sum += row_weight / tokens.len() as f64;
            num_tokens += tokens.len();
            num_rows += 1;
        }
        made.mismatch_kl /= num_tokens.max(1) as f64;
        made.mean_weight = sum / num_tokens.max(1) as f64;
        if sum_squares > 0.0 {
            made.effective_sample_size =
                sum * sum / finite("squares of importance", 0, num_tokens as f64 * sum_squares)?;
        }
        // With every weight 0 there is nothing to scale; a subnormal sum would have a mean of 0.
        if self.normalize && sum.is_normal() {
            let mean = match self.weight {
                ImportanceLevel::Token => made.mean_weight,
                ImportanceLevel::SequenceSum | ImportanceLevel::SequenceMean => row_sum / num_rows as f64,
            };
            made.weights.iter_mut().for_each(|weight| *weight /= mean);
        }
        Ok(made)
    }
}

/// How far the sampling engine and the policy are apart on one token, for [`Rejection`]. With
/// `log_ratio = old_log_prob - sampling_log_prob`:
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchStatistic {
    /// `-log_ratio`.
    K1,
    /// `log_ratio^2 / 2`.
    K2,
    /// `exp(log_ratio) - 1 - log_ratio`.
    K3,
    /// Divergence of "this token or another" under the engine from that under the policy.
    BinaryKl,
    /// `|exp(sampling_log_prob) - exp(old_log_prob)|`.
    TotalVariation,
}

/// How the statistics of a row become the number that is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MismatchLevel {
    /// Not at all: each token is judged by itself.
    Token,
    /// Summed over the row.
    SequenceSum,
    /// Averaged over the row.
    SequenceMean,
    /// The largest of the row.
    SequenceMax,
}

/// Drops tokens or rows whose mismatch is out of bounds.
///
/// verl's `rollout_rs`: K1 to K3 at any level, log-ratios held within 20, dropped tokens leave the response mask; its K1
/// bounds are given as ratios, so `low` and `high` here are their logarithms. OpenRLHF's `binary_kl` and `tv`: per token or
/// sequence mean, dropped tokens weigh nothing but are counted in denominators ([`Selection::apply`]).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// What is measured.
    pub statistic: MismatchStatistic,
    /// Over which tokens it is gathered.
    pub level: MismatchLevel,
    /// Smallest value kept; absent for none.
    #[serde(default)]
    pub low: Option<f64>,
    /// Largest value kept.
    pub high: f64,
}

/// Log-ratios of a rejection statistic are held within this; verl's value.
const MAX_MISMATCH: f64 = 20.0;
/// Probabilities of a binary divergence are held this far from 0 and 1; OpenRLHF's value.
const PROBABILITY_EPS: f64 = 1e-6;

impl Rejection {
    /// Checks that the bounds are finite and in order.
    pub fn validate(&self) -> Result<()> {
        finite("high", 0, self.high)?;
        let Some(low) = self.low else { return Ok(()) };
        finite("low", 0, low)?;
        ensure(low <= self.high, "low", low, "must not be above high")
    }

    /// Tokens kept; slices are `[batch, seq]`, and where `response_mask` is false nothing is read. For several criteria
    /// give the tokens kept by one as the mask of the next, or apply each to the weights.
    ///
    /// # Errors
    /// Lengths differ, a setting is bad, or a number is not finite.
    pub fn select<'a>(
        &self,
        old_log_probs: &[f32],
        sampling_log_probs: &[f32],
        response_mask: &[bool],
        rows: impl Into<Rows<'a>>,
    ) -> Result<Selection> {
        self.validate()?;
        let rows = rows.into();
        let log_ratios = log_ratios(old_log_probs, sampling_log_probs, response_mask)?;
        let statistic = |index: usize| {
            let (old, sampling) = (f64::from(old_log_probs[index]).exp(), f64::from(sampling_log_probs[index]).exp());
            let log_ratio = log_ratios[index].clamp(-MAX_MISMATCH, MAX_MISMATCH);
            match self.statistic {
                MismatchStatistic::K1 => -log_ratio,
                MismatchStatistic::K2 => 0.5 * log_ratio * log_ratio,
                MismatchStatistic::K3 => log_ratio.exp_m1() - log_ratio,
                MismatchStatistic::BinaryKl => {
                    let [sampling, old] = [sampling, old].map(|p| p.clamp(PROBABILITY_EPS, 1.0 - PROBABILITY_EPS));
                    sampling * (sampling / old).ln() + (1.0 - sampling) * ((1.0 - sampling) / (1.0 - old)).ln()
                }
                MismatchStatistic::TotalVariation => (sampling - old).abs(),
            }
        };
        let mut judged = vec![0.0; response_mask.len()];
        for range in rows.ranges(response_mask.len())? {
            let tokens: Vec<usize> = range.filter(|&index| response_mask[index]).collect();
            let values = || tokens.iter().map(|&index| statistic(index));
            let shared = match self.level {
                MismatchLevel::Token => None,
                MismatchLevel::SequenceSum => Some(values().sum()),
                MismatchLevel::SequenceMean => Some(values().sum::<f64>() / tokens.len() as f64),
                MismatchLevel::SequenceMax => Some(values().fold(f64::NEG_INFINITY, f64::max)),
            };
            for &index in &tokens {
                judged[index] = shared.unwrap_or_else(|| statistic(index));
            }
        }
        let low = self.low.unwrap_or(f64::NEG_INFINITY);
        Selection::of(response_mask, rows, |index| judged[index] >= low && judged[index] <= self.high)
    }
}

/// `old_log_prob - sampling_log_prob` of every response token, 0 elsewhere.
fn log_ratios(old_log_probs: &[f32], sampling_log_probs: &[f32], response_mask: &[bool]) -> Result<Vec<f64>> {
    same_length("old_log_probs", old_log_probs.len(), "response_mask", response_mask.len())?;
    same_length("sampling_log_probs", sampling_log_probs.len(), "response_mask", response_mask.len())?;
    let mut log_ratios = vec![0.0; response_mask.len()];
    for index in (0..response_mask.len()).filter(|&index| response_mask[index]) {
        let old_log_prob = finite("old_log_probs", index, old_log_probs[index].into())?;
        log_ratios[index] = old_log_prob - finite("sampling_log_probs", index, sampling_log_probs[index].into())?;
    }
    Ok(log_ratios)
}
