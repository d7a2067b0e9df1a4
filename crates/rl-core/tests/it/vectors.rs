//! Numbers worked by hand, or given with the formulas.

use rl_core::advantages::{
    GroupEstimator, GroupRewards, StdFloor, Whitening, group_relative_advantages, leave_one_out_advantages,
    mean_baseline_advantages, whiten,
};
use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::entropy::entropy_bonus;
use rl_core::kl::{KlController, KlEstimator, KlPenalty, kl_estimates, kl_loss};
use rl_core::masked::{Reduction, StepCounts, masked_sum};
use rl_core::policy_loss::{ClipRange, PolicyLoss, clipped_policy_loss};
use rl_core::returns::{EpisodeBoundary, MaskedTime, discounted_returns, episode_gae, token_gae};
use rl_core::rewards::overlong_penalty;
use rl_core::value_loss::{clipped_value_loss, value_loss};

use crate::policy::{dual_clipped_policy_loss, reinforce_loss};
use crate::{VECTOR_TOLERANCE, assert_close, assert_near};

const LOG_PROBS: [f32; 8] = [-0.5, -1.0, -2.0, -0.1, -0.2, -0.3, 0.0, 0.0];
const MASK: [bool; 8] = [false, true, true, true, true, true, false, false];

fn reduced(reduction: Reduction) -> f64 {
    let step = StepCounts::of_micro_batch(&MASK, 4).unwrap();
    let weights = reduction.token_weights(&MASK, 4, &step).unwrap();
    cross_entropy_loss(&LOG_PROBS, &MASK, CrossEntropyKind::Nll, &weights).unwrap().loss
}

#[test]
fn supervised_loss_under_every_reduction() {
    // Token losses are 1, 2, 0.1 in the first row and 0.2, 0.3 in the second: sums 3.1 and 0.5.
    assert_near(reduced(Reduction::TokenMean), 0.72, VECTOR_TOLERANCE);
    assert_near(reduced(Reduction::TokenMeanLocal), 0.72, VECTOR_TOLERANCE);
    assert_near(reduced(Reduction::SeqMeanTokenMean), 0.641667, VECTOR_TOLERANCE);
    assert_near(reduced(Reduction::SeqMeanTokenSum), 1.8, VECTOR_TOLERANCE);
    assert_near(reduced(Reduction::ConstNorm { max_length: 10 }), 0.18, VECTOR_TOLERANCE);
    assert_near(reduced(Reduction::SeqSumNorm { length: Some(10) }), 0.36, VECTOR_TOLERANCE);
    assert_near(reduced(Reduction::SeqSumNorm { length: None }), 0.9, VECTOR_TOLERANCE);

    let nll = cross_entropy_loss(&LOG_PROBS, &MASK, CrossEntropyKind::Nll, 5).unwrap();
    assert_near(nll.loss, 0.72, VECTOR_TOLERANCE);
    assert_close(&nll.grad_log_probs, &[0.0, -0.2, -0.2, -0.2, -0.2, -0.2, 0.0, 0.0], VECTOR_TOLERANCE);
    let dft = cross_entropy_loss(&LOG_PROBS, &MASK, CrossEntropyKind::Dft, 5).unwrap();
    assert_near(dft.loss, 0.223005, VECTOR_TOLERANCE);
    // exp(-1) / 5
    assert_near(dft.grad_log_probs[1].into(), -0.073576, VECTOR_TOLERANCE);
}

#[test]
fn local_token_mean_averages_micro_batches() {
    let step =
        StepCounts::of_micro_batch(&MASK[..4], 4).unwrap().merge(StepCounts::of_micro_batch(&MASK[4..], 4).unwrap());
    let loss: f64 = [0..4, 4..8]
        .into_iter()
        .map(|part| {
            let weights = Reduction::TokenMeanLocal.token_weights(&MASK[part.clone()], 4, &step).unwrap();
            let values = LOG_PROBS.map(|log_prob| -log_prob);
            masked_sum(&values[part.clone()], &MASK[part], &weights).unwrap()
        })
        .sum();
    assert_near(loss, (3.1 / 3.0 + 0.25) / 2.0, VECTOR_TOLERANCE);
}

#[test]
fn divergence_estimators_and_controller() {
    let check = |estimator, value| {
        let estimate = kl_estimates(&[-1.0], &[-1.3], &[true], estimator).unwrap();
        assert_close(&estimate, &[value], VECTOR_TOLERANCE);
        let loss = kl_loss(&[-1.0], &[-1.3], &[true], estimator, 0.5, 2).unwrap();
        assert_near(loss.loss, value / 4.0, VECTOR_TOLERANCE);
        assert_near(loss.mean_kl, value, VECTOR_TOLERANCE);
    };
    check(KlEstimator::K1, 0.3);
    check(KlEstimator::K2, 0.045);
    check(KlEstimator::K3, 0.040818);
    check(KlEstimator::Abs, 0.3);
    assert_near(KlPenalty::from(KlEstimator::Abs).term(-0.3).value, 0.3, VECTOR_TOLERANCE);

    let clamped = KlPenalty { estimator: KlEstimator::K1, clamp: Some(10.0), straight_through: false };
    assert_eq!((clamped.term(-12.0).value, clamped.term(-12.0).derivative), (-10.0, 0.0));
    let straight = KlPenalty { estimator: KlEstimator::K1, clamp: None, straight_through: true };
    assert_eq!((straight.term(0.25).value, straight.term(0.25).derivative), (0.25, 0.25));

    let mut controller = KlController::Adaptive { kl_coef: 0.01, target: 6.0, horizon: 10_000.0 };
    controller.update(12.0, 512).unwrap();
    assert_near(controller.kl_coef(), 0.0101024, 1e-9);
    controller.update(0.0, 512).unwrap();
    assert_near(controller.kl_coef(), 0.0101024 * (1.0 - 0.2 * 0.0512), 1e-9);
    let mut fixed = KlController::Fixed { kl_coef: 0.02 };
    fixed.update(100.0, 512).unwrap();
    assert_eq!(fixed.kl_coef(), 0.02);
}

#[test]
fn generalized_advantages_over_tokens() {
    let (rewards, values, mask) = ([0.0, 0.0, 1.0], [0.5, 0.6, 0.7], [true; 3]);
    let gae = token_gae(&rewards, &values, None, &mask, 3, 1.0, 1.0, MaskedTime::StandsStill).unwrap();
    assert_close(&gae.advantages, &[0.5, 0.4, 0.3], VECTOR_TOLERANCE);
    let gae = token_gae(&rewards, &values, None, &mask, 3, 1.0, 0.95, MaskedTime::StandsStill).unwrap();
    assert_close(&gae.advantages, &[0.46575, 0.385, 0.3], VECTOR_TOLERANCE);
    assert_close(&gae.returns, &[0.96575, 0.985, 1.0], VECTOR_TOLERANCE);

    let biased = whiten(&gae.advantages, &mask, Whitening::biased()).unwrap();
    assert_close(&biased, &[1.214144, 0.020934, -1.235077], VECTOR_TOLERANCE);
    let unbiased = whiten(&gae.advantages, &mask, Whitening::unbiased()).unwrap();
    assert_close(&unbiased, &[0.991344, 0.017092, -1.008436], VECTOR_TOLERANCE);
    let kept = whiten(&gae.advantages, &mask, Whitening { shift_mean: false, ..Whitening::unbiased() }).unwrap();
    assert_close(&kept, &[1.374927, 0.400675, -0.624853], VECTOR_TOLERANCE);
    let centred = whiten(&gae.advantages, &mask, Whitening { divide_by_std: false, ..Whitening::biased() }).unwrap();
    assert_close(&centred, &[0.082167, 0.001417, -0.083583], VECTOR_TOLERANCE);
    // The values 1, 2, 3 have unbiased standard deviation 1, so a floor of 1 halves them.
    let floor = Whitening { floor: StdFloor::AddToStd(1.0), ..Whitening::unbiased() };
    assert_close(&whiten(&[1.0, 2.0, 3.0], &mask, floor).unwrap(), &[-0.5, 0.0, 0.5], VECTOR_TOLERANCE);

    // A bootstrap value of 2 with gamma 0.5: delta = [0 + 0.3 - 0.5, 0 + 0.35 - 0.6, 1 + 1 - 0.7], lambda 0.
    let gae = token_gae(&rewards, &values, Some(&[2.0]), &mask, 3, 0.5, 0.0, MaskedTime::StandsStill).unwrap();
    assert_close(&gae.advantages, &[-0.2, -0.25, 1.3], VECTOR_TOLERANCE);
    let returns = discounted_returns(&rewards, &mask, 3, 0.5, MaskedTime::StandsStill).unwrap();
    assert_close(&returns, &[0.25, 0.5, 1.0], VECTOR_TOLERANCE);
}

#[test]
fn generalized_advantages_over_episode_steps() {
    // gamma 0.9, lambda 0.5; step 1 is truncated, step 3 ends the game.
    let (rewards, values) = ([0.0, 1.0, 0.0, 2.0], [1.0, 2.0, 3.0, 4.0]);
    let (terminated, truncated) = ([false, false, false, true], [false, true, false, false]);
    let run = |boundary, terminated: &[bool]| {
        episode_gae(&rewards, &values, 10.0, terminated, &truncated, boundary, 0.9, 0.5).unwrap()
    };
    // A3 = 2 - 4 = -2; A2 = 3.6 - 3 + 0.45 * -2 = -0.3; A1 = 1 - 2 = -1; A0 = 1.8 - 1 + 0.45 * -1 = 0.35.
    let gae = run(EpisodeBoundary::TerminatedOrTruncated, &terminated);
    assert_close(&gae.advantages, &[0.35, -1.0, -0.3, -2.0], VECTOR_TOLERANCE);
    assert_close(&gae.returns, &[1.35, 1.0, 2.7, 2.0], VECTOR_TOLERANCE);
    // The leak: A1 = 1 + 2.7 - 2 + 0.45 * -0.3 = 1.565; A0 = 0.8 + 0.45 * 1.565 = 1.50425.
    let leaky = run(EpisodeBoundary::TerminatedOnly, &terminated);
    assert_close(&leaky.advantages, &[1.50425, 1.565, -0.3, -2.0], VECTOR_TOLERANCE);
    // Cut in the middle of an episode: A3 = 2 + 9 - 4 = 7; A2 = 0.6 + 3.15 = 3.75.
    let open = run(EpisodeBoundary::TerminatedOrTruncated, &[false; 4]);
    assert_close(&open.advantages, &[0.35, -1.0, 3.75, 7.0], VECTOR_TOLERANCE);
}

#[test]
fn advantages_within_a_group() {
    let rewards = [1.0, 0.0, 0.5, 2.0].map(Some);
    let check = |advantages: Vec<f64>, expected: [f64; 4]| {
        for (advantage, expected) in advantages.into_iter().zip(expected) {
            assert_near(advantage, expected, VECTOR_TOLERANCE);
        }
    };
    let leave_one_out = leave_one_out_advantages(&rewards, 4).unwrap();
    check(leave_one_out.advantages, [0.166667, -1.166667, -0.5, 1.5]);
    let group = group_relative_advantages(&rewards, 4, 1e-6).unwrap();
    check(group.advantages, [0.146385, -1.024694, -0.439155, 1.317464]);
    check(mean_baseline_advantages(&rewards, 4).unwrap().advantages, [0.125, -0.875, -0.375, 1.125]);
    // Groups of two; the batch has unbiased standard deviation 0.853913.
    let batch = GroupEstimator::BatchScaled { std_epsilon: 0.0 }.advantages(&GroupRewards::new(&rewards, 2)).unwrap();
    check(batch.advantages, [0.585539, -0.585539, -0.878310, 0.878310]);
}

#[test]
fn equal_and_missing_rewards_are_counted() {
    // 0.1 three times has a mean that rounds away from 0.1.
    let rewards = [Some(0.1), Some(0.1), Some(0.1), Some(3.0), None, Some(1.0), None, None, Some(5.0)];
    let group = group_relative_advantages(&rewards, 3, 0.0).unwrap();
    let half = std::f64::consts::FRAC_1_SQRT_2;
    for (advantage, expected) in group.advantages.iter().zip([0.0, 0.0, 0.0, half, 0.0, -half, 0.0, 0.0, 0.0]) {
        assert_near(*advantage, expected, VECTOR_TOLERANCE);
    }
    assert_eq!(group.used, [true, true, true, true, false, true, false, false, false]);
    assert_eq!((group.frac_zero_std, group.num_unscorable, group.num_skipped_groups), (0.5, 3, 1));
}

const NEW: [f32; 4] = [-1.5, -2.5, -0.5, -0.5];
const OLD: [f32; 4] = [-2.0; 4];
const ADVANTAGES: [f32; 4] = [1.0, -1.0, -1.0, 1.0];

fn each_token(loss: impl Fn(&[bool]) -> PolicyLoss) -> Vec<f32> {
    (0..4)
        .map(|token| {
            let mut mask = [false; 4];
            mask[token] = true;
            loss(&mask).loss as f32
        })
        .collect()
}

#[test]
fn clipped_policy_losses() {
    let all = [true; 4];
    let clip = ClipRange::symmetric(0.2);
    let ppo = clipped_policy_loss(&NEW, &OLD, &ADVANTAGES, &all, clip, 4).unwrap();
    assert_near(ppo.loss, 0.720422, VECTOR_TOLERANCE);
    assert_close(
        &each_token(|mask| clipped_policy_loss(&NEW, &OLD, &ADVANTAGES, mask, clip, 1).unwrap()),
        &[-1.2, 0.8, 4.481689, -1.2],
        VECTOR_TOLERANCE,
    );
    // Only the third token is free: its derivative is ratio / 4.
    assert_close(&ppo.grad_log_probs, &[0.0, 0.0, 1.120422, 0.0], VECTOR_TOLERANCE);
    assert_eq!((ppo.num_tokens, ppo.clip_fraction, ppo.dual_clip_fraction), (4, 0.75, 0.0));
    assert_near(ppo.approx_kl, -0.75, VECTOR_TOLERANCE);
    assert_near(ppo.ratio_min, 0.606531, VECTOR_TOLERANCE);
    assert_near(ppo.ratio_max, 4.481689, VECTOR_TOLERANCE);

    let dual = dual_clipped_policy_loss(&NEW, &OLD, &ADVANTAGES, &all, clip, 3.0, 4).unwrap();
    assert_near(dual.loss, 0.35, VECTOR_TOLERANCE);
    assert_eq!((dual.grad_log_probs.as_slice(), dual.dual_clip_fraction), ([0.0; 4].as_slice(), 0.25));

    let higher = ClipRange { low: 0.2, high: 0.28 };
    assert_close(
        &each_token(|mask| clipped_policy_loss(&NEW, &OLD, &ADVANTAGES, mask, higher, 1).unwrap()),
        &[-1.28, 0.8, 4.481689, -1.28],
        VECTOR_TOLERANCE,
    );
}

#[test]
fn score_function_and_entropy() {
    let loss = reinforce_loss(&NEW, &ADVANTAGES, &[true; 4], 4).unwrap();
    // -(-1.5 + 2.5 + 0.5 - 0.5) / 4
    assert_near(loss.loss, -0.25, VECTOR_TOLERANCE);
    assert_close(&loss.grad_log_probs, &[-0.25, 0.25, 0.25, -0.25], VECTOR_TOLERANCE);
    assert_eq!((loss.ratio_min, loss.ratio_max, loss.clip_fraction, loss.approx_kl), (1.0, 1.0, 0.0, 0.0));
    let bonus = entropy_bonus(&[2.0, f32::NAN, 4.0], &[true, false, true], 0.1, 2).unwrap();
    assert_near(bonus.loss, -0.3, VECTOR_TOLERANCE);
    assert_close(&bonus.grad_entropy, &[-0.05, 0.0, -0.05], VECTOR_TOLERANCE);
}

#[test]
fn value_losses() {
    let check = |value, old_value, clip_range, expected, gradient, clip_fraction| {
        let loss = clipped_value_loss(&[value], &[old_value], &[0.0], &[true], clip_range, 1).unwrap();
        assert_near(loss.loss, expected, VECTOR_TOLERANCE);
        assert_close(&loss.grad_values, &[gradient], VECTOR_TOLERANCE);
        assert_eq!(loss.clip_fraction, clip_fraction);
    };
    check(1.0, 0.2, 0.2, 0.5, 1.0, 0.0);
    check(0.1, 0.9, 0.2, 0.245, 0.0, 1.0);
    check(0.1, 0.2, 0.2, 0.005, 0.1, 0.0);
    let plain = value_loss(&[3.0, 1.0], &[1.0, 1.0], &[true, true], 2).unwrap();
    assert_near(plain.loss, 1.0, VECTOR_TOLERANCE);
    assert_close(&plain.grad_values, &[1.0, 0.0], VECTOR_TOLERANCE);
}

#[test]
fn overlong_responses() {
    for (num_tokens, expected) in [(1000, 0.0), (1536, 0.0), (1792, -0.5), (2048, -1.0), (4000, -1.0)] {
        assert_near(overlong_penalty(num_tokens, 2048, 512, 1.0).unwrap(), expected, VECTOR_TOLERANCE);
    }
}
