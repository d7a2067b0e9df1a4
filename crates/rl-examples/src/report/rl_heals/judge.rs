//! Holds each claim against the numbers: which models, split and hands a claim is about.

use std::collections::BTreeMap;

use anyhow::Result;
use rl_eval::PairedTest;

use super::charts::STARTS;
use super::claims::{self, Claim, LossMinimum};
use super::config::ReportConfig;
use super::inputs::Inputs;
use super::numbers::{RlNumbers, SftNumbers, checkpoints};
use super::weights::{self, WeightNumbers};
use crate::report::records::{model, result};

/// All claims, in the order of the page.
///
/// # Errors
/// A stage, split or decoding that the evaluations do not hold, or models that played different hands.
pub(super) fn judge(
    config: &ReportConfig,
    inputs: &Inputs,
    sft: &SftNumbers,
    rl: &BTreeMap<String, RlNumbers>,
    weights: &WeightNumbers,
) -> Result<Vec<Claim>> {
    let stages = &config.stages;
    let label = |name: &str| {
        let labelled = stages.labelled();
        labelled.iter().find(|(model, _)| *model == name).map_or(String::new(), |(_, label)| (*label).to_owned())
    };
    let test = |before: &str, after: &str, split: &str| -> Result<PairedTest> {
        let of = |name: &str| result(model(&inputs.final_evaluation, name)?, split, &config.decoding);
        Ok(PairedTest::new((&label(before), of(before)?), (&label(after), of(after)?))?)
    };
    let (id, ood) = (config.splits.id.as_str(), config.splits.ood.as_str());
    let best_to_last = test(&stages.best, &stages.last, ood)?;
    let last_to_rl = test(&stages.last, &stages.rl_from_last, ood)?;
    let best_to_rl = test(&stages.best, &stages.rl_from_last, ood)?;
    let is_same = sft.best == sft.last;
    let start_to_best = test(&stages.pretrained, &stages.best, ood)?;
    let id_change = test(&stages.best, &stages.last, id)?;
    let forgetting = claims::forgetting(is_same, &start_to_best, &best_to_last, &id_change);
    let recovery = claims::recovery(forgetting.verdict, &last_to_rl, &best_to_rl);
    let (peak_step, num_checkpoints, minima) = loss_minima(config, inputs, sft)?;
    let skewness = |(key, label)| rl.get(key).map(|run: &RlNumbers| (label, run.advantages.skewness));
    let skewness: Vec<(&str, Option<f64>)> = STARTS.into_iter().filter_map(skewness).collect();
    Ok(vec![
        forgetting,
        recovery,
        claims::ceiling(&best_to_rl),
        claims::early_start(&test(&stages.best, &stages.rl_from_best, ood)?),
        claims::window(&skewness),
        claims::loss_misses_peak(peak_step, num_checkpoints, &minima),
        weights::stable_values(weights),
        weights::rotating_vectors(weights),
    ])
}

/// Step of the best out-of-distribution success among the checkpoints that have held-out losses, how many these are,
/// and where each loss is least.
fn loss_minima(config: &ReportConfig, inputs: &Inputs, sft: &SftNumbers) -> Result<(u64, usize, Vec<LossMinimum>)> {
    let ood = config.splits.ood.as_str();
    let mut with_loss = Vec::new();
    for (step, evaluation) in checkpoints(config, inputs) {
        let has_loss = |curve: &Vec<(u64, f64)>| curve.iter().any(|(at, _)| *at == step);
        if !sft.held_out_loss.is_empty() && sft.held_out_loss.values().all(has_loss) {
            with_loss.push((step, result(evaluation, ood, &config.decoding)?));
        }
    }
    // Of equals the earlier one, as the evaluation chooses.
    let Some(first) = with_loss.first() else { return Ok((sft.best_step, 0, Vec::new())) };
    let mut peak = first;
    for candidate in &with_loss {
        if peak.1.first_attempt.rate < candidate.1.first_attempt.rate {
            peak = candidate;
        }
    }
    let mut minima = Vec::new();
    for (split, curve) in &sft.held_out_loss {
        let scored = curve.iter().filter(|(step, _)| with_loss.iter().any(|(at, _)| at == step));
        let Some(least) = scored.min_by(|left, right| left.1.total_cmp(&right.1)) else { continue };
        let Some(there) = with_loss.iter().find(|(step, _)| *step == least.0) else { continue };
        let names = (format!("step-{:06}", peak.0), format!("step-{:06}", there.0));
        let test = PairedTest::new((&names.0, peak.1), (&names.1, there.1))?;
        minima.push(LossMinimum { split: split.clone(), step: least.0, loss: least.1, test });
    }
    Ok((peak.0, with_loss.len(), minima))
}
