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
    /// Which of the pair, and which pair: for messages.
    pub side: Side,
    pub index: usize,
}

/// Which answer of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Chosen,
    Rejected,
}

impl Side {
    pub fn log_probs(self) -> &'static str {
        match self {
            Side::Chosen => "chosen_log_probs",
            Side::Rejected => "rejected_log_probs",
        }
    }

    pub fn reference(self) -> &'static str {
        match self {
            Side::Chosen => "reference.chosen",
            Side::Rejected => "reference.rejected",
        }
    }

    pub fn lengths(self) -> &'static str {
        match self {
            Side::Chosen => "chosen_lengths",
            Side::Rejected => "rejected_lengths",
        }
    }
}

impl Answer {
    fn length(&self) -> Result<f64> {
        if self.length == 0 {
            let limit = "must be at least 1, since this loss divides by it";
            return Err(Error::OutOfRange { name: self.side.lengths(), index: self.index, value: 0.0, limit });
        }
        Ok(self.length as f64)
    }

    /// A number of this answer divided by its length.
    pub fn per_token(&self, number: Linked) -> Result<Linked> {
        Ok(number.over(self.length()?))
    }

    /// What the implicit reward is `beta` times of: the log-ratio, or what a reference-free loss compares. The flag tells a
    /// clamped exponent.
    fn compared(&self, loss: PreferenceLoss) -> Result<(Linked, bool)> {
        use PreferenceLoss::*;
        match loss {
            Simpo { .. } | Orpo { .. } => Ok((self.per_token(self.log_prob)?, false)),
            AlphaPo { alpha, .. } | CpoIpo { scale: RatioScale::Mean, alpha, .. } => {
                Ok(bent(self.per_token(self.log_prob)?, alpha))
            }
            CpoSigmoid { alpha, .. } | CpoHinge { alpha, .. } | CpoIpo { scale: RatioScale::Sum, alpha, .. } => {
                Ok(bent(self.log_prob, alpha))
            }
            Sigmoid { .. }
            | ConservativeSigmoid { .. }
            | Robust { .. }
            | Hinge { .. }
            | Ipo { .. }
            | SigmoidNorm { .. }
            | ExoPair { .. }
            | NcaPair { .. }
            | BcoPair { .. }
            | SppoHard { .. }
            | ApoZero { .. }
            | ApoDown { .. }
            | Aot { .. }
            | AotUnpaired { .. }
            | Discopop { .. } => Ok((self.ratio, false)),
        }
    }

    /// Log-odds of the mean probability, held below [`MAX_MEAN_LOG_PROB`].
    fn log_odds(&self) -> Result<(Linked, bool)> {
        let mean = self.per_token(self.log_prob)?;
        if mean.value > 0.0 {
            let limit = "must not be above 0, since it is the log-probability of tokens";
            let name = self.side.log_probs();
            return Err(Error::OutOfRange { name, index: self.index, value: self.log_prob.value, limit });
        }
        let clamped = mean.value > MAX_MEAN_LOG_PROB;
        let held = mean.value.min(MAX_MEAN_LOG_PROB);
        let slope = if clamped { 0.0 } else { -mean.slope / held.exp_m1() };
        Ok((Linked { value: held - log_one_minus_exp(held), slope }, clamped))
    }

    /// The implicit reward.
    pub fn reward(&self, loss: PreferenceLoss) -> Result<f64> {
        Ok(loss.beta() * self.compared(loss)?.0.value)
    }
}

/// The log-probability, bent by AlphaPO's `alpha`.
fn bent(log_prob: Linked, alpha: f64) -> (Linked, bool) {
    let score = power_score(-alpha, log_prob.value, MAX_SCORE_EXPONENT);
    (Linked { value: score.value, slope: score.slope * log_prob.slope }, score.clamped)
}

/// Loss of one pair, its derivatives with respect to both log-probabilities, and the clamps it hit.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PairTerm {
    pub loss: f64,
    pub chosen: f64,
    pub rejected: f64,
    pub num_clamped: usize,
}

/// A loss of one pair; for the losses that sort a step, of a step with this pair alone.
pub(super) fn pair_term(loss: PreferenceLoss, chosen: &Answer, rejected: &Answer) -> Result<PairTerm> {
    use PreferenceLoss::*;
    let beta = loss.beta();
    let scores = |curve: &dyn Fn(f64) -> Point| Ok(on_difference(chosen.score, rejected.score, curve));
    let mean_scores = |curve: &dyn Fn(f64) -> Point| {
        Ok(on_difference(chosen.per_token(chosen.score)?, rejected.per_token(rejected.score)?, curve))
    };
    let linked = |first: (Linked, bool), second: (Linked, bool), curve: &dyn Fn(f64) -> Point| {
        let num_clamped = usize::from(first.1) + usize::from(second.1);
        PairTerm { num_clamped, ..on_difference(first.0, second.0, curve) }
    };
    let free = |curve: &dyn Fn(f64) -> Point| Ok(linked(chosen.compared(loss)?, rejected.compared(loss)?, curve));
    match loss {
        Sigmoid { .. } => scores(&|d| logistic(beta * d).times(beta)),
        ConservativeSigmoid { label_smoothing, .. }
        | Aot { label_smoothing, .. }
        | AotUnpaired { label_smoothing, .. } => scores(&|d| smoothed(beta * d, label_smoothing).times(beta)),
        Robust { label_smoothing, .. } => scores(&|d| robust(beta * d, label_smoothing).times(beta)),
        Hinge { .. } => scores(&|d| hinge(beta * d).times(beta)),
        ExoPair { label_smoothing, .. } => scores(&|d| exo(beta * d, label_smoothing).times(beta)),
        Discopop { temperature, .. } => scores(&|d| discopop(beta * d, temperature).times(beta)),
        Ipo { scale: RatioScale::Sum, .. } => scores(&|d| squared(d, 0.5 / beta)),
        Ipo { scale: RatioScale::Mean, .. } => mean_scores(&|d| squared(d, 0.5 / beta)),
        SigmoidNorm { .. } => mean_scores(&|d| logistic(beta * d).times(beta)),
        NcaPair { .. } => Ok(on_each(
            chosen,
            rejected,
            |c| logistic(beta * c).times(beta).plus(logistic(-beta * c).times(-beta).scaled(0.5)),
            |r| logistic(-beta * r).times(-beta).scaled(0.5),
        )),
        BcoPair { .. } => {
            Ok(on_each(chosen, rejected, |c| logistic(beta * c).times(beta), |r| logistic(-beta * r).times(-beta)))
        }
        SppoHard { .. } => Ok(on_each(chosen, rejected, |c| squared(c, 0.5 / beta), |r| squared(r, -0.5 / beta))),
        // 1 - s(x) = s(-x), which loses no digits.
        ApoZero { .. } => {
            Ok(on_each(chosen, rejected, |c| risen(-beta * c).times(-beta), |r| risen(beta * r).times(beta)))
        }
        ApoDown { .. } => {
            let gap = on_difference(chosen.ratio, rejected.ratio, &|d| risen(-beta * d).times(-beta));
            let alone = on_each(chosen, rejected, |c| risen(beta * c).times(beta), |_| Point::default());
            Ok(PairTerm { loss: gap.loss + alone.loss, chosen: gap.chosen + alone.chosen, ..gap })
        }
        Simpo { gamma, label_smoothing, .. } | AlphaPo { gamma, label_smoothing, .. } => {
            free(&|d| smoothed(beta * d - gamma, label_smoothing).times(beta))
        }
        CpoSigmoid { label_smoothing, .. } => free(&|d| smoothed(beta * d, label_smoothing).times(beta)),
        CpoHinge { .. } => free(&|d| hinge(beta * d).times(beta)),
        CpoIpo { .. } => free(&|d| squared(d, 0.5 / beta)),
        Orpo { .. } => Ok(linked(chosen.log_odds()?, rejected.log_odds()?, &|odds| logistic(odds).scaled(beta))),
    }
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

/// `-log sigmoid(x)`.
fn logistic(x: f64) -> Point {
    Point { value: softplus(-x), slope: -sigmoid(-x) }
}

/// `sigmoid(x)`.
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
