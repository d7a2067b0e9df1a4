//! Top-k, top-p and min-p over the most probable tokens of one distribution, and the draw from what is left.
//!
//! The candidates come sorted from the device (see `sample`); here they are few, so sums run in f64 on the host.

use super::config::SamplingConfig;

/// The most probable tokens of one row.
pub(super) struct Candidates {
    /// Logit over temperature, and id; greatest first and the lower id first among equals.
    pub tokens: Vec<(f64, i64)>,
    /// Whether `tokens` is the whole vocabulary.
    pub complete: bool,
    /// Sum over the whole vocabulary of `exp(score - greatest score)`; read by top-p without top-k.
    pub total: f64,
}

/// What truncation keeps: a number of candidates, and their weight relative to the most probable one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Kept {
    pub count: usize,
    pub weight: f64,
}

impl Candidates {
    /// Puts `(score, id)` pairs in order.
    pub fn new(mut tokens: Vec<(f64, i64)>, complete: bool, total: f64) -> Self {
        tokens.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        Candidates { tokens, complete, total }
    }

    /// How many candidates `config` keeps; `None` when that may be more than there are.
    ///
    /// As in transformers, top-p renormalises what top-k leaves, and each keeps at least one token.
    pub fn kept(&self, config: &SamplingConfig) -> Option<Kept> {
        let greatest = self.tokens.first()?.0;
        let (mut count, mut mass) = (self.tokens.len(), self.total);
        let mut is_certain = self.complete;
        if 0 < config.top_k && (config.top_k < self.tokens.len() || !self.complete) {
            // Tokens as probable as the k-th stay; a candidate must lie below them, or more may follow.
            let last = self.tokens.get(config.top_k - 1)?.0;
            count = self.tokens.partition_point(|token| last <= token.0);
            is_certain |= count < self.tokens.len();
            if !is_certain {
                return None;
            }
            mass = self.tokens[..count].iter().map(|token| (token.0 - greatest).exp()).sum();
        }
        if config.top_p < 1.0 {
            // Sums in the order of rank, so that more candidates would change nothing.
            let mut sum = 0.0;
            let reaching = self.tokens[..count].iter().position(|token| {
                sum += (token.0 - greatest).exp();
                config.top_p * mass <= sum
            });
            if let Some(reaching) = reaching {
                // An equal of the last candidate with a lower id may lie beyond it.
                let last = self.tokens[self.tokens.len() - 1].0;
                is_certain |= last < self.tokens[reaching].0;
                count = reaching + 1;
            }
        }
        if 0.0 < config.min_p {
            let least = greatest + config.min_p.ln();
            let likely = self.tokens[..count].partition_point(|token| least <= token.0).max(1);
            is_certain |= likely < count;
            count = likely;
        }
        let weight = self.tokens[..count].iter().map(|token| (token.0 - greatest).exp()).sum();
        is_certain.then_some(Kept { count, weight })
    }

    /// The token at `uniform` in `[0, 1)` of the distribution over those kept: id, log-probability in it, and score.
    ///
    /// Inverse of the cumulative distribution in the order of rank.
    pub fn draw(&self, kept: Kept, uniform: f64) -> (i64, f64, f64) {
        let greatest = self.tokens[0].0;
        let mut rest = uniform * kept.weight;
        let mut chosen = 0;
        for (index, token) in self.tokens[..kept.count].iter().enumerate() {
            let weight = (token.0 - greatest).exp();
            if 0.0 < weight {
                chosen = index; // rounding at the far end leaves the last possible token
                if rest < weight {
                    break;
                }
                rest -= weight;
            }
        }
        let (score, id) = self.tokens[chosen];
        (id, score - greatest - kept.weight.ln(), score)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: f64 = 1e-12;

    fn config(top_k: usize, top_p: f64, min_p: f64) -> SamplingConfig {
        SamplingConfig { top_k, top_p, min_p, ..SamplingConfig::sampled(1, 1.0, 1) }
    }

    /// Weights 1, 2, 2, 5 of ids 0 to 3, so ranks 3, 1, 2, 0; `first` candidates of these.
    fn candidates(first: usize) -> Candidates {
        let ranked = [(5.0_f64, 3), (2.0, 1), (2.0, 2), (1.0, 0)];
        let tokens = ranked[..first].iter().rev().map(|&(weight, id)| (weight.ln(), id)).collect();
        Candidates::new(tokens, first == 4, 10.0 / 5.0)
    }

    #[test]
    fn each_truncation_keeps_what_its_definition_says() {
        // Of top-p: 0.5 is reached by the first, 0.6 and 0.7 by two, 0.71 by three.
        for (top_k, top_p, min_p, count) in [
            (0, 1.0, 0.0, 4),
            (1, 1.0, 0.0, 1),
            (2, 1.0, 0.0, 3), // the third is as probable as the second
            (3, 1.0, 0.0, 3),
            (9, 1.0, 0.0, 4),
            (0, 0.5, 0.0, 1),
            (0, 0.6, 0.0, 2),
            (0, 0.71, 0.0, 3),
            (3, 0.75, 0.0, 2), // 7 of 9 after top-k, where 7 of 10 would not do
            (0, 1.0, 0.3, 3),
            (0, 1.0, 0.41, 1),
            (0, 1e-9, 1.0, 1),
        ] {
            let kept = candidates(4).kept(&config(top_k, top_p, min_p)).unwrap();
            assert_eq!(kept.count, count, "{top_k} {top_p} {min_p}");
        }
    }

    #[test]
    fn too_few_candidates_are_noticed() {
        for (first, top_k, top_p, min_p, certain) in [
            (1, 1, 1.0, 0.0, false), // a second may be as probable
            (2, 1, 1.0, 0.0, true),
            (2, 2, 1.0, 0.0, false),
            (3, 2, 1.0, 0.0, false),
            (1, 0, 0.5, 0.0, false),
            (2, 0, 0.5, 0.0, true),
            (2, 0, 0.71, 0.0, false),
            (3, 0, 0.71, 0.0, false),
            (3, 0, 1.0, 0.3, false),
            (3, 0, 1.0, 0.41, true),
            (3, 0, 1.0, 0.0, false),
            (4, 2, 0.7, 0.3, true),
        ] {
            let kept = candidates(first).kept(&config(top_k, top_p, min_p));
            assert_eq!(kept.is_some(), certain, "{first} candidates, {top_k} {top_p} {min_p}");
        }
    }

    #[test]
    fn draws_follow_the_weights_in_the_order_of_rank() {
        let candidates = candidates(4);
        let kept = candidates.kept(&config(0, 1.0, 0.0)).unwrap();
        for (uniform, id, probability) in
            [(0.0, 3, 0.5), (0.499, 3, 0.5), (0.501, 1, 0.2), (0.701, 2, 0.2), (0.901, 0, 0.1), (1.0, 0, 0.1)]
        {
            let (found, log_prob, _) = candidates.draw(kept, uniform);
            assert_eq!(found, id, "{uniform}");
            assert!((log_prob - f64::ln(probability)).abs() < TOLERANCE, "{uniform}");
        }
        let kept = candidates.kept(&config(0, 0.6, 0.0)).unwrap();
        let (found, log_prob, _) = candidates.draw(kept, 0.999);
        assert_eq!(found, 1);
        assert!((log_prob - f64::ln(2.0 / 7.0)).abs() < TOLERANCE);
    }
}
