//! Where sequences laid end to end begin, what each sees, and the plans by which attention keeps them apart.

use std::cell::OnceCell;

use tch::{Device, Tensor};

use super::rectangles::{AttentionCells, Rectangles};
use crate::{Error, Result};

/// Where each of several sequences laid end to end begins, and the plans by which attention keeps them apart. Made once
/// per batch, used by every layer.
#[derive(Debug)]
pub struct Sequences {
    boundaries: Vec<usize>,
    /// The sequence that each one continues, `[sequences]`.
    continues: Vec<Option<usize>>,
    max_length: usize,
    max_keys: usize,
    cu_seqlens: Tensor,
    /// For kernels of variable lengths; none where each sequence's keys are its own tokens.
    keys: Option<Keys>,
    /// Made at once on the CPU and at the first use elsewhere, since the kernels of CUDA devices do without.
    rectangles: OnceCell<Rectangles>,
}

/// The tokens that each sequence sees, laid end to end: those of the sequence it continues, then its own.
#[derive(Debug)]
struct Keys {
    /// Token of each key, `[keys]`, int64.
    gather: Tensor,
    /// Start of each sequence's keys, then the total, `[sequences + 1]`, int32.
    cu_seqlens: Tensor,
}

impl Sequences {
    /// Sequences of at least one token each; `boundaries` `[sequences + 1]` holds the start of each, then the total.
    ///
    /// # Errors
    /// [`Error::Argument`] unless the boundaries begin with 0, rise, and fit int32.
    pub fn new(boundaries: &[usize], device: Device) -> Result<Self> {
        Self::continuing(boundaries, &vec![None; boundaries.len().saturating_sub(1)], device)
    }

    /// As [`Sequences::new`], where sequence `i` sees all of sequence `continues[i]` before itself: several answers to one
    /// prompt share its keys and values. `continues` is `[sequences]`; what is continued continues nothing itself.
    ///
    /// # Errors
    /// As [`Sequences::new`]; [`Error::Argument`] when `continues` has another length or names a sequence that is not
    /// there or continues another.
    pub fn continuing(boundaries: &[usize], continues: &[Option<usize>], device: Device) -> Result<Self> {
        let refuse = |value: String, reason: &str| Error::Argument { name: "boundaries", value, reason: reason.into() };
        if boundaries.first() != Some(&0) {
            return Err(refuse(format!("{:?}", boundaries.first()), "the first must be 0"));
        }
        if let Some(pair) = boundaries.windows(2).find(|pair| pair[1] <= pair[0]) {
            return Err(refuse(format!("{} then {}", pair[0], pair[1]), "every sequence needs a token"));
        }
        check_continues(continues, boundaries.len() - 1)?;
        let lengths: Vec<usize> = boundaries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let prefix = |sequence: usize| continues[sequence].map_or(0, |prefix| lengths[prefix]);
        let mut key_boundaries = vec![0];
        for (sequence, length) in lengths.iter().enumerate() {
            key_boundaries.push(key_boundaries[sequence] + prefix(sequence) + length);
        }
        let as_int32 = |boundaries: &[usize]| -> Result<Tensor> {
            let starts = boundaries.iter().map(|&boundary| i32::try_from(boundary));
            let starts = starts.collect::<std::result::Result<Vec<i32>, _>>();
            let starts =
                starts.map_err(|_| refuse(format!("{:?}", boundaries.last()), "the limit is 2147483647 tokens"))?;
            Ok(Tensor::f_from_slice(&starts)?.f_to_device(device)?)
        };
        let (cu_seqlens, cu_seqlens_of_keys) = (as_int32(boundaries)?, as_int32(&key_boundaries)?);
        let mut keys = None;
        if device != Device::Cpu && continues.iter().any(Option::is_some) {
            let gather: Vec<i64> = (0..lengths.len())
                .flat_map(|sequence| continues[sequence].into_iter().chain([sequence]))
                .flat_map(|part| boundaries[part] as i64..boundaries[part + 1] as i64)
                .collect();
            let gather = Tensor::f_from_slice(&gather)?.f_to_device(device)?;
            keys = Some(Keys { gather, cu_seqlens: cu_seqlens_of_keys });
        }
        let sequences = Sequences {
            boundaries: boundaries.to_vec(),
            continues: continues.to_vec(),
            max_length: lengths.iter().copied().max().unwrap_or(0),
            max_keys: key_boundaries.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0),
            cu_seqlens,
            keys,
            rectangles: OnceCell::new(),
        };
        if device == Device::Cpu {
            sequences.rectangles()?;
        }
        Ok(sequences)
    }

    /// The same plans, shared.
    pub fn shallow_clone(&self) -> Self {
        let rectangles = OnceCell::new();
        if let Some(made) = self.rectangles.get() {
            let _ = rectangles.set(made.shallow_clone()); // a new cell is empty
        }
        let keys = self.keys.as_ref();
        Sequences {
            boundaries: self.boundaries.clone(),
            continues: self.continues.clone(),
            cu_seqlens: self.cu_seqlens.shallow_clone(),
            keys: keys
                .map(|keys| Keys { gather: keys.gather.shallow_clone(), cu_seqlens: keys.cu_seqlens.shallow_clone() }),
            rectangles,
            ..*self
        }
    }

    /// Start of each sequence, then the total, `[sequences + 1]`.
    pub fn boundaries(&self) -> &[usize] {
        &self.boundaries
    }

    /// The sequence that each one continues, `[sequences]`.
    pub fn continues(&self) -> &[Option<usize>] {
        &self.continues
    }

    /// What attention on the CPU makes of these sequences: cells to be kept for a backward pass. A window, which masks more,
    /// is not counted.
    ///
    /// # Errors
    /// As [`Sequences::new`].
    pub fn cells(&self) -> Result<AttentionCells> {
        Ok(self.rectangles()?.cells())
    }

    /// Tokens over all sequences.
    pub fn num_tokens(&self) -> usize {
        self.boundaries[self.boundaries.len() - 1]
    }

    /// Tokens of the longest sequence, without what it continues; 0 without sequences.
    pub fn max_length(&self) -> usize {
        self.max_length
    }

    /// Most tokens that one sequence sees: itself and what it continues; 0 without sequences.
    pub fn max_keys(&self) -> usize {
        self.max_keys
    }

    /// The boundaries on the device, `[sequences + 1]`, int32.
    pub fn cu_seqlens(&self) -> &Tensor {
        &self.cu_seqlens
    }

    /// The rows of `xs` `[tokens, ..]` that the sequences see, `[keys, ..]`.
    pub(super) fn keys_of(&self, xs: &Tensor) -> Result<Tensor> {
        Ok(match &self.keys {
            Some(keys) => xs.f_index_select(0, &keys.gather)?,
            None => xs.shallow_clone(),
        })
    }

    /// Start of each sequence's rows in [`Sequences::keys_of`], then the total, `[sequences + 1]`, int32.
    pub(super) fn cu_seqlens_of_keys(&self) -> &Tensor {
        self.keys.as_ref().map_or(&self.cu_seqlens, |keys| &keys.cu_seqlens)
    }

    pub(super) fn rectangles(&self) -> Result<&Rectangles> {
        if self.rectangles.get().is_none() {
            let made = Rectangles::new(&self.boundaries, &self.continues, self.cu_seqlens.device())?;
            let _ = self.rectangles.set(made); // empty, as just seen, and not shared between threads
        }
        self.rectangles.get().ok_or_else(|| Error::Shim("the attention plan was not kept".into()))
    }
}

fn check_continues(continues: &[Option<usize>], num_sequences: usize) -> Result<()> {
    let refuse = |value: String, reason: String| Err(Error::Argument { name: "continues", value, reason });
    if continues.len() != num_sequences {
        let reason = format!("one entry is needed for each of the {num_sequences} sequences");
        return refuse(format!("{} entries", continues.len()), reason);
    }
    for &prefix in continues.iter().flatten() {
        match continues.get(prefix) {
            None => return refuse(prefix.to_string(), format!("there are {num_sequences} sequences")),
            Some(Some(before)) => {
                return refuse(
                    prefix.to_string(),
                    format!("it continues {before}; what is continued must begin by itself"),
                );
            }
            Some(None) => {}
        }
    }
    Ok(())
}
