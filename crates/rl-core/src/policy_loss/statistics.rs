//! What a policy loss hands back besides its value: the gradient and what the ratios did.

use super::ratio::Term;

/// Value, gradient and ratio statistics of a policy loss. The statistics are plain means over this call's tokens; to
/// combine micro-batches, weigh them by `num_tokens`.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyLoss {
    /// The loss.
    pub loss: f64,
    /// Its gradient with respect to `log_probs`, `[batch, seq]`, exactly 0 where masked.
    pub grad_log_probs: Vec<f32>,
    /// Response tokens of this call.
    pub num_tokens: usize,
    /// Share of tokens whose clipped term was strictly worse, so that no gradient flows through their ratio.
    pub clip_fraction: f64,
    /// Share of tokens that a bound on large ratios stopped: dual clip, `max_ratio` or `clipped_only_above`.
    pub dual_clip_fraction: f64,
    /// Mean of `old_log_prob - log_prob`, in nats per token.
    pub approx_kl: f64,
    /// Smallest ratio; infinity when there are no tokens.
    pub ratio_min: f64,
    /// Largest ratio; minus infinity when there are no tokens.
    pub ratio_max: f64,
    /// Tokens whose log-ratio passed the bounds of [`LogRatioClamp`](super::LogRatioClamp).
    pub num_clamped_ratios: usize,
}

pub(super) struct Statistics {
    num_tokens: usize,
    num_clipped: usize,
    num_bounded: usize,
    num_clamped: usize,
    sum_log_ratio: f64,
    ratio_min: f64,
    ratio_max: f64,
}

impl Default for Statistics {
    fn default() -> Self {
        Statistics {
            num_tokens: 0,
            num_clipped: 0,
            num_bounded: 0,
            num_clamped: 0,
            sum_log_ratio: 0.0,
            ratio_min: f64::INFINITY,
            ratio_max: f64::NEG_INFINITY,
        }
    }
}

impl Statistics {
    pub fn add(&mut self, token_log_ratio: f64, ratio: f64, clamped: bool, term: &Term) {
        self.num_tokens += 1;
        self.num_clipped += usize::from(term.clipped);
        self.num_bounded += usize::from(term.bounded);
        self.num_clamped += usize::from(clamped);
        self.sum_log_ratio += token_log_ratio;
        self.ratio_min = self.ratio_min.min(ratio);
        self.ratio_max = self.ratio_max.max(ratio);
    }

    pub fn finish(self, loss: f64, grad_log_probs: Vec<f32>) -> PolicyLoss {
        // A micro-batch without tokens is legal within a step that has some; its means weigh nothing.
        let count = self.num_tokens.max(1) as f64;
        PolicyLoss {
            loss,
            grad_log_probs,
            num_tokens: self.num_tokens,
            clip_fraction: self.num_clipped as f64 / count,
            dual_clip_fraction: self.num_bounded as f64 / count,
            approx_kl: -self.sum_log_ratio / count,
            ratio_min: self.ratio_min,
            ratio_max: self.ratio_max,
            num_clamped_ratios: self.num_clamped,
        }
    }
}
