//! The supervised loss beside the policy loss.

use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use std::collections::BTreeMap;

use rl_data::{ChatRecord, Cursor};
use rl_models::ChatModel;

use crate::Result;
use crate::batch::{MicroBatch, TrainingRow, backward_from, micro_batches, to_host};
use crate::config::{PretrainConfig, TrainingConfig};
use crate::data::{load, select_rows, under};
use crate::examples::Examples;
use crate::non_finite::NonFiniteGuard;
use crate::sft::training_row;

/// Supervised rows in the order of the run.
pub(super) struct Pretrain {
    config: PretrainConfig,
    examples: Examples<TrainingRow>,
}

impl Pretrain {
    /// Reads and selects the rows; goes on where `cursor` stands.
    pub fn load(
        config: &PretrainConfig,
        chat: &ChatModel,
        seed: u64,
        cursor: Option<Cursor>,
        training: &TrainingConfig,
    ) -> Result<Self> {
        let renderer = under(&chat.renderer, config.end_of_turn);
        let rows = load::<ChatRecord, _>("pretrain.data", &config.data, &BTreeMap::new(), |rows, _| {
            let examples = renderer.examples(&rows.records, config.train_on);
            select_rows(rows, examples, &config.selection, |id, _, example| Ok(training_row(id, example)))
        })?;
        let examples = Examples::new(rows.into_train(), seed, cursor, training)?;
        Ok(Pretrain { config: config.clone(), examples })
    }

    /// Adds the gradient of `coef` times the mean loss of the next rows; gives that mean, in nats per token.
    pub fn backward(&mut self, chat: &ChatModel, max_tokens: usize, guard: &mut NonFiniteGuard) -> Result<f64> {
        let batch = self.examples.next(self.config.batch_size);
        let num_labels: usize = batch.iter().map(|row| row.num_labels()).sum();
        let weight = self.config.coef / num_labels.max(1) as f64;
        let mut loss = 0.0;
        for rows in micro_batches(&batch, max_tokens) {
            let micro = MicroBatch::new(&chat.decoder, &batch, rows)?;
            let log_probs = micro.log_probs(&chat.decoder, 1.0)?; // [labels]
            let host = to_host(&log_probs)?;
            let weights = vec![weight; host.len()];
            let part = cross_entropy_loss(&host, &vec![true; host.len()], CrossEntropyKind::Nll, &weights);
            let Some(part) = guard.admit(|| micro.row_ids(&batch), part.map_err(Into::into))? else { continue };
            backward_from(&log_probs, &part.grad_log_probs)?;
            loss += part.loss;
        }
        Ok(loss / self.config.coef)
    }

    /// Where the visit stands.
    pub fn cursor(&self) -> Cursor {
        self.examples.cursor()
    }
}
