//! What all charts share: title, legend, axes, grid and margins.

use crate::plot::Size;
use crate::plot::axis::{Axis, Tick};
use crate::plot::drawing::{Drawing, TextStyle, text_width};

pub(super) const INK: &str = "#222222";
pub(super) const MUTED: &str = "#555555";
const GRID: &str = "#e4e4e4";
const LABEL_SIZE: f64 = 12.0;
pub(super) const TICK_SIZE: f64 = 11.0;
const NOTE_SIZE: f64 = 10.0;
const EDGE: f64 = 14.0;

/// How an entry of the legend looks.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Swatch {
    Line,
    Box,
}

pub(super) struct Entry<'a> {
    pub name: &'a str,
    pub color: &'static str,
    pub dash: &'static str,
    pub swatch: Swatch,
}

/// Texts around the plot.
pub(super) struct Texts<'a> {
    pub title: &'a str,
    pub x_label: &'a str,
    pub y_label: &'a str,
    pub entries: Vec<Entry<'a>>,
    /// Small print at the bottom right; empty for none.
    pub note: String,
}

/// The page with everything around the plot drawn, and the room that is left for the plot.
pub(super) struct Frame {
    pub drawing: Drawing,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
}

impl Frame {
    /// Draws title, legend, y axis with grid, and both axis labels.
    ///
    /// `above` and `below` are pixels to keep free over the plot and, for tick labels, under it. `y` gets its pixels.
    pub fn new(size: Size, texts: &Texts, y: &mut Axis, above: f64, below: f64) -> Self {
        let mut drawing = Drawing::new(size, texts.title);
        let right = size.width - EDGE - 4.0;
        let mut top = EDGE;
        if !texts.title.is_empty() {
            let style = TextStyle { is_bold: true, ..TextStyle::new(15.0, INK, "start") };
            drawing.text((EDGE, top + 12.0), style, texts.title);
            top += 24.0;
        }
        top = draw_legend(&mut drawing, &texts.entries, top, right) + above + 6.0;

        let mut footer = if texts.x_label.is_empty() && texts.note.is_empty() { 0.0 } else { 18.0 };
        // The note shares the row of the x label if both have room.
        let widths = text_width(texts.x_label, LABEL_SIZE) / 2.0 + text_width(&texts.note, NOTE_SIZE);
        let note_drop = if widths > size.width / 2.0 - 60.0 && !texts.note.is_empty() { 14.0 } else { 0.0 };
        footer += note_drop;
        let bottom = size.height - EDGE + 2.0 - footer - below;
        y.pixels = (bottom, top);
        let ticks = y.ticks(((bottom - top) / 45.0).max(2.0) as usize, false);
        let left = left_edge(&ticks, texts);

        let center = (top + bottom) / 2.0;
        for tick in &ticks {
            let at = y.pixel(tick.value);
            drawing.line((left, at), (right, at), GRID, 1.0, "");
            drawing.text((left - 6.0, at + 4.0), TextStyle::new(TICK_SIZE, MUTED, "end"), &tick.label);
        }
        if !texts.y_label.is_empty() {
            let style = TextStyle { rotation: -90.0, ..TextStyle::new(LABEL_SIZE, INK, "middle") };
            drawing.text((EDGE + 8.0, center), style, texts.y_label);
        }
        let base = size.height - EDGE + 2.0;
        drawing.text(
            ((left + right) / 2.0, base - note_drop),
            TextStyle::new(LABEL_SIZE, INK, "middle"),
            texts.x_label,
        );
        if !texts.note.is_empty() {
            drawing.text((right, base), TextStyle::new(NOTE_SIZE, MUTED, "end"), &texts.note);
        }
        Self { drawing, left, right, top, bottom }
    }

    /// Draws the x axis line with ticks and their labels.
    pub fn draw_x_axis(&mut self, x: &Axis, ticks: &[Tick]) {
        for tick in ticks {
            let at = x.pixel(tick.value);
            self.drawing.line((at, self.bottom), (at, self.bottom + 4.0), MUTED, 1.0, "");
            let style = TextStyle::new(TICK_SIZE, MUTED, "middle");
            self.drawing.text((at, self.bottom + 17.0), style, &tick.label);
        }
        self.draw_base_line(self.bottom);
    }

    pub fn draw_base_line(&mut self, at: f64) {
        self.drawing.line((self.left, at), (self.right, at), MUTED, 1.0, "");
    }

    /// A text in the middle of an empty plot.
    pub fn say(&mut self, text: &str) {
        let at = ((self.left + self.right) / 2.0, (self.top + self.bottom) / 2.0);
        self.drawing.text(at, TextStyle::new(13.0, MUTED, "middle"), text);
    }

    /// Clips what follows to the plot.
    pub fn begin_plot(&mut self) {
        self.drawing.begin_window(self.left, self.top, self.right - self.left, self.bottom - self.top);
    }
}

/// Left edge of the plot, as far as it depends on the labels of the y axis.
fn left_edge(ticks: &[Tick], texts: &Texts) -> f64 {
    let widest = ticks.iter().map(|tick| text_width(&tick.label, TICK_SIZE)).fold(0.0, f64::max);
    EDGE + if texts.y_label.is_empty() { 0.0 } else { 18.0 } + widest + 8.0
}

/// Where the plot's left and right edges will be, before the frame is drawn. `height` is that of the plot, about.
pub(super) fn horizontal_room(size: Size, texts: &Texts, y: &Axis, height: f64) -> (f64, f64) {
    let ticks = y.ticks((height / 45.0).max(2.0) as usize, false);
    (left_edge(&ticks, texts), size.width - EDGE - 4.0)
}

/// Draws the legend in as many rows as it needs and returns where the next thing may begin.
fn draw_legend(drawing: &mut Drawing, entries: &[Entry], top: f64, right: f64) -> f64 {
    if entries.is_empty() {
        return top;
    }
    let (mut x, mut row) = (EDGE, top);
    for entry in entries {
        let width = 24.0 + text_width(entry.name, LABEL_SIZE) + 18.0;
        if x + width - 18.0 > right && x > EDGE {
            x = EDGE;
            row += 18.0;
        }
        let middle = row + 6.0;
        match entry.swatch {
            Swatch::Line => drawing.line((x, middle), (x + 18.0, middle), entry.color, 2.5, entry.dash),
            Swatch::Box => drawing.rect((x + 3.0, middle - 6.0), 12.0, 12.0, entry.color, 1.0),
        }
        drawing.text((x + 24.0, row + 10.0), TextStyle::new(LABEL_SIZE, INK, "start"), entry.name);
        x += width;
    }
    row + 18.0
}
