//! Gradients of the policy objectives against central differences of their own loss, away from corners; detached weights
//! are computed here a second time and frozen.

use proptest::prelude::*;
use rl_core::policy_loss::{
    Cispo, ClipCov, ClipRange, ClippedSurrogate, Divergence, Dppo, Dro, Gmpo, KlCov, LogRatioClamp, PolicyInputs,
    PolicyLoss, PolicyObjective, Ratio, RatioLevel, Sapo, Vespo,
};
use rl_core::random::RandomKey;

use crate::differences::{check_differences, grid};
use crate::{CASES, ROUNDING_TOLERANCE, assert_near};

/// Distance in log-ratio from a corner of the loss below which a central difference would straddle it.
const CORNER: f64 = 1e-4;
const SEQ: usize = 4;

/// Rows of four, on the grid of the difference step.
#[derive(Debug, Clone)]
struct Tokens {
    log_probs: Vec<f32>,
    old: Vec<f32>,
    advantages: Vec<f32>,
    mask: Vec<bool>,
    importance: Vec<f64>,
    token_weights: Vec<f64>,
    weights: Vec<f64>,
}

impl Tokens {
    fn inputs<'a>(&'a self, log_probs: &'a [f32]) -> PolicyInputs<'a> {
        PolicyInputs {
            importance: Some(&self.importance),
            token_weights: Some(&self.token_weights),
            ..PolicyInputs::new(log_probs, &self.old, &self.advantages, &self.mask, SEQ)
        }
    }

    fn loss(&self, objective: PolicyObjective, log_probs: &[f32]) -> PolicyLoss {
        objective.loss(&self.inputs(log_probs), &self.weights).unwrap()
    }

    fn log_ratio(&self, index: usize) -> f64 {
        f64::from(self.log_probs[index]) - f64::from(self.old[index])
    }

    fn row(&self, index: usize) -> impl Iterator<Item = usize> + Clone {
        let start = index / SEQ * SEQ;
        (start..start + SEQ).filter(|&token| self.mask[token])
    }

    /// The logarithm of the ratio that a token shares, straight from its definition.
    fn shared_log_ratio(&self, level: RatioLevel, index: usize) -> f64 {
        let sum: f64 = self.row(index).map(|token| self.log_ratio(token)).sum();
        match level {
            RatioLevel::Token => self.log_ratio(index),
            RatioLevel::SequenceSum => sum,
            RatioLevel::SequenceMean | RatioLevel::SequenceMeanTokenGradient => sum / self.row(index).count() as f64,
            RatioLevel::WeightedSum => {
                self.row(index).map(|token| self.token_weights[token] * self.log_ratio(token)).sum()
            }
        }
    }

    /// Whether no ratio that depends on this token is near one of the corners.
    fn away_from(&self, level: RatioLevel, corners: &[f64], index: usize) -> bool {
        let log_ratio = self.shared_log_ratio(level, index);
        corners.iter().all(|corner| (log_ratio - corner.ln()).abs() > CORNER)
    }
}

prop_compose! {
    fn tokens()(rows in prop::collection::vec(prop::collection::vec(
        (grid(-5, 0), grid(-1, 1), grid(-2, 2), any::<bool>(), (0.0..2.0_f64, 0.0..1.0_f64, 0.01..0.5_f64)), SEQ), 1..4))
        -> Tokens {
        let tokens = rows.concat();
        Tokens {
            log_probs: tokens.iter().map(|token| token.0).collect(),
            old: tokens.iter().map(|token| token.0 + token.1).collect(),
            advantages: tokens.iter().map(|token| token.2).collect(),
            mask: tokens.iter().map(|token| token.3).collect(),
            importance: tokens.iter().map(|token| token.4.0).collect(),
            token_weights: tokens.iter().map(|token| token.4.1).collect(),
            weights: tokens.iter().map(|token| token.4.2).collect(),
        }
    }
}

/// Central differences of `loss` over the log-probabilities.
#[track_caller]
fn check(tokens: &Tokens, gradient: &[f32], smooth: impl Fn(usize) -> bool, loss: impl Fn(&[f32]) -> f64) {
    check_differences(&tokens.log_probs, &tokens.mask, gradient, smooth, loss);
}

/// The score function with given constant weights.
fn frozen(tokens: &Tokens, constants: &[f64], log_probs: &[f32]) -> f64 {
    let weights: Vec<f64> = tokens.weights.iter().zip(constants).map(|(weight, constant)| weight * constant).collect();
    let inputs = PolicyInputs { importance: None, ..tokens.inputs(log_probs) };
    PolicyObjective::Reinforce {}.loss(&inputs, &weights).unwrap().loss
}

const LEVELS: [RatioLevel; 4] =
    [RatioLevel::Token, RatioLevel::SequenceMean, RatioLevel::SequenceSum, RatioLevel::WeightedSum];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn clipped_surrogates(
        tokens in tokens(),
        low in 0.0..0.9_f64,
        high in 0.0..1.0_f64,
        bounds in (prop::option::of(1.1..3.0_f64), prop::option::of(0.5..3.0_f64), prop::option::of(2.1..4.0_f64)),
    ) {
        let (dual_clip, max_ratio, clipped_only_above) = bounds;
        let corners: Vec<f64> = [Some(1.0 - low), Some(1.0 + high), dual_clip, max_ratio, clipped_only_above]
            .into_iter().flatten().collect();
        for level in LEVELS {
            let objective = PolicyObjective::Clipped(ClippedSurrogate {
                ratio: Ratio::of(level), clip: ClipRange { low, high }, dual_clip, max_ratio, clipped_only_above,
            });
            let gradient = tokens.loss(objective, &tokens.log_probs).grad_log_probs;
            check(&tokens, &gradient, |index| tokens.away_from(level, &corners, index), |x| tokens.loss(objective, x).loss);
        }
    }

    #[test]
    fn the_token_gradient_of_a_sequence_ratio(tokens in tokens(), low in 0.0..0.9_f64, high in 0.0..1.0_f64) {
        let level = RatioLevel::SequenceMeanTokenGradient;
        let clip = ClipRange { low, high };
        let objective = PolicyObjective::Clipped(ClippedSurrogate::new(Ratio::of(level), clip));
        let loss = tokens.loss(objective, &tokens.log_probs);
        // Its definition: the ratio of the sequence held constant, and moved by the token's own log-probability alone.
        let shared: Vec<f64> = (0..tokens.mask.len()).map(|index| tokens.shared_log_ratio(level, index)).collect();
        let token_loss = |index: usize, log_prob: f32| {
            let ratio = (shared[index] + f64::from(log_prob) - f64::from(tokens.log_probs[index])).exp();
            let advantage = f64::from(tokens.advantages[index]);
            let weight = tokens.weights[index] * tokens.importance[index];
            weight * (-advantage * ratio).max(-advantage * ratio.clamp(1.0 - low, 1.0 + high))
        };
        let value = |x: &[f32]| -> f64 {
            (0..x.len()).filter(|&index| tokens.mask[index]).map(|index| token_loss(index, x[index])).sum()
        };
        assert_near(loss.loss, value(&tokens.log_probs), ROUNDING_TOLERANCE);
        let smooth = |index| tokens.away_from(level, &[1.0 - low, 1.0 + high], index);
        check(&tokens, &loss.grad_log_probs, smooth, value);
    }

    #[test]
    fn detached_weights(tokens in tokens(), low in 0.2..1.0_f64, high in 1.0..3.0_f64) {
        for level in [RatioLevel::Token, RatioLevel::SequenceMean] {
            let objective = PolicyObjective::Cispo(Cispo { ratio: Ratio::of(level), low, high });
            let constants: Vec<f64> = (0..tokens.mask.len())
                .map(|index| tokens.shared_log_ratio(level, index).exp().clamp(low, high) * tokens.importance[index])
                .collect();
            let loss = tokens.loss(objective, &tokens.log_probs);
            assert_near(loss.loss, frozen(&tokens, &constants, &tokens.log_probs), ROUNDING_TOLERANCE);
            check(&tokens, &loss.grad_log_probs, |_| true, |x| frozen(&tokens, &constants, x));
        }
        let vespo = Vespo { k_positive: 2.0, lambda_positive: 3.0, k_negative: 3.0, lambda_negative: 2.0 };
        let constants: Vec<f64> = (0..tokens.mask.len())
            .map(|index| {
                let log_importance: f64 = tokens.row(index).map(|token| tokens.importance[token].ln().clamp(1e-8_f64.ln(), 20.0)).sum();
                let log_w = (tokens.shared_log_ratio(RatioLevel::SequenceSum, index) + log_importance).clamp(1e-8_f64.ln(), 20.0);
                // The definition: W^k exp(lambda (1 - W)).
                let (k, lambda) = if tokens.advantages[index] >= 0.0 { (2, 3.0) } else { (3, 2.0) };
                log_w.exp().powi(k) * (lambda * (1.0 - log_w.exp())).exp()
            })
            .collect();
        let loss = tokens.loss(PolicyObjective::Vespo(vespo), &tokens.log_probs);
        assert_near(loss.loss, frozen(&tokens, &constants, &tokens.log_probs), ROUNDING_TOLERANCE);
        check(&tokens, &loss.grad_log_probs, |_| true, |x| frozen(&tokens, &constants, x));
    }

    #[test]
    fn detached_weights_inside_a_trust_region(
        tokens in tokens(), low in 0.0..0.3_f64, high in 0.0..0.3_f64, max_ratio in 1.0..3.0_f64,
    ) {
        // Probabilities are compared, so none may be above 1.
        let mut tokens = tokens;
        tokens.old.iter_mut().for_each(|old| *old = old.min(0.0));
        for (divergence, level) in [
            (Divergence::TotalVariation, RatioLevel::Token),
            (Divergence::BinaryKl, RatioLevel::Token),
            (Divergence::BinaryKl, RatioLevel::SequenceMean),
        ] {
            let objective = PolicyObjective::Dppo(Dppo { ratio: Ratio::of(level), divergence, low, high, max_ratio });
            let constants: Vec<f64> = (0..tokens.mask.len())
                .map(|index| {
                    let [new, old] = [&tokens.log_probs, &tokens.old].map(|array| f64::from(array[index]).exp());
                    let distance = match divergence {
                        Divergence::TotalVariation => (new - old).abs(),
                        Divergence::BinaryKl => {
                            old * (old / new).ln() + (1.0 - old) * ((1.0 - old + 1e-8) / (1.0 - new + 1e-8)).ln()
                        }
                    };
                    let rises = tokens.advantages[index] > 0.0;
                    let left = if rises { new > old && distance > high } else { new < old && distance > low };
                    let weight = tokens.shared_log_ratio(level, index).exp().min(max_ratio) * tokens.importance[index];
                    if left { 0.0 } else { weight }
                })
                .collect();
            let loss = tokens.loss(objective, &tokens.log_probs);
            assert_near(loss.loss, frozen(&tokens, &constants, &tokens.log_probs), ROUNDING_TOLERANCE);
            check(&tokens, &loss.grad_log_probs, |_| true, |x| frozen(&tokens, &constants, x));
        }
    }

    #[test]
    fn soft_and_geometric_forms(tokens in tokens(), low in 0.0..0.8_f64, high in 0.0..0.8_f64, tau in 0.5..2.0_f64) {
        for level in [RatioLevel::Token, RatioLevel::SequenceMean] {
            let sapo = PolicyObjective::Sapo(Sapo { ratio: Ratio::of(level), tau_positive: tau, tau_negative: 1.5 * tau });
            check(&tokens, &tokens.loss(sapo, &tokens.log_probs).grad_log_probs, |_| true, |x| tokens.loss(sapo, x).loss);
        }
        let gmpo = PolicyObjective::Gmpo(Gmpo { low, high, clamp: LogRatioClamp::default() });
        let corners = [(-low).exp(), high.exp()];
        let smooth = |index| tokens.away_from(RatioLevel::Token, &corners, index);
        check(&tokens, &tokens.loss(gmpo, &tokens.log_probs).grad_log_probs, smooth, |x| tokens.loss(gmpo, x).loss);
    }

    #[test]
    fn penalties_on_the_log_ratio(tokens in tokens(), beta in 0.1..2.0_f64) {
        let dro = PolicyObjective::Dro(Dro { beta });
        check(&tokens, &tokens.loss(dro, &tokens.log_probs).grad_log_probs, |_| true, |x| tokens.loss(dro, x).loss);

        prop_assume!(tokens.mask.iter().any(|&token| token));
        let ratio = Ratio::default();
        let clip = ClipRange { low: 0.2, high: 0.28 };
        for (objective, corners) in [
            (PolicyObjective::KlCov(KlCov { ratio, fraction: 0.4, kl_coef: beta }), vec![1.0]),
            (PolicyObjective::ClipCov(ClipCov { ratio, clip, fraction: 0.4, low: 0.0, high: 9.0 }), vec![0.8, 1.28]),
        ] {
            let selected = objective.select_tokens(&tokens.inputs(&tokens.log_probs), RandomKey::new(1, "test")).unwrap();
            let loss = |x: &[f32]| {
                objective.loss(&PolicyInputs { selected: selected.as_deref(), ..tokens.inputs(x) }, &tokens.weights).unwrap()
            };
            let smooth = |index| tokens.away_from(RatioLevel::Token, &corners, index);
            check(&tokens, &loss(&tokens.log_probs).grad_log_probs, smooth, |x| loss(x).loss);
        }
    }
}
