//! Supervised rows mixed into reinforcement learning.

use rl_data::{EndOfTurn, SelectionPolicy, TrainOn};
use rl_track::{ConfigError, ensure};
use serde::{Deserialize, Serialize};

use crate::config::DataConfig;
use crate::config::data::is_required;

/// A supervised loss beside the policy loss, so that the policy keeps what it could do: `coef` times the mean negative
/// log-likelihood of the trained tokens of `batch_size` rows, new ones at every optimizer step. PPO-ptx of Ouyang et al.
/// 2022, <https://arxiv.org/abs/2203.02155>; `ptx_coef` of OpenRLHF, 0.05 there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretrainConfig {
    /// Conversations.
    pub data: DataConfig,
    /// Which tokens are trained.
    pub train_on: TrainOn,
    /// What becomes of a trained answer that the template does not end, so that stopping would not be learned; `required`,
    /// where none is said, refuses the row.
    #[serde(default, skip_serializing_if = "is_required")]
    pub end_of_turn: EndOfTurn,
    /// Which rows are used, and what becomes of long ones.
    pub selection: SelectionPolicy,
    /// Rows per optimizer step.
    pub batch_size: usize,
    /// Factor of the loss.
    pub coef: f64,
}

impl PretrainConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        self.data.validate("pretrain.data")?;
        ensure(0 < self.batch_size, "pretrain.batch_size", self.batch_size, "must be positive")?;
        let good = 0.0 < self.coef && self.coef.is_finite();
        ensure(good, "pretrain.coef", self.coef, "must be positive and finite; leave the section out for none")
    }
}
