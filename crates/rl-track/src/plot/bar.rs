//! Bar charts, grouped or not, with error bars and the values written out.

use crate::plot::axis::{Axis, Scale, short_number};
use crate::plot::drawing::{Drawing, TextStyle, text_width};
use crate::plot::frame::{Entry, Frame, INK, MUTED, Swatch, TICK_SIZE, Texts, horizontal_room};
use crate::plot::{Size, color};

/// A bar chart. The axis always shows zero.
#[derive(Debug, Clone, Default)]
pub struct BarChart {
    /// Above the chart.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// Names of the bars inside a category, for the legend; empty for one bar per category.
    pub series: Vec<String>,
    /// Groups of bars, from left to right.
    pub categories: Vec<Category>,
    /// Lowest and highest value shown; `None` shows all.
    pub y_range: Option<(f64, f64)>,
    /// Decimals of the values above the bars; `None` shows up to four digits.
    pub decimals: Option<usize>,
    /// Size of the picture.
    pub size: Size,
}

/// One place on the x axis.
#[derive(Debug, Clone, Default)]
pub struct Category {
    /// Below the axis.
    pub label: String,
    /// One bar per series, in the order of [`BarChart::series`].
    pub bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bar {
    /// Height; a value that is not finite is left out.
    pub value: f64,
    /// Lower and upper end of its interval.
    pub interval: Option<(f64, f64)>,
}

impl Bar {
    /// A bar without an interval.
    pub fn new(value: f64) -> Self {
        Self { value, interval: None }
    }
}

const LINE_HEIGHT: f64 = 13.0;
/// Slope of category labels that are too long to stand level, in degrees, where they do not run off the page.
const SLOPE: f64 = 30.0;
/// Share of the picture's height that upright labels may take; longer ones are broken, and lose their middle if that does not help.
const MAX_LABEL_SHARE: f64 = 0.4;
const MAX_LABEL_LINES: usize = 3;

impl BarChart {
    /// The chart as SVG text.
    pub fn to_svg(&self) -> String {
        self.draw().to_svg()
    }

    /// The chart as shapes, to be written as SVG or PNG or put on a sheet with others.
    pub fn draw(&self) -> Drawing {
        let bars = || self.categories.iter().flat_map(|category| &category.bars);
        let ends = bars().filter_map(|bar| bar.interval).flat_map(|(low, high)| [low, high]);
        let values = bars().map(|bar| bar.value).chain(ends).chain([0.0]);
        let mut y = Axis::fit(Scale::Linear, values.clone(), 0.0, None);
        // Room for the numbers, only on the sides that have bars.
        let (low, high) = values
            .filter(|value| value.is_finite())
            .fold((0.0, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
        let extra = (high - low) * 0.1;
        let range = (if low < 0.0 { low - extra } else { 0.0 }, if high > 0.0 { high + extra } else { 0.0 });
        if range.0 < range.1 {
            y = Axis::fit(Scale::Linear, [range.0, range.1].into_iter(), 0.0, None);
        }
        if self.y_range.is_some() {
            y = Axis::fit(Scale::Linear, [0.0, 1.0].into_iter(), 0.0, self.y_range);
        }

        let named = self.series.iter().enumerate().filter(|(_, name)| !name.is_empty());
        let entries =
            named.map(|(index, name)| Entry { name, color: color(index), dash: "", swatch: Swatch::Box }).collect();
        let texts =
            Texts { title: &self.title, x_label: &self.x_label, y_label: &self.y_label, entries, note: String::new() };
        let (left, right) = horizontal_room(self.size, &texts, &y, self.size.height * 0.7);
        let slot = (right - left) / self.categories.len().max(1) as f64;
        let labels = CategoryLabels::fit(&self.categories, slot, left, self.size.height * MAX_LABEL_SHARE);
        let mut frame = Frame::new(self.size, &texts, &mut y, 0.0, labels.height() + 8.0);
        let slot = (frame.right - frame.left) / self.categories.len().max(1) as f64;

        if self.categories.is_empty() {
            frame.say("no data");
        }
        let widest = self.categories.iter().map(|category| category.bars.len()).max().unwrap_or(1).max(1);
        let width = (slot * 0.8 / widest as f64).min(90.0);
        for (index, category) in self.categories.iter().enumerate() {
            let center = frame.left + slot * (index as f64 + 0.5);
            let first = center - width * category.bars.len() as f64 / 2.0;
            for (place, bar) in category.bars.iter().enumerate() {
                let fill = color(place);
                self.draw_bar(&mut frame, &y, bar, first + width * place as f64, width, fill);
            }
            labels.draw(&mut frame, index, center);
        }
        let zero = y.pixel(0.0).clamp(frame.top, frame.bottom);
        frame.draw_base_line(zero);
        frame.drawing
    }

    fn draw_bar(&self, frame: &mut Frame, y: &Axis, bar: &Bar, left: f64, width: f64, fill: &'static str) {
        if !bar.value.is_finite() {
            return;
        }
        let clamp = |value: f64| y.pixel(value).clamp(frame.top, frame.bottom);
        let (zero, end) = (clamp(0.0), clamp(bar.value));
        let gap = (width * 0.06).min(2.0);
        frame.drawing.rect((left + gap, zero.min(end)), width - 2.0 * gap, (zero - end).abs(), fill, 0.85);
        let center = left + width / 2.0;
        let is_down = bar.value < 0.0;
        let mut outer = end;
        if let Some((low, high)) = bar.interval.filter(|(low, high)| low.is_finite() && high.is_finite()) {
            let (low, high) = (clamp(low), clamp(high));
            let cap = (width * 0.18).min(6.0);
            frame.drawing.line((center, low), (center, high), INK, 1.3, "");
            for at in [low, high] {
                frame.drawing.line((center - cap, at), (center + cap, at), INK, 1.3, "");
            }
            outer = if is_down { outer.max(low) } else { outer.min(high) };
        }
        let text = match self.decimals {
            Some(digits) => format!("{:.digits$}", bar.value).replace('-', "−"),
            None => short_number(bar.value),
        };
        let mut style = TextStyle::new(TICK_SIZE, INK, "middle");
        if text_width(&text, TICK_SIZE) <= width + 2.0 {
            let base = if is_down { outer + 13.0 } else { outer - 5.0 };
            frame.drawing.text((center, base), style, &text);
        } else {
            // Narrow bars carry their number upright.
            style.size = 10.0;
            style.rotation = -90.0;
            style.anchor = if is_down { "end" } else { "start" };
            let base = if is_down { outer + 4.0 } else { outer - 4.0 };
            frame.drawing.text((center + 3.5, base), style, &text);
        }
    }
}

/// Category labels broken into lines, or turned where that does not help.
struct CategoryLabels {
    lines: Vec<Vec<String>>,
    /// Degrees by which the labels rise to the right; 0, [`SLOPE`] or 90.
    slope: f64,
}

impl CategoryLabels {
    /// `slot` is the width of a category, `left` the room beside the first one, `max_height` the most they may take.
    fn fit(categories: &[Category], slot: f64, left: f64, max_height: f64) -> Self {
        let lines: Vec<Vec<String>> = categories.iter().map(|category| wrap(&category.label, slot - 6.0)).collect();
        let is_wide = |line: &String| text_width(line, TICK_SIZE) > slot - 2.0;
        if !lines.iter().any(|lines| lines.len() > MAX_LABEL_LINES || lines.iter().any(is_wide)) {
            return Self { lines, slope: 0.0 };
        }
        let runs_off = |(index, category): (usize, &Category)| {
            let room = left + slot * (index as f64 + 0.5);
            text_width(&category.label, TICK_SIZE) * SLOPE.to_radians().cos() > room
        };
        if !categories.iter().enumerate().any(runs_off) {
            return Self {
                lines: categories.iter().map(|category| vec![category.label.clone()]).collect(),
                slope: SLOPE,
            };
        }
        let upright = |category: &Category| {
            let lines = wrap(&category.label, max_height);
            let has_room = lines.len() as f64 * LINE_HEIGHT <= slot;
            if has_room { lines } else { vec![category.label.clone()] }
        };
        let shortened = |lines: Vec<String>| lines.iter().map(|line| shorten(line, max_height)).collect();
        Self { lines: categories.iter().map(upright).map(shortened).collect(), slope: 90.0 }
    }

    fn height(&self) -> f64 {
        if self.slope > 0.0 {
            let longest = self.lines.iter().flatten().map(|line| text_width(line, TICK_SIZE)).fold(0.0, f64::max);
            return longest * self.slope.to_radians().sin() + 14.0;
        }
        self.lines.iter().map(Vec::len).max().unwrap_or(0) as f64 * LINE_HEIGHT + 4.0
    }

    fn draw(&self, frame: &mut Frame, index: usize, center: f64) {
        for (row, line) in self.lines[index].iter().enumerate() {
            let mut style = TextStyle::new(TICK_SIZE, MUTED, "middle");
            let mut at = (center, frame.bottom + 16.0 + row as f64 * LINE_HEIGHT);
            if self.slope > 0.0 {
                style.anchor = "end";
                style.rotation = -self.slope;
                let from_middle = row as f64 - (self.lines[index].len() - 1) as f64 / 2.0;
                let below = if self.slope == SLOPE { 14.0 } else { 8.0 };
                at = (center + 4.0 + from_middle * LINE_HEIGHT, frame.bottom + below);
            }
            frame.drawing.text(at, style, line);
        }
    }
}

/// The label with as much of its middle left out as it takes to be at most `width` pixels long.
fn shorten(label: &str, width: f64) -> String {
    let letters: Vec<char> = label.chars().collect();
    let mut kept = letters.len();
    let mut text = label.to_owned();
    while kept > 2 && text_width(&text, TICK_SIZE) > width {
        kept -= 1;
        let (head, tail) = (kept.div_ceil(2), kept / 2);
        text = letters[..head].iter().chain(&['…']).chain(&letters[letters.len() - tail..]).collect();
    }
    text
}

/// Breaks a label at spaces, and after `-`, `_` and `/`, into lines of at most `width` pixels where that is possible.
fn wrap(label: &str, width: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for piece in label.split_inclusive([' ', '-', '_', '/']) {
        match lines.last_mut() {
            Some(line) if text_width(&format!("{line}{}", piece.trim_end()), TICK_SIZE) <= width => {
                line.push_str(piece)
            }
            _ => lines.push(piece.to_owned()),
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(values: &[f64]) -> BarChart {
        let category = |value: &f64| Category { label: "base model".into(), bars: vec![Bar::new(*value)] };
        BarChart { categories: values.iter().map(category).collect(), ..BarChart::default() }
    }

    #[test]
    fn every_finite_bar_has_its_value_written() {
        let mut chart = chart(&[0.25, -0.5, f64::NAN]);
        chart.categories[0].bars[0].interval = Some((0.2, 0.3));
        let svg = chart.to_svg();
        assert!(svg.contains(">0.25</text>") && svg.contains(">−0.5</text>"));
        assert_eq!(svg.matches("fill-opacity=\"0.85\"").count(), 2);
        assert!(!svg.contains("NaN"));
        assert_eq!(svg, chart.to_svg());
        chart.decimals = Some(3);
        assert!(chart.to_svg().contains(">0.250</text>"));
    }

    #[test]
    fn labels_wrap_at_natural_places() {
        assert_eq!(wrap("Qwen2.5-0.5B instruct", 60.0), ["Qwen2.5-", "0.5B", "instruct"]);
        assert_eq!(wrap("base", 100.0), ["base"]);
        assert_eq!(shorten("abcdefghij", 40.0), "abc…ij");
        assert_eq!(shorten("abc", 40.0), "abc");
    }

    #[test]
    fn empty_and_all_zero_charts_are_drawn() {
        assert!(chart(&[]).to_svg().contains("no data"));
        assert!(chart(&[0.0]).to_svg().contains(">0</text>"));
    }
}
