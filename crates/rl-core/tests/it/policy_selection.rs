//! Importance weights, rejection, selections, entropy controller and denominators: worked numbers and laws.

use proptest::prelude::*;
use rl_core::Error;
use rl_core::entropy::EntropyController;
use rl_core::importance::{
    ImportanceCorrection, ImportanceLevel, MismatchLevel, MismatchStatistic, OutOfBounds, Rejection,
};
use rl_core::kl::KlEstimator;
use rl_core::masked::{Reduction, StepCounts, masked_sum};
use rl_core::policy_loss::LogRatioClamp;
use rl_core::rows::Rows;
use rl_core::selection::{drop_high_kl, drop_off_policy, entropy_threshold, keep_high_entropy};

use crate::{CASES, ROUNDING_TOLERANCE, VECTOR_TOLERANCE, assert_near};

/// Log-ratios .3, 1, -2 in the first row; .5, .1 in the second.
const OLD: [f32; 6] = [-1.0, -1.0, -3.0, -1.0, -1.0, f32::NAN];
const SAMPLING: [f32; 6] = [-1.3, -2.0, -1.0, -1.5, -1.1, f32::NAN];
const MASK: [bool; 6] = [true, true, true, true, true, false];

fn correction(judged: ImportanceLevel, weight: ImportanceLevel, outside: OutOfBounds) -> ImportanceCorrection {
    ImportanceCorrection {
        judged,
        weight,
        outside,
        low: None,
        high: Some(2.0),
        normalize: false,
        clamp: LogRatioClamp::default(),
    }
}

fn weights(correction: ImportanceCorrection) -> Vec<f64> {
    correction.weights(&OLD, &SAMPLING, &MASK, 3).unwrap().weights
}

fn assert_all_near(actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len());
    actual.iter().zip(expected).for_each(|(&actual, &expected)| assert_near(actual, expected, VECTOR_TOLERANCE));
}

#[test]
fn truncated_and_dropped_importance_weights() {
    use ImportanceLevel::{SequenceMean, SequenceSum, Token};
    use OutOfBounds::{Drop, Truncate};
    let truncated = correction(Token, Token, Truncate);
    assert_all_near(&weights(truncated), &[1.349859, 2.0, 0.135335, 1.648721, 1.105171, 0.0]);
    let made = truncated.weights(&OLD, &SAMPLING, &MASK, 3).unwrap();
    assert_eq!((made.num_truncated_tokens, made.num_dropped_tokens, made.num_dropped_rows), (1, 0, 0));
    assert_near(made.mean_weight, 6.239086 / 5.0, VECTOR_TOLERANCE);
    // 6.239086^2 / (5 * (1.822119 + 4 + .018316 + 2.718282 + 1.221403))
    assert_near(made.effective_sample_size, 0.796027, VECTOR_TOLERANCE);
    // (-.3 - 1 + 2 - .5 - .1) / 5
    assert_near(made.mismatch_kl, 0.02, VECTOR_TOLERANCE);
    let both = ImportanceCorrection { low: Some(0.5), ..truncated };
    assert_all_near(&weights(both), &[1.349859, 2.0, 0.5, 1.648721, 1.105171, 0.0]);
    let dropped = ImportanceCorrection { low: Some(0.5), ..correction(Token, Token, Drop) };
    assert_all_near(&weights(dropped), &[1.349859, 0.0, 0.0, 1.648721, 1.105171, 0.0]);
    assert_eq!(dropped.weights(&OLD, &SAMPLING, &MASK, 3).unwrap().num_dropped_tokens, 2);

    // Sums -.7 and .6, means -.233333 and .3.
    let sums = correction(SequenceSum, SequenceSum, Truncate);
    assert_all_near(&weights(sums), &[0.496585, 0.496585, 0.496585, 1.822119, 1.822119, 0.0]);
    let masked = ImportanceCorrection { high: Some(1.5), ..correction(SequenceSum, SequenceSum, Drop) };
    assert_all_near(&weights(masked), &[0.496585, 0.496585, 0.496585, 0.0, 0.0, 0.0]);
    assert_eq!(masked.weights(&OLD, &SAMPLING, &MASK, 3).unwrap().num_dropped_rows, 1);
    // The survivors keep the ratios of their tokens, unbounded.
    let kept = ImportanceCorrection { high: Some(1.3), ..correction(SequenceMean, Token, Drop) };
    assert_all_near(&weights(kept), &[1.349859, 1.0_f64.exp(), 0.135335, 0.0, 0.0, 0.0]);

    // Means 1.247817 over tokens and 1.159352 over sequences.
    let normalized = ImportanceCorrection { normalize: true, ..truncated };
    assert_near(weights(normalized)[1], 2.0 / 1.247817, VECTOR_TOLERANCE);
    let normalized = ImportanceCorrection { normalize: true, ..sums };
    assert_near(weights(normalized)[0], 0.496585 / 1.159352, VECTOR_TOLERANCE);
    let nothing = ImportanceCorrection { high: Some(0.01), normalize: true, ..masked };
    assert_eq!(weights(nothing), [0.0; 6]);
    // The mean of 4.9e-324 and 0 is 0.
    let clamp = LogRatioClamp::Off {};
    let tiny = ImportanceCorrection { normalize: true, clamp, ..truncated };
    let made = tiny.weights(&[-745.0, -800.0], &[0.0, 0.0], &[true; 2], 2).unwrap().weights;
    assert!(made[0] > 0.0 && made[0] < f64::MIN_POSITIVE && made[1] == 0.0, "{made:?}");
}

#[test]
fn bad_corrections_are_refused() {
    use ImportanceLevel::{SequenceMean, Token};
    let base = correction(Token, Token, OutOfBounds::Truncate);
    for bad in [
        ImportanceCorrection { low: Some(3.0), ..base },
        ImportanceCorrection { low: Some(-1.0), ..base },
        ImportanceCorrection { high: Some(0.0), ..base },
        ImportanceCorrection { judged: SequenceMean, ..base },
        ImportanceCorrection { clamp: LogRatioClamp::Within { low: 1.0, high: 2.0 }, ..base },
    ] {
        let error = bad.weights(&OLD, &SAMPLING, &MASK, 3).unwrap_err();
        assert!(matches!(error, Error::BadHyperparameter { .. }), "{error}");
    }
    let missing = base.weights(&OLD, &SAMPLING, &[true; 6], 3).unwrap_err();
    assert!(matches!(missing, Error::NonFinite { name: "old_log_probs", index: 5, .. }), "{missing}");
    let off = ImportanceCorrection { high: None, clamp: LogRatioClamp::Off {}, ..base };
    let error = off.weights(&[0.0], &[-1e4], &[true], 1).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "importance", .. }), "{error}");
    // The weight fits, its square does not, and the effective sample size would be NaN.
    let error = off.weights(&[0.0], &[-700.0], &[true], 1).unwrap_err();
    assert!(
        matches!(error, Error::NonFinite { name: "squares of importance", value, .. } if !value.is_nan()),
        "{error}"
    );
    assert!(
        serde_json::from_str::<ImportanceCorrection>(r#"{"judged":"token","weight":"token","outside":"drop","cap":2}"#)
            .is_err()
    );
    let rejection =
        Rejection { statistic: MismatchStatistic::K1, level: MismatchLevel::Token, low: Some(1.0), high: 0.0 };
    assert!(rejection.select(&OLD, &SAMPLING, &MASK, 3).is_err());
}

#[test]
fn rejection_of_tokens_and_rows() {
    let kept = |statistic, level, low, high| {
        Rejection { statistic, level, low, high }.select(&OLD, &SAMPLING, &MASK, 3).unwrap()
    };
    use MismatchLevel::{SequenceMax, SequenceMean, SequenceSum, Token};
    // K1 is -.3, -1, 2 and -.5, -.1.
    let tokens = kept(MismatchStatistic::K1, Token, Some(-0.4), 1.0);
    assert_eq!(tokens.keep, [true, false, false, false, true, false]);
    assert_eq!((tokens.num_dropped_tokens, tokens.num_dropped_rows), (3, 0));
    let rows = kept(MismatchStatistic::K1, SequenceSum, None, 0.0);
    assert_eq!(rows.keep, [false, false, false, true, true, false]);
    assert_eq!((rows.num_dropped_tokens, rows.num_dropped_rows), (3, 1));
    // K2 is .045, .5, 2 and .125, .005: means .848333 and .065.
    assert_eq!(kept(MismatchStatistic::K2, SequenceMean, None, 0.85).num_dropped_rows, 0);
    assert_eq!(kept(MismatchStatistic::K2, SequenceMean, None, 0.84).num_dropped_rows, 1);
    assert_eq!(kept(MismatchStatistic::K2, SequenceMax, None, 0.12).num_dropped_rows, 2);
    // K3 is .049859, .718282, 1.135335 and .148721, .005171.
    assert_eq!(kept(MismatchStatistic::K3, Token, None, 0.15).keep, [true, false, false, true, true, false]);
    // |exp(-1.3) - exp(-1)| = .095348, then .232544, .318092, .144749, .035008.
    assert_eq!(
        kept(MismatchStatistic::TotalVariation, Token, None, 0.1).keep,
        [true, false, false, false, true, false]
    );

    let mut weights = [1.0; 6];
    tokens.apply(&mut weights).unwrap();
    assert_eq!(weights, [1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    assert!(tokens.apply(&mut [1.0; 5]).is_err());
}

#[test]
fn responses_far_from_the_reference_are_left_out() {
    // log-prob less reference .3, 1, -2 and .5, .1: K2 means .848333 and .065.
    let selection = drop_high_kl(&OLD, &SAMPLING, &MASK, 3, KlEstimator::K2, 0.15).unwrap();
    assert_eq!(selection.keep, [false, false, false, true, true, false]);
    assert_eq!(selection.num_dropped_rows, 1);
    // Reaching the threshold is enough: two tokens of .5 have K2 .125 each.
    let reached = drop_high_kl(&[-1.0; 2], &[-1.5; 2], &[true; 2], 2, KlEstimator::K2, 0.125).unwrap();
    assert_eq!(reached.keep, [false; 2]);
    // The denominator stays: the loss is half of that of the row kept.
    let step = StepCounts::of_micro_batch(&MASK, 3).unwrap();
    let mut weights = Reduction::SeqMeanTokenMean.token_weights(&MASK, 3, &step).unwrap();
    selection.apply(&mut weights).unwrap();
    assert_near(masked_sum(&[4.0, 4.0, 4.0, 1.0, 2.0, f32::NAN], &MASK, &weights).unwrap(), 0.75, VECTOR_TOLERANCE);
    assert!(drop_high_kl(&OLD, &SAMPLING, &MASK, 3, KlEstimator::K3, 0.0).is_err());
}

#[test]
fn stale_bad_answers_are_left_out() {
    // mean(sampling - log_prob): .7 / 3 = .233333 and -.3.
    let keep =
        |advantages: &[f32], max_kl| drop_off_policy(&OLD, &SAMPLING, advantages, &MASK, 3, max_kl).unwrap().keep;
    assert_eq!(keep(&[-1.0; 6], 0.1), [false, false, false, true, true, false]);
    assert_eq!(keep(&[-1.0; 6], 0.24), MASK);
    assert_eq!(keep(&[1.0; 6], 0.1), MASK);
    assert_eq!(keep(&[-1.0, 0.0, 1.0, -1.0, -1.0, 0.0], 0.1), [false, true, true, true, true, false]);
}

#[test]
fn tokens_of_high_entropy() {
    let entropy = [0.5, 2.0, 1.0, 4.0, 3.0, f32::NAN];
    // Sorted .5, 1, 2, 3, 4: the 60 % quantile lies at place 2.4.
    let threshold = entropy_threshold(&entropy, &MASK, 0.4).unwrap();
    assert_near(threshold, 2.4, VECTOR_TOLERANCE);
    let kept = keep_high_entropy(&entropy, &MASK, 3, threshold).unwrap();
    assert_eq!(kept.keep, [false, false, false, true, true, false]);
    assert_eq!((kept.num_dropped_tokens, kept.num_dropped_rows), (3, 1));
    assert_eq!(keep_high_entropy(&entropy, &MASK, 3, 4.0).unwrap().num_dropped_tokens, 4);
    assert_near(entropy_threshold(&entropy, &MASK, 1.0).unwrap(), 0.5, 0.0);
    assert!(entropy_threshold(&entropy, &MASK, 0.0).is_err());
    assert!(matches!(entropy_threshold(&entropy, &[false; 6], 0.5), Err(Error::EmptyBatch { .. })));
}

#[test]
fn the_entropy_coefficient_follows_its_target() {
    let start = EntropyController::Adaptive {
        entropy_coef: 0.0,
        target: 0.2,
        delta: 0.005,
        min: 0.0,
        max: 0.008,
        last_entropy: None,
    };
    let mut controller = start;
    for (entropy, expected) in
        [(0.1, 0.005), (0.2, 0.008), (0.3, 0.0), (0.1, 0.008), (0.5, 0.0), (0.5, 0.0), (0.1, 0.005)]
    {
        controller.update(entropy).unwrap();
        assert_near(controller.entropy_coef(), expected, 1e-12);
        // A checkpoint restores it.
        let text = serde_json::to_string(&controller).unwrap();
        assert_eq!(serde_json::from_str::<EntropyController>(&text).unwrap(), controller);
    }
    // Before the first measurement there is no bonus, whatever the coefficient.
    let EntropyController::Adaptive { target, delta, min, max, last_entropy, .. } = start else { panic!() };
    let high = EntropyController::Adaptive { entropy_coef: 0.004, target, delta, min, max, last_entropy };
    assert_eq!(high.entropy_coef(), 0.0);
    let outside = EntropyController::Adaptive { entropy_coef: 0.009, target, delta, min, max, last_entropy };
    assert!(outside.validate().is_err());
    let mut fixed = EntropyController::Fixed { entropy_coef: 0.01 };
    fixed.update(0.1).unwrap();
    assert_eq!(fixed.entropy_coef(), 0.01);
    assert!(matches!(fixed.update(f64::NAN), Err(Error::NonFinite { .. })));
}

#[test]
fn denominators_with_and_without_masked_rows() {
    let mask = [true, true, false, false, true, false];
    let rows = Rows::Padded(2);
    let step = StepCounts::of_micro_batch(&mask, rows).unwrap();
    assert_eq!((step.num_sequences, step.num_masked_rows), (2, 1));
    let values = [1.0, 3.0, f32::NAN, f32::NAN, 5.0, f32::NAN];
    let reduce = |reduction: Reduction, step: &StepCounts| {
        masked_sum(&values, &mask, &reduction.token_weights(&mask, rows, step).unwrap()).unwrap()
    };
    let counted = step.counting_masked_rows();
    for (reduction, without, with) in [
        (Reduction::TokenMean, 3.0, 3.0),
        (Reduction::TokenSum, 9.0, 9.0),
        (Reduction::SeqMeanTokenMean, 3.5, 7.0 / 3.0),
        (Reduction::SeqMeanTokenSum, 4.5, 3.0),
        (Reduction::ConstNorm { max_length: 4 }, 9.0 / 8.0, 0.75),
        (Reduction::SeqSumNorm { length: Some(4) }, 2.25, 2.25),
        (Reduction::SeqSumNorm { length: None }, 4.5, 4.5),
    ] {
        assert_near(reduce(reduction, &step), without, VECTOR_TOLERANCE);
        assert_near(reduce(reduction, &counted), with, VECTOR_TOLERANCE);
    }
    // Counting rows does not make a step of nothing: every reduction refuses it.
    let nothing = StepCounts::of_micro_batch(&[false; 2], rows).unwrap().counting_masked_rows();
    for reduction in [Reduction::TokenSum, Reduction::SeqMeanTokenMean, Reduction::ConstNorm { max_length: 4 }] {
        assert!(matches!(reduction.token_weights(&[false; 2], rows, &nothing), Err(Error::EmptyBatch { .. })));
    }
}

fn levels() -> impl Strategy<Value = ImportanceLevel> {
    prop::sample::select(vec![ImportanceLevel::Token, ImportanceLevel::SequenceSum, ImportanceLevel::SequenceMean])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn importance_weights_obey_their_bounds_and_masks(
        tokens in prop::collection::vec((-4.0..0.0_f32, -4.0..0.0_f32, any::<bool>()), 1..13),
        level in levels(),
        bounds in (0.0..1.0_f64, 1.0..3.0_f64),
        truncate in any::<bool>(),
        left in 0..3_usize,
    ) {
        let seq = 4;
        let rows = tokens.len().div_ceil(seq);
        let width = seq + left;
        let mut arrays = [vec![f32::NAN; rows * seq], vec![f32::NAN; rows * seq]];
        let mut padded = [vec![f32::INFINITY; rows * width], vec![f32::INFINITY; rows * width]];
        let (mut mask, mut padded_mask) = (vec![false; rows * seq], vec![false; rows * width]);
        let place = |index: usize| index / seq * width + left + index % seq;
        for (index, &(old, sampling, token)) in tokens.iter().enumerate().filter(|(_, token)| token.2) {
            (arrays[0][index], arrays[1][index], mask[index]) = (old, sampling, token);
            (padded[0][place(index)], padded[1][place(index)], padded_mask[place(index)]) = (old, sampling, token);
        }
        let (low, high) = bounds;
        let outside = if truncate { OutOfBounds::Truncate } else { OutOfBounds::Drop };
        let correction = ImportanceCorrection { low: Some(low), high: Some(high), ..correction(level, level, outside) };
        let made = correction.weights(&arrays[0], &arrays[1], &mask, seq).unwrap();
        let wide = correction.weights(&padded[0], &padded[1], &padded_mask, width).unwrap();
        let mut dropped = 0;
        for (index, &token) in mask.iter().enumerate() {
            prop_assert_eq!(made.weights[index], wide.weights[place(index)]);
            let weight = made.weights[index];
            let zero = weight == 0.0;
            let inside = (low..=high).contains(&weight);
            let allowed = if token { inside || zero && !truncate } else { zero };
            prop_assert!(allowed);
            dropped += usize::from(token && weight == 0.0 && low > 0.0);
        }
        if !truncate && low > 0.0 {
            prop_assert_eq!(dropped, made.num_dropped_tokens);
        }
        prop_assert!((0.0..=1.0 + 1e-9).contains(&made.effective_sample_size));

        let normalized = ImportanceCorrection { normalize: true, ..correction };
        let normalized = normalized.weights(&arrays[0], &arrays[1], &mask, seq).unwrap().weights;
        if level == ImportanceLevel::Token && made.mean_weight > 0.0 {
            let count = mask.iter().filter(|&&token| token).count() as f64;
            assert_near(normalized.iter().sum::<f64>() / count, 1.0, ROUNDING_TOLERANCE);
        }
    }
}
