//! The divergence of two projections, tile by tile: once for the normalisers, once for the value, once for the gradient.

use rl_torch::autograd::{leaf_grad, with_backward};
use tch::{Kind, TchError, Tensor};

use super::{DistillationSettings, Divergence};
use crate::Result;
use crate::chunked_head::{MAX_TILE_COLUMNS, MAX_TILE_ROWS, add_product, blocks};

type TchResult<T> = std::result::Result<T, TchError>;

/// Hidden states `[tokens, hidden]` and a head `[vocab, hidden]` of the same type.
pub(super) struct Projection {
    pub hidden: Tensor,
    pub weight: Tensor,
}

/// Both projections at `rows` `[labels]`, int64, and what is made of them.
pub(super) struct TiledDivergence {
    pub student: Projection,
    pub teacher: Projection,
    pub rows: Tensor,
    pub settings: DistillationSettings,
    /// The sum over rows is divided by this.
    pub divisor: f64,
    pub tile_bytes: i64,
}

/// What the forward pass leaves, `[labels, 1]` each.
struct Sums {
    student_normalizers: Tensor,
    teacher_normalizers: Tensor,
    /// Value of each row.
    values: Tensor,
    /// Sum over the vocabulary of `slope`, see [`TiledDivergence::tile`].
    slopes: Tensor,
}

/// One tile, `[len, columns]`.
struct Tile {
    /// The student's probabilities.
    probabilities: Tensor,
    /// What each column adds to the value of its row.
    values: Tensor,
    /// `d value / d log p_s` of each column, up to a multiple of the student's probability, which the normaliser undoes.
    slopes: Tensor,
}

impl TiledDivergence {
    /// The scalar, with gradients to the student's hidden states and head where those ask for them.
    pub fn run(self) -> Result<Tensor> {
        let sources = [self.student.hidden.shallow_clone(), self.student.weight.shallow_clone()];
        let student = Projection { hidden: sources[0].f_detach()?, weight: sources[1].f_detach()? };
        let head = TiledDivergence { student, ..self };
        let (loss, sums) = tch::no_grad(|| head.forward())?;
        let wanted = [sources[0].requires_grad(), sources[1].requires_grad()];
        let weight = sources[1].shallow_clone();
        let mut outputs = with_backward(&[&sources[0], &sources[1]], vec![loss], move |grads| {
            let Some(upstream) = &grads[0] else { return Ok(vec![None, None]) };
            // Half-precision gradients are summed in f32 first and cannot be added to tile by tile.
            let sum = if wanted[1] && weight.kind() == head.kind() { leaf_grad(&weight)? } else { None };
            let is_added = sum.is_some();
            let [hidden, weight] = tch::no_grad(|| head.backward(&sums, upstream, wanted, sum))?;
            Ok(vec![hidden, weight.filter(|_| !is_added)])
        })?;
        Ok(outputs.remove(0))
    }

    fn forward(&self) -> TchResult<(Tensor, Sums)> {
        let labels = self.rows.size1()?;
        let column = || Tensor::f_empty([labels, 1], (self.kind(), self.student.weight.device()));
        let sums = Sums {
            student_normalizers: column()?,
            teacher_normalizers: column()?,
            values: column()?,
            slopes: column()?,
        };
        for (start, len) in blocks(labels, self.tile_rows()) {
            let place = |target: &Tensor, rows: &Tensor| target.f_narrow(0, start, len)?.f_copy_(rows);
            let student_hidden = self.hidden_at(&self.student, start, len)?;
            let teacher_hidden = self.hidden_at(&self.teacher, start, len)?;
            place(&sums.student_normalizers, &self.normalizers(&self.student, &student_hidden)?)?;
            place(&sums.teacher_normalizers, &self.normalizers(&self.teacher, &teacher_hidden)?)?;
            let zeros = || Tensor::f_zeros([len, 1], (self.kind(), self.student.weight.device()));
            let (mut values, mut slopes) = (zeros()?, zeros()?);
            for columns in blocks(self.vocab(), self.tile_columns()) {
                let tile = self.tile(&sums, &student_hidden, &teacher_hidden, (start, len), columns)?;
                values = values.f_add(&tile.values.f_sum_dim_intlist(1, true, self.kind())?)?;
                slopes = slopes.f_add(&tile.slopes.f_sum_dim_intlist(1, true, self.kind())?)?;
            }
            place(&sums.values, &values)?;
            place(&sums.slopes, &slopes)?;
        }
        let loss = sums.values.f_sum(Kind::Double)?.f_div_scalar(self.divisor)?.f_to_kind(self.kind())?;
        Ok((loss, sums))
    }

    /// Gradients of the student's hidden states and head, where `wanted`: with the slope `g` of a column and the
    /// probability `p`, `dz = (g - p sum(g)) upstream / (temperature divisor)`. The weight's is added to `weight_sum`
    /// where that is given.
    fn backward(
        &self,
        sums: &Sums,
        upstream: &Tensor,
        wanted: [bool; 2],
        weight_sum: Option<Tensor>,
    ) -> TchResult<[Option<Tensor>; 2]> {
        let labels = self.rows.size1()?;
        let options = (self.kind(), self.student.weight.device());
        let mut hidden_grad =
            if wanted[0] { Some(Tensor::f_zeros(self.student.hidden.size(), options)?) } else { None };
        let weight_grad = match weight_sum {
            None if wanted[1] => Some(Tensor::f_zeros(self.student.weight.size(), options)?),
            sum => sum,
        };
        let upstream = upstream.f_to_kind(self.kind())?.f_div_scalar(self.settings.temperature * self.divisor)?;
        for (start, len) in blocks(labels, self.tile_rows()) {
            let student_hidden = self.hidden_at(&self.student, start, len)?;
            let teacher_hidden = self.hidden_at(&self.teacher, start, len)?;
            let slope_sums = sums.slopes.f_narrow(0, start, len)?;
            let mut rows_grad = Tensor::f_zeros(student_hidden.size(), options)?;
            for columns in blocks(self.vocab(), self.tile_columns()) {
                let tile = self.tile(sums, &student_hidden, &teacher_hidden, (start, len), columns)?;
                let Tile { mut probabilities, mut slopes, .. } = tile;
                let mut logits_grad = slopes.f_sub_(&probabilities.f_mul_(&slope_sums)?)?;
                let logits_grad = logits_grad.f_mul_(&upstream)?.f_to_kind(self.student.weight.kind())?;
                if wanted[0] {
                    let weight = self.student.weight.f_narrow(0, columns.0, columns.1)?;
                    add_product(&mut rows_grad, &logits_grad, &weight)?;
                }
                if let Some(weight_grad) = &weight_grad {
                    let mut block = weight_grad.f_narrow(0, columns.0, columns.1)?;
                    add_product(&mut block, &logits_grad.f_transpose(0, 1)?, &student_hidden)?;
                }
            }
            if let Some(hidden_grad) = &mut hidden_grad {
                let _ = hidden_grad.f_index_add_(0, &self.rows.f_narrow(0, start, len)?, &rows_grad)?;
            }
        }
        let like = |grad: Option<Tensor>, source: &Tensor| grad.map(|grad| grad.f_to_kind(source.kind())).transpose();
        Ok([like(hidden_grad, &self.student.hidden)?, like(weight_grad, &self.student.weight)?])
    }

    /// One tile, with log-probabilities `s` and `t`:
    ///
    /// | divergence | value | slope |
    /// |---|---|---|
    /// | forward | `e^t (t - s)` | `-e^t` |
    /// | reverse | `e^s (s - t)` | `e^s (s - t)` |
    /// | mixture | `mix e^t (t - m) + (1 - mix) e^s (s - m)` | `(1 - mix) e^s (s - m)` |
    /// | cross-entropy | `-e^t s`, 0 where the student's logit is infinite | `-e^t`, 0 there |
    fn tile(
        &self,
        sums: &Sums,
        student_hidden: &Tensor,
        teacher_hidden: &Tensor,
        (start, len): (i64, i64),
        columns: (i64, i64),
    ) -> TchResult<Tile> {
        let mut s = self.logits(&self.student, student_hidden, columns)?;
        let mut t = self.logits(&self.teacher, teacher_hidden, columns)?;
        let infinite = match self.settings.divergence {
            Divergence::CrossEntropy => Some(s.f_isinf()?),
            _ => None,
        };
        let _ = s.f_sub_(&sums.student_normalizers.f_narrow(0, start, len)?)?;
        let _ = t.f_sub_(&sums.teacher_normalizers.f_narrow(0, start, len)?)?;
        // In place where it can be: at most five tiles are held at a time.
        let probabilities;
        let (values, slopes) = match self.settings.divergence {
            Divergence::ForwardKl => {
                probabilities = s.f_exp()?;
                let mut teacher = t.f_exp()?;
                (t.f_sub_(&s)?.f_mul_(&teacher)?, teacher.f_neg_()?)
            }
            Divergence::ReverseKl => {
                probabilities = s.f_exp()?;
                let slopes = s.f_sub_(&t)?.f_mul_(&probabilities)?;
                (slopes.shallow_clone(), slopes)
            }
            Divergence::JensenShannon { mix } => {
                let mixture = t.f_add_scalar(mix.ln())?;
                let mixture = mixture.f_logaddexp_out(&mixture, &s.f_add_scalar((-mix).ln_1p())?)?;
                probabilities = s.f_exp()?;
                let slopes = s.f_sub_(&mixture)?.f_mul_(&probabilities)?.f_mul_scalar_(1.0 - mix)?;
                let teacher = t.f_exp()?;
                (t.f_sub_(&mixture)?.f_mul_(&teacher)?.f_mul_scalar_(mix)?.f_add_(&slopes)?, slopes)
            }
            Divergence::CrossEntropy => {
                probabilities = s.f_exp()?;
                let mut slopes = t.f_exp_()?.f_neg_()?;
                let mut values = s.f_mul_(&slopes)?;
                if let Some(infinite) = &infinite {
                    let _ = slopes.f_masked_fill_(infinite, 0.0)?;
                    let _ = values.f_masked_fill_(infinite, 0.0)?;
                }
                (values, slopes)
            }
        };
        Ok(Tile { probabilities, values, slopes })
    }

    /// `logsumexp` of the logits over the vocabulary, `[len, 1]`, with a running maximum.
    fn normalizers(&self, projection: &Projection, hidden: &Tensor) -> TchResult<Tensor> {
        let len = hidden.size()[0];
        let mut total: Option<Tensor> = None;
        for columns in blocks(self.vocab(), self.tile_columns()) {
            let part = self.logits(projection, hidden, columns)?.f_logsumexp(1, true)?;
            total = Some(match total {
                None => part,
                Some(total) => total.f_logaddexp(&part)?,
            });
        }
        total.map_or_else(|| Tensor::f_zeros([len, 1], (self.kind(), hidden.device())), Ok)
    }

    /// Logits over the temperature at `columns`, `[len, columns]`, in f32 (f64 for f64 weights).
    fn logits(&self, projection: &Projection, hidden: &Tensor, (start, len): (i64, i64)) -> TchResult<Tensor> {
        let weight = projection.weight.f_narrow(0, start, len)?;
        let mut logits = hidden.f_mm(&weight.f_transpose(0, 1)?)?.f_to_kind(self.kind())?;
        if self.settings.temperature != 1.0 {
            let _ = logits.f_div_scalar_(self.settings.temperature)?;
        }
        Ok(logits)
    }

    fn hidden_at(&self, projection: &Projection, start: i64, len: i64) -> TchResult<Tensor> {
        projection.hidden.f_index_select(0, &self.rows.f_narrow(0, start, len)?)
    }

    fn vocab(&self) -> i64 {
        self.student.weight.size()[0]
    }

    /// The type of logits and everything after them.
    fn kind(&self) -> Kind {
        if self.student.weight.kind() == Kind::Double { Kind::Double } else { Kind::Float }
    }

    fn tile_rows(&self) -> i64 {
        self.rows.size()[0].clamp(1, MAX_TILE_ROWS)
    }

    fn tile_columns(&self) -> i64 {
        let row_bytes = self.tile_rows() * self.kind().elt_size_in_bytes() as i64;
        (self.tile_bytes / row_bytes).clamp(1, MAX_TILE_COLUMNS).min(self.vocab())
    }
}

#[cfg(test)]
mod tests;
