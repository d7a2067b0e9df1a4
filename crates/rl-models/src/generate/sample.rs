//! One draw from one row of logits, on the host.

use crate::generate::SamplingConfig;
use crate::{Error, Result};

/// Token and its log-probability under the distribution that `config` makes of `logits` `[vocab]`.
///
/// `uniform` in `[0, 1)` picks by the inverse of the cumulative distribution in the order of token ids. At temperature 0
/// the most probable token is taken (the lowest id of equals) and its log-probability at temperature 1 reported.
pub(super) fn draw(logits: &[f32], config: &SamplingConfig, uniform: f64) -> Result<(i64, f32)> {
    let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if logits.iter().any(|logit| logit.is_nan()) || !greatest.is_finite() {
        return Err(Error::NonFinite { what: "logits of the next token".into() });
    }
    if config.temperature == 0.0 {
        let id = logits.iter().position(|&logit| logit == greatest).unwrap_or(0);
        let total: f64 = logits.iter().map(|&logit| f64::from(logit - greatest).exp()).sum();
        return Ok((id as i64, -total.ln() as f32));
    }
    let weight = |logit: f32| (f64::from(logit - greatest) / config.temperature).exp();
    let mut weights: Vec<f64> = logits.iter().map(|&logit| weight(logit)).collect();
    truncate(&mut weights, config.top_k, config.top_p);
    let total: f64 = weights.iter().sum();
    let mut rest = uniform * total;
    let mut chosen = None;
    for (id, &weight) in weights.iter().enumerate() {
        if 0.0 < weight {
            chosen = Some(id); // rounding at the far end leaves the last possible token
            if rest < weight {
                break;
            }
            rest -= weight;
        }
    }
    let id = chosen.ok_or_else(|| Error::NonFinite { what: "sampling weights".into() })?;
    Ok((id as i64, (weights[id].ln() - total.ln()) as f32))
}

/// Sets to zero what top-k and top-p leave out; of equal weights the lower id is kept.
fn truncate(weights: &mut [f64], top_k: usize, top_p: f64) {
    if (top_k == 0 || weights.len() <= top_k) && 1.0 <= top_p {
        return;
    }
    let mut order: Vec<usize> = (0..weights.len()).collect();
    order.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    let mut keep = if top_k == 0 { order.len() } else { top_k.min(order.len()) };
    if top_p < 1.0 {
        let total: f64 = order[..keep].iter().map(|&id| weights[id]).sum();
        let mut sum = 0.0;
        let reaching = order[..keep].iter().position(|&id| {
            sum += weights[id];
            top_p * total <= sum
        });
        keep = reaching.map_or(keep, |index| index + 1);
    }
    for &id in &order[keep..] {
        weights[id] = 0.0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: f32 = 1e-6;

    fn config(temperature: f64, top_k: usize, top_p: f64) -> SamplingConfig {
        SamplingConfig { max_new_tokens: 1, temperature, top_k, top_p, num_slots: 1 }
    }

    /// Logits ln 1, ln 2, ln 5: probabilities 1/8, 2/8, 5/8.
    fn logits() -> Vec<f32> {
        [1.0_f32, 2.0, 5.0].iter().map(|weight| weight.ln()).collect()
    }

    #[test]
    fn inverse_cumulative_distribution() {
        for (uniform, id, probability) in [(0.0, 0, 0.125), (0.124, 0, 0.125), (0.126, 1, 0.25), (0.376, 2, 0.625)] {
            let (drawn, log_prob) = draw(&logits(), &config(1.0, 0, 1.0), uniform).unwrap();
            assert_eq!(drawn, id);
            assert!((log_prob - f32::ln(probability)).abs() < TOLERANCE);
        }
    }

    #[test]
    fn log_probs_are_those_of_the_distribution_sampled_from() {
        // Temperature 0.5 squares the weights: 1, 4, 25.
        let (_, log_prob) = draw(&logits(), &config(0.5, 0, 1.0), 0.999).unwrap();
        assert!((log_prob - f32::ln(25.0 / 30.0)).abs() < TOLERANCE);
        // Two kept: 2/7 and 5/7.
        let (id, log_prob) = draw(&logits(), &config(1.0, 2, 1.0), 0.0).unwrap();
        assert_eq!(id, 1);
        assert!((log_prob - f32::ln(2.0 / 7.0)).abs() < TOLERANCE);
        // 5/8 alone reaches 0.6.
        let (id, log_prob) = draw(&logits(), &config(1.0, 0, 0.6), 0.0).unwrap();
        assert_eq!((id, log_prob), (2, 0.0));
    }

    #[test]
    fn greedy_takes_the_first_of_equals() {
        let (id, log_prob) = draw(&[0.0, 1.0, 1.0], &config(0.0, 0, 1.0), 0.9).unwrap();
        assert_eq!(id, 1);
        assert!((log_prob + (2.0 + f32::exp(-1.0)).ln()).abs() < TOLERANCE);
    }

    #[test]
    fn nan_is_an_error() {
        assert!(matches!(draw(&[0.0, f32::NAN], &config(1.0, 0, 1.0), 0.5), Err(Error::NonFinite { .. })));
    }
}
