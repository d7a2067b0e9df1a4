//! The vocabulary projection without its logits: log-probabilities and entropies tile by tile, with the tiles made
//! again in the backward pass.
//!
//! Kept between the passes are a few numbers per label. Memory beyond that is a few tiles and the gradients themselves,
//! so it grows neither with `labels x vocab` nor with `vocab`. Absent on purpose: gradients of gradients.

use rl_torch::autograd::{leaf_grad, with_backward};
use tch::{Kind, TchError, Tensor};

use crate::Result;

/// Bytes of logits in one tile on the CPU; a pass holds at most four tiles at a time.
pub(crate) const TILE_BYTES: i64 = 16 << 20;

/// The same on an accelerator, where a small tile does not fill the device.
pub(crate) const ACCELERATOR_TILE_BYTES: i64 = 128 << 20;

/// Most rows of a tile: enough that adding to the weight's gradient costs little beside the product.
pub(crate) const MAX_TILE_ROWS: i64 = 1024;

/// Most columns of a tile, so that few rows do not make a copy of the whole vocabulary's gradient.
pub(crate) const MAX_TILE_COLUMNS: i64 = 1 << 15;

/// One projection: what is read of it, and where.
///
/// With logits `z = hidden[rows] weight^T / temperature`, in f32 (f64 for f64 weights) once multiplied out, the
/// log-probability of a label is `z[id] - lse(z)` and the entropy is `lse(z) - sum(softmax(z) z)`.
pub(crate) struct ChunkedHead {
    /// `[tokens, hidden]`.
    pub hidden: Tensor,
    /// `[vocab, hidden]`, of the type of `hidden`.
    pub weight: Tensor,
    /// Rows of `hidden`, `[labels]`, int64.
    pub rows: Tensor,
    /// Chosen columns, `[labels]`, int64.
    pub ids: Tensor,
    pub temperature: f64,
    pub tile_bytes: i64,
}

impl ChunkedHead {
    /// Log-probabilities `[labels]` and, where `with_entropies`, entropies `[labels]`, in f32 (f64 for f64 weights).
    ///
    /// Both carry gradients to `hidden` and `weight` where those ask for them. An id outside the vocabulary gives NaN.
    pub fn run(self, with_entropies: bool) -> Result<(Tensor, Option<Tensor>)> {
        let sources = [self.hidden.shallow_clone(), self.weight.shallow_clone()];
        let head = ChunkedHead { hidden: self.hidden.f_detach()?, weight: self.weight.f_detach()?, ..self };
        let Sums { log_normalizers, log_probs, entropies } = tch::no_grad(|| head.forward(with_entropies))?;
        let mut outputs = vec![log_probs];
        outputs.extend(entropies.as_ref().map(Tensor::shallow_clone));
        let wanted = [sources[0].requires_grad(), sources[1].requires_grad()];
        // The results of `with_backward` must not be held by its closure, so it gets an alias outside the graph.
        let entropies = entropies.map(|entropies| entropies.f_detach()).transpose()?;
        let weight = sources[1].shallow_clone();
        let mut outputs = with_backward(&[&sources[0], &sources[1]], outputs, move |grads| {
            let known = Known { log_normalizers: &log_normalizers, entropies: entropies.as_ref() };
            let entropy_grad = grads.get(1).and_then(Option::as_ref);
            // Half-precision gradients are summed in f32 first and cannot be added to tile by tile.
            let has_kind = weight.kind() == head.kind();
            let sum = if wanted[1] && has_kind { leaf_grad(&weight)? } else { None };
            let is_added = sum.is_some();
            let [hidden, weight] =
                tch::no_grad(|| head.backward(&known, grads[0].as_ref(), entropy_grad, wanted, sum))?;
            Ok(vec![hidden, weight.filter(|_| !is_added)])
        })?;
        let entropies = with_entropies.then(|| outputs.pop()).flatten();
        Ok((outputs.remove(0), entropies))
    }

    /// One pass over the tiles with a running maximum and running sums per row.
    fn forward(&self, with_entropies: bool) -> std::result::Result<Sums, TchError> {
        let (labels, options) = (self.rows.size1()?, (self.kind(), self.weight.device()));
        let log_normalizers = Tensor::f_empty([labels], options)?;
        let log_probs = Tensor::f_empty([labels], options)?;
        let entropies = if with_entropies { Some(Tensor::f_empty([labels], options)?) } else { None };
        let mut scratch = Scratch::new(self, with_entropies)?;
        for (start, len) in blocks(labels, self.tile_rows()) {
            let hidden = self.hidden.f_index_select(0, &self.rows.f_narrow(0, start, len)?)?;
            let mut chosen = Tensor::f_full([len, 1], f64::NAN, options)?;
            // Per row: the greatest logit m, sum(exp(z - m)), and sum(exp(z - m) (z - m)) for the entropy.
            let mut running: Option<(Tensor, Tensor, Tensor)> = None;
            for columns in blocks(self.vocab(), self.tile_columns()) {
                let mut logits = self.logits(&hidden, columns, &mut scratch)?; // [len, columns]
                let (inside, index) = self.labels_in(start, len, columns)?;
                chosen = logits.f_gather(1, &index, false)?.f_where_self(&inside, &chosen)?;
                let mut greatest = logits.f_amax(1, true)?;
                if let Some((earlier, _, _)) = &running {
                    greatest = greatest.f_maximum(earlier)?;
                }
                let _ = logits.f_sub_(&greatest)?;
                let (mut sum, mut weighted);
                if let Some(spare) = &scratch.spare {
                    let mut exp = view(spare, &logits)?;
                    exp = logits.f_exp_out(&exp)?;
                    sum = exp.f_sum_dim_intlist(1, true, self.kind())?;
                    weighted = exp.f_mul_(&logits)?.f_sum_dim_intlist(1, true, self.kind())?;
                } else {
                    sum = logits.f_exp_()?.f_sum_dim_intlist(1, true, self.kind())?;
                    weighted = Tensor::f_zeros([1], options)?;
                }
                if let Some((earlier, earlier_sum, earlier_weighted)) = running {
                    let shift = earlier.f_sub(&greatest)?;
                    let factor = shift.f_exp()?;
                    if with_entropies {
                        let moved = earlier_weighted.f_add(&earlier_sum.f_mul(&shift)?)?.f_mul(&factor)?;
                        weighted = weighted.f_add(&moved)?;
                    }
                    sum = sum.f_add(&earlier_sum.f_mul(&factor)?)?;
                }
                running = Some((greatest, sum, weighted));
            }
            let Some((greatest, sum, weighted)) = running else { continue };
            let log_sum = sum.f_log()?;
            let log_normalizer = greatest.f_add(&log_sum)?;
            let into =
                |target: &Tensor, rows: &Tensor| target.f_narrow(0, start, len)?.f_copy_(&rows.f_squeeze_dim(1)?);
            into(&log_normalizers, &log_normalizer)?;
            into(&log_probs, &chosen.f_sub(&log_normalizer)?)?;
            if let Some(entropies) = &entropies {
                into(entropies, &log_sum.f_sub(&weighted.f_div(&sum)?)?)?;
            }
        }
        Ok(Sums { log_normalizers, log_probs, entropies })
    }

    /// Gradients of `hidden` and `weight`, where `wanted`.
    ///
    /// With upstream gradients `g` and `h` of a row's log-probability and entropy `H`, and `log p = z - lse(z)`:
    /// `dz = g (onehot - p) - h p (log p + H)`. The weight's is added to `weight_sum` where that is given.
    fn backward(
        &self,
        known: &Known,
        log_prob_grad: Option<&Tensor>,
        entropy_grad: Option<&Tensor>,
        wanted: [bool; 2],
        weight_sum: Option<Tensor>,
    ) -> std::result::Result<[Option<Tensor>; 2], TchError> {
        if log_prob_grad.is_none() && entropy_grad.is_none() {
            return Ok([None, None]);
        }
        let (labels, options) = (self.rows.size1()?, (self.kind(), self.weight.device()));
        let zeros = |like: &Tensor| Tensor::f_zeros(like.size(), options);
        let mut hidden_grad = if wanted[0] { Some(zeros(&self.hidden)?) } else { None };
        let weight_grad = match weight_sum {
            None if wanted[1] => Some(zeros(&self.weight)?),
            sum => sum,
        };
        let mut scratch = Scratch::new(self, entropy_grad.is_some())?;
        for (start, len) in blocks(labels, self.tile_rows()) {
            let rows = self.rows.f_narrow(0, start, len)?;
            let hidden = self.hidden.f_index_select(0, &rows)?;
            let column = |numbers: &Tensor| numbers.f_narrow(0, start, len)?.f_unsqueeze(1);
            // The logits are products over the temperature, so its reciprocal goes into the upstream gradients.
            let upstream = |grad: Option<&Tensor>| match grad {
                Some(grad) => column(grad)?.f_to_kind(self.kind())?.f_div_scalar(self.temperature),
                None => Tensor::f_zeros([len, 1], options),
            };
            let log_normalizer = column(known.log_normalizers)?;
            let log_prob_grad = upstream(log_prob_grad)?;
            let mut rows_grad = zeros(&hidden)?;
            for columns in blocks(self.vocab(), self.tile_columns()) {
                let mut logits = self.logits(&hidden, columns, &mut scratch)?;
                let mut log_p = logits.f_sub_(&log_normalizer)?;
                let mut logits_grad = match (entropy_grad, known.entropies, &scratch.spare) {
                    (Some(entropy_grad), Some(entropies), Some(spare)) => {
                        let p = log_p.f_exp_out(&view(spare, &log_p)?)?;
                        let mut factor = log_p.f_add_(&column(entropies)?)?;
                        let mut factor = factor.f_mul_(&upstream(Some(entropy_grad))?)?;
                        factor.f_add_(&log_prob_grad)?.f_mul_(&p)?.f_neg_()?
                    }
                    _ => log_p.f_exp_()?.f_mul_(&log_prob_grad.f_neg()?)?,
                };
                let (inside, index) = self.labels_in(start, len, columns)?;
                let at_label = log_prob_grad.f_mul(&inside.f_to_kind(self.kind())?)?;
                let logits_grad = logits_grad.f_scatter_add_(1, &index, &at_label)?;
                let logits_grad = scratch.for_products(logits_grad)?;
                if wanted[0] {
                    add_product(&mut rows_grad, &logits_grad, &self.weight.f_narrow(0, columns.0, columns.1)?)?;
                }
                if let Some(weight_grad) = &weight_grad {
                    let mut block = weight_grad.f_narrow(0, columns.0, columns.1)?;
                    add_product(&mut block, &logits_grad.f_transpose(0, 1)?, &hidden)?;
                }
            }
            if let Some(hidden_grad) = &mut hidden_grad {
                let _ = hidden_grad.f_index_add_(0, &rows, &rows_grad)?;
            }
        }
        let like_source = |grad: Option<Tensor>, source: &Tensor| grad.map(|g| g.f_to_kind(source.kind())).transpose();
        Ok([like_source(hidden_grad, &self.hidden)?, like_source(weight_grad, &self.weight)?])
    }

    /// Logits over the temperature of `hidden` `[len, hidden]` at `columns`, `[len, columns]`, in `scratch`.
    fn logits(
        &self,
        hidden: &Tensor,
        (start, len): (i64, i64),
        scratch: &mut Scratch,
    ) -> std::result::Result<Tensor, TchError> {
        let shape = [hidden.size()[0], len];
        let place = |flat: &Tensor| flat.f_narrow(0, 0, shape[0] * shape[1])?.f_view(shape);
        let weight = self.weight.f_narrow(0, start, len)?.f_transpose(0, 1)?;
        let mut logits = place(&scratch.logits)?;
        match &scratch.products {
            None => drop(hidden.f_mm_out(&logits, &weight)?),
            Some(products) => logits.f_copy_(&hidden.f_mm_out(&place(products)?, &weight)?)?,
        }
        if self.temperature != 1.0 {
            let _ = logits.f_div_scalar_(self.temperature)?;
        }
        Ok(logits)
    }

    /// Which of the labels `start..start + len` fall into `columns`, and where: `[len, 1]` each.
    fn labels_in(&self, start: i64, len: i64, columns: (i64, i64)) -> std::result::Result<(Tensor, Tensor), TchError> {
        let index = self.ids.f_narrow(0, start, len)?.f_unsqueeze(1)?.f_sub_scalar(columns.0)?;
        let inside = index.f_ge(0)?.f_logical_and(&index.f_lt(columns.1)?)?;
        Ok((inside, index.f_clamp(0, columns.1 - 1)?))
    }

    fn vocab(&self) -> i64 {
        self.weight.size()[0]
    }

    /// The type of logits and everything after them.
    fn kind(&self) -> Kind {
        if self.weight.kind() == Kind::Double { Kind::Double } else { Kind::Float }
    }

    fn tile_rows(&self) -> i64 {
        self.rows.size()[0].clamp(1, MAX_TILE_ROWS)
    }

    fn tile_columns(&self) -> i64 {
        let row_bytes = self.tile_rows() * self.kind().elt_size_in_bytes() as i64;
        (self.tile_bytes / row_bytes).clamp(1, MAX_TILE_COLUMNS).min(self.vocab())
    }
}

/// What the forward pass leaves, `[labels]` each.
struct Sums {
    log_normalizers: Tensor,
    log_probs: Tensor,
    entropies: Option<Tensor>,
}

/// What the backward pass knows of the forward pass.
struct Known<'a> {
    log_normalizers: &'a Tensor,
    entropies: Option<&'a Tensor>,
}

/// Buffers of one tile each, used again for every tile of a pass.
struct Scratch {
    logits: Tensor,
    spare: Option<Tensor>,
    /// In the weights' type, where that is not the logits'.
    products: Option<Tensor>,
}

impl Scratch {
    fn new(head: &ChunkedHead, with_spare: bool) -> std::result::Result<Self, TchError> {
        let len = [head.tile_rows() * head.tile_columns()];
        let buffer = |kind: Kind| Tensor::f_empty(len, (kind, head.weight.device()));
        let (kind, weight_kind) = (head.kind(), head.weight.kind());
        Ok(Scratch {
            logits: buffer(kind)?,
            spare: if with_spare { Some(buffer(kind)?) } else { None },
            products: if kind == weight_kind { None } else { Some(buffer(weight_kind)?) },
        })
    }

    /// `tile` in the weights' type.
    fn for_products(&self, tile: Tensor) -> std::result::Result<Tensor, TchError> {
        let Some(products) = &self.products else { return Ok(tile) };
        let mut rounded = view(products, &tile)?;
        rounded.f_copy_(&tile)?;
        Ok(rounded)
    }
}

/// The first elements of `flat` in the shape of `like`.
fn view(flat: &Tensor, like: &Tensor) -> std::result::Result<Tensor, TchError> {
    flat.f_narrow(0, 0, like.numel() as i64)?.f_view(like.size().as_slice())
}

/// Adds `left right` to `sum`, in place; half-precision products are summed in f32.
pub(crate) fn add_product(sum: &mut Tensor, left: &Tensor, right: &Tensor) -> std::result::Result<(), TchError> {
    if sum.kind() == right.kind() {
        let _ = sum.f_addmm_(left, right)?;
    } else {
        let _ = sum.f_add_(&left.f_mm(right)?)?;
    }
    Ok(())
}

/// Start and length of consecutive blocks of at most `size` that cover `0..total`.
pub(crate) fn blocks(total: i64, size: i64) -> impl Iterator<Item = (i64, i64)> {
    (0..total).step_by(size as usize).map(move |start| (start, size.min(total - start)))
}

#[cfg(test)]
mod tests;
