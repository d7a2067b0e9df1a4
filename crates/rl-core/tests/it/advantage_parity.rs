//! Advantages, divergences and schedules against verl, OpenRLHF, TRL and transformers, whose own code made
//! `golden/objectives/advantage.json`.

use std::collections::BTreeMap;

use rl_core::advantages::{
    AdvantageEstimator, GroupEstimator, RewardAggregation, StdFloor, Whitening, combine_rewards, whiten,
};
use rl_core::kl::{KlController, KlCorrection, KlEstimator, KlPenalty, corrected_kl_loss, kl_estimates, kl_loss};
use rl_core::returns::{MaskedTime, discounted_returns, token_gae};
use rl_core::rewards::{OverlongPenalty, RewardInputs, RewardShaping, RewardStep};
use rl_core::schedule::{ScheduleConfig, Warmup};
use serde::Deserialize;
use serde_json::Value;

use crate::parity_table::{ParityRow, relative_error};

#[derive(Debug, Deserialize)]
struct Fixture {
    versions: BTreeMap<String, String>,
    cases: Vec<Case>,
}

/// One call of a reference.
#[derive(Debug, Deserialize)]
struct Case {
    objective: String,
    reference: String,
    settings: Value,
    inputs: Value,
    outputs: Value,
}

/// All numbers of a nested array, in order; those that are absent are `None`.
fn flat(value: &Value) -> Vec<Option<f64>> {
    match value {
        Value::Array(items) => items.iter().flat_map(flat).collect(),
        Value::Bool(flag) => vec![Some(f64::from(u8::from(*flag)))],
        number => vec![number.as_f64()],
    }
}

fn numbers(value: &Value) -> Vec<f64> {
    flat(value).into_iter().map(|number| number.unwrap_or_else(|| panic!("a number is missing in {value}"))).collect()
}

fn narrow(value: &Value) -> Vec<f32> {
    numbers(value).into_iter().map(|number| number as f32).collect()
}

fn flags(value: &Value) -> Vec<bool> {
    numbers(value).into_iter().map(|number| number != 0.0).collect()
}

fn wide(values: &[f32]) -> Vec<f64> {
    values.iter().map(|&value| value.into()).collect()
}

impl Case {
    fn setting(&self, name: &str) -> f64 {
        self.settings[name].as_f64().unwrap_or_else(|| panic!("{name} is missing in {:?}", self.settings))
    }

    fn group_size(&self) -> usize {
        self.setting("group_size") as usize
    }

    fn mask(&self) -> Vec<bool> {
        flags(&self.inputs["mask"])
    }

    /// Tokens per row.
    fn seq(&self) -> usize {
        self.inputs["mask"][0].as_array().unwrap().len()
    }

    /// Error of `ours` against the output `name`.
    fn error(&self, name: &str, ours: &[f64]) -> f64 {
        relative_error(ours, &numbers(&self.outputs[name]))
    }

    /// Runs shaping and estimator over the inputs, and compares advantages and returns.
    fn pipeline(&self, shaping: &RewardShaping, estimator: AdvantageEstimator) -> f64 {
        let (rewards, mask, kl) = (flat(&self.inputs["rewards"]), self.mask(), narrow(&self.inputs["kl"]));
        let truncated = self.inputs.get("truncated").map(flags);
        let greedy = self.inputs.get("greedy_rewards").map(flat);
        let values = self.inputs.get("values").map(narrow);
        let inputs = RewardInputs {
            kl: Some(&kl),
            kl_coef: self.setting("kl_coef"),
            truncated: truncated.as_deref(),
            greedy_rewards: greedy.as_deref(),
            ..RewardInputs::new(&rewards, &mask, self.seq(), self.group_size())
        };
        let ours = estimator.whitened_advantages(shaping, &inputs, values.as_deref()).unwrap();
        assert_eq!(ours.shaped.response_mask, mask);
        let error = self.error("advantages", &wide(&ours.advantages));
        let compares_returns = !matches!(estimator, AdvantageEstimator::Group { .. });
        error.max(if compares_returns { self.error("returns", &wide(&ours.returns)) } else { 0.0 })
    }
}

fn group(estimator: GroupEstimator) -> AdvantageEstimator {
    AdvantageEstimator::Group { estimator, whitening: None }
}

fn relative(std_epsilon: f64) -> GroupEstimator {
    GroupEstimator::GroupRelative { std_epsilon, variance_floor: 0.0 }
}

fn verl_error(case: &Case) -> f64 {
    let whitening = Some(Whitening::unbiased());
    let masked_time = MaskedTime::StandsStill;
    let estimator = match case.objective.as_str() {
        "gae" => AdvantageEstimator::Gae { gamma: 0.9, gae_lambda: 0.95, masked_time, whitening },
        "reinforce_whitened" => AdvantageEstimator::Reinforce { gamma: 0.95, masked_time, whitening },
        "mean_baseline_whitened" => AdvantageEstimator::Group { estimator: GroupEstimator::MeanBaseline, whitening },
        "group_relative" => group(relative(1e-6)),
        "group_relative_floored" => group(GroupEstimator::GroupRelative { std_epsilon: 1e-6, variance_floor: 1e-6 }),
        "mean_baseline" => group(GroupEstimator::MeanBaseline),
        "leave_one_out" => group(GroupEstimator::LeaveOneOut),
        "length_weighted_baseline" => group(GroupEstimator::LengthWeightedBaseline),
        "gradient_scaled" => group(GroupEstimator::GradientScaled { divisor: 1.5 }),
        "best_of_group" => group(GroupEstimator::BestOfGroup { std_epsilon: Some(1e-6) }),
        "best_of_group_undivided" => group(GroupEstimator::BestOfGroup { std_epsilon: None }),
        "greedy_baseline" => group(GroupEstimator::GreedyBaseline),
        other => panic!("no comparison for {other}"),
    };
    let per_token = matches!(case.objective.as_str(), "gae" | "reinforce_whitened" | "greedy_baseline");
    let shaping = if per_token {
        RewardShaping { steps: vec![RewardStep::Baseline, RewardStep::TokenKl] }
    } else {
        RewardShaping::kl_baseline()
    };
    case.pipeline(&shaping, estimator)
}

fn openrlhf_error(case: &Case) -> f64 {
    let clip = case.setting("clip");
    let mut steps = Vec::new();
    if let Some(buffer) = case.settings["buffer"].as_u64() {
        let penalty = OverlongPenalty {
            max_length: case.setting("max_length") as usize,
            buffer: buffer as usize,
            factor: case.setting("factor"),
            uncapped: false,
        };
        steps.push(RewardStep::Overlong { penalty });
        let stop = case.setting("stop");
        steps.push(if stop < 0.0 {
            RewardStep::ReplaceTruncated { reward: stop }
        } else {
            RewardStep::ScaleTruncated { factor: stop }
        });
    }
    let shaping = RewardShaping::baseline_clip_kl(-clip, clip).after(&steps);
    let whitening = Some(Whitening { divide_by_std: case.settings["std_norm"] == true, ..Whitening::biased() });
    let (gamma, masked_time) = (case.setting("gamma"), MaskedTime::Passes);
    let estimator = match case.objective.as_str() {
        "pipeline_gae" => AdvantageEstimator::Gae { gamma, gae_lambda: 0.95, masked_time, whitening },
        "pipeline_reinforce" => AdvantageEstimator::Reinforce { gamma, masked_time, whitening },
        "pipeline_reinforce_baseline" => {
            AdvantageEstimator::Group { estimator: GroupEstimator::MeanBaseline, whitening }
        }
        "pipeline_dr_grpo" => group(GroupEstimator::MeanBaseline),
        "pipeline_rloo" => group(GroupEstimator::LeaveOneOut),
        "pipeline_group_norm" => group(relative(1e-9)),
        "pipeline_flash_reinforce" => group(GroupEstimator::BatchMeanBaseline),
        other => panic!("no comparison for {other}"),
    };
    case.pipeline(&shaping, estimator)
}

/// The step-by-step form of TRL's PPO, whose masks for rewards and for advantages differ.
fn trl_ppo_error(case: &Case) -> f64 {
    let rewards = flat(&case.inputs["rewards"]);
    let (mask, seq) = (flags(&case.inputs["wide_mask"]), case.seq());
    let (kl, values) = (narrow(&case.inputs["kl"]), narrow(&case.inputs["values"]));
    let truncated = flags(&case.inputs["truncated"]);
    let mut shaping = RewardShaping::missing_end_kl(case.setting("penalty"));
    if case.settings["whiten"] == true {
        let whitening = Whitening { shift_mean: false, ..Whitening::unbiased() };
        shaping.steps.push(RewardStep::TokenWhitening { whitening });
    }
    let inputs = RewardInputs {
        kl: Some(&kl),
        kl_coef: case.setting("kl_coef"),
        truncated: Some(&truncated),
        ..RewardInputs::new(&rewards, &mask, seq, 1)
    };
    let shaped = shaping.shape(&inputs, None).unwrap();
    let (gamma, gae_lambda) = (case.setting("gamma"), case.setting("gae_lambda"));
    let gae =
        token_gae(&shaped.token_rewards, &values, None, &mask, seq, gamma, gae_lambda, MaskedTime::Passes).unwrap();
    let whitened = whiten(&gae.advantages, &case.mask(), Whitening::unbiased()).unwrap();
    case.error("advantages", &wide(&whitened)).max(case.error("returns", &wide(&gae.returns)))
}

/// One advantage per sample from one or two rewards.
fn combined_error(case: &Case) -> f64 {
    let rewards: Vec<Vec<Option<f64>>> = case.inputs["rewards"].as_array().unwrap().iter().map(flat).collect();
    let rewards: Vec<&[Option<f64>]> = rewards.iter().map(Vec::as_slice).collect();
    let (weights, group_size) = (numbers(&case.settings["weights"]), case.group_size());
    let batch = rewards[0].len();
    let std_epsilon = case.settings["std_epsilon"].as_f64().unwrap_or(0.0);
    let combine = |aggregation| combine_rewards(aggregation, &rewards, &weights, group_size).unwrap();
    let sum = || combine(RewardAggregation::SumThenNormalize);
    let mask = case.inputs.get("mask").map_or_else(|| vec![true; batch], flags);
    let seq = mask.len() / batch;
    let kl = case.inputs.get("kl").map(narrow);
    let returns = AdvantageEstimator::Reinforce { gamma: 1.0, masked_time: MaskedTime::StandsStill, whitening: None };
    let samples = |whitening| RewardStep::SampleWhitening { whitening };
    let (rewards, shaping, estimator) = match case.objective.as_str() {
        "sum_then_group" => (sum(), RewardShaping::baseline_only(), group(relative(std_epsilon))),
        "sum_then_batch" => (sum(), RewardShaping::baseline_only(), group(GroupEstimator::BatchScaled { std_epsilon })),
        "sum_then_none" => (sum(), RewardShaping::baseline_only(), group(GroupEstimator::MeanBaseline)),
        "normalize_then_sum" if case.reference == "verl" => {
            let whitening = Some(Whitening::unbiased());
            let (gamma, masked_time) = (1.0, MaskedTime::StandsStill);
            let estimator = AdvantageEstimator::Reinforce { gamma, masked_time, whitening };
            (combine(RewardAggregation::NormalizeThenSum { std_epsilon }), RewardShaping { steps: vec![] }, estimator)
        }
        "normalize_then_sum" => {
            let shaping = RewardShaping { steps: vec![samples(Whitening::standardized(std_epsilon))] };
            (combine(RewardAggregation::NormalizeThenSum { std_epsilon }), shaping, returns)
        }
        "clip_kl_leave_one_out" => {
            let clip = numbers(&case.settings["clip"]);
            let mut shaping = RewardShaping::clip_kl_baseline(clip[0], clip[1]);
            if case.settings["whiten"] == true {
                shaping.steps.push(samples(Whitening::standardized(1e-4)));
            }
            (sum(), shaping, group(GroupEstimator::LeaveOneOut))
        }
        other => panic!("no comparison for {other}"),
    };
    let kl_coef = case.settings["kl_coef"].as_f64().unwrap_or(0.0);
    let inputs = RewardInputs { kl: kl.as_deref(), kl_coef, ..RewardInputs::new(&rewards, &mask, seq, group_size) };
    let ours = estimator.whitened_advantages(&shaping, &inputs, None).unwrap();
    // The references give one number per sample or repeat it over the tokens.
    let tokens = wide(&ours.advantages);
    if case.outputs["advantages"][0].is_array() {
        return case.error("advantages", &tokens);
    }
    let firsts: Vec<f64> = tokens.chunks(seq).map(|row| row[0]).collect();
    case.error("advantages", &firsts)
}

fn kl_error(case: &Case) -> f64 {
    let kind = case.objective.split('_').next().unwrap();
    let estimator = match kind {
        "k1" => KlEstimator::K1,
        "k2" => KlEstimator::K2,
        "k3" => KlEstimator::K3,
        "abs" => KlEstimator::Abs,
        other => panic!("no estimator {other}"),
    };
    let straight_through = case.objective.ends_with("straight_through");
    let penalty = KlPenalty { estimator, clamp: case.settings["clamp"].as_f64(), straight_through };
    let (log_probs, reference) = (narrow(&case.inputs["log_probs"]), narrow(&case.inputs["ref_log_probs"]));
    let mask = vec![true; log_probs.len()];
    if !case.objective.ends_with("corrected") {
        let values = kl_estimates(&log_probs, &reference, &mask, penalty).unwrap();
        let gradient = kl_loss(&log_probs, &reference, &mask, penalty, 1.0, 1).unwrap().grad_log_probs;
        return case.error("values", &wide(&values)).max(case.error("gradient", &wide(&gradient)));
    }
    let correction = if case.reference == "OpenRLHF" {
        KlCorrection::StraightThrough { max_weight: 10.0 }
    } else {
        KlCorrection::Ratio
    };
    let old = narrow(&case.inputs["old_log_probs"]);
    let (mut values, mut gradient) = (Vec::new(), Vec::new());
    for index in 0..mask.len() {
        let at = index..index + 1;
        let (log_probs, old, reference) = (&log_probs[at.clone()], &old[at.clone()], &reference[at]);
        let loss = corrected_kl_loss(log_probs, old, reference, &[true], penalty, correction, 1.0, 1).unwrap();
        values.push(loss.loss);
        gradient.push(loss.grad_log_probs[0].into());
    }
    case.error("values", &values).max(case.error("gradient", &gradient))
}

fn whitening_error(case: &Case) -> f64 {
    let (values, mask) = (narrow(&case.inputs["values"]), case.mask());
    let ours = if case.objective == "whitening_biased_rows" {
        let rows = values.chunks(case.seq()).zip(mask.chunks(case.seq()));
        rows.flat_map(|(values, mask)| whiten(values, mask, Whitening::biased()).unwrap()).collect()
    } else {
        let shift_mean = case.settings["shift_mean"] == true;
        whiten(&values, &mask, Whitening { shift_mean, ..Whitening::unbiased() }).unwrap()
    };
    case.error("values", &wide(&ours))
}

fn schedule_error(case: &Case) -> f64 {
    let (learning_rate, total_steps) = (2.0, None);
    let warmup = Warmup::Steps(case.setting("warmup") as usize);
    let config = match case.objective.as_str() {
        "inverse_sqrt" => {
            let timescale = case.settings["timescale"].as_u64().map(|steps| steps as usize);
            ScheduleConfig::InverseSqrt { learning_rate, warmup, timescale }
        }
        "cosine" => {
            ScheduleConfig::Cosine { learning_rate, warmup, total_steps, floor_fraction: case.setting("floor") }
        }
        "linear" => ScheduleConfig::Linear { learning_rate, warmup, total_steps, floor_fraction: 0.0 },
        other => panic!("no schedule {other}"),
    };
    let schedule = config.resolve(100).unwrap();
    let ours: Vec<f64> =
        numbers(&case.inputs["steps"]).iter().map(|&step| schedule.learning_rate(step as usize)).collect();
    case.error("rates", &ours)
}

fn controller_error(case: &Case) -> f64 {
    let (target, horizon) = (case.setting("target"), case.setting("horizon"));
    let mut controller = KlController::Adaptive { kl_coef: case.setting("kl_coef"), target, horizon };
    let mut ours = Vec::new();
    for kl in numbers(&case.inputs["kl"]) {
        controller.update(kl, case.setting("num_samples") as usize).unwrap();
        ours.push(controller.kl_coef());
    }
    case.error("kl_coef", &ours)
}

fn error_of(case: &Case) -> f64 {
    let objective = case.objective.as_str();
    match case.reference.as_str() {
        "transformers" => schedule_error(case),
        "TRL PPO" => trl_ppo_error(case),
        _ if objective.starts_with("whitening") => whitening_error(case),
        _ if objective == "adaptive_kl" => controller_error(case),
        _ if objective.starts_with('k') || objective.starts_with("abs") => kl_error(case),
        "TRL GRPO" | "TRL RLOO" => combined_error(case),
        "verl" if objective == "normalize_then_sum" => combined_error(case),
        "OpenRLHF" => openrlhf_error(case),
        _ => verl_error(case),
    }
}

/// What a reference does otherwise by default, and what reproduces it.
fn difference(objective: &str, reference: &str) -> &'static str {
    match (objective, reference) {
        ("group_relative" | "mean_baseline" | "best_of_group", "verl") => {
            "baseline contains the KL: `sample_kl` before `baseline`; a group of one keeps its reward, ours is refused"
        }
        ("group_relative_floored", _) => "versions with a variance floor of 1e-6: `variance_floor`",
        ("gae", "verl") | ("reinforce_whitened", "verl") => {
            "unbiased whitening: `Whitening::unbiased`; masked tokens take no time, as ours"
        }
        ("pipeline_gae" | "pipeline_reinforce", "OpenRLHF") => {
            "masked tokens take time: `masked_time = passes`; biased whitening: `Whitening::biased`"
        }
        ("pipeline_rloo" | "pipeline_group_norm" | "pipeline_dr_grpo" | "pipeline_reinforce_baseline", _) => {
            "clips the difference from the baseline: `baseline_clip_kl`"
        }
        ("clip_kl_leave_one_out", _) => {
            "KL summed before the baseline: `clip_kl_baseline`; unscorable samples stay in the loss mask"
        }
        ("pipeline_ppo", _) => {
            "score one place after the last token: a mask with one token more for rewards and values"
        }
        ("k1" | "k2", "OpenRLHF") => "clamped at 10: `clamp`",
        ("k3", "verl" | "OpenRLHF") => "clamped at 10: `clamp`; the clamp of the exponent changes nothing",
        ("normalize_then_sum", "verl") => "whitens over tokens: `whitening` of the estimator",
        ("normalize_then_sum", _) => "whitens over samples: `sample_whitening`",
        ("inverse_sqrt", _) => "",
        _ => "",
    }
}

/// One row per objective and reference.
pub fn rows() -> Vec<ParityRow> {
    let fixture: Fixture = serde_json::from_str(include_str!("../golden/objectives/advantage.json")).unwrap();
    let mut rows: Vec<ParityRow> = Vec::new();
    for case in &fixture.cases {
        let error = error_of(case);
        assert!(!error.is_nan(), "{case:?}");
        let same = |row: &&mut ParityRow| row.objective == case.objective && row.reference == case.reference;
        if let Some(row) = rows.iter_mut().find(same) {
            row.largest_error = row.largest_error.max(error);
            continue;
        }
        let package = case.reference.split(' ').next().unwrap();
        let version = fixture.versions.get(&case.reference).unwrap_or_else(|| &fixture.versions[package]);
        rows.push(ParityRow {
            objective: case.objective.clone(),
            reference: case.reference.clone(),
            version: version.clone(),
            largest_error: error,
            difference: difference(&case.objective, &case.reference).into(),
        });
    }
    rows
}

#[test]
fn the_comparison_sees_the_switches() {
    // The same cases under the other setting are far away, so the rows above could fail.
    let fixture: Fixture = serde_json::from_str(include_str!("../golden/objectives/advantage.json")).unwrap();
    let far = |objective: &str, reference: &str, error: &dyn Fn(&Case) -> f64| {
        let cases = fixture.cases.iter().filter(|case| case.objective == objective && case.reference == reference);
        let largest = cases.map(error).fold(0.0, f64::max);
        assert!(largest > 1e-3, "{objective} against {reference}: {largest}");
    };
    let (masked_time, gae_lambda) = (MaskedTime::Passes, 0.95);
    let whitening = Some(Whitening::unbiased());
    let passing = AdvantageEstimator::Gae { gamma: 0.9, gae_lambda, masked_time, whitening };
    far("gae", "verl", &|case| case.pipeline(&RewardShaping { steps: vec![RewardStep::TokenKl] }, passing));
    let estimator = group(GroupEstimator::LeaveOneOut);
    far("pipeline_rloo", "OpenRLHF", &|case| case.pipeline(&RewardShaping::clip_baseline_kl(-2.0, 2.0), estimator));
    far("group_relative_floored", "verl vectorised", &|case| {
        case.pipeline(&RewardShaping::kl_baseline(), group(relative(1e-6)))
    });
    far("whitening_unbiased", "verl", &|case| {
        let floor = StdFloor::AddToStd(0.1);
        let values = whiten(&narrow(&case.inputs["values"]), &case.mask(), Whitening { floor, ..Whitening::biased() });
        case.error("values", &wide(&values.unwrap()))
    });
    let returns = discounted_returns(&[1.0; 2], &[true; 2], 2, 1.0, MaskedTime::Passes).unwrap();
    assert_eq!(returns, [2.0, 1.0]);
}
