//! Axes: from values to pixels, and ticks at round numbers.

/// How values are laid out along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Scale {
    /// Equal steps are equal differences.
    #[default]
    Linear,
    /// Equal steps are equal factors. Values of zero or less cannot be drawn.
    Log,
    /// Logarithmic far from zero and linear near it: `sign(x) * log10(1 + |x| / linear_below)`.
    Symlog {
        /// Size below which the axis is about linear; must be positive.
        linear_below: f64,
    },
}

impl Scale {
    /// Place on the axis, in arbitrary units; NaN where the value cannot be drawn.
    pub(super) fn place(self, value: f64) -> f64 {
        let place = match self {
            Self::Linear => value,
            Self::Log if value > 0.0 => value.log10(),
            Self::Log => f64::NAN,
            Self::Symlog { linear_below } => {
                value.signum() * (value.abs() / linear_below).ln_1p() / std::f64::consts::LN_10
            }
        };
        if place.is_finite() { place } else { f64::NAN }
    }
}

/// A labelled position on an axis.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Tick {
    pub value: f64,
    pub label: String,
}

/// An axis with its range and its place on the page.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    scale: Scale,
    /// Range in the units of [`Scale::place`].
    low: f64,
    high: f64,
    /// All values are whole, so ticks are too.
    is_whole: bool,
    /// Where `low` and `high` lie in pixels.
    pub pixels: (f64, f64),
}

impl Axis {
    /// An axis that shows all drawable values, widened on both sides by `margin` times their range.
    ///
    /// A `fixed` range of values wins over them if it can be drawn.
    pub fn fit(scale: Scale, values: impl Iterator<Item = f64>, margin: f64, fixed: Option<(f64, f64)>) -> Self {
        let (mut low, mut high, mut is_whole) = (f64::INFINITY, f64::NEG_INFINITY, true);
        for value in values {
            let place = scale.place(value);
            if place.is_finite() {
                (low, high) = (low.min(place), high.max(place));
                is_whole &= value.fract() == 0.0;
            }
        }
        if low > high {
            (low, high, is_whole) = (0.0, 1.0, false);
        } else if high - low <= 1e-12 * low.abs().max(high.abs()) {
            let half = if scale == Scale::Linear && low != 0.0 { low.abs() * 0.1 } else { 0.5 };
            (low, high) = (low - half, high + half);
        } else {
            let extra = (high - low) * margin;
            (low, high) = (low - extra, high + extra);
        }
        if let Some((from, to)) = fixed.map(|(from, to)| (scale.place(from), scale.place(to)))
            && from < to
        {
            (low, high) = (from, to);
        }
        Self { scale, low, high, is_whole, pixels: (0.0, 1.0) }
    }

    /// Pixel of a value; NaN where it cannot be drawn.
    pub fn pixel(&self, value: f64) -> f64 {
        let share = (self.scale.place(value) - self.low) / (self.high - self.low);
        self.pixels.0 + share * (self.pixels.1 - self.pixels.0)
    }

    /// True if the value lies in the range that is shown.
    pub fn shows(&self, value: f64) -> bool {
        let slack = 1e-9 * (self.high - self.low);
        let place = self.scale.place(value);
        self.low - slack <= place && place <= self.high + slack
    }

    /// About `count` labelled ticks inside the range. Whole steps only, if `prefer_whole` and all values are whole.
    pub fn ticks(&self, count: usize, prefer_whole: bool) -> Vec<Tick> {
        match self.scale {
            Scale::Linear => linear_ticks(self.low, self.high, count, prefer_whole && self.is_whole),
            Scale::Log if self.high - self.low < 1.0 => {
                let (low, high) = (10f64.powf(self.low), 10f64.powf(self.high));
                linear_ticks(low, high, count, false).into_iter().filter(|tick| tick.value > 0.0).collect()
            }
            Scale::Log => self.decade_ticks(count, false),
            Scale::Symlog { .. } => self.decade_ticks(count, true),
        }
    }

    fn decade_ticks(&self, count: usize, is_signed: bool) -> Vec<Tick> {
        let digits: &[f64] = if self.high - self.low <= 2.5 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let mut values: Vec<f64> = (-300..=300)
            .flat_map(|exponent| digits.iter().map(move |digit| digit * 10f64.powi(exponent)))
            .flat_map(|value| if is_signed { vec![value, -value] } else { vec![value] })
            .filter(|value| self.shows(*value))
            .collect();
        if let Scale::Symlog { linear_below } = self.scale {
            values.retain(|value| value.abs() >= linear_below * 0.999);
            if self.shows(0.0) {
                values.push(0.0);
            }
        }
        values.sort_by(f64::total_cmp);
        // Too many decades: keep every second, third, ... counted from zero or from 1.
        let stride = values.len().div_ceil(count.max(2) + 2).max(1);
        let anchor = values.iter().position(|value| *value == 0.0).unwrap_or(0);
        let kept = values.into_iter().enumerate().filter(|(index, _)| index.abs_diff(anchor).is_multiple_of(stride));
        kept.map(|(_, value)| Tick { value, label: short_number(value) }).collect()
    }
}

fn linear_ticks(low: f64, high: f64, count: usize, is_whole: bool) -> Vec<Tick> {
    let rough = (high - low) / count.max(1) as f64;
    let power = 10f64.powf(rough.log10().floor());
    let nice = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|step| step * power >= rough * 0.999).unwrap_or(10.0);
    let mut step = nice * power;
    if is_whole {
        step = step.round().max(1.0);
    }
    let first = (low / step - 1e-9).ceil() as i64;
    let last = (high / step + 1e-9).floor() as i64;
    let (divisor, suffix) = unit(low.abs().max(high.abs()));
    let label = |value: f64| {
        let scaled = value / divisor;
        if suffix.starts_with('e') {
            let text = format!("{}{suffix}", fixed(scaled, decimals(step / divisor)));
            return if value == 0.0 { "0".to_owned() } else { text };
        }
        let text = fixed(scaled, decimals(step / divisor));
        if value == 0.0 { "0".to_owned() } else { format!("{text}{suffix}") }
    };
    (first..=last).map(|index| index as f64 * step).map(|value| Tick { value, label: label(value) }).collect()
}

/// Divisor and suffix that make numbers up to `largest` short.
fn unit(largest: f64) -> (f64, String) {
    if largest >= 1e15 || (largest > 0.0 && largest < 1e-3) {
        let exponent = largest.log10().floor() as i32;
        return (10f64.powi(exponent), format!("e{exponent}").replace('-', "−"));
    }
    let (divisor, suffix) = match largest {
        1e9.. => (1e9, "B"),
        1e6.. => (1e6, "M"),
        1e4.. => (1e3, "k"),
        _ => (1.0, ""),
    };
    (divisor, suffix.to_owned())
}

/// Decimals needed to write multiples of `step` exactly, as far as twelve reach.
fn decimals(step: f64) -> usize {
    let is_exact = |digits: &usize| {
        let scaled = step * 10f64.powi(*digits as i32);
        (scaled - scaled.round()).abs() < 1e-6 * scaled
    };
    (0..12).find(is_exact).unwrap_or(12)
}

/// A number with a real minus sign.
fn fixed(value: f64, digits: usize) -> String {
    format!("{value:.digits$}").replace('-', "−")
}

/// A number in four significant digits at most: `0.25`, `1.5k`, `2e−5`.
pub(crate) fn short_number(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    if !value.is_finite() {
        return value.to_string();
    }
    let (divisor, suffix) = unit(value.abs());
    let scaled = value / divisor;
    let whole_digits = (scaled.abs().log10().floor() as i32 + 1).max(1) as usize;
    let text = fixed(scaled, 4_usize.saturating_sub(whole_digits));
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{suffix}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: Scale, values: &[f64], count: usize) -> Vec<String> {
        let axis = Axis::fit(scale, values.iter().copied(), 0.0, None);
        axis.ticks(count, true).into_iter().map(|tick| tick.label).collect()
    }

    #[test]
    fn ticks_stand_at_round_numbers() {
        let symlog = Scale::Symlog { linear_below: 1.0 };
        let table: [(Scale, &[f64], usize, &[&str]); 9] = [
            (Scale::Linear, &[0.0, 1.1], 5, &["0", "0.25", "0.50", "0.75", "1.00"]),
            (Scale::Linear, &[-3.0, 7.5], 5, &["−2.5", "0", "2.5", "5.0", "7.5"]),
            (Scale::Linear, &[0.0, 50_000.0], 5, &["0", "10k", "20k", "30k", "40k", "50k"]),
            (Scale::Linear, &[0.5e-5, 2e-5], 4, &["0.5e−5", "1.0e−5", "1.5e−5", "2.0e−5"]),
            (Scale::Linear, &[1.0, 3.0], 5, &["1", "2", "3"]),
            (Scale::Log, &[1e-3, 1e3], 6, &["0.001", "0.01", "0.1", "1", "10", "100", "1000"]),
            (Scale::Log, &[1.0, 20.0], 6, &["1", "2", "5", "10", "20"]),
            (symlog, &[-100.0, 1000.0], 8, &["−100", "−10", "−1", "0", "1", "10", "100", "1000"]),
            (Scale::Linear, &[], 5, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ];
        for (scale, values, count, expected) in table {
            assert_eq!(labels(scale, values, count), expected, "{scale:?} {values:?}");
        }
    }

    #[test]
    fn short_numbers_keep_four_digits() {
        let table = [(0.5, "0.5"), (12.345, "12.35"), (-1534.0, "−1534"), (15_340.0, "15.34k"), (2e-5, "2e−5")];
        for (value, expected) in table {
            assert_eq!(short_number(value), expected);
        }
    }

    #[test]
    fn a_constant_is_shown_in_the_middle() {
        let mut axis = Axis::fit(Scale::Linear, [1e-5, 1e-5].into_iter(), 0.05, None);
        axis.pixels = (0.0, 100.0);
        assert!((axis.pixel(1e-5) - 50.0).abs() < 1e-6);
        assert!(axis.pixel(f64::NAN).is_nan());
    }
}
