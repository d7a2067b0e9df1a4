//! All curves of a run as one wide table.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use crate::atomic::write_atomically;
use crate::clock::utc_timestamp;
use crate::curves::{Curves, csv_field};
use crate::error::Result;

/// What a step measured.
#[derive(Default)]
struct Row {
    /// Seconds since 1970 of the step's last point.
    time: Option<f64>,
    /// By place of the tag.
    values: BTreeMap<usize, f64>,
}

/// Writes a table with a row per step and the columns `step`, `timestamp` and one per tag, as Trackio's `import_csv` asks.
///
/// A cell without a measurement is empty. Numbers that are not finite stand as `NaN`, `inf` and `-inf`. The column
/// `timestamp` (UTC, milliseconds) is there if every step has a time.
///
/// # Errors
/// The run cannot be read or the file not be written.
pub fn table(run_folder: &Path, out: &Path) -> Result<()> {
    write_atomically(out, to_text(&Curves::read(run_folder)?).as_bytes())
}

fn to_text(run: &Curves) -> String {
    let mut rows: BTreeMap<i64, Row> = BTreeMap::new();
    for (place, points) in run.by_tag.values().enumerate() {
        for point in points {
            let row = rows.entry(point.step).or_default();
            row.values.insert(place, point.value);
            if point.wall_time.is_finite() {
                row.time = Some(row.time.map_or(point.wall_time, |time| time.max(point.wall_time)));
            }
        }
    }
    let has_times = rows.values().all(|row| row.time.is_some());
    let mut out = String::from("step");
    if has_times {
        out.push_str(",timestamp");
    }
    for tag in run.by_tag.keys() {
        out.push(',');
        out.push_str(&csv_field(tag));
    }
    out.push('\n');
    for (step, row) in &rows {
        out.push_str(&step.to_string());
        if let Some(time) = row.time.filter(|_| has_times) {
            out.push(',');
            out.push_str(&timestamp(time));
        }
        for place in 0..run.by_tag.len() {
            out.push(',');
            if let Some(value) = row.values.get(&place) {
                out.push_str(&format!("{value:?}"));
            }
        }
        out.push('\n');
    }
    out
}

/// `2026-11-21T09:30:00.250Z`.
fn timestamp(seconds: f64) -> String {
    let milliseconds = (seconds.max(0.0) * 1000.0).round() as u64;
    let whole = utc_timestamp(UNIX_EPOCH + Duration::from_millis(milliseconds));
    format!("{}.{:03}Z", whole.trim_end_matches('Z'), milliseconds % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_milliseconds() {
        assert_eq!(timestamp(951_782_399.000_4), "2000-02-28T23:59:59.000Z");
        assert_eq!(timestamp(951_782_399.999_6), "2000-02-29T00:00:00.000Z");
        assert_eq!(timestamp(1.25), "1970-01-01T00:00:01.250Z");
    }
}
