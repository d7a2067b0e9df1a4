//! Keys and values of the sequences under way, and the two ways attention uses them.
//!
//! A slot holds one sequence from its first token on. Nothing is padded: a slot's length says how much of it counts,
//! and what lies behind is never read.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::attention::{AttentionContext, PackedAttention};
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
        let kind = decoder.parameters().first().map_or(Kind::Float, |(_, tensor)| tensor.kind());
        let shape = [0, config.num_key_value_heads, 0, config.head_dim()];
        let empty = || Tensor::empty(shape, (kind, decoder.device()));
        KeyValueCache {
            layers: (0..config.num_hidden_layers).map(|_| KeyValue { keys: empty(), values: empty() }).collect(),
            num_slots: 0,
            capacity: 0,
            max_positions: config.max_position_embeddings as usize,
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

    /// Overwrites everything with NaN, to prove that nothing reads what no sequence wrote.
    #[cfg(test)]
    pub fn poison(&mut self, slot: usize, from: usize) {
        for buffer in self.buffers() {
            let behind = self.capacity as i64 - from as i64;
            let _ = buffer.get(slot as i64).narrow(1, from as i64, behind).fill_(f64::NAN);
        }
    }

    #[cfg(test)]
    pub fn shape(&self) -> (usize, usize) {
        (self.num_slots, self.capacity)
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
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let KeyValue { keys, values } = &self.cache.layers[layer];
        for (buffer, rows) in [(keys, k), (values, v)] {
            for (slots, bounds) in self.slots_of.iter().zip(self.packed.boundaries.windows(2)) {
                let length = bounds[1] - bounds[0];
                let prompt_rows = rows.f_narrow(0, bounds[0] as i64, length as i64)?.f_transpose(0, 1)?;
                for &slot in slots {
                    slot_of(buffer, slot, length)?.f_copy_(&prompt_rows)?;
                }
            }
        }
        PackedAttention(self.packed).attend(layer, q, k, v)
    }
}

/// Attention of one new token per slot over everything its slot holds.
pub(super) struct CachedAttention<'a> {
    cache: &'a mut KeyValueCache,
    /// Tokens of each slot, the new one included, `[slots]`.
    lengths: &'a [i64],
    /// Row of each new key in the flattened cache, `[slots * kv_heads]`.
    rows: Tensor,
    filled: Filled,
}

/// What attention by libtorch's own operator must know of the lengths.
struct Filled {
    longest: i64,
    /// 0 where a slot has a token and minus infinity after it, `[slots, 1, 1, longest]`; none for equal lengths.
    mask: Option<Tensor>,
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
        let kind = cache.layers.first().map_or(Kind::Float, |layer| layer.keys.kind());
        let filled = Filled::new(lengths, kind, device)?;
        Ok(CachedAttention { cache, lengths, rows, filled })
    }
}

impl Filled {
    fn new(lengths: &[i64], kind: Kind, device: Device) -> Result<Self> {
        let longest = lengths.iter().copied().max().unwrap_or(0);
        if lengths.iter().all(|&length| length == longest) {
            return Ok(Filled { longest, mask: None });
        }
        let columns = Tensor::f_arange(longest, (Kind::Int64, device))?;
        let lengths = Tensor::from_slice(lengths).f_to_device(device)?;
        let beyond = columns.f_ge_tensor(&lengths.f_unsqueeze(1)?)?; // [slots, longest]
        let mask = Tensor::f_zeros([lengths.size1()?, longest], (kind, device))?;
        let mask = mask.f_masked_fill(&beyond, f64::NEG_INFINITY)?.f_unsqueeze(1)?.f_unsqueeze(1)?;
        Ok(Filled { longest, mask: Some(mask) })
    }
}

impl AttentionContext for CachedAttention<'_> {
    fn attend(&mut self, layer: usize, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (slots, kv_heads, head_dim) = k.size3()?;
        let KeyValue { keys, values } = &self.cache.layers[layer];
        for (buffer, new) in [(keys, k), (values, v)] {
            let new = new.f_reshape([slots * kv_heads, head_dim])?;
            let _ = buffer.f_view([-1, head_dim])?.f_index_copy_(0, &self.rows, &new)?;
        }
        attend_filled(q, keys, values, self.lengths, &self.filled)
    }
}

/// Attention output `[slots, heads, head_dim]` of `q` `[slots, heads, head_dim]` over the first `lengths[slot]` tokens of
/// each slot of `keys` and `values` `[all slots, kv_heads, capacity, head_dim]`.
fn attend_filled(q: &Tensor, keys: &Tensor, values: &Tensor, _lengths: &[i64], filled: &Filled) -> Result<Tensor> {
    let (slots, num_heads, head_dim) = q.size3()?;
    let kv_heads = keys.size4()?.1;
    let used = |buffer: &Tensor| -> Result<Tensor> {
        Ok(buffer.f_narrow(0, 0, slots)?.f_narrow(2, 0, filled.longest)?) // [slots, kv_heads, longest, head_dim]
    };
    // The query heads that share a key/value head stand in as its query positions: no keys are repeated.
    let group = num_heads / kv_heads;
    let q = q.f_reshape([slots, kv_heads, group, head_dim])?;
    let mask = filled.mask.as_ref();
    let mask = mask.map(|mask| mask.f_expand([slots, kv_heads, group, filled.longest], false)).transpose()?;
    let attended = Tensor::f_scaled_dot_product_attention(
        &q,
        &used(keys)?,
        &used(values)?,
        mask.as_ref(),
        0.0,
        false,
        None,
        false,
    )?;
    Ok(attended.f_reshape([slots, num_heads, head_dim])?)
}
