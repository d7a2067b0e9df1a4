//! Several sequences laid end to end without padding, and the plan by which attention sees each by itself.

use tch::{Device, Tensor};

use crate::{Error, Result};

/// Sequences shorter than this share of the longest in their group start a group of their own; the waste inside one
/// group's attention stays small while the number of attention calls does too.
const MIN_LENGTH_SHARE: f64 = 0.8;

/// Token ids and positions of sequences laid end to end.
#[derive(Debug)]
pub struct Packed {
    /// Token ids, `[tokens]`, int64.
    pub ids: Tensor,
    /// Position of each token in its sequence, `[tokens]`, int64.
    pub positions: Tensor,
    /// Start of each sequence, then the total: `[sequences + 1]`.
    pub boundaries: Vec<usize>,
    pub(crate) plan: AttentionPlan,
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
        let plan = AttentionPlan::new(&boundaries, device);
        let on_device = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Ok(Packed { ids: on_device(&ids), positions: on_device(&positions), boundaries, plan })
    }

    /// The same tensors, shared.
    pub fn shallow_clone(&self) -> Self {
        let plan = AttentionPlan {
            groups: self.plan.groups.iter().map(LengthGroup::shallow_clone).collect(),
            restore: self.plan.restore.as_ref().map(Tensor::shallow_clone),
        };
        Packed {
            ids: self.ids.shallow_clone(),
            positions: self.positions.shallow_clone(),
            boundaries: self.boundaries.clone(),
            plan,
        }
    }

    /// Tokens over all sequences.
    pub fn num_tokens(&self) -> usize {
        self.boundaries[self.boundaries.len() - 1]
    }
}

/// How packed rows are regrouped into rectangles of similar lengths for causal attention.
///
/// A shorter sequence is filled up on the right; under a causal mask its own tokens never see that filling, so no mask
/// is needed and the rows that come back are exact.
#[derive(Debug)]
pub(crate) struct AttentionPlan {
    pub groups: Vec<LengthGroup>,
    /// Row of the concatenated group outputs that holds each token, `[tokens]`; `None` when already in order.
    pub restore: Option<Tensor>,
}

/// One rectangle of sequences.
#[derive(Debug)]
pub(crate) struct LengthGroup {
    pub num_sequences: i64,
    pub length: i64,
    /// Token of each cell, `[num_sequences * length]`; `None` when the rectangle is the packed input itself.
    pub gather: Option<Tensor>,
}

impl LengthGroup {
    fn shallow_clone(&self) -> Self {
        LengthGroup { gather: self.gather.as_ref().map(Tensor::shallow_clone), ..*self }
    }
}

impl AttentionPlan {
    fn new(boundaries: &[usize], device: Device) -> Self {
        let lengths: Vec<usize> = boundaries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let num_tokens = boundaries[lengths.len()];
        if lengths.windows(2).all(|pair| pair[0] == pair[1]) {
            let length = lengths.first().copied().unwrap_or(0) as i64;
            let group = LengthGroup { num_sequences: lengths.len() as i64, length, gather: None };
            return AttentionPlan { groups: vec![group], restore: None };
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(lengths[index]));

        let mut groups = Vec::new();
        let mut restore = vec![0_i64; num_tokens];
        let mut num_cells = 0_usize;
        let mut rest = order.as_slice();
        while let Some(&longest) = rest.first() {
            let length = lengths[longest];
            let fits = |&index: &usize| MIN_LENGTH_SHARE * length as f64 <= lengths[index] as f64;
            let num_sequences = rest.iter().take_while(|&index| fits(index)).count();
            let mut gather = Vec::with_capacity(num_sequences * length);
            for &sequence in &rest[..num_sequences] {
                let start = boundaries[sequence];
                for offset in 0..length {
                    if offset < lengths[sequence] {
                        restore[start + offset] = (num_cells + gather.len()) as i64;
                        gather.push((start + offset) as i64);
                    } else {
                        gather.push(start as i64); // filling: any row will do, nothing reads it
                    }
                }
            }
            num_cells += gather.len();
            let gather = Some(Tensor::from_slice(&gather).to_device(device));
            groups.push(LengthGroup { num_sequences: num_sequences as i64, length: length as i64, gather });
            rest = &rest[num_sequences..];
        }
        AttentionPlan { groups, restore: Some(Tensor::from_slice(&restore).to_device(device)) }
    }
}
