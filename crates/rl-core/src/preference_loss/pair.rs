//! One pair: the loss and its two derivatives.

use super::divergence::{MAX_SCORE_EXPONENT, power_score};
use super::logistic::{log_one_minus_exp, log_sigmoid, sigmoid, softplus};
use super::loss::{PreferenceLoss, RatioScale};
use crate::error::{Error, Result};

/// Largest mean log-probability whose odds are taken.
const MAX_MEAN_LOG_PROB: f64 = -1e-7;

/// A number of one answer and its derivative with respect to the answer's log-probability.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Linked {
    pub value: f64,
    pub slope: f64,
}

impl Linked {
    fn over(self, divisor: f64) -> Self {
        Linked { value: self.value / divisor, slope: self.slope / divisor }
    }
}

/// What a loss may read of one answer; what stems from the reference is 0 when no loss needs it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Answer {
    /// Sum of the log-probabilities of its response tokens.
    pub log_prob: Linked,
    /// The same under the reference policy.
    pub ref_log_prob: f64,
    /// Log-ratio to the reference, after length normalisation and clamp.
    pub ratio: Linked,
    /// What the f-divergence makes of the ratio.
    pub score: Linked,
    /// Response tokens.
    pub length: usize,
    /// Its name for messages, and its place.
    pub name: &'static str,
    pub index: usize,
}

impl Answer {
    fn length(&self) -> Result<f64> {
        if self.length == 0 {
            let limit = "must be at least 1, since this loss divides by it";
            return Err(Error::OutOfRange { name: self.name, index: self.index, value: 0.0, limit });
        }
        Ok(self.length as f64)
    }

    /// A number of this answer divided by its length.
    pub fn per_token(&self, number: Linked) -> Result<Linked> {
        Ok(number.over(self.length()?))
    }

    fn mean_score(&self) -> Result<Linked> {
        self.per_token(self.score)
    }

    fn mean_log_prob(&self) -> Result<Linked> {
        self.per_token(self.log_prob)
    }

    /// The log-probability, bent by AlphaPO's `alpha`; the flag tells a clamped exponent.
    fn bent(log_prob: Linked, alpha: f64) -> (Linked, bool) {
        let score = power_score(-alpha, log_prob.value, MAX_SCORE_EXPONENT);
        (Linked { value: score.value, slope: score.slope * log_prob.slope }, score.clamped)
    }

    /// What a reference-free loss compares, and how many of its clamps were hit.
    fn free_reward(&self, loss: PreferenceLoss) -> Result<(Linked, bool)> {
        use PreferenceLoss::*;
        match loss {
            Simpo { .. } => Ok((self.mean_log_prob()?, false)),
            AlphaPo { alpha, .. } | CpoIpo { scale: RatioScale::Mean, alpha, .. } => {
                Ok(Self::bent(self.mean_log_prob()?, alpha))
            }
            CpoSigmoid { alpha, .. } | CpoHinge { alpha, .. } | CpoIpo { scale: RatioScale::Sum, alpha, .. } => {
                Ok(Self::bent(self.log_prob, alpha))
            }
            _ => self.mean_log_prob().map(|mean| (mean, false)),
        }
    }

    /// Log-odds of the mean probability, held below [`MAX_MEAN_LOG_PROB`].
    fn log_odds(&self) -> Result<(Linked, bool)> {
        let mean = self.mean_log_prob()?;
        if mean.value > 0.0 {
            let limit = "must not be above 0, since it is the log-probability of tokens";
            let name = if self.name == "chosen_lengths" { "chosen_log_probs" } else { "rejected_log_probs" };
            return Err(Error::OutOfRange { name, index: self.index, value: self.log_prob.value, limit });
        }
        let clamped = mean.value > MAX_MEAN_LOG_PROB;
        let held = mean.value.min(MAX_MEAN_LOG_PROB);
        let slope = if clamped { 0.0 } else { -mean.slope / held.exp_m1() };
        Ok((Linked { value: held - log_one_minus_exp(held), slope }, clamped))
    }

    /// The implicit reward over `beta`: the ratio, or what a reference-free loss compares.
    pub fn reward(&self, loss: PreferenceLoss) -> Result<f64> {
        if loss.needs_reference() { Ok(self.ratio.value) } else { Ok(self.free_reward(loss)?.0.value) }
    }
}

/// Loss of one pair, its derivatives with respect to both log-probabilities, and the clamps it hit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PairTerm {
    pub loss: f64,
    pub chosen: f64,
    pub rejected: f64,
    pub num_clamped: usize,
}

/// The losses that look at one pair at a time; those that sort the step are in `transport.rs` and give nothing here.
pub(super) fn pair_term(loss: PreferenceLoss, chosen: &Answer, rejected: &Answer) -> Result<Option<PairTerm>> {
    use PreferenceLoss::*;
    let beta = loss.beta();
    let scores = |curve: &dyn Fn(f64) -> Point| on_difference(chosen.score, rejected.score, curve);
    let term = match loss {
        Sigmoid { .. } => scores(&|d| logistic(beta * d).times(beta)),
        ConservativeSigmoid { label_smoothing, .. } => scores(&|d| smoothed(beta * d, label_smoothing).times(beta)),
        Robust { label_smoothing, .. } => scores(&|d| robust(beta * d, label_smoothing).times(beta)),
        Hinge { .. } => scores(&|d| hinge(beta * d).times(beta)),
        ExoPair { label_smoothing, .. } => scores(&|d| exo(beta * d, label_smoothing).times(beta)),
        Discopop { temperature, .. } => scores(&|d| discopop(beta * d, temperature).times(beta)),
        Ipo { scale: RatioScale::Sum, .. } => scores(&|d| squared(d, 0.5 / beta)),
        Ipo { scale: RatioScale::Mean, .. } => {
            on_difference(chosen.mean_score()?, rejected.mean_score()?, &|d| squared(d, 0.5 / beta))
        }
        SigmoidNorm { .. } => {
            on_difference(chosen.mean_score()?, rejected.mean_score()?, &|d| logistic(beta * d).times(beta))
        }
        NcaPair { .. } => on_each(
            chosen,
            rejected,
            |c| logistic(beta * c).plus(logistic(-beta * c).times(-1.0).scaled(0.5)).times(beta),
            |r| logistic(-beta * r).times(-beta).scaled(0.5),
        ),
        BcoPair { .. } => {
            on_each(chosen, rejected, |c| logistic(beta * c).times(beta), |r| logistic(-beta * r).times(-beta))
        }
        SppoHard { .. } => on_each(chosen, rejected, |c| squared(c, 0.5 / beta), |r| squared(r, -0.5 / beta)),
        ApoZero { .. } => on_each(chosen, rejected, |c| risen(-beta * c).times(-beta), |r| risen(beta * r).times(beta)),
        ApoDown { .. } => {
            let gap = on_difference(chosen.ratio, rejected.ratio, &|d| risen(-beta * d).times(-beta));
            let alone = on_each(chosen, rejected, |c| risen(beta * c).times(beta), |_| Point::default());
            PairTerm { loss: gap.loss + alone.loss, chosen: gap.chosen + alone.chosen, ..gap }
        }
        Simpo { .. } | AlphaPo { .. } | CpoSigmoid { .. } | CpoHinge { .. } | CpoIpo { .. } => {
            let (ours, first) = chosen.free_reward(loss)?;
            let (theirs, second) = rejected.free_reward(loss)?;
            let mut term = on_difference(ours, theirs, &|d| free_curve(loss, d));
            term.num_clamped = usize::from(first) + usize::from(second);
            term
        }
        Orpo { .. } => {
            let (ours, first) = chosen.log_odds()?;
            let (theirs, second) = rejected.log_odds()?;
            let mut term = on_difference(ours, theirs, &|odds| logistic(odds).scaled(beta));
            term.num_clamped = usize::from(first) + usize::from(second);
            term
        }
        Aot { .. } | AotUnpaired { .. } => return Ok(None),
    };
    Ok(Some(term))
}

/// A value and its derivative at some argument.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Point {
    pub value: f64,
    pub slope: f64,
}

impl Point {
    /// Chain rule for an argument that was multiplied by `factor`.
    fn times(self, factor: f64) -> Self {
        Point { slope: self.slope * factor, ..self }
    }

    fn scaled(self, factor: f64) -> Self {
        Point { value: self.value * factor, slope: self.slope * factor }
    }

    fn plus(self, other: Self) -> Self {
        Point { value: self.value + other.value, slope: self.slope + other.slope }
    }
}

fn on_difference(chosen: Linked, rejected: Linked, curve: &dyn Fn(f64) -> Point) -> PairTerm {
    let Point { value, slope } = curve(chosen.value - rejected.value);
    PairTerm { loss: value, chosen: slope * chosen.slope, rejected: -slope * rejected.slope, num_clamped: 0 }
}

fn on_each(
    chosen: &Answer,
    rejected: &Answer,
    first: impl Fn(f64) -> Point,
    second: impl Fn(f64) -> Point,
) -> PairTerm {
    let (ours, theirs) = (first(chosen.ratio.value), second(rejected.ratio.value));
    PairTerm {
        loss: ours.value + theirs.value,
        chosen: ours.slope * chosen.ratio.slope,
        rejected: theirs.slope * rejected.ratio.slope,
        num_clamped: 0,
    }
}

fn free_curve(loss: PreferenceLoss, difference: f64) -> Point {
    let beta = loss.beta();
    match loss {
        PreferenceLoss::Simpo { gamma, label_smoothing, .. }
        | PreferenceLoss::AlphaPo { gamma, label_smoothing, .. } => {
            smoothed(beta * difference - gamma, label_smoothing).times(beta)
        }
        PreferenceLoss::CpoHinge { .. } => hinge(beta * difference).times(beta),
        PreferenceLoss::CpoIpo { .. } => squared(difference, 0.5 / beta),
        PreferenceLoss::CpoSigmoid { label_smoothing, .. } => smoothed(beta * difference, label_smoothing).times(beta),
        _ => Point::default(),
    }
}

/// `-log sigmoid(x)`.
fn logistic(x: f64) -> Point {
    Point { value: softplus(-x), slope: -sigmoid(-x) }
}

/// `sigmoid(x)`; its fall is `1 - sigmoid(x) = sigmoid(-x)`, which loses no digits.
fn risen(x: f64) -> Point {
    Point { value: sigmoid(x), slope: sigmoid(x) * sigmoid(-x) }
}

/// cDPO's loss of `x` where a share `wrong` of the labels is flipped.
pub(super) fn smoothed(x: f64, wrong: f64) -> Point {
    Point {
        value: (1.0 - wrong) * softplus(-x) + wrong * softplus(x),
        slope: wrong * sigmoid(x) - (1.0 - wrong) * sigmoid(-x),
    }
}

fn robust(x: f64, wrong: f64) -> Point {
    let scale = 1.0 - 2.0 * wrong;
    Point {
        value: ((1.0 - wrong) * softplus(-x) - wrong * softplus(x)) / scale,
        slope: -((1.0 - wrong) * sigmoid(-x) + wrong * sigmoid(x)) / scale,
    }
}

fn hinge(x: f64) -> Point {
    if x < 1.0 { Point { value: 1.0 - x, slope: -1.0 } } else { Point::default() }
}

fn squared(x: f64, target: f64) -> Point {
    let gap = x - target;
    Point { value: gap * gap, slope: 2.0 * gap }
}

fn exo(x: f64, wrong: f64) -> Point {
    let (q, not_q) = (sigmoid(x), sigmoid(-x));
    let (right_gap, wrong_gap) = (log_sigmoid(x) - (-wrong).ln_1p(), log_sigmoid(-x) - wrong.ln());
    // The derivative of q is q (1 - q); those of the logarithms cancel between the two sides.
    Point { value: q * right_gap + not_q * wrong_gap, slope: q * not_q * (right_gap - wrong_gap) }
}

fn discopop(x: f64, temperature: f64) -> Point {
    let z = x / temperature;
    let (blend, rest) = (sigmoid(z), sigmoid(-z));
    // blend * exp(-x) in one exponent: for very negative x the factors are 0 and infinity.
    let exponential = (log_sigmoid(z) - x).exp();
    let Point { value, slope } = logistic(x);
    Point {
        value: rest * value + exponential,
        slope: rest * slope - exponential + rest * (exponential - blend * value) / temperature,
    }
}
