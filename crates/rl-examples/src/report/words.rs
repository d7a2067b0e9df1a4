//! Comparisons of two models and their numbers in words.

use rl_eval::{PairedTest, Proportion};

/// A space at which no line ends.
const NO_BREAK: char = '\u{a0}';

/// Rates, tasks, difference and p-value in words.
pub(super) fn in_words(test: &PairedTest) -> String {
    format!(
        "{} {}, {} {}; of the same {} tasks the first alone solved {} and the second alone {} (difference {} \
         points [{}, {}], mid-p {})",
        test.before,
        percent_interval(&test.before_success),
        test.after,
        percent_interval(&test.after_success),
        test.before_success.trials,
        test.only_before,
        test.only_after,
        signed(100.0 * test.difference),
        signed(100.0 * test.difference_low),
        signed(100.0 * test.difference_high),
        p_value(test.mid_p)
    )
}

/// `41.2 %`.
pub(super) fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

/// `41.2 % [38.1, 44.3]`.
pub(super) fn percent_interval(share: &Proportion) -> String {
    format!("{} [{:.1}, {:.1}]", percent(share.rate), 100.0 * share.low, 100.0 * share.high)
}

/// One decimal and always a sign.
pub(super) fn signed(value: f64) -> String {
    format!("{value:+.1}").replace('-', "−")
}

/// Three digits, or a bound where that would be 0.
pub(super) fn p_value(p: f64) -> String {
    if p < 0.001 { "below 0.001".into() } else { format!("{p:.3}") }
}

/// Keeps a number, its unit and its interval on one line.
pub(super) fn unbroken(text: &str) -> String {
    let mut is_inside = false;
    let keep = |letter: char| {
        is_inside = (is_inside || letter == '[') && letter != ']';
        if is_inside && letter == ' ' { NO_BREAK } else { letter }
    };
    let text: String = text.chars().map(keep).collect();
    text.replace(" %", "\u{a0}%").replace(" [", "\u{a0}[")
}

/// `41.2 [38.1, 44.3]`, in percent.
pub(super) fn interval(share: &Proportion) -> String {
    unbroken(&format!("{:.1} [{:.1}, {:.1}]", 100.0 * share.rate, 100.0 * share.low, 100.0 * share.high))
}
