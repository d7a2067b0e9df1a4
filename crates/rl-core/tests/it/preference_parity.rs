//! Preference and reward losses against TRL and OpenRLHF, whose own methods made `golden/objectives/preference.json`.

use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_core::masked::StepCounts;
use rl_core::preference_loss::{
    KtoBaseline, NllTokens, PreferenceBatch, PreferenceObjective, ReferenceLogProbs, ReferenceUpdate,
    UnpairedObjective, ld_dpo_token_weights, preference_loss, unpaired_loss, wpo_weights,
};
use rl_core::reward_loss::bradley_terry_loss;
use rl_core::statistics::RunningStatistics;
use serde::Deserialize;

use crate::parity_table::{ParityRow, relative_error};

#[derive(Debug, Deserialize)]
struct Fixture {
    cases: Vec<Case>,
}

/// One call of a reference.
#[derive(Debug, Deserialize)]
struct Case {
    row: String,
    reference: String,
    version: String,
    loss: f64,
    #[serde(flatten)]
    inputs: Inputs,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "family", rename_all = "snake_case")]
enum Inputs {
    Pair(Box<PairInputs>),
    Reward {
        rewards: Vec<f64>,
        margins: Option<Vec<f64>>,
        centering_coef: f64,
        gradient: Vec<f64>,
        accuracy: Option<f64>,
    },
    /// Two parameters before and after the first update, and the steps of all updates.
    Update {
        policy: Vec<f64>,
        before: Vec<f64>,
        after: Vec<f64>,
        steps: Vec<u64>,
    },
    Unpaired {
        objective: UnpairedObjective,
        log_probs: Vec<f64>,
        ref_log_probs: Vec<f64>,
        desirable: Vec<bool>,
        mismatched: Option<Vec<f64>>,
        gradient: Vec<f64>,
        kl: Option<f64>,
    },
}

#[derive(Debug, Deserialize)]
struct PairInputs {
    objective: PreferenceObjective,
    /// How many tokens before the response each row of an answer begins with.
    prompt_tokens: usize,
    log_probs: Sides,
    ref_log_probs: Option<Sides>,
    log_sum_squares: Option<Sides>,
    gradient: Sides,
    rewards: Rewards,
}

/// Numbers per token: `[pairs][tokens]`, rows of any length.
#[derive(Debug, Deserialize)]
struct Sides {
    chosen: Vec<Vec<f64>>,
    rejected: Vec<Vec<f64>>,
}

/// Means that the reference logs.
#[derive(Debug, Deserialize)]
struct Rewards {
    chosen: f64,
    rejected: f64,
    accuracies: f64,
    margins: f64,
}

/// Largest error of one case.
fn error_of(case: &Case) -> f64 {
    match &case.inputs {
        Inputs::Pair(inputs) => pair_error(inputs, case.loss),
        Inputs::Update { policy, before, after, steps } => update_error(policy, before, after, steps),
        Inputs::Reward { rewards, margins, centering_coef, gradient, accuracy } => {
            let (chosen, rejected) = rewards.split_at(rewards.len() / 2);
            let ours = bradley_terry_loss(chosen, rejected, margins.as_deref(), *centering_coef, chosen.len()).unwrap();
            if accuracy.is_some() {
                assert_eq!(ours.accuracy(), *accuracy);
            }
            let ours_gradient = [ours.grad_chosen_rewards, ours.grad_rejected_rewards].concat();
            relative_error(&ours_gradient, gradient).max(relative_error(&[ours.loss], &[case.loss]))
        }
        Inputs::Unpaired { objective, log_probs, ref_log_probs, desirable, mismatched, gradient, kl } => {
            let mut sides = [RunningStatistics::default(); 2];
            for index in 0..log_probs.len() {
                sides[usize::from(desirable[index])].push(log_probs[index] - ref_log_probs[index]).unwrap();
            }
            let baseline = match mismatched {
                Some(ratios) => {
                    let mut statistics = RunningStatistics::default();
                    ratios.iter().for_each(|&ratio| statistics.push(ratio).unwrap());
                    KtoBaseline::from_mismatched(&statistics).unwrap()
                }
                None => KtoBaseline::from_other_side(&sides[1], &sides[0]).unwrap(),
            };
            let ours =
                unpaired_loss(log_probs, ref_log_probs, desirable, baseline, objective, log_probs.len()).unwrap();
            let baseline_error =
                kl.filter(|_| mismatched.is_some()).map_or(0.0, |kl| relative_error(&[baseline.desirable], &[kl]));
            relative_error(&ours.grad_log_probs, gradient)
                .max(relative_error(&[ours.loss], &[case.loss]))
                .max(baseline_error)
        }
    }
}

fn update_error(policy: &[f64], before: &[f64], after: &[f64], steps: &[u64]) -> f64 {
    let update = ReferenceUpdate::TRL;
    let ours: Vec<u64> = (1..=steps.last().unwrap() + 1).filter(|&step| update.should_update(step)).collect();
    assert_eq!(ours, steps);
    let mixed: Vec<f64> = policy.iter().zip(before).map(|(&policy, &before)| update.mix(policy, before)).collect();
    relative_error(&mixed, after)
}

/// The road of a trainer: sum the tokens, take the loss over sequences, give every token its share, add the supervised term.
fn pair_error(inputs: &PairInputs, expected: f64) -> f64 {
    let PairInputs { objective, prompt_tokens: prompt, log_probs, ref_log_probs, .. } = inputs;
    let pairs = log_probs.chosen.len();
    let length = |row: &Vec<f64>| row.len() - prompt;
    let lengths = |rows: &[Vec<f64>]| rows.iter().map(length).collect::<Vec<usize>>();
    let (chosen_lengths, rejected_lengths) = (lengths(&log_probs.chosen), lengths(&log_probs.rejected));
    let weights: Vec<(Vec<f64>, Vec<f64>)> = (0..pairs)
        .map(|pair| {
            ld_dpo_token_weights(chosen_lengths[pair], rejected_lengths[pair], objective.ld_alpha.unwrap_or(1.0))
                .unwrap()
        })
        .collect();
    let sums = |sides: &Sides| -> [Vec<f64>; 2] {
        let sum = |row: &[f64], weights: &[f64]| row[*prompt..].iter().zip(weights).map(|(x, weight)| x * weight).sum();
        [
            (0..pairs).map(|pair| sum(&sides.chosen[pair], &weights[pair].0)).collect(),
            (0..pairs).map(|pair| sum(&sides.rejected[pair], &weights[pair].1)).collect(),
        ]
    };
    let [chosen, rejected] = sums(log_probs);
    let reference = ref_log_probs.as_ref().map(sums);
    let answer_weights = |rows: &[Vec<f64>], squares: &[Vec<f64>]| {
        let flat = |rows: &[Vec<f64>]| rows.concat().into_iter().map(|x| x as f32).collect::<Vec<f32>>();
        let lengths: Vec<usize> = rows.iter().map(Vec::len).collect();
        let mask = vec![true; lengths.iter().sum()];
        wpo_weights(&flat(rows), &flat(squares), &mask, &lengths).unwrap()
    };
    let pair_weights: Option<Vec<f64>> = inputs.log_sum_squares.as_ref().map(|squares| {
        let chosen = answer_weights(&log_probs.chosen, &squares.chosen);
        let rejected = answer_weights(&log_probs.rejected, &squares.rejected);
        chosen.into_iter().zip(rejected).map(|(chosen, rejected)| chosen * rejected).collect()
    });
    let batch = PreferenceBatch {
        chosen_log_probs: &chosen,
        rejected_log_probs: &rejected,
        reference: reference.as_ref().map(|[chosen, rejected]| ReferenceLogProbs { chosen, rejected }),
        chosen_lengths: &chosen_lengths,
        rejected_lengths: &rejected_lengths,
        pair_weights: pair_weights.as_deref(),
    };
    let ours = preference_loss(&batch, objective, pairs).unwrap();
    let per_token = |gradients: &[f64], weights: &dyn Fn(usize) -> Vec<f64>| -> Vec<Vec<f64>> {
        let row = |pair: usize| {
            let response = weights(pair).into_iter().map(|weight| weight * gradients[pair]);
            std::iter::repeat_n(0.0, *prompt).chain(response).collect()
        };
        (0..pairs).map(row).collect()
    };
    let mut gradient = [
        per_token(&ours.grad_chosen_log_probs, &|pair| weights[pair].0.clone()),
        per_token(&ours.grad_rejected_log_probs, &|pair| weights[pair].1.clone()),
    ];
    let mut loss = ours.loss;
    if let Some(term) = objective.nll {
        let flat: Vec<f32> = log_probs.chosen.concat().into_iter().map(|x| x as f32).collect();
        let rows: Vec<usize> = log_probs.chosen.iter().map(Vec::len).collect();
        let covered = |token: usize| token >= *prompt || term.tokens == NllTokens::PromptAndResponse;
        let mask: Vec<bool> = rows.iter().flat_map(|&row| (0..row).map(covered)).collect();
        let step = StepCounts::of_micro_batch(&mask, &rows).unwrap();
        let weights = term.token_weights(&mask, &rows, &step).unwrap();
        let nll = cross_entropy_loss(&flat, &mask, CrossEntropyKind::Nll, &weights).unwrap();
        loss += nll.loss;
        let tokens = gradient[0].iter_mut().flatten();
        tokens.zip(nll.grad_log_probs).for_each(|(token, more)| *token += f64::from(more));
    }
    let statistics = ours.statistics;
    assert_eq!(statistics.num_clamped_ratios + statistics.num_clamped_scores, 0, "the references do not clamp");
    assert!((statistics.accuracy().unwrap() - inputs.rewards.accuracies).abs() < 1e-6);
    let mean = |sum: f64| sum / pairs as f64;
    let [chosen, rejected] = gradient.map(|rows| rows.concat());
    let logged =
        [mean(statistics.sum_chosen_reward), mean(statistics.sum_rejected_reward), statistics.mean_margin().unwrap()];
    let expected_logged = [inputs.rewards.chosen, inputs.rewards.rejected, inputs.rewards.margins];
    [
        relative_error(&[loss], &[expected]),
        relative_error(&chosen, &inputs.gradient.chosen.concat()),
        relative_error(&rejected, &inputs.gradient.rejected.concat()),
        relative_error(&logged, &expected_logged),
    ]
    .into_iter()
    .fold(0.0, |largest: f64, error| if error > largest || error.is_nan() { error } else { largest })
}

/// What a reference does otherwise than ours, or than its fellow, by default; and the setting that reproduces it.
fn difference(row: &str, reference: &str) -> &'static str {
    let (kind, option) = row.split_once(", ").unwrap_or((row, ""));
    match (kind, option, reference) {
        ("bradley_terry", "margins", "TRL RewardTrainer") => "used whenever the data has a margin: `margins`",
        ("bradley_terry", "margins", "OpenRLHF PairWiseLoss") => "used only if its margin flag is set: `margins`",
        ("bradley_terry", _, "OpenRLHF LogExpLoss") => {
            "overflows from -88 in f32 and ignores margins; ours does neither"
        }
        (_, "nll", "TRL DPOTrainer") => {
            "token mean per micro-batch: `nll.reduction` `token_mean_local`; ours over the step"
        }
        (_, "nll", "OpenRLHF DPOLoss") => "`nll.reduction` `seq_mean_token_mean`",
        ("orpo", _, _) => {
            "supervised term over the prompt too: `nll.tokens` `prompt_and_response`; in f32; infinite at log-probability 0"
        }
        ("cpo_sigmoid" | "cpo_hinge" | "cpo_ipo" | "simpo", "", "TRL CPOTrainer") => {
            "adds the `nll` term unless `cpo_alpha` is 0"
        }
        (_, "forward_kl", _) => "exponent not clamped; ours stops at 80 and counts it",
        (_, "alpha", "TRL DPOTrainer") => {
            "f32 and half precision only, exponent up to 80 or 11: `f_divergence.max_exponent`"
        }
        ("alpha_po", ..) | (_, "alpha" | "alpha, nll", "TRL CPOTrainer") => {
            "exponent not clamped; ours stops at 80 and counts it"
        }
        ("sigmoid", "", "TRL DPOTrainer") => {
            "ignores its `label_smoothing`; with smoothing ours is `conservative_sigmoid`"
        }
        ("ipo", "", "TRL DPOTrainer") => "length-averaged: `scale` `mean`",
        ("ipo", "", "OpenRLHF DPOLoss") => "sums: `scale` `sum`",
        ("discopop", "", _) => "0 times infinity for very negative arguments; ours is one exponential",
        ("aot" | "aot_unpaired", "", _) => "sorts each micro-batch; ours the step",
        (_, "wpo", _) => "multiplies a supervised term by the mean pair weight as well: put it into `nll.coef`",
        ("kto", "", "TRL KTOTrainer") => "baseline over the micro-batch; ours over the step",
        ("kto_even_sampling", ..) => "gradient through the baselines: `baseline_gradient`",
        _ => "",
    }
}

/// One row per objective and reference.
pub fn rows() -> Vec<ParityRow> {
    let fixture: Fixture = serde_json::from_str(include_str!("../golden/objectives/preference.json")).unwrap();
    let mut rows: Vec<ParityRow> = Vec::new();
    for case in &fixture.cases {
        let error = error_of(case);
        assert!(!error.is_nan(), "{case:?}");
        let same = |row: &&mut ParityRow| row.objective == case.row && row.reference == case.reference;
        if let Some(row) = rows.iter_mut().find(same) {
            row.largest_error = row.largest_error.max(error);
            continue;
        }
        rows.push(ParityRow {
            objective: case.row.clone(),
            reference: case.reference.clone(),
            version: case.version.clone(),
            largest_error: error,
            difference: difference(&case.row, &case.reference).into(),
        });
    }
    rows
}
