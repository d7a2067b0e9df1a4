//! Preference and reward losses against TRL and OpenRLHF, whose own methods made `golden/objectives/preference.json`.

use rl_core::reward_loss::bradley_terry_loss;
use serde::Deserialize;
use std::collections::BTreeMap;

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
    settings: serde_json::Value,
    inputs: serde_json::Value,
    loss: f64,
    gradients: serde_json::Value,
    accuracy: Option<f64>,
}

/// All numbers of a nested array, in order.
fn numbers(value: &serde_json::Value) -> Vec<f64> {
    match value {
        serde_json::Value::Array(items) => items.iter().flat_map(numbers).collect(),
        number => vec![number.as_f64().unwrap_or_else(|| panic!("{number} is not a number"))],
    }
}

/// Largest error of one case.
fn error_of(case: &Case) -> f64 {
    match case.objective.as_str() {
        "bradley_terry" => reward_error(case),
        other => panic!("no comparison for {other}"),
    }
}

fn reward_error(case: &Case) -> f64 {
    let rewards = numbers(&case.inputs["rewards"]);
    let (chosen, rejected) = rewards.split_at(rewards.len() / 2);
    let margins = case.inputs.get("margins").map(numbers);
    let centering = case.settings["centering_coef"].as_f64().unwrap();
    let ours = bradley_terry_loss(chosen, rejected, margins.as_deref(), centering, chosen.len()).unwrap();
    if let Some(accuracy) = case.accuracy {
        assert_eq!(ours.accuracy(), Some(accuracy));
    }
    let gradients = [ours.grad_chosen_rewards, ours.grad_rejected_rewards].concat();
    relative_error(&gradients, &numbers(&case.gradients["rewards"])).max(relative_error(&[ours.loss], &[case.loss]))
}

/// The differences of a reference that its numbers do not show, and what reproduces them.
fn difference(objective: &str, reference: &str) -> &'static str {
    match (objective, reference) {
        ("bradley_terry", "TRL RewardTrainer") => "uses a margin whenever the data has one: `margins`",
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
        let same = |row: &&mut ParityRow| row.objective == case.objective && row.reference == case.reference;
        if let Some(row) = rows.iter_mut().find(same) {
            row.largest_error = row.largest_error.max(error);
            continue;
        }
        let package = case.reference.split(' ').next().unwrap();
        rows.push(ParityRow {
            objective: case.objective.clone(),
            reference: case.reference.clone(),
            version: fixture.versions[package].clone(),
            largest_error: error,
            difference: difference(&case.objective, &case.reference).into(),
        });
    }
    rows
}
