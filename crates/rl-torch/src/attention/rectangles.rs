//! Attention of sequences of similar lengths at once, by `scaled_dot_product_attention`.

use tch::{Device, Kind, Tensor};

use crate::Result;

/// Sequences shorter than this share of the longest in their rectangle start a rectangle of their own; the waste inside
/// one rectangle stays small while the number of attention calls does too.
const MIN_LENGTH_SHARE: f64 = 0.8;

/// How tokens are regrouped into rectangles of similar lengths.
#[derive(Debug)]
pub(super) struct Rectangles {
    list: Vec<Rectangle>,
    /// What the rectangles hold, one after the other; `None` when the only one is the input itself.
    cells: Option<Cells>,
}

/// How much the rectangles of a batch hold: what attention on the CPU keeps for its backward pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AttentionCells {
    /// Queries, those that fill a rectangle up included.
    pub queries: usize,
    /// Keys, those of a shared prefix once for each sequence that continues it.
    pub keys: usize,
    /// Entries of the masks; none where every sequence begins at its own first key.
    pub masks: usize,
    /// Whether tokens are copied into rectangles; false where the input is one.
    pub regrouped: bool,
}

/// Sequences of similar length that continue equally long ones.
#[derive(Debug, Clone, Copy)]
struct Rectangle {
    num_sequences: i64,
    /// Tokens of the sequence that each one continues; 0 where they continue nothing.
    prefix: i64,
    length: i64,
}

#[derive(Debug)]
struct Cells {
    /// Token of each query, `[num_sequences * length, summed over the rectangles]`.
    queries: Tensor,
    /// Token of each key, `[num_sequences * (prefix + length), summed over the rectangles]`.
    keys: Tensor,
    /// Place among `queries` of each token, `[tokens]`.
    restore: Tensor,
}

impl Rectangles {
    pub fn new(boundaries: &[usize], continues: &[Option<usize>], device: Device) -> Result<Self> {
        let lengths: Vec<usize> = boundaries.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let prefix = |sequence: usize| continues[sequence].map_or(0, |prefix| lengths[prefix]);
        if continues.iter().all(Option::is_none) && lengths.windows(2).all(|pair| pair[0] == pair[1]) {
            let length = lengths.first().copied().unwrap_or(0) as i64;
            let all = Rectangle { num_sequences: lengths.len() as i64, prefix: 0, length };
            return Ok(Rectangles { list: vec![all], cells: None });
        }
        let mut order: Vec<usize> = (0..lengths.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse((prefix(index), lengths[index])));

        let mut list = Vec::new();
        let (mut queries, mut keys) = (Vec::new(), Vec::new());
        let mut restore = vec![0_i64; boundaries[lengths.len()]];
        let mut rest = order.as_slice();
        while let Some(&longest) = rest.first() {
            let length = lengths[longest];
            let fits = |&index: &usize| {
                prefix(index) == prefix(longest) && MIN_LENGTH_SHARE * length as f64 <= lengths[index] as f64
            };
            let num_sequences = rest.iter().take_while(|&index| fits(index)).count();
            for &sequence in &rest[..num_sequences] {
                let start = boundaries[sequence];
                if let Some(prefix) = continues[sequence] {
                    keys.extend(boundaries[prefix] as i64..boundaries[prefix + 1] as i64);
                }
                for offset in 0..length {
                    // Filling on the right may be any token: the sequence's own queries never look there.
                    let token = if offset < lengths[sequence] { start + offset } else { start };
                    if offset < lengths[sequence] {
                        restore[token] = queries.len() as i64;
                    }
                    queries.push(token as i64);
                    keys.push(token as i64);
                }
            }
            let prefix = prefix(longest) as i64;
            list.push(Rectangle { num_sequences: num_sequences as i64, prefix, length: length as i64 });
            rest = &rest[num_sequences..];
        }
        let on_device = |index: &[i64]| -> Result<Tensor> { Ok(Tensor::f_from_slice(index)?.f_to_device(device)?) };
        let cells = Cells { queries: on_device(&queries)?, keys: on_device(&keys)?, restore: on_device(&restore)? };
        Ok(Rectangles { list, cells: Some(cells) })
    }

    pub fn shallow_clone(&self) -> Self {
        let cells = self.cells.as_ref().map(|cells| Cells {
            queries: cells.queries.shallow_clone(),
            keys: cells.keys.shallow_clone(),
            restore: cells.restore.shallow_clone(),
        });
        Rectangles { list: self.list.clone(), cells }
    }

    pub fn cells(&self) -> AttentionCells {
        let sum = |count: fn(&Rectangle) -> i64| self.list.iter().map(count).sum::<i64>() as usize;
        let mask = |rectangle: &Rectangle| match rectangle.is_masked() {
            true => rectangle.length * (rectangle.prefix + rectangle.length),
            false => 0,
        };
        AttentionCells {
            queries: sum(Rectangle::num_queries),
            keys: sum(Rectangle::num_keys),
            masks: sum(mask),
            regrouped: self.cells.is_some(),
        }
    }

    /// Output of every token, `[tokens, heads, head_dim]`; `k` and `v` may have fewer heads on the CPU only.
    pub fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, window: Option<i64>) -> Result<Tensor> {
        let Some(cells) = &self.cells else { return self.list[0].attend(q, k, v, window) };
        // One gather and one split for all rectangles: their backward passes make one gradient of each input, not one
        // per rectangle.
        let split = |xs: &Tensor, index: &Tensor, cells: fn(&Rectangle) -> i64| -> Result<Vec<Tensor>> {
            let sizes: Vec<i64> = self.list.iter().map(cells).collect();
            Ok(xs.f_index_select(0, index)?.f_split_with_sizes(sizes, 0)?)
        };
        let q = split(q, &cells.queries, Rectangle::num_queries)?;
        let k = split(k, &cells.keys, Rectangle::num_keys)?;
        let v = split(v, &cells.keys, Rectangle::num_keys)?;
        let inputs = q.iter().zip(&k).zip(&v);
        let attend =
            |(rectangle, ((q, k), v)): (&Rectangle, ((&Tensor, &Tensor), &Tensor))| rectangle.attend(q, k, v, window);
        let outputs = self.list.iter().zip(inputs).map(attend).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::f_cat(&outputs, 0)?.f_index_select(0, &cells.restore)?)
    }
}

impl Rectangle {
    fn num_queries(&self) -> i64 {
        self.num_sequences * self.length
    }

    fn num_keys(&self) -> i64 {
        self.num_sequences * (self.prefix + self.length)
    }

    /// Whether a sequence sees more than itself. A single query sees every key anyway.
    fn is_masked(&self) -> bool {
        0 < self.prefix && 1 < self.length
    }

    /// Output `[queries, heads, head_dim]` of `q` `[queries, heads, head_dim]` on `k`, `v` `[keys, kv_heads, head_dim]`.
    fn attend(&self, q: &Tensor, k: &Tensor, v: &Tensor, window: Option<i64>) -> Result<Tensor> {
        let Rectangle { num_sequences, prefix, length } = *self;
        let rows = |xs: &Tensor, length: i64| -> Result<Tensor> {
            let (_, heads, head_dim) = xs.size3()?;
            Ok(xs.f_view([num_sequences, length, heads, head_dim])?.f_transpose(1, 2)?) // [.., heads, length, head_dim]
        };
        let num_keys = prefix + length;
        let window = window.filter(|&window| window < num_keys);
        // The operator's own causal mask is aligned at the first key.
        let masked = window.is_some() || self.is_masked();
        let mask = if masked { Some(self.mask(window, q.device())?) } else { None };
        let causal = !masked && prefix == 0;
        let shares_heads = k.size()[1] != q.size()[1];
        let attended = Tensor::f_scaled_dot_product_attention(
            &rows(q, length)?,
            &rows(k, num_keys)?,
            &rows(v, num_keys)?,
            mask.as_ref(),
            0.0,
            causal,
            None,
            shares_heads,
        )?;
        Ok(attended.f_transpose(1, 2)?.f_reshape(q.size().as_slice())?)
    }

    /// True where a query looks, `[length, prefix + length]`: up to its own token, with `window` the last tokens only.
    fn mask(&self, window: Option<i64>, device: Device) -> Result<Tensor> {
        let shape = [self.length, self.prefix + self.length];
        let mask = Tensor::f_ones(shape, (Kind::Bool, device))?.f_tril(self.prefix)?;
        Ok(match window {
            Some(window) => mask.f_triu(self.prefix + 1 - window)?,
            None => mask,
        })
    }
}
