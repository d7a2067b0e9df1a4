//! One optimizer step of supervised fine-tuning, made of library calls.

use std::time::Instant;

use anyhow::Result;
use rl_core::cross_entropy::{CrossEntropyKind, cross_entropy_loss};
use rl_models::{Decoder, token_log_probs};
use rl_torch::{AdamW, AdamWConfig, clip_grad_norm};
use tch::{Kind, Tensor};

use crate::Measured;
use crate::inputs::Inputs;

/// Steps over all sequences, packed into micro-batches of at most `micro_batch_tokens`; the last step is timed.
pub fn step(decoder: &Decoder, inputs: &Inputs, micro_batch_tokens: usize) -> Result<Measured> {
    let wanted = &inputs.train;
    decoder.set_trainable(true);
    let config = AdamWConfig { weight_decay: wanted.weight_decay, ..AdamWConfig::default() };
    let mut optimizer = AdamW::new(decoder.parameters(), config);
    let num_labels = wanted.sequences.iter().map(|ids| ids.len() - 1).sum();
    let batches = micro_batches(&wanted.sequences, micro_batch_tokens);

    let (mut seconds, mut losses) = (0.0, Vec::new());
    for _ in 0..=wanted.warm_up_steps {
        let started = Instant::now();
        optimizer.zero_grad()?;
        let mut loss = 0.0;
        for batch in &batches {
            loss += backward(decoder, batch, num_labels)?;
        }
        clip_grad_norm(optimizer.parameters(), wanted.max_grad_norm)?;
        optimizer.step(wanted.learning_rate)?;
        seconds = started.elapsed().as_secs_f64();
        losses.push(loss);
    }
    let num_tokens: usize = wanted.sequences.iter().map(Vec::len).sum();
    let values = [("seconds", seconds), ("useful_tokens_per_second", num_tokens as f64 / seconds)];
    Ok(Measured { values: values.into(), losses, ..Default::default() })
}

/// Forward and backward over one packed micro-batch; its part of the loss, a mean over `num_labels` of the whole step.
pub fn backward(decoder: &Decoder, sequences: &[&[i64]], num_labels: usize) -> Result<f64> {
    let packed = decoder.pack(sequences)?;
    let (mut label_rows, mut label_ids) = (Vec::new(), Vec::new());
    for (ids, start) in sequences.iter().zip(&packed.boundaries) {
        label_rows.extend((0..ids.len() as i64 - 1).map(|row| *start as i64 + row));
        label_ids.extend_from_slice(&ids[1..]);
    }
    let (label_rows, label_ids) = (Tensor::from_slice(&label_rows), Tensor::from_slice(&label_ids));
    let hidden = decoder.hidden_states(&packed)?;
    let log_probs = token_log_probs(decoder, &hidden, &label_rows, &label_ids, 1.0)?; // [labels]
    let host = Vec::<f32>::try_from(&log_probs)?;
    let part = cross_entropy_loss(&host, &vec![true; host.len()], CrossEntropyKind::Nll, num_labels)?;
    (log_probs * Tensor::from_slice(&part.grad_log_probs)).sum(Kind::Float).f_backward()?;
    Ok(part.loss)
}

/// Sequences in their order, a new micro-batch wherever the next would pass `limit`; a longer one stands alone.
fn micro_batches(sequences: &[Vec<i64>], limit: usize) -> Vec<Vec<&[i64]>> {
    let mut batches: Vec<Vec<&[i64]>> = Vec::new();
    let mut held = 0;
    for ids in sequences {
        match batches.last_mut() {
            Some(batch) if held + ids.len() <= limit => {
                batch.push(ids);
                held += ids.len();
            }
            _ => {
                batches.push(vec![ids]);
                held = ids.len();
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_micro_batch_holds_no_more_than_the_limit() {
        let sequences: Vec<Vec<i64>> = [2, 2, 3, 9, 1].iter().map(|&length| vec![0; length]).collect();
        let sizes = |limit| {
            let batches = micro_batches(&sequences, limit);
            batches.iter().map(|batch| batch.iter().map(|ids| ids.len()).collect()).collect::<Vec<Vec<usize>>>()
        };
        assert_eq!(sizes(5), [vec![2, 2], vec![3], vec![9], vec![1]]);
        assert_eq!(sizes(usize::MAX), [[2, 2, 3, 9, 1]]);
    }
}
