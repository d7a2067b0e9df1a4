//! What outcomes are worth, in the form every environment declares it.

use serde::Serialize;

/// Two rewards closer than this, relative to the larger (or to 1), are the same reward.
const TOLERANCE: f64 = 1e-9;
/// How often a price may come beside the one that comes any number of times; see [`Combination::Sum`].
const MAX_OTHERS: u32 = 2;

/// The outcomes of an environment with their prices.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prices {
    /// Label of each outcome with its price.
    pub outcomes: Vec<(&'static str, f64)>,
    /// Added to the reward of a step that truncates.
    pub truncation: f64,
    /// How the reward of a step is made from prices.
    pub combination: Combination,
}

/// How the reward of a step is made from prices.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Combination {
    /// The price of the step's outcome.
    Single,
    /// The price of the step's outcome, and for some responses `bonus` on top, whatever the outcome.
    SingleAndBonus {
        /// What is added.
        bonus: f64,
    },
    /// The sum of the prices of all that was found in the response: one price any number of times, each other at most
    /// twice.
    Sum,
}

impl Prices {
    /// Price of the outcome with this label.
    pub fn of(&self, outcome: &str) -> Option<f64> {
        self.outcomes.iter().find(|(label, _)| *label == outcome).map(|&(_, price)| price)
    }

    /// Whether `reward` is what a step with this outcome pays.
    pub fn explain(&self, outcome: &str, truncated: bool, reward: f64) -> bool {
        let Some(price) = self.of(outcome) else { return false };
        let rest = reward - if truncated { self.truncation } else { 0.0 };
        match self.combination {
            Combination::Single => same(rest, price),
            Combination::SingleAndBonus { bonus } => same(rest, price) || same(rest, price + bonus),
            Combination::Sum => {
                let mut prices: Vec<f64> =
                    self.outcomes.iter().map(|&(_, price)| price).filter(|&p| p != 0.0).collect();
                prices.sort_unstable_by(f64::total_cmp);
                prices.dedup();
                same(rest, price) || sums_to(&prices, rest)
            }
        }
    }
}

/// Whether `rest` is a whole number of times one of `prices` and up to [`MAX_OTHERS`] of each other.
fn sums_to(prices: &[f64], rest: f64) -> bool {
    fn with_others(many: f64, others: &[f64], rest: f64) -> bool {
        let Some((&first, others)) = others.split_first() else {
            let times = (rest / many).round();
            return 0.0 <= times && same(times * many, rest);
        };
        (0..=MAX_OTHERS).any(|times| with_others(many, others, rest - f64::from(times) * first))
    }
    same(rest, 0.0)
        || prices.iter().enumerate().any(|(position, &many)| {
            let others: Vec<f64> = [&prices[..position], &prices[position + 1..]].concat();
            with_others(many, &others, rest)
        })
}

fn same(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * a.abs().max(b.abs()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rewards_are_explained_by_single_prices_or_sums() {
        let mut prices = Prices {
            outcomes: vec![("right", 5.0), ("number", -2.0), ("form", -3.0)],
            truncation: -0.25,
            combination: Combination::Single,
        };
        for (outcome, truncated, reward, expected) in [
            ("right", false, 5.0, true),
            ("right", true, 4.75, true),
            ("right", true, 5.0, false),
            ("form", false, -5.0, false),
            ("other", false, 5.0, false),
            ("form", false, f64::NAN, false),
        ] {
            assert_eq!(prices.explain(outcome, truncated, reward), expected, "{outcome} {truncated} {reward}");
        }
        prices.combination = Combination::SingleAndBonus { bonus: 0.5 };
        for (truncated, reward, expected) in
            [(false, -3.0, true), (true, -2.75, true), (false, -2.0, false), (false, -3.5, false)]
        {
            assert_eq!(prices.explain("form", truncated, reward), expected, "{truncated} {reward}");
        }
        prices.combination = Combination::Sum;
        for (reward, expected) in
            [(-5.0, true), (-3000.0, true), (-3004.0, true), (0.0, true), (-2.5, false), (0.5, false)]
        {
            assert_eq!(prices.explain("form", false, reward), expected, "{reward}");
        }
    }
}
