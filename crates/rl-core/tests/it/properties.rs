//! Laws of returns, of whitening and statistics, and of the advantage and policy functions that stand alone: masks,
//! splits, padding, permutations, sums, finiteness.

use proptest::prelude::*;
use rl_core::advantages::{
    Whitening, group_relative_advantages, leave_one_out_advantages, mean_baseline_advantages, whiten,
};
use rl_core::kl::{KlEstimator, kl_loss};
use rl_core::masked::{Reduction, StepCounts};
use rl_core::policy_loss::{ClipRange, clipped_policy_loss};
use rl_core::returns::{EpisodeBoundary, Gae, MaskedTime, discounted_returns, episode_gae, token_gae};
use rl_core::rewards::{RewardInputs, RewardShaping};
use rl_core::rows::broadcast_rows;
use rl_core::statistics::RunningStatistics;
use rl_core::{Error, Result};

use crate::batch::{Batch, batches, batches_of, extreme_batches, junk, padding};
use crate::policy::{dual_clipped_policy_loss, reinforce_loss};
use crate::{CASES, ROUNDING_TOLERANCE, assert_near};

const STILL: MaskedTime = MaskedTime::StandsStill;
const CLIP: ClipRange = ClipRange { low: 0.2, high: 0.28 };

const REDUCTIONS: [Reduction; 5] = [
    Reduction::TokenMean,
    Reduction::SeqMeanTokenMean,
    Reduction::SeqMeanTokenSum,
    Reduction::ConstNorm { max_length: 9 },
    Reduction::SeqSumNorm { length: Some(7) },
];

/// Bits of everything that is computed per token, so that equality is exact.
fn all_per_token(batch: &Batch) -> Vec<Vec<u32>> {
    let Batch { seq, arrays: [first, second, third], mask } = batch;
    let seq = *seq;
    let step = StepCounts::of_micro_batch(mask, seq).unwrap();
    let mut outputs = Vec::new();
    for reduction in REDUCTIONS {
        let weights = &reduction.token_weights(mask, seq, &step).unwrap();
        outputs.push(reinforce_loss(first, third, mask, weights).unwrap().grad_log_probs);
        outputs.push(clipped_policy_loss(first, second, third, mask, CLIP, weights).unwrap().grad_log_probs);
        outputs.push(dual_clipped_policy_loss(first, second, third, mask, CLIP, 3.0, weights).unwrap().grad_log_probs);
    }
    for time in [STILL, MaskedTime::Passes] {
        outputs.push(discounted_returns(third, mask, seq, 0.9, time).unwrap());
        let gae = token_gae(third, first, None, mask, seq, 0.9, 0.95, time).unwrap();
        outputs.extend([gae.advantages, gae.returns]);
    }
    outputs.push(whiten(third, mask, Whitening::biased()).unwrap());
    let rewards = vec![Some(1.0); mask.len() / seq];
    let inputs = RewardInputs { kl: Some(first), kl_coef: 0.1, ..RewardInputs::new(&rewards, mask, seq, 1) };
    outputs.push(RewardShaping::clip_baseline_kl(-10.0, 10.0).shape(&inputs, None).unwrap().token_rewards);
    outputs.into_iter().map(|output| output.into_iter().map(f32::to_bits).collect()).collect()
}

/// Numbers between 0 and 1, often one of the two.
fn unit_interval() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0), 0.0..1.0_f64]
}

/// Returns and advantages of a batch: over tokens with both times, and over all its numbers as the steps of episodes
/// that end as `ends` says, terminated or truncated.
fn all_returns(batch: &Batch, ends: &[(bool, bool)], gamma: f64, gae_lambda: f64) -> Vec<Result<Gae>> {
    let Batch { seq, arrays: [values, rewards, others], mask } = batch;
    let bootstrap = Some(&others[..batch.num_rows()]);
    let mut results = Vec::new();
    for time in [STILL, MaskedTime::Passes] {
        let returns = discounted_returns(rewards, mask, *seq, gamma, time);
        results.push(returns.map(|returns| Gae { advantages: Vec::new(), returns }));
        results.push(token_gae(rewards, values, None, mask, *seq, gamma, gae_lambda, time));
        results.push(token_gae(rewards, values, bootstrap, mask, *seq, gamma, gae_lambda, time));
    }
    let (terminated, truncated): (Vec<bool>, Vec<bool>) = ends[..mask.len()].iter().copied().unzip();
    for boundary in
        [EpisodeBoundary::TerminatedOrTruncated, EpisodeBoundary::TerminatedOnly, EpisodeBoundary::ZeroTruncated]
    {
        results.push(episode_gae(rewards, values, others[0], &terminated, &truncated, boundary, gamma, gae_lambda));
    }
    results
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn masked_junk_is_inert(batch in batches(), junk in junk()) {
        let outputs = all_per_token(&batch);
        prop_assert_eq!(&outputs, &all_per_token(&batch.spoilt(junk)));
        for output in outputs {
            prop_assert!(output.iter().zip(&batch.mask).all(|(&bits, &token)| token || bits == 0));
        }
    }

    #[test]
    fn padding_is_inert(batch in batches(), padding in padding()) {
        let (padded, places) = batch.padded(padding);
        for (output, padded) in all_per_token(&batch).into_iter().zip(all_per_token(&padded)) {
            let back: Vec<u32> = places.iter().map(|&place| padded[place]).collect();
            prop_assert_eq!(output, back);
        }
    }

    #[test]
    fn packed_rows_equal_padded_rows(batch in batches()) {
        let (packed_batch, lengths, kept) = batch.packed();
        let Batch { seq, arrays: [first, second, third], mask } = &batch;
        let Batch { arrays: [packed_first, packed_second, packed_third], mask: packed_mask, .. } = &packed_batch;
        let pick = |array: &[f32]| kept.iter().map(|&index| array[index]).collect::<Vec<f32>>();
        let step = StepCounts::of_micro_batch(mask, *seq).unwrap();
        for reduction in REDUCTIONS {
            let weights = reduction.token_weights(mask, *seq, &step).unwrap();
            let packed_weights = reduction.token_weights(packed_mask, &lengths, &step).unwrap();
            let padded = clipped_policy_loss(first, second, third, mask, CLIP, &weights).unwrap();
            let packed =
                clipped_policy_loss(packed_first, packed_second, packed_third, packed_mask, CLIP, &packed_weights);
            let packed = packed.unwrap();
            prop_assert_eq!(pick(&padded.grad_log_probs), packed.grad_log_probs);
            prop_assert_eq!(padded.loss, packed.loss);
        }
        let padded = token_gae(third, first, None, mask, *seq, 0.9, 0.95, STILL).unwrap();
        let packed = token_gae(packed_third, packed_first, None, packed_mask, &lengths, 0.9, 0.95, STILL).unwrap();
        prop_assert_eq!(pick(&padded.advantages), packed.advantages);
    }

    #[test]
    fn an_uneven_split_changes_no_gradient(batch in batches(), cut in 0..5_usize) {
        let parts = batch.split(cut);
        let step = parts[0].counts().merge(parts[1].counts());
        for reduction in REDUCTIONS {
            let loss = |batch: &Batch, step: &StepCounts| {
                let Batch { seq, arrays: [first, second, third], mask } = batch;
                let weights = reduction.token_weights(mask, *seq, step).unwrap();
                clipped_policy_loss(first, second, third, mask, CLIP, &weights).unwrap()
            };
            let whole = loss(&batch, &batch.counts());
            let [first, second] = parts.each_ref().map(|part| loss(part, &step));
            prop_assert_eq!([first.grad_log_probs, second.grad_log_probs].concat(), whole.grad_log_probs);
            assert_near(first.loss + second.loss, whole.loss, ROUNDING_TOLERANCE);
        }
    }

    #[test]
    fn ratio_one_gives_the_score_function_gradient(batch in batches()) {
        let Batch { arrays: [log_probs, _, advantages], mask, .. } = &batch;
        let expected = reinforce_loss(log_probs, advantages, mask, 5).unwrap();
        let clipped = clipped_policy_loss(log_probs, log_probs, advantages, mask, CLIP, 5).unwrap();
        prop_assert_eq!(&clipped.grad_log_probs, &expected.grad_log_probs);
        prop_assert_eq!((clipped.ratio_min, clipped.ratio_max, clipped.clip_fraction), (1.0, 1.0, 0.0));
        let dual = dual_clipped_policy_loss(log_probs, log_probs, advantages, mask, CLIP, 3.0, 5).unwrap();
        prop_assert_eq!(&dual.grad_log_probs, &expected.grad_log_probs);
    }

    #[test]
    fn k2_has_the_log_ratio_as_gradient(batch in batches()) {
        let Batch { arrays: [log_probs, reference, _], mask, .. } = &batch;
        let loss = kl_loss(log_probs, reference, mask, KlEstimator::K2, 1.0, 1).unwrap();
        for index in (0..mask.len()).filter(|&index| mask[index]) {
            let log_ratio = f64::from(log_probs[index]) - f64::from(reference[index]);
            assert_near(loss.grad_log_probs[index].into(), log_ratio, ROUNDING_TOLERANCE);
        }
        prop_assert!(kl_loss(log_probs, reference, mask, KlEstimator::K3, 1.0, 1).unwrap().loss >= 0.0);
    }

    #[test]
    fn a_permuted_group_has_permuted_advantages(
        (rewards, order) in (2..9_usize).prop_flat_map(|group| (
            prop::collection::vec(prop::option::weighted(0.9, -5.0..5.0_f64), group),
            Just((0..group).collect::<Vec<usize>>()).prop_shuffle(),
        ))
    ) {
        prop_assume!(rewards.iter().flatten().count() >= 2);
        let group = rewards.len();
        let permuted: Vec<Option<f64>> = order.iter().map(|&index| rewards[index]).collect();
        for estimate in [leave_one_out_advantages, mean_baseline_advantages, |rewards: &[Option<f64>], group| {
            group_relative_advantages(rewards, group, 1e-4)
        }] {
            let (plain, permuted) = (estimate(&rewards, group).unwrap(), estimate(&permuted, group).unwrap());
            for (place, &index) in order.iter().enumerate() {
                assert_near(permuted.advantages[place], plain.advantages[index], ROUNDING_TOLERANCE);
                prop_assert_eq!(permuted.used[place], plain.used[index]);
            }
            assert_near(plain.advantages.iter().sum(), 0.0, ROUNDING_TOLERANCE);
        }
    }

    #[test]
    fn leave_one_out_is_the_reward_less_the_mean_of_the_others(rewards in prop::collection::vec(-5.0..5.0_f64, 2..9)) {
        let scored: Vec<Option<f64>> = rewards.iter().copied().map(Some).collect();
        let advantages = leave_one_out_advantages(&scored, rewards.len()).unwrap().advantages;
        for (index, advantage) in advantages.into_iter().enumerate() {
            let others: f64 = rewards.iter().enumerate().filter(|&(other, _)| other != index).map(|(_, reward)| reward).sum();
            assert_near(advantage, rewards[index] - others / (rewards.len() - 1) as f64, ROUNDING_TOLERANCE);
        }
    }

    #[test]
    fn gae_has_its_closed_forms(batch in batches(), gamma in 0.0..1.0_f64) {
        let Batch { seq, arrays: [values, _, rewards], mask } = &batch;
        // lambda 1: the discounted return less the value.
        let returns = discounted_returns(rewards, mask, *seq, gamma, STILL).unwrap();
        let gae = token_gae(rewards, values, None, mask, *seq, gamma, 1.0, STILL).unwrap();
        for index in (0..mask.len()).filter(|&index| mask[index]) {
            assert_near((gae.advantages[index] + values[index]).into(), returns[index].into(), 1e-5);
        }
        // One open episode of steps is one row of tokens.
        let row = [true].repeat(values.len());
        let never = [false].repeat(values.len());
        let steps = episode_gae(rewards, values, 0.5, &never, &never, EpisodeBoundary::TerminatedOrTruncated, gamma, 0.9);
        let tokens = token_gae(rewards, values, Some(&[0.5]), &row, values.len(), gamma, 0.9, STILL).unwrap();
        for (step, token) in steps.unwrap().advantages.into_iter().zip(tokens.advantages) {
            assert_near(step.into(), token.into(), 1e-5);
        }
    }

    #[test]
    fn an_ended_episode_hides_what_follows(batch in batches(), end in 0..20_usize, truncate in any::<bool>()) {
        let Batch { arrays: [values, _, rewards], .. } = &batch;
        let end = end % values.len();
        let mut ended = vec![false; values.len()];
        ended[end] = true;
        let never = vec![false; values.len()];
        let (terminated, truncated) = if truncate { (&never, &ended) } else { (&ended, &never) };
        let boundary = EpisodeBoundary::TerminatedOrTruncated;
        let whole = episode_gae(rewards, values, 0.7, terminated, truncated, boundary, 0.9, 0.95).unwrap();
        let alone = token_gae(&rewards[..=end], &values[..=end], None, &vec![true; end + 1], end + 1, 0.9, 0.95, STILL).unwrap();
        for (whole, alone) in whole.advantages.iter().zip(&alone.advantages) {
            assert_near((*whole).into(), (*alone).into(), 1e-5);
        }
    }

    /// The extremes of `f32` make no return and no advantage that is not finite, unless it is beyond `f32` itself.
    #[test]
    fn no_finite_reward_or_value_gives_nan(
        batch in extreme_batches(),
        (gamma, gae_lambda) in (unit_interval(), unit_interval()),
        ends in prop::collection::vec((any::<bool>(), any::<bool>()), 20),
    ) {
        for result in all_returns(&batch, &ends, gamma, gae_lambda) {
            match result {
                Ok(gae) => prop_assert!(gae.advantages.iter().chain(&gae.returns).all(|value| value.is_finite())),
                Err(Error::NonFinite { value, .. }) => prop_assert!(!value.is_nan()),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
        let Batch { arrays: [values, ..], mask, .. } = &batch;
        for whitening in [Whitening::biased(), Whitening::unbiased(), Whitening::standardized(1e-4)] {
            match whiten(values, mask, whitening) {
                Ok(whitened) => prop_assert!(whitened.iter().all(|value| value.is_finite())),
                // One token has no unbiased variance.
                Err(error) => prop_assert!(matches!(error, Error::TooFew { .. }), "{}", error),
            }
        }
    }

    /// Twenty numbers of a discount of 1 add up to less than `f32` holds.
    #[test]
    fn large_rewards_and_values_never_fail(
        batch in batches_of((-1e36..1e36_f32, -1e36..1e36_f32, -1e36..1e36_f32)),
        (gamma, gae_lambda) in (unit_interval(), unit_interval()),
        ends in prop::collection::vec((any::<bool>(), any::<bool>()), 20),
    ) {
        for gae in all_returns(&batch, &ends, gamma, gae_lambda) {
            let Gae { advantages, returns } = gae.unwrap();
            prop_assert!(advantages.iter().chain(&returns).all(|value| value.is_finite()));
        }
    }

    #[test]
    fn whitened_values_have_mean_zero_and_variance_one(values in prop::collection::vec(-5.0..5.0_f32, 3..40)) {
        prop_assume!(values.iter().any(|value| (value - values[0]).abs() > 0.1));
        let whitened = whiten(&values, &vec![true; values.len()], Whitening::biased()).unwrap();
        let count = values.len() as f64;
        let mean = whitened.iter().map(|&value| f64::from(value)).sum::<f64>() / count;
        let variance = whitened.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / count;
        assert_near(mean, 0.0, 1e-5);
        assert_near(variance, 1.0, 1e-5);
    }

    #[test]
    fn merged_statistics_equal_those_of_all_numbers(values in prop::collection::vec(-5.0..5.0_f64, 2..40), cut in 0..40_usize) {
        let gather = |values: &[f64]| {
            let mut statistics = RunningStatistics::default();
            values.iter().for_each(|&value| statistics.push(value).unwrap());
            statistics
        };
        let cut = cut.min(values.len());
        let (merged, whole) = (gather(&values[..cut]).merge(gather(&values[cut..])).unwrap(), gather(&values));
        prop_assert_eq!(merged.count(), whole.count());
        assert_near(merged.mean(), whole.mean(), ROUNDING_TOLERANCE);
        let variance = |statistics: RunningStatistics| {
            statistics.variance(rl_core::statistics::Variance::Unbiased).unwrap()
        };
        assert_near(variance(merged), variance(whole), ROUNDING_TOLERANCE);
    }

    #[test]
    fn a_row_number_reaches_all_its_tokens(batch in batches()) {
        let per_row: Vec<f64> = (0..batch.mask.len() / batch.seq).map(|row| row as f64 + 1.0).collect();
        let tokens = broadcast_rows(&per_row, &batch.mask, batch.seq).unwrap();
        for (index, &token) in tokens.iter().enumerate() {
            prop_assert_eq!(token, if batch.mask[index] { (index / batch.seq + 1) as f32 } else { 0.0 });
        }
    }
}
