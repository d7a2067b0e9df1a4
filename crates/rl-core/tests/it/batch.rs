//! A batch of per-token arrays, and the changes of its shape that must not change what is computed from it.

use proptest::prelude::*;
use rl_core::masked::StepCounts;

/// Rows of one width. What the arrays hold is the reader's choice: log-probabilities of now, of the rollout and of the
/// reference, or values, old values and returns.
#[derive(Debug, Clone)]
pub struct Batch {
    pub seq: usize,
    pub arrays: [Vec<f32>; 3],
    pub mask: Vec<bool>,
}

/// Columns on both sides of every row, and rows below.
#[derive(Debug, Clone, Copy)]
pub struct Padding {
    pub left: usize,
    pub right: usize,
    pub rows: usize,
}

impl Batch {
    pub fn num_rows(&self) -> usize {
        self.mask.len() / self.seq
    }

    pub fn counts(&self) -> StepCounts {
        StepCounts::of_micro_batch(&self.mask, self.seq).unwrap()
    }

    /// The same tokens with `junk` in the arrays wherever the mask is false.
    pub fn spoilt(&self, junk: f32) -> Batch {
        let mut spoilt = self.clone();
        for array in &mut spoilt.arrays {
            array.iter_mut().zip(&self.mask).filter(|(_, token)| !**token).for_each(|(value, _)| *value = junk);
        }
        spoilt
    }

    /// The batch inside padding full of NaN, and where each of its tokens went.
    pub fn padded(&self, padding: Padding) -> (Batch, Vec<usize>) {
        let seq = padding.left + self.seq + padding.right;
        let places: Vec<usize> =
            (0..self.mask.len()).map(|index| index / self.seq * seq + padding.left + index % self.seq).collect();
        let mut origins = vec![None; (self.num_rows() + padding.rows) * seq];
        places.iter().enumerate().for_each(|(index, &place)| origins[place] = Some(index));
        (self.gather(&origins, seq), places)
    }

    /// The response tokens alone, end to end: the batch, the length of each row, and where each token came from.
    pub fn packed(&self) -> (Batch, Vec<usize>, Vec<usize>) {
        let kept: Vec<usize> = (0..self.mask.len()).filter(|&index| self.mask[index]).collect();
        let lengths = self.mask.chunks(self.seq).map(|row| row.iter().filter(|&&token| token).count()).collect();
        let origins: Vec<Option<usize>> = kept.iter().copied().map(Some).collect();
        (self.gather(&origins, 1), lengths, kept)
    }

    /// The rows above `cut` and those from it on; one part may be empty.
    pub fn split(&self, cut: usize) -> [Batch; 2] {
        let places: Vec<Option<usize>> = (0..self.mask.len()).map(Some).collect();
        let (above, below) = places.split_at(cut.min(self.num_rows()) * self.seq);
        [self.gather(above, self.seq), self.gather(below, self.seq)]
    }

    fn gather(&self, origins: &[Option<usize>], seq: usize) -> Batch {
        let pick =
            |array: &Vec<f32>| origins.iter().map(|origin| origin.map_or(f32::NAN, |index| array[index])).collect();
        Batch {
            seq,
            arrays: self.arrays.each_ref().map(pick),
            mask: origins.iter().map(|origin| origin.is_some_and(|index| self.mask[index])).collect(),
        }
    }
}

/// Batches of tokens drawn by `token`; at least the first is a response token.
pub fn batches_of<S>(token: S) -> impl Strategy<Value = Batch>
where
    S: Strategy<Value = (f32, f32, f32)> + Clone,
{
    (1..5_usize, 1..6_usize).prop_flat_map(move |(rows, seq)| {
        prop::collection::vec((token.clone(), any::<bool>()), rows * seq).prop_map(move |tokens| {
            let mut mask: Vec<bool> = tokens.iter().map(|token| token.1).collect();
            mask[0] = true;
            let arrays = [
                tokens.iter().map(|token| token.0.0).collect(),
                tokens.iter().map(|token| token.0.1).collect(),
                tokens.iter().map(|token| token.0.2).collect(),
            ];
            Batch { seq, arrays, mask }
        })
    })
}

/// Likely log-probabilities in the first two arrays, advantages or rewards in the third.
pub fn batches() -> impl Strategy<Value = Batch> {
    batches_of((-3.0..0.0_f32, -3.0..0.0_f32, -1.5..1.5_f32))
}

/// Arrays of any finite numbers.
pub fn extreme_batches() -> impl Strategy<Value = Batch> {
    batches_of((any_finite(), any_finite(), any_finite()))
}

/// Any finite `f32`; half of them where exponentials end (17 in `f32` digits, 20 as clamp, 88 and 104 in `f32`, 709 and
/// 745 in `f64`) or where two of them meet, since numbers drawn from all of `f32` hardly ever do either.
pub fn any_finite() -> impl Strategy<Value = f32> + Clone {
    const LANDMARKS: [f32; 16] =
        [0.0, 1e-45, 1e-30, 1e-7, 0.1, 1.0, 19.9, 20.1, 87.0, 89.0, 104.0, 700.0, 710.0, 750.0, 1e4, f32::MAX];
    let landmark = (prop::sample::select(LANDMARKS.to_vec()), any::<bool>())
        .prop_map(|(value, negative)| if negative { -value } else { value });
    let any = {
        use prop::num::f32::{NEGATIVE, NORMAL, POSITIVE, SUBNORMAL, ZERO};
        POSITIVE | NEGATIVE | NORMAL | SUBNORMAL | ZERO
    };
    prop_oneof![landmark, any]
}

pub fn junk() -> impl Strategy<Value = f32> {
    prop::sample::select(vec![f32::NAN, f32::INFINITY, -7.5, 1e30])
}

pub fn padding() -> impl Strategy<Value = Padding> {
    (0..3_usize, 0..3_usize, 0..2_usize).prop_map(|(left, right, rows)| Padding { left, right, rows })
}
