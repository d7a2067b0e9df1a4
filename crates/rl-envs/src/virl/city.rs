//! A synthetic city: a jittered grid of streets with an occasional diagonal one. A city is a function of its number alone.

use rl_core::random::RandomKey;

use super::geodesy::Geocode;
use crate::error::Result;

/// Intersections along each side of the grid.
pub const SIDE: usize = 24;
/// Where every city's south-western corner lies.
pub const ORIGIN: (f64, f64) = (40.75, -73.99);
/// Distance between parallel streets, metres, before intersections are shifted.
pub const SPACING_M: [f64; 2] = [60.0, 120.0];
/// Turn of the grid clockwise, degrees; the city's number picks one, round and round.
pub const ROTATIONS: [f64; 3] = [0.0, 29.0, 45.0];
/// Each intersection is shifted by at most this much to each side, metres, so that streets bend a little.
pub const JITTER_M: f64 = 5.0;
/// Share of blocks with a street from corner to corner.
pub const DIAGONAL_SHARE: f64 = 0.15;

/// A direction of walking on the grid: columns and rows gained, each -1, 0 or 1.
pub type Way = (i8, i8);

/// The ways out of an intersection before the city says which exist, clockwise from the rotated north.
const WAYS: [Way; 8] = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)];

/// An intersection by column and row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Intersection {
    /// Column, `0..SIDE`.
    pub column: usize,
    /// Row, `0..SIDE`.
    pub row: usize,
}

/// Streets and intersections.
#[derive(Debug, Clone)]
pub struct City {
    origin: Geocode,
    /// Sine and cosine of the rotation.
    rotation: (f64, f64),
    /// Of the shifts of intersections, and of diagonal streets.
    shifts: RandomKey,
    diagonals: RandomKey,
    /// Metres east of each column and north of each row, before the rotation.
    columns: [f64; SIDE],
    rows: [f64; SIDE],
}

impl City {
    /// City `number`.
    ///
    /// # Errors
    /// None for the origin in use; a city over a pole has no coordinates.
    pub fn new(number: u64) -> Result<Self> {
        let key = RandomKey::new(number, "virl/city");
        let along = |axis: u64| {
            let mut place = 0.0;
            std::array::from_fn(|index| {
                let here = place;
                place += SPACING_M[0] + (SPACING_M[1] - SPACING_M[0]) * key.at(axis).uniform(index as u64);
                here
            })
        };
        Ok(City {
            origin: Geocode::new(ORIGIN.0, ORIGIN.1)?,
            rotation: ROTATIONS[(number % ROTATIONS.len() as u64) as usize].to_radians().sin_cos(),
            shifts: key.at(2),
            diagonals: key.at(3),
            columns: along(0),
            rows: along(1),
        })
    }

    /// Metres east and north of the city's corner.
    pub fn metres(&self, at: Intersection) -> (f64, f64) {
        let Intersection { column, row } = at;
        let key = self.shifts.at((column * SIDE + row) as u64);
        let jitter = |position| JITTER_M * (2.0 * key.uniform(position) - 1.0);
        let (x, y) = (self.columns[column % SIDE] + jitter(0), self.rows[row % SIDE] + jitter(1));
        let (sin, cos) = self.rotation;
        // North turned clockwise by r points to (sin r, cos r).
        (x * cos + y * sin, y * cos - x * sin)
    }

    /// The place `east` and `north` metres of the city's corner.
    ///
    /// # Errors
    /// [`crate::Error::Geocode`] far outside the city.
    pub fn place(&self, (east, north): (f64, f64)) -> Result<Geocode> {
        self.origin.offset(east, north)
    }

    /// The intersection one block away, if a street leads there.
    pub fn step(&self, from: Intersection, way: Way) -> Option<Intersection> {
        let column = from.column.checked_add_signed(isize::from(way.0)).filter(|&column| column < SIDE)?;
        let row = from.row.checked_add_signed(isize::from(way.1)).filter(|&row| row < SIDE)?;
        let is_open = way.0 == 0 || way.1 == 0 || self.has_diagonal(from.column.min(column), from.row.min(row), way);
        is_open.then_some(Intersection { column, row })
    }

    /// The ways out of an intersection, clockwise from the rotated north.
    pub fn ways(&self, from: Intersection) -> impl Iterator<Item = (Way, Intersection)> + '_ {
        WAYS.into_iter().filter_map(move |way| Some((way, self.step(from, way)?)))
    }

    /// Whether the block with this south-western corner has a diagonal street along `way`.
    fn has_diagonal(&self, column: usize, row: usize, way: Way) -> bool {
        let key = self.diagonals.at((column * SIDE + row) as u64);
        let rises = way.0 == way.1;
        key.uniform(0) < DIAGONAL_SHARE && (key.below(1, 2) == 0) == rises
    }
}
