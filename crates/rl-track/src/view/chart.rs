//! A curve drawn with letters: dots of braille, or four signs of ASCII.

/// Ranges of values that the edges of a chart stand for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ranges {
    pub x: (f64, f64),
    pub y: (f64, f64),
}

impl Ranges {
    /// What all finite points of several curves need; `None` without any.
    pub fn of<'a>(curves: impl Iterator<Item = &'a [(u64, f64)]>) -> Option<Self> {
        let mut ranges: Option<Self> = None;
        for (step, value) in curves.flatten().filter(|(_, value)| value.is_finite()) {
            let (x, y) = (*step as f64, *value);
            let own = ranges.get_or_insert(Self { x: (x, x), y: (y, y) });
            own.x = (own.x.0.min(x), own.x.1.max(x));
            own.y = (own.y.0.min(y), own.y.1.max(y));
        }
        ranges
    }
}

/// A curve with about one point per column: where there are more, their mean, since a screen full of noise says nothing.
///
/// Values that are not finite are left out of the mean; a column that has no others is a gap.
pub(super) fn averaged(points: &[(u64, f64)], columns: usize) -> Vec<(u64, f64)> {
    let (Some((first, _)), Some((last, _)), true) = (points.first(), points.last(), points.len() > columns.max(1))
    else {
        return points.to_vec();
    };
    let span = last.saturating_sub(*first).max(1) as f64;
    // The last point belongs to the last column, not to one of its own.
    let column = |point: &(u64, f64)| {
        let share = point.0.saturating_sub(*first) as f64 / span;
        ((share * columns as f64) as usize).min(columns.saturating_sub(1))
    };
    let mean = |chunk: &[(u64, f64)]| {
        let finite: Vec<f64> = chunk.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).collect();
        (chunk[chunk.len() / 2].0, finite.iter().sum::<f64>() / finite.len() as f64)
    };
    points.chunk_by(|left, right| column(left) == column(right)).map(mean).collect()
}

/// Marks per letter across and down.
pub(super) fn marks_per_letter(is_ascii: bool) -> (usize, usize) {
    if is_ascii { (1, 3) } else { (2, 4) }
}

/// Rows of a chart, the top one first, each `width` letters.
pub(super) fn chart(points: &[(u64, f64)], ranges: Ranges, width: usize, height: usize, is_ascii: bool) -> Vec<String> {
    let (across, down) = marks_per_letter(is_ascii);
    let marks = marks(points, ranges, width * across, height * down);
    let letter = |row: usize, column: usize| {
        let is_set = |dx: usize, dy: usize| marks[row * down + dy][column * across + dx];
        if is_ascii {
            return match [is_set(0, 0), is_set(0, 1), is_set(0, 2)] {
                [false, false, false] => ' ',
                [true, false, false] => '\'',
                [false, true, false] => '-',
                [false, false, true] => '_',
                _ => '|',
            };
        }
        // Unicode 2800: the dots' bits, left column and right column from the top.
        const BITS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
        let dots = (0..2).flat_map(|dx| (0..4).map(move |dy| (dx, dy)));
        let bits: u32 = dots.filter(|(dx, dy)| is_set(*dx, *dy)).map(|(dx, dy)| BITS[dx][dy]).sum();
        if bits == 0 { ' ' } else { char::from_u32(0x2800 + bits).unwrap_or(' ') }
    };
    (0..height).map(|row| (0..width).map(|column| letter(row, column)).collect()).collect()
}

/// Half a column, a little less, so that a point in between belongs to one column only.
const HALF: f64 = 0.499;

/// Which marks the curve passes, `[height][width]` from the top. A value that is not finite is a gap.
fn marks(points: &[(u64, f64)], ranges: Ranges, width: usize, height: usize) -> Vec<Vec<bool>> {
    let mut marks = vec![vec![false; width]; height];
    if width == 0 || height == 0 {
        return marks;
    }
    let place = |value: f64, (low, high): (f64, f64), count: usize| {
        let share = if high > low { (value - low) / (high - low) } else { 0.5 };
        (share * (count - 1) as f64).round().clamp(0.0, (count - 1) as f64) as usize
    };
    let mut last: Option<(usize, usize)> = None;
    for (step, value) in points {
        if !value.is_finite() {
            last = None;
            continue;
        }
        let at = (place(*step as f64, ranges.x, width), height - 1 - place(*value, ranges.y, height));
        let from = last.unwrap_or(at);
        for column in from.0..=at.0 {
            // The heights at which a straight line enters and leaves this column.
            let height_at = |column: f64| {
                let share = if at.0 > from.0 { (column - from.0 as f64) / (at.0 - from.0) as f64 } else { 1.0 };
                from.1 as f64 + share.clamp(0.0, 1.0) * (at.1 as f64 - from.1 as f64)
            };
            let (enter, leave) = if at.0 == from.0 {
                (from.1 as f64, at.1 as f64)
            } else {
                (height_at(column as f64 - HALF), height_at(column as f64 + HALF))
            };
            let (low, high) = (enter.min(leave).round() as usize, enter.max(leave).round() as usize);
            marks[low..=high.min(height - 1)].iter_mut().for_each(|row| row[column] = true);
        }
        last = Some(at);
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(points: &[(u64, f64)], width: usize, height: usize, is_ascii: bool) -> Vec<String> {
        chart(points, Ranges::of([points].into_iter()).unwrap(), width, height, is_ascii)
    }

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        // eight dots across and eight down: the diagonal
        let points: Vec<(u64, f64)> = (0..8).map(|step| (step, step as f64)).collect();
        assert_eq!(draw(&points, 4, 2, false), ["  ⡠⠊", "⡠⠊  "]);
        let points: Vec<(u64, f64)> = (0..6).map(|step| (step, step as f64)).collect();
        assert_eq!(draw(&points, 6, 2, true), ["   _-'", "_-'   "]);
    }

    #[test]
    fn a_nan_is_a_gap_and_a_constant_is_in_the_middle() {
        let points = [(0, 1.0), (1, 1.0), (2, f64::NAN), (3, 1.0), (4, 1.0)];
        assert_eq!(draw(&points, 5, 1, true), ["-- --"]);
        assert_eq!(draw(&[(7, 3.0)], 3, 1, true), [" - "]);
    }

    #[test]
    fn a_jump_is_one_connected_stroke() {
        // six marks down: the left column takes the lower half of the way, the right one the upper
        assert_eq!(draw(&[(0, 0.0), (1, 1.0)], 2, 2, true), [" |", "| "]);
    }

    #[test]
    fn crowded_columns_show_their_mean() {
        let points: Vec<(u64, f64)> = (0..8).map(|step| (step, [1.0, 3.0, f64::NAN, 5.0][step as usize % 4])).collect();
        // steps 0 to 3 and 4 to 7, the mean of 1, 3 and 5
        assert_eq!(averaged(&points, 2), [(2, 3.0), (6, 3.0)]);
        assert_eq!(averaged(&points, 8).len(), 8);
        let gap = averaged(&[(0, f64::NAN), (1, f64::NAN), (2, 1.0), (3, 1.0)], 2);
        assert!(gap[0].1.is_nan() && gap[1] == (3, 1.0), "{gap:?}");
        assert!(averaged(&[], 5).is_empty());
    }

    #[test]
    fn no_room_draws_nothing() {
        assert_eq!(draw(&[(0, 0.0), (1, 1.0)], 0, 1, false), [""]);
        assert!(draw(&[(0, 0.0)], 3, 0, false).is_empty());
    }
}
