//! What is refused, and how the refusal reads.

use rl_core::Error;
use rl_core::advantages::{Whitening, group_relative_advantages, leave_one_out_advantages, whiten};
use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::kl::{KlController, KlCorrection, KlEstimator, corrected_kl_loss, kl_loss};
use rl_core::masked::{Reduction, StepCounts};
use rl_core::policy_loss::{ClipRange, clipped_policy_loss};
use rl_core::returns::{MaskedTime, discounted_returns, token_gae};
use rl_core::rewards::overlong_penalty;
use rl_core::rows::Rows;

use crate::policy::dual_clipped_policy_loss;

const STILL: MaskedTime = MaskedTime::StandsStill;
const CLIP: ClipRange = ClipRange { low: 0.2, high: 0.2 };

#[test]
fn shapes_that_differ_name_both_lengths() {
    let error = clipped_policy_loss(&[0.0; 3], &[0.0; 2], &[0.0; 3], &[true; 3], CLIP, 3).unwrap_err();
    assert_eq!(
        error.to_string(),
        "old_log_probs has length 2, but response_mask has length 3; give both the same shape"
    );
    let error = StepCounts::of_micro_batch(&[true; 3], 2).unwrap_err();
    assert_eq!(error.to_string(), "tokens has length 3, which is not a multiple of seq = 2");
    assert!(discounted_returns(&[0.0; 3], &[true; 3], Rows::Packed(&[1, 1]), 1.0, STILL).is_err());
    assert!(discounted_returns(&[0.0; 3], &[true; 3], 0, 1.0, STILL).is_err());
}

#[test]
fn numbers_that_are_not_finite_are_named() {
    let error = cross_entropy_loss(&[-1.0, f32::NAN], &[true; 2], CrossEntropyKind::Nll, 2).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "log_probs", index: 1, .. }), "{error}");
    let error = kl_loss(&[-1e9], &[-1.0], &[true], KlEstimator::K3, 1.0, 1).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "kl", index: 0, .. }), "{error}");
    // Finite in f64, infinite as the f32 gradient.
    let error = kl_loss(&[-101.0], &[-1.0], &[true], KlEstimator::K3, 1.0, 1).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "grad_log_probs", index: 0, .. }), "{error}");
    // A ratio beyond f64, at a divergence of 0: their product would be NaN.
    let (one, corrected) = (KlEstimator::K1, KlCorrection::Ratio);
    let error = corrected_kl_loss(&[-1.0], &[-1000.0], &[-1.0], &[true], one, corrected, 1.0, 1).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "ratio", index: 0, value: f64::INFINITY }), "{error}");
    let error = token_gae(&[0.0], &[f32::INFINITY], None, &[true], 1, 1.0, 1.0, STILL).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "values", index: 0, .. }), "{error}");
    let error = group_relative_advantages(&[Some(1.0), Some(f64::NAN)], 2, 1e-6).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "rewards", index: 1, .. }), "{error}");
}

#[test]
fn a_step_without_tokens_is_refused_and_a_micro_batch_without_tokens_is_not() {
    let nothing = [false; 2];
    let empty = StepCounts::of_micro_batch(&nothing, 2).unwrap();
    assert_eq!((empty.num_masked_rows, empty.num_micro_batches), (1, 0));
    assert!(matches!(Reduction::TokenMean.token_weights(&nothing, 2, &empty), Err(Error::EmptyBatch { .. })));
    assert!(matches!(cross_entropy_loss(&[0.0; 2], &nothing, CrossEntropyKind::Nll, 0), Err(Error::EmptyBatch { .. })));
    assert!(matches!(whiten(&[0.0; 2], &nothing, Whitening::biased()), Err(Error::EmptyBatch { .. })));

    let step = empty.merge(StepCounts::of_micro_batch(&[true; 2], 2).unwrap());
    for reduction in [Reduction::TokenMean, Reduction::TokenMeanLocal, Reduction::SeqMeanTokenMean] {
        assert_eq!(reduction.token_weights(&nothing, 2, &step).unwrap(), [0.0; 2]);
    }
    let loss = clipped_policy_loss(&[f32::NAN; 2], &[0.0; 2], &[0.0; 2], &nothing, CLIP, 2).unwrap();
    assert_eq!((loss.loss, loss.num_tokens, loss.grad_log_probs), (0.0, 0, vec![0.0; 2]));
}

#[test]
fn counts_of_a_part_are_refused_as_counts_of_the_step() {
    let part = StepCounts::of_micro_batch(&[true, false], 2).unwrap();
    assert!(Reduction::TokenMean.token_weights(&[true, true], 2, &part).is_err());
}

#[test]
fn bad_hyperparameters_name_value_and_limit() {
    let error = group_relative_advantages(&[Some(1.0)], 1, 1e-6).unwrap_err();
    assert_eq!(error.to_string(), "group_size is 1, but it must be at least 2: a sample is compared with others");
    assert!(matches!(leave_one_out_advantages(&[Some(1.0); 3], 2), Err(Error::NotAMultiple { .. })));
    assert!(matches!(leave_one_out_advantages(&[Some(1.0), None], 2), Err(Error::EmptyBatch { .. })));
    assert!(group_relative_advantages(&[Some(1.0); 2], 2, -1.0).is_err());

    let row = ([0.0_f32], [true]);
    let bad = ClipRange { low: 1.5, high: 0.2 };
    assert!(clipped_policy_loss(&row.0, &row.0, &row.0, &row.1, bad, 1).is_err());
    assert!(dual_clipped_policy_loss(&row.0, &row.0, &row.0, &row.1, CLIP, 1.0, 1).is_err());
    assert!(discounted_returns(&row.0, &row.1, 1, 1.1, STILL).is_err());
    assert!(token_gae(&row.0, &row.0, None, &row.1, 1, 1.0, f64::NAN, STILL).is_err());
    assert!(kl_loss(&row.0, &row.0, &row.1, KlEstimator::K1, -0.1, 1).is_err());
    assert!(KlController::Adaptive { kl_coef: 0.1, target: 6.0, horizon: 10.0 }.update(0.0, 100).is_err());
    assert!(overlong_penalty(10, 100, 0, 1.0).is_err());
    assert!(matches!(whiten(&[1.0], &[true], Whitening::unbiased()), Err(Error::TooFew { .. })));
}

#[test]
fn a_ratio_beyond_the_bound_is_counted_and_has_no_gradient() {
    let loss = clipped_policy_loss(&[-1.0], &[-30.0], &[-1.0], &[true], CLIP, 1).unwrap();
    assert_eq!((loss.num_clamped_ratios, loss.grad_log_probs[0]), (1, 0.0));
    assert!((loss.loss - 20.0_f64.exp()).abs() < 1.0);
}
