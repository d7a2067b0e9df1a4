//! The steps of a [`RewardShaping`] at work.

use std::ops::Range;

use super::{RewardInputs, RewardShaping, RewardStep, Rewards};
use crate::advantages::{GroupEstimator, GroupRewards, Whitening, whiten, whiten_samples};
use crate::error::{Result, ensure, finite, finite_f32, same_length};

/// Token rewards and what was noticed on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct ShapedRewards {
    /// `[batch, seq]`, 0 where `response_mask` is false.
    pub token_rewards: Vec<f32>,
    /// `[batch, seq]`: the mask that was given, without the rows that are not `used` and those that a step took out. It is
    /// the mask of the loss. TRL keeps unscorable samples in the denominator of its loss, with advantage 0: to do the
    /// same, use the mask that was given.
    pub response_mask: Vec<bool>,
    /// `[batch]`: the part that sits on the last response token, before the steps on tokens; 0 where there is none.
    pub rewards: Vec<f64>,
    /// `[batch]`: false for samples without a score, without a response token, or in a group that was left out.
    pub used: Vec<bool>,
    /// Rewards that a clip changed.
    pub num_clipped: usize,
    /// Share of groups with equal rewards; absent without a comparison.
    pub frac_zero_std: Option<f64>,
}

impl RewardShaping {
    /// Runs the steps. `estimator` is what [`RewardStep::Baseline`] does; without it that step does nothing.
    ///
    /// Where `response_mask` is false nothing is read. A sample without a response token is treated as unscorable.
    ///
    /// # Errors
    /// Lengths differ, a setting is bad, an input that a step reads is missing (`truncated`, `kl` with a positive
    /// `kl_coef`), an estimator without a baseline step, a step that needs one reward per sample meets rewards per token,
    /// or a number is not finite.
    pub fn shape(&self, inputs: &RewardInputs<'_>, estimator: Option<GroupEstimator>) -> Result<ShapedRewards> {
        self.validate()?;
        if estimator.is_some() {
            let has_baseline = self.steps.contains(&RewardStep::Baseline);
            ensure(has_baseline, "number of baseline steps", 0.0, "must be 1 with an estimator that compares samples")?;
        }
        let mut pipeline = Pipeline::new(inputs)?;
        for &step in &self.steps {
            pipeline.apply(step, estimator)?;
        }
        pipeline.finish()
    }
}

struct Pipeline<'a> {
    inputs: &'a RewardInputs<'a>,
    ranges: Vec<Range<usize>>,
    kl: Option<&'a [f32]>,
    mask: Vec<bool>,
    /// `[batch]`; with rewards per token, 0 for every row that has a token.
    scores: Vec<Option<f64>>,
    /// `[batch, seq]`; zeros until outcome rewards are placed.
    tokens: Vec<f32>,
    per_token: bool,
    is_placed: bool,
    num_clipped: usize,
    frac_zero_std: Option<f64>,
}

impl<'a> Pipeline<'a> {
    fn new(inputs: &'a RewardInputs<'a>) -> Result<Self> {
        let ranges = inputs.rows.ranges(inputs.response_mask.len())?;
        finite("kl_coef", 0, inputs.kl_coef)?;
        if let Some(kl) = inputs.kl {
            same_length("kl", kl.len(), "response_mask", inputs.response_mask.len())?;
        }
        if let Some(truncated) = inputs.truncated {
            same_length("truncated", truncated.len(), "rows", ranges.len())?;
        }
        let has_tokens = |range: &Range<usize>| inputs.response_mask[range.clone()].contains(&true);
        let (scores, tokens) = match inputs.rewards {
            Rewards::Outcome(rewards) => {
                same_length("rewards", rewards.len(), "rows", ranges.len())?;
                let mut scores = Vec::with_capacity(rewards.len());
                for (row, reward) in rewards.iter().enumerate() {
                    let reward = reward.filter(|_| has_tokens(&ranges[row]));
                    scores.push(reward.map(|reward| finite("rewards", row, reward)).transpose()?);
                }
                (scores, vec![0.0; inputs.response_mask.len()])
            }
            Rewards::Tokens(rewards) => {
                same_length("token_rewards", rewards.len(), "response_mask", inputs.response_mask.len())?;
                let mut tokens = vec![0.0; rewards.len()];
                for index in (0..rewards.len()).filter(|&index| inputs.response_mask[index]) {
                    tokens[index] = finite("token_rewards", index, rewards[index].into())? as f32;
                }
                (ranges.iter().map(|range| has_tokens(range).then_some(0.0)).collect(), tokens)
            }
        };
        Ok(Pipeline {
            inputs,
            kl: inputs.kl.filter(|_| inputs.kl_coef > 0.0),
            mask: inputs.response_mask.to_vec(),
            scores,
            per_token: matches!(inputs.rewards, Rewards::Tokens(_)),
            tokens,
            ranges,
            is_placed: false,
            num_clipped: 0,
            frac_zero_std: None,
        })
    }

    fn apply(&mut self, step: RewardStep, estimator: Option<GroupEstimator>) -> Result<()> {
        match step {
            RewardStep::Overlong { penalty } => {
                self.needs_outcomes()?;
                for (score, range) in self.scores.iter_mut().zip(&self.ranges) {
                    let num_tokens = self.inputs.response_mask[range.clone()].iter().filter(|&&token| token).count();
                    *score = score.map(|score| score + penalty.of(num_tokens));
                }
                Ok(())
            }
            RewardStep::ScaleTruncated { factor } => self.truncated(|score| score * factor),
            RewardStep::ReplaceTruncated { reward } => self.truncated(|_| reward),
            RewardStep::MissingEndPenalty { penalty } => self.truncated(|score| score - penalty),
            RewardStep::MaskTruncated => self.mask_truncated(),
            RewardStep::Clip { low, high } => {
                self.clip(low, high);
                Ok(())
            }
            RewardStep::SampleKl => self.sample_kl(),
            RewardStep::Baseline => estimator.map_or(Ok(()), |estimator| self.baseline(estimator)),
            RewardStep::SampleWhitening { whitening } => {
                self.needs_outcomes()?;
                self.scores = whiten_samples(&self.scores, whitening)?;
                Ok(())
            }
            RewardStep::TokenKl => self.token_kl(),
            RewardStep::TokenWhitening { whitening } => self.whiten_tokens(whitening),
        }
    }

    fn needs_outcomes(&self) -> Result<()> {
        let limit = "must be false: this step works on one reward per sample";
        ensure(!self.per_token, "rewards per token", 1.0, limit)
    }

    fn truncated_rows(&self) -> Result<&'a [bool]> {
        let given = self.inputs.truncated.is_some();
        ensure(given, "truncated", 0.0, "must be given: a step of the shaping is about truncated samples")?;
        Ok(self.inputs.truncated.unwrap_or_default())
    }

    fn truncated(&mut self, change: impl Fn(f64) -> f64) -> Result<()> {
        self.needs_outcomes()?;
        let truncated = self.truncated_rows()?;
        for (score, &truncated) in self.scores.iter_mut().zip(truncated) {
            *score = score.map(|score| if truncated { change(score) } else { score });
        }
        Ok(())
    }

    fn mask_truncated(&mut self) -> Result<()> {
        let truncated = self.truncated_rows()?;
        for (range, _) in self.ranges.iter().zip(truncated).filter(|&(_, &truncated)| truncated) {
            self.mask[range.clone()].fill(false);
        }
        Ok(())
    }

    fn clip(&mut self, low: f64, high: f64) {
        if self.per_token {
            for (token, _) in self.tokens.iter_mut().zip(&self.mask).filter(|&(_, &kept)| kept) {
                let value = f64::from(*token);
                self.num_clipped += usize::from(value < low || value > high);
                *token = value.clamp(low, high) as f32;
            }
            return;
        }
        for score in self.scores.iter_mut().flatten() {
            self.num_clipped += usize::from(*score < low || *score > high);
            *score = score.clamp(low, high);
        }
    }

    /// The KL of token `index`, times its coefficient.
    fn penalty(&self, kl: &[f32], index: usize) -> Result<f64> {
        Ok(self.inputs.kl_coef * finite("kl", index, kl[index].into())?)
    }

    fn check_kl(&self) -> Result<()> {
        let good = self.inputs.kl.is_some() || self.inputs.kl_coef <= 0.0;
        ensure(good, "kl_coef", self.inputs.kl_coef, "must be 0 when no kl is given")
    }

    fn sample_kl(&mut self) -> Result<()> {
        self.needs_outcomes()?;
        self.check_kl()?;
        let Some(kl) = self.kl else { return Ok(()) };
        for row in 0..self.scores.len() {
            let Some(mut score) = self.scores[row] else { continue };
            for index in self.ranges[row].clone().filter(|&index| self.mask[index]) {
                score -= self.penalty(kl, index)?;
            }
            self.scores[row] = Some(finite("rewards", row, score)?);
        }
        Ok(())
    }

    fn baseline(&mut self, estimator: GroupEstimator) -> Result<()> {
        self.needs_outcomes()?;
        let count = |range: &Range<usize>| self.inputs.response_mask[range.clone()].iter().filter(|&&t| t).count();
        let lengths: Vec<usize> = self.ranges.iter().map(count).collect();
        let group = estimator.advantages(&GroupRewards {
            rewards: &self.scores,
            group_size: self.inputs.group_size,
            lengths: Some(&lengths),
            greedy_rewards: self.inputs.greedy_rewards,
        })?;
        self.frac_zero_std = Some(group.frac_zero_std);
        self.scores =
            group.used.iter().zip(&group.advantages).map(|(&used, &advantage)| used.then_some(advantage)).collect();
        Ok(())
    }

    /// Puts outcome rewards on the last response tokens, and takes rows without a score out of the mask.
    fn place(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.is_placed, true) {
            return Ok(());
        }
        for (row, (score, range)) in self.scores.iter().zip(&self.ranges).enumerate() {
            let Some(score) = *score else {
                self.mask[range.clone()].fill(false);
                continue;
            };
            if let (false, Some(last)) = (self.per_token, range.clone().rev().find(|&index| self.mask[index])) {
                self.tokens[last] = finite_f32("rewards", row, score)?;
            }
        }
        Ok(())
    }

    fn token_kl(&mut self) -> Result<()> {
        self.check_kl()?;
        self.place()?;
        let Some(kl) = self.kl else { return Ok(()) };
        for index in 0..self.mask.len() {
            if self.mask[index] {
                let reward = f64::from(self.tokens[index]) - self.penalty(kl, index)?;
                self.tokens[index] = finite_f32("token_rewards", index, reward)?;
            }
        }
        Ok(())
    }

    fn whiten_tokens(&mut self, whitening: Whitening) -> Result<()> {
        self.place()?;
        self.tokens = whiten(&self.tokens, &self.mask, whitening)?;
        Ok(())
    }

    fn finish(mut self) -> Result<ShapedRewards> {
        self.place()?;
        for (token, _) in self.tokens.iter_mut().zip(&self.mask).filter(|&(_, &kept)| !kept) {
            *token = 0.0;
        }
        Ok(ShapedRewards {
            token_rewards: self.tokens,
            response_mask: self.mask,
            rewards: self.scores.iter().map(|score| score.unwrap_or(0.0)).collect(),
            used: self.scores.iter().map(Option::is_some).collect(),
            num_clipped: self.num_clipped,
            frac_zero_std: self.frac_zero_std,
        })
    }
}
