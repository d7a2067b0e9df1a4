//! Laws of rewards and advantages that hold for any input.

use proptest::prelude::*;
use rl_core::Error;
use rl_core::advantages::{
    AdvantageEstimator, GroupEstimator, GroupRewards, RewardAggregation, Whitening, combine_rewards, whiten_samples,
};
use rl_core::kl::{KlController, KlCorrection, KlEstimator, KlPenalty, corrected_kl_loss, kl_loss};
use rl_core::returns::{MaskedTime, discounted_returns, token_gae};
use rl_core::rewards::{GroupFilter, OverlongPenalty, RewardInputs, RewardShaping, RewardStep};
use rl_core::schedule::{ScheduleConfig, Warmup};
use rl_core::statistics::RunningNormalizer;

use crate::{CASES, ROUNDING_TOLERANCE, assert_near};

const ESTIMATORS: [GroupEstimator; 12] = [
    GroupEstimator::GroupRelative { std_epsilon: 1e-4, variance_floor: 0.0 },
    GroupEstimator::BatchScaled { std_epsilon: 1e-4 },
    GroupEstimator::MeanBaseline,
    GroupEstimator::LeaveOneOut,
    GroupEstimator::BatchMeanBaseline,
    GroupEstimator::LengthWeightedBaseline,
    GroupEstimator::GreedyBaseline,
    GroupEstimator::BestOfGroup { std_epsilon: Some(1e-4) },
    GroupEstimator::GradientScaled { divisor: 2.0 },
    GroupEstimator::BestOfGroup { std_epsilon: None },
    GroupEstimator::GroupRelative { std_epsilon: 1e-6, variance_floor: 1e-6 },
    GroupEstimator::GroupRelative { std_epsilon: 0.0, variance_floor: 4.0 },
];

/// Groups of one size with lengths and greedy rewards; some samples are unscorable and some groups constant.
#[derive(Debug, Clone)]
struct Groups {
    size: usize,
    rewards: Vec<Option<f64>>,
    lengths: Vec<usize>,
    greedy: Vec<Option<f64>>,
}

impl Groups {
    fn advantages(&self, estimator: GroupEstimator) -> rl_core::Result<rl_core::advantages::GroupAdvantages> {
        estimator.advantages(&GroupRewards {
            rewards: &self.rewards,
            group_size: self.size,
            lengths: Some(&self.lengths),
            greedy_rewards: Some(&self.greedy),
        })
    }
}

fn reward() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), -5.0..5.0_f64]
}

/// Any finite number, of both signs.
fn any_finite() -> impl Strategy<Value = f64> {
    use prop::num::f64::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
    POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO
}

fn groups() -> impl Strategy<Value = Groups> {
    (2..6_usize, 1..4_usize).prop_flat_map(|(size, prompts)| {
        (
            prop::collection::vec(prop::option::weighted(0.85, reward()), size * prompts),
            prop::collection::vec(1..9_usize, size * prompts),
            prop::collection::vec(reward().prop_map(Some), prompts),
        )
            .prop_map(move |(rewards, lengths, greedy)| Groups { size, rewards, lengths, greedy })
    })
}

/// Per-token arrays over rows of one width; the first row has a token.
#[derive(Debug, Clone)]
struct Tokens {
    seq: usize,
    mask: Vec<bool>,
    rewards: Vec<Option<f64>>,
    values: Vec<f32>,
    kl: Vec<f32>,
    truncated: Vec<bool>,
}

fn tokens() -> impl Strategy<Value = Tokens> {
    (1..4_usize, 1..6_usize).prop_flat_map(|(prompts, seq)| {
        let rows = prompts * 2;
        (
            prop::collection::vec(any::<bool>(), rows * seq),
            prop::collection::vec(prop::option::weighted(0.85, reward()), rows),
            prop::collection::vec(-3.0..3.0_f32, rows * seq),
            prop::collection::vec(-0.5..1.0_f32, rows * seq),
            prop::collection::vec(any::<bool>(), rows),
        )
            .prop_map(move |(mut mask, mut rewards, values, kl, truncated)| {
                // One whole group and one token that nothing takes out, so that every estimator has something to read.
                (mask[0], mask[seq]) = (true, true);
                rewards[0].get_or_insert(0.5);
                rewards[1].get_or_insert(-0.5);
                Tokens { seq, mask, rewards, values, kl, truncated }
            })
    })
}

/// Every estimator over tokens with a shaping that fits it.
fn pipelines() -> Vec<(RewardShaping, AdvantageEstimator)> {
    let penalty = OverlongPenalty { max_length: 4, buffer: 2, factor: 0.5, uncapped: false };
    let masked_time = MaskedTime::Passes;
    let whitening = Some(Whitening::biased());
    let kept = RewardStep::TokenWhitening { whitening: Whitening { shift_mean: false, ..Whitening::biased() } };
    let mut pairs = vec![
        (
            RewardShaping { steps: vec![RewardStep::MissingEndPenalty { penalty: 0.5 }, RewardStep::TokenKl, kept] },
            AdvantageEstimator::Gae { gamma: 0.9, gae_lambda: 0.95, masked_time, whitening },
        ),
        (
            RewardShaping::clip_baseline_kl(-2.0, 2.0).after(&[RewardStep::Overlong { penalty }]),
            AdvantageEstimator::Reinforce { gamma: 0.9, masked_time, whitening },
        ),
    ];
    for estimator in [GroupEstimator::LeaveOneOut, GroupEstimator::LengthWeightedBaseline] {
        for (shaping, whitening) in [
            (RewardShaping::baseline_clip_kl(-2.0, 2.0), whitening),
            (RewardShaping::clip_kl_baseline(-2.0, 2.0).after(&[RewardStep::ScaleTruncated { factor: 0.5 }]), None),
        ] {
            pairs.push((shaping, AdvantageEstimator::Group { estimator, whitening }));
        }
    }
    pairs
}

/// Bits of all per-token results of all pipelines.
fn all_bits(tokens: &Tokens) -> Vec<Vec<u32>> {
    let inputs = RewardInputs {
        kl: Some(&tokens.kl),
        kl_coef: 0.1,
        truncated: Some(&tokens.truncated),
        ..RewardInputs::new(&tokens.rewards, &tokens.mask, tokens.seq, 2)
    };
    let mut bits = Vec::new();
    for (shaping, estimator) in pipelines() {
        let result = estimator.whitened_advantages(&shaping, &inputs, Some(&tokens.values)).unwrap();
        for array in [result.advantages, result.returns, result.shaped.token_rewards] {
            assert!(array.iter().all(|value| value.is_finite()));
            bits.push(array.into_iter().map(f32::to_bits).collect());
        }
    }
    bits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn a_permuted_group_has_permuted_advantages(groups in groups(), swaps in prop::collection::vec(0..100_usize, 6)) {
        let mut permuted = groups.clone();
        let mut order: Vec<usize> = (0..groups.rewards.len()).collect();
        for (step, swap) in swaps.into_iter().enumerate() {
            // Two places of one group change their samples.
            let start = step % (order.len() / groups.size) * groups.size;
            let (left, right) = (start + swap % groups.size, start + swap / 7 % groups.size);
            order.swap(left, right);
            permuted.rewards.swap(left, right);
            permuted.lengths.swap(left, right);
        }
        for estimator in ESTIMATORS {
            match (groups.advantages(estimator), permuted.advantages(estimator)) {
                (Ok(plain), Ok(permuted)) => {
                    for (place, &index) in order.iter().enumerate() {
                        assert_near(permuted.advantages[place], plain.advantages[index], ROUNDING_TOLERANCE);
                        prop_assert_eq!(permuted.used[place], plain.used[index]);
                    }
                    prop_assert_eq!(permuted.frac_zero_std, plain.frac_zero_std);
                }
                (Err(plain), Err(permuted)) => prop_assert_eq!(plain, permuted),
                (plain, permuted) => prop_assert!(false, "{plain:?} against {permuted:?}"),
            }
        }
    }

    #[test]
    fn comparisons_with_the_mean_sum_to_zero(groups in groups()) {
        for estimator in [0, 1, 2, 3, 8, 10, 11].map(|number| ESTIMATORS[number]) {
            let Ok(result) = groups.advantages(estimator) else { continue };
            for group in result.advantages.chunks(groups.size) {
                assert_near(group.iter().sum(), 0.0, ROUNDING_TOLERANCE);
            }
        }
        // The length-weighted baseline: it is the weighted sum that vanishes.
        if let Ok(result) = groups.advantages(GroupEstimator::LengthWeightedBaseline) {
            for (group, lengths) in result.advantages.chunks(groups.size).zip(groups.lengths.chunks(groups.size)) {
                let sum = group.iter().zip(lengths).map(|(advantage, &length)| advantage * length as f64).sum();
                assert_near(sum, 0.0, ROUNDING_TOLERANCE);
            }
        }
    }

    #[test]
    fn an_unscorable_sample_changes_nothing_of_the_others(groups in groups(), extra in reward()) {
        // Each group with one sample more, which could not be scored.
        let mut longer = Groups { size: groups.size + 1, rewards: vec![], lengths: vec![], greedy: groups.greedy.clone() };
        for (rewards, lengths) in groups.rewards.chunks(groups.size).zip(groups.lengths.chunks(groups.size)) {
            longer.rewards.push(None);
            longer.rewards.extend(rewards);
            longer.lengths.push(extra.abs() as usize + 1);
            longer.lengths.extend(lengths);
        }
        for estimator in ESTIMATORS {
            let (Ok(plain), Ok(longer)) = (groups.advantages(estimator), longer.advantages(estimator)) else {
                prop_assert_eq!(groups.advantages(estimator).is_err(), longer.advantages(estimator).is_err());
                continue;
            };
            let kept: Vec<f64> =
                longer.advantages.chunks(groups.size + 1).flat_map(|group| group[1..].iter().copied()).collect();
            prop_assert_eq!(&kept, &plain.advantages);
            prop_assert!(longer.advantages.iter().step_by(groups.size + 1).all(|&advantage| advantage == 0.0));
            prop_assert_eq!(longer.frac_zero_std, plain.frac_zero_std);
        }
        let sum = |groups: &Groups| {
            combine_rewards(RewardAggregation::NormalizeThenSum { std_epsilon: 1e-4 }, &[&groups.rewards], &[2.0], groups.size)
        };
        let (plain, longer) = (sum(&groups).unwrap(), sum(&longer).unwrap());
        let kept: Vec<Option<f64>> = longer.chunks(groups.size + 1).flat_map(|group| group[1..].iter().copied()).collect();
        prop_assert_eq!(kept, plain);
    }

    #[test]
    fn no_finite_reward_makes_an_advantage_that_is_not(
        rewards in prop::collection::vec(prop::option::weighted(0.9, any_finite()), 6),
        lengths in prop::collection::vec(0..5_usize, 6),
    ) {
        let groups = Groups { size: 3, greedy: vec![rewards[0], rewards[1]], rewards, lengths };
        for estimator in ESTIMATORS {
            match groups.advantages(estimator) {
                Ok(result) => prop_assert!(result.advantages.iter().all(|advantage| advantage.is_finite())),
                Err(error) => prop_assert!(matches!(
                    error, Error::NonFinite { .. } | Error::EmptyBatch { .. } | Error::BadHyperparameter { name: "lengths", .. }
                ), "{error}"),
            }
        }
        if let Ok(whitened) = whiten_samples(&groups.rewards, Whitening::biased()) {
            prop_assert!(whitened.iter().flatten().all(|value| value.is_finite()));
        }
    }

    #[test]
    fn masked_junk_is_inert(tokens in tokens(), junk in prop::sample::select(vec![f32::NAN, f32::INFINITY, -7.5, 1e30])) {
        let mut spoilt = tokens.clone();
        for index in (0..tokens.mask.len()).filter(|&index| !tokens.mask[index]) {
            (spoilt.values[index], spoilt.kl[index]) = (junk, junk);
        }
        prop_assert_eq!(all_bits(&tokens), all_bits(&spoilt));
    }

    #[test]
    fn padding_is_inert(tokens in tokens(), left in 0..3_usize, right in 0..3_usize, extra_groups in 0..2_usize) {
        let (rows, seq) = (tokens.rewards.len(), tokens.seq + left + right);
        let length = (rows + 2 * extra_groups) * seq;
        let mut padded = Tokens {
            seq,
            mask: vec![false; length],
            rewards: tokens.rewards.clone(),
            values: vec![f32::NAN; length],
            kl: vec![f32::NAN; length],
            truncated: tokens.truncated.clone(),
        };
        padded.rewards.resize(rows + 2 * extra_groups, Some(3.0));
        padded.truncated.resize(rows + 2 * extra_groups, true);
        let place = |index: usize| index / tokens.seq * seq + left + index % tokens.seq;
        for index in 0..tokens.mask.len() {
            padded.mask[place(index)] = tokens.mask[index];
            padded.values[place(index)] = tokens.values[index];
            padded.kl[place(index)] = tokens.kl[index];
        }
        for (plain, padded) in all_bits(&tokens).into_iter().zip(all_bits(&padded)) {
            let back: Vec<u32> = (0..plain.len()).map(|index| padded[place(index)]).collect();
            prop_assert_eq!(plain, back);
        }
    }

    #[test]
    fn returns_have_their_closed_forms(tokens in tokens(), gamma in 0.0..1.0_f64, gae_lambda in 0.0..1.0_f64) {
        let Tokens { seq, mask, values, kl: rewards, .. } = &tokens;
        for time in [MaskedTime::StandsStill, MaskedTime::Passes] {
            let returns = discounted_returns(rewards, mask, *seq, gamma, time).unwrap();
            let gae = token_gae(rewards, values, None, mask, *seq, gamma, gae_lambda, time).unwrap();
            for (row, start) in (0..mask.len()).step_by(*seq).enumerate() {
                let acting: Vec<usize> = (start..start + seq).filter(|&index| mask[index]).collect();
                let (mut sum, mut advantage) = (vec![0.0; acting.len()], vec![0.0; acting.len()]);
                // Sums written out: every later reward, and every later temporal difference.
                let steps = |from: usize, to: usize| match time {
                    MaskedTime::StandsStill => (to - from) as i32,
                    MaskedTime::Passes => (acting[to] - acting[from]) as i32,
                };
                for from in 0..acting.len() {
                    for to in from..acting.len() {
                        sum[from] += gamma.powi(steps(from, to)) * f64::from(rewards[acting[to]]);
                        let mut delta = f64::from(rewards[acting[to]]) - f64::from(values[acting[to]]);
                        if let Some(&next) = acting.get(to + 1) {
                            // Masked steps have value 0 before and after, but for the last of them.
                            let weight = (gamma * gae_lambda).powi(steps(to, to + 1) - 1);
                            delta += gamma * weight * f64::from(values[next]);
                        }
                        advantage[from] += (gamma * gae_lambda).powi(steps(from, to)) * delta;
                    }
                }
                for (place, &index) in acting.iter().enumerate() {
                    prop_assert!((f64::from(returns[index]) - sum[place]).abs() < 1e-5, "row {row}");
                    prop_assert!((f64::from(gae.advantages[index]) - advantage[place]).abs() < 1e-5, "row {row}");
                }
            }
        }
    }

    #[test]
    fn divergences_keep_their_signs_and_limits(log_prob in -30.0..0.0_f32, reference in -30.0..0.0_f32, old in -30.0..0.0_f32) {
        for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs] {
            let penalty = KlPenalty { estimator, clamp: Some(10.0), straight_through: false };
            let loss = kl_loss(&[log_prob], &[reference], &[true], penalty, 1.0, 1).unwrap();
            prop_assert!(loss.loss.abs() <= 10.0 && loss.grad_log_probs[0].is_finite());
            prop_assert!(estimator == KlEstimator::K1 || loss.loss >= 0.0);
            // At ratio 1 the corrected value is the plain one, and the corrected gradient that of the divergence.
            let correction = KlCorrection::StraightThrough { max_weight: 10.0 };
            let corrected =
                corrected_kl_loss(&[log_prob], &[log_prob], &[reference], &[true], penalty, correction, 1.0, 1).unwrap();
            prop_assert_eq!(corrected.loss, loss.loss);
            prop_assert_eq!(corrected.grad_log_probs[0], (f64::from(log_prob) - f64::from(reference)) as f32);
            let weighed =
                corrected_kl_loss(&[log_prob], &[old], &[reference], &[true], penalty, correction, 1.0, 1).unwrap();
            prop_assert_eq!(weighed.loss, loss.loss);
        }
    }

    #[test]
    fn a_controller_stays_positive_and_moves_towards_its_target(measured in prop::collection::vec(-5.0..50.0_f64, 1..20)) {
        let mut controller = KlController::Adaptive { kl_coef: 0.01, target: 6.0, horizon: 10_000.0 };
        for kl in measured {
            let before = controller.kl_coef();
            controller.update(kl, 512).unwrap();
            prop_assert!(controller.kl_coef() > 0.0);
            prop_assert_eq!(controller.kl_coef() > before, kl > 6.0);
            prop_assert!((controller.kl_coef() / before - 1.0).abs() <= 0.2 * 0.0512 + 1e-12);
        }
    }

    #[test]
    fn filters_agree_with_their_words(groups in groups()) {
        let inside = GroupFilter::MeanInside { low: 0.0, high: 1.0, margin: 1e-6 }.select(&groups.rewards, groups.size).unwrap();
        let varied = GroupFilter::NotConstant.select(&groups.rewards, groups.size).unwrap();
        for (prompt, group) in groups.rewards.chunks(groups.size).enumerate() {
            let scored: Vec<f64> = group.iter().copied().flatten().collect();
            let mean = scored.iter().sum::<f64>() / scored.len() as f64;
            let (low, high) = (mean > 1e-6, mean < 1.0 - 1e-6);
            // Not within rounding of a bound.
            if [0.0, 1e-6, 1.0 - 1e-6, 1.0].iter().all(|bound| (mean - bound).abs() > 1e-12) {
                prop_assert_eq!(inside.kept[prompt], !scored.is_empty() && low && high);
            }
            let distinct = scored.windows(2).any(|pair| pair[0] != pair[1]);
            prop_assert_eq!(varied.kept[prompt], distinct || scored.len() == 1);
        }
        prop_assert_eq!(varied.samples(groups.size).len(), varied.kept.iter().filter(|&&kept| kept).count() * groups.size);
    }

    #[test]
    fn a_normaliser_takes_back_what_it_did(values in prop::collection::vec(-100.0..100.0_f64, 2..30), value in -50.0..50.0_f64) {
        let mut whole = RunningNormalizer::new(true, 1e-8, None);
        whole.update(values.iter().copied()).unwrap();
        let normalized = whole.normalize(value).unwrap();
        assert_near(whole.denormalize(normalized).unwrap(), value, ROUNDING_TOLERANCE);
        // Parts of two ranks, merged, are the whole.
        let (left, right) = values.split_at(values.len() / 2);
        let parts = [left, right].map(|part| {
            let mut normalizer = RunningNormalizer::new(true, 1e-8, None);
            normalizer.update(part.iter().copied()).unwrap();
            normalizer.statistics
        });
        let merged = RunningNormalizer { statistics: parts[0].merge(parts[1]).unwrap(), ..RunningNormalizer::new(true, 1e-8, None) };
        let scale = 1.0 + normalized.abs();
        assert_near(merged.normalize(value).unwrap() / scale, normalized / scale, ROUNDING_TOLERANCE);
    }

    #[test]
    fn schedules_rise_to_the_peak_and_never_pass_it(
        share in 0.0..0.5_f64, run_steps in 2..400_usize, floor in 0.0..1.0_f64,
        shape in 0..6_usize,
    ) {
        let (learning_rate, total_steps, floor_fraction) = (3.0, None, floor);
        let warmup = Warmup::Fraction { fraction: share };
        let config = [
            ScheduleConfig::Constant { learning_rate, warmup },
            ScheduleConfig::Linear { learning_rate, warmup, total_steps, floor_fraction },
            ScheduleConfig::Cosine { learning_rate, warmup, total_steps, floor_fraction },
            ScheduleConfig::CosineTo { learning_rate, warmup, total_steps, end_learning_rate: 3.0 * floor },
            ScheduleConfig::InverseSqrt { learning_rate, warmup, timescale: None },
            ScheduleConfig::LogWarmup { learning_rate, warmup },
        ][shape];
        let falls = (1..4).contains(&shape);
        let Ok(schedule) = config.resolve(run_steps) else {
            // Too short a warm-up for a logarithm, or as long as the run.
            let logarithmic = matches!(config, ScheduleConfig::LogWarmup { .. });
            prop_assert!(logarithmic || (share * run_steps as f64).ceil() as usize >= run_steps);
            return Ok(());
        };
        let warm = rl_core::schedule::warmup_steps(share, run_steps).unwrap();
        let rates: Vec<f64> = (0..run_steps + 5).map(|step| schedule.learning_rate(step)).collect();
        for (step, pair) in rates.windows(2).enumerate() {
            prop_assert!((0.0..=3.0 + 1e-12).contains(&pair[0]));
            if step + 1 < warm {
                prop_assert!(pair[0] <= pair[1]);
            } else if step >= warm {
                prop_assert!(pair[0] + 1e-12 >= pair[1]);
            }
        }
        assert_near(rates[warm], 3.0, 1e-12);
        if falls {
            assert_near(rates[run_steps], 3.0 * floor, 1e-9);
            prop_assert_eq!(rates[run_steps], rates[run_steps + 4]);
        }
    }
}
