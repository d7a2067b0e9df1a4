//! Policy objectives: numbers worked by hand or given with the formulas, configurations, refusals.

use rl_core::masked::{Normalizer, Reduction, StepCounts};
use rl_core::policy_loss::{
    Cispo, ClipCov, ClipRange, ClippedSurrogate, Divergence, Dppo, Dro, Gmpo, KlCov, LogRatioClamp, PolicyInputs,
    PolicyLoss, PolicyObjective, Ratio, RatioLevel, Sapo, Vespo,
};
use rl_core::random::RandomKey;
use rl_core::rows::Rows;
use rl_core::{Error, Result};

use crate::{VECTOR_TOLERANCE, assert_close, assert_near};

/// `-advantage * log_prob` per token.
pub fn reinforce_loss<'a>(
    log_probs: &[f32],
    advantages: &[f32],
    mask: &[bool],
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<PolicyLoss> {
    let rows = [mask.len()];
    let inputs = PolicyInputs {
        old_log_probs: None,
        ..PolicyInputs::new(log_probs, log_probs, advantages, mask, rows.as_slice())
    };
    PolicyObjective::Reinforce {}.loss(&inputs, normalizer)
}

/// The clipped surrogate with dual clip per token.
pub fn dual_clipped_policy_loss<'a>(
    log_probs: &[f32],
    old_log_probs: &[f32],
    advantages: &[f32],
    mask: &[bool],
    clip: ClipRange,
    dual_clip: f64,
    normalizer: impl Into<Normalizer<'a>>,
) -> Result<PolicyLoss> {
    let surrogate = ClippedSurrogate { dual_clip: Some(dual_clip), ..ClippedSurrogate::new(Ratio::default(), clip) };
    let rows = [mask.len()];
    let inputs = PolicyInputs::new(log_probs, old_log_probs, advantages, mask, rows.as_slice());
    PolicyObjective::Clipped(surrogate).loss(&inputs, normalizer)
}

const CLIP: ClipRange = ClipRange { low: 0.2, high: 0.28 };
const TOKEN: Ratio = Ratio { level: RatioLevel::Token, clamp: LogRatioClamp::Within { low: -20.0, high: 20.0 } };

const NEW: [f32; 4] = [-1.5, -2.5, -0.5, -0.5];
const OLD: [f32; 4] = [-2.0; 4];
const ADVANTAGES: [f32; 4] = [1.0, -1.0, -1.0, 1.0];

/// The loss of each of the four tokens alone.
fn each_token(objective: PolicyObjective) -> Vec<f32> {
    (0..4)
        .map(|token| {
            let mut mask = [false; 4];
            mask[token] = true;
            objective.loss(&PolicyInputs::new(&NEW, &OLD, &ADVANTAGES, &mask, 4), 1).unwrap().loss as f32
        })
        .collect()
}

/// The loss of the four tokens as one sequence, averaged.
fn one_row(objective: PolicyObjective, advantages: &[f32]) -> PolicyLoss {
    objective.loss(&PolicyInputs::new(&NEW, &OLD, advantages, &[true; 4], 4), 4).unwrap()
}

fn clipped(level: RatioLevel, clip: ClipRange) -> PolicyObjective {
    PolicyObjective::Clipped(ClippedSurrogate::new(Ratio::of(level), clip))
}

#[test]
fn token_losses() {
    let check = |objective, expected: [f64; 4]| assert_close(&each_token(objective), &expected, VECTOR_TOLERANCE);
    let plain = ClippedSurrogate::new(TOKEN, CLIP);
    check(PolicyObjective::Clipped(plain), [-1.28, 0.8, 4.481689, -1.28]);
    check(PolicyObjective::Clipped(ClippedSurrogate { max_ratio: Some(3.0), ..plain }), [-1.28, 0.8, 3.0, -1.28]);
    check(PolicyObjective::Clipped(ClippedSurrogate { dual_clip: Some(3.0), ..plain }), [-1.28, 0.8, 3.0, -1.28]);
    // The third ratio is above 4, so its bad token pays the clipped 1.28.
    let only = ClippedSurrogate { clipped_only_above: Some(4.0), ..plain };
    check(PolicyObjective::Clipped(only), [-1.28, 0.8, 1.28, -1.28]);
    check(PolicyObjective::Cispo(Cispo { ratio: TOKEN, low: 0.8, high: 1.28 }), [1.92, -2.0, -0.64, 0.64]);
    check(
        PolicyObjective::Cispo(Cispo { ratio: TOKEN, low: 0.0, high: 5.0 }),
        [2.473082, -1.516327, -2.240845, 2.240845],
    );
    let sapo = Sapo { ratio: TOKEN, tau_positive: 1.0, tau_negative: 1.05 };
    check(PolicyObjective::Sapo(sapo), [-2.626889, 1.516795, 3.71356, -3.880649]);
    check(PolicyObjective::Reinforce {}, [1.5, -2.5, -0.5, 0.5]);
    // -A log_prob + (log-ratio)^2 / 2 * 0.1
    check(PolicyObjective::Dro(Dro { beta: 0.1 }), [1.5125, -2.4875, -0.3875, 0.6125]);
}

#[test]
fn sequence_ratios() {
    let clip = ClipRange { low: 0.2, high: 1.5 };
    // Log-ratios .5, -.5, 1.5, 1.5: sum 3, mean .75. Good answer: the ratio passes; another clip stops it.
    let good = [1.0; 4];
    let mean = one_row(clipped(RatioLevel::SequenceMean, clip), &good);
    assert_near(mean.loss, -2.117, VECTOR_TOLERANCE);
    assert_close(&mean.grad_log_probs, &[-2.117 / 4.0; 4], VECTOR_TOLERANCE);
    assert_eq!(
        one_row(clipped(RatioLevel::SequenceMeanTokenGradient, clip), &good).grad_log_probs,
        mean.grad_log_probs
    );
    let stopped = one_row(clipped(RatioLevel::SequenceMean, CLIP), &good);
    assert_near(stopped.loss, -1.28, VECTOR_TOLERANCE);
    assert_eq!((stopped.grad_log_probs, stopped.clip_fraction), (vec![0.0; 4], 1.0));
    // exp(3) = 20.085537; a bad answer is not stopped by the clip.
    let sum = one_row(clipped(RatioLevel::SequenceSum, CLIP), &[-1.0; 4]);
    assert_near(sum.loss, 20.085537, VECTOR_TOLERANCE);
    assert_close(&sum.grad_log_probs, &[20.085537; 4], VECTOR_TOLERANCE);

    // The mean advantage is 0: the sequence form has no gradient, the token form gives each token its own.
    let sequence = one_row(clipped(RatioLevel::SequenceMean, clip), &ADVANTAGES);
    assert_close(&sequence.grad_log_probs, &[0.0; 4], VECTOR_TOLERANCE);
    let token = one_row(clipped(RatioLevel::SequenceMeanTokenGradient, clip), &ADVANTAGES);
    assert_close(&token.grad_log_probs, &[-0.52925, 0.52925, 0.52925, -0.52925], VECTOR_TOLERANCE);

    // LUSPO is the sum over tokens: the loss times the length.
    let mask = [true; 4];
    let step = StepCounts::of_micro_batch(&mask, 4).unwrap();
    let weights = Reduction::SeqMeanTokenSum.token_weights(&mask, 4, &step).unwrap();
    let inputs = PolicyInputs::new(&NEW, &OLD, &good, &mask, 4);
    assert_near(
        clipped(RatioLevel::SequenceMean, clip).loss(&inputs, &weights).unwrap().loss,
        -8.468,
        VECTOR_TOLERANCE,
    );
}

#[test]
fn a_weighted_action_is_one_ratio_per_turn() {
    // Thought tokens count half: .25 - .25 + 1.5 + 1.5 = 3, exp = 20.0855; the second turn has .75, exp = 2.117.
    let objective = PolicyObjective::Clipped(ClippedSurrogate {
        clipped_only_above: Some(10.0),
        ..ClippedSurrogate::new(Ratio::of(RatioLevel::WeightedSum), ClipRange::symmetric(0.1))
    });
    let log_probs: Vec<f32> = NEW.iter().copied().chain([-0.5]).collect();
    let token_weights = [0.5, 0.5, 1.0, 1.0, 0.5];
    let turns = [4, 1];
    let inputs = PolicyInputs {
        token_weights: Some(&token_weights),
        ..PolicyInputs::new(&log_probs, &[-2.0; 5], &[-1.0; 5], &[true; 5], &turns[..])
    };
    let step = StepCounts::of_micro_batch(&[true; 5], Rows::Packed(&turns)).unwrap();
    let weights = Reduction::SeqMeanTokenMean.token_weights(&[true; 5], Rows::Packed(&turns), &step).unwrap();
    let loss = objective.loss(&inputs, &weights).unwrap();
    // The first ratio is above 10: clipped to 1.1, no gradient. The second is free: half of 2.117, times its weight .5.
    assert_near(loss.loss, (1.1 + 2.117) / 2.0, VECTOR_TOLERANCE);
    assert_close(&loss.grad_log_probs, &[0.0, 0.0, 0.0, 0.0, 0.52925], VECTOR_TOLERANCE);
    assert_near(loss.ratio_max, 20.085537, VECTOR_TOLERANCE);

    let missing = PolicyInputs { token_weights: None, ..inputs };
    let error = objective.loss(&missing, &weights).unwrap_err();
    assert_eq!(error.to_string(), "token_weights is absent, but the ratio weighted_sum needs it");
}

#[test]
fn geometric_and_smooth_sequence_weights() {
    // Good answer: log-ratios .5, -.5, 1.5, 1.5 held at .4: .4 - .5 + .4 + .4 = .7; exp(.175) = 1.191246.
    let gmpo = PolicyObjective::Gmpo(Gmpo { low: 0.4, high: 0.4, clamp: LogRatioClamp::default() });
    let good = one_row(gmpo, &[1.0; 4]);
    assert_near(good.loss, -1.191246, VECTOR_TOLERANCE);
    assert_close(&good.grad_log_probs, &[0.0, -0.297812, 0.0, 0.0], VECTOR_TOLERANCE);
    assert_eq!(good.clip_fraction, 0.75);
    // Bad answer: .5 - .4 + 1.5 + 1.5 = 3.1; exp(.775) = 2.170592.
    let bad = one_row(gmpo, &[-1.0; 4]);
    assert_near(bad.loss, 2.170592, VECTOR_TOLERANCE);
    assert_close(&bad.grad_log_probs, &[0.542648, 0.0, 0.542648, 0.542648], VECTOR_TOLERANCE);

    // W = exp(-.5 * 4): phi = exp(3 + 2 * -2 - 3 exp(-2)) = .245124; bad: exp(2 + 3 * -2 - 2 exp(-2)) = .013973.
    let vespo =
        PolicyObjective::Vespo(Vespo { k_positive: 2.0, lambda_positive: 3.0, k_negative: 3.0, lambda_negative: 2.0 });
    let low = [-2.5_f32; 4];
    let inputs = PolicyInputs::new(&low, &OLD, &[1.0; 4], &[true; 4], 4);
    let (good_phi, bad_phi) = ((3.0 - 4.0 - 3.0 * (-2.0_f64).exp()).exp(), (2.0 - 6.0 - 2.0 * (-2.0_f64).exp()).exp());
    let good = vespo.loss(&inputs, 4).unwrap();
    assert_near(good.loss, 2.5 * good_phi, VECTOR_TOLERANCE);
    assert_close(&good.grad_log_probs, &[-good_phi / 4.0; 4], VECTOR_TOLERANCE);
    let bad = vespo.loss(&PolicyInputs { advantages: &[-1.0; 4], ..inputs }, 4).unwrap();
    assert_close(&bad.grad_log_probs, &[bad_phi / 4.0; 4], VECTOR_TOLERANCE);
    // Importance weights enter W: exp(.5) each makes W 1 and phi 1.
    let importance = [0.5_f64.exp(); 4];
    let corrected = vespo.loss(&PolicyInputs { importance: Some(&importance), ..inputs }, 4).unwrap();
    assert_close(&corrected.grad_log_probs, &[-0.25; 4], VECTOR_TOLERANCE);
}

#[test]
fn importance_weights_multiply_token_losses() {
    let importance = [2.0, 0.5, 0.0, 1.0];
    let inputs =
        PolicyInputs { importance: Some(&importance), ..PolicyInputs::new(&NEW, &OLD, &ADVANTAGES, &[true; 4], 4) };
    let loss = clipped(RatioLevel::Token, CLIP).loss(&inputs, 4).unwrap();
    assert_near(loss.loss, (-2.56 + 0.4 + 0.0 - 1.28) / 4.0, VECTOR_TOLERANCE);
    // GMPO: geometric mean of 2, .5, 2, 2 = sqrt(2).
    let importance = [2.0, 0.5, 2.0, 2.0];
    let inputs = PolicyInputs { importance: Some(&importance), advantages: &[1.0; 4], ..inputs };
    let gmpo = PolicyObjective::Gmpo(Gmpo { low: 0.4, high: 0.4, clamp: LogRatioClamp::default() });
    assert_near(gmpo.loss(&inputs, 4).unwrap().loss, -1.191246 * 2.0_f64.sqrt(), VECTOR_TOLERANCE);
}

/// Leave-one-out REINFORCE on the mean or the sum of a sample's log-probabilities, over the samples that survived.
#[test]
fn leave_one_out_without_a_ratio() {
    // Advantages 1.5 and -.5; log-probs -1, -3 (mean -2) and -.5; the third sample was lost.
    let (log_probs, advantages) = ([-1.0, -3.0, -0.5, 9.0, 9.0, 9.0], [1.5, 1.5, -0.5, 9.0, 9.0, 9.0]);
    let mask = [true, true, true, false, false, false];
    let inputs =
        PolicyInputs { old_log_probs: None, ..PolicyInputs::new(&log_probs, &log_probs, &advantages, &mask, 2) };
    let step = StepCounts::of_micro_batch(&mask, 2).unwrap();
    let loss = |reduction: Reduction| {
        let weights = reduction.token_weights(&mask, 2, &step).unwrap();
        PolicyObjective::Reinforce {}.loss(&inputs, &weights).unwrap()
    };
    // (1.5 * 2 - .5 * .5) / 2 and (1.5 * 4 - .5 * .5) / 2
    let mean = loss(Reduction::SeqMeanTokenMean);
    assert_near(mean.loss, 1.375, VECTOR_TOLERANCE);
    assert_close(&mean.grad_log_probs, &[-0.375, -0.375, 0.25, 0.0, 0.0, 0.0], VECTOR_TOLERANCE);
    let sum = loss(Reduction::SeqMeanTokenSum);
    assert_near(sum.loss, 2.875, VECTOR_TOLERANCE);
    assert_close(&sum.grad_log_probs, &[-0.75, -0.75, 0.25, 0.0, 0.0, 0.0], VECTOR_TOLERANCE);
}

#[test]
fn without_old_log_probs_every_ratio_is_one() {
    let inputs = PolicyInputs { old_log_probs: None, ..PolicyInputs::new(&NEW, &OLD, &ADVANTAGES, &[true; 4], 4) };
    let loss = clipped(RatioLevel::Token, CLIP).loss(&inputs, 4).unwrap();
    assert_close(&loss.grad_log_probs, &[-0.25, 0.25, 0.25, -0.25], 0.0);
    assert_eq!((loss.ratio_min, loss.ratio_max, loss.approx_kl), (1.0, 1.0, 0.0));
}

#[test]
fn tokens_of_high_covariance() {
    // Means: advantage 0, log-prob -1.25. Covariances -.25, 1.25, -.75, .75.
    let inputs = PolicyInputs::new(&NEW, &OLD, &ADVANTAGES, &[true; 4], 4);
    let key = RandomKey::new(0, "test");
    let kl_cov = PolicyObjective::KlCov(KlCov { ratio: TOKEN, fraction: 0.5, kl_coef: 1.0 });
    let selected = kl_cov.select_tokens(&inputs, key).unwrap().unwrap();
    assert_eq!(selected, [false, true, false, true]);
    let loss = kl_cov.loss(&PolicyInputs { selected: Some(&selected), ..inputs }, 4).unwrap();
    // -1.648721 + (.606531 + .5) + 4.481689 + (-4.481689 + 1.5), over 4
    assert_near(loss.loss, 0.239453, VECTOR_TOLERANCE);
    assert_close(&loss.grad_log_probs, &[-0.412180, -0.098367, 1.120422, -0.870422], VECTOR_TOLERANCE);

    // Tokens 0, 1 and 3 are stopped by the clip already.
    let clip_cov =
        |low, high, fraction| PolicyObjective::ClipCov(ClipCov { ratio: TOKEN, clip: CLIP, fraction, low, high });
    assert_eq!(clip_cov(-9.0, 9.0, 1.0).select_tokens(&inputs, key).unwrap().unwrap(), [false, false, true, false]);
    assert_eq!(clip_cov(1.0, 5.0, 1.0).select_tokens(&inputs, key).unwrap().unwrap(), [false; 4]);
    let free = PolicyInputs { old_log_probs: None, ..inputs };
    let both = clip_cov(0.5, 2.0, 1.0).select_tokens(&free, key).unwrap().unwrap();
    assert_eq!(both, [false, true, false, true]);
    let loss = clip_cov(0.5, 2.0, 1.0).loss(&PolicyInputs { selected: Some(&both), ..free }, 4).unwrap();
    assert_close(&loss.grad_log_probs, &[-0.25, 0.0, 0.25, 0.0], VECTOR_TOLERANCE);
    // One of two, drawn: both come up.
    let drawn = |seed| clip_cov(0.5, 2.0, 0.1).select_tokens(&free, RandomKey::new(seed, "draw")).unwrap().unwrap();
    let picks: Vec<Vec<bool>> = (0..20).map(drawn).collect();
    assert!(picks.iter().all(|pick| pick.iter().filter(|&&token| token).count() == 1));
    assert!(picks.iter().any(|pick| pick[1]) && picks.iter().any(|pick| pick[3]));

    assert!(matches!(kl_cov.loss(&inputs, 4), Err(Error::MissingInput { name: "selected", .. })));
    assert_eq!(clipped(RatioLevel::Token, CLIP).select_tokens(&inputs, key).unwrap(), None);
}

#[test]
fn a_trust_region_of_probabilities() {
    // Probabilities .223130, .082085, .606531, .606531 against .135335: moved by .087795, -.053250, .471196, .471196.
    let dppo =
        |low, high, divergence| PolicyObjective::Dppo(Dppo { ratio: TOKEN, divergence, low, high, max_ratio: 4.0 });
    let loss = each_token(dppo(0.05, 0.1, Divergence::TotalVariation));
    // 1.648721 * 1.5; left out; 4 * -.5 (its advantage asks for a fall); left out.
    assert_close(&loss, &[2.473082, 0.0, -2.0, 0.0], VECTOR_TOLERANCE);
    // Divergences .024911, .015993, .477781 and .477781.
    let loss = each_token(dppo(0.02, 0.02, Divergence::BinaryKl));
    assert_close(&loss, &[0.0, -1.516327, -2.0, 0.0], VECTOR_TOLERANCE);
    // Logits less their logarithmic sum can round above 0; a probability of 1 is far from exp(-1) all the same.
    let inputs = PolicyInputs::new(&[1e-6], &[-1.0], &[1.0], &[true], 1);
    let loss = dppo(0.02, 0.02, Divergence::BinaryKl).loss(&inputs, 1).unwrap();
    assert_eq!((loss.grad_log_probs[0], loss.clip_fraction), (0.0, 1.0));
}

#[test]
fn log_ratio_clamps() {
    let inputs = PolicyInputs::new(&[-1.0], &[-13.0], &[-1.0], &[true], 1);
    let loss = |clamp, level| {
        let surrogate = ClippedSurrogate::new(Ratio { level, clamp }, CLIP);
        PolicyObjective::Clipped(surrogate).loss(&inputs, 1).unwrap()
    };
    let capped = LogRatioClamp::Within { low: -20.0, high: 10.0 };
    for level in [RatioLevel::Token, RatioLevel::SequenceMean, RatioLevel::SequenceMeanTokenGradient] {
        let held = loss(capped, level);
        assert_near(held.loss, 10.0_f64.exp(), VECTOR_TOLERANCE);
        assert_eq!((held.grad_log_probs[0], held.num_clamped_ratios), (0.0, 1));
        let free = loss(LogRatioClamp::Off {}, level);
        assert_near(free.loss, 12.0_f64.exp(), VECTOR_TOLERANCE);
        assert_near(free.grad_log_probs[0].into(), 12.0_f64.exp(), 0.02);
    }
    let inputs = PolicyInputs::new(&[-1.0], &[-1000.0], &[1.0], &[true], 1);
    let off = ClippedSurrogate::new(Ratio { level: RatioLevel::Token, clamp: LogRatioClamp::Off {} }, CLIP);
    let error = PolicyObjective::Clipped(off).loss(&inputs, 1).unwrap_err();
    assert!(matches!(error, Error::NonFinite { name: "ratio", index: 0, .. }), "{error}");
}

#[test]
fn configurations() {
    let parse = |text: &str| serde_json::from_str::<PolicyObjective>(text);
    let gspo =
        parse(r#"{"kind":"clipped","ratio":{"level":"sequence_mean"},"clip":{"low":3e-4,"high":4e-4}}"#).unwrap();
    assert_eq!(gspo, clipped(RatioLevel::SequenceMean, ClipRange { low: 3e-4, high: 4e-4 }));
    let round_trip = |objective: PolicyObjective| {
        objective.validate().unwrap();
        assert_eq!(parse(&serde_json::to_string(&objective).unwrap()).unwrap(), objective);
    };
    round_trip(gspo);
    round_trip(PolicyObjective::Reinforce {});
    round_trip(PolicyObjective::Gmpo(Gmpo { low: 0.4, high: 0.4, clamp: LogRatioClamp::Off {} }));
    round_trip(PolicyObjective::Dppo(Dppo {
        ratio: TOKEN,
        divergence: Divergence::BinaryKl,
        low: 0.1,
        high: 0.1,
        max_ratio: 20.0,
    }));
    for unknown in [
        r#"{"kind":"clipped","ratio":{"level":"token"},"clip":{"low":0.2,"high":0.2},"beta":1}"#,
        r#"{"kind":"clipped","ratio":{"level":"token","cap":1},"clip":{"low":0.2,"high":0.2}}"#,
        r#"{"kind":"reinforce","beta":1}"#,
        r#"{"kind":"gpo"}"#,
        r#"{"kind":"clipped","ratio":{"level":"token"}}"#,
        r#"{"kind":"cispo","ratio":{"level":"token"},"low":0}"#,
        r#"{"kind":"gmpo","low":0.4,"high":0.4,"clamp":{"kind":"off","high":1}}"#,
    ] {
        assert!(parse(unknown).is_err(), "{unknown}");
    }
    let parse = |text: &str| serde_json::from_str::<Reduction>(text);
    assert_eq!(parse(r#"{"kind":"token_mean"}"#).unwrap(), Reduction::TokenMean);
    for reduction in [
        Reduction::TokenMean,
        Reduction::TokenSum,
        Reduction::TokenMeanLocal,
        Reduction::SeqMeanTokenMean,
        Reduction::SeqMeanTokenSum,
        Reduction::ConstNorm { max_length: 7 },
        Reduction::SeqSumNorm { length: None },
    ] {
        assert_eq!(parse(&serde_json::to_string(&reduction).unwrap()).unwrap(), reduction);
    }
    for unknown in [r#"{"kind":"token_mean","max_length":7}"#, r#"{"kind":"const_norm"}"#, r#"{"kind":"mean"}"#] {
        assert!(parse(unknown).is_err(), "{unknown}");
    }
}

#[test]
fn bad_settings_are_refused() {
    let plain = ClippedSurrogate::new(TOKEN, CLIP);
    let bad_clamp = Ratio { clamp: LogRatioClamp::Within { low: 1.0, high: 2.0 }, ..TOKEN };
    for objective in [
        PolicyObjective::Clipped(ClippedSurrogate { clip: ClipRange { low: 1.5, high: 0.2 }, ..plain }),
        PolicyObjective::Clipped(ClippedSurrogate { dual_clip: Some(1.0), ..plain }),
        PolicyObjective::Clipped(ClippedSurrogate { max_ratio: Some(0.0), ..plain }),
        PolicyObjective::Clipped(ClippedSurrogate { clipped_only_above: Some(1.28), ..plain }),
        PolicyObjective::Clipped(ClippedSurrogate { ratio: bad_clamp, ..plain }),
        PolicyObjective::Cispo(Cispo { ratio: TOKEN, low: 2.0, high: 1.0 }),
        PolicyObjective::Cispo(Cispo { ratio: TOKEN, low: 0.0, high: f64::INFINITY }),
        PolicyObjective::Sapo(Sapo { ratio: TOKEN, tau_positive: 0.0, tau_negative: 1.0 }),
        PolicyObjective::Gmpo(Gmpo { low: -0.1, high: 0.4, clamp: LogRatioClamp::default() }),
        PolicyObjective::Vespo(Vespo { k_positive: 2.0, lambda_positive: 0.0, k_negative: 3.0, lambda_negative: 2.0 }),
        PolicyObjective::ClipCov(ClipCov { ratio: TOKEN, clip: CLIP, fraction: 0.0, low: 1.0, high: 5.0 }),
        PolicyObjective::ClipCov(ClipCov { ratio: TOKEN, clip: CLIP, fraction: 0.1, low: 5.0, high: 5.0 }),
        PolicyObjective::KlCov(KlCov { ratio: TOKEN, fraction: 0.1, kl_coef: f64::NAN }),
        PolicyObjective::Dro(Dro { beta: 0.0 }),
        PolicyObjective::Dppo(Dppo {
            ratio: TOKEN,
            divergence: Divergence::BinaryKl,
            low: -0.1,
            high: 0.1,
            max_ratio: 20.0,
        }),
    ] {
        let inputs = PolicyInputs::new(&NEW, &OLD, &ADVANTAGES, &[true; 4], 4);
        assert!(matches!(objective.loss(&inputs, 4), Err(Error::BadHyperparameter { .. })), "{objective:?}");
    }
    let objective = PolicyObjective::Clipped(plain);
    let inputs = PolicyInputs::new(&NEW, &OLD, &ADVANTAGES, &[true; 4], 4);
    assert!(matches!(objective.loss(&PolicyInputs { rows: 3.into(), ..inputs }, 4), Err(Error::NotAMultiple { .. })));
    assert!(matches!(
        objective.loss(&PolicyInputs { importance: Some(&[1.0; 3]), ..inputs }, 4),
        Err(Error::ShapeMismatch { name: "importance", length: 3, .. })
    ));
    assert!(matches!(objective.loss(&inputs, 0), Err(Error::EmptyBatch { .. })));
    assert!(matches!(
        objective.loss(&PolicyInputs { importance: Some(&[1.0, f64::NAN, 1.0, 1.0]), ..inputs }, 4),
        Err(Error::NonFinite { name: "importance", index: 1, .. })
    ));
}
