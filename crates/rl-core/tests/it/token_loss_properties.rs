//! Laws of every loss over tokens that is not a policy's: supervised, divergence, value and entropy. Masks, padding,
//! packing, splits, finiteness.

use proptest::prelude::*;
use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::entropy::entropy_bonus;
use rl_core::kl::{KlCorrection, KlEstimator, KlPenalty, corrected_kl_loss, kl_loss};
use rl_core::masked::{Normalizer, Reduction};
use rl_core::rows::Rows;
use rl_core::value_loss::{clipped_value_loss, value_loss};
use rl_core::{Error, Result};

use crate::batch::{Batch, batches, batches_of, extreme_batches, junk, padding};
use crate::{CASES, ROUNDING_TOLERANCE, assert_near};

/// A loss with its setting. It reads the arrays of a batch in the order of its arguments.
#[derive(Debug, Clone, Copy)]
enum TokenLoss {
    CrossEntropy(CrossEntropyKind),
    Kl(KlPenalty),
    CorrectedKl(KlPenalty, KlCorrection),
    Value,
    ClippedValue { clip_range: f64 },
    Entropy,
}

/// What a loss gives: its value, its gradient, and the number it reports beside them.
#[derive(Debug, Clone, PartialEq)]
struct Outcome {
    loss: f64,
    gradient: Vec<f32>,
    reported: f64,
}

impl Outcome {
    fn is_finite(&self) -> bool {
        let gradient = self.gradient.iter().all(|gradient| gradient.is_finite());
        gradient && self.loss.is_finite() && self.reported.is_finite()
    }
}

fn all_losses() -> Vec<TokenLoss> {
    use TokenLoss::*;
    let mut losses = vec![
        CrossEntropy(CrossEntropyKind::Nll),
        CrossEntropy(CrossEntropyKind::Dft),
        Value,
        ClippedValue { clip_range: 0.0 },
        ClippedValue { clip_range: 0.2 },
        Entropy,
    ];
    for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs] {
        for clamp in [None, Some(1.5)] {
            let penalty = KlPenalty { estimator, clamp, straight_through: false };
            losses.extend([Kl(penalty), Kl(KlPenalty { straight_through: true, ..penalty })]);
            for correction in [KlCorrection::Ratio, KlCorrection::StraightThrough { max_weight: 10.0 }] {
                losses.push(CorrectedKl(penalty, correction));
            }
        }
    }
    losses
}

impl TokenLoss {
    fn evaluate(self, batch: &Batch, weights: &[f64]) -> Result<Outcome> {
        let Batch { arrays: [first, second, third], mask, .. } = batch;
        let (loss, gradient, reported) = match self {
            TokenLoss::CrossEntropy(kind) => {
                let made = cross_entropy_loss(first, mask, kind, weights)?;
                (made.loss, made.grad_log_probs, made.num_tokens as f64)
            }
            TokenLoss::Kl(penalty) => {
                let made = kl_loss(first, second, mask, penalty, 0.1, weights)?;
                (made.loss, made.grad_log_probs, made.mean_kl)
            }
            TokenLoss::CorrectedKl(penalty, correction) => {
                let made = corrected_kl_loss(first, second, third, mask, penalty, correction, 0.1, weights)?;
                (made.loss, made.grad_log_probs, made.mean_kl)
            }
            TokenLoss::Value => {
                let made = value_loss(first, second, mask, weights)?;
                (made.loss, made.grad_values, made.num_tokens as f64)
            }
            TokenLoss::ClippedValue { clip_range } => {
                let made = clipped_value_loss(first, second, third, mask, clip_range, weights)?;
                (made.loss, made.grad_values, made.clip_fraction)
            }
            TokenLoss::Entropy => {
                let made = entropy_bonus(first, mask, 0.1, weights)?;
                (made.loss, made.grad_entropy, 0.0)
            }
        };
        Ok(Outcome { loss, gradient, reported })
    }

    /// The loss of a whole step under a reduction.
    fn of_step(self, batch: &Batch, reduction: Reduction) -> Result<Outcome> {
        self.evaluate(batch, &reduction.token_weights(&batch.mask, batch.seq, &batch.counts())?)
    }
}

/// Every reduction that does not depend on the split, and on nothing but the response tokens.
fn reductions() -> impl Strategy<Value = Reduction> {
    prop::sample::select(vec![
        Reduction::TokenMean,
        Reduction::TokenSum,
        Reduction::SeqMeanTokenMean,
        Reduction::SeqMeanTokenSum,
        Reduction::ConstNorm { max_length: 9 },
        Reduction::SeqSumNorm { length: Some(7) },
    ])
}

/// Log-probabilities of any size whose log-ratios stay within the clamp of the exponents, 20.
fn batches_within_the_clamps() -> impl Strategy<Value = Batch> {
    let log_prob = prop::sample::select(vec![0.0, -1e-30, -0.1, -1.0, -19.9, -104.0, -745.0, -1e4, -1e10_f32]);
    let near = (log_prob, -10.0..10.0_f32, -10.0..10.0_f32);
    batches_of(near.prop_map(|(log_prob, old, reference)| (log_prob, log_prob + old, log_prob + reference)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn masked_junk_is_inert(batch in batches(), junk in junk(), reduction in reductions()) {
        let spoilt = batch.spoilt(junk);
        for loss in all_losses() {
            let outcome = loss.of_step(&batch, reduction).unwrap();
            prop_assert!(outcome.gradient.iter().zip(&batch.mask).all(|(gradient, &token)| token || *gradient == 0.0));
            prop_assert_eq!(outcome, loss.of_step(&spoilt, reduction).unwrap(), "{:?}", loss);
        }
    }

    #[test]
    fn padding_is_inert(batch in batches(), padding in padding(), reduction in reductions()) {
        let (padded, places) = batch.padded(padding);
        for loss in all_losses() {
            let outcome = loss.of_step(&batch, reduction).unwrap();
            let wide = loss.of_step(&padded, reduction).unwrap();
            let back = places.iter().map(|&place| wide.gradient[place]).collect();
            prop_assert_eq!(outcome, Outcome { gradient: back, ..wide }, "{:?}", loss);
        }
    }

    #[test]
    fn packed_rows_equal_padded_rows(batch in batches(), reduction in reductions()) {
        let (packed, lengths, kept) = batch.packed();
        let weights = reduction.token_weights(&packed.mask, Rows::Packed(&lengths), &batch.counts()).unwrap();
        for loss in all_losses() {
            let outcome = loss.of_step(&batch, reduction).unwrap();
            let gradient = kept.iter().map(|&index| outcome.gradient[index]).collect();
            prop_assert_eq!(Outcome { gradient, ..outcome }, loss.evaluate(&packed, &weights).unwrap(), "{:?}", loss);
        }
    }

    #[test]
    fn an_uneven_split_changes_no_gradient(batch in batches(), cut in 0..5_usize, reduction in reductions()) {
        let parts = batch.split(cut);
        let step = parts[0].counts().merge(parts[1].counts());
        for loss in all_losses() {
            let whole = loss.of_step(&batch, reduction).unwrap();
            let [first, second] = parts.each_ref().map(|part| {
                let weights = reduction.token_weights(&part.mask, part.seq, &step).unwrap();
                loss.evaluate(part, &weights).unwrap()
            });
            prop_assert_eq!([first.gradient, second.gradient].concat(), whole.gradient, "{:?}", loss);
            assert_near(first.loss + second.loss, whole.loss, ROUNDING_TOLERANCE * (1.0 + whole.loss.abs()));
        }
    }

    #[test]
    fn a_plain_count_is_the_token_mean(batch in batches()) {
        let count = batch.counts().num_tokens;
        let weights = Reduction::TokenMean.token_weights(&batch.mask, batch.seq, &batch.counts()).unwrap();
        let Batch { arrays: [first, second, third], mask, .. } = &batch;
        let [by_count, by_weight] = [Normalizer::NumTokens(count), Normalizer::Weights(&weights)];
        prop_assert_eq!(
            cross_entropy_loss(first, mask, CrossEntropyKind::Dft, by_count),
            cross_entropy_loss(first, mask, CrossEntropyKind::Dft, by_weight)
        );
        prop_assert_eq!(
            kl_loss(first, second, mask, KlEstimator::K3, 0.1, by_count),
            kl_loss(first, second, mask, KlEstimator::K3, 0.1, by_weight)
        );
        prop_assert_eq!(
            clipped_value_loss(first, second, third, mask, 0.2, by_count),
            clipped_value_loss(first, second, third, mask, 0.2, by_weight)
        );
        prop_assert_eq!(entropy_bonus(third, mask, 0.1, by_count), entropy_bonus(third, mask, 0.1, by_weight));
    }

    #[test]
    fn inputs_within_the_clamps_give_finite_numbers(batch in batches_within_the_clamps(), reduction in reductions()) {
        for loss in all_losses() {
            let outcome = loss.of_step(&batch, reduction).unwrap();
            prop_assert!(outcome.is_finite(), "{:?}: {:?}", loss, outcome);
        }
    }

    /// Beyond the clamps a number may be too large, which is an error; it is never NaN.
    #[test]
    fn no_finite_input_gives_nan(batch in extreme_batches(), reduction in reductions()) {
        for loss in all_losses() {
            match loss.of_step(&batch, reduction) {
                Ok(outcome) => {
                    prop_assert!(outcome.is_finite(), "{:?}: {:?}", loss, outcome);
                }
                Err(Error::NonFinite { name, value, .. }) => prop_assert!(!value.is_nan(), "{:?}: {}", loss, name),
                Err(error) => prop_assert!(false, "{:?}: {}", loss, error),
            }
        }
    }
}
