//! The report's charts, drawn from [`Numbers`].

use rl_track::plot::{Bar, BarChart, Category, Series};

use super::numbers::{Numbers, SplitNumbers, VariantRuns};
use crate::report::drawing::{SIZE, bar, line, step_chart};

/// Every chart with the name of its file.
pub(super) fn all(numbers: &Numbers) -> Vec<(String, String)> {
    let mut charts = Vec::new();
    for split in &numbers.splits {
        charts.push((format!("accuracy-{}", split.split), accuracy(split).to_svg()));
    }
    charts.push(("gains".into(), gains(numbers).to_svg()));
    let loss = curves(numbers, |runs| runs.sft.train("loss"), 1.0);
    charts.push(("sft-loss".into(), step_chart(SFT_TITLE, "loss (nats per token)", "SFT step", loss).to_svg()));
    for (name, title, y_label, metric, scale) in RL_CHARTS {
        let series = curves(numbers, |runs| runs.rl.train(metric), scale);
        if !series.is_empty() {
            charts.push((name.into(), step_chart(title, y_label, "RL step", series).to_svg()));
        }
    }
    charts
}

const SFT_TITLE: &str = "Loss of SFT by step";

/// File, title, axis, metric and factor of each chart of reinforcement learning.
const RL_CHARTS: [(&str, &str, &str, &str, f64); 4] = [
    ("rl-accuracy", "Accuracy of sampled answers by RL step", "right (%)", "success_rate", 100.0),
    (
        "rl-uninformative",
        "Answers of groups with equal rewards by RL step",
        "answers (%)",
        "zero_advantage_fraction",
        100.0,
    ),
    ("rl-length", "Length of sampled answers by RL step", "tokens", "response_tokens_per_turn", 1.0),
    ("rl-entropy", "Entropy of the policy by RL step", "entropy (nats per token)", "entropy", 1.0),
];

/// Accuracy before and after reinforcement learning.
fn accuracy(split: &SplitNumbers) -> BarChart {
    let missing = || Bar::new(f64::NAN);
    let base = Category { label: "before SFT".into(), bars: vec![bar(&split.base.accuracy), missing()] };
    let variants = split.variants.iter().map(|variant| Category {
        label: variant.label.clone(),
        bars: vec![bar(&variant.sft.accuracy), bar(&variant.rl.accuracy)],
    });
    BarChart {
        title: format!("Problems answered rightly, {}", split.label),
        y_label: "right (%)".into(),
        series: vec!["before RL".into(), "after RL".into()],
        categories: [base].into_iter().chain(variants).collect(),
        y_range: Some((0.0, 100.0)),
        decimals: Some(1),
        size: SIZE,
        ..BarChart::default()
    }
}

/// What reinforcement learning gained.
fn gains(numbers: &Numbers) -> BarChart {
    let labels = numbers.variants.iter().enumerate();
    let categories = labels.map(|(index, variant)| {
        let gain = |split: &SplitNumbers| {
            let test = &split.variants[index].gain;
            Bar {
                value: 100.0 * test.difference,
                interval: Some((100.0 * test.difference_low, 100.0 * test.difference_high)),
            }
        };
        Category { label: variant.label.clone(), bars: numbers.splits.iter().map(gain).collect() }
    });
    BarChart {
        title: "Gain from reinforcement learning".into(),
        y_label: "gain (points)".into(),
        series: numbers.splits.iter().map(|split| split.label.clone()).collect(),
        categories: categories.collect(),
        decimals: Some(1),
        size: SIZE,
        ..BarChart::default()
    }
}

/// One curve per kind of data that has it.
fn curves(numbers: &Numbers, pick: impl Fn(&VariantRuns) -> Option<&[(u64, f64)]>, scale: f64) -> Vec<Series> {
    let variants = numbers.variants.iter();
    variants.filter_map(|runs| Some(line(&runs.label, pick(runs)?, scale))).collect()
}
