//! A picture as a list of shapes, from which SVG text and PNG pixels are made.

use crate::error::Result;
use crate::plot::{Size, png, raster, svg};

/// A drawn chart, or several on one sheet. The same shapes give the same bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Drawing {
    pub(super) size: Size,
    pub(super) title: String,
    pub(super) shapes: Vec<Shape>,
}

/// What a drawing is made of. Coordinates are CSS pixels from the upper left corner; colours are `#rrggbb`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Shape {
    Line {
        from: (f64, f64),
        to: (f64, f64),
        stroke: &'static str,
        width: f64,
        dash: &'static str,
    },
    Rect {
        corner: (f64, f64),
        size: Size,
        fill: &'static str,
        opacity: f64,
    },
    Circle {
        center: (f64, f64),
        radius: f64,
        fill: &'static str,
    },
    Polyline {
        points: Vec<(f64, f64)>,
        stroke: Stroke,
    },
    Polygon {
        points: Vec<(f64, f64)>,
        fill: &'static str,
        opacity: f64,
    },
    Text {
        at: (f64, f64),
        style: TextStyle,
        text: String,
    },
    /// What follows is cut off outside this rectangle, until [`Shape::EndWindow`].
    BeginWindow {
        corner: (f64, f64),
        size: Size,
    },
    EndWindow,
    /// Another drawing with its upper left corner here.
    Inset {
        corner: (f64, f64),
        drawing: Drawing,
    },
}

/// How a curve is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stroke {
    pub color: &'static str,
    pub width: f64,
    /// Lengths of dashes and gaps in turn, such as `7 4`; empty for a whole line.
    pub dash: &'static str,
    pub opacity: f64,
}

/// How a text is set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct TextStyle {
    pub size: f64,
    pub color: &'static str,
    /// `start`, `middle` or `end`.
    pub anchor: &'static str,
    pub is_bold: bool,
    /// Degrees, clockwise, around the text's own point.
    pub rotation: f64,
}

impl TextStyle {
    pub fn new(size: f64, color: &'static str, anchor: &'static str) -> Self {
        Self { size, color, anchor, is_bold: false, rotation: 0.0 }
    }
}

impl Drawing {
    pub(super) fn new(size: Size, title: &str) -> Self {
        Self { size, title: title.to_owned(), shapes: Vec::new() }
    }

    /// Several drawings on one sheet, row by row with `columns` in a row (at least one). All keep their size.
    pub fn sheet(title: &str, drawings: Vec<Drawing>, columns: usize) -> Self {
        const GAP: f64 = 8.0;
        let (mut corner, mut row_height, mut width, mut shapes) = ((0.0, 0.0), 0.0, 0.0_f64, Vec::new());
        for (index, drawing) in drawings.into_iter().enumerate() {
            if index > 0 && index.is_multiple_of(columns.max(1)) {
                corner = (0.0, corner.1 + row_height + GAP);
                row_height = 0.0;
            }
            let size = drawing.size;
            shapes.push(Shape::Inset { corner, drawing });
            width = width.max(corner.0 + size.width);
            row_height = f64::max(row_height, size.height);
            corner.0 += size.width + GAP;
        }
        let size = Size { width: width.max(1.0), height: (corner.1 + row_height).max(1.0) };
        Self { size, title: title.to_owned(), shapes }
    }

    /// The size in CSS pixels.
    pub fn size(&self) -> Size {
        self.size
    }

    /// The drawing as SVG text.
    pub fn to_svg(&self) -> String {
        svg::to_text(self)
    }

    /// The drawing as a PNG file with `scale` pixels per CSS pixel; 2 suits today's screens.
    ///
    /// Letters come from a small built-in face of strokes that has ASCII and a few signs, so that no font is needed; a
    /// letter that it lacks is a box.
    ///
    /// # Errors
    /// A scale of 0, or one that makes the picture wider or higher than 16384 pixels.
    pub fn to_png(&self, scale: u32) -> Result<Vec<u8>> {
        let image = raster::paint(self, scale)?;
        Ok(png::encode(image.width, image.height, &image.pixels))
    }

    pub(super) fn line(
        &mut self,
        from: (f64, f64),
        to: (f64, f64),
        stroke: &'static str,
        width: f64,
        dash: &'static str,
    ) {
        self.shapes.push(Shape::Line { from, to, stroke, width, dash });
    }

    pub(super) fn rect(&mut self, corner: (f64, f64), width: f64, height: f64, fill: &'static str, opacity: f64) {
        self.shapes.push(Shape::Rect { corner, size: Size { width, height }, fill, opacity });
    }

    pub(super) fn circle(&mut self, center: (f64, f64), radius: f64, fill: &'static str) {
        self.shapes.push(Shape::Circle { center, radius, fill });
    }

    pub(super) fn polyline(&mut self, points: Vec<(f64, f64)>, stroke: Stroke) {
        self.shapes.push(Shape::Polyline { points, stroke });
    }

    pub(super) fn polygon(&mut self, points: Vec<(f64, f64)>, fill: &'static str, opacity: f64) {
        self.shapes.push(Shape::Polygon { points, fill, opacity });
    }

    pub(super) fn text(&mut self, at: (f64, f64), style: TextStyle, text: &str) {
        self.shapes.push(Shape::Text { at, style, text: text.to_owned() });
    }

    /// Begins a window that clips its content; coordinates inside are those of the whole drawing.
    pub(super) fn begin_window(&mut self, x: f64, y: f64, width: f64, height: f64) {
        self.shapes.push(Shape::BeginWindow { corner: (x, y), size: Size { width, height } });
    }

    pub(super) fn end_window(&mut self) {
        self.shapes.push(Shape::EndWindow);
    }
}

/// Estimated width of a text in pixels: typical letter widths, since a viewer of the SVG may have any font.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    text.chars().map(letter_width).sum::<f64>() * size
}

/// Width of a letter as a share of the font size.
pub(super) fn letter_width(letter: char) -> f64 {
    match letter {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | ':' | ';' | '\'' | '!' | '|' | '(' | ')' | ' ' => 0.36,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.92,
        'A'..='Z' => 0.7,
        '\u{2e80}'.. => 1.0,
        _ => 0.59,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sheet_has_room_for_all_its_drawings() {
        let drawing = |width, height| Drawing::new(Size { width, height }, "one");
        let sheet = Drawing::sheet("all", vec![drawing(100.0, 50.0), drawing(100.0, 80.0), drawing(60.0, 40.0)], 2);
        assert_eq!(sheet.size(), Size { width: 208.0, height: 128.0 });
        let svg = sheet.to_svg();
        assert_eq!(svg.matches("<svg").count(), 4);
        assert_eq!(svg.matches("</svg>").count(), 4);
        assert!(svg.contains("<svg x=\"0\" y=\"88\" width=\"60\" height=\"40\""), "{svg}");
    }
}
