//! Policy-gradient, value and entropy losses against TRL, OpenRLHF and verl, whose own code made
//! `golden/objectives/policy.json`. A case spells our settings as a configuration does.

use std::collections::BTreeMap;

use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::entropy::{EntropyController, entropy_bonus};
use rl_core::importance::{ImportanceCorrection, Rejection};
use rl_core::kl::{KlEstimator, kl_loss};
use rl_core::masked::{Reduction, StepCounts};
use rl_core::policy_loss::{PolicyInputs, PolicyLoss, PolicyObjective};
use rl_core::random::RandomKey;
use rl_core::selection::{drop_off_policy, entropy_threshold, keep_high_entropy};
use rl_core::value_loss::{clipped_value_loss, value_loss};
use serde::Deserialize;
use serde_json::Value;

use crate::ROUNDING_TOLERANCE;
use crate::parity_table::{ParityRow, relative_error};

#[derive(Debug, Deserialize)]
struct Fixture {
    versions: BTreeMap<String, String>,
    batches: BTreeMap<String, Batch>,
    cases: Vec<Case>,
}

#[derive(Debug, Deserialize)]
struct Batch {
    width: usize,
    log_probs: Vec<f32>,
    old_log_probs: Vec<f32>,
    sampling_log_probs: Vec<f32>,
    ref_log_probs: Vec<f32>,
    advantages: Vec<f32>,
    entropy: Vec<f32>,
    values: Vec<f32>,
    old_values: Vec<f32>,
    returns: Vec<f32>,
    mask: Vec<bool>,
}

/// One call of a reference.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    reference: String,
    batch: String,
    #[serde(default)]
    loss: f64,
    #[serde(default)]
    gradient: Vec<f64>,
    #[serde(flatten)]
    call: Call,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Call {
    Policy {
        objective: PolicyObjective,
        reduction: Reduction,
        #[serde(default)]
        counting_masked_rows: bool,
        /// The sampling log-probabilities take the place of the old ones.
        #[serde(default)]
        bypass: bool,
        importance: Option<ImportanceCorrection>,
        selection: Option<Choice>,
        kl_coef: Option<f64>,
        /// The reference's own metrics, under our names.
        #[serde(default)]
        statistics: BTreeMap<String, f64>,
    },
    Value {
        reduction: Reduction,
        clip: Option<f64>,
    },
    CrossEntropy {
        reduction: Reduction,
        loss_kind: CrossEntropyKind,
    },
    Entropy {
        reduction: Reduction,
        entropy_coef: f64,
    },
    EntropyController {
        controller: EntropyController,
        entropies: Vec<f64>,
        coefficients: Vec<f64>,
    },
    Rejection {
        rejection: Rejection,
        keep: Vec<bool>,
    },
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Choice {
    OffPolicy(f64),
    TopEntropy(f64),
    /// Dropped tokens weigh nothing.
    Rejection(Rejection),
    /// Dropped tokens leave the response mask; judged between the policy of now and the sampling one.
    RejectionMask(Rejection),
}

fn weights(reduction: Reduction, batch: &Batch, mask: &[bool], counting_masked_rows: bool) -> Vec<f64> {
    let step = StepCounts::of_micro_batch(mask, batch.width).unwrap();
    let step = if counting_masked_rows { step.counting_masked_rows() } else { step };
    reduction.token_weights(mask, batch.width, &step).unwrap()
}

/// Largest relative error of value and gradient.
fn error_of(case: &Case, batch: &Batch) -> f64 {
    let compare = |loss: f64, gradient: &[f32]| {
        let gradient: Vec<f64> = gradient.iter().map(|&derivative| derivative.into()).collect();
        relative_error(&[loss], &[case.loss]).max(relative_error(&gradient, &case.gradient))
    };
    match &case.call {
        Call::Policy { .. } => {
            let (ours, error) = policy(&case.call, batch);
            compare(ours.loss, &ours.grad_log_probs).max(error)
        }
        Call::Value { reduction, clip } => {
            let weights = weights(*reduction, batch, &batch.mask, false);
            let Batch { values, old_values, returns, mask, .. } = batch;
            let ours = match clip {
                Some(clip) => clipped_value_loss(values, old_values, returns, mask, *clip, &weights),
                None => value_loss(values, returns, mask, &weights),
            };
            let ours = ours.unwrap();
            compare(ours.loss, &ours.grad_values)
        }
        Call::CrossEntropy { reduction, loss_kind } => {
            let weights = weights(*reduction, batch, &batch.mask, false);
            let ours = cross_entropy_loss(&batch.log_probs, &batch.mask, *loss_kind, &weights).unwrap();
            compare(ours.loss, &ours.grad_log_probs)
        }
        Call::Entropy { reduction, entropy_coef } => {
            let weights = weights(*reduction, batch, &batch.mask, false);
            let ours = entropy_bonus(&batch.entropy, &batch.mask, *entropy_coef, &weights).unwrap();
            compare(ours.loss, &ours.grad_entropy)
        }
        Call::EntropyController { controller, entropies, coefficients } => {
            let mut controller = *controller;
            let mut ours = Vec::new();
            for &entropy in entropies {
                ours.push(controller.entropy_coef());
                controller.update(entropy).unwrap();
            }
            relative_error(&ours, coefficients)
        }
        Call::Rejection { rejection, keep } => {
            let Batch { old_log_probs, sampling_log_probs, mask, .. } = batch;
            let ours = rejection.select(old_log_probs, sampling_log_probs, mask, batch.width).unwrap();
            let count = |keep: &[bool]| keep.iter().filter(|&&token| token).count();
            assert_eq!(ours.num_dropped_tokens, count(mask) - count(keep));
            if ours.keep == *keep { 0.0 } else { f64::INFINITY }
        }
    }
}

/// Our loss, and the largest relative error of the statistics that the reference reports.
fn policy(call: &Call, batch: &Batch) -> (PolicyLoss, f64) {
    let Call::Policy { objective, reduction, counting_masked_rows, bypass, importance, selection, kl_coef, statistics } =
        call
    else {
        panic!("{call:?} is no policy loss");
    };
    let Batch { width, log_probs, old_log_probs, sampling_log_probs, advantages, .. } = batch;
    let mut mask = batch.mask.clone();
    if let Some(Choice::RejectionMask(rejection)) = selection {
        mask = rejection.select(log_probs, sampling_log_probs, &mask, *width).unwrap().keep;
    }
    let mut weights = weights(*reduction, batch, &mask, *counting_masked_rows);
    let kl_weights = weights.clone();
    let selection = selection.map(|choice| match choice {
        Choice::OffPolicy(max_kl) => {
            drop_off_policy(log_probs, sampling_log_probs, advantages, &mask, *width, max_kl).unwrap()
        }
        Choice::TopEntropy(fraction) => {
            let threshold = entropy_threshold(&batch.entropy, &mask, fraction).unwrap();
            keep_high_entropy(&batch.entropy, &mask, *width, threshold).unwrap()
        }
        Choice::Rejection(rejection) => rejection.select(old_log_probs, sampling_log_probs, &mask, *width).unwrap(),
        Choice::RejectionMask(rejection) => rejection.select(log_probs, sampling_log_probs, &mask, *width).unwrap(),
    });
    if let Some(selection) = selection {
        selection.apply(&mut weights).unwrap();
    }
    // Bypassing the old policy, verl's score function is weighted by the policy of now against the sampling one.
    let trained = if *bypass { log_probs } else { old_log_probs };
    let importance =
        importance.map(|correction| correction.weights(trained, sampling_log_probs, &mask, *width).unwrap().weights);
    let old = if *bypass { sampling_log_probs } else { old_log_probs };
    let mut inputs = PolicyInputs {
        importance: importance.as_deref(),
        ..PolicyInputs::new(log_probs, old, advantages, &mask, *width)
    };
    let selected = objective.select_tokens(&inputs, RandomKey::new(0, "parity")).unwrap();
    inputs.selected = selected.as_deref();
    let mut ours = objective.loss(&inputs, &weights).unwrap();
    if let Some(kl_coef) = *kl_coef {
        let kl = kl_loss(log_probs, &batch.ref_log_probs, &mask, KlEstimator::K3, kl_coef, &kl_weights).unwrap();
        ours.loss += kl.loss;
        for (derivative, kl) in ours.grad_log_probs.iter_mut().zip(kl.grad_log_probs) {
            *derivative += kl;
        }
    }
    let error = statistics.iter().fold(0.0_f64, |largest, (name, &expected)| {
        let value = match name.as_str() {
            "clip_fraction" => ours.clip_fraction,
            "dual_clip_fraction" => ours.dual_clip_fraction,
            "approx_kl" => ours.approx_kl,
            other => panic!("no statistic {other}"),
        };
        largest.max(relative_error(&[value], &[expected]))
    });
    (ours, error)
}

/// What a reference does otherwise by default, and the switch that reproduces it.
fn difference(case: &Case) -> &'static str {
    let masked = "counts wholly masked rows as sequences of loss 0: `StepCounts::counting_masked_rows`";
    match (case.reference.as_str(), case.name.as_str()) {
        ("TRL GRPOTrainer", "clipped") => {
            "no log-ratio clamp: `clamp = off`; `grpo` and `dr_grpo` count wholly masked rows: `StepCounts::counting_masked_rows`; `bnpo` averages per micro-batch: `token_mean_local`"
        }
        ("TRL GRPOTrainer", "clipped sequence_mean") => {
            "no log-ratio clamp: `clamp = off`; `luspo` is reduction `seq_mean_token_sum`; counts wholly masked rows: `StepCounts::counting_masked_rows`"
        }
        ("TRL GRPOTrainer", "clipped max_ratio") => "`delta` is `max_ratio`; `clamp = off`",
        ("TRL GRPOTrainer", "cispo") => {
            "`epsilon_high` is the absolute `high`, no lower bound: `low = 0`; `clamp = off`"
        }
        ("TRL GRPOTrainer", "entropy_bonus") => "token mean of each micro-batch: `token_mean_local`",
        ("TRL GRPOTrainer", "sapo") | ("verl core_algos", "gmpo") => masked,
        ("TRL GRPOTrainer", "clipped, drop_off_policy") | ("TRL GRPOTrainer", "vespo") => {
            "takes a missing sampling log-probability for ratio 1; ours refuses it, so give the old one there"
        }
        ("TRL RLOOTrainer" | "TRL GMPOTrainer", _) => {
            "no log-ratio clamp: `clamp = off`; a wholly masked row costs a constant without gradient and is counted; its gradients: `StepCounts::counting_masked_rows`"
        }
        ("TRL GRPOTrainer", name) if name.starts_with("clipped, token_") || name.starts_with("clipped, sequence_") => {
            "log-ratios not clamped: `clamp = off`; takes a missing sampling log-probability for ratio 1; ours refuses it"
        }
        ("OpenRLHF PolicyLoss", "clipped sequence_mean") => {
            "no log-ratio clamp: `clamp = off`; with its correction on, give the sampling log-probabilities as old ones"
        }
        ("OpenRLHF PolicyLoss", name) if name.starts_with("clipped, rejection") => {
            "dropped tokens stay in the denominators: `Selection::apply`"
        }
        ("OpenRLHF PolicyLoss", name) if name.starts_with("clipped, ") => {
            "importance log-ratios not clamped: `clamp = off`"
        }
        ("verl core_algos", "clipped dual_clip") => {
            "dual clip always on, 3: `dual_clip = 3`; `seq-mean-token-sum-norm` divides by the sequences too: `const_norm`"
        }
        ("verl core_algos", "clipped sequence_mean_token_gradient") => {
            "log-ratio of the sequence at most 10: `clamp.high = 10`"
        }
        ("verl core_algos", "cispo") => {
            "bounds are distances from 1: `low = 1 - clip_ratio_low`, `high = 1 + clip_ratio_high`"
        }
        ("verl core_algos", "clip_cov" | "kl_cov") => {
            "no log-ratio clamp: `clamp = off`; chooses tokens per micro-batch: give `select_tokens` the micro-batch"
        }
        ("verl core_algos", "clipped, bypass and rejection") => {
            "rejected tokens leave the denominators: use `Selection::keep` as the response mask"
        }
        ("verl rollout_corr_helper", name) if name.starts_with("rejection k1") => {
            "bounds are ratios: `low` and `high` are their logarithms"
        }
        _ => "",
    }
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../golden/objectives/policy.json")).unwrap()
}

/// One row per objective and reference.
pub fn rows() -> Vec<ParityRow> {
    let fixture = fixture();
    let mut rows: Vec<ParityRow> = Vec::new();
    for case in &fixture.cases {
        let error = error_of(case, &fixture.batches[&case.batch]);
        assert!(error < f64::INFINITY, "{} against {} on {}: {error}", case.name, case.reference, case.batch);
        let same = |row: &&mut ParityRow| row.objective == case.name && row.reference == case.reference;
        if let Some(row) = rows.iter_mut().find(same) {
            row.largest_error = row.largest_error.max(error);
            continue;
        }
        let package = case.reference.split(' ').next().unwrap();
        rows.push(ParityRow {
            objective: case.name.clone(),
            reference: case.reference.clone(),
            version: fixture.versions[package].clone(),
            largest_error: error,
            difference: difference(case).into(),
        });
    }
    rows
}

#[test]
fn every_kind_of_objective_meets_a_reference() {
    let fixture = fixture();
    let mut kinds: Vec<String> = fixture
        .cases
        .iter()
        .filter_map(|case| match &case.call {
            Call::Policy { objective, .. } => match serde_json::to_value(objective).unwrap() {
                Value::Object(fields) => fields["kind"].as_str().map(str::to_owned),
                other => panic!("{other}"),
            },
            _ => None,
        })
        .collect();
    kinds.sort();
    kinds.dedup();
    let expected = ["cispo", "clip_cov", "clipped", "dppo", "dro", "gmpo", "kl_cov", "reinforce", "sapo", "vespo"];
    assert_eq!(kinds, expected);
    assert_eq!(fixture.cases.len(), 242);
}

/// The numbers of the fixture are no trivial ones: both sides of the clip, covariances and trust regions are met.
#[test]
fn the_cases_exercise_what_they_compare() {
    let fixture = fixture();
    let mut met: BTreeMap<&str, (bool, bool)> = BTreeMap::new();
    for case in &fixture.cases {
        let Call::Policy { .. } = case.call else { continue };
        let batch = &fixture.batches[&case.batch];
        let (zero, other) = met.entry(&case.name).or_default();
        for (&derivative, _) in case.gradient.iter().zip(&batch.mask).filter(|(_, token)| **token) {
            *zero |= derivative == 0.0;
            *other |= derivative.abs() > ROUNDING_TOLERANCE;
        }
    }
    for (name, (zero, other)) in met {
        assert!(other, "{name} has no gradient");
        let stops = (name.starts_with("clip") && !name.contains("kl_loss")) || name.starts_with("dppo");
        assert!(zero || !stops, "{name} stops no token");
    }
}
