//! What a selection kept, in figures and bars.

use crate::error::{Error, Result};
use crate::select::SelectionReport;

/// Most bars of a histogram.
const MAX_BARS: usize = 12;

/// Rows kept and dropped by reason, tokens and the trained share, one a line.
pub fn selection_figures(report: &SelectionReport) -> String {
    let share = |part: usize, whole: usize| if whole == 0 { 0.0 } else { 100.0 * part as f64 / whole as f64 };
    let mut out =
        format!("rows       {}\nkept       {} ({:.1} %)\n", report.rows, report.kept, share(report.kept, report.rows));
    for (reason, count) in report.dropped().into_iter().filter(|(_, count)| *count > 0) {
        out.push_str(&format!("dropped    {count} ({:.1} %): {reason}\n", share(count, report.rows)));
    }
    if let Some(failure) = &report.first_failure {
        out.push_str(&format!("           first not renderable: {failure}\n"));
    }
    if report.truncated > 0 {
        out.push_str(&format!("cut        {} rows, {} tokens\n", report.truncated, report.tokens_cut));
    }
    if report.merged_seams > 0 {
        out.push_str(&format!("seams      {} rows with a merged token\n", report.merged_seams));
    }
    if report.max_length < usize::MAX {
        out.push_str(&format!("limit      {} tokens\n", report.max_length));
    }
    let trained = share(report.trainable_tokens, report.tokens);
    out + &format!("tokens     {}\ntrained    {} ({trained:.1} %)\n", report.tokens, report.trainable_tokens)
}

/// Lengths as bars of equal bins, with median, mean and 95th percentile; lines of at most `width` columns, 40 or more.
pub fn length_histogram(lengths: &[usize], width: usize) -> Result<String> {
    let (Some(&low), Some(&high)) = (lengths.iter().min(), lengths.iter().max()) else {
        return Ok("no lengths\n".to_string());
    };
    let bin = (high - low + 1).div_ceil(MAX_BARS);
    let mut counts = vec![0_usize; (high - low) / bin + 1];
    lengths.iter().for_each(|length| counts[(length - low) / bin] += 1);
    let digits = high.to_string().len();
    let most = counts.iter().max().copied().unwrap_or(1);
    let count_digits = most.to_string().len();
    let room = width.max(40).saturating_sub(2 * digits + count_digits + 4);
    let mut out = String::from("tokens of a row\n");
    for (index, count) in counts.iter().enumerate() {
        let from = low + index * bin;
        // A bin with any row shows.
        let bar = (count * room).div_ceil(most).min(room);
        let to = (from + bin - 1).min(high);
        out.push_str(
            format!("{from:>digits$}-{to:>digits$} {count:>count_digits$} {}", "\u{2588}".repeat(bar)).trim_end(),
        );
        out.push('\n');
    }
    let numbers: Vec<f64> = lengths.iter().map(|&length| length as f64).collect();
    let quantile = |q: f64| {
        let problem = |error: rl_core::Error| Error::Setting {
            name: "lengths",
            value: error.to_string(),
            rule: "must be finite",
        };
        rl_core::statistics::quantile(&numbers, q).map_err(problem)
    };
    let mean = numbers.iter().sum::<f64>() / numbers.len() as f64;
    Ok(out
        + &format!(
            "median {:.0}, mean {mean:.1}, 95th percentile {:.1}, longest {high}\n",
            quantile(0.5)?,
            quantile(0.95)?
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_counts() {
        // Twelve bins of two: 0-1, 2-3, ..., 22-23.
        let lengths: Vec<usize> = (0..24).chain([0, 1, 1]).collect();
        let shown = length_histogram(&lengths, 40).unwrap();
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines.len(), 14);
        let bar = |line: &str| line.chars().filter(|c| *c == '█').count();
        // 40 columns less 2 + 1 + 2 of the bin, 1 of the count and 2 spaces.
        assert_eq!((lines[1].starts_with(" 0- 1 5 █"), bar(lines[1]), bar(lines[2])), (true, 31, 13));
        assert!(lines.iter().all(|line| line.chars().count() <= 40 || line.starts_with("median")), "{shown}");
        // 27 lengths: the 14th is 10, the sum 278, position 0.95 * 26 = 24.7.
        assert_eq!(lines[13], "median 10, mean 10.3, 95th percentile 21.7, longest 23");
        assert_eq!(length_histogram(&[7], 80).unwrap().lines().nth(1).unwrap().split(' ').next(), Some("7-7"));
        assert_eq!(length_histogram(&[], 80).unwrap(), "no lengths\n");
    }

    #[test]
    fn reasons_without_rows_are_left_out() {
        let report = SelectionReport {
            rows: 10,
            kept: 7,
            dropped_too_long: 3,
            max_length: 64,
            tokens: 200,
            trainable_tokens: 50,
            ..SelectionReport::default()
        };
        let expected = "rows       10\nkept       7 (70.0 %)\ndropped    3 (30.0 %): too long\nlimit      64 tokens\n\
            tokens     200\ntrained    50 (25.0 %)\n";
        assert_eq!(selection_figures(&report), expected);
    }
}
