//! What the updates of one step looked like, averaged over their tokens.

use rl_core::policy_loss::PolicyLoss;
use rl_core::value_loss::ValueLoss;
use rl_track::MetricsRow;

/// Sums over the micro-batches and updates of a step.
#[derive(Debug, Default)]
pub(crate) struct UpdateStatistics {
    num_updates: usize,
    num_tokens: usize,
    policy_loss: f64,
    clipped: f64,
    approx_kl: f64,
    ratio_max: f64,
    ratio_min: Option<f64>,
    value_loss: Option<f64>,
    grad_norms: Vec<f64>,
}

impl UpdateStatistics {
    /// One micro-batch of the policy loss.
    pub fn add_policy(&mut self, loss: &PolicyLoss) {
        let weight = loss.num_tokens as f64;
        self.num_tokens += loss.num_tokens;
        self.policy_loss += loss.loss;
        self.clipped += weight * loss.clip_fraction;
        self.approx_kl += weight * loss.approx_kl;
        self.ratio_max = self.ratio_max.max(loss.ratio_max);
        self.ratio_min = Some(self.ratio_min.map_or(loss.ratio_min, |least| least.min(loss.ratio_min)));
    }

    /// One micro-batch of the value loss.
    pub fn add_value(&mut self, loss: &ValueLoss) {
        *self.value_loss.get_or_insert(0.0) += loss.loss;
    }

    /// The end of one optimizer step.
    pub fn add_update(&mut self, grad_norm: f64) {
        self.num_updates += 1;
        self.grad_norms.push(grad_norm);
    }

    /// Adds the averages to `row`; losses are per update, the rest per token.
    pub fn into_metrics(self, row: MetricsRow) -> MetricsRow {
        let updates = self.num_updates.max(1) as f64;
        let tokens = self.num_tokens.max(1) as f64;
        let mut row = row
            .with("policy_loss", self.policy_loss / updates)
            .with("clip_fraction", self.clipped / tokens)
            .with("approx_kl", self.approx_kl / tokens)
            .with("ratio_max", self.ratio_max)
            .with("ratio_min", self.ratio_min.unwrap_or(1.0))
            .with("first_grad_norm", self.grad_norms.first().copied().unwrap_or(0.0))
            .with("grad_norm", self.grad_norms.iter().sum::<f64>() / updates);
        if let Some(value_loss) = self.value_loss {
            row = row.with("value_loss", value_loss / updates);
        }
        row
    }
}
