//! The key/value cache of a generation run, and the two ways attention uses it.

use tch::{Device, Kind, Tensor};

use crate::Result;
use crate::attention::{AttentionContext, AttentionShape, PackedAttention};
use crate::decoder::Decoder;
use crate::packed::Packed;

/// Keys and values per layer, `[slots, capacity, kv_heads, head_dim]`.
pub(super) struct KeyValueCache {
    keys: Vec<Tensor>,
    values: Vec<Tensor>,
    capacity: i64,
    device: Device,
}

impl KeyValueCache {
    pub fn new(decoder: &Decoder, num_slots: usize, capacity: usize) -> Self {
        let config = decoder.config();
        let device = decoder.device();
        let shape = [num_slots as i64, capacity as i64, config.num_key_value_heads, config.head_dim()];
        let layers = || (0..config.num_hidden_layers).map(|_| Tensor::zeros(shape, (decoder.kind(), device))).collect();
        KeyValueCache { keys: layers(), values: layers(), capacity: capacity as i64, device }
    }

    /// Copies the first `length` tokens of slot `from` over slot `to`.
    pub fn move_slot(&mut self, from: usize, to: usize, length: usize) {
        for buffer in self.keys.iter().chain(&self.values) {
            let rows = |slot: usize| buffer.get(slot as i64).narrow(0, 0, length as i64);
            rows(to).copy_(&rows(from));
        }
    }
}

/// Packed attention over prompts that also writes their keys and values into the slots that need them.
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
        for (buffer, rows) in [(&self.cache.keys[shape.layer], k), (&self.cache.values[shape.layer], v)] {
            for (prompt, slots) in self.slots_of.iter().enumerate() {
                let start = self.packed.boundaries[prompt] as i64;
                let length = self.packed.boundaries[prompt + 1] as i64 - start;
                let prompt_rows = rows.narrow(0, start, length);
                for &slot in slots {
                    buffer.get(slot as i64).narrow(0, 0, length).copy_(&prompt_rows);
                }
            }
        }
        PackedAttention(self.packed).attend(shape, q, k, v)
    }
}

/// Attention of one new token per slot over everything its slot holds.
pub(super) struct CachedAttention<'a> {
    cache: &'a mut KeyValueCache,
    /// Row of each new token in the flattened cache, `[slots]`.
    rows: Tensor,
    /// Tokens between each cached one and the new one of its slot, `[slots, longest]`; negative beyond the slot's end.
    ages: Tensor,
    /// By window, what a layer may see: 0 there and minus infinity elsewhere, `[slots, 1, 1, longest]`.
    masks: Vec<(Option<i64>, Tensor)>,
    longest: i64,
}

impl<'a> CachedAttention<'a> {
    /// `positions` `[slots]` is where each slot's new token goes; `longest` the most tokens of a slot, that one included.
    pub fn new(cache: &'a mut KeyValueCache, positions: &Tensor, longest: usize) -> Self {
        let (device, longest) = (cache.device, longest as i64);
        let num_slots = positions.size()[0];
        let rows = Tensor::arange(num_slots, (Kind::Int64, device)) * cache.capacity + positions;
        let ages = positions.unsqueeze(1) - Tensor::arange(longest, (Kind::Int64, device)); // [slots, longest]
        CachedAttention { cache, rows, ages, masks: Vec::new(), longest }
    }

    /// What a layer with this window sees; made once per step and window.
    fn mask(&mut self, window: Option<i64>, kind: Kind) -> Result<Tensor> {
        let window = window.filter(|&window| window < self.longest);
        if let Some((_, mask)) = self.masks.iter().find(|(of, _)| *of == window) {
            return Ok(mask.shallow_clone());
        }
        let mut hidden = self.ages.f_lt(0)?;
        if let Some(window) = window {
            hidden = hidden.f_logical_or(&self.ages.f_ge(window)?)?;
        }
        let mask = Tensor::f_zeros(self.ages.size(), (kind, self.cache.device))?;
        let mask = mask.f_masked_fill(&hidden, f64::NEG_INFINITY)?.f_view([-1, 1, 1, self.longest])?;
        self.masks.push((window, mask.shallow_clone()));
        Ok(mask)
    }
}

impl AttentionContext for CachedAttention<'_> {
    fn attend(&mut self, shape: AttentionShape, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
        let (slots, num_heads, head_dim) = q.size3()?;
        let kv_heads = k.size3()?.1;
        let write_and_read = |buffer: &Tensor, new: &Tensor| -> Result<Tensor> {
            let _ = buffer.f_view([-1, kv_heads, head_dim])?.f_index_copy_(0, &self.rows, new)?;
            let filled = buffer.f_narrow(0, 0, slots)?.f_narrow(1, 0, self.longest)?;
            Ok(filled.f_transpose(1, 2)?) // [slots, kv_heads, longest, head_dim]
        };
        let keys = write_and_read(&self.cache.keys[shape.layer], k)?;
        let values = write_and_read(&self.cache.values[shape.layer], v)?;
        // The query heads that share a key/value head stand in as its query positions: no keys are repeated.
        let q = q.f_view([slots, kv_heads, num_heads / kv_heads, head_dim])?;
        let mask = self.mask(shape.window, q.kind())?;
        let mask = mask.f_expand([slots, kv_heads, num_heads / kv_heads, self.longest], false)?;
        let attended =
            Tensor::f_scaled_dot_product_attention(&q, &keys, &values, Some(&mask), 0.0, false, None, false)?;
        Ok(attended.f_reshape([slots, num_heads, head_dim])?)
    }
}
