//! The letters of pictures made of pixels: each a few strokes on a small grid, so that no font file is needed.
//!
//! Drawn for this project. A stroke is a list of points `xy`, both digits; `~` before it rounds its corners. The base line is
//! at y = 2, small letters end at 7, capitals at 9, tails at 0.

use crate::plot::drawing::letter_width;

/// A letter: its strokes in units of the font size, the base line at 0 and y upwards, and its width.
pub(super) struct Glyph {
    pub strokes: Vec<Vec<(f64, f64)>>,
    pub width: f64,
}

/// Grid units per font size: a capital of 7 units has 0.72 of the size.
const UNIT: f64 = 0.72 / 7.0;
const BASE_LINE: f64 = 2.0;
/// Rounds of corner cutting; three cannot be told from two at the sizes of labels.
const ROUNDINGS: usize = 2;

/// The strokes of a letter, in the middle of the width that the layout reckons with.
pub(super) fn glyph(letter: char) -> Glyph {
    let width = letter_width(letter);
    let stretch = if letter.is_ascii_uppercase() { 1.15 } else { 1.0 };
    let strokes: Vec<Vec<(f64, f64)>> = grid(letter).split('/').filter_map(stroke).collect();
    let widest = strokes.iter().flatten().map(|(x, _)| *x).fold(0.0, f64::max) * stretch * UNIT;
    let left = (width - widest) / 2.0;
    let place = |(x, y): (f64, f64)| (left + x * stretch * UNIT, (y - BASE_LINE) * UNIT);
    Glyph { strokes: strokes.into_iter().map(|points| points.into_iter().map(place).collect()).collect(), width }
}

fn stroke(text: &str) -> Option<Vec<(f64, f64)>> {
    let (is_round, text) = match text.strip_prefix('~') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let number = |letter: char| letter.to_digit(10).map(f64::from);
    let point = |pair: &str| {
        let mut letters = pair.chars();
        Some((number(letters.next()?)?, number(letters.next()?)?))
    };
    let mut points: Vec<(f64, f64)> = text.split_whitespace().map(point).collect::<Option<_>>()?;
    if is_round {
        (0..ROUNDINGS).for_each(|_| points = cut_corners(&points));
    }
    (!points.is_empty()).then_some(points)
}

/// Replaces each corner by two points at a quarter of its edges (Chaikin 1974); a closed line stays closed.
fn cut_corners(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Vec::new() };
    let is_closed = points.len() > 2 && first == last;
    let mut out = if is_closed { Vec::new() } else { vec![*first] };
    for pair in points.windows(2) {
        let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
        out.push((0.75 * x0 + 0.25 * x1, 0.75 * y0 + 0.25 * y1));
        out.push((0.25 * x0 + 0.75 * x1, 0.25 * y0 + 0.75 * y1));
    }
    out.push(if is_closed { out[0] } else { *last });
    out
}

/// The grid points of a letter; a box for one that is not here.
fn grid(letter: char) -> &'static str {
    match letter {
        ' ' | '\u{a0}' => "",
        '0' => "~12 32 43 48 39 19 08 03 12",
        '1' => "07 29 22/02 42",
        '2' => "~07 08 19 39 48 46 35 02/02 42",
        '3' => "~08 19 39 48 47 36 26/~26 36 45 43 32 12 03",
        '4' => "39 04 44/39 32",
        '5' => "49 09 06 26/~26 36 45 43 32 12 03",
        '6' => "~48 39 19 07 03 12 32 43 45 36 16 04",
        '7' => "09 49 12",
        '8' => "~16 07 08 19 39 48 47 36 16/~16 05 03 12 32 43 45 36 16",
        '9' => "~03 12 32 44 48 39 19 08 06 15 35 47",
        'a' => "~06 17 37 46 45/45 42/~45 15 04 03 12 32 44",
        'b' => "09 02/~05 17 37 46 43 32 12 04",
        'c' => "~46 37 17 06 03 12 32 43",
        'd' => "49 42/~45 37 17 06 03 12 32 44",
        'e' => "05 45/~45 46 37 17 06 03 12 32 43",
        'f' => "~29 19 18 17/17 12/07 27",
        'g' => "47 41/~45 37 17 06 03 12 32 44/~41 30 10 01",
        'h' => "09 02/~05 17 37 46 45/45 42",
        'i' => "07 02/09 09",
        'j' => "17 11/~11 10 00/19 19",
        'k' => "09 02/47 04/15 42",
        'l' => "09 02",
        'm' => "07 02/~05 17 27 36 35/35 32/~35 47 57 66 65/65 62",
        'n' => "07 02/~05 17 37 46 45/45 42",
        'o' => "~12 32 43 46 37 17 06 03 12",
        'p' => "07 00/~05 17 37 46 43 32 12 04",
        'q' => "47 40/~45 37 17 06 03 12 32 44",
        'r' => "07 02/~05 16 27",
        's' => "~46 37 17 06 15 34 43 32 12 03",
        't' => "19 14/~14 12 22/07 27",
        'u' => "07 04/~04 03 12 32 44/47 42",
        'v' => "07 22 47",
        'w' => "07 12 36 52 67",
        'x' => "07 42/47 02",
        'y' => "07 22/47 10",
        'z' => "07 47 02 42",
        'A' => "02 29 42/15 35",
        'B' => "22 02 09 29/~29 39 48 47 36 26/06 26/~26 36 45 43 32 22",
        'C' => "~47 48 39 19 08 03 12 32 43 44",
        'D' => "22 02 09 29/~29 39 47 44 32 22",
        'E' => "49 09 02 42/06 36",
        'F' => "49 09 02/06 36",
        'G' => "~47 48 39 19 08 03 12 32 43 45/45 25",
        'H' => "09 02/49 42/06 46",
        'I' => "09 02",
        'J' => "49 44/~44 43 32 12 03 04",
        'K' => "09 02/49 05/16 42",
        'L' => "09 02 42",
        'M' => "02 09 35 69 62",
        'N' => "02 09 42 49",
        'O' => "~12 32 43 48 39 19 08 03 12",
        'P' => "02 09 29/~29 39 48 47 36 26/26 06",
        'Q' => "~12 32 43 48 39 19 08 03 12/24 41",
        'R' => "02 09 29/~29 39 48 47 36 26/26 06/26 42",
        'S' => "~47 48 39 19 08 07 16 35 44 43 32 12 03 04",
        'T' => "09 49/29 22",
        'U' => "09 04/~04 03 12 32 43 44/44 49",
        'V' => "09 22 49",
        'W' => "09 12 37 52 69",
        'X' => "09 42/49 02",
        'Y' => "09 26 49/26 22",
        'Z' => "09 49 02 42",
        '.' => "02 02",
        ',' => "13 12 01",
        ':' => "02 02/06 06",
        ';' => "16 16/13 12 01",
        '!' => "09 05/02 02",
        '?' => "~08 19 39 48 47 25 24/22 22",
        '\'' | '’' => "09 07",
        '"' => "09 07/29 27",
        '|' => "09 00",
        '(' => "~19 07 03 11",
        ')' => "~09 17 13 01",
        '[' => "19 09 01 11",
        ']' => "09 19 11 01",
        '{' => "29 19 17 05 13 11 21",
        '}' => "09 19 17 25 13 11 01",
        '/' => "01 39",
        '\\' => "09 31",
        '-' => "05 35",
        '−' | '–' | '—' => "05 45",
        '_' => "01 41",
        '+' => "05 45/23 27",
        '=' => "04 44/06 46",
        '*' => "25 29/06 48/08 46",
        '<' => "48 05 42",
        '>' => "08 45 02",
        '^' => "07 29 47",
        '~' => "~05 16 34 45",
        '`' => "09 17",
        '#' => "12 19/32 39/04 44/07 47",
        '$' => "~47 48 39 19 08 07 16 35 44 43 32 12 03 04/29 21",
        '%' => "12 59/~08 19 28 17 08/~43 54 63 52 43",
        '&' => "~42 17 18 29 38 37 05 03 12 22 44",
        '@' => "~52 22 04 07 29 49 67 65 54 45 47/~47 36 26 25 34 45",
        '·' => "05 05",
        '…' => "02 02/22 22/42 42",
        '±' => "06 46/24 28/02 42",
        '×' => "03 47/07 43",
        '≤' => "49 06 43/02 42",
        '≥' => "09 46 03/02 42",
        '→' => "05 45/37 45 33",
        _ => "02 42 49 09 02",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_ascii_letter_has_strokes_of_its_own() {
        let missing = grid('\u{2603}');
        for letter in '!'..='~' {
            assert_ne!(grid(letter), missing, "{letter}");
            let strokes = grid(letter).split('/').count();
            assert_eq!(glyph(letter).strokes.len(), strokes, "{letter}: a point that is not two digits");
        }
        assert!(glyph(' ').strokes.is_empty());
    }

    #[test]
    fn letters_keep_to_their_width_and_height() {
        for letter in '!'..='~' {
            let glyph = glyph(letter);
            for (x, y) in glyph.strokes.iter().flatten() {
                assert!((-0.03..=glyph.width + 0.03).contains(x), "{letter} {x} of {}", glyph.width);
                assert!((-0.21..=0.73).contains(y), "{letter} {y}");
            }
        }
    }
}
