//! Every gradient over tokens against central differences of its own loss, away from the corners of the loss; the
//! policy objectives are in `policy_gradients`.

use proptest::prelude::*;
use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::entropy::entropy_bonus;
use rl_core::kl::{KlCorrection, KlEstimator, KlPenalty, corrected_kl_loss, kl_loss};
use rl_core::policy_loss::{ClipRange, clipped_policy_loss};
use rl_core::value_loss::{clipped_value_loss, value_loss};

use crate::CASES;
use crate::differences::{check_differences, grid};
use crate::policy::{dual_clipped_policy_loss, reinforce_loss};

/// Distance from a corner below which a central difference would straddle it.
const CORNER: f64 = 1e-4;
const KL_COEF: f64 = 0.7;
/// Where estimates are held, if they are.
const KL_CLAMP: f64 = 0.3;

prop_compose! {
    fn tokens()(tokens in prop::collection::vec((grid(-5, 0), grid(-1, 1), grid(-2, 2), any::<bool>()), 1..8))
        -> (Vec<f32>, Vec<f32>, Vec<f32>, Vec<bool>) {
        let log_probs = tokens.iter().map(|token| token.0).collect();
        let old_log_probs = tokens.iter().map(|token| token.0 + token.1).collect();
        let advantages = tokens.iter().map(|token| token.2).collect();
        (log_probs, old_log_probs, advantages, tokens.iter().map(|token| token.3).collect())
    }
}

/// Every estimator with its own gradient.
fn penalties(clamp: Option<f64>) -> [KlPenalty; 4] {
    [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs].map(|estimator| KlPenalty {
        estimator,
        clamp,
        straight_through: false,
    })
}

/// Whether the estimate has a derivative at this log-ratio.
fn is_smooth(penalty: KlPenalty, log_ratio: f64) -> bool {
    let value = KlPenalty::from(penalty.estimator).term(log_ratio).value;
    log_ratio.abs() > CORNER && (value.abs() - KL_CLAMP).abs() > CORNER
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn policy_losses((log_probs, old, advantages, mask) in tokens(), low in 0.0..0.9_f64, high in 0.0..1.0_f64) {
        let loss = |x: &[f32]| reinforce_loss(x, &advantages, &mask, 3).unwrap();
        check_differences(&log_probs, &mask, &loss(&log_probs).grad_log_probs, |_| true, |x| loss(x).loss);

        let clip = ClipRange { low, high };
        let ratio = |index: usize| f64::from(log_probs[index] - old[index]).exp();
        let smooth = |index: usize| {
            [1.0 - low, 1.0 + high, 1.5].iter().all(|corner| (ratio(index) - corner).abs() > CORNER)
        };
        let loss = |x: &[f32]| clipped_policy_loss(x, &old, &advantages, &mask, clip, 3).unwrap();
        check_differences(&log_probs, &mask, &loss(&log_probs).grad_log_probs, smooth, |x| loss(x).loss);
        let loss = |x: &[f32]| dual_clipped_policy_loss(x, &old, &advantages, &mask, clip, 1.5, 3).unwrap();
        check_differences(&log_probs, &mask, &loss(&log_probs).grad_log_probs, smooth, |x| loss(x).loss);
    }

    #[test]
    fn supervised_losses((log_probs, _, _, mask) in tokens()) {
        let nll = |x: &[f32]| cross_entropy_loss(x, &mask, CrossEntropyKind::Nll, 3).unwrap();
        check_differences(&log_probs, &mask, &nll(&log_probs).grad_log_probs, |_| true, |x| nll(x).loss);
        // The detached factor is held at its value, as a weight of the plain loss.
        let weights: Vec<f64> = log_probs.iter().map(|&log_prob| f64::from(log_prob).exp() / 3.0).collect();
        let frozen = |x: &[f32]| cross_entropy_loss(x, &mask, CrossEntropyKind::Nll, &weights).unwrap().loss;
        let dft = cross_entropy_loss(&log_probs, &mask, CrossEntropyKind::Dft, 3).unwrap();
        check_differences(&log_probs, &mask, &dft.grad_log_probs, |_| true, frozen);
    }

    #[test]
    fn divergence_losses((log_probs, reference, _, mask) in tokens(), clamped in any::<bool>()) {
        let log_ratio = |index: usize| f64::from(log_probs[index]) - f64::from(reference[index]);
        for penalty in penalties(clamped.then_some(KL_CLAMP)) {
            let smooth = |index| is_smooth(penalty, log_ratio(index));
            let loss = |x: &[f32]| kl_loss(x, &reference, &mask, penalty, KL_COEF, 3).unwrap();
            check_differences(&log_probs, &mask, &loss(&log_probs).grad_log_probs, smooth, |x| loss(x).loss);
            // Straight through, the gradient is that of K2 whatever the value.
            let straight = KlPenalty { straight_through: true, ..penalty };
            let through = kl_loss(&log_probs, &reference, &mask, straight, KL_COEF, 3).unwrap();
            let squared = |x: &[f32]| kl_loss(x, &reference, &mask, KlEstimator::K2, KL_COEF, 3).unwrap().loss;
            check_differences(&log_probs, &mask, &through.grad_log_probs, |_| true, squared);
        }
    }

    #[test]
    fn corrected_divergence_losses(
        (log_probs, old, moves, mask) in tokens(),
        clamped in any::<bool>(),
        max_weight in 0.5..2.0_f64,
    ) {
        let reference: Vec<f32> = log_probs.iter().zip(&moves).map(|(log_prob, shift)| log_prob + shift).collect();
        let log_ratio = |index: usize| f64::from(log_probs[index]) - f64::from(reference[index]);
        // The capped ratio is a constant, so it is a weight of K2, whose gradient is the log-ratio.
        let frozen: Vec<f64> = log_probs
            .iter()
            .zip(&old)
            .map(|(&log_prob, &old)| (f64::from(log_prob) - f64::from(old)).exp().min(max_weight) / 3.0)
            .collect();
        let squared = |x: &[f32]| kl_loss(x, &reference, &mask, KlEstimator::K2, KL_COEF, &frozen).unwrap().loss;
        for penalty in penalties(clamped.then_some(KL_CLAMP)) {
            let loss = |x: &[f32], correction| {
                corrected_kl_loss(x, &old, &reference, &mask, penalty, correction, KL_COEF, 3).unwrap()
            };
            let smooth = |index| is_smooth(penalty, log_ratio(index));
            let ratio = loss(&log_probs, KlCorrection::Ratio).grad_log_probs;
            check_differences(&log_probs, &mask, &ratio, smooth, |x| loss(x, KlCorrection::Ratio).loss);
            let through = loss(&log_probs, KlCorrection::StraightThrough { max_weight }).grad_log_probs;
            check_differences(&log_probs, &mask, &through, |_| true, squared);
        }
    }

    #[test]
    fn value_losses((values, moves, returns, mask) in tokens(), clip_range in 0.0..0.5_f64) {
        let loss = |x: &[f32]| value_loss(x, &returns, &mask, 3).unwrap();
        check_differences(&values, &mask, &loss(&values).grad_values, |_| true, |x| loss(x).loss);
        let smooth = |index: usize| {
            let (value, old, target) = (f64::from(values[index]), f64::from(moves[index]), f64::from(returns[index]));
            let clipped = old + (value - old).clamp(-clip_range, clip_range);
            let corner = ((value - old).abs() - clip_range).abs();
            let crossing = ((value - target).abs() - (clipped - target).abs()).abs();
            corner > CORNER && (value == clipped || crossing > CORNER)
        };
        let loss = |x: &[f32]| clipped_value_loss(x, &moves, &returns, &mask, clip_range, 3).unwrap();
        check_differences(&values, &mask, &loss(&values).grad_values, smooth, |x| loss(x).loss);
    }

    #[test]
    fn entropy_bonuses((_, _, entropy, mask) in tokens(), entropy_coef in 0.0..1.0_f64) {
        let bonus = |x: &[f32]| entropy_bonus(x, &mask, entropy_coef, 3).unwrap();
        check_differences(&entropy, &mask, &bonus(&entropy).grad_entropy, |_| true, |x| bonus(x).loss);
    }
}
