//! The picture of the results: how many times the peer, beside what was aimed at.

use std::path::Path;

use anyhow::{Context, Result};
use rl_track::plot::{Bar, BarChart, Category};
use serde::Deserialize;

/// The part of the results file that the picture shows.
#[derive(Deserialize)]
struct Page {
    rows: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    label: String,
    /// How many times better ours is; absent where the peer was not run.
    ratio: Option<f64>,
    aim: f64,
}

/// Writes the bar chart of the results in `page` to `out`.
pub fn draw(page: &Path, out: &Path) -> Result<()> {
    let text = std::fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let page: Page =
        serde_json::from_str(&text).with_context(|| format!("{} is not what bench writes", page.display()))?;
    rl_track::atomic::write_atomically(out, chart(&page).as_bytes())?;
    Ok(())
}

fn chart(page: &Page) -> String {
    let category = |row: &Row| Category {
        label: row.label.clone(),
        bars: vec![Bar::new(row.ratio.unwrap_or(f64::NAN)), Bar::new(row.aim)],
    };
    let chart = BarChart {
        title: "Times the speed of the Python peer (memory: peer's peak over ours)".into(),
        y_label: "times".into(),
        series: vec!["measured".into(), "aimed at".into()],
        categories: page.rows.iter().map(category).collect(),
        decimals: Some(2),
        ..BarChart::default()
    };
    chart.to_svg()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratio_and_aim_stand_side_by_side() {
        let text = r#"{"rows": [{"label": "decode", "ratio": 1.75, "aim": 1.5, "unit": "tokens/s"}], "threads": 2}"#;
        let svg = chart(&serde_json::from_str(text).unwrap());
        for expected in ["decode", "1.75", "1.50", "measured", "aimed at"] {
            assert!(svg.contains(expected), "{expected}");
        }
    }
}
