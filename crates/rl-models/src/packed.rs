//! Several sequences laid end to end without padding. How attention keeps them apart is [`rl_torch::attention`]'s.

use rl_torch::attention::Sequences;
use tch::{Device, Tensor};

use crate::{Error, Result};

/// Token ids and positions of sequences laid end to end.
#[derive(Debug)]
pub struct Packed {
    /// Token ids, `[tokens]`, int64.
    pub ids: Tensor,
    /// Position of each token in its sequence, `[tokens]`, int64.
    pub positions: Tensor,
    /// Start of each sequence, then the total: `[sequences + 1]`.
    pub boundaries: Vec<usize>,
    pub(crate) sequences: Sequences,
}

impl Packed {
    /// Packs `sequences` of token ids.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty sequence, [`Error::TokenOutOfRange`] and [`Error::PromptTooLong`] name the offending value and
    /// the limit.
    pub fn new(sequences: &[&[i64]], vocab_size: i64, max_positions: usize, device: Device) -> Result<Self> {
        let mut ids = Vec::with_capacity(sequences.iter().map(|ids| ids.len()).sum());
        let mut positions = Vec::with_capacity(ids.capacity());
        let mut boundaries = vec![0];
        for sequence in sequences {
            if sequence.is_empty() {
                return Err(Error::Argument {
                    name: "sequences",
                    value: "an empty sequence".into(),
                    reason: "every sequence needs a token".into(),
                });
            }
            if max_positions < sequence.len() {
                return Err(Error::PromptTooLong { length: sequence.len(), limit: max_positions });
            }
            if let Some(&id) = sequence.iter().find(|&&id| id < 0 || vocab_size <= id) {
                return Err(Error::TokenOutOfRange { id, vocab_size });
            }
            ids.extend_from_slice(sequence);
            positions.extend(0..sequence.len() as i64);
            boundaries.push(ids.len());
        }
        let plan = Sequences::new(&boundaries, device)?;
        let on_device = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Ok(Packed { ids: on_device(&ids), positions: on_device(&positions), boundaries, sequences: plan })
    }

    /// The same tensors, shared.
    pub fn shallow_clone(&self) -> Self {
        Packed {
            ids: self.ids.shallow_clone(),
            positions: self.positions.shallow_clone(),
            boundaries: self.boundaries.clone(),
            sequences: self.sequences.shallow_clone(),
        }
    }

    /// Tokens over all sequences.
    pub fn num_tokens(&self) -> usize {
        self.boundaries[self.boundaries.len() - 1]
    }
}
