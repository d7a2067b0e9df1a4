//! Shapes on cards: ranks as strokes of a pen, suits as areas, and where the pips stand. All in a box of side 1 around the
//! origin, y down.

use crate::picture::Pen::{self, Curve, Line, Move};
use crate::picture::{Outline, Place};

/// Width of the strokes of a small rank.
pub(super) const RANK_WIDTH: f64 = 0.15;

/// The rank as written on a card, in strokes `width` wide.
pub(super) fn rank(rank: u8, width: f64, place: Place) -> Outline {
    let strokes = STROKES.get(usize::from(rank)).copied().unwrap_or_default();
    Outline::strokes(strokes, width, place)
}

/// The suit of this letter.
pub(super) fn suit(letter: char, place: Place) -> Outline {
    let sign = if place.turned { -place.scale } else { place.scale };
    let disc = |x: f64, y: f64, radius: f64| {
        Outline::disc((place.center.0 + sign * x, place.center.1 + sign * y), radius * place.scale)
    };
    match letter {
        'H' => Outline::area(HEART, place),
        'D' => Outline::area(DIAMOND, place),
        'S' => Outline::area(SPADE, place).with(Outline::area(STEM, place)),
        _ => {
            let leaves = disc(0.0, -0.25, 0.24).with(disc(-0.25, 0.1, 0.24)).with(disc(0.25, 0.1, 0.24));
            leaves.with(disc(0.0, 0.0, 0.1)).with(Outline::area(STEM, place))
        }
    }
}

/// Where the suit signs of a number card stand, as shares of its width and height.
pub(super) fn pips(rank: u8) -> Vec<(f64, f64)> {
    let columns = |rows: &[f64]| rows.iter().flat_map(|&row| [(0.34, row), (0.66, row)]).collect::<Vec<_>>();
    let middle = |rows: &[f64]| rows.iter().map(|&row| (0.5, row)).collect::<Vec<_>>();
    let (sides, between): (&[f64], &[f64]) = match rank {
        1 => (&[], &[0.5]),
        2 => (&[], &[0.2, 0.8]),
        3 => (&[], &[0.2, 0.5, 0.8]),
        4 => (&[0.2, 0.8], &[]),
        5 => (&[0.2, 0.8], &[0.5]),
        6 => (&[0.2, 0.5, 0.8], &[]),
        7 => (&[0.2, 0.5, 0.8], &[0.35]),
        8 => (&[0.2, 0.5, 0.8], &[0.35, 0.65]),
        9 => (&[0.2, 0.4, 0.6, 0.8], &[0.5]),
        10 => (&[0.2, 0.4, 0.6, 0.8], &[0.3, 0.7]),
        _ => (&[], &[]),
    };
    [columns(sides), middle(between)].concat()
}

/// By rank, 1 to 13.
const STROKES: [&[Pen]; 14] = [
    &[],
    // A
    &[Move(-0.3, 0.5), Line(0.0, -0.5), Line(0.3, 0.5), Move(-0.19, 0.16), Line(0.19, 0.16)],
    // 2
    &[
        Move(-0.28, -0.25),
        Curve((-0.28, -0.6), (0.28, -0.6), (0.28, -0.22)),
        Curve((0.28, 0.02), (-0.1, 0.2), (-0.28, 0.5)),
        Line(0.3, 0.5),
    ],
    // 3
    &[
        Move(-0.27, -0.32),
        Curve((-0.2, -0.58), (0.26, -0.58), (0.26, -0.25)),
        Curve((0.26, -0.06), (0.1, -0.02), (-0.05, -0.02)),
        Curve((0.14, -0.02), (0.29, 0.06), (0.29, 0.24)),
        Curve((0.29, 0.6), (-0.24, 0.6), (-0.29, 0.3)),
    ],
    // 4
    &[Move(0.15, 0.5), Line(0.15, -0.5), Line(-0.3, 0.2), Line(0.3, 0.2)],
    // 5
    &[
        Move(0.25, -0.5),
        Line(-0.2, -0.5),
        Line(-0.24, -0.06),
        Curve((-0.05, -0.2), (0.29, -0.16), (0.29, 0.17)),
        Curve((0.29, 0.6), (-0.22, 0.6), (-0.29, 0.34)),
    ],
    // 6
    &[
        Move(0.22, -0.42),
        Curve((-0.05, -0.62), (-0.29, -0.3), (-0.29, 0.14)),
        Curve((-0.29, 0.62), (0.29, 0.62), (0.29, 0.18)),
        Curve((0.29, -0.2), (-0.24, -0.2), (-0.28, 0.14)),
    ],
    // 7
    &[Move(-0.29, -0.5), Line(0.29, -0.5), Line(-0.08, 0.5)],
    // 8
    &[
        Move(0.0, -0.04),
        Curve((-0.33, -0.04), (-0.33, -0.5), (0.0, -0.5)),
        Curve((0.33, -0.5), (0.33, -0.04), (0.0, -0.04)),
        Curve((-0.4, -0.04), (-0.4, 0.5), (0.0, 0.5)),
        Curve((0.4, 0.5), (0.4, -0.04), (0.0, -0.04)),
    ],
    // 9
    &[
        Move(-0.22, 0.42),
        Curve((0.05, 0.62), (0.29, 0.3), (0.29, -0.14)),
        Curve((0.29, -0.62), (-0.29, -0.62), (-0.29, -0.18)),
        Curve((-0.29, 0.2), (0.24, 0.2), (0.28, -0.14)),
    ],
    // 10
    &[
        Move(-0.45, -0.32),
        Line(-0.3, -0.5),
        Line(-0.3, 0.5),
        Move(0.17, -0.5),
        Curve((0.47, -0.5), (0.47, 0.5), (0.17, 0.5)),
        Curve((-0.13, 0.5), (-0.13, -0.5), (0.17, -0.5)),
    ],
    // J
    &[Move(0.18, -0.5), Line(0.18, 0.22), Curve((0.18, 0.6), (-0.26, 0.6), (-0.26, 0.2))],
    // Q
    &[
        Move(0.0, -0.5),
        Curve((0.42, -0.5), (0.42, 0.5), (0.0, 0.5)),
        Curve((-0.42, 0.5), (-0.42, -0.5), (0.0, -0.5)),
        Move(0.08, 0.22),
        Line(0.32, 0.56),
    ],
    // K
    &[Move(-0.25, -0.5), Line(-0.25, 0.5), Move(0.27, -0.5), Line(-0.25, 0.08), Move(-0.09, -0.1), Line(0.3, 0.5)],
];

const HEART: &[Pen] = &[
    Move(0.0, 0.5),
    Curve((-0.12, 0.28), (-0.5, 0.05), (-0.5, -0.2)),
    Curve((-0.5, -0.42), (-0.34, -0.5), (-0.24, -0.5)),
    Curve((-0.1, -0.5), (-0.02, -0.4), (0.0, -0.27)),
    Curve((0.02, -0.4), (0.1, -0.5), (0.24, -0.5)),
    Curve((0.34, -0.5), (0.5, -0.42), (0.5, -0.2)),
    Curve((0.5, 0.05), (0.12, 0.28), (0.0, 0.5)),
];

const DIAMOND: &[Pen] = &[Move(0.0, -0.5), Line(0.38, 0.0), Line(0.0, 0.5), Line(-0.38, 0.0)];

const SPADE: &[Pen] = &[
    Move(0.0, -0.5),
    Curve((0.12, -0.28), (0.5, -0.08), (0.5, 0.15)),
    Curve((0.5, 0.3), (0.36, 0.38), (0.24, 0.38)),
    Curve((0.12, 0.38), (0.03, 0.3), (0.0, 0.2)),
    Curve((-0.03, 0.3), (-0.12, 0.38), (-0.24, 0.38)),
    Curve((-0.36, 0.38), (-0.5, 0.3), (-0.5, 0.15)),
    Curve((-0.5, -0.08), (-0.12, -0.28), (0.0, -0.5)),
];

/// Under spades and clubs.
const STEM: &[Pen] = &[
    Move(0.0, 0.0),
    Curve((0.02, 0.3), (0.08, 0.45), (0.2, 0.5)),
    Line(-0.2, 0.5),
    Curve((-0.08, 0.45), (-0.02, 0.3), (0.0, 0.0)),
];
