//! TR-DPO: a reference policy that follows the policy from time to time. Tensors are moved by the trainer.

use serde::{Deserialize, Serialize};

use crate::error::{Result, ensure};

/// Every `every_steps` steps, `reference = mixup_alpha * policy + (1 - mixup_alpha) * reference`.
///
/// Gorbatovski et al. 2024: <https://arxiv.org/abs/2404.09656>. TRL's defaults are [`ReferenceUpdate::TRL`]; like TRL,
/// nothing is updated unless a configuration asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReferenceUpdate {
    /// Share of the policy in the new reference, in `(0, 1]`; 1 replaces it.
    pub mixup_alpha: f64,
    /// Optimizer steps between updates.
    pub every_steps: u64,
}

impl ReferenceUpdate {
    /// 0.6 of the policy every 512 steps.
    pub const TRL: Self = ReferenceUpdate { mixup_alpha: 0.6, every_steps: 512 };

    /// Checks both ranges.
    pub fn validate(&self) -> Result<()> {
        let usable = self.mixup_alpha > 0.0 && self.mixup_alpha <= 1.0;
        ensure(usable, "mixup_alpha", self.mixup_alpha, "must be above 0 and at most 1")?;
        ensure(self.every_steps > 0, "every_steps", 0.0, "must be positive")
    }

    /// Whether the reference moves after `step` optimizer steps; never before the first.
    pub fn should_update(&self, step: u64) -> bool {
        step > 0 && step.is_multiple_of(self.every_steps)
    }

    /// The new value of one parameter of the reference.
    pub fn mix(&self, policy: f64, reference: f64) -> f64 {
        self.mixup_alpha * policy + (1.0 - self.mixup_alpha) * reference
    }
}
