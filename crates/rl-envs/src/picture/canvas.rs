//! Filling outlines with a colour, edges smoothed. Only additions, multiplications and divisions of `f64` are used, so
//! that every machine draws the same pixels.

use super::{Color, Picture};

/// A point, x to the right and y down.
pub(crate) type Point = (f64, f64);

/// Lines per pixel on which coverage is measured; along a line it is exact.
const LINES: u32 = 8;
/// Straight pieces that stand for a curve.
const PIECES: u32 = 16;
/// Distance of the control points of a quarter circle of radius 1.
const QUARTER: f64 = 0.552_284_749_8;

/// A movement of the pen, in a unit box around the origin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Pen {
    /// To the start of a stroke.
    Move(f64, f64),
    /// Along a straight line.
    Line(f64, f64),
    /// Along a cubic Bezier curve: two control points and the end.
    Curve(Point, Point, Point),
}

/// Where a shape of the unit box stands in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Place {
    /// The centre.
    pub center: Point,
    /// Pixels per unit.
    pub scale: f64,
    /// Upside down.
    pub turned: bool,
}

/// Closed polygons in pixels; a point in any of them is inside.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outline {
    polygons: Vec<Vec<Point>>,
}

impl Outline {
    /// The areas that the strokes go around.
    pub fn area(pen: &[Pen], place: Place) -> Self {
        let mut outline = Outline::default();
        outline.extend(lines(pen, place));
        outline
    }

    /// The strokes themselves, `width` (of the unit box) wide with round ends.
    pub fn strokes(pen: &[Pen], width: f64, place: Place) -> Self {
        let (mut outline, radius) = (Outline::default(), width * place.scale / 2.0);
        for line in lines(pen, place) {
            outline.extend(line.iter().map(|&point| circle(point, radius)));
            for ends in line.windows(2) {
                let ((ax, ay), (bx, by)) = (ends[0], ends[1]);
                let length = ((bx - ax) * (bx - ax) + (by - ay) * (by - ay)).sqrt();
                if 0.0 < length {
                    let (x, y) = (radius * (by - ay) / length, radius * (ax - bx) / length);
                    outline.extend([vec![(ax + x, ay + y), (bx + x, by + y), (bx - x, by - y), (ax - x, ay - y)]]);
                }
            }
        }
        outline
    }

    /// A circle.
    pub fn disc(center: Point, radius: f64) -> Self {
        let mut outline = Outline::default();
        outline.extend([circle(center, radius)]);
        outline
    }

    /// A rectangle with rounded corners.
    pub fn rounded(x: f64, y: f64, width: f64, height: f64, radius: f64) -> Self {
        let mut outline = Outline::default();
        outline.extend([vec![
            (x + radius, y),
            (x + width - radius, y),
            (x + width - radius, y + height),
            (x + radius, y + height),
        ]]);
        outline.extend([vec![
            (x, y + radius),
            (x + width, y + radius),
            (x + width, y + height - radius),
            (x, y + height - radius),
        ]]);
        for corner_x in [x + radius, x + width - radius] {
            outline.extend([y + radius, y + height - radius].map(|corner_y| circle((corner_x, corner_y), radius)));
        }
        outline
    }

    /// This outline and another.
    pub fn with(mut self, other: Outline) -> Self {
        self.polygons.extend(other.polygons);
        self
    }

    /// Turned the same way round, so that polygons that overlap never cancel out.
    fn extend(&mut self, polygons: impl IntoIterator<Item = Vec<Point>>) {
        self.polygons.extend(polygons.into_iter().map(|mut polygon| {
            let next = polygon.iter().cycle().skip(1);
            let doubled_area: f64 = polygon.iter().zip(next).map(|(a, b)| a.0 * b.1 - b.0 * a.1).sum();
            if doubled_area < 0.0 {
                polygon.reverse();
            }
            polygon
        }));
    }

    /// Where the line at height `y` crosses the outline: x, and +1 downwards or -1 upwards; from left to right.
    fn crossings(&self, y: f64, found: &mut Vec<(f64, i32)>) {
        found.clear();
        for polygon in &self.polygons {
            for (&(ax, ay), &(bx, by)) in polygon.iter().zip(polygon.iter().cycle().skip(1)) {
                if (ay <= y) != (by <= y) {
                    found.push((ax + (y - ay) * (bx - ax) / (by - ay), if ay <= y { 1 } else { -1 }));
                }
            }
        }
        found.sort_unstable_by(|a, b| a.0.total_cmp(&b.0));
    }
}

impl Picture {
    /// Paints the inside of `outline`; what lies beyond the picture is cut off.
    pub(crate) fn fill(&mut self, outline: &Outline, color: Color) {
        let points = || outline.polygons.iter().flatten();
        let top = points().map(|point| point.1).fold(f64::MAX, f64::min).max(0.0) as u32;
        let bottom = points().map(|point| point.1).fold(0.0, f64::max).ceil().min(self.height.into()) as u32;
        let mut crossings = Vec::new();
        let mut coverage = vec![0.0; self.width as usize];
        for row in top..bottom {
            coverage.fill(0.0);
            for line in 0..LINES {
                let y = f64::from(row) + (f64::from(line) + 0.5) / f64::from(LINES);
                outline.crossings(y, &mut crossings);
                let mut winding = 0;
                for pair in crossings.windows(2) {
                    winding += pair[0].1;
                    if winding != 0 {
                        cover(&mut coverage, pair[0].0, pair[1].0);
                    }
                }
            }
            self.blend(row, &coverage, color);
        }
    }

    fn blend(&mut self, row: u32, coverage: &[f64], color: Color) {
        let length = 3 * self.width as usize;
        let pixels = self.pixels.chunks_exact_mut(length.max(1)).nth(row as usize).into_iter().flatten();
        let colors = coverage.iter().flat_map(|&covered| color.map(|channel| (covered / f64::from(LINES), channel)));
        for (pixel, (covered, channel)) in pixels.zip(colors) {
            if 0.0 < covered {
                let mixed = f64::from(*pixel) * (1.0 - covered) + f64::from(channel) * covered;
                *pixel = (mixed + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// Adds to each pixel the part of it between `left` and `right`.
fn cover(coverage: &mut [f64], left: f64, right: f64) {
    let (left, right) = (left.max(0.0), right.min(coverage.len() as f64));
    if right <= left {
        return;
    }
    let first = left as usize;
    for (column, covered) in (first..).zip(coverage.iter_mut().skip(first)) {
        let (start, end) = (column as f64, column as f64 + 1.0);
        if right <= start {
            break;
        }
        *covered += right.min(end) - left.max(start);
    }
}

/// The strokes of a pen as straight lines in pixels.
fn lines(pen: &[Pen], place: Place) -> Vec<Vec<Point>> {
    let sign = if place.turned { -place.scale } else { place.scale };
    let at = |(x, y): Point| (place.center.0 + sign * x, place.center.1 + sign * y);
    let mut lines: Vec<Vec<Point>> = Vec::new();
    let mut last = (0.0, 0.0);
    for &movement in pen {
        let mut new = Vec::new();
        match movement {
            Pen::Move(x, y) => {
                lines.push(vec![at((x, y))]);
                last = (x, y);
            }
            Pen::Line(x, y) => {
                new.push(at((x, y)));
                last = (x, y);
            }
            Pen::Curve(b, c, d) => {
                new.extend((1..=PIECES).map(|piece| at(bezier([last, b, c, d], f64::from(piece) / f64::from(PIECES)))));
                last = d;
            }
        }
        if let Some(line) = lines.last_mut() {
            line.extend(new);
        }
    }
    lines
}

/// The point of a cubic Bezier curve at `t` of 0 to 1.
fn bezier([a, b, c, d]: [Point; 4], t: f64) -> Point {
    let s = 1.0 - t;
    let weights = [s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t];
    let sum =
        |of: fn(Point) -> f64| [a, b, c, d].into_iter().zip(weights).map(|(point, weight)| of(point) * weight).sum();
    (sum(|point| point.0), sum(|point| point.1))
}

fn circle(center: Point, radius: f64) -> Vec<Point> {
    let k = QUARTER;
    let pen = [
        Pen::Move(1.0, 0.0),
        Pen::Curve((1.0, k), (k, 1.0), (0.0, 1.0)),
        Pen::Curve((-k, 1.0), (-1.0, k), (-1.0, 0.0)),
        Pen::Curve((-1.0, -k), (-k, -1.0), (0.0, -1.0)),
        Pen::Curve((k, -1.0), (1.0, -k), (1.0, 0.0)),
    ];
    lines(&pen, Place { center, scale: radius, turned: false }).into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covered(outline: &Outline) -> f64 {
        let mut picture = Picture::filled(40, 40, [0; 3]);
        picture.fill(outline, [255; 3]);
        picture.rgb().iter().step_by(3).map(|&value| f64::from(value) / 255.0).sum()
    }

    #[test]
    fn areas_are_those_of_geometry() {
        const TOLERANCE: f64 = 0.01;
        let square = |size: f64| {
            let half = size / 2.0;
            [Pen::Move(-half, -half), Pen::Line(half, -half), Pen::Line(half, half), Pen::Line(-half, half)]
        };
        let place = |scale, turned| Place { center: (20.25, 19.5), scale, turned };
        let stroke = [Pen::Move(-0.5, 0.0), Pen::Line(0.5, 0.0)];
        for (outline, area) in [
            (Outline::area(&square(1.0), place(10.0, false)), 100.0),
            (Outline::area(&square(0.5), place(13.0, true)), 42.25),
            // What lies outside is cut off: a quarter stays.
            (Outline::area(&square(1.0), Place { center: (40.0, 0.0), scale: 20.0, turned: false }), 100.0),
            (Outline::disc((20.0, 20.0), 10.0), std::f64::consts::PI * 100.0),
            (Outline::rounded(5.0, 6.0, 20.0, 30.0, 4.0), 600.0 - (4.0 - std::f64::consts::PI) * 16.0),
            (Outline::strokes(&stroke, 0.2, place(20.0, false)), 80.0 + std::f64::consts::PI * 4.0),
            // Overlapping areas are covered once.
            (Outline::disc((20.0, 20.0), 10.0).with(Outline::disc((20.0, 20.0), 5.0)), std::f64::consts::PI * 100.0),
        ] {
            let found = covered(&outline);
            assert!((found - area).abs() < TOLERANCE * area, "{found} for {area}");
        }
    }
}
