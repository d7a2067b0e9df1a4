//! The report's charts, drawn from [`Numbers`].

use std::collections::BTreeSet;

use rl_track::plot::{Bar, BarChart, Category, LineChart, Series, Size};

use super::numbers::Numbers;
use crate::report::drawing::{SIZE, bar, line, step_chart};
use crate::report::runs::RunNumbers;

/// Every chart with the name of its file.
pub(super) fn all(numbers: &Numbers) -> Vec<(&'static str, String)> {
    let mut charts = vec![
        ("obedience", obedience(numbers).to_svg()),
        ("obedience-by-kind", by_kind(numbers).to_svg()),
        ("sft-loss", losses(&numbers.sft).to_svg()),
        ("preferences", preferences(numbers).to_svg()),
    ];
    for (name, title, y_label, metric, scale) in RL_CHARTS {
        let chart = rl(numbers, title, y_label, metric, scale);
        if !chart.series.is_empty() {
            charts.push((name, chart.to_svg()));
        }
    }
    charts
}

/// File, title, axis, metric and factor of each chart of reinforcement learning.
const RL_CHARTS: [(&str, &str, &str, &str, f64); 4] = [
    ("rl-reward", "Mean reward of sampled answers by RL step", "reward", "reward_mean", 1.0),
    ("rl-obedience", "Obedience of sampled answers by RL step", "obeyed (%)", "success_rate", 100.0),
    ("rl-kl", "Divergence from the SFT policy by RL step", "KL (nats per token)", "ref_kl", 1.0),
    ("rl-length", "Length of sampled answers by RL step", "tokens", "response_tokens_per_turn", 1.0),
];

/// Obedience of every stage.
fn obedience(numbers: &Numbers) -> BarChart {
    let categories = numbers.stages.iter();
    let categories = categories.map(|stage| Category { label: stage.label.clone(), bars: vec![bar(&stage.obedience)] });
    BarChart {
        title: "Held-out instructions obeyed".into(),
        y_label: "obeyed (%)".into(),
        series: vec!["greedy answers".into()],
        categories: categories.collect(),
        y_range: Some((0.0, 100.0)),
        decimals: Some(1),
        size: SIZE,
        ..BarChart::default()
    }
}

/// Obedience by kind of constraint, one bar per stage.
fn by_kind(numbers: &Numbers) -> BarChart {
    let kinds: BTreeSet<&String> = numbers.stages.iter().flat_map(|stage| stage.by_kind.keys()).collect();
    let bars = |kind: &String| {
        let stages = numbers.stages.iter().map(|stage| stage.by_kind.get(kind));
        stages.map(|share| share.map_or_else(|| Bar::new(f64::NAN), bar)).collect()
    };
    BarChart {
        title: "Held-out instructions obeyed, by kind".into(),
        y_label: "obeyed (%)".into(),
        series: numbers.stages.iter().map(|stage| stage.label.clone()).collect(),
        categories: kinds
            .into_iter()
            .map(|kind| Category { label: kind.replace('_', " "), bars: bars(kind) })
            .collect(),
        y_range: Some((0.0, 100.0)),
        size: Size { width: 1080.0, height: 400.0 },
        ..BarChart::default()
    }
}

fn losses(sft: &RunNumbers) -> LineChart {
    let series = sft.curves.iter().map(|(name, curve)| Series {
        has_dots: curve.len() < 10,
        ..line(name.split('/').next().unwrap_or(name), curve, 1.0)
    });
    step_chart("Loss of SFT by step", "loss (nats per token)", "SFT step", series.collect())
}

/// Share of training pairs ranked rightly, batch by batch.
fn preferences(numbers: &Numbers) -> LineChart {
    let runs = [("reward model", &numbers.reward_model.run), ("DPO's implicit reward", &numbers.dpo.run)];
    let series = runs.iter().filter_map(|(name, run)| Some(line(name, run.train("accuracy")?, 100.0)));
    LineChart {
        y_range: Some((0.0, 100.0)),
        ..step_chart("Training pairs ranked rightly by step", "pairs (%)", "step", series.collect())
    }
}

fn rl(numbers: &Numbers, title: &str, y_label: &str, metric: &str, scale: f64) -> LineChart {
    let series = numbers.rl.iter().filter_map(|(label, run)| Some(line(label, run.train(metric)?, scale)));
    step_chart(title, y_label, "RL step", series.collect())
}
