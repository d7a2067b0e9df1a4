//! Advantages, returns and divergences: worked numbers and what is refused.

use rl_core::Error;
use rl_core::advantages::{
    AdvantageEstimator, GroupEstimator, GroupRewards, RewardAggregation, Whitening, combine_rewards, whiten_samples,
};
use rl_core::kl::{KlCorrection, KlEstimator, KlPenalty, corrected_kl_loss, sequence_mean_kl};
use rl_core::returns::{EpisodeBoundary, MaskedTime, discounted_returns, episode_gae, token_gae};
use rl_core::rewards::{RewardInputs, RewardShaping};

use crate::{VECTOR_TOLERANCE, assert_close, assert_near};

#[track_caller]
fn check(actual: &[f64], expected: &[f64]) {
    assert_eq!(actual.len(), expected.len(), "{actual:?}");
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        assert!((actual - expected).abs() <= VECTOR_TOLERANCE, "[{index}]: {actual}, expected {expected}");
    }
}

const HALF: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// The group of the worked numbers: mean 0.875, unbiased standard deviation 0.853913.
const REWARDS: [Option<f64>; 4] = [Some(1.0), Some(0.0), Some(0.5), Some(2.0)];

fn advantages(estimator: GroupEstimator) -> Vec<f64> {
    estimator.advantages(&GroupRewards::new(&REWARDS, 4)).unwrap().advantages
}

#[test]
fn every_comparison_within_a_group() {
    let relative = |std_epsilon, variance_floor| GroupEstimator::GroupRelative { std_epsilon, variance_floor };
    check(&advantages(relative(1e-6, 0.0)), &[0.146385, -1.024694, -0.439155, 1.317464]);
    // A floor of 4 makes the standard deviation 2.
    check(&advantages(relative(0.0, 4.0)), &[0.0625, -0.4375, -0.1875, 0.5625]);
    check(&advantages(GroupEstimator::LeaveOneOut), &[0.166667, -1.166667, -0.5, 1.5]);
    check(&advantages(GroupEstimator::MeanBaseline), &[0.125, -0.875, -0.375, 1.125]);
    // 2 - 1, over 0.853913.
    check(&advantages(GroupEstimator::BestOfGroup { std_epsilon: Some(0.0) }), &[0.0, 0.0, 0.0, 1.171079]);
    check(&advantages(GroupEstimator::BestOfGroup { std_epsilon: None }), &[0.0, 0.0, 0.0, 1.0]);
    // Three of four rewards are not 0: alpha = 4 / 3.
    check(&advantages(GroupEstimator::GradientScaled { divisor: 1.0 }), &[0.166667, -1.166667, -0.5, 1.5]);
    check(&advantages(GroupEstimator::GradientScaled { divisor: 2.0 }), &[0.083333, -0.583333, -0.25, 0.75]);

    // Lengths 1, 2, 3, 4: the baseline is (1 + 0 + 1.5 + 8) / 10 = 1.05.
    let group = GroupRewards { lengths: Some(&[1, 2, 3, 4]), ..GroupRewards::new(&REWARDS, 4) };
    let weighted = GroupEstimator::LengthWeightedBaseline.advantages(&group).unwrap();
    check(&weighted.advantages, &[-0.05, -1.05, -0.55, 0.95]);
    let group = GroupRewards { greedy_rewards: Some(&[Some(0.25), None]), ..GroupRewards::new(&REWARDS, 2) };
    let greedy = GroupEstimator::GreedyBaseline.advantages(&group).unwrap();
    check(&greedy.advantages, &[0.75, -0.25, 0.0, 0.0]);
    assert_eq!((greedy.used, greedy.num_skipped_groups), (vec![true, true, false, false], 1));
    let single = GroupEstimator::BatchMeanBaseline.advantages(&GroupRewards::new(&REWARDS, 1)).unwrap();
    check(&single.advantages, &[0.125, -0.875, -0.375, 1.125]);
}

#[test]
fn equal_best_samples_share_nothing_and_equal_groups_teach_nothing() {
    let rewards = [2.0, 2.0, 0.5, 0.5].map(Some);
    let best = GroupEstimator::BestOfGroup { std_epsilon: Some(1e-6) };
    check(&best.advantages(&GroupRewards::new(&rewards, 4)).unwrap().advantages, &[0.0; 4]);
    for estimator in [
        best,
        GroupEstimator::MeanBaseline,
        GroupEstimator::LeaveOneOut,
        GroupEstimator::GradientScaled { divisor: 1.0 },
        GroupEstimator::GroupRelative { std_epsilon: 0.0, variance_floor: 0.0 },
    ] {
        let group = estimator.advantages(&GroupRewards::new(&[Some(0.1); 3], 3)).unwrap();
        assert_eq!((group.advantages, group.frac_zero_std), (vec![0.0; 3], 1.0));
    }
}

#[test]
fn comparisons_that_cannot_be_made_are_refused() {
    for estimator in [
        GroupEstimator::MeanBaseline,
        GroupEstimator::LeaveOneOut,
        GroupEstimator::BestOfGroup { std_epsilon: None },
        GroupEstimator::LengthWeightedBaseline,
    ] {
        let error = estimator.advantages(&GroupRewards::new(&[Some(1.0)], 1)).unwrap_err();
        assert!(matches!(error, Error::BadHyperparameter { name: "group_size", .. }), "{error}");
        let whole = AdvantageEstimator::Group { estimator, whitening: None };
        assert!(whole.validate(1).is_err() && whole.validate(2).is_ok());
    }
    for estimator in [GroupEstimator::LengthWeightedBaseline, GroupEstimator::GreedyBaseline] {
        let error = estimator.advantages(&GroupRewards::new(&REWARDS, 2)).unwrap_err();
        assert!(error.to_string().contains("must be given"), "{error}");
    }
    assert!(GroupEstimator::GradientScaled { divisor: 0.0 }.validate().is_err());
    assert!(GroupEstimator::GroupRelative { std_epsilon: 0.0, variance_floor: -1.0 }.validate().is_err());
    // The spread of these does not fit into f64: an error, not an advantage of 0.
    let far = [Some(1e308), Some(-1e308)];
    assert!(GroupEstimator::LeaveOneOut.advantages(&GroupRewards::new(&far, 2)).is_err());
}

#[test]
fn several_rewards_become_one() {
    let first = [Some(1.0), Some(3.0), Some(0.0), Some(0.0)];
    let second = [Some(0.0), Some(1.0), None, Some(4.0)];
    let sum = |aggregation| combine_rewards(aggregation, &[&first, &second], &[1.0, 0.5], 2).unwrap();
    let plain: Vec<f64> = sum(RewardAggregation::SumThenNormalize).into_iter().map(Option::unwrap).collect();
    check(&plain, &[1.0, 3.5, 0.0, 2.0]);
    // Two different numbers normalise to -1/sqrt 2 and 1/sqrt 2; equal numbers and lone ones to 0.
    let normalized = sum(RewardAggregation::NormalizeThenSum { std_epsilon: 0.0 });
    check(&normalized.iter().map(|x| x.unwrap()).collect::<Vec<_>>(), &[-1.5 * HALF, 1.5 * HALF, 0.0, 0.0]);
    let whitened = whiten_samples(&normalized, Whitening::standardized(0.0)).unwrap();
    check(&whitened.iter().map(|x| x.unwrap()).collect::<Vec<_>>(), &[-1.224745, 1.224745, 0.0, 0.0]);
    let nothing = [None, Some(1.0)];
    let combined = combine_rewards(RewardAggregation::SumThenNormalize, &[&nothing], &[2.0], 2).unwrap();
    assert_eq!(combined, [None, Some(2.0)]);
}

#[test]
fn one_call_from_rewards_to_advantages() {
    let rewards = [Some(1.0), Some(0.0), None, Some(5.0)];
    let mask = [true, true, true, false, true, true, true, true];
    let inputs = RewardInputs::new(&rewards, &mask, 2, 2);
    let shaping = RewardShaping::baseline_only();
    let estimator = AdvantageEstimator::Group { estimator: GroupEstimator::LeaveOneOut, whitening: None };
    let result = estimator.whitened_advantages(&shaping, &inputs, None).unwrap();
    // The second group has one scored sample, so it is left out of advantages and mask.
    assert_eq!(result.advantages, [1.0, 1.0, -1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(result.shaped.response_mask, [true, true, true, false, false, false, false, false]);
    let whitening = Some(Whitening::biased());
    let estimator = AdvantageEstimator::Group { estimator: GroupEstimator::MeanBaseline, whitening };
    // 0.5, 0.5, -0.5 have mean 1/6 and biased variance 2/9.
    let result = estimator.whitened_advantages(&shaping, &inputs, None).unwrap();
    assert_close(&result.advantages, &[HALF, HALF, -2.0 * HALF, 0.0, 0.0, 0.0, 0.0, 0.0], VECTOR_TOLERANCE);

    let (rewards, mask) = ([Some(1.0)], [true; 3]);
    let inputs = RewardInputs::new(&rewards, &mask, 3, 1);
    let masked_time = MaskedTime::StandsStill;
    let discounted = AdvantageEstimator::Reinforce { gamma: 0.5, masked_time, whitening: None };
    let result = discounted.token_advantages(&shaping, &inputs, None).unwrap();
    assert_eq!(result.advantages, [0.25, 0.5, 1.0]);
    let critic = AdvantageEstimator::Gae { gamma: 1.0, gae_lambda: 0.95, masked_time, whitening: None };
    assert!(critic.needs_values() && critic.token_advantages(&shaping, &inputs, None).is_err());
    let result = critic.token_advantages(&shaping, &inputs, Some(&[0.5, 0.6, 0.7])).unwrap();
    assert_close(&result.advantages, &[0.46575, 0.385, 0.3], VECTOR_TOLERANCE);
    assert_close(&result.returns, &[0.96575, 0.985, 1.0], VECTOR_TOLERANCE);
}

#[test]
fn settings_survive_their_configuration() {
    let text = r#"{"kind":"group","estimator":{"kind":"group_relative","std_epsilon":1e-4}}"#;
    let estimator: AdvantageEstimator = serde_json::from_str(text).unwrap();
    let expected = GroupEstimator::GroupRelative { std_epsilon: 1e-4, variance_floor: 0.0 };
    assert_eq!(estimator, AdvantageEstimator::Group { estimator: expected, whitening: None });
    let text = r#"{"steps":[{"kind":"clip","low":-10.0,"high":10.0},{"kind":"baseline"},{"kind":"token_kl"}]}"#;
    let shaping: RewardShaping = serde_json::from_str(text).unwrap();
    assert_eq!(shaping, RewardShaping::clip_baseline_kl(-10.0, 10.0));
    assert_eq!(serde_json::from_str::<RewardShaping>(&serde_json::to_string(&shaping).unwrap()).unwrap(), shaping);
    for typo in [r#"{"steps":[{"kind":"clip","low":-1.0,"hihg":1.0}]}"#, r#"{"steps":[{"kind":"basline"}]}"#] {
        assert!(serde_json::from_str::<RewardShaping>(typo).is_err(), "{typo}");
    }
    let typo = r#"{"kind":"reinforce","gama":1.0}"#;
    assert!(serde_json::from_str::<AdvantageEstimator>(typo).is_err());
}

#[test]
fn masked_tokens_may_take_time() {
    // Response, two tokens of the environment, response, padding; gamma 0.5, lambda 0.5.
    let rewards = [1.0, f32::NAN, f32::NAN, 4.0, f32::NAN];
    let values = [2.0, f32::NAN, f32::NAN, 3.0, f32::NAN];
    let mask = [true, false, false, true, false];
    let returns = |time| discounted_returns(&rewards, &mask, 5, 0.5, time).unwrap();
    assert_eq!(returns(MaskedTime::StandsStill), [3.0, 0.0, 0.0, 4.0, 0.0]);
    assert_eq!(returns(MaskedTime::Passes), [1.5, 0.0, 0.0, 4.0, 0.0]);
    let gae = |time| token_gae(&rewards, &values, None, &mask, 5, 0.5, 0.5, time).unwrap().advantages;
    // The last: 4 - 3 = 1. Still: 1 + 1.5 - 2 + 0.25 * 1 = 0.75.
    assert_eq!(gae(MaskedTime::StandsStill), [0.75, 0.0, 0.0, 1.0, 0.0]);
    // Passing: A2 = 0.5 * 3 + 0.25 * 1 = 1.75, A1 = 0.25 * 1.75 = 0.4375, A0 = 1 - 2 + 0.25 * 0.4375 = -0.890625.
    assert_eq!(gae(MaskedTime::Passes), [-0.890625, 0.0, 0.0, 1.0, 0.0]);
}

#[test]
fn a_truncated_step_can_be_made_to_say_nothing() {
    // As the other boundaries in `vectors`: gamma 0.9, lambda 0.5; step 1 is truncated, step 3 ends the game.
    let (rewards, values) = ([0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 4.0]);
    let (terminated, truncated) = ([false, false, false, true], [false, true, false, false]);
    let boundary = EpisodeBoundary::ZeroTruncated;
    let gae = episode_gae(&rewards, &values, 10.0, &terminated, &truncated, boundary, 0.9, 0.5).unwrap();
    // A1 = 0, its return is its value; A0 = 1.8 - 1 + 0.
    assert_close(&gae.advantages, &[0.8, 0.0, -0.3, -2.0], VECTOR_TOLERANCE);
    assert_close(&gae.returns, &[1.8, 2.0, 2.7, 2.0], VECTOR_TOLERANCE);
}

#[test]
fn divergence_of_an_older_policy() {
    // log_ratio 0.3, ratio exp(0.5).
    let loss = |penalty: KlPenalty, correction| {
        corrected_kl_loss(&[-1.0], &[-1.5], &[-1.3], &[true], penalty, correction, 1.0, 1).unwrap()
    };
    let ratio = 0.5_f64.exp();
    let k3 = KlEstimator::K3.into();
    let corrected = loss(k3, KlCorrection::Ratio);
    // 1.648721 * 0.040818; the derivative adds 1 - exp(-0.3) = 0.259182.
    assert_near(corrected.loss, 0.067298, VECTOR_TOLERANCE);
    assert_near(corrected.grad_log_probs[0].into(), ratio * 0.3, VECTOR_TOLERANCE);
    let straight = loss(k3, KlCorrection::StraightThrough { max_weight: 10.0 });
    assert_near(straight.loss, 0.040818, VECTOR_TOLERANCE);
    assert_near(straight.grad_log_probs[0].into(), ratio * 0.3, VECTOR_TOLERANCE);
    let capped = loss(KlEstimator::K1.into(), KlCorrection::StraightThrough { max_weight: 1.0 });
    assert_near(capped.loss, 0.3, VECTOR_TOLERANCE);
    assert_near(capped.grad_log_probs[0].into(), 0.3, VECTOR_TOLERANCE);

    // Rows of means 0.75 and 2; the third has no response token.
    let (kl, mask) = ([0.5, 1.0, 2.0, f32::NAN, f32::NAN, f32::NAN], [true, true, true, false, false, false]);
    assert_near(sequence_mean_kl(&kl, &mask, 2).unwrap(), 1.375, VECTOR_TOLERANCE);
    assert!(matches!(sequence_mean_kl(&kl, &[false; 6], 2), Err(Error::EmptyBatch { .. })));
}
