//! Small charts as SVG or PNG: the same input gives the same bytes, and nothing is needed to draw or to show them.
//!
//! Charts are plain structs with public fields; `draw` makes a [`Drawing`] of them, `to_svg` its text. What cannot be drawn (NaN, infinities, values of
//! zero or less on a logarithmic axis) is a gap, and the chart says how many values it left out for the axis' sake.

mod axis;
mod bar;
mod drawing;
mod frame;
mod glyphs;
mod histogram;
mod line;
mod png;
mod raster;
mod smooth;
mod svg;

pub use axis::Scale;
pub(crate) use axis::short_number;
pub use bar::{Bar, BarChart, Category};
pub use drawing::Drawing;
pub use histogram::{Histogram, Values};
pub use line::{LineChart, Marker, Series};
pub use smooth::smooth;
pub(crate) use svg::escape;

/// Width and height of a chart in CSS pixels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Size {
    /// Pixels across.
    pub width: f64,
    /// Pixels down.
    pub height: f64,
}

impl Default for Size {
    fn default() -> Self {
        Self { width: 720.0, height: 400.0 }
    }
}

/// Curves that differ in colour; the next ones have the same colours again, with another dash.
pub(crate) const NUM_COLORS: usize = 7;

/// Colours that stay apart for colour-blind readers and on white (after Okabe and Ito 2008, without yellow, black last).
const PALETTE: [&str; NUM_COLORS] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#444444"];

fn color(index: usize) -> &'static str {
    PALETTE[index % PALETTE.len()]
}
