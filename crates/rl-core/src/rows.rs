//! How a flat per-token array is cut into sequences: padded to one width, or packed end to end.

use std::ops::Range;

use crate::error::{Error, Result, ensure, finite, finite_f32, same_length};

/// The rows of a flat per-token array. Functions take `impl Into<Rows>`, so a plain `seq` works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows<'a> {
    /// `[batch, seq]`, row-major, every row `seq` long.
    Padded(usize),
    /// Rows of these lengths, one after the other, without padding.
    Packed(&'a [usize]),
}

impl From<usize> for Rows<'_> {
    fn from(seq: usize) -> Self {
        Rows::Padded(seq)
    }
}

impl<'a> From<&'a [usize]> for Rows<'a> {
    fn from(lengths: &'a [usize]) -> Self {
        Rows::Packed(lengths)
    }
}

impl<'a> From<&'a Vec<usize>> for Rows<'a> {
    fn from(lengths: &'a Vec<usize>) -> Self {
        Rows::Packed(lengths)
    }
}

impl Rows<'_> {
    /// Index range of every row of an array of `length` tokens.
    ///
    /// # Errors
    /// `length` is not a multiple of the row width, or not the sum of the packed lengths.
    pub fn ranges(self, length: usize) -> Result<Vec<Range<usize>>> {
        match self {
            Rows::Padded(seq) => {
                ensure(seq > 0, "seq", seq as f64, "must be positive")?;
                if !length.is_multiple_of(seq) {
                    return Err(Error::NotAMultiple { name: "tokens", length, divisor_name: "seq", divisor: seq });
                }
                Ok((0..length / seq).map(|row| row * seq..(row + 1) * seq).collect())
            }
            Rows::Packed(lengths) => {
                same_length("tokens", length, "sum of row lengths", lengths.iter().sum())?;
                let mut start = 0;
                Ok(lengths
                    .iter()
                    .map(|&length| {
                        start += length;
                        start - length..start
                    })
                    .collect())
            }
        }
    }
}

/// Copies one number per row to each of its response tokens; 0 where `response_mask` is false.
///
/// `per_row` is `[batch]` and is read only for rows that have a response token; the result is `[batch, seq]`.
///
/// # Errors
/// Lengths differ, or a number that is read is not finite.
pub fn broadcast_rows<'a>(per_row: &[f64], response_mask: &[bool], rows: impl Into<Rows<'a>>) -> Result<Vec<f32>> {
    let ranges = rows.into().ranges(response_mask.len())?;
    same_length("per_row", per_row.len(), "rows", ranges.len())?;
    let mut tokens = vec![0.0; response_mask.len()];
    for (row, range) in ranges.into_iter().enumerate() {
        for index in range.filter(|&index| response_mask[index]) {
            tokens[index] = finite_f32("per_row", row, finite("per_row", row, per_row[row])?)?;
        }
    }
    Ok(tokens)
}
