//! The table of objectives in `docs/parity.md`: what is compared with which implementation, how far apart they are, and
//! which documented difference there is. `REINS_WRITE_PARITY=1` rewrites the table; otherwise the page must list the same.

use std::path::Path;

use crate::PARITY_TOLERANCE;

/// One objective against one reference implementation.
#[derive(Debug, Clone)]
pub struct ParityRow {
    /// Our name of the objective, as a configuration spells it.
    pub objective: String,
    /// The implementation whose own code made the numbers.
    pub reference: String,
    /// Its version, as recorded in the fixture.
    pub version: String,
    /// Largest relative error over all values and gradients, see [`relative_error`].
    pub largest_error: f64,
    /// What the reference does differently by default, and the switch that reproduces it; empty when nothing.
    pub difference: String,
}

/// Every family that has rows, in the order of the page: add a line for yours.
// One a line, so that additions merge.
#[rustfmt::skip]
const FAMILIES: &[fn() -> Vec<ParityRow>] = &[
    crate::preference_parity::rows,
    crate::policy_parity::rows,
    crate::advantage_parity::rows,
];

const BEGIN: &str = "<!-- objectives:begin -->";
const END: &str = "<!-- objectives:end -->";

/// Largest distance of two arrays, in units of the largest expected number. Zero expected means zero wanted.
#[track_caller]
pub fn relative_error(actual: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(actual.len(), expected.len(), "{actual:?} against {expected:?}");
    let scale = expected.iter().fold(0.0_f64, |largest, value| largest.max(value.abs()));
    let distance = actual.iter().zip(expected).map(|(actual, expected)| (actual - expected).abs());
    // NaN must not vanish in a maximum.
    let distance =
        distance.fold(0.0_f64, |largest, value| if value > largest || value.is_nan() { value } else { largest });
    if distance == 0.0 { 0.0 } else { distance / scale }
}

fn render(rows: &[ParityRow], with_errors: bool) -> String {
    let mut text = String::from("| objective | reference | version | largest relative error | difference |\n");
    text.push_str("| --- | --- | --- | --- | --- |\n");
    for row in rows {
        let error = if with_errors { format!("{:.0e}", row.largest_error) } else { String::new() };
        let difference = if row.difference.is_empty() { "-" } else { &row.difference };
        text.push_str(&format!(
            "| `{}` | {} | {} | {error} | {difference} |\n",
            row.objective, row.reference, row.version
        ));
    }
    text
}

/// The table without the digits of its errors, which differ between machines.
fn without_errors(table: &str) -> String {
    let blank = |line: &str| {
        let mut cells: Vec<&str> = line.split('|').collect();
        if line.starts_with("| `") && cells.len() > 4 {
            cells[4] = "  ";
        }
        cells.join("|") + "\n"
    };
    table.lines().map(blank).collect()
}

#[test]
fn the_page_lists_every_objective() {
    let rows: Vec<ParityRow> = FAMILIES.iter().flat_map(|family| family()).collect();
    assert!(!rows.is_empty());
    for row in &rows {
        // Written so that NaN fails.
        let within = row.largest_error <= PARITY_TOLERANCE;
        assert!(within, "{} against {}: {}", row.objective, row.reference, row.largest_error);
        for text in [&row.objective, &row.reference, &row.version, &row.difference] {
            assert!(!text.contains('|') && !text.contains('\n'), "{text:?} would break the table");
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/parity.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once(BEGIN).unwrap_or_else(|| panic!("{BEGIN} is missing in {}", path.display()));
    let (table, after) = rest.split_once(END).unwrap_or_else(|| panic!("{END} is missing in {}", path.display()));
    if std::env::var_os("REINS_WRITE_PARITY").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}\n{}{END}{after}", render(&rows, true))).unwrap();
        return;
    }
    let listed = without_errors(table.trim_start());
    assert_eq!(
        listed,
        render(&rows, false),
        "rewrite the table of docs/parity.md: REINS_WRITE_PARITY=1 cargo test -p rl-core"
    );
}

#[test]
fn a_wrong_number_would_be_seen() {
    assert_eq!(relative_error(&[1.0, -2.0], &[1.0, -2.0]), 0.0);
    assert_eq!(relative_error(&[0.0, -2.0], &[0.5, -2.0]), 0.25);
    assert_eq!(relative_error(&[1e-9], &[0.0]), f64::INFINITY);
    assert!(relative_error(&[1.0, f64::NAN], &[1.0, 1.0]).is_nan());
}
