//! Keys and values of the sequences under way, and the two ways attention uses them.
//!
//! A slot holds one sequence from its first token on. Nothing is padded: a slot's length says how much of it counts,
//! and what lies behind is never read.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::attention::{AttentionContext, AttentionShape, PackedAttention};
use crate::decoder::Decoder;
use crate::packed::Packed;

/// Tokens by which a slot's capacity grows at least; allocations then come rarely.
const CAPACITY_BLOCK: usize = 64;

/// Keys and values per layer, `[slots, kv_heads, capacity, head_dim]`, of the decoder's kind.
pub(super) struct KeyValueCache {
    layers: Vec<KeyValue>,
    num_slots: usize,
    capacity: usize,
    /// Positions of the model: no slot is ever longer.
    max_positions: usize,
    kv_heads: usize,
}

/// Keys and values of one layer: of all slots, or of one stored prompt `[kv_heads, length, head_dim]`.
pub(super) struct KeyValue {
    keys: Tensor,
    values: Tensor,
}

impl KeyValueCache {
    /// A cache without slots; [`KeyValueCache::reserve`] makes them.
    pub fn new(decoder: &Decoder) -> Self {
        let config = decoder.config();
        let shape = [0, config.num_key_value_heads, 0, config.head_dim()];
        let empty = || Tensor::empty(shape, (decoder.kind(), decoder.device()));
        KeyValueCache {
            layers: (0..config.num_hidden_layers).map(|_| KeyValue { keys: empty(), values: empty() }).collect(),
            num_slots: 0,
            capacity: 0,
            max_positions: config.max_positions() as usize,
            kv_heads: config.num_key_value_heads as usize,
        }
    }

    /// Makes room for `num_slots` sequences of `length` tokens; keeps what the slots hold.
    ///
    /// One layer at a time, so that the old and the new cache are never both there. The capacity grows by half at least.
    pub fn reserve(&mut self, num_slots: usize, length: usize) -> Result<()> {
        if num_slots <= self.num_slots && length <= self.capacity {
            return Ok(());
        }
        let num_slots = num_slots.max(self.num_slots);
        let capacity = if length <= self.capacity {
            self.capacity
        } else {
            let wanted = length.max(self.capacity + self.capacity / 2);
            wanted.next_multiple_of(CAPACITY_BLOCK).min(self.max_positions)
        };
        for layer in &mut self.layers {
            for buffer in [&mut layer.keys, &mut layer.values] {
                let (old_slots, kv_heads, old_capacity, head_dim) = buffer.size4()?;
                // Zeros, not what the memory held before: a masked position may not be NaN, because 0 * NaN is NaN.
                let shape = [num_slots as i64, kv_heads, capacity as i64, head_dim];
                let grown = Tensor::f_zeros(shape, (buffer.kind(), buffer.device()))?;
                if 0 < old_slots && 0 < old_capacity {
                    grown.f_narrow(0, 0, old_slots)?.f_narrow(2, 0, old_capacity)?.f_copy_(buffer)?;
                }
                *buffer = grown;
            }
        }
        (self.num_slots, self.capacity) = (num_slots, capacity);
        Ok(())
    }

    /// Copies the first `length` tokens of slot `from` into slot `to`.
    pub fn copy_slot(&mut self, from: usize, to: usize, length: usize) -> Result<()> {
        for buffer in self.buffers() {
            slot_of(buffer, to, length)?.f_copy_(&slot_of(buffer, from, length)?)?;
        }
        Ok(())
    }

    /// A copy of the first `length` tokens of slot `from`.
    pub fn store(&self, from: usize, length: usize) -> Result<Vec<KeyValue>> {
        let copy = |buffer: &Tensor| -> Result<Tensor> {
            let tokens = slot_of(buffer, from, length)?;
            let mut copy = Tensor::f_empty(tokens.size(), (tokens.kind(), tokens.device()))?;
            copy.f_copy_(&tokens)?;
            Ok(copy)
        };
        let layers = self.layers.iter();
        layers.map(|layer| Ok(KeyValue { keys: copy(&layer.keys)?, values: copy(&layer.values)? })).collect()
    }

    /// Writes a stored prompt into slot `to`.
    pub fn restore(&mut self, stored: &[KeyValue], to: usize) -> Result<()> {
        for (layer, stored) in self.layers.iter().zip(stored) {
            for (buffer, stored) in [(&layer.keys, &stored.keys), (&layer.values, &stored.values)] {
                slot_of(buffer, to, stored.size3()?.1 as usize)?.f_copy_(stored)?;
            }
        }
        Ok(())
    }

    fn buffers(&self) -> impl Iterator<Item = &Tensor> {
        self.layers.iter().flat_map(|layer| [&layer.keys, &layer.values])
    }

    /// Overwrites what lies behind the first `from` tokens of a slot with NaN: proof that nothing reads it.
    #[cfg(test)]
    pub fn poison(&self, slot: usize, from: usize) {
        for buffer in self.buffers() {
            let behind = (self.capacity - from) as i64;
            let _ = buffer.get(slot as i64).narrow(1, from as i64, behind).fill_(f64::NAN);
        }
    }

    #[cfg(test)]
    pub fn num_slots(&self) -> usize {
        self.num_slots
    }
}

/// The first `length` tokens of a slot, `[kv_heads, length, head_dim]`.
fn slot_of(buffer: &Tensor, slot: usize, length: usize) -> Result<Tensor> {
    Ok(buffer.f_select(0, slot as i64)?.f_narrow(1, 0, length as i64)?)
}

/// Packed attention over prompts that also writes their keys and values into the slots that start from them.
pub(super) struct PrefillAttention<'a> {
    packed: &'a Packed,
    cache: &'a mut KeyValueCache,
    slots_of: &'a [Vec<usize>],
}

impl<'a> PrefillAttention<'a> {
    /// `slots_of[p]` lists the slots that start from packed sequence `p`.
    pub fn new(packed: &'a Packed, cache: &'a mut KeyValueCache, slots_of: &'a [Vec<usize>]) -> Self {
        PrefillAttention { packed, cache, slots_of }
    }
}

impl AttentionContext for PrefillAttention<'_> {
    fn attend(&mut self, shape: AttentionShape, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let KeyValue { keys, values } = &self.cache.layers[shape.layer];
        for (buffer, rows) in [(keys, k), (values, v)] {
            for (slots, bounds) in self.slots_of.iter().zip(self.packed.boundaries.windows(2)) {
                let length = bounds[1] - bounds[0];
                let prompt_rows = rows.f_narrow(0, bounds[0] as i64, length as i64)?.f_transpose(0, 1)?;
                for &slot in slots {
                    slot_of(buffer, slot, length)?.f_copy_(&prompt_rows)?;
                }
            }
        }
        PackedAttention(self.packed).attend(shape, q, k, v)
    }
}

/// Attention of one new token per slot over everything its slot holds.
pub(super) struct CachedAttention<'a> {
    cache: &'a mut KeyValueCache,
    /// Tokens of each slot, the new one included, `[slots]`.
    lengths: &'a [i64],
    /// Row of each new key in the flattened cache, `[slots * kv_heads]`.
    rows: Tensor,
    /// By window, what a layer may see: 0 there and minus infinity elsewhere, `[slots, 1, 1, longest]`.
    masks: Vec<(Option<i64>, Tensor)>,
}

impl<'a> CachedAttention<'a> {
    /// Slots `0..lengths.len()` each get a token; `lengths` `[slots]` counts it.
    pub fn new(cache: &'a mut KeyValueCache, lengths: &'a [i64], device: Device) -> Result<Self> {
        let mut rows = Vec::with_capacity(lengths.len() * cache.kv_heads);
        for (slot, &length) in lengths.iter().enumerate() {
            let heads = slot * cache.kv_heads..(slot + 1) * cache.kv_heads;
            rows.extend(heads.map(|head| (head * cache.capacity) as i64 + length - 1));
        }
        let rows = Tensor::from_slice(&rows).f_to_device(device)?;
        Ok(CachedAttention { cache, lengths, rows, masks: Vec::new() })
    }

    /// What a layer with this window sees; made once per step and window.
    fn mask(&mut self, window: Option<i64>, longest: i64, like: &Tensor) -> Result<Tensor> {
        let window = window.filter(|&window| window < longest);
        if let Some((_, mask)) = self.masks.iter().find(|(of, _)| *of == window) {
            return Ok(mask.shallow_clone());
        }
        let last = Tensor::from_slice(self.lengths).f_to_device(like.device())?.f_sub_scalar(1)?.f_unsqueeze(1)?;
        let ages = last.f_sub(&Tensor::f_arange(longest, (Kind::Int64, like.device()))?)?; // [slots, longest]
        let mut hidden = ages.f_lt(0)?;
        if let Some(window) = window {
            hidden = hidden.f_logical_or(&ages.f_ge(window)?)?;
        }
        let mask = Tensor::f_zeros(ages.size(), (like.kind(), like.device()))?;
        let mask = mask.f_masked_fill(&hidden, f64::NEG_INFINITY)?.f_view([-1, 1, 1, longest])?;
        self.masks.push((window, mask.shallow_clone()));
        Ok(mask)
    }
}

impl AttentionContext for CachedAttention<'_> {
    fn attend(&mut self, shape: AttentionShape, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (slots, kv_heads, head_dim) = k.size3()?;
        let KeyValue { keys, values } = &self.cache.layers[shape.layer];
        for (buffer, new) in [(keys, k), (values, v)] {
            let new = new.f_reshape([slots * kv_heads, head_dim])?;
            let _ = buffer.f_view([-1, head_dim])?.f_index_copy_(0, &self.rows, &new)?;
        }
        if q.device() == Device::Cpu {
            return Ok(rl_torch::kernels::cached_attention(q, keys, values, self.lengths, shape.window)?);
        }
        let longest = self.lengths.iter().copied().max().unwrap_or(0);
        let used = |buffer: &Tensor| -> Result<Tensor> {
            Ok(buffer.f_narrow(0, 0, slots)?.f_narrow(2, 0, longest)?) // [slots, kv_heads, longest, head_dim]
        };
        let (keys, values) = (used(keys)?, used(values)?);
        // The query heads that share a key/value head stand in as its query positions: no keys are repeated.
        let (heads, group) = (q.size3()?.1, q.size3()?.1 / kv_heads);
        let mask = self.mask(shape.window, longest, q)?.f_expand([slots, kv_heads, group, longest], false)?;
        let q = q.f_reshape([slots, kv_heads, group, head_dim])?;
        let attended =
            Tensor::f_scaled_dot_product_attention(&q, &keys, &values, Some(&mask), 0.0, false, None, false)?;
        Ok(attended.f_reshape([slots, heads, head_dim])?)
    }
}
