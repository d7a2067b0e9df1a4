//! Integer matrices, their rank and determinant, exactly.

use std::fmt;

/// Most rows or columns.
pub const MAX_SIZE: usize = 6;
/// Largest magnitude of an entry with which elimination stays within 128 bits at [`MAX_SIZE`], by far.
pub const MAX_ENTRY: i64 = 10_000;

/// A matrix of integers, `[rows, columns]`, row-major.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matrix {
    columns: usize,
    entries: Vec<i64>,
}

impl Matrix {
    /// The matrix whose entry in row `i` and column `j`, counted from 0, is `entry(i, j)`.
    pub fn from_fn(rows: usize, columns: usize, entry: impl Fn(usize, usize) -> i64) -> Self {
        let entries = (0..rows).flat_map(|i| (0..columns).map(move |j| (i, j))).map(|(i, j)| entry(i, j)).collect();
        Matrix { columns, entries }
    }

    /// Number of rows.
    pub fn num_rows(&self) -> usize {
        self.entries.len().checked_div(self.columns).unwrap_or(0)
    }

    /// Number of columns.
    pub fn num_columns(&self) -> usize {
        self.columns
    }

    /// The rows from the top.
    pub fn rows(&self) -> impl Iterator<Item = &[i64]> {
        self.entries.chunks(self.columns.max(1))
    }

    /// `self` times `other`; columns of `self` without a row of `other` count nothing.
    pub fn times(&self, other: &Matrix) -> Matrix {
        let right: Vec<&[i64]> = other.rows().collect();
        let left: Vec<&[i64]> = self.rows().collect();
        Matrix::from_fn(self.num_rows(), other.columns, |i, j| {
            left[i].iter().zip(&right).map(|(a, row)| a * row[j]).sum()
        })
    }

    /// Number of independent rows.
    pub fn rank(&self) -> usize {
        self.eliminate().0
    }

    /// The determinant; `None` unless the matrix is square.
    pub fn determinant(&self) -> Option<i128> {
        (self.num_rows() == self.columns).then(|| self.eliminate().1)
    }

    /// Elimination without fractions: each new entry is a minor of the matrix, so every division leaves no remainder.
    /// Returns the rank and the last pivot with the sign of the row exchanges, zero if the rank is not full.
    ///
    /// Bareiss 1968, "Sylvester's identity and multistep integer-preserving Gaussian elimination".
    fn eliminate(&self) -> (usize, i128) {
        let mut rows: Vec<Vec<i128>> =
            self.rows().map(|row| row.iter().map(|&entry| i128::from(entry)).collect()).collect();
        let (mut rank, mut pivot, mut sign) = (0, 1_i128, 1);
        for column in 0..self.columns {
            let Some(found) = (rank..rows.len()).find(|&row| rows[row][column] != 0) else { continue };
            if found != rank {
                rows.swap(found, rank);
                sign = -sign;
            }
            let (above, below) = rows.split_at_mut(rank + 1);
            let top = &above[rank];
            for row in below {
                let factor = row[column];
                for (entry, &upper) in row.iter_mut().zip(top) {
                    *entry = (*entry * top[column] - factor * upper) / pivot;
                }
            }
            pivot = top[column];
            rank += 1;
        }
        let full = rank == rows.len() && rank == self.columns;
        (rank, if full { sign * pivot } else { 0 })
    }
}

/// Rows in brackets, such as `[[1, 2], [3, 4]]`.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (number, row) in self.rows().enumerate() {
            write!(f, "{}{row:?}", if number == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}
