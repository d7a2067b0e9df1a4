//! Two models on the same hands.

use std::collections::BTreeSet;

use anyhow::Result;
use rl_core::statistics::{Z_95, mcnemar};
use rl_eval::{Proportion, SplitResult};
use serde::Serialize;

/// Level of the tests.
pub(super) const ALPHA: f64 = 0.05;

/// First-attempt success of two models on the same hands, tested hand by hand.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PairedTest {
    /// Name of the split.
    pub split: String,
    /// The model it starts from.
    pub before: String,
    /// The model that is compared with it.
    pub after: String,
    /// Success of `before` with its 95 % interval.
    pub before_success: Proportion,
    /// Success of `after`.
    pub after_success: Proportion,
    /// Hands that only `before` solved.
    pub only_before: u64,
    /// Hands that only `after` solved.
    pub only_after: u64,
    /// Success of `after` less that of `before`.
    pub difference: f64,
    /// Lower end of a 95 % interval of the difference.
    pub difference_low: f64,
    /// Upper end of it.
    pub difference_high: f64,
    /// Two-sided mid-p of McNemar's test.
    pub mid_p: f64,
}

impl PairedTest {
    /// Compares two results of the same split, decoding and hands.
    ///
    /// # Errors
    /// When the numbers of hands differ.
    pub fn new(before: (&str, &SplitResult), after: (&str, &SplitResult)) -> Result<Self> {
        let num_hands = before.1.first_attempt.trials;
        let other = after.1.first_attempt.trials;
        anyhow::ensure!(
            num_hands == other,
            "{} played {num_hands} hands and {} {other}; a paired test needs the same hands",
            before.0,
            after.0
        );
        let (first, second) = (solved(before.1), solved(after.1));
        let only_before = first.difference(&second).count() as u64;
        let only_after = second.difference(&first).count() as u64;
        let (low, high) = difference_interval(only_before, only_after, num_hands);
        Ok(PairedTest {
            split: before.1.split.clone(),
            before: before.0.to_owned(),
            after: after.0.to_owned(),
            before_success: before.1.first_attempt,
            after_success: after.1.first_attempt,
            only_before,
            only_after,
            difference: (only_after as f64 - only_before as f64) / num_hands as f64,
            difference_low: low,
            difference_high: high,
            mid_p: mcnemar(only_before, only_after).mid_p,
        })
    }

    /// The difference is below 0 beyond chance.
    pub fn fell(&self) -> bool {
        self.mid_p < ALPHA && self.only_after < self.only_before
    }

    /// The difference is above 0 beyond chance.
    pub fn rose(&self) -> bool {
        self.mid_p < ALPHA && self.only_before < self.only_after
    }

    /// Whether so many discordant hands could reach the level at all, had they all gone one way.
    pub fn is_decidable(&self) -> bool {
        mcnemar(0, self.only_before + self.only_after).mid_p < ALPHA
    }

    /// Rates, hands, difference and p-value in words.
    pub fn in_words(&self) -> String {
        format!(
            "{} {}, {} {}; of the same {} hands the first alone solved {} and the second alone {} (difference {} \
             points [{}, {}], mid-p {})",
            self.before,
            percent_interval(&self.before_success),
            self.after,
            percent_interval(&self.after_success),
            self.before_success.trials,
            self.only_before,
            self.only_after,
            signed(100.0 * self.difference),
            signed(100.0 * self.difference_low),
            signed(100.0 * self.difference_high),
            p_value(self.mid_p)
        )
    }
}

fn solved(result: &SplitResult) -> BTreeSet<u64> {
    result.solved_first.iter().copied().collect()
}

/// 95 % interval of a difference of paired rates: Wald's with half a hand added to each of the four cells, which keeps
/// its level where few hands differ. Agresti and Min 2005, "Simple improved confidence intervals for comparing matched
/// proportions".
fn difference_interval(only_before: u64, only_after: u64, num_hands: u64) -> (f64, f64) {
    let hands = num_hands as f64 + 2.0;
    let (gap, discordant) = (only_after as f64 - only_before as f64, (only_before + only_after) as f64 + 1.0);
    let center = gap / hands;
    let spread = Z_95 * (discordant - gap * gap / hands).max(0.0).sqrt() / hands;
    ((center - spread).max(-1.0), (center + spread).min(1.0))
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
