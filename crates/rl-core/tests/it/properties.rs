//! Laws that hold for any input: masks, splits, padding, permutations, sums.

use proptest::prelude::*;
use rl_core::advantages::{
    Whitening, group_relative_advantages, leave_one_out_advantages, mean_baseline_advantages, whiten,
};
use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::kl::{KlEstimator, kl_loss};
use rl_core::masked::{Reduction, StepCounts};
use rl_core::policy_loss::{ClipRange, clipped_policy_loss};
use rl_core::returns::{EpisodeBoundary, MaskedTime, discounted_returns, episode_gae, token_gae};
use rl_core::rewards::{RewardInputs, RewardShaping};
use rl_core::rows::broadcast_rows;
use rl_core::statistics::RunningStatistics;
use rl_core::value_loss::clipped_value_loss;

use crate::policy::{dual_clipped_policy_loss, reinforce_loss};
use crate::{CASES, ROUNDING_TOLERANCE, assert_near};

const STILL: MaskedTime = MaskedTime::StandsStill;
const CLIP: ClipRange = ClipRange { low: 0.2, high: 0.28 };

/// A batch with per-token arrays.
#[derive(Debug, Clone)]
struct Batch {
    seq: usize,
    /// log_probs, old_log_probs, advantages (also as values, old values, rewards).
    arrays: [Vec<f32>; 3],
    mask: Vec<bool>,
}

fn batches() -> impl Strategy<Value = Batch> {
    (1..5_usize, 1..6_usize).prop_flat_map(|(batch, seq)| {
        let array = || prop::collection::vec(-3.0..0.0_f32, batch * seq);
        (array(), array(), array(), prop::collection::vec(any::<bool>(), batch * seq)).prop_map(
            move |(first, second, third, mut mask)| {
                mask[0] = true;
                let third = third.into_iter().map(|x| x + 1.5).collect();
                Batch { seq, arrays: [first, second, third], mask }
            },
        )
    })
}

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
        outputs.push(cross_entropy_loss(first, mask, CrossEntropyKind::Nll, weights).unwrap().grad_log_probs);
        outputs.push(cross_entropy_loss(first, mask, CrossEntropyKind::Dft, weights).unwrap().grad_log_probs);
        outputs.push(reinforce_loss(first, third, mask, weights).unwrap().grad_log_probs);
        outputs.push(clipped_policy_loss(first, second, third, mask, CLIP, weights).unwrap().grad_log_probs);
        outputs.push(dual_clipped_policy_loss(first, second, third, mask, CLIP, 3.0, weights).unwrap().grad_log_probs);
        outputs.push(kl_loss(first, second, mask, KlEstimator::K3, 0.1, weights).unwrap().grad_log_probs);
        outputs.push(clipped_value_loss(first, second, third, mask, 0.2, weights).unwrap().grad_values);
    }
    outputs.push(discounted_returns(third, mask, seq, 0.9, MaskedTime::Passes).unwrap());
    let gae = token_gae(third, first, None, mask, seq, 0.9, 0.95, MaskedTime::Passes).unwrap();
    outputs.extend([gae.advantages, gae.returns]);
    outputs.push(whiten(third, mask, Whitening::biased()).unwrap());
    let rewards = vec![Some(1.0); mask.len() / seq];
    let inputs = RewardInputs { kl: Some(first), kl_coef: 0.1, ..RewardInputs::new(&rewards, mask, seq, 1) };
    outputs.push(RewardShaping::clip_baseline_kl(-10.0, 10.0).shape(&inputs, None).unwrap().token_rewards);
    outputs.into_iter().map(|output| output.into_iter().map(f32::to_bits).collect()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn masked_junk_is_inert(batch in batches(), junk in prop::sample::select(vec![f32::NAN, f32::INFINITY, -7.5, 1e30])) {
        let mut spoilt = batch.clone();
        for array in &mut spoilt.arrays {
            for (value, _) in array.iter_mut().zip(&batch.mask).filter(|(_, token)| !**token) {
                *value = junk;
            }
        }
        let outputs = all_per_token(&batch);
        prop_assert_eq!(&outputs, &all_per_token(&spoilt));
        for output in outputs {
            prop_assert!(output.iter().zip(&batch.mask).all(|(&bits, &token)| token || bits == 0));
        }
    }

    #[test]
    fn padding_is_inert(batch in batches(), left in 0..3_usize, right in 0..3_usize, extra_rows in 0..2_usize) {
        let seq = batch.seq + left + right;
        let rows = batch.mask.len() / batch.seq;
        let mut padded = Batch {
            seq,
            arrays: [(); 3].map(|()| vec![f32::NAN; (rows + extra_rows) * seq]),
            mask: vec![false; (rows + extra_rows) * seq],
        };
        let place = |index: usize| index / batch.seq * seq + left + index % batch.seq;
        for index in 0..batch.mask.len() {
            padded.mask[place(index)] = batch.mask[index];
            for array in 0..3 {
                padded.arrays[array][place(index)] = batch.arrays[array][index];
            }
        }
        for (output, padded) in all_per_token(&batch).into_iter().zip(all_per_token(&padded)) {
            let back: Vec<u32> = (0..output.len()).map(|index| padded[place(index)]).collect();
            prop_assert_eq!(output, back);
        }
    }

    #[test]
    fn packed_rows_equal_padded_rows(batch in batches()) {
        let Batch { seq, arrays: [first, second, third], mask } = &batch;
        let keep: Vec<usize> = (0..mask.len()).filter(|&index| mask[index]).collect();
        let lengths: Vec<usize> = mask.chunks(*seq).map(|row| row.iter().filter(|&&token| token).count()).collect();
        let pick = |array: &[f32]| keep.iter().map(|&index| array[index]).collect::<Vec<f32>>();
        let packed_mask = vec![true; keep.len()];
        let step = StepCounts::of_micro_batch(mask, *seq).unwrap();
        for reduction in REDUCTIONS {
            let weights = reduction.token_weights(mask, *seq, &step).unwrap();
            let packed_weights = reduction.token_weights(&packed_mask, &lengths, &step).unwrap();
            let padded = clipped_policy_loss(first, second, third, mask, CLIP, &weights).unwrap();
            let packed = clipped_policy_loss(
                &pick(first), &pick(second), &pick(third), &packed_mask, CLIP, &packed_weights,
            ).unwrap();
            prop_assert_eq!(pick(&padded.grad_log_probs), packed.grad_log_probs);
            prop_assert_eq!(padded.loss, packed.loss);
        }
        let padded = token_gae(third, first, None, mask, *seq, 0.9, 0.95, STILL).unwrap();
        let packed = token_gae(&pick(third), &pick(first), None, &packed_mask, &lengths, 0.9, 0.95, STILL).unwrap();
        prop_assert_eq!(pick(&padded.advantages), packed.advantages);
    }

    #[test]
    fn an_uneven_split_changes_no_gradient(batch in batches(), cut in 0..5_usize) {
        let Batch { seq, arrays: [first, second, third], mask } = &batch;
        let cut = cut.min(mask.len() / seq) * seq;
        let parts = [0..cut, cut..mask.len()];
        let step = parts
            .iter()
            .map(|part| StepCounts::of_micro_batch(&mask[part.clone()], *seq).unwrap())
            .fold(StepCounts::default(), StepCounts::merge);
        let whole_step = StepCounts::of_micro_batch(mask, *seq).unwrap();
        for reduction in REDUCTIONS {
            let weights = reduction.token_weights(mask, *seq, &whole_step).unwrap();
            let whole = clipped_policy_loss(first, second, third, mask, CLIP, &weights).unwrap();
            let (mut loss, mut gradient) = (0.0, Vec::new());
            for part in parts.clone() {
                let mask = &mask[part.clone()];
                let weights = reduction.token_weights(mask, *seq, &step).unwrap();
                let (first, second, third) = (&first[part.clone()], &second[part.clone()], &third[part]);
                let part = clipped_policy_loss(first, second, third, mask, CLIP, &weights).unwrap();
                loss += part.loss;
                gradient.extend(part.grad_log_probs);
            }
            prop_assert_eq!(&gradient, &whole.grad_log_probs);
            assert_near(loss, whole.loss, ROUNDING_TOLERANCE);
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
