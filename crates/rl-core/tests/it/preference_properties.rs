//! Laws of the preference and reward losses: gradients, splits, permutations, extremes.

use proptest::prelude::*;
use rl_core::Error;
use rl_core::preference_loss::{
    FDivergence, KtoBaseline, PreferenceBatch, PreferenceLoss, PreferenceObjective, PreferenceOutput, RatioScale,
    ReferenceLogProbs, UnpairedLoss, UnpairedObjective, UnpairedOutput, preference_loss, unpaired_loss,
};
use rl_core::reward_loss::bradley_terry_loss;
use rl_core::statistics::RunningStatistics;

use crate::{CASES, ROUNDING_TOLERANCE, assert_near};

/// Distance of a central difference in `f64`, and how close it must come, relative to the size of what is compared.
const STEP: f64 = 1e-5;
const SLOPE_TOLERANCE: f64 = 1e-6;

/// Owned numbers of a step.
#[derive(Debug, Clone)]
struct Pairs {
    chosen: Vec<f64>,
    rejected: Vec<f64>,
    ref_chosen: Vec<f64>,
    ref_rejected: Vec<f64>,
    chosen_lengths: Vec<usize>,
    rejected_lengths: Vec<usize>,
    weights: Vec<f64>,
}

impl Pairs {
    fn evaluate(&self, objective: &PreferenceObjective, num_pairs: usize) -> rl_core::Result<PreferenceOutput> {
        let batch = PreferenceBatch {
            chosen_log_probs: &self.chosen,
            rejected_log_probs: &self.rejected,
            reference: Some(ReferenceLogProbs { chosen: &self.ref_chosen, rejected: &self.ref_rejected }),
            chosen_lengths: &self.chosen_lengths,
            rejected_lengths: &self.rejected_lengths,
            pair_weights: objective.wpo.then_some(&self.weights),
        };
        preference_loss(&batch, objective, num_pairs)
    }

    fn pick(&self, places: &[usize]) -> Self {
        Pairs {
            chosen: pick(&self.chosen, places),
            rejected: pick(&self.rejected, places),
            ref_chosen: pick(&self.ref_chosen, places),
            ref_rejected: pick(&self.ref_rejected, places),
            chosen_lengths: pick(&self.chosen_lengths, places),
            rejected_lengths: pick(&self.rejected_lengths, places),
            weights: pick(&self.weights, places),
        }
    }
}

fn pick<T: Copy>(values: &[T], places: &[usize]) -> Vec<T> {
    places.iter().map(|&place| values[place]).collect()
}

fn pairs() -> impl Strategy<Value = Pairs> {
    let side = || (-20.0..-0.5_f64, -2.0..2.0_f64, 1..9_usize);
    prop::collection::vec((side(), side(), 0.0..1.5_f64), 1..6).prop_map(|pairs| Pairs {
        chosen: pairs.iter().map(|pair| pair.0.0).collect(),
        rejected: pairs.iter().map(|pair| pair.1.0).collect(),
        ref_chosen: pairs.iter().map(|pair| pair.0.0 + pair.0.1).collect(),
        ref_rejected: pairs.iter().map(|pair| pair.1.0 + pair.1.1).collect(),
        chosen_lengths: pairs.iter().map(|pair| pair.0.2).collect(),
        rejected_lengths: pairs.iter().map(|pair| pair.1.2).collect(),
        weights: pairs.iter().map(|pair| pair.2).collect(),
    })
}

/// Every loss, by number, with the given hyperparameters.
fn all_losses(beta: f64, label_smoothing: f64, alpha: f64) -> Vec<PreferenceLoss> {
    use PreferenceLoss::*;
    vec![
        Sigmoid { beta },
        ConservativeSigmoid { beta, label_smoothing },
        Robust { beta, label_smoothing },
        Hinge { beta },
        Ipo { beta, scale: RatioScale::Sum },
        Ipo { beta, scale: RatioScale::Mean },
        SigmoidNorm { beta },
        ExoPair { beta, label_smoothing },
        NcaPair { beta },
        BcoPair { beta },
        SppoHard { beta },
        ApoZero { beta },
        ApoDown { beta },
        Aot { beta, label_smoothing },
        AotUnpaired { beta, label_smoothing },
        Discopop { beta, temperature: 0.5 },
        Simpo { beta, gamma: 0.3, label_smoothing },
        AlphaPo { beta, gamma: 0.3, alpha, label_smoothing },
        CpoSigmoid { beta, label_smoothing, alpha },
        CpoHinge { beta, alpha },
        CpoIpo { beta, scale: RatioScale::Sum, alpha },
        CpoIpo { beta, scale: RatioScale::Mean, alpha },
        Orpo { beta },
    ]
}

prop_compose! {
    /// An objective of each loss that passes its own checks, with any of the options that fit it.
    fn objectives()(
        beta in 0.05..2.0_f64,
        label_smoothing in 0.001..0.4_f64,
        alpha in -0.1..0.1_f64,
        f_divergence in prop::sample::select(vec![
            FDivergence::ReverseKl,
            FDivergence::ForwardKl,
            FDivergence::JensenShannon,
            FDivergence::Alpha { alpha: 0.5, max_exponent: None },
            FDivergence::Alpha { alpha: 1.7, max_exponent: Some(11.0) },
        ]),
        length_norm in any::<bool>(),
        ratio_clamp in prop::option::of(0.5..1.5_f64),
        wpo in any::<bool>(),
    ) -> Vec<PreferenceObjective> {
        all_losses(beta, label_smoothing, alpha).into_iter().map(|loss| {
        let reads_ratio = loss.needs_reference();
        let clampable = reads_ratio && !matches!(loss, PreferenceLoss::Aot { .. });
        PreferenceObjective {
            f_divergence: if loss.uses_f_divergence() { f_divergence } else { FDivergence::ReverseKl },
            length_norm: length_norm && reads_ratio && !loss.is_length_averaged(),
            ratio_clamp: ratio_clamp.filter(|_| clampable),
            wpo: wpo && loss.is_separable(),
            ..loss.into()
        }
        }).collect()
    }
}

/// Central differences against the gradient; `evaluate` gives the loss and its gradient. Where the loss is `kinked`, a
/// hinge, a clamp or a change of rank between the two points is no place to take a difference: there the gradient jumps,
/// instead of changing as much on one side as on the other, and the number is passed over.
fn check_gradient(inputs: &[f64], kinked: bool, evaluate: impl Fn(&[f64]) -> (f64, Vec<f64>)) {
    let (here, gradient) = evaluate(inputs);
    for index in 0..inputs.len() {
        let at = |step: f64| {
            let mut moved = inputs.to_vec();
            moved[index] += step;
            let (loss, gradient) = evaluate(&moved);
            (loss, gradient[index])
        };
        let ((above, slope_above), (below, slope_below)) = (at(STEP), at(-STEP));
        let size = 1.0_f64.max(here.abs()).max(gradient[index].abs());
        let jump = (slope_above - gradient[index]) - (gradient[index] - slope_below);
        if kinked && jump.abs() > SLOPE_TOLERANCE * size {
            continue;
        }
        let difference = (above - below) / (2.0 * STEP);
        let error = (difference - gradient[index]).abs();
        assert!(error <= SLOPE_TOLERANCE * size, "[{index}]: {}, difference {difference}", gradient[index]);
    }
}

fn kto_objective(number: usize, beta: f64, weights: (f64, f64)) -> UnpairedObjective {
    let loss = match number {
        0 => UnpairedLoss::Kto { beta },
        1 => UnpairedLoss::KtoEvenSampling { beta, baseline_gradient: false },
        2 => UnpairedLoss::KtoEvenSampling { beta, baseline_gradient: true },
        _ => UnpairedLoss::ApoZeroUnpaired { beta },
    };
    UnpairedObjective { loss, desirable_weight: weights.0, undesirable_weight: weights.1 }
}

/// Answers, their reference, and judgements with at least one of each kind.
fn answers() -> impl Strategy<Value = (Vec<f64>, Vec<f64>, Vec<bool>)> {
    prop::collection::vec((-20.0..0.0_f64, -2.0..2.0_f64, any::<bool>()), 2..7).prop_map(|answers| {
        let mut good: Vec<bool> = answers.iter().map(|answer| answer.2).collect();
        (good[0], good[1]) = (true, false);
        let log_probs: Vec<f64> = answers.iter().map(|answer| answer.0).collect();
        (log_probs, answers.iter().map(|answer| answer.0 + answer.1).collect(), good)
    })
}

fn even_baseline(log_probs: &[f64], reference: &[f64], good: &[bool]) -> KtoBaseline {
    let side = |wanted: bool| {
        let mut statistics = RunningStatistics::default();
        for index in (0..good.len()).filter(|&index| good[index] == wanted) {
            statistics.push(log_probs[index] - reference[index]).unwrap();
        }
        statistics
    };
    KtoBaseline::from_other_side(&side(true), &side(false)).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(CASES))]

    #[test]
    fn preference_gradients_equal_central_differences(step in pairs(), objectives in objectives()) {
        let count = step.chosen.len();
        for objective in objectives {
            let output = |step: &Pairs| step.evaluate(&objective, count).unwrap();
            use PreferenceLoss::{Aot, AotUnpaired, CpoHinge, Hinge};
            let loss = objective.losses[0].loss;
            let kinked = matches!(loss, Hinge { .. } | CpoHinge { .. } | Aot { .. } | AotUnpaired { .. })
                || objective.ratio_clamp.is_some();
            check_gradient(&step.chosen, kinked, |x| {
                let output = output(&Pairs { chosen: x.to_vec(), ..step.clone() });
                (output.loss, output.grad_chosen_log_probs)
            });
            check_gradient(&step.rejected, kinked, |x| {
                let output = output(&Pairs { rejected: x.to_vec(), ..step.clone() });
                (output.loss, output.grad_rejected_log_probs)
            });
        }
    }

    #[test]
    fn an_uneven_split_of_pairs_changes_no_gradient(step in pairs(), objectives in objectives(), cut in 0..6_usize) {
        let count = step.chosen.len();
        let cut = cut.min(count);
        let places: Vec<usize> = (0..count).collect();
        for objective in objectives {
            let whole = step.evaluate(&objective, count).unwrap();
            if !objective.is_separable() {
                prop_assert_eq!(step.pick(&places[..cut]).evaluate(&objective, count).is_err(), cut < count);
                continue;
            }
            let first = step.pick(&places[..cut]).evaluate(&objective, count).unwrap();
            let second = step.pick(&places[cut..]).evaluate(&objective, count).unwrap();
            prop_assert_eq!([first.grad_chosen_log_probs, second.grad_chosen_log_probs].concat(), whole.grad_chosen_log_probs);
            let rejected = [first.grad_rejected_log_probs, second.grad_rejected_log_probs].concat();
            prop_assert_eq!(rejected, whole.grad_rejected_log_probs);
            assert_near(first.loss + second.loss, whole.loss, ROUNDING_TOLERANCE * whole.loss.abs().max(1.0));
            let merged = first.statistics.merge(second.statistics);
            prop_assert_eq!(merged.num_pairs, count);
            prop_assert_eq!(merged.num_correct, whole.statistics.num_correct);
            prop_assert_eq!(merged.num_clamped_ratios, whole.statistics.num_clamped_ratios);
            prop_assert_eq!(merged.num_clamped_scores, whole.statistics.num_clamped_scores);
            assert_near(merged.sum_chosen_reward, whole.statistics.sum_chosen_reward, 1e-6);
        }
    }

    #[test]
    fn permuted_pairs_have_permuted_gradients(
        (step, order) in pairs().prop_flat_map(|step| {
            let order: Vec<usize> = (0..step.chosen.len()).collect();
            (Just(step), Just(order).prop_shuffle())
        }),
        objectives in objectives(),
    ) {
        let count = order.len();
        for objective in objectives {
            let straight = step.evaluate(&objective, count).unwrap();
            let shuffled = step.pick(&order).evaluate(&objective, count).unwrap();
            prop_assert_eq!(pick(&straight.grad_chosen_log_probs, &order), shuffled.grad_chosen_log_probs);
            prop_assert_eq!(pick(&straight.grad_rejected_log_probs, &order), shuffled.grad_rejected_log_probs);
            prop_assert_eq!(pick(&straight.chosen_rewards, &order), shuffled.chosen_rewards);
            assert_near(straight.loss, shuffled.loss, ROUNDING_TOLERANCE * straight.loss.abs().max(1.0));
        }
    }

    /// Up to where a log-ratio times `beta` is still a number.
    #[test]
    fn no_finite_input_gives_nan(
        exponents in prop::collection::vec((-3.0..306.0_f64, any::<bool>()), 4),
        lengths in (1..2000_usize, 1..2000_usize),
        objectives in objectives(),
    ) {
        let numbers: Vec<f64> = exponents
            .iter()
            .map(|&(exponent, negative)| if negative { -(10.0_f64.powf(exponent)) } else { 10.0_f64.powf(exponent) })
            .collect();
        let step = Pairs {
            chosen: vec![numbers[0]],
            rejected: vec![numbers[1]],
            ref_chosen: vec![numbers[2]],
            ref_rejected: vec![numbers[3]],
            chosen_lengths: vec![lengths.0],
            rejected_lengths: vec![lengths.1],
            weights: vec![0.5],
        };
        for objective in objectives {
            match step.evaluate(&objective, 1) {
                Ok(output) => {
                    let numbers = [&output.grad_chosen_log_probs, &output.grad_rejected_log_probs, &output.parts,
                        &output.chosen_rewards, &output.rejected_rewards];
                    prop_assert!(numbers.into_iter().flatten().all(|number| number.is_finite()), "{output:?}");
                    prop_assert!(output.loss.is_finite());
                }
                Err(error) => prop_assert!(
                    matches!(error, Error::NonFinite { .. } | Error::OutOfRange { .. }) && !error.to_string().contains("NaN"),
                    "{error}"
                ),
            }
        }
    }

    #[test]
    fn likely_log_ratios_never_fail(
        (chosen, rejected) in (-60_000.0..0.0_f64, -60_000.0..0.0_f64),
        (ref_chosen, ref_rejected) in (-60_000.0..0.0_f64, -60_000.0..0.0_f64),
        objectives in objectives(),
    ) {
        let step = Pairs {
            chosen: vec![chosen],
            rejected: vec![rejected],
            ref_chosen: vec![ref_chosen],
            ref_rejected: vec![ref_rejected],
            chosen_lengths: vec![4096],
            rejected_lengths: vec![77],
            weights: vec![1.0],
        };
        for objective in objectives {
            // Only DiscoPOP's exponential has no bound: it falls for temperatures below 1, as here.
            prop_assert!(step.evaluate(&objective, 1).is_ok());
        }
    }

    #[test]
    fn unpaired_losses(
        (log_probs, reference, good) in answers(),
        beta in 0.05..2.0_f64,
        weights in (0.1..2.0_f64, 0.1..2.0_f64),
        cut in 0..7_usize,
    ) {
        let count = log_probs.len();
        let cut = cut.min(count);
        let even = even_baseline(&log_probs, &reference, &good);
        for number in 0..4 {
            let objective = kto_objective(number, beta, weights);
            let baseline = if number == 0 { KtoBaseline { desirable: 0.3, undesirable: 0.3 } } else { even };
            let whole = unpaired_loss(&log_probs, &reference, &good, baseline, &objective, count).unwrap();
            check_gradient(&log_probs, number == 2, |x| {
                let baseline = if number == 2 { even_baseline(x, &reference, &good) } else { baseline };
                let output = unpaired_loss(x, &reference, &good, baseline, &objective, count).unwrap();
                (output.loss, output.grad_log_probs)
            });
            let part = |from: usize, to: usize| -> rl_core::Result<UnpairedOutput> {
                unpaired_loss(&log_probs[from..to], &reference[from..to], &good[from..to], baseline, &objective, count)
            };
            if objective.is_separable() {
                let (first, second) = (part(0, cut).unwrap(), part(cut, count).unwrap());
                prop_assert_eq!([first.grad_log_probs, second.grad_log_probs].concat(), whole.grad_log_probs.clone());
                assert_near(first.loss + second.loss, whole.loss, ROUNDING_TOLERANCE);
                prop_assert_eq!(first.num_desirable + second.num_desirable, whole.num_desirable);
            } else {
                prop_assert_eq!(part(0, cut).is_err(), cut < count);
            }
            let backwards: Vec<usize> = (0..count).rev().collect();
            let turned = unpaired_loss(
                &pick(&log_probs, &backwards), &pick(&reference, &backwards), &pick(&good, &backwards), baseline, &objective, count,
            ).unwrap();
            for (turned, straight) in turned.grad_log_probs.iter().zip(pick(&whole.grad_log_probs, &backwards)) {
                assert_near(*turned, straight, 1e-12);
            }
        }
    }

    #[test]
    fn unpaired_extremes_are_finite_or_an_error(
        exponents in prop::collection::vec((-3.0..308.0_f64, any::<bool>()), 2),
        good in any::<bool>(),
    ) {
        let numbers: Vec<f64> =
            exponents.iter().map(|&(exponent, negative)| if negative { -1.0 } else { 1.0 } * 10.0_f64.powf(exponent)).collect();
        let baseline = KtoBaseline { desirable: 0.0, undesirable: numbers[0].abs() };
        for number in 0..4 {
            let objective = kto_objective(number, 0.1, (1.0, 1.0));
            match unpaired_loss(&numbers[..1], &numbers[1..], &[good], baseline, &objective, 1) {
                Ok(output) => prop_assert!(output.loss.is_finite() && output.grad_log_probs[0].is_finite()),
                Err(error) => prop_assert!(
                    matches!(error, Error::NonFinite { .. }) && !error.to_string().contains("NaN"),
                    "{error}"
                ),
            }
        }
    }

    #[test]
    fn reward_losses(
        rewards in prop::collection::vec((-5.0..5.0_f64, -5.0..5.0_f64, 0.0..2.0_f64), 1..6),
        centering in 0.0..0.2_f64,
        cut in 0..6_usize,
        shift in -100.0..100.0_f64,
    ) {
        let chosen: Vec<f64> = rewards.iter().map(|pair| pair.0).collect();
        let rejected: Vec<f64> = rewards.iter().map(|pair| pair.1).collect();
        let margins: Vec<f64> = rewards.iter().map(|pair| pair.2).collect();
        let count = rewards.len();
        let loss = |chosen: &[f64], rejected: &[f64]| {
            bradley_terry_loss(chosen, rejected, Some(&margins), centering, count).unwrap()
        };
        let whole = loss(&chosen, &rejected);
        check_gradient(&chosen, false, |x| {
            let output = loss(x, &rejected);
            (output.loss, output.grad_chosen_rewards)
        });
        check_gradient(&rejected, false, |x| {
            let output = loss(&chosen, x);
            (output.loss, output.grad_rejected_rewards)
        });
        let cut = cut.min(count);
        let part = |from: usize, to: usize| {
            bradley_terry_loss(&chosen[from..to], &rejected[from..to], Some(&margins[from..to]), centering, count).unwrap()
        };
        let (first, second) = (part(0, cut), part(cut, count));
        prop_assert_eq!([first.grad_chosen_rewards, second.grad_chosen_rewards].concat(), whole.grad_chosen_rewards);
        prop_assert_eq!([first.grad_rejected_rewards, second.grad_rejected_rewards].concat(), whole.grad_rejected_rewards);
        assert_near(first.loss + second.loss, whole.loss, ROUNDING_TOLERANCE);
        // Without centering a constant added to all rewards changes nothing.
        let moved = |values: &[f64]| values.iter().map(|value| value + shift).collect::<Vec<f64>>();
        let plain = bradley_terry_loss(&chosen, &rejected, None, 0.0, count).unwrap();
        let shifted = bradley_terry_loss(&moved(&chosen), &moved(&rejected), None, 0.0, count).unwrap();
        assert_near(plain.loss, shifted.loss, ROUNDING_TOLERANCE);
    }
}
