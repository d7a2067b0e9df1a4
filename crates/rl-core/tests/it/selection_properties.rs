//! Laws of what decides how much a token or an answer counts: selections, rejection, importance weights, estimates of
//! the divergence, WPO weights. Masks, padding, packing, splits, finiteness.

use proptest::prelude::*;
use rl_core::importance::{
    ImportanceCorrection, ImportanceLevel, MismatchLevel, MismatchStatistic, OutOfBounds, Rejection,
};
use rl_core::kl::{KlEstimator, KlPenalty, kl_estimates, sequence_mean_kl};
use rl_core::policy_loss::LogRatioClamp;
use rl_core::preference_loss::wpo_weights;
use rl_core::rows::Rows;
use rl_core::selection::{Selection, drop_high_kl, drop_off_policy, entropy_threshold, keep_high_entropy};
use rl_core::{Error, Result};

use crate::batch::{Batch, Padding, batches, extreme_batches, junk, padding};
use crate::{CASES, ROUNDING_TOLERANCE, assert_near};

/// What one function makes of a batch.
#[derive(Debug, Clone, PartialEq, Default)]
struct Outcome {
    /// Per token, 0 where masked.
    tokens: Vec<f64>,
    /// Things counted, which add up over parts of a batch.
    counts: Vec<usize>,
    /// Numbers about the whole batch.
    numbers: Vec<f64>,
}

impl From<Selection> for Outcome {
    fn from(selection: Selection) -> Self {
        Outcome {
            tokens: selection.keep.iter().map(|&keep| f64::from(u8::from(keep))).collect(),
            counts: vec![selection.num_dropped_tokens, selection.num_dropped_rows],
            numbers: Vec::new(),
        }
    }
}

/// A function with its setting; it reads the arrays of a batch in the order of its arguments.
#[derive(Debug, Clone, Copy)]
enum Choice {
    Importance(ImportanceCorrection),
    Rejection(Rejection),
    HighKl(KlPenalty),
    OffPolicy,
    HighEntropy,
    /// The quantile behind the former.
    EntropyThreshold,
    Estimates(KlPenalty),
    SequenceMeanKl,
}

impl Choice {
    fn make(self, batch: &Batch, rows: Rows<'_>) -> Result<Outcome> {
        let Batch { arrays: [first, second, third], mask, .. } = batch;
        Ok(match self {
            Choice::Importance(correction) => {
                let made = correction.weights(first, second, mask, rows)?;
                Outcome {
                    tokens: made.weights,
                    counts: vec![made.num_truncated_tokens, made.num_dropped_tokens, made.num_dropped_rows],
                    numbers: vec![made.mean_weight, made.effective_sample_size, made.mismatch_kl],
                }
            }
            Choice::Rejection(rejection) => rejection.select(first, second, mask, rows)?.into(),
            Choice::HighKl(penalty) => drop_high_kl(first, second, mask, rows, penalty, 0.4)?.into(),
            Choice::OffPolicy => drop_off_policy(first, second, third, mask, rows, 0.1)?.into(),
            Choice::HighEntropy => keep_high_entropy(third, mask, rows, 0.3)?.into(),
            Choice::EntropyThreshold => {
                Outcome { numbers: vec![entropy_threshold(third, mask, 0.3)?], ..Outcome::default() }
            }
            Choice::Estimates(penalty) => {
                let estimates = kl_estimates(first, second, mask, penalty)?;
                Outcome { tokens: estimates.into_iter().map(f64::from).collect(), ..Outcome::default() }
            }
            Choice::SequenceMeanKl => {
                Outcome { numbers: vec![sequence_mean_kl(third, mask, rows)?], ..Outcome::default() }
            }
        })
    }
}

/// Every level, bound and clamp; `normalize` makes weights depend on the whole step.
fn corrections(clamp: LogRatioClamp, normalize: bool) -> Vec<Choice> {
    use ImportanceLevel::{SequenceMean, SequenceSum, Token};
    let mut choices = Vec::new();
    for judged in [Token, SequenceSum, SequenceMean] {
        for weight in [Token, SequenceSum, SequenceMean] {
            for outside in [OutOfBounds::Truncate, OutOfBounds::Drop] {
                for (low, high) in [(None, None), (None, Some(2.0)), (Some(0.5), Some(5.0))] {
                    let correction = ImportanceCorrection { judged, weight, outside, low, high, normalize, clamp };
                    if correction.validate().is_ok() {
                        choices.push(Choice::Importance(correction));
                    }
                }
            }
        }
    }
    choices
}

/// Every function but importance weights.
fn selections() -> Vec<Choice> {
    use MismatchStatistic::{BinaryKl, K1, K2, K3, TotalVariation};
    let mut choices = vec![Choice::OffPolicy, Choice::HighEntropy, Choice::EntropyThreshold, Choice::SequenceMeanKl];
    for estimator in [KlEstimator::K1, KlEstimator::K2, KlEstimator::K3, KlEstimator::Abs] {
        for clamp in [None, Some(1.5)] {
            let penalty = KlPenalty { estimator, clamp, straight_through: false };
            choices.extend([Choice::HighKl(penalty), Choice::Estimates(penalty)]);
        }
    }
    for statistic in [K1, K2, K3, BinaryKl, TotalVariation] {
        for level in
            [MismatchLevel::Token, MismatchLevel::SequenceSum, MismatchLevel::SequenceMean, MismatchLevel::SequenceMax]
        {
            let low = (statistic == K1).then_some(-1.0);
            choices.push(Choice::Rejection(Rejection { statistic, level, low, high: 0.3 }));
        }
    }
    choices
}

fn all_choices() -> Vec<Choice> {
    let clamp = LogRatioClamp::default();
    [selections(), corrections(clamp, false), corrections(clamp, true)].concat()
}

/// The same batch with a response token in every row, as functions of whole answers need it.
fn with_full_rows(mut batch: Batch) -> Batch {
    batch.mask.iter_mut().step_by(batch.seq).for_each(|token| *token = true);
    batch
}

fn wpo(batch: &Batch) -> Vec<f64> {
    wpo_weights(&batch.arrays[0], &batch.arrays[1], &batch.mask, batch.seq).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn masked_junk_is_inert(batch in batches(), junk in junk()) {
        let spoilt = batch.spoilt(junk);
        for choice in all_choices() {
            let outcome = choice.make(&batch, batch.seq.into()).unwrap();
            prop_assert!(outcome.tokens.iter().zip(&batch.mask).all(|(value, &token)| token || *value == 0.0));
            prop_assert_eq!(outcome, choice.make(&spoilt, batch.seq.into()).unwrap(), "{:?}", choice);
        }
        let full = with_full_rows(batch);
        prop_assert_eq!(wpo(&full), wpo(&full.spoilt(junk)));
    }

    #[test]
    fn padding_is_inert(batch in batches(), padding in padding()) {
        let (padded, places) = batch.padded(padding);
        for choice in all_choices() {
            let outcome = choice.make(&batch, batch.seq.into()).unwrap();
            let mut wide = choice.make(&padded, padded.seq.into()).unwrap();
            if !wide.tokens.is_empty() {
                wide.tokens = places.iter().map(|&place| wide.tokens[place]).collect();
            }
            prop_assert_eq!(outcome, wide, "{:?}", choice);
        }
        let full = with_full_rows(batch);
        // An answer without tokens is an error, so no rows of padding here.
        let (padded, _) = full.padded(Padding { rows: 0, ..padding });
        prop_assert_eq!(wpo(&full), wpo(&padded));
    }

    #[test]
    fn packed_rows_equal_padded_rows(batch in batches()) {
        let (packed, lengths, kept) = batch.packed();
        for choice in all_choices() {
            let mut outcome = choice.make(&batch, batch.seq.into()).unwrap();
            if !outcome.tokens.is_empty() {
                outcome.tokens = kept.iter().map(|&index| outcome.tokens[index]).collect();
            }
            prop_assert_eq!(outcome, choice.make(&packed, Rows::Packed(&lengths)).unwrap(), "{:?}", choice);
        }
        let full = with_full_rows(batch);
        let (packed, lengths, _) = full.packed();
        let [log_probs, log_sum_squares, _] = &packed.arrays;
        prop_assert_eq!(wpo(&full), wpo_weights(log_probs, log_sum_squares, &packed.mask, &lengths).unwrap());
    }

    /// Thresholds and normalised weights are of the whole step and are left out; what is made with them is not.
    #[test]
    fn an_uneven_split_changes_no_token(batch in batches(), cut in 0..5_usize) {
        let parts = batch.split(cut);
        for choice in [selections(), corrections(LogRatioClamp::default(), false)].concat() {
            if matches!(choice, Choice::EntropyThreshold | Choice::SequenceMeanKl) {
                continue;
            }
            let whole = choice.make(&batch, batch.seq.into()).unwrap();
            let [first, second] = parts.each_ref().map(|part| choice.make(part, part.seq.into()).unwrap());
            prop_assert_eq!([first.tokens, second.tokens].concat(), whole.tokens, "{:?}", choice);
            let counts = first.counts.iter().zip(&second.counts).map(|(first, second)| first + second);
            prop_assert_eq!(counts.collect::<Vec<usize>>(), whole.counts, "{:?}", choice);
        }
        // A mean over rows is the mean of the parts' means, each weighed by its rows.
        let sum = |part: &Batch| match part.counts().num_sequences {
            0 => 0.0,
            rows => rows as f64 * sequence_mean_kl(&part.arrays[2], &part.mask, part.seq).unwrap(),
        };
        assert_near(sum(&parts[0]) + sum(&parts[1]), sum(&batch), ROUNDING_TOLERANCE);
        let full = with_full_rows(batch);
        prop_assert_eq!(full.split(cut).each_ref().map(wpo).concat(), wpo(&full));
    }

    #[test]
    fn no_finite_input_gives_nan(batch in extreme_batches()) {
        let off = LogRatioClamp::Off {};
        for choice in [all_choices(), corrections(off, false), corrections(off, true)].concat() {
            match choice.make(&batch, batch.seq.into()) {
                Ok(outcome) => {
                    let finite = outcome.tokens.iter().chain(&outcome.numbers).all(|value| value.is_finite());
                    prop_assert!(finite, "{:?}: {:?}", choice, outcome);
                }
                Err(Error::NonFinite { name, value, .. }) => prop_assert!(!value.is_nan(), "{:?}: {}", choice, name),
                Err(error) => prop_assert!(false, "{:?}: {}", choice, error),
            }
        }
        let full = with_full_rows(batch);
        match wpo_weights(&full.arrays[0], &full.arrays[1], &full.mask, full.seq) {
            Ok(weights) => prop_assert!(weights.iter().all(|weight| weight.is_finite())),
            Err(error) => prop_assert!(matches!(error, Error::NonFinite { value, .. } if !value.is_nan()), "{}", error),
        }
    }

    /// With the default clamp of the log-ratios no importance weight is too large for anything.
    #[test]
    fn clamped_importance_weights_never_fail(batch in extreme_batches(), normalize in any::<bool>()) {
        for choice in corrections(LogRatioClamp::default(), normalize) {
            let outcome = choice.make(&batch, batch.seq.into()).unwrap();
            prop_assert!(outcome.tokens.iter().chain(&outcome.numbers).all(|value| value.is_finite()));
        }
    }
}
