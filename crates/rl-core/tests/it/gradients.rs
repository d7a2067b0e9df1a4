//! Every gradient against central differences of its own loss, away from the corners of the loss.

use proptest::prelude::*;
use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::kl::{KlEstimator, KlPenalty, kl_loss};
use rl_core::policy_loss::{ClipRange, clipped_policy_loss};
use rl_core::value_loss::{clipped_value_loss, value_loss};

use crate::policy::{dual_clipped_policy_loss, reinforce_loss};
use crate::{CASES, DIFFERENCE_STEP, DIFFERENCE_TOLERANCE};

/// Distance from a corner below which a central difference would straddle it.
const CORNER: f64 = 0.01;

/// Numbers on the grid of the difference step, so that adding a step is exact.
fn grid(low: i32, high: i32) -> impl Strategy<Value = f32> {
    (low * 1024..=high * 1024).prop_map(|units| units as f32 / 1024.0)
}

fn check(inputs: &[f32], gradient: &[f32], smooth: impl Fn(usize) -> bool, loss: impl Fn(&[f32]) -> f64) {
    for index in (0..inputs.len()).filter(|&index| smooth(index)) {
        let at = |step: f32| {
            let mut moved = inputs.to_vec();
            moved[index] += step;
            loss(&moved)
        };
        let difference = (at(DIFFERENCE_STEP) - at(-DIFFERENCE_STEP)) / f64::from(2.0 * DIFFERENCE_STEP);
        let error = (difference - f64::from(gradient[index])).abs();
        assert!(error <= DIFFERENCE_TOLERANCE, "[{index}]: {}, difference {difference}", gradient[index]);
    }
}

prop_compose! {
    fn tokens()(tokens in prop::collection::vec((grid(-5, 0), grid(-1, 1), grid(-2, 2), any::<bool>()), 1..8))
        -> (Vec<f32>, Vec<f32>, Vec<f32>, Vec<bool>) {
        let log_probs = tokens.iter().map(|token| token.0).collect();
        let old_log_probs = tokens.iter().map(|token| token.0 + token.1).collect();
        let advantages = tokens.iter().map(|token| token.2).collect();
        (log_probs, old_log_probs, advantages, tokens.iter().map(|token| token.3).collect())
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn policy_losses((log_probs, old, advantages, mask) in tokens(), low in 0.0..0.9_f64, high in 0.0..1.0_f64) {
        let loss = |x: &[f32]| reinforce_loss(x, &advantages, &mask, 3).unwrap();
        check(&log_probs, &loss(&log_probs).grad_log_probs, |_| true, |x| loss(x).loss);

        let clip = ClipRange { low, high };
        let ratio = |index: usize| f64::from(log_probs[index] - old[index]).exp();
        let smooth = |index: usize| {
            [1.0 - low, 1.0 + high, 1.5].iter().all(|corner| (ratio(index) - corner).abs() > CORNER)
        };
        let loss = |x: &[f32]| clipped_policy_loss(x, &old, &advantages, &mask, clip, 3).unwrap();
        check(&log_probs, &loss(&log_probs).grad_log_probs, smooth, |x| loss(x).loss);
        let loss = |x: &[f32]| dual_clipped_policy_loss(x, &old, &advantages, &mask, clip, 1.5, 3).unwrap();
        check(&log_probs, &loss(&log_probs).grad_log_probs, smooth, |x| loss(x).loss);
    }

    #[test]
    fn supervised_losses((log_probs, _, _, mask) in tokens()) {
        let nll = |x: &[f32]| cross_entropy_loss(x, &mask, CrossEntropyKind::Nll, 3).unwrap();
        check(&log_probs, &nll(&log_probs).grad_log_probs, |_| true, |x| nll(x).loss);
        // The detached factor is held at its value, as a weight of the plain loss.
        let weights: Vec<f64> = log_probs.iter().map(|&log_prob| f64::from(log_prob).exp() / 3.0).collect();
        let frozen = |x: &[f32]| cross_entropy_loss(x, &mask, CrossEntropyKind::Nll, &weights).unwrap().loss;
        let dft = cross_entropy_loss(&log_probs, &mask, CrossEntropyKind::Dft, 3).unwrap();
        check(&log_probs, &dft.grad_log_probs, |_| true, frozen);
    }

    #[test]
    fn divergence_losses((log_probs, reference, _, mask) in tokens(), clamped in any::<bool>()) {
        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs] {
            let penalty = KlPenalty { estimator, clamp: clamped.then_some(0.3), straight_through: false };
            let smooth = |index: usize| {
                let log_ratio = f64::from(log_probs[index] - reference[index]);
                let value = KlPenalty::from(estimator).term(log_ratio).value;
                log_ratio.abs() > CORNER && (value.abs() - 0.3).abs() > CORNER
            };
            let loss = |x: &[f32]| kl_loss(x, &reference, &mask, penalty, 0.7, 3).unwrap();
            check(&log_probs, &loss(&log_probs).grad_log_probs, smooth, |x| loss(x).loss);
        }
    }

    #[test]
    fn value_losses((values, moves, returns, mask) in tokens(), clip_range in 0.0..0.5_f64) {
        let loss = |x: &[f32]| value_loss(x, &returns, &mask, 3).unwrap();
        check(&values, &loss(&values).grad_values, |_| true, |x| loss(x).loss);
        let smooth = |index: usize| {
            let (value, old, target) = (f64::from(values[index]), f64::from(moves[index]), f64::from(returns[index]));
            let clipped = old + (value - old).clamp(-clip_range, clip_range);
            let corner = ((value - old).abs() - clip_range).abs();
            let crossing = ((value - target).abs() - (clipped - target).abs()).abs();
            corner > CORNER && (value == clipped || crossing > CORNER)
        };
        let loss = |x: &[f32]| clipped_value_loss(x, &moves, &returns, &mask, clip_range, 3).unwrap();
        check(&values, &loss(&values).grad_values, smooth, |x| loss(x).loss);
    }
}
