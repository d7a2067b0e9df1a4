//! Tests of the public interface against closed forms and published tables.

mod angles;
mod compare;
mod fresh_init;
mod nulls;

use rl_core::random::RandomKey;
use tch::{Kind, Tensor};

/// Standard normal entries, `[rows, columns]`, f64.
fn gaussian(rows: usize, columns: usize, purpose: &str) -> Tensor {
    rl_analysis::nulls::gaussian(rows, columns, RandomKey::new(11, purpose)).unwrap()
}

/// Orthonormal columns, `[rows, columns]`.
fn orthonormal(rows: usize, columns: usize, purpose: &str) -> Tensor {
    Tensor::linalg_qr(&gaussian(rows, columns, purpose), "reduced").0
}

fn f32_of(tensor: &Tensor) -> Tensor {
    tensor.to_kind(Kind::Float)
}
