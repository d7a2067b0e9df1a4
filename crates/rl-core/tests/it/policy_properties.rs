//! Laws of every policy objective and reduction: masks, padding, packing, splits, permutations, ratio 1, finiteness.

use proptest::prelude::*;
use rl_core::Error;
use rl_core::masked::{Reduction, StepCounts};
use rl_core::policy_loss::{
    Cispo, ClipCov, ClipRange, ClippedSurrogate, Divergence, Dppo, Dro, Gmpo, KlCov, LogRatioClamp, PolicyInputs,
    PolicyLoss, PolicyObjective, Ratio, RatioLevel, Sapo, Vespo,
};
use rl_core::random::RandomKey;
use rl_core::rows::Rows;

use crate::batch::any_finite;
use crate::{CASES, ROUNDING_TOLERANCE, assert_near};

const CLIP: ClipRange = ClipRange { low: 0.2, high: 0.28 };

fn all_objectives() -> Vec<PolicyObjective> {
    let token = Ratio::default();
    let clipped = |level| ClippedSurrogate::new(Ratio::of(level), CLIP);
    let bounded = |level| ClippedSurrogate {
        dual_clip: Some(3.0),
        max_ratio: Some(4.0),
        clipped_only_above: Some(10.0),
        ..clipped(level)
    };
    vec![
        PolicyObjective::Reinforce {},
        PolicyObjective::Clipped(clipped(RatioLevel::Token)),
        PolicyObjective::Clipped(bounded(RatioLevel::Token)),
        PolicyObjective::Clipped(clipped(RatioLevel::SequenceMean)),
        PolicyObjective::Clipped(clipped(RatioLevel::SequenceMeanTokenGradient)),
        PolicyObjective::Clipped(clipped(RatioLevel::SequenceSum)),
        PolicyObjective::Clipped(bounded(RatioLevel::WeightedSum)),
        PolicyObjective::Cispo(Cispo { ratio: token, low: 0.0, high: 5.0 }),
        PolicyObjective::Cispo(Cispo { ratio: Ratio::of(RatioLevel::SequenceMean), low: 0.8, high: 1.28 }),
        PolicyObjective::Sapo(Sapo { ratio: token, tau_positive: 1.0, tau_negative: 1.05 }),
        PolicyObjective::Gmpo(Gmpo { low: 0.4, high: 0.4, clamp: LogRatioClamp::default() }),
        PolicyObjective::Vespo(Vespo { k_positive: 2.0, lambda_positive: 3.0, k_negative: 3.0, lambda_negative: 2.0 }),
        PolicyObjective::ClipCov(ClipCov { ratio: token, clip: CLIP, fraction: 0.3, low: 0.0, high: 5.0 }),
        PolicyObjective::KlCov(KlCov { ratio: token, fraction: 0.3, kl_coef: 1.0 }),
        PolicyObjective::Dro(Dro { beta: 0.5 }),
        PolicyObjective::Dppo(Dppo {
            ratio: token,
            divergence: Divergence::BinaryKl,
            low: 0.05,
            high: 0.1,
            max_ratio: 20.0,
        }),
        PolicyObjective::Dppo(Dppo {
            ratio: token,
            divergence: Divergence::TotalVariation,
            low: 0.05,
            high: 0.1,
            max_ratio: 20.0,
        }),
    ]
}

/// Every reduction that does not depend on the split, and on nothing but the response tokens.
const REDUCTIONS: [Reduction; 6] = [
    Reduction::TokenMean,
    Reduction::TokenSum,
    Reduction::SeqMeanTokenMean,
    Reduction::SeqMeanTokenSum,
    Reduction::ConstNorm { max_length: 9 },
    Reduction::SeqSumNorm { length: Some(7) },
];

/// A padded batch with every input of a policy loss.
#[derive(Debug, Clone)]
struct Batch {
    seq: usize,
    /// log_probs, old_log_probs, advantages.
    arrays: [Vec<f32>; 3],
    /// importance, token_weights.
    factors: [Vec<f64>; 2],
    selected: Vec<bool>,
    mask: Vec<bool>,
    reduction: Reduction,
}

impl Batch {
    fn inputs(&self) -> PolicyInputs<'_> {
        PolicyInputs {
            importance: Some(&self.factors[0]),
            token_weights: Some(&self.factors[1]),
            selected: Some(&self.selected),
            ..PolicyInputs::new(&self.arrays[0], &self.arrays[1], &self.arrays[2], &self.mask, self.seq)
        }
    }

    fn counts(&self) -> StepCounts {
        StepCounts::of_micro_batch(&self.mask, self.seq).unwrap()
    }

    fn loss(&self, objective: PolicyObjective, step: &StepCounts) -> PolicyLoss {
        let weights = self.reduction.token_weights(&self.mask, self.seq, step).unwrap();
        objective.loss(&self.inputs(), &weights).unwrap()
    }

    /// The batch made of these of its tokens, in this order; `None` is padding full of junk.
    fn gather(&self, places: &[Option<usize>], seq: usize) -> Batch {
        let pick = |array: &[f32]| places.iter().map(|place| place.map_or(f32::NAN, |index| array[index])).collect();
        let pick_wide =
            |array: &[f64]| places.iter().map(|place| place.map_or(f64::NAN, |index| array[index])).collect();
        let pick_flag = |array: &[bool]| places.iter().map(|place| place.is_some_and(|index| array[index])).collect();
        Batch {
            seq,
            arrays: [0, 1, 2].map(|array| pick(&self.arrays[array])),
            factors: [0, 1].map(|array| pick_wide(&self.factors[array])),
            selected: pick_flag(&self.selected),
            mask: pick_flag(&self.mask),
            reduction: self.reduction,
        }
    }

    fn rows(&self) -> usize {
        self.mask.len() / self.seq
    }
}

fn batches_with(
    log_prob: impl Strategy<Value = f32> + Clone + 'static,
    advantage: impl Strategy<Value = f32> + Clone + 'static,
) -> impl Strategy<Value = Batch> {
    let token = (log_prob.clone(), log_prob, advantage, (0.0..3.0_f64, 0.0..1.0_f64), any::<bool>(), any::<bool>());
    (1..5_usize, 1..6_usize, prop::sample::select(REDUCTIONS.to_vec())).prop_flat_map(move |(rows, seq, reduction)| {
        prop::collection::vec(token.clone(), rows * seq).prop_map(move |tokens| {
            let mut mask: Vec<bool> = tokens.iter().map(|token| token.5).collect();
            mask[0] = true;
            Batch {
                seq,
                arrays: [
                    tokens.iter().map(|token| token.0).collect(),
                    tokens.iter().map(|token| token.1).collect(),
                    tokens.iter().map(|token| token.2).collect(),
                ],
                factors: [
                    tokens.iter().map(|token| token.3.0).collect(),
                    tokens.iter().map(|token| token.3.1).collect(),
                ],
                selected: tokens.iter().map(|token| token.4).collect(),
                mask,
                reduction,
            }
        })
    })
}

fn batches() -> impl Strategy<Value = Batch> {
    batches_with(-3.0..0.0_f32, -2.0..2.0_f32)
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn masked_junk_is_inert(batch in batches(), junk in prop::sample::select(vec![f32::NAN, f32::INFINITY, -7.5, 1e30])) {
        let mut spoilt = batch.clone();
        for index in (0..batch.mask.len()).filter(|&index| !batch.mask[index]) {
            spoilt.arrays.iter_mut().for_each(|array| array[index] = junk);
            spoilt.factors.iter_mut().for_each(|array| array[index] = junk.into());
            spoilt.selected[index] = !spoilt.selected[index];
        }
        for objective in all_objectives() {
            let (loss, spoilt_loss) = (batch.loss(objective, &batch.counts()), spoilt.loss(objective, &batch.counts()));
            prop_assert_eq!(bits(&loss.grad_log_probs), bits(&spoilt_loss.grad_log_probs));
            prop_assert_eq!(&loss, &spoilt_loss);
            prop_assert!(loss.grad_log_probs.iter().zip(&batch.mask).all(|(gradient, &token)| token || *gradient == 0.0));
            prop_assert_eq!(
                objective.select_tokens(&batch.inputs(), RandomKey::new(2, "test")).unwrap(),
                objective.select_tokens(&spoilt.inputs(), RandomKey::new(2, "test")).unwrap()
            );
        }
    }

    #[test]
    fn padding_is_inert(batch in batches(), left in 0..3_usize, right in 0..3_usize, extra_rows in 0..2_usize) {
        let seq = batch.seq + left + right;
        let mut places = vec![None; (batch.rows() + extra_rows) * seq];
        let place = |index: usize| index / batch.seq * seq + left + index % batch.seq;
        (0..batch.mask.len()).for_each(|index| places[place(index)] = Some(index));
        let padded = batch.gather(&places, seq);
        let packed_places: Vec<Option<usize>> =
            (0..batch.mask.len()).filter(|&index| batch.mask[index]).map(Some).collect();
        let packed = batch.gather(&packed_places, 1);
        let lengths: Vec<usize> =
            batch.mask.chunks(batch.seq).map(|row| row.iter().filter(|&&token| token).count()).collect();
        let packed_weights = batch.reduction.token_weights(&packed.mask, &lengths, &batch.counts()).unwrap();
        for objective in all_objectives() {
            let loss = batch.loss(objective, &batch.counts());
            let wide = padded.loss(objective, &padded.counts());
            let back: Vec<f32> = (0..batch.mask.len()).map(|index| wide.grad_log_probs[place(index)]).collect();
            prop_assert_eq!(bits(&loss.grad_log_probs), bits(&back));
            prop_assert_eq!(loss.loss, wide.loss);
            let narrow = objective.loss(&PolicyInputs { rows: Rows::Packed(&lengths), ..packed.inputs() }, &packed_weights).unwrap();
            let kept: Vec<f32> = packed_places.iter().flatten().map(|&index| loss.grad_log_probs[index]).collect();
            prop_assert_eq!(bits(&kept), bits(&narrow.grad_log_probs));
            prop_assert_eq!(loss.loss, narrow.loss);
        }
    }

    #[test]
    fn an_uneven_split_changes_no_gradient(batch in batches(), cut in 0..5_usize) {
        let cut = cut.min(batch.rows()) * batch.seq;
        let places: Vec<Option<usize>> = (0..batch.mask.len()).map(Some).collect();
        let parts = [batch.gather(&places[..cut], batch.seq), batch.gather(&places[cut..], batch.seq)];
        let step = parts.iter().map(Batch::counts).fold(StepCounts::default(), StepCounts::merge);
        for objective in all_objectives() {
            let whole = batch.loss(objective, &batch.counts());
            let (mut loss, mut gradient) = (0.0, Vec::new());
            for part in &parts {
                let part = part.loss(objective, &step);
                loss += part.loss;
                gradient.extend(part.grad_log_probs);
            }
            prop_assert_eq!(bits(&gradient), bits(&whole.grad_log_probs));
            assert_near(loss, whole.loss, ROUNDING_TOLERANCE * (1.0 + whole.loss.abs()));
        }
    }

    #[test]
    fn permuted_rows_permute_gradients(
        (batch, order) in batches().prop_flat_map(|batch| {
            let rows = (0..batch.rows()).collect::<Vec<usize>>();
            (Just(batch), Just(rows).prop_shuffle())
        })
    ) {
        let places: Vec<Option<usize>> =
            order.iter().flat_map(|&row| (row * batch.seq..(row + 1) * batch.seq).map(Some)).collect();
        let permuted = batch.gather(&places, batch.seq);
        for objective in all_objectives() {
            let plain = batch.loss(objective, &batch.counts());
            let moved = permuted.loss(objective, &permuted.counts());
            let expected: Vec<f32> = places.iter().flatten().map(|&index| plain.grad_log_probs[index]).collect();
            prop_assert_eq!(bits(&moved.grad_log_probs), bits(&expected));
            assert_near(moved.loss, plain.loss, ROUNDING_TOLERANCE * (1.0 + plain.loss.abs()));
        }
    }

    #[test]
    fn ratio_one_gives_the_score_function_gradient(batch in batches()) {
        // One advantage and one importance weight per row, as sequence ratios have one of each.
        let mut batch = batch;
        for index in 0..batch.mask.len() {
            let first = index / batch.seq * batch.seq;
            batch.arrays[2][index] = batch.arrays[2][first];
            batch.factors[0][index] = 1.0;
            batch.factors[1][index] = 1.0;
            batch.selected[index] = false;
        }
        batch.arrays[1] = batch.arrays[0].clone();
        let step = batch.counts();
        let expected = batch.loss(PolicyObjective::Reinforce {}, &step).grad_log_probs;
        for objective in all_objectives() {
            let loss = batch.loss(objective, &step);
            prop_assert_eq!((loss.ratio_min, loss.ratio_max, loss.clip_fraction, loss.approx_kl), (1.0, 1.0, 0.0, 0.0));
            // The ratio of a whole sequence has the gradient of the summed log-probability: length times the mean's.
            let sums = matches!(objective, PolicyObjective::Clipped(surrogate)
                if matches!(surrogate.ratio.level, RatioLevel::SequenceSum | RatioLevel::WeightedSum));
            for (index, (&gradient, &expected)) in loss.grad_log_probs.iter().zip(&expected).enumerate() {
                let row = &batch.mask[index / batch.seq * batch.seq..][..batch.seq];
                let length = row.iter().filter(|&&token| token).count();
                let expected = f64::from(expected) * if sums { length as f64 } else { 1.0 };
                assert_near(gradient.into(), expected, ROUNDING_TOLERANCE * (1.0 + expected.abs()));
            }
        }
    }

    #[test]
    fn finite_inputs_give_finite_numbers(batch in batches_with(
        prop::sample::select(vec![0.0, -1e-30, -0.1, -1.0, -19.9, -20.1, -700.0, -1e4, -1e10_f32]), -1e6..1e6_f32,
    )) {
        for objective in all_objectives() {
            let loss = batch.loss(objective, &batch.counts());
            prop_assert!(loss.loss.is_finite(), "{:?}: {}", objective, loss.loss);
            prop_assert!(loss.grad_log_probs.iter().all(|gradient| gradient.is_finite()), "{:?}", objective);
            prop_assert!(loss.ratio_max.is_finite() && loss.approx_kl.is_finite());
        }
    }

    /// Any finite input: only a number beyond `f32` is refused, and none is NaN.
    #[test]
    fn no_finite_input_gives_nan(batch in batches_with(any_finite(), any_finite())) {
        let weights = batch.reduction.token_weights(&batch.mask, batch.seq, &batch.counts()).unwrap();
        for objective in all_objectives() {
            match objective.loss(&batch.inputs(), &weights) {
                Ok(loss) => {
                    prop_assert!(loss.loss.is_finite() && loss.approx_kl.is_finite(), "{:?}: {:?}", objective, loss);
                    prop_assert!(loss.ratio_min.is_finite() && loss.ratio_max.is_finite(), "{:?}", objective);
                    prop_assert!(loss.grad_log_probs.iter().all(|gradient| gradient.is_finite()), "{:?}", objective);
                }
                Err(Error::NonFinite { name, value, .. }) => prop_assert!(!value.is_nan(), "{:?}: {}", objective, name),
                Err(error) => prop_assert!(false, "{:?}: {}", objective, error),
            }
        }
    }

    #[test]
    fn importance_weights_are_factors(batch in batches(), factor in 0.1..3.0_f64) {
        let mut scaled = batch.clone();
        scaled.factors[0].fill(factor);
        let mut plain = batch;
        plain.factors[0].fill(1.0);
        let step = plain.counts();
        // VESPO puts them into its own ratio instead.
        let is_factor = |objective: &PolicyObjective| !matches!(objective, PolicyObjective::Vespo(_));
        for objective in all_objectives().into_iter().filter(is_factor) {
            let expected = plain.loss(objective, &step).loss * factor;
            assert_near(scaled.loss(objective, &step).loss, expected, ROUNDING_TOLERANCE * (1.0 + expected.abs()));
        }
    }
}
