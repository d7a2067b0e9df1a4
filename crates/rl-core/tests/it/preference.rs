//! Preference and reward losses: worked numbers, refusals, what is and is not read, configuration.

use rl_core::Error;
use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::masked::{Reduction, StepCounts};
use rl_core::preference_loss::{
    FDivergence, KtoBaseline, NllTerm, NllTokens, PreferenceBatch, PreferenceLoss, PreferenceObjective,
    PreferenceOutput, RatioScale, ReferenceLogProbs, ReferenceUpdate, UnpairedLoss, UnpairedObjective, WeightedLoss,
    ld_dpo_token_weights, preference_loss, unpaired_loss, wpo_weights,
};
use rl_core::reward_loss::{RewardNormalizer, bradley_terry_loss, win_probability};
use rl_core::statistics::RunningStatistics;

use crate::{VECTOR_TOLERANCE, assert_near};

/// One pair whose log-ratios are `c` and `r`, with lengths 5 and 8.
fn one_pair(objective: impl Into<PreferenceObjective>, c: f64, r: f64) -> PreferenceOutput {
    let batch = PreferenceBatch {
        chosen_log_probs: &[c - 4.0],
        rejected_log_probs: &[r - 9.0],
        reference: Some(ReferenceLogProbs { chosen: &[-4.0], rejected: &[-9.0] }),
        chosen_lengths: &[5],
        rejected_lengths: &[8],
        pair_weights: None,
    };
    preference_loss(&batch, &objective.into(), 1).unwrap()
}

/// One pair of answers of one token each, so that the log-probabilities are the means.
fn free_pair(loss: PreferenceLoss, chosen: f64, rejected: f64) -> PreferenceOutput {
    let batch = PreferenceBatch {
        chosen_log_probs: &[chosen],
        rejected_log_probs: &[rejected],
        reference: None,
        chosen_lengths: &[1],
        rejected_lengths: &[1],
        pair_weights: None,
    };
    preference_loss(&batch, &loss.into(), 1).unwrap()
}

#[test]
fn every_loss_of_a_worked_pair() {
    use PreferenceLoss::*;
    let beta = 0.1;
    let expected = [
        (Sigmoid { beta }, 0.634946),
        (ConservativeSigmoid { beta, label_smoothing: 0.1 }, 0.646946),
        (Robust { beta, label_smoothing: 0.1 }, 0.619946),
        (Hinge { beta }, 0.88),
        (Ipo { beta, scale: RatioScale::Sum }, 14.44),
        (Ipo { beta, scale: RatioScale::Mean }, 22.9441),
        (NcaPair { beta }, 1.357594),
        (BcoPair { beta }, 1.327294),
        (SppoHard { beta }, 38.8),
        (ApoZero { beta }, 0.970012),
        (ApoDown { beta }, 0.990025),
        (SigmoidNorm { beta }, 0.682702),
        (ExoPair { beta, label_smoothing: 1e-3 }, 2.556073),
        (Discopop { beta, temperature: 0.05 }, 0.865963),
        // One pair is sorted already.
        (Aot { beta, label_smoothing: 0.1 }, 0.646946),
        (AotUnpaired { beta, label_smoothing: 0.0 }, 0.634946),
    ];
    for (loss, value) in expected {
        let output = one_pair(loss, 0.8, -0.4);
        assert_near(output.loss, value, VECTOR_TOLERANCE);
        assert_near(output.chosen_rewards[0], 0.08, VECTOR_TOLERANCE);
        assert_near(output.rejected_rewards[0], -0.04, VECTOR_TOLERANCE);
        assert_eq!(output.statistics.accuracy(), Some(1.0));
        assert_near(output.statistics.mean_margin().unwrap(), 0.12, VECTOR_TOLERANCE);
    }
}

#[test]
fn every_reference_free_loss_of_a_worked_pair() {
    use PreferenceLoss::*;
    let simpo = |beta| Simpo { beta, gamma: 0.5, label_smoothing: 0.0 };
    assert_near(free_pair(simpo(2.0), -0.5, -1.5).loss, 0.201413, VECTOR_TOLERANCE);
    assert_near(free_pair(simpo(0.1), -0.5, -1.5).loss, 0.913015, VECTOR_TOLERANCE);
    let orpo = free_pair(Orpo { beta: 0.1 }, -0.5, -1.5).loss;
    assert_near(orpo, 0.017086, VECTOR_TOLERANCE);
    // The loss is beta log(1 + exp(-odds)), so the log-odds can be had back from it.
    assert_near(-(orpo / 0.1).exp_m1().ln(), 1.68027, VECTOR_TOLERANCE);
    // beta (-0.5 + 1.5) = 0.2; log(1 + exp(-0.2)) = 0.598139.
    let cpo = CpoSigmoid { beta: 0.2, label_smoothing: 0.0, alpha: 0.0 };
    assert_near(free_pair(cpo, -0.5, -1.5).loss, 0.598139, VECTOR_TOLERANCE);
    assert_near(free_pair(CpoHinge { beta: 0.2, alpha: 0.0 }, -0.5, -1.5).loss, 0.8, VECTOR_TOLERANCE);
    let ipo = CpoIpo { beta: 0.2, scale: RatioScale::Sum, alpha: 0.0 };
    assert_near(free_pair(ipo, -0.5, -1.5).loss, 2.25, VECTOR_TOLERANCE);
    // alpha 1: 1 - 1/p, so the difference is e^1.5 - e^0.5 = 2.832968; log(1 + exp(-(0.2832968 - 0.5))) = 0.807360.
    let alpha_po = AlphaPo { beta: 0.1, gamma: 0.5, alpha: 1.0, label_smoothing: 0.0 };
    let output = free_pair(alpha_po, -0.5, -1.5);
    assert_near(output.loss, (1.0 + (0.5 - 0.283_296_8_f64).exp()).ln(), VECTOR_TOLERANCE);
    assert_near(output.chosen_rewards[0], 0.1 * (1.0 - 0.5_f64.exp()), VECTOR_TOLERANCE);
}

#[test]
fn a_tie_is_wrong() {
    let output = one_pair(PreferenceLoss::Sigmoid { beta: 0.1 }, 0.5, 0.5);
    assert_eq!(output.statistics.accuracy(), Some(0.0));
    assert_eq!(bradley_terry_loss(&[1.0], &[1.0], None, 0.0, 1).unwrap().accuracy(), Some(0.0));
}

#[test]
fn rewards_of_worked_pairs() {
    let (chosen, rejected) = ([1.2, -0.3], [0.2, 0.5]);
    let plain = bradley_terry_loss(&chosen, &rejected, None, 0.0, 2).unwrap();
    assert_near(plain.loss, 0.742181, VECTOR_TOLERANCE);
    assert_eq!(plain.accuracy(), Some(0.5));
    assert_near(plain.sum_margin, 0.2, VECTOR_TOLERANCE);
    let margins = bradley_terry_loss(&chosen, &rejected, Some(&[0.5, 0.0]), 0.0, 2).unwrap();
    assert_near(margins.loss, 0.822589, VECTOR_TOLERANCE);
    assert_near(bradley_terry_loss(&chosen, &rejected, None, 0.01, 2).unwrap().loss, 0.752181, VECTOR_TOLERANCE);
    assert_near(win_probability(2.0, 0.5).unwrap(), 0.817574, VECTOR_TOLERANCE);
    assert_near(win_probability(-0.7, 0.0).unwrap(), 0.331812, VECTOR_TOLERANCE);
    // OpenRLHF's logexp form is infinite here.
    assert_near(bradley_terry_loss(&[-1000.0], &[1000.0], None, 0.0, 1).unwrap().loss, 2000.0, 0.0);
}

#[test]
fn a_reward_normalizer_has_mean_zero_and_unit_spread() {
    // Mean 2, squares 4 + 1 + 0 + 1 + 4 over 4.
    let normalizer = RewardNormalizer::from_rewards([0.0, 1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_near(normalizer.mean, 2.0, 1e-12);
    assert_near(normalizer.std, 2.5_f64.sqrt(), 1e-12);
    assert_near(normalizer.normalize(4.0), 2.0 / 2.5_f64.sqrt(), 1e-12);
    let (first, second) = (normalizer.normalize(2.0), normalizer.normalize(0.5));
    assert_near(normalizer.win_probability(first, second).unwrap(), 0.817574, VECTOR_TOLERANCE);
    let flat = RewardNormalizer::from_rewards([3.0, 3.0]).unwrap();
    assert_eq!((flat.std, flat.normalize(3.0)), (1e-8, 0.0));
    assert!(RewardNormalizer::from_rewards([3.0]).is_err());
    let text = serde_json::to_string(&normalizer).unwrap();
    assert_eq!(serde_json::from_str::<RewardNormalizer>(&text).unwrap(), normalizer);
    assert!(serde_json::from_str::<RewardNormalizer>(r#"{"mean": 0.0, "std": 1.0, "median": 0.0}"#).is_err());
    assert!(RewardNormalizer { mean: 0.0, std: 0.0 }.validate().is_err());
}

#[test]
fn kto_of_worked_answers() {
    let objective =
        UnpairedObjective { loss: UnpairedLoss::Kto { beta: 0.1 }, desirable_weight: 1.0, undesirable_weight: 1.0 };
    let mut mismatched = RunningStatistics::default();
    [0.1, 0.3].into_iter().for_each(|ratio| mismatched.push(ratio).unwrap());
    let baseline = KtoBaseline::from_mismatched(&mismatched).unwrap();
    for (ratio, desirable) in [(0.8, true), (-0.4, false)] {
        let output = unpaired_loss(&[ratio - 3.0], &[-3.0], &[desirable], baseline, &objective, 1).unwrap();
        assert_near(output.loss, 0.485004, VECTOR_TOLERANCE);
        assert_near(output.rewards[0], 0.1 * ratio, VECTOR_TOLERANCE);
    }
    // 1 - s(0.08) and s(-0.04): 0.480011, 0.490001; weights 1 and 2 over two answers.
    let zero =
        UnpairedObjective { loss: UnpairedLoss::ApoZeroUnpaired { beta: 0.1 }, undesirable_weight: 2.0, ..objective };
    let output = unpaired_loss(&[0.8, -0.4], &[0.0, 0.0], &[true, false], baseline, &zero, 2).unwrap();
    assert_near(output.loss, (0.480011 + 2.0 * 0.490001) / 2.0, VECTOR_TOLERANCE);
    assert_eq!((output.num_desirable, output.num_undesirable), (1, 1));
    assert_near(zero.balance(8, 3).unwrap(), 4.0 / 3.0, 1e-12);
    assert_eq!(zero.balance(8, 0), None);

    mismatched.push(-7.0).unwrap();
    assert_eq!(KtoBaseline::from_mismatched(&mismatched).unwrap(), KtoBaseline::ZERO);
    assert!(KtoBaseline::from_mismatched(&RunningStatistics::default()).is_err());
}

#[test]
fn each_side_of_even_sampling_is_measured_against_the_other() {
    let (mut good, mut bad) = (RunningStatistics::default(), RunningStatistics::default());
    [0.5, 0.7].into_iter().for_each(|ratio| good.push(ratio).unwrap());
    bad.push(-0.4).unwrap();
    let baseline = KtoBaseline::from_other_side(&good, &bad).unwrap();
    assert_near(baseline.desirable, 0.0, 0.0);
    assert_near(baseline.undesirable, 0.6, 1e-12);
    assert!(KtoBaseline::from_other_side(&good, &RunningStatistics::default()).is_err());
}

#[test]
fn the_ratio_options_of_the_length_averaged_pipeline() {
    // c / 5 and r / 8 clamped to 0.1: c is clamped, r = -0.05 is not.
    let objective = PreferenceObjective {
        length_norm: true,
        ratio_clamp: Some(0.1),
        ..PreferenceLoss::Sigmoid { beta: 2.0 }.into()
    };
    let output = one_pair(objective.clone(), 0.8, -0.4);
    let slope = -2.0 / (1.0 + 0.3_f64.exp());
    assert_near(output.loss, (1.0 + (-0.3_f64).exp()).ln(), 1e-12);
    assert_eq!(output.grad_chosen_log_probs, [0.0]);
    assert_near(output.grad_rejected_log_probs[0], -slope / 8.0, 1e-12);
    assert_eq!(output.statistics.num_clamped_ratios, 1);
    // Without the clamp it is sigmoid_norm.
    let normed = PreferenceObjective { ratio_clamp: None, ..objective };
    let alone = one_pair(PreferenceLoss::SigmoidNorm { beta: 2.0 }, 0.8, -0.4);
    assert_near(one_pair(normed, 0.8, -0.4).loss, alone.loss, 1e-12);
}

#[test]
fn losses_add_with_their_weights() {
    let (first, second) = (PreferenceLoss::Sigmoid { beta: 0.1 }, PreferenceLoss::Hinge { beta: 0.1 });
    let losses = vec![WeightedLoss { loss: first, weight: 1.0 }, WeightedLoss { loss: second, weight: 0.25 }];
    let both = one_pair(PreferenceObjective { losses, ..first.into() }, 0.8, -0.4);
    let (first, second) = (one_pair(first, 0.8, -0.4), one_pair(second, 0.8, -0.4));
    assert_near(both.loss, 0.634946 + 0.25 * 0.88, VECTOR_TOLERANCE);
    assert_eq!(both.parts, [first.loss, second.loss]);
    let gradient = first.grad_chosen_log_probs[0] + 0.25 * second.grad_chosen_log_probs[0];
    assert_near(both.grad_chosen_log_probs[0], gradient, 1e-15);
}

#[test]
fn divergences_are_zero_at_the_reference() {
    for f_divergence in [
        FDivergence::ForwardKl,
        FDivergence::JensenShannon,
        FDivergence::Alpha { alpha: 0.5, max_exponent: None },
        FDivergence::Alpha { alpha: 1.0, max_exponent: None },
    ] {
        let objective =
            PreferenceObjective { f_divergence, ..PreferenceLoss::Ipo { beta: 1.0, scale: RatioScale::Mean }.into() };
        assert_near(one_pair(objective, 0.0, 0.0).loss, 0.25, 1e-12);
    }
    // Forward KL: 1 - exp(-0.8) - (1 - exp(0.4)) = 1.042496.
    let objective =
        PreferenceObjective { f_divergence: FDivergence::ForwardKl, ..PreferenceLoss::Hinge { beta: 0.5 }.into() };
    assert_near(one_pair(objective.clone(), 0.8, -0.4).loss, 1.0 - 0.521248, VECTOR_TOLERANCE);
    // The exponent of the chosen side stops at 80, where the hinge still has a slope.
    let output = one_pair(objective, -100.0, 0.0);
    assert_eq!((output.statistics.num_clamped_scores, output.grad_chosen_log_probs[0]), (1, 0.0));
    assert_near(output.grad_rejected_log_probs[0], 0.5, 1e-12);
}

#[test]
fn aot_gives_each_rank_its_gap() {
    // c = [3, 1], r = [0, 2]: ranks pair 1 with 0 and 3 with 2, both gaps 1.
    let batch = PreferenceBatch {
        chosen_log_probs: &[3.0, 1.0],
        rejected_log_probs: &[0.0, 2.0],
        reference: Some(ReferenceLogProbs { chosen: &[0.0; 2], rejected: &[0.0; 2] }),
        chosen_lengths: &[1; 2],
        rejected_lengths: &[1; 2],
        pair_weights: None,
    };
    let unpaired = PreferenceObjective::from(PreferenceLoss::AotUnpaired { beta: 1.0, label_smoothing: 0.0 });
    let output = preference_loss(&batch, &unpaired, 2).unwrap();
    assert_near(output.loss, (1.0 + (-1.0_f64).exp()).ln(), 1e-12);
    // Paired: gaps 3 and -1 against a reference without any.
    let paired = PreferenceObjective::from(PreferenceLoss::Aot { beta: 1.0, label_smoothing: 0.0 });
    let output = preference_loss(&batch, &paired, 2).unwrap();
    assert_near(output.loss, ((1.0 + 1.0_f64.exp()).ln() + (1.0 + (-3.0_f64).exp()).ln()) / 2.0, 1e-12);
    assert!(!paired.is_separable() && !unpaired.is_separable());
    assert!(PreferenceObjective::from(PreferenceLoss::Sigmoid { beta: 1.0 }).is_separable());
    let error = preference_loss(&batch, &paired, 3).unwrap_err();
    assert!(error.to_string().contains("sorts over the step"), "{error}");
}

#[test]
fn weights_of_tokens_and_answers() {
    let (chosen, rejected) = ld_dpo_token_weights(2, 4, 0.25).unwrap();
    assert_eq!((chosen, rejected), (vec![1.0, 1.0], vec![1.0, 1.0, 0.25, 0.25]));
    assert!(ld_dpo_token_weights(2, 4, 1.5).is_err());
    // exp of the mean of (-1 + 0.5) and (-2 + 0.5); the masked token is not read.
    let weights = wpo_weights(&[-1.0, -2.0, f32::NAN], &[-0.5, -0.5, f32::NAN], &[true, true, false], 3).unwrap();
    assert_near(weights[0], (-1.0_f64).exp(), 1e-12);
    assert!(wpo_weights(&[-1.0], &[-0.5], &[false], 1).is_err());
}

#[test]
fn pair_weights_multiply_and_are_asked_for() {
    let mut batch = PreferenceBatch {
        chosen_log_probs: &[0.8, 0.8],
        rejected_log_probs: &[-0.4, -0.4],
        reference: Some(ReferenceLogProbs { chosen: &[0.0; 2], rejected: &[0.0; 2] }),
        chosen_lengths: &[5; 2],
        rejected_lengths: &[8; 2],
        pair_weights: Some(&[0.5, 0.0]),
    };
    let plain = PreferenceObjective::from(PreferenceLoss::Sigmoid { beta: 0.1 });
    let weighted = PreferenceObjective { wpo: true, ..plain.clone() };
    let output = preference_loss(&batch, &weighted, 2).unwrap();
    assert_near(output.loss, 0.634946 / 4.0, VECTOR_TOLERANCE);
    assert_eq!(output.grad_rejected_log_probs[1], 0.0);
    assert!(matches!(preference_loss(&batch, &plain, 2), Err(Error::Conflict { .. })));
    batch.pair_weights = None;
    assert!(matches!(preference_loss(&batch, &weighted, 2), Err(Error::Missing { name: "pair_weights", .. })));
}

#[test]
fn the_supervised_term_is_added_per_token() {
    let (log_probs, mask) = ([-1.0, -2.0, -3.0, f32::NAN], [true, true, true, false]);
    let step = StepCounts::of_micro_batch(&mask, 2).unwrap();
    let value = |reduction| {
        let term = NllTerm { coef: 0.2, reduction, tokens: NllTokens::Response };
        let weights = term.token_weights(&mask, 2, &step).unwrap();
        cross_entropy_loss(&log_probs, &mask, CrossEntropyKind::Nll, &weights).unwrap().loss
    };
    // 0.2 * 6 / 3, and 0.2 * (1.5 + 3) / 2.
    assert_near(value(Reduction::TokenMean), 0.4, 1e-12);
    assert_near(value(Reduction::SeqMeanTokenMean), 0.45, 1e-12);
}

#[test]
fn an_unused_reference_is_not_read() {
    use PreferenceLoss::*;
    let nan = [f64::NAN];
    let batch = PreferenceBatch {
        chosen_log_probs: &[-2.0],
        rejected_log_probs: &[-3.0],
        reference: Some(ReferenceLogProbs { chosen: &nan, rejected: &nan }),
        chosen_lengths: &[2],
        rejected_lengths: &[2],
        pair_weights: None,
    };
    for loss in [
        Simpo { beta: 2.0, gamma: 0.5, label_smoothing: 0.0 },
        AlphaPo { beta: 2.0, gamma: 0.5, alpha: 0.25, label_smoothing: 0.0 },
        CpoSigmoid { beta: 0.1, label_smoothing: 0.0, alpha: 0.0 },
        CpoHinge { beta: 0.1, alpha: 0.0 },
        CpoIpo { beta: 0.1, scale: RatioScale::Mean, alpha: 0.0 },
        Orpo { beta: 0.1 },
    ] {
        let objective = PreferenceObjective::from(loss);
        assert!(!objective.needs_reference());
        let with = preference_loss(&batch, &objective, 1).unwrap();
        let without = preference_loss(&PreferenceBatch { reference: None, ..batch }, &objective, 1).unwrap();
        assert_eq!(with, without);
    }
    let dpo = PreferenceObjective::from(Sigmoid { beta: 0.1 });
    let error = preference_loss(&batch, &dpo, 1).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "reference.chosen", index: 0, .. }), "{error}");
    let error = preference_loss(&PreferenceBatch { reference: None, ..batch }, &dpo, 1).unwrap_err();
    assert_eq!(error.to_string(), "reference is missing, but a loss on log-ratios needs it");
}

#[test]
fn settings_that_do_nothing_or_twice_are_refused() {
    let plain = PreferenceObjective::from(PreferenceLoss::Sigmoid { beta: 0.1 });
    plain.validate().unwrap();
    let with = |loss: PreferenceLoss| PreferenceObjective {
        losses: vec![WeightedLoss { loss, weight: 1.0 }],
        ..plain.clone()
    };
    let bco = with(PreferenceLoss::BcoPair { beta: 0.1 });
    let both = vec![plain.losses[0], bco.losses[0]];
    let norm = with(PreferenceLoss::SigmoidNorm { beta: 0.1 });
    let orpo = with(PreferenceLoss::Orpo { beta: 0.1 });
    let aot = with(PreferenceLoss::Aot { beta: 0.1, label_smoothing: 0.0 });
    let refused = [
        PreferenceObjective { losses: vec![], ..plain.clone() },
        PreferenceObjective { f_divergence: FDivergence::ForwardKl, ..bco },
        PreferenceObjective { f_divergence: FDivergence::ForwardKl, losses: both, ..plain.clone() },
        PreferenceObjective { length_norm: true, ..norm },
        PreferenceObjective { ratio_clamp: Some(50.0), ..orpo },
        PreferenceObjective { ratio_clamp: Some(50.0), ..aot.clone() },
        PreferenceObjective { wpo: true, ..aot },
        PreferenceObjective { ratio_clamp: Some(0.0), ..plain.clone() },
        PreferenceObjective { ld_alpha: Some(1.1), ..plain.clone() },
        with(PreferenceLoss::Sigmoid { beta: 0.0 }),
        with(PreferenceLoss::Robust { beta: 0.1, label_smoothing: 0.5 }),
        with(PreferenceLoss::ExoPair { beta: 0.1, label_smoothing: 0.0 }),
        with(PreferenceLoss::Discopop { beta: 0.1, temperature: 0.0 }),
        with(PreferenceLoss::Simpo { beta: 0.1, gamma: f64::NAN, label_smoothing: 0.0 }),
    ];
    for objective in refused {
        assert!(objective.validate().is_err(), "{objective:?}");
    }
}

#[test]
fn shapes_counts_and_lengths_are_checked() {
    let batch = PreferenceBatch {
        chosen_log_probs: &[-2.0],
        rejected_log_probs: &[-3.0],
        reference: None,
        chosen_lengths: &[0],
        rejected_lengths: &[2],
        pair_weights: None,
    };
    let simpo = PreferenceObjective::from(PreferenceLoss::Simpo { beta: 2.0, gamma: 0.5, label_smoothing: 0.0 });
    let error = preference_loss(&batch, &simpo, 1).unwrap_err();
    assert_eq!(error.to_string(), "chosen_lengths[0] is 0, but it must be at least 1, since this loss divides by it");
    assert!(matches!(preference_loss(&batch, &simpo, 0), Err(Error::EmptyBatch { .. })));
    let two = PreferenceBatch { rejected_log_probs: &[-3.0; 2], ..batch };
    assert!(matches!(preference_loss(&two, &simpo, 2), Err(Error::ShapeMismatch { .. })));
    let certain = PreferenceBatch { chosen_log_probs: &[0.5], chosen_lengths: &[1], ..batch };
    let orpo = PreferenceObjective::from(PreferenceLoss::Orpo { beta: 0.1 });
    let error = preference_loss(&certain, &orpo, 1).unwrap_err();
    assert!(matches!(error, Error::OutOfRange { name: "chosen_log_probs", index: 0, .. }), "{error}");
    // A probability of 1 is held just below, without gradient.
    let certain = PreferenceBatch { chosen_log_probs: &[0.0], ..certain };
    let output = preference_loss(&certain, &orpo, 1).unwrap();
    assert_eq!((output.grad_chosen_log_probs[0], output.statistics.num_clamped_scores), (0.0, 1));
    assert!(output.grad_rejected_log_probs[0] > 0.0);
    assert!(bradley_terry_loss(&[0.0; 2], &[0.0; 2], None, 0.0, 1).is_err());
    assert!(bradley_terry_loss(&[], &[], None, 0.0, 0).is_err());
    assert!(bradley_terry_loss(&[0.0], &[0.0], None, -1.0, 1).is_err());
    assert!(bradley_terry_loss(&[f64::NAN], &[0.0], None, 0.0, 1).is_err());
}

#[test]
fn a_configuration_is_read_and_its_typos_are_not() {
    let text = r#"{
        "losses": [
            {"loss": {"kind": "sigmoid", "beta": 0.1}},
            {"loss": {"kind": "hinge", "beta": 0.1}, "weight": 0.2}
        ],
        "f_divergence": {"kind": "alpha", "alpha": 0.5},
        "nll": {"coef": 0.2, "reduction": {"kind": "seq_mean_token_mean"}}
    }"#;
    let objective: PreferenceObjective = serde_json::from_str(text).unwrap();
    objective.validate().unwrap();
    assert_eq!(objective.losses[1].weight, 0.2);
    let again = serde_json::from_str(&serde_json::to_string(&objective).unwrap()).unwrap();
    assert_eq!(objective, again);
    for typo in [
        text.replace("\"beta\": 0.1}}", "\"beta\": 0.1, \"label_smoothing\": 0.1}}"),
        text.replace("nll", "rpo_alpha"),
        text.replace("hinge", "hing"),
        text.replace("\"kind\": \"sigmoid\", \"beta\": 0.1", "\"kind\": \"sigmoid\""),
    ] {
        assert_ne!(typo, text);
        assert!(serde_json::from_str::<PreferenceObjective>(&typo).is_err(), "{typo}");
    }
}

#[test]
fn the_reference_follows_every_512_steps() {
    let update = ReferenceUpdate::TRL;
    update.validate().unwrap();
    let steps: Vec<u64> = (0..=1100).filter(|&step| update.should_update(step)).collect();
    assert_eq!(steps, [512, 1024]);
    assert_near(update.mix(1.0, -1.0), 0.2, 1e-12);
    assert!(ReferenceUpdate { mixup_alpha: 0.0, ..update }.validate().is_err());
    assert!(ReferenceUpdate { every_steps: 0, ..update }.validate().is_err());
    assert!(!ReferenceUpdate { every_steps: 0, ..update }.should_update(5));
}
