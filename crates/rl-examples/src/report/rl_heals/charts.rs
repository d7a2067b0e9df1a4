//! The report's charts, drawn from [`Numbers`] (and, for the histogram, from the advantages themselves).

use std::collections::BTreeMap;

use rl_eval::Proportion;
use rl_track::plot::{Bar, BarChart, Category, Histogram, LineChart, Marker, Series, Size, Values};

use super::config::ReportConfig;
use super::inputs::Inputs;
use super::numbers::{CheckpointNumbers, Numbers};

/// Bins of the advantage histogram.
const ADVANTAGE_BINS: usize = 40;
const SIZE: Size = Size { width: 720.0, height: 340.0 };

/// Legend entries of the two starts, by their key in [`Numbers::rl`].
pub(super) const STARTS: [(&str, &str); 2] =
    [("from_best", "from the best OOD checkpoint"), ("from_last", "from the end of SFT")];

/// Success of every checkpoint on both splits, with intervals.
pub(super) fn accuracy(config: &ReportConfig, numbers: &Numbers) -> LineChart {
    let series =
        splits(config).map(|(split, label)| share_series(numbers, split, label, |row| Some(row.first_attempt)));
    LineChart {
        title: "First-attempt success by SFT step".into(),
        y_label: "success (%)".into(),
        x_markers: vec![Marker { at: numbers.sft.best_step as f64, label: "best OOD checkpoint".into() }],
        ..step_chart(series.into())
    }
}

/// Answers without a usable formula, by checkpoint.
pub(super) fn format_errors(config: &ReportConfig, numbers: &Numbers) -> LineChart {
    let series = splits(config).map(|(split, label)| share_series(numbers, split, label, |row| row.format_errors));
    LineChart {
        title: "Answers without a usable formula by SFT step".into(),
        y_label: "share of answers (%)".into(),
        ..step_chart(series.into())
    }
}

/// Held-out losses, with the step of the best out-of-distribution success.
pub(super) fn held_out_loss(config: &ReportConfig, numbers: &Numbers) -> LineChart {
    let mut x_markers = vec![Marker { at: numbers.sft.best_step as f64, label: "highest OOD success".into() }];
    let mut series = Vec::new();
    for (split, label) in splits(config) {
        let Some(curve) = numbers.sft.held_out_loss.get(split) else { continue };
        if let Some((step, _)) = curve.iter().min_by(|left, right| left.1.total_cmp(&right.1)) {
            x_markers.push(Marker { at: *step as f64, label: format!("least {split} loss") });
        }
        series.push(Series { has_dots: true, ..line(label, curve) });
    }
    LineChart {
        title: "Loss on held-out answers by SFT step".into(),
        y_label: "loss (nats per token)".into(),
        x_markers,
        ..step_chart(series)
    }
}

/// First-attempt success of the stages on both splits.
pub(super) fn stages(config: &ReportConfig, numbers: &Numbers) -> BarChart {
    let bar = |model: &str, split: &str| match numbers.stage(model, split, &config.decoding) {
        None => Bar::new(f64::NAN),
        Some(stage) => {
            let Proportion { rate, low, high, .. } = stage.first_attempt;
            Bar { value: 100.0 * rate, interval: Some((100.0 * low, 100.0 * high)) }
        }
    };
    let splits = splits(config);
    let category = |(model, label): (&str, &'static str)| Category {
        label: label.into(),
        bars: splits.iter().map(|(split, _)| bar(model, split)).collect(),
    };
    BarChart {
        title: format!("First-attempt success of the stages, {} decoding", config.decoding),
        y_label: "success (%)".into(),
        series: splits.iter().map(|(_, label)| (*label).to_owned()).collect(),
        categories: config.stages.labelled().map(category).into(),
        decimals: Some(1),
        size: Size { height: 380.0, ..SIZE },
        ..BarChart::default()
    }
}

/// One metric of both runs of reinforcement learning, times `scale`.
pub(super) fn rl_curves(numbers: &Numbers, title: &str, y_label: &str, metric: &str, scale: f64) -> LineChart {
    let curve = |(key, label): (&str, &str)| {
        let curve = numbers.rl.get(key)?.curves.get(metric)?;
        let scaled: Vec<(u64, f64)> = curve.iter().map(|(step, value)| (*step, scale * value)).collect();
        Some(line(label, &scaled))
    };
    let series = STARTS.into_iter().filter_map(curve).collect();
    LineChart { title: title.into(), x_label: "RL step".into(), y_label: y_label.into(), ..step_chart(series) }
}

/// Raw advantages of the first rollout of both starts, on common bins.
pub(super) fn advantages(inputs: &Inputs) -> Histogram {
    let records = [&inputs.rl_from_best, &inputs.rl_from_last];
    let sample = |((_, label), record): (&(&str, &str), &super::inputs::RlRecord)| Values {
        name: (*label).to_owned(),
        values: record.advantages.clone(),
    };
    Histogram {
        title: "Raw advantages of the first rollout".into(),
        x_label: "advantage".into(),
        y_label: "answers".into(),
        samples: STARTS.iter().zip(records).map(sample).collect(),
        num_bins: ADVANTAGE_BINS,
        x_markers: vec![Marker { at: 0.0, label: String::new() }],
        size: SIZE,
        ..Histogram::default()
    }
}

fn splits(config: &ReportConfig) -> [(&str, &'static str); 2] {
    [(&config.splits.id, "in distribution (ID)"), (&config.splits.ood, "out of distribution (OOD)")]
}

fn step_chart(series: Vec<Series>) -> LineChart {
    LineChart { x_label: "SFT step".into(), series, size: SIZE, ..LineChart::default() }
}

fn share_series(
    numbers: &Numbers,
    split: &str,
    label: &str,
    pick: fn(&CheckpointNumbers) -> Option<Proportion>,
) -> Series {
    let rows: &BTreeMap<String, Vec<CheckpointNumbers>> = &numbers.sft.checkpoints;
    let rows = rows.get(split).map_or(&[][..], Vec::as_slice);
    let shares = || rows.iter().filter_map(|row| Some((row.step as f64, pick(row)?)));
    Series {
        name: label.into(),
        points: shares().map(|(step, share)| (step, 100.0 * share.rate)).collect(),
        band: shares().map(|(_, share)| (100.0 * share.low, 100.0 * share.high)).collect(),
        has_dots: true,
        ..Series::default()
    }
}

fn line(name: &str, curve: &[(u64, f64)]) -> Series {
    let points = curve.iter().map(|(step, value)| (*step as f64, *value)).collect();
    Series { name: name.into(), points, ..Series::default() }
}
