//! Reward shaping, dynamic sampling and running scales: worked numbers and what is refused.

use rl_core::advantages::GroupEstimator;
use rl_core::rewards::{
    GroupFilter, OverlongPenalty, RewardInputs, RewardShaping, RewardStep, Rewards, overlong_penalty,
};
use rl_core::rows::Rows;
use rl_core::statistics::RunningNormalizer;

use crate::{VECTOR_TOLERANCE, assert_close, assert_near};

/// Two rows of three tokens; the first has two response tokens, the second one.
const MASK: [bool; 6] = [true, true, false, false, true, false];
const KL: [f32; 6] = [0.5, 1.0, f32::NAN, f32::NAN, 2.0, f32::NAN];

#[test]
fn rewards_in_every_order() {
    let rewards = [Some(14.0), Some(-8.0)];
    let inputs = RewardInputs { kl: Some(&KL), kl_coef: 0.1, ..RewardInputs::new(&rewards, &MASK, 3, 2) };
    let check = |shaping: RewardShaping, expected: [f64; 6], num_clipped| {
        let shaped = shaping.shape(&inputs, Some(GroupEstimator::MeanBaseline)).unwrap();
        assert_close(&shaped.token_rewards, &expected, VECTOR_TOLERANCE);
        assert_eq!((shaped.num_clipped, shaped.frac_zero_std), (num_clipped, Some(0.0)));
        assert_eq!(shaped.response_mask, MASK);
    };
    // 14, -8 clip to 10, -8; the mean is 1.
    check(RewardShaping::clip_baseline_kl(-10.0, 10.0), [-0.05, 8.9, 0.0, 0.0, -9.2, 0.0], 1);
    // 14, -8 have mean 3: 11, -11 clip to 10, -10.
    check(RewardShaping::baseline_clip_kl(-10.0, 10.0), [-0.05, 9.9, 0.0, 0.0, -10.2, 0.0], 2);
    // 10 - 0.15 and -8 - 0.2 have mean 0.825.
    check(RewardShaping::clip_kl_baseline(-10.0, 10.0), [0.0, 9.025, 0.0, 0.0, -9.025, 0.0], 1);
    // 14 - 0.15 and -8 - 0.2 have mean 2.825.
    check(RewardShaping::kl_baseline(), [0.0, 11.025, 0.0, 0.0, -11.025, 0.0], 0);
    check(RewardShaping::baseline_only(), [0.0, 11.0, 0.0, 0.0, -11.0, 0.0], 0);

    // The clamp of an advantage: 14 and -8 less each other are 22 and -22.
    let clamped = RewardShaping::baseline_clip_kl(-10.0, 10.0);
    let clamped = clamped.shape(&RewardInputs { kl: None, kl_coef: 0.0, ..inputs }, Some(GroupEstimator::LeaveOneOut));
    assert_eq!(clamped.unwrap().rewards, [10.0, -10.0]);

    // Without a comparison the baseline step does nothing; a coefficient below 0 counts as 0.
    let shaped = RewardShaping::clip_baseline_kl(-10.0, 10.0).shape(&inputs, None).unwrap();
    assert_close(&shaped.token_rewards, &[-0.05, 9.9, 0.0, 0.0, -8.2, 0.0], VECTOR_TOLERANCE);
    assert_eq!(shaped.frac_zero_std, None);
    let shaped = RewardShaping::kl_baseline().shape(&RewardInputs { kl_coef: -1.0, ..inputs }, None).unwrap();
    assert_close(&shaped.token_rewards, &[0.0, 14.0, 0.0, 0.0, -8.0, 0.0], VECTOR_TOLERANCE);
}

#[test]
fn truncated_samples_under_every_rule() {
    let rewards = [Some(4.0), Some(3.0), None, Some(1.0)];
    let mask = [true, true, true, false];
    let truncated = [true, false, false, true];
    let inputs =
        RewardInputs { truncated: Some(&truncated), ..RewardInputs::new(&rewards, &mask, Rows::Packed(&[1; 4]), 2) };
    let shape = |step| RewardShaping { steps: vec![step] }.shape(&inputs, None).unwrap();
    // The fourth sample has no response token, so nothing is known of it.
    assert_eq!(shape(RewardStep::ScaleTruncated { factor: 0.25 }).rewards, [1.0, 3.0, 0.0, 0.0]);
    assert_eq!(shape(RewardStep::ReplaceTruncated { reward: -0.5 }).rewards, [-0.5, 3.0, 0.0, 0.0]);
    assert_eq!(shape(RewardStep::MissingEndPenalty { penalty: 1.0 }).rewards, [3.0, 3.0, 0.0, 0.0]);
    let masked = shape(RewardStep::MaskTruncated);
    assert_eq!(masked.rewards, [4.0, 3.0, 0.0, 0.0]);
    assert_eq!(masked.token_rewards, [0.0, 3.0, 0.0, 0.0]);
    assert_eq!(masked.response_mask, [false, true, false, false]);
    assert_eq!(masked.used, [true, true, false, false]);
    // A masked sample still counts in its group: 3 - (4 + 3) / 2.
    let filtered = RewardShaping { steps: vec![RewardStep::MaskTruncated, RewardStep::Baseline] };
    let filtered = filtered.shape(&inputs, Some(GroupEstimator::MeanBaseline)).unwrap();
    assert_eq!((filtered.rewards, filtered.token_rewards), (vec![0.5, -0.5, 0.0, 0.0], vec![0.0, -0.5, 0.0, 0.0]));
    let unknown = RewardInputs { truncated: None, ..inputs };
    assert!(RewardShaping { steps: vec![RewardStep::MaskTruncated] }.shape(&unknown, None).is_err());
}

#[test]
fn long_responses_pay() {
    for (num_tokens, capped, uncapped) in
        [(1000, 0.0, 0.0), (1536, 0.0, 0.0), (1792, -0.5, -0.5), (2048, -1.0, -1.0), (2304, -1.0, -1.5)]
    {
        assert_near(overlong_penalty(num_tokens, 2048, 512, 1.0).unwrap(), capped, VECTOR_TOLERANCE);
        let mask = vec![true; num_tokens];
        let inputs = RewardInputs::new(&[Some(2.0)], &mask, num_tokens, 1);
        let penalty = OverlongPenalty { max_length: 2048, buffer: 512, factor: 1.0, uncapped: true };
        let shaping = RewardShaping::clip_baseline_kl(-10.0, 10.0).after(&[RewardStep::Overlong { penalty }]);
        assert_near(shaping.shape(&inputs, None).unwrap().rewards[0], 2.0 + uncapped, VECTOR_TOLERANCE);
    }
}

#[test]
fn rewards_per_token_keep_their_places() {
    // The credit of two units of three actions each and of the end: 0.48 + 0.24 + 0.2.
    let mut rewards = [f32::NAN, f32::NAN, 0.16, 0.16, 0.16, 0.08, 0.08, 0.08, 0.2];
    let mask = [false, false, true, true, true, true, true, true, true];
    rewards[8] = 12.0;
    let kl = [1.0; 9];
    let inputs = RewardInputs {
        rewards: Rewards::Tokens(&rewards),
        kl: Some(&kl),
        kl_coef: 0.01,
        ..RewardInputs::new(&[], &mask, 9, 1)
    };
    let shaped = RewardShaping::clip_baseline_kl(-10.0, 10.0).shape(&inputs, None).unwrap();
    assert_close(&shaped.token_rewards, &[0.0, 0.0, 0.15, 0.15, 0.15, 0.07, 0.07, 0.07, 9.99], VECTOR_TOLERANCE);
    assert_eq!((shaped.num_clipped, shaped.used), (1, vec![true]));
    let estimator = Some(GroupEstimator::BatchMeanBaseline);
    assert!(RewardShaping::baseline_only().shape(&inputs, estimator).is_err());
    assert!(RewardShaping::kl_baseline().shape(&inputs, None).is_err());
}

#[test]
fn bad_orders_are_refused() {
    let clip = RewardStep::Clip { low: 1.0, high: -1.0 };
    let penalty = OverlongPenalty { max_length: 4, buffer: 5, factor: 1.0, uncapped: false };
    for steps in [
        vec![RewardStep::TokenKl, RewardStep::Baseline],
        vec![RewardStep::Baseline, RewardStep::Baseline],
        vec![RewardStep::SampleKl, RewardStep::TokenKl],
        vec![clip],
        vec![RewardStep::ScaleTruncated { factor: 1.5 }],
        vec![RewardStep::ReplaceTruncated { reward: f64::NAN }],
        vec![RewardStep::MissingEndPenalty { penalty: -1.0 }],
        vec![RewardStep::Overlong { penalty }],
    ] {
        assert!(RewardShaping { steps: steps.clone() }.validate().is_err(), "{steps:?}");
    }
    let rewards = [Some(1.0), Some(2.0)];
    let inputs = RewardInputs::new(&rewards, &[true; 2], 1, 2);
    let without_kl = RewardInputs { kl_coef: 0.1, ..inputs };
    assert!(RewardShaping::clip_baseline_kl(-1.0, 1.0).shape(&without_kl, None).is_err());
    // A comparison that no step makes.
    assert!(RewardShaping { steps: vec![] }.shape(&inputs, Some(GroupEstimator::LeaveOneOut)).is_err());
}

#[test]
fn groups_worth_training_on() {
    let scores = [Some(1.0), Some(1.0), Some(0.0), Some(1.0), Some(0.0), Some(0.0), None, None, Some(0.5), None];
    let kept = |filter: GroupFilter| filter.select(&scores, 2).unwrap();
    let inside = GroupFilter::MeanInside { low: 0.0, high: 1.0, margin: 0.0 };
    assert_eq!(kept(inside).kept, [false, true, false, false, true]);
    assert_eq!(kept(inside).samples(2), [2, 3, 8, 9]);
    assert_eq!(kept(inside).num_unscored, 1);
    assert_eq!(kept(GroupFilter::NotConstant).kept, [false, true, false, false, true]);
    // Three times 0.1 is not more than 0.1; a mean within the margin of a bound is out.
    let edge = GroupFilter::MeanInside { low: 0.1, high: 1.0, margin: 0.0 };
    assert_eq!(edge.select(&[Some(0.1); 3], 3).unwrap().kept, [false]);
    let near = [Some(0.0), Some(1e-6)];
    for (margin, kept) in [(0.0, true), (1e-6, false)] {
        let filter = GroupFilter::MeanInside { low: 0.0, high: 1.0, margin };
        assert_eq!(filter.select(&near, 2).unwrap().kept, [kept]);
    }
    assert!(GroupFilter::MeanInside { low: 0.0, high: 1.0, margin: 0.5 }.validate().is_err());
    assert!(inside.select(&scores, 3).is_err() && inside.select(&[Some(f64::NAN)], 1).is_err());
}

#[test]
fn a_running_scale_is_found_and_taken_back() {
    let mut normalizer = RunningNormalizer::new(true, 1e-8, None);
    normalizer.update([5.0]).unwrap();
    assert_eq!(normalizer.normalize(5.0).unwrap(), 5.0);
    // 1, 3, 5 and 7 after that: of 5, 1, 3, 5, 7 the mean is 4.2 and the biased variance 4.16.
    normalizer.update([1.0, 3.0, 5.0, 7.0]).unwrap();
    assert_near(normalizer.normalize(7.0).unwrap(), 2.8 / 4.16_f64.sqrt(), VECTOR_TOLERANCE);
    assert_near(normalizer.denormalize(normalizer.normalize(7.0).unwrap()).unwrap(), 7.0, VECTOR_TOLERANCE);
    let saved = serde_json::to_string(&normalizer).unwrap();
    let mut restored: RunningNormalizer = serde_json::from_str(&saved).unwrap();
    assert_eq!(restored, normalizer);
    restored.clip = Some(1.0);
    restored.shift_mean = false;
    assert_eq!(restored.normalize(7.0).unwrap(), 1.0);
    assert_near(restored.normalize(1.0).unwrap(), 1.0 / 4.16_f64.sqrt(), VECTOR_TOLERANCE);
    assert!(RunningNormalizer::new(true, 0.0, None).normalize(1.0).is_err());
    assert!(normalizer.update([f64::NAN]).is_err() && normalizer.normalize(f64::INFINITY).is_err());
}
