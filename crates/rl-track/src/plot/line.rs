//! Line charts: training curves, with bands and markers.

use crate::plot::axis::{Axis, Scale};
use crate::plot::drawing::{Drawing, Stroke, TextStyle, text_width};
use crate::plot::frame::{Entry, Frame, INK, MUTED, Swatch, TICK_SIZE, Texts, horizontal_room};
use crate::plot::{PALETTE, Size, color};

/// A line chart.
///
/// ```
/// use rl_track::plot::{LineChart, Series};
/// let loss = Series { name: "train".into(), points: vec![(0.0, 2.0), (1.0, 1.5)], ..Series::default() };
/// let chart = LineChart { title: "Loss".into(), x_label: "step".into(), series: vec![loss], ..LineChart::default() };
/// assert!(chart.to_svg().starts_with("<svg"));
/// ```
#[derive(Debug, Clone, Default)]
pub struct LineChart {
    /// Above the chart.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// The curves, drawn in this order.
    pub series: Vec<Series>,
    /// Layout of the x axis.
    pub x_scale: Scale,
    /// Layout of the y axis.
    pub y_scale: Scale,
    /// Lowest and highest value shown; curves beyond are cut off. `None` shows all.
    pub y_range: Option<(f64, f64)>,
    /// Vertical lines, at values of x.
    pub x_markers: Vec<Marker>,
    /// Horizontal lines, at values of y.
    pub y_markers: Vec<Marker>,
    /// Size of the picture.
    pub size: Size,
}

/// One curve.
#[derive(Debug, Clone, Default)]
pub struct Series {
    /// In the legend; empty for none.
    pub name: String,
    /// `(x, y)`, by rising x. A value that is not finite is a gap.
    pub points: Vec<(f64, f64)>,
    /// Lower and upper end of a band at each point; empty for none.
    pub band: Vec<(f64, f64)>,
    /// Draws a dashed line.
    pub is_dashed: bool,
    /// Draws a thin, pale line: the raw values behind a smoothed curve.
    pub is_faint: bool,
    /// Draws a dot at every point.
    pub has_dots: bool,
    /// Number of the colour; `None` takes the place in `series`. For a raw and a smoothed curve of one run.
    pub color: Option<usize>,
}

/// A labelled value on an axis.
#[derive(Debug, Clone, Default)]
pub struct Marker {
    /// Where.
    pub at: f64,
    /// What; empty for none.
    pub label: String,
}

const DASHES: [&str; 3] = ["", "7 4", "2 3"];
const MARKER_ROW: f64 = 14.0;

impl LineChart {
    /// The chart as SVG text.
    pub fn to_svg(&self) -> String {
        self.draw().to_svg()
    }

    /// The chart as shapes, to be written as SVG or PNG or put on a sheet with others.
    pub fn draw(&self) -> Drawing {
        let xs = self.points().map(|(x, _)| x).chain(self.x_markers.iter().map(|marker| marker.at));
        let ends = self.series.iter().flat_map(|series| series.band.iter().flat_map(|(low, high)| [*low, *high]));
        let ys = self.points().map(|(_, y)| y).chain(ends).chain(self.y_markers.iter().map(|marker| marker.at));
        let mut x = Axis::fit(self.x_scale, xs, 0.015, None);
        let mut y = Axis::fit(self.y_scale, ys, 0.06, self.y_range);

        let texts = Texts {
            title: &self.title,
            x_label: &self.x_label,
            y_label: &self.y_label,
            entries: self.entries(),
            note: self.note(),
        };
        let room = horizontal_room(self.size, &texts, &y, self.size.height * 0.7);
        x.pixels = room;
        let labels = place_labels(&self.x_markers, &x);
        let rows = labels.iter().map(|label| label.row + 1).max().unwrap_or(0);
        let mut frame = Frame::new(self.size, &texts, &mut y, rows as f64 * MARKER_ROW, 22.0);
        x.pixels = (frame.left, frame.right);

        let ticks = x.ticks(((frame.right - frame.left) / 80.0) as usize, true);
        frame.draw_x_axis(&x, &ticks);
        if self.points().all(|(x, y)| !x.is_finite() || !y.is_finite()) {
            frame.say("no data");
        }
        self.draw_x_markers(&mut frame, &x, &labels);
        frame.begin_plot();
        for (index, series) in self.series.iter().enumerate() {
            draw_band(&mut frame, series, color(series.color.unwrap_or(index)), &x, &y);
        }
        for (index, series) in self.series.iter().enumerate() {
            draw_series(&mut frame, series, index, &x, &y);
        }
        self.draw_y_markers(&mut frame, &y);
        frame.drawing.end_window();
        frame.drawing
    }

    fn points(&self) -> impl Iterator<Item = (f64, f64)> {
        self.series.iter().flat_map(|series| series.points.iter().copied())
    }

    fn entries(&self) -> Vec<Entry<'_>> {
        let named = self.series.iter().enumerate().filter(|(_, series)| !series.name.is_empty());
        named
            .map(|(index, series)| Entry {
                name: &series.name,
                color: color(series.color.unwrap_or(index)),
                dash: dash(index, series.is_dashed, series.color),
                swatch: Swatch::Line,
            })
            .collect()
    }

    /// Says how many finite points a logarithmic axis leaves out.
    fn note(&self) -> String {
        let is_finite = |(x, y): &(f64, f64)| x.is_finite() && y.is_finite();
        let is_lost = |(x, y): &(f64, f64)| self.x_scale.place(*x).is_nan() || self.y_scale.place(*y).is_nan();
        match self.points().filter(|point| is_finite(point) && is_lost(point)).count() {
            0 => String::new(),
            count => format!("{count} points at or below 0 are not on the logarithmic axis"),
        }
    }

    fn draw_x_markers(&self, frame: &mut Frame, x: &Axis, labels: &[PlacedLabel]) {
        for (marker, label) in self.x_markers.iter().zip(labels) {
            if x.shows(marker.at) {
                let at = x.pixel(marker.at);
                let top = frame.top - (label.row as f64) * MARKER_ROW - 2.0;
                frame.drawing.line((at, top), (at, frame.bottom), MUTED, 1.0, "4 3");
                let style = TextStyle::new(TICK_SIZE, MUTED, label.anchor);
                frame.drawing.text((label.x, top - 2.0), style, &marker.label);
            }
        }
    }

    fn draw_y_markers(&self, frame: &mut Frame, y: &Axis) {
        for marker in self.y_markers.iter().filter(|marker| y.shows(marker.at)) {
            let at = y.pixel(marker.at);
            frame.drawing.line((frame.left, at), (frame.right, at), INK, 1.0, "4 3");
            // Under the line where there is no room above it.
            let base = if at - 16.0 < frame.top { at + 13.0 } else { at - 4.0 };
            let width = text_width(&marker.label, TICK_SIZE);
            if !marker.label.is_empty() {
                frame.drawing.rect((frame.right - width - 7.0, base - 10.0), width + 6.0, 13.0, "#ffffff", 0.8);
            }
            let style = TextStyle::new(TICK_SIZE, INK, "end");
            frame.drawing.text((frame.right - 4.0, base), style, &marker.label);
        }
    }
}

/// The dash of a series: its own wish, or, once the colours are used up, another dash per round.
fn dash(index: usize, is_dashed: bool, own_color: Option<usize>) -> &'static str {
    if is_dashed {
        return DASHES[1];
    }
    DASHES[own_color.unwrap_or(index) / PALETTE.len() % DASHES.len()]
}

struct PlacedLabel {
    row: usize,
    x: f64,
    anchor: &'static str,
}

/// Gives each marker label a row above the plot in which it covers no other label.
///
/// Labels stand to the right of their lines, and rows are handed out from the right: so a line that reaches a higher
/// row passes to the left of the labels in the rows below.
fn place_labels(markers: &[Marker], x: &Axis) -> Vec<PlacedLabel> {
    let mut order: Vec<usize> = (0..markers.len()).collect();
    order.sort_by(|left, right| markers[*right].at.total_cmp(&markers[*left].at));
    let mut taken: Vec<(usize, f64, f64)> = Vec::new();
    let mut placed: Vec<(usize, PlacedLabel)> = Vec::new();
    for index in order {
        let marker = &markers[index];
        let at = x.pixel(marker.at);
        let width = text_width(&marker.label, TICK_SIZE);
        let fits = at + width <= x.pixels.1;
        let (anchor, from, to) = if fits { ("start", at, at + width) } else { ("end", at - width, at) };
        let is_free = |row: &usize| taken.iter().all(|(other, a, b)| other != row || to + 6.0 < *a || *b + 6.0 < from);
        let row = if marker.label.is_empty() { 0 } else { (0..).find(is_free).unwrap_or(0) };
        taken.push((row, from, to));
        placed.push((index, PlacedLabel { row, x: if fits { at - 2.0 } else { at + 2.0 }, anchor }));
    }
    placed.sort_by_key(|(index, _)| *index);
    placed.into_iter().map(|(_, label)| label).collect()
}

fn draw_band(frame: &mut Frame, series: &Series, fill: &'static str, x: &Axis, y: &Axis) {
    let edge = |pick: fn(&(f64, f64)) -> f64| {
        let points = series.points.iter().zip(&series.band).map(|((at, _), band)| (x.pixel(*at), y.pixel(pick(band))));
        points.collect::<Vec<_>>()
    };
    let (low, high) = (edge(|band| band.0), edge(|band| band.1));
    // A gap in either edge is a gap in the band.
    let both: Vec<bool> = low.iter().zip(&high).map(|(low, high)| is_drawn(low) && is_drawn(high)).collect();
    for range in runs(&both) {
        let back = low[range.clone()].iter().rev().copied();
        let outline: Vec<_> = high[range].iter().copied().chain(back).collect();
        frame.drawing.polygon(outline, fill, 0.18);
    }
}

fn draw_series(frame: &mut Frame, series: &Series, index: usize, x: &Axis, y: &Axis) {
    let stroke = color(series.color.unwrap_or(index));
    let dash = dash(index, series.is_dashed, series.color);
    let pixels: Vec<(f64, f64)> = series.points.iter().map(|(px, py)| (x.pixel(*px), y.pixel(*py))).collect();
    let drawn: Vec<bool> = pixels.iter().map(is_drawn).collect();
    for range in runs(&drawn) {
        let points = thin(&pixels[range]);
        if points.len() > 1 {
            let (width, opacity) = if series.is_faint { (1.0, 0.35) } else { (1.8, 1.0) };
            frame.drawing.polyline(points.clone(), Stroke { color: stroke, width, dash, opacity });
        }
        if !series.is_faint && (points.len() == 1 || series.has_dots) {
            points.iter().for_each(|point| frame.drawing.circle(*point, 2.8, stroke));
        }
    }
}

fn is_drawn(point: &(f64, f64)) -> bool {
    point.0.is_finite() && point.1.is_finite()
}

/// Ranges of consecutive `true`.
fn runs(flags: &[bool]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = None;
    for (index, flag) in flags.iter().chain([&false]).enumerate() {
        match (flag, start) {
            (true, None) => start = Some(index),
            (false, Some(from)) => {
                ranges.push(from..index);
                start = None;
            }
            _ => {}
        }
    }
    ranges
}

/// Leaves out points that no one could see: per pixel column the first, lowest, highest and last one stay.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let mut kept = Vec::new();
    for column in points.chunk_by(|left, right| left.0.floor() == right.0.floor()) {
        if column.len() <= 4 {
            kept.extend_from_slice(column);
            continue;
        }
        let by_height = |left: &usize, right: &usize| column[*left].1.total_cmp(&column[*right].1);
        let lowest = (0..column.len()).min_by(by_height).unwrap_or(0);
        let highest = (0..column.len()).max_by(by_height).unwrap_or(0);
        let mut indices = [0, lowest, highest, column.len() - 1];
        indices.sort_unstable();
        let mut last = None;
        for index in indices {
            if last != Some(index) {
                kept.push(column[index]);
            }
            last = Some(index);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> LineChart {
        LineChart { series: vec![Series { name: "a".into(), points, ..Series::default() }], ..LineChart::default() }
    }

    #[test]
    fn a_nan_splits_the_line_and_a_lonely_point_is_a_dot() {
        let svg =
            chart(vec![(0.0, 1.0), (1.0, 2.0), (2.0, f64::NAN), (3.0, 1.0), (4.0, f64::NAN), (5.0, 1.0), (6.0, 2.0)])
                .to_svg();
        assert_eq!(svg.matches("<path").count(), 2);
        assert_eq!(svg.matches("<circle").count(), 1);
        assert!(!svg.contains("NaN"));
    }

    #[test]
    fn equal_input_gives_equal_bytes_and_texts_are_escaped() {
        let mut chart = chart(vec![(0.0, 1.0), (1.0, 2.0)]);
        chart.title = "a < b & \"c\"".into();
        assert_eq!(chart.to_svg(), chart.clone().to_svg());
        assert!(chart.to_svg().contains("a &lt; b &amp; &quot;c&quot;"));
    }

    #[test]
    fn points_off_a_logarithmic_axis_are_counted() {
        let mut chart = chart(vec![(0.0, 1.0), (1.0, 2.0), (10.0, 2.0)]);
        chart.x_scale = Scale::Log;
        assert!(chart.to_svg().contains("1 points at or below 0"));
    }

    #[test]
    fn long_curves_are_thinned_but_keep_their_extremes() {
        let mut points: Vec<(f64, f64)> = (0..100_000).map(|i| (f64::from(i), f64::from(i % 7))).collect();
        points[54_321].1 = 500.0;
        let svg = chart(points).to_svg();
        assert!(svg.len() < 80_000, "{}", svg.len());
        let thinned = thin(&[(0.1, 1.0), (0.2, 9.0), (0.3, 2.0), (0.4, -9.0), (0.5, 3.0), (0.6, 4.0)]);
        assert_eq!(thinned, [(0.1, 1.0), (0.2, 9.0), (0.4, -9.0), (0.6, 4.0)]);
    }

    #[test]
    fn no_data_is_said() {
        assert!(LineChart::default().to_svg().contains("no data"));
    }

    #[test]
    fn close_marker_labels_stand_in_different_rows() {
        let mut x = Axis::fit(Scale::Linear, [0.0, 100.0].into_iter(), 0.0, None);
        x.pixels = (0.0, 700.0);
        let markers = [50.0, 52.0, 90.0].map(|at| Marker { at, label: "best checkpoint".into() });
        let rows: Vec<usize> = place_labels(&markers, &x).iter().map(|label| label.row).collect();
        assert_eq!(rows, [1, 0, 0]);
    }
}
