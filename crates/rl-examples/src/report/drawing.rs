//! Charts that several reports draw alike.

use rl_eval::Proportion;
use rl_track::plot::{Bar, LineChart, Series, Size};

/// Usual size of a chart on a page.
pub(super) const SIZE: Size = Size { width: 720.0, height: 340.0 };

/// Curves by step.
pub(super) fn step_chart(title: &str, y_label: &str, x_label: &str, series: Vec<Series>) -> LineChart {
    let (title, y_label, x_label) = (title.into(), y_label.into(), x_label.into());
    LineChart { title, y_label, x_label, series, size: SIZE, ..LineChart::default() }
}

/// A curve of a run, its values times `scale`.
pub(super) fn line(name: &str, curve: &[(u64, f64)], scale: f64) -> Series {
    let points = curve.iter().map(|(step, value)| (*step as f64, scale * value)).collect();
    Series { name: name.into(), points, ..Series::default() }
}

/// A share in percent with its interval.
pub(super) fn bar(share: &Proportion) -> Bar {
    Bar { value: 100.0 * share.rate, interval: Some((100.0 * share.low, 100.0 * share.high)) }
}
