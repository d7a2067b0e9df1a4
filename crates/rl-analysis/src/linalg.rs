//! Matrices in f64 on the CPU, and their singular value decomposition.
//!
//! Everything here and above works in f64: angles near 0 are lost in single precision, and a device with reduced
//! precision products turns exact zeros into degrees.

use tch::{Device, Kind, Tensor};

use crate::error::{Error, Result};

/// Thin singular value decomposition `W = U diag(S) V^T`, `S` descending, `r = min(out, in)`.
#[derive(Debug)]
pub struct Factors {
    /// Left singular vectors, `[out, r]`.
    pub u: Tensor,
    /// Singular values, `[r]`.
    pub s: Vec<f64>,
    /// Right singular vectors, `[in, r]`.
    pub v: Tensor,
}

impl Factors {
    /// Leading `rank` left vectors, `[out, rank]`.
    ///
    /// # Errors
    /// libtorch refuses a `rank` beyond `r`.
    pub fn left(&self, rank: usize) -> Result<Tensor> {
        Ok(self.u.f_narrow(1, 0, rank as i64)?)
    }

    /// Leading `rank` right vectors, `[in, rank]`.
    ///
    /// # Errors
    /// libtorch refuses a `rank` beyond `r`.
    pub fn right(&self, rank: usize) -> Result<Tensor> {
        Ok(self.v.f_narrow(1, 0, rank as i64)?)
    }
}

/// The weight as a detached f64 matrix `[out, in]` on the CPU.
///
/// # Errors
/// [`Error::Matrix`] if it is not a non-empty two-dimensional floating point tensor of finite values.
pub fn to_matrix(name: &str, weight: &Tensor) -> Result<Tensor> {
    let refuse = |reason: String| Error::Matrix { name: name.to_string(), reason };
    let shape = weight.size();
    if shape.len() != 2 || shape.contains(&0) {
        return Err(refuse(format!("its shape is {shape:?}; a non-empty matrix [out, in] is needed")));
    }
    let kind = weight.f_kind()?;
    if !matches!(kind, Kind::Half | Kind::BFloat16 | Kind::Float | Kind::Double) {
        return Err(refuse(format!("its type is {kind:?}; convert it to a floating point type first")));
    }
    let matrix = weight.f_detach()?.f_to_device(Device::Cpu)?.f_to_kind(Kind::Double)?.f_contiguous()?;
    let not_finite = matrix.f_isfinite()?.f_logical_not()?.f_sum(Kind::Int64)?.f_int64_value(&[])?;
    if not_finite > 0 {
        return Err(refuse(format!("{not_finite} of its values are NaN or infinite")));
    }
    Ok(matrix)
}

/// Thin decomposition of an f64 matrix `[out, in]`.
///
/// # Errors
/// libtorch's, if the decomposition does not converge.
pub fn svd(matrix: &Tensor) -> Result<Factors> {
    let (u, s, v) = matrix.f_svd(true, true)?;
    Ok(Factors { u, s: to_vec(&s)?, v })
}

/// Singular values of an f64 matrix, descending.
///
/// # Errors
/// libtorch's, if the decomposition does not converge.
pub fn singular_values(matrix: &Tensor) -> Result<Vec<f64>> {
    let (_, s, _) = matrix.f_svd(true, false)?;
    to_vec(&s)
}

/// `sum of squares` of all entries.
pub(crate) fn squared_norm(matrix: &Tensor) -> Result<f64> {
    Ok(matrix.f_square()?.f_sum(Kind::Double)?.f_double_value(&[])?)
}

pub(crate) fn to_vec(vector: &Tensor) -> Result<Vec<f64>> {
    Ok(Vec::<f64>::try_from(vector)?)
}

/// Rows and columns of a matrix.
pub(crate) fn size2(matrix: &Tensor) -> Result<(usize, usize)> {
    let (rows, columns) = matrix.size2()?;
    Ok((rows as usize, columns as usize))
}
