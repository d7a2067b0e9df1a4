//! What is asked, and making a matrix for it as a pure function of (seed, index).

use rl_core::random::RandomKey;
use serde::{Deserialize, Serialize};

use super::matrix::{MAX_SIZE, Matrix};
use crate::error::{Error, Result, ensure};

/// Largest factor or entry that can be asked for.
const MAX_NUMBER: i64 = 40;
/// Draws before giving up; a draw fails with a chance of at most two thirds (2x2 with entries of -1, 0 and 1).
const MAX_DRAWS: u64 = 1000;

/// What is asked of a matrix, and how it is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum MatrixTask {
    /// The rank, uniform from 0 to the smaller side: the matrix is a product of two factors of that rank.
    Rank {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
        /// Entries of both factors are uniform from minus this to this.
        max_factor: i64,
    },
    /// The determinant, which is not zero.
    Determinant {
        /// Rows and columns.
        size: usize,
        /// Entries are uniform from minus this to this.
        max_entry: i64,
        /// Takes the average with the transposed matrix, rounded away from zero.
        symmetric: bool,
    },
}

/// A matrix and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The matrix.
    pub matrix: Matrix,
    /// The right answer.
    pub answer: i64,
}

impl MatrixTask {
    /// What the task asks for, as its prompt calls it.
    pub fn label(self) -> &'static str {
        match self {
            MatrixTask::Rank { .. } => "rank",
            MatrixTask::Determinant { .. } => "determinant",
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// [`Error::Config`] naming the key, its value and its limit.
    pub fn validate(self) -> Result<()> {
        let side =
            |key, value: usize| ensure((1..=MAX_SIZE).contains(&value), key, value, format!("must be 1 to {MAX_SIZE}"));
        let number = |key, value: i64| {
            ensure((1..=MAX_NUMBER).contains(&value), key, value, format!("must be 1 to {MAX_NUMBER}"))
        };
        match self {
            MatrixTask::Rank { rows, columns, max_factor } => {
                side("task.rows", rows)?;
                side("task.columns", columns)?;
                number("task.max_factor", max_factor)
            }
            MatrixTask::Determinant { size, max_entry, .. } => {
                side("task.size", size)?;
                number("task.max_entry", max_entry)
            }
        }
    }

    /// The problem of episode (`seed`, `index`).
    ///
    /// # Errors
    /// [`Error::NoProblem`] when none comes up, which a valid task practically excludes.
    pub fn problem(self, seed: u64, index: u64) -> Result<Problem> {
        let key = RandomKey::new(seed, "matrix_tasks").at(index);
        let none = Error::NoProblem { seed, index, draws: MAX_DRAWS };
        match self {
            MatrixTask::Rank { rows, columns, max_factor } => {
                let rank = key.below(0, rows.min(columns) as u64 + 1) as usize;
                let full = |key: RandomKey, rows: usize, columns: usize| {
                    let draw = |number| uniform(key.at(number), rows, columns, max_factor);
                    (0..MAX_DRAWS).map(draw).find(|factor| factor.rank() == rank)
                };
                // Factors of full rank, so that the product has that rank.
                let factors = full(key.at(1), rows, rank).zip(full(key.at(2), rank, columns));
                let matrix = match factors {
                    // A matrix without columns or without rows forgets its other side.
                    _ if rank == 0 => Matrix::from_fn(rows, columns, |_, _| 0),
                    Some((left, right)) => left.times(&right),
                    None => return Err(none),
                };
                Ok(Problem { matrix, answer: rank as i64 })
            }
            MatrixTask::Determinant { size, max_entry, symmetric } => {
                let drawn = (0..MAX_DRAWS).find_map(|number| {
                    let matrix = uniform(key.at(number), size, size, max_entry);
                    let matrix = if symmetric { average(&matrix) } else { matrix };
                    let answer = i64::try_from(matrix.determinant()?).ok()?;
                    (answer != 0).then_some(Problem { matrix, answer })
                });
                drawn.ok_or(none)
            }
        }
    }
}

fn uniform(key: RandomKey, rows: usize, columns: usize, limit: i64) -> Matrix {
    let position = |i: usize, j: usize| (i * MAX_SIZE + j) as u64;
    Matrix::from_fn(rows, columns, |i, j| key.below(position(i, j), 2 * limit.unsigned_abs() + 1) as i64 - limit)
}

/// The average of a square matrix and its transpose, halves rounded away from zero.
fn average(matrix: &Matrix) -> Matrix {
    let rows: Vec<&[i64]> = matrix.rows().collect();
    Matrix::from_fn(rows.len(), matrix.num_columns(), |i, j| {
        let sum = rows[i][j] + rows[j][i];
        (sum + sum.signum()) / 2
    })
}
