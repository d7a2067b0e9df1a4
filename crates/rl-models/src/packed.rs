//! Several sequences laid end to end without padding, and sequences that share their beginning. How attention keeps them
//! apart is [`rl_torch::attention`]'s.

mod shared;

use std::ops::Range;

use rl_torch::attention::{AttentionCells, Sequences};
use tch::{Device, Tensor};

use crate::{Error, Result};

pub use shared::SharedRows;

/// Token ids and positions of sequences laid end to end.
///
/// A row is a place among all tokens. With [`SharedRows`] the rows of a prefix belong to every sequence that continues it;
/// [`Packed::row_of`] finds a sequence's token in either form.
#[derive(Debug)]
pub struct Packed {
    /// Token ids, `[tokens]`, int64.
    pub ids: Tensor,
    /// Position of each token in its sequence, `[tokens]`, int64.
    pub positions: Tensor,
    /// First row of each part, then the total: `[parts + 1]`. A part is a sequence, or where prefixes are shared a prefix or a
    /// continuation, which then is not a whole sequence.
    pub boundaries: Vec<usize>,
    /// Rows of each sequence: those of its shared prefix, then its own; `[sequences]`.
    rows: Vec<[Range<usize>; 2]>,
    pub(crate) sequences: Sequences,
}

impl Packed {
    /// Packs `sequences` of token ids.
    ///
    /// # Errors
    /// [`Error::Argument`] for an empty sequence, [`Error::TokenOutOfRange`] and [`Error::PromptTooLong`] name the offending value and
    /// the limit.
    pub fn new(sequences: &[&[i64]], vocab_size: i64, max_positions: usize, device: Device) -> Result<Self> {
        let mut layout = Layout::new(vocab_size, max_positions);
        for sequence in sequences {
            layout.push_sequence(sequence)?;
        }
        layout.pack(device)
    }

    /// Packs sequences that share prefixes, group after group: a prefix once, then its continuations, which see it and
    /// themselves.
    ///
    /// A sequence is a prefix followed by a continuation; sequences are numbered in the order of the continuations. Hidden
    /// rows, log-probabilities and gradients are those of the whole sequences packed one by one, but for rounding. A group
    /// with an empty prefix, or with one continuation, is laid out as whole sequences.
    ///
    /// # Errors
    /// As [`Packed::new`]; [`Error::Argument`] for a group without continuations and an empty continuation.
    pub fn shared(groups: &[SharedRows], vocab_size: i64, max_positions: usize, device: Device) -> Result<Self> {
        let mut layout = Layout::new(vocab_size, max_positions);
        for group in groups {
            layout.push_group(group)?;
        }
        layout.pack(device)
    }

    /// The same tensors, shared.
    pub fn shallow_clone(&self) -> Self {
        Packed {
            ids: self.ids.shallow_clone(),
            positions: self.positions.shallow_clone(),
            boundaries: self.boundaries.clone(),
            rows: self.rows.clone(),
            sequences: self.sequences.shallow_clone(),
        }
    }

    /// Rows: tokens over all sequences, a shared prefix counted once.
    pub fn num_tokens(&self) -> usize {
        self.boundaries[self.boundaries.len() - 1]
    }

    /// Sequences: those that were packed, or the continuations.
    pub fn num_sequences(&self) -> usize {
        self.rows.len()
    }

    /// Tokens of a sequence, its prefix included.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such sequence.
    pub fn length_of(&self, sequence: usize) -> Result<usize> {
        let [prefix, own] = self.rows_of(sequence)?;
        Ok(prefix.len() + own.len())
    }

    /// The row of a sequence's token at `position`, counted from the sequence's start, its prefix included. The row that
    /// predicts this token is the one of `position - 1`; the last row of a shared prefix predicts the first token of every
    /// continuation.
    ///
    /// # Errors
    /// [`Error::Argument`] when there is no such sequence or position.
    pub fn row_of(&self, sequence: usize, position: usize) -> Result<usize> {
        let [prefix, own] = self.rows_of(sequence)?;
        match position.checked_sub(prefix.len()) {
            None => Ok(prefix.start + position),
            Some(offset) if offset < own.len() => Ok(own.start + offset),
            Some(_) => Err(Error::Argument {
                name: "position",
                value: position.to_string(),
                reason: format!("sequence {sequence} has {} tokens", prefix.len() + own.len()),
            }),
        }
    }

    /// What attention on the CPU keeps of these tokens for its backward pass.
    ///
    /// # Errors
    /// When libtorch refuses an operation, as for want of memory.
    pub fn attention_cells(&self) -> Result<AttentionCells> {
        Ok(self.sequences.cells()?)
    }

    /// The row of every sequence's last token, `[sequences]`.
    pub fn last_rows(&self) -> Vec<i64> {
        self.rows.iter().map(|[_, own]| own.end as i64 - 1).collect()
    }

    fn rows_of(&self, sequence: usize) -> Result<&[Range<usize>; 2]> {
        self.rows.get(sequence).ok_or_else(|| Error::Argument {
            name: "sequence",
            value: sequence.to_string(),
            reason: format!("there are {} sequences", self.rows.len()),
        })
    }
}

/// What is packed so far.
struct Layout {
    vocab_size: i64,
    max_positions: usize,
    ids: Vec<i64>,
    positions: Vec<i64>,
    boundaries: Vec<usize>,
    continues: Vec<Option<usize>>,
    rows: Vec<[Range<usize>; 2]>,
}

impl Layout {
    fn new(vocab_size: i64, max_positions: usize) -> Self {
        let (ids, positions, continues, rows) = Default::default();
        Layout { vocab_size, max_positions, ids, positions, boundaries: vec![0], continues, rows }
    }

    fn push_sequence(&mut self, ids: &[i64]) -> Result<()> {
        if ids.is_empty() {
            return Err(refuse("sequences", "an empty sequence", "every sequence needs a token"));
        }
        let own = self.push_part(&[ids], 0, None)?;
        self.rows.push([0..0, own]);
        Ok(())
    }

    fn push_group(&mut self, group: &SharedRows) -> Result<()> {
        let SharedRows { prefix, continuations } = group;
        if continuations.is_empty() {
            return Err(refuse("continuations", "none", "a prefix is packed with what continues it"));
        }
        if continuations.iter().any(|ids| ids.is_empty()) {
            return Err(refuse("continuations", "an empty continuation", "every continuation needs a token"));
        }
        if prefix.is_empty() || continuations.len() == 1 {
            for continuation in continuations {
                let own = self.push_part(&[prefix, continuation], 0, None)?;
                self.rows.push([0..0, own]);
            }
            return Ok(());
        }
        let shared = self.push_part(&[prefix], 0, None)?;
        let part = self.continues.len() - 1;
        for continuation in continuations {
            let own = self.push_part(&[continuation], prefix.len(), Some(part))?;
            self.rows.push([shared.clone(), own]);
        }
        Ok(())
    }

    /// Rows of a new part: `pieces` one after the other, from position `start` on.
    fn push_part(&mut self, pieces: &[&[i64]], start: usize, continues: Option<usize>) -> Result<Range<usize>> {
        let length = start + pieces.iter().map(|ids| ids.len()).sum::<usize>();
        if self.max_positions < length {
            return Err(Error::PromptTooLong { length, limit: self.max_positions });
        }
        if let Some(&id) = pieces.iter().copied().flatten().find(|&&id| id < 0 || self.vocab_size <= id) {
            return Err(Error::TokenOutOfRange { id, vocab_size: self.vocab_size });
        }
        let first = self.ids.len();
        pieces.iter().for_each(|ids| self.ids.extend_from_slice(ids));
        self.positions.extend(start as i64..length as i64);
        self.boundaries.push(self.ids.len());
        self.continues.push(continues);
        Ok(first..self.ids.len())
    }

    fn pack(self, device: Device) -> Result<Packed> {
        let on_device = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        Ok(Packed {
            ids: on_device(&self.ids),
            positions: on_device(&self.positions),
            sequences: Sequences::continuing(&self.boundaries, &self.continues, device)?,
            boundaries: self.boundaries,
            rows: self.rows,
        })
    }
}

fn refuse(name: &'static str, value: &str, reason: &str) -> Error {
    Error::Argument { name, value: value.into(), reason: reason.into() }
}
