//! One report with every kind of chart; set `RL_TRACK_TEST_CHARTS_OUT` to a folder to look at it.

use rl_track::html::Report;
use rl_track::plot::{Bar, BarChart, Category, Histogram, LineChart, Marker, Scale, Series, Values, smooth};

fn curves() -> LineChart {
    let noisy = |step: i32, phase: f64| {
        let x = f64::from(step);
        2.0 * (-x / 120.0).exp() + 0.4 + 0.25 * (x * 1.7 + phase).sin() * (x * 0.31 + phase).cos()
    };
    let mut series = Vec::new();
    for (index, name) in ["PPO, lr 1e-5", "GRPO, group 8", "leave-one-out"].into_iter().enumerate() {
        let raw: Vec<f64> = (0..400).map(|step| noisy(step, index as f64) + 0.3 * index as f64).collect();
        let xs = (0..400).map(f64::from);
        let mut points: Vec<(f64, f64)> = xs.zip(smooth(&raw, 0.9).unwrap()).collect();
        if index == 1 {
            points[150..180].iter_mut().for_each(|point| point.1 = f64::NAN);
        }
        let band = if index == 2 { Vec::new() } else { points.iter().map(|(_, y)| (y - 0.12, y + 0.12)).collect() };
        series.push(Series { name: name.into(), points, band, is_dashed: index == 2, ..Series::default() });
    }
    let marker = |at, label: &str| Marker { at, label: label.into() };
    LineChart {
        title: "Policy loss over training".into(),
        x_label: "optimizer step".into(),
        y_label: "loss, mean over response tokens".into(),
        series,
        x_markers: vec![marker(200.0, "best checkpoint"), marker(215.0, "learning rate halved")],
        y_markers: vec![marker(0.4, "floor")],
        ..LineChart::default()
    }
}

fn bars() -> BarChart {
    let names = ["base model", "SFT on expert traces", "GRPO", "PPO with a critic"];
    let category = |(index, name): (usize, &&str)| {
        let bar = |shift: f64| {
            let value = 0.12 + 0.2 * index as f64 - shift;
            Bar { value, interval: Some((value - 0.04, value + 0.05)) }
        };
        Category { label: (*name).into(), bars: vec![bar(0.0), bar(0.17)] }
    };
    BarChart {
        title: "Success rate with 95 % intervals".into(),
        y_label: "success rate".into(),
        series: vec!["in distribution".into(), "out of distribution".into()],
        categories: names.iter().enumerate().map(category).collect(),
        decimals: Some(2),
        ..BarChart::default()
    }
}

fn sloping() -> BarChart {
    let category = |index: i32| Category {
        label: format!("experiment_number_{index}_with_a_long_name"),
        bars: vec![Bar::new(f64::from(index * index) - 20.0)],
    };
    BarChart { title: "Change in reward".into(), categories: (0..12).map(category).collect(), ..BarChart::default() }
}

fn histogram() -> Histogram {
    // sums of a low-discrepancy sequence stand in for rewards
    let values = |shift: f64| -> Vec<f64> {
        let fraction = |index: i32, root: f64| (f64::from(index) * root.sqrt()).fract();
        (1..2000).map(|i| fraction(i, 2.0) + fraction(i, 3.0) + fraction(i, 5.0) + shift).collect()
    };
    Histogram {
        title: "Rewards of chosen and rejected answers".into(),
        x_label: "reward".into(),
        y_label: "answers".into(),
        samples: vec![
            Values { name: "rejected".into(), values: values(0.0) },
            Values { name: "chosen".into(), values: [values(0.8), vec![f64::NAN]].concat() },
        ],
        x_markers: vec![Marker { at: 1.9, label: "threshold".into() }],
        ..Histogram::default()
    }
}

fn symlog() -> LineChart {
    let points =
        (-40_i32..=40).map(|i| (f64::from(i) * 10f64.powf(f64::from(i.abs()) / 20.0), f64::from(i).tanh())).collect();
    let log = (0..60).map(|i| (10f64.powf(f64::from(i) / 10.0 - 3.0), 1.0 / f64::from(i + 1))).collect();
    LineChart {
        title: "Symmetric logarithmic axis".into(),
        x_label: "rank of the direction".into(),
        series: vec![
            Series { name: "tanh".into(), points, has_dots: true, ..Series::default() },
            Series { name: "decay".into(), points: log, ..Series::default() },
        ],
        x_scale: Scale::Symlog { linear_below: 1.0 },
        ..LineChart::default()
    }
}

#[test]
fn a_report_with_every_chart_is_well_formed_and_deterministic() {
    let make = || {
        let charts = [curves().to_svg(), bars().to_svg(), sloping().to_svg(), histogram().to_svg(), symlog().to_svg()];
        let mut report = Report::new("Comparison of four trainers");
        report.paragraph("Four trainers on the same prompts and the same budget of samples.").heading("Curves");
        charts.iter().for_each(|svg| {
            report.figure(svg, "The band is one standard error over three seeds.");
        });
        report.heading("Numbers").table(
            &["trainer", "success rate", "steps"],
            &[vec!["base", "0.12 ± 0.04", "0"], vec!["GRPO", "0.52 ± 0.05", "400"], vec!["PPO", "0.72 ± 0.05", "-"]],
        );
        report.transcript("Answer 17, reward 1", &[("user", "What is 2 < 3?"), ("assistant", "True,\n  of course.")]);
        report.note("Made from metrics.jsonl.");
        (charts, report.to_html())
    };
    let (charts, html) = make();
    assert_eq!((&charts, &html), (&make().0, &make().1));
    for svg in &charts {
        assert_eq!(svg.matches("<svg").count(), svg.matches("</svg>").count());
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }
    if let Ok(folder) = std::env::var("RL_TRACK_TEST_CHARTS_OUT") {
        for (index, svg) in charts.iter().enumerate() {
            std::fs::write(format!("{folder}/chart-{index}.svg"), svg).unwrap();
        }
        std::fs::write(format!("{folder}/report.html"), html).unwrap();
    }
}
