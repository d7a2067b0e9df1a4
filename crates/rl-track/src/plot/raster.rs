//! From shapes to pixels, with soft edges.
//!
//! A pixel of a stroke is covered by how far its centre lies inside the stroke's edge; rectangles and areas by the share of
//! the pixel they take. All in `f64` without the clock or the machine's fonts, so equal drawings give equal pixels.

use crate::config::ensure;
use crate::error::Result;
use crate::plot::drawing::{Drawing, Shape, Stroke, TextStyle, text_width};
use crate::plot::glyphs::glyph;

const MAX_SIDE: f64 = 16_384.0;
/// Thickness of a letter's strokes as a share of the font size.
const LETTER_WEIGHT: f64 = 0.085;
const BOLD_WEIGHT: f64 = 0.13;
/// Lines per pixel row at which areas are sampled.
const AREA_LINES: usize = 4;

/// Pixels, `[height, width, 3]` row by row.
pub(super) struct Image {
    pub width: u32,
    pub height: u32,
    pub pixels: Vec<u8>,
}

/// Paints a drawing on white with `scale` pixels per CSS pixel.
pub(super) fn paint(drawing: &Drawing, scale: u32) -> Result<Image> {
    ensure(scale > 0, "scale", scale, "must be positive")?;
    let factor = f64::from(scale);
    let (width, height) = ((drawing.size.width * factor).ceil(), (drawing.size.height * factor).ceil());
    let fits = |side: f64| (1.0..=MAX_SIDE).contains(&side);
    let message =
        "makes a picture without pixels or beyond 16384 pixels a side; choose a smaller scale or fewer charts";
    ensure(fits(width) && fits(height), "scale", scale, message)?;
    let (width, height) = (width as usize, height as usize);
    let mut canvas = Canvas {
        width,
        pixels: vec![255; width * height * 3],
        covered: vec![0.0; width * height],
        touched: Vec::new(),
        clip: Clip { left: 0, top: 0, right: width, bottom: height },
        origin: (0.0, 0.0),
        scale: factor,
    };
    canvas.draw(drawing);
    Ok(Image { width: width as u32, height: height as u32, pixels: canvas.pixels })
}

/// Pixels that may be painted: `left..right` and `top..bottom`.
#[derive(Clone, Copy)]
struct Clip {
    left: usize,
    top: usize,
    right: usize,
    bottom: usize,
}

impl Clip {
    /// The part of a box in pixels that lies inside, as ranges of columns and rows.
    fn inside(&self, low: (f64, f64), high: (f64, f64)) -> (std::ops::Range<usize>, std::ops::Range<usize>) {
        // `as usize` of a negative number is 0, of NaN too.
        let range = |low: f64, high: f64, from: usize, to: usize| {
            let start = (low.floor() as usize).clamp(from, to);
            start..(high.ceil() as usize).clamp(start, to)
        };
        (range(low.0, high.0, self.left, self.right), range(low.1, high.1, self.top, self.bottom))
    }
}

struct Canvas {
    width: usize,
    pixels: Vec<u8>,
    /// Share of each pixel that the shape at hand covers, `[height, width]`; zero between shapes.
    covered: Vec<f64>,
    /// Pixels whose share is not zero.
    touched: Vec<usize>,
    clip: Clip,
    /// Where the drawing at hand begins, in CSS pixels.
    origin: (f64, f64),
    scale: f64,
}

impl Canvas {
    fn draw(&mut self, drawing: &Drawing) {
        let mut outer = Vec::new();
        for shape in &drawing.shapes {
            match shape {
                Shape::Line { from, to, stroke, width, dash } => {
                    let stroke = Stroke { color: stroke, width: *width, dash, opacity: 1.0 };
                    self.stroke(&[*from, *to], stroke);
                }
                Shape::Polyline { points, stroke } => self.stroke(points, *stroke),
                Shape::Circle { center, radius, fill } => {
                    let dot = [self.pixel(*center)];
                    self.cover_line(&dot, 2.0 * radius * self.scale);
                    self.blend(fill, 1.0);
                }
                Shape::Rect { corner, size, fill, opacity } => {
                    let (left, top) = self.pixel(*corner);
                    self.cover_rect(left, top, left + size.width * self.scale, top + size.height * self.scale);
                    self.blend(fill, *opacity);
                }
                Shape::Polygon { points, fill, opacity } => {
                    let points: Vec<(f64, f64)> = points.iter().map(|point| self.pixel(*point)).collect();
                    self.cover_area(&points);
                    self.blend(fill, *opacity);
                }
                Shape::Text { at, style, text } => self.text(*at, *style, text),
                Shape::BeginWindow { corner, size } => {
                    outer.push(self.clip);
                    let (low, high) = (self.pixel(*corner), (corner.0 + size.width, corner.1 + size.height));
                    let high = self.pixel(high);
                    let (columns, rows) = self.clip.inside(low, high);
                    self.clip = Clip { left: columns.start, right: columns.end, top: rows.start, bottom: rows.end };
                }
                Shape::EndWindow => self.clip = outer.pop().unwrap_or(self.clip),
                Shape::Inset { corner, drawing } => {
                    let (origin, clip) = (self.origin, self.clip);
                    self.origin = (origin.0 + corner.0, origin.1 + corner.1);
                    let low = self.pixel((0.0, 0.0));
                    let high = self.pixel((drawing.size.width, drawing.size.height));
                    let (columns, rows) = self.clip.inside(low, high);
                    self.clip = Clip { left: columns.start, right: columns.end, top: rows.start, bottom: rows.end };
                    self.draw(drawing);
                    (self.origin, self.clip) = (origin, clip);
                }
            }
        }
    }

    fn pixel(&self, point: (f64, f64)) -> (f64, f64) {
        ((point.0 + self.origin.0) * self.scale, (point.1 + self.origin.1) * self.scale)
    }

    fn stroke(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let points: Vec<(f64, f64)> = points.iter().map(|point| self.pixel(*point)).collect();
        let width = stroke.width * self.scale;
        let pattern: Vec<f64> = stroke
            .dash
            .split(' ')
            .filter_map(|text| text.parse::<f64>().ok())
            .map(|length| length * self.scale)
            .collect();
        for piece in dashes(&points, &pattern) {
            self.cover_line(&piece, width);
        }
        self.blend(stroke.color, stroke.opacity);
    }

    fn text(&mut self, at: (f64, f64), style: TextStyle, text: &str) {
        let width = text_width(text, style.size);
        let mut x = match style.anchor {
            "middle" => -width / 2.0,
            "end" => -width,
            _ => 0.0,
        };
        let (sin, cos) = match style.rotation {
            0.0 => (0.0, 1.0),
            -90.0 => (-1.0, 0.0),
            angle => angle.to_radians().sin_cos(),
        };
        let weight = if style.is_bold { BOLD_WEIGHT } else { LETTER_WEIGHT };
        for letter in text.chars() {
            let glyph = glyph(letter);
            for points in &glyph.strokes {
                let place = |(glyph_x, glyph_y): &(f64, f64)| {
                    let (dx, dy) = (x + glyph_x * style.size, -glyph_y * style.size);
                    self.pixel((at.0 + dx * cos - dy * sin, at.1 + dx * sin + dy * cos))
                };
                let points: Vec<(f64, f64)> = points.iter().map(place).collect();
                self.cover_line(&points, weight * style.size * self.scale);
            }
            x += glyph.width * style.size;
        }
        self.blend(style.color, 1.0);
    }

    /// Covers a line with round ends and corners; a single point is a dot.
    fn cover_line(&mut self, points: &[(f64, f64)], width: f64) {
        // A line thinner than a pixel covers as little of it.
        let (half, most) = (width.max(1.0) / 2.0, width.min(1.0));
        let dot = [points[0], points[0]];
        let segments = if points.len() == 1 { dot.windows(2) } else { points.windows(2) };
        for segment in segments {
            let ((x0, y0), (x1, y1)) = (segment[0], segment[1]);
            let reach = half + 1.0;
            let low = (x0.min(x1) - reach, y0.min(y1) - reach);
            let high = (x0.max(x1) + reach, y0.max(y1) + reach);
            let (columns, rows) = self.clip.inside(low, high);
            let (dx, dy) = (x1 - x0, y1 - y0);
            let squared = dx * dx + dy * dy;
            for row in rows {
                for column in columns.clone() {
                    let (px, py) = (column as f64 + 0.5 - x0, row as f64 + 0.5 - y0);
                    let along = if squared > 0.0 { ((px * dx + py * dy) / squared).clamp(0.0, 1.0) } else { 0.0 };
                    let (ex, ey) = (px - along * dx, py - along * dy);
                    let share = (half + 0.5 - (ex * ex + ey * ey).sqrt()).clamp(0.0, 1.0) * most;
                    self.cover(row * self.width + column, share);
                }
            }
        }
    }

    fn cover_rect(&mut self, left: f64, top: f64, right: f64, bottom: f64) {
        let (columns, rows) = self.clip.inside((left, top), (right, bottom));
        let overlap = |index: usize, low: f64, high: f64| {
            let at = index as f64;
            (high.min(at + 1.0) - low.max(at)).clamp(0.0, 1.0)
        };
        for row in rows {
            let height = overlap(row, top, bottom);
            for column in columns.clone() {
                self.cover(row * self.width + column, height * overlap(column, left, right));
            }
        }
    }

    /// Covers the inside of a closed outline; where it crosses itself everything around which it winds is inside.
    fn cover_area(&mut self, points: &[(f64, f64)]) {
        let mut low = (f64::INFINITY, f64::INFINITY);
        let mut high = (f64::NEG_INFINITY, f64::NEG_INFINITY);
        for (x, y) in points {
            low = (low.0.min(*x), low.1.min(*y));
            high = (high.0.max(*x), high.1.max(*y));
        }
        let (columns, rows) = self.clip.inside(low, high);
        let mut shares = vec![0.0; columns.len()];
        for row in rows {
            shares.fill(0.0);
            for line in 0..AREA_LINES {
                let y = row as f64 + (line as f64 + 0.5) / AREA_LINES as f64;
                for (from, to) in spans(points, y) {
                    let (inside, _) = self.clip.inside((from, 0.0), (to, 0.0));
                    for column in inside {
                        let at = column as f64;
                        let share = (to.min(at + 1.0) - from.max(at)).clamp(0.0, 1.0);
                        if let Some(sum) = shares.get_mut(column.wrapping_sub(columns.start)) {
                            *sum += share / AREA_LINES as f64;
                        }
                    }
                }
            }
            for (column, share) in columns.clone().zip(&shares) {
                self.cover(row * self.width + column, share.min(1.0));
            }
        }
    }

    /// Overlapping parts of one shape cover a pixel once.
    fn cover(&mut self, index: usize, share: f64) {
        if share > self.covered[index] {
            if self.covered[index] == 0.0 {
                self.touched.push(index);
            }
            self.covered[index] = share;
        }
    }

    /// Paints what is covered and clears it.
    fn blend(&mut self, color: &str, opacity: f64) {
        let color = rgb(color);
        for index in self.touched.drain(..) {
            let share = self.covered[index] * opacity;
            self.covered[index] = 0.0;
            for (channel, value) in self.pixels[index * 3..index * 3 + 3].iter_mut().zip(color) {
                let mixed = f64::from(*channel) * (1.0 - share) + f64::from(value) * share;
                *channel = mixed.round() as u8;
            }
        }
    }
}

/// Where a line at height `y` runs inside an outline, from left to right.
fn spans(points: &[(f64, f64)], y: f64) -> Vec<(f64, f64)> {
    let mut crossings: Vec<(f64, i32)> = Vec::new();
    for (index, (x0, y0)) in points.iter().enumerate() {
        let (x1, y1) = points[(index + 1) % points.len()];
        if (*y0 <= y) != (y1 <= y) {
            let x = x0 + (y - y0) / (y1 - y0) * (x1 - x0);
            crossings.push((x, if y1 > *y0 { 1 } else { -1 }));
        }
    }
    crossings.sort_by(|left, right| left.0.total_cmp(&right.0));
    let (mut winding, mut start, mut spans) = (0, 0.0, Vec::new());
    for (x, turn) in crossings {
        if winding == 0 {
            start = x;
        }
        winding += turn;
        if winding == 0 {
            spans.push((start, x));
        }
    }
    spans
}

/// The drawn pieces of a line: all of it without a pattern of dash and gap lengths.
fn dashes(points: &[(f64, f64)], pattern: &[f64]) -> Vec<Vec<(f64, f64)>> {
    let (Some(first), true) = (points.first(), pattern.iter().all(|length| *length > 0.0) && !pattern.is_empty())
    else {
        return if points.is_empty() { Vec::new() } else { vec![points.to_vec()] };
    };
    let (mut pieces, mut piece) = (Vec::new(), vec![*first]);
    let (mut place, mut left) = (0, pattern[0]);
    for pair in points.windows(2) {
        let ((mut x, mut y), (x1, y1)) = (pair[0], pair[1]);
        loop {
            let length = ((x1 - x) * (x1 - x) + (y1 - y) * (y1 - y)).sqrt();
            if length < left {
                left -= length;
                piece.push((x1, y1));
                break;
            }
            (x, y) = (x + (x1 - x) * left / length, y + (y1 - y) * left / length);
            piece.push((x, y));
            if place % 2 == 0 {
                pieces.push(std::mem::take(&mut piece));
            }
            place += 1;
            left = pattern[place % pattern.len()];
            piece = vec![(x, y)];
        }
    }
    if place % 2 == 0 && piece.len() > 1 {
        pieces.push(piece);
    }
    pieces
}

/// `#rrggbb`; black for anything else.
fn rgb(color: &str) -> [u8; 3] {
    let part = |from: usize| color.get(from..from + 2).and_then(|text| u8::from_str_radix(text, 16).ok()).unwrap_or(0);
    [part(1), part(3), part(5)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plot::Size;

    fn drawing(width: f64, height: f64) -> Drawing {
        Drawing::new(Size { width, height }, "test")
    }

    fn at(image: &Image, x: usize, y: usize) -> [u8; 3] {
        let index = (y * image.width as usize + x) * 3;
        [image.pixels[index], image.pixels[index + 1], image.pixels[index + 2]]
    }

    #[test]
    fn a_rectangle_covers_pixels_by_their_share() {
        let mut drawing = drawing(6.0, 4.0);
        drawing.rect((1.0, 1.0), 2.5, 2.0, "#ff0000", 1.0);
        let image = paint(&drawing, 1).unwrap();
        assert_eq!(at(&image, 0, 1), [255, 255, 255]);
        assert_eq!(at(&image, 1, 1), [255, 0, 0]);
        assert_eq!(at(&image, 3, 2), [255, 128, 128]); // half of it
        assert_eq!(at(&image, 1, 3), [255, 255, 255]);
    }

    #[test]
    fn an_area_follows_its_outline_and_a_window_cuts_it() {
        let mut drawing = drawing(20.0, 10.0);
        drawing.begin_window(0.0, 0.0, 12.0, 10.0);
        drawing.polygon(vec![(2.0, 0.0), (18.0, 0.0), (18.0, 10.0), (2.0, 10.0)], "#000000", 0.5);
        drawing.end_window();
        drawing.circle((17.0, 5.0), 2.0, "#0000ff");
        let image = paint(&drawing, 2).unwrap();
        assert_eq!((image.width, image.height), (40, 20));
        assert_eq!(at(&image, 3, 10), [255, 255, 255]);
        assert_eq!(at(&image, 5, 10), [128, 128, 128]);
        assert_eq!(at(&image, 25, 10), [255, 255, 255]);
        assert_eq!(at(&image, 34, 10), [0, 0, 255]);
    }

    #[test]
    fn a_slanted_line_is_as_dark_as_it_is_long_and_wide() {
        let mut drawing = drawing(60.0, 60.0);
        let stroke = Stroke { color: "#000000", width: 2.0, dash: "", opacity: 1.0 };
        drawing.polyline(vec![(10.0, 10.0), (50.0, 40.0)], stroke);
        let image = paint(&drawing, 1).unwrap();
        let ink: f64 = image.pixels.chunks(3).map(|pixel| 1.0 - f64::from(pixel[0]) / 255.0).sum();
        // 50 long, 2 wide, and two round ends that make a circle of radius 1
        let expected = 100.0 + std::f64::consts::PI;
        assert!((ink - expected).abs() < 0.03 * expected, "{ink} {expected}");
    }

    #[test]
    fn dashes_have_their_lengths() {
        let pieces = dashes(&[(0.0, 0.0), (10.0, 0.0), (10.0, 10.0)], &[7.0, 4.0]);
        let expected = [vec![(0.0, 0.0), (7.0, 0.0)], vec![(10.0, 1.0), (10.0, 8.0)]];
        assert_eq!(pieces, expected);
        assert_eq!(dashes(&[(0.0, 0.0), (5.0, 0.0)], &[]), [vec![(0.0, 0.0), (5.0, 0.0)]]);
    }

    #[test]
    fn an_absurd_scale_is_refused() {
        let drawing = drawing(720.0, 400.0);
        assert!(paint(&drawing, 0).is_err() && paint(&drawing, 1000).is_err());
    }
}
