//! Histograms, several of them overlaid on common bins.

use crate::plot::axis::{Axis, Scale};
use crate::plot::drawing::{Drawing, TextStyle};
use crate::plot::frame::{Entry, Frame, MUTED, Swatch, TICK_SIZE, Texts};
use crate::plot::{Marker, Size, color};

const MAX_AUTOMATIC_BINS: usize = 60;

/// A histogram of counts in bins of equal width.
#[derive(Debug, Clone, Default)]
pub struct Histogram {
    /// Above the chart.
    pub title: String,
    /// Below the x axis.
    pub x_label: String,
    /// Beside the y axis.
    pub y_label: String,
    /// The samples; several are drawn over each other.
    pub samples: Vec<Values>,
    /// Number of bins; 0 chooses it from the number of values.
    pub num_bins: usize,
    /// Lowest and highest value of the bins; values outside are not counted, and the chart says how many. `None` takes all.
    pub range: Option<(f64, f64)>,
    /// Vertical lines, at values of x.
    pub x_markers: Vec<Marker>,
    /// Size of the picture.
    pub size: Size,
}

/// One sample.
#[derive(Debug, Clone, Default)]
pub struct Values {
    /// In the legend; empty for none.
    pub name: String,
    /// In any order. Values that are not finite are not counted, and the chart says how many there are.
    pub values: Vec<f64>,
}

impl Histogram {
    /// Edges of the bins and, per sample, the counts. The last bin includes its upper edge.
    pub fn counts(&self) -> (Vec<f64>, Vec<Vec<usize>>) {
        let finite =
            || self.samples.iter().flat_map(|sample| &sample.values).copied().filter(|value| value.is_finite());
        let (low, high) = self.range.filter(|(low, high)| low < high).unwrap_or_else(|| {
            let (low, high) = finite()
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
            match low.total_cmp(&high) {
                std::cmp::Ordering::Less => (low, high),
                std::cmp::Ordering::Equal => (low - 0.5, high + 0.5),
                std::cmp::Ordering::Greater => (0.0, 1.0),
            }
        });
        // The square-root rule shows more detail than Sturges' and needs no second pass.
        let automatic = || ((finite().count() as f64).sqrt().ceil() as usize).clamp(1, MAX_AUTOMATIC_BINS);
        let num_bins = if self.num_bins == 0 { automatic() } else { self.num_bins };
        let edge = |index: usize| low + (high - low) * index as f64 / num_bins as f64;
        let edges: Vec<f64> = (0..=num_bins).map(edge).collect();
        let count = |sample: &Values| {
            let mut counts = vec![0; num_bins];
            for value in sample.values.iter().filter(|value| (low..=high).contains(*value)) {
                let bin = edges.partition_point(|edge| edge <= value).saturating_sub(1).min(num_bins - 1);
                counts[bin] += 1;
            }
            counts
        };
        (edges.clone(), self.samples.iter().map(count).collect())
    }

    /// The chart as SVG text.
    pub fn to_svg(&self) -> String {
        self.draw().to_svg()
    }

    /// The chart as shapes, to be written as SVG or PNG or put on a sheet with others.
    pub fn draw(&self) -> Drawing {
        let (edges, counts) = self.counts();
        let highest = counts.iter().flatten().copied().max().unwrap_or(0).max(1);
        let ends = [edges[0], edges[edges.len() - 1]];
        let mut x = Axis::fit(Scale::Linear, ends.into_iter(), 0.0, Some((ends[0], ends[1])));
        let mut y = Axis::fit(Scale::Linear, [0.0].into_iter(), 0.0, Some((0.0, highest as f64 * 1.05)));

        let named = self.samples.iter().enumerate().filter(|(_, sample)| !sample.name.is_empty());
        let entries = named
            .map(|(index, sample)| Entry { name: &sample.name, color: color(index), dash: "", swatch: Swatch::Box })
            .collect();
        let note = self.note(&counts);
        let texts = Texts { title: &self.title, x_label: &self.x_label, y_label: &self.y_label, entries, note };
        let has_labels = self.x_markers.iter().any(|marker| !marker.label.is_empty());
        let mut frame = Frame::new(self.size, &texts, &mut y, if has_labels { 16.0 } else { 0.0 }, 22.0);
        x.pixels = (frame.left, frame.right);

        if counts.iter().flatten().all(|count| *count == 0) {
            frame.say("no data");
        }
        let opacity = if counts.len() > 1 { 0.55 } else { 0.85 };
        for (index, counts) in counts.iter().enumerate() {
            for (bin, count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                let (left, right) = (x.pixel(edges[bin]), x.pixel(edges[bin + 1]));
                let top = y.pixel(*count as f64);
                let gap = if right - left > 4.0 { 0.5 } else { 0.0 };
                let width = right - left - 2.0 * gap;
                frame.drawing.rect((left + gap, top), width, frame.bottom - top, color(index), opacity);
            }
        }
        let ticks = x.ticks(((frame.right - frame.left) / 80.0) as usize, false);
        frame.draw_x_axis(&x, &ticks);
        for marker in self.x_markers.iter().filter(|marker| x.shows(marker.at)) {
            let at = x.pixel(marker.at);
            frame.drawing.line((at, frame.top - 2.0), (at, frame.bottom), MUTED, 1.0, "4 3");
            frame.drawing.text((at, frame.top - 6.0), TextStyle::new(TICK_SIZE, MUTED, "middle"), &marker.label);
        }
        frame.drawing
    }

    fn note(&self, counts: &[Vec<usize>]) -> String {
        let total: usize = self.samples.iter().map(|sample| sample.values.len()).sum();
        match total - counts.iter().flatten().sum::<usize>() {
            0 => String::new(),
            left_out => format!("{left_out} of {total} values are not finite or out of range"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_match_a_count_by_hand() {
        let values = vec![0.0, 0.5, 1.0, 1.0, 1.5, 4.0, f64::NAN];
        let histogram =
            Histogram { samples: vec![Values { name: "rewards".into(), values }], num_bins: 4, ..Histogram::default() };
        let (edges, counts) = histogram.counts();
        assert_eq!(edges, [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(counts, [[2, 3, 0, 1]]);
        let svg = histogram.to_svg();
        assert!(svg.contains("1 of 7 values are not finite"));
        assert_eq!(svg, histogram.to_svg());
    }

    #[test]
    fn constant_and_empty_samples_are_drawn() {
        let constant =
            Histogram { samples: vec![Values { values: vec![2.0; 9], ..Values::default() }], ..Histogram::default() };
        let (edges, counts) = constant.counts();
        assert_eq!((edges[0], edges[3]), (1.5, 2.5));
        assert_eq!(counts, [[0, 9, 0]]);
        assert!(Histogram::default().to_svg().contains("no data"));
    }
}
