//! Norms of accumulated gradients, and clipping on the true global norm.

use tch::{Kind, Tensor};

use crate::foreach::{self, Accumulate};
use crate::{Error, Result};

/// Global L2 norm of the gradients of `parameters`, of any shapes on one device, with [`Accumulate::F32`]; a parameter
/// without gradient counts as 0. One device synchronisation.
///
/// # Errors
/// [`Error::NonFiniteGradient`] names the first parameter whose gradient holds NaN or infinity.
pub fn grad_norm(parameters: &[(String, Tensor)]) -> Result<f64> {
    let (names, grads) = gradients(parameters);
    global_norm(&names, &grads)
}

/// Scales the gradients so that their global norm is at most `max_norm`; returns the norm before scaling.
///
/// The scale is `min(1, max_norm / (norm + 1e-6))`, as in `torch.nn.utils.clip_grad_norm_`.
///
/// # Errors
/// As [`grad_norm`].
pub fn clip_grad_norm(parameters: &[(String, Tensor)], max_norm: f64) -> Result<f64> {
    let (names, grads) = gradients(parameters);
    let norm = global_norm(&names, &grads)?;
    let scale = max_norm / (norm + 1e-6);
    if scale < 1.0 {
        foreach::scale(&grads, scale)?;
    }
    Ok(norm)
}

/// Sets every gradient to zero in place; buffers are kept.
///
/// # Errors
/// [`Error::Shim`] if libtorch refuses, as after a device failed.
pub fn zero_grad(parameters: &[(String, Tensor)]) -> Result<()> {
    foreach::zero(&gradients(parameters).1)
}

/// The gradients that are there, with their parameters' names.
fn gradients(parameters: &[(String, Tensor)]) -> (Vec<&str>, Vec<Tensor>) {
    let all = parameters.iter().map(|(name, parameter)| (name.as_str(), parameter.grad()));
    all.filter(|(_, grad)| grad.defined()).unzip()
}

fn global_norm(names: &[&str], grads: &[Tensor]) -> Result<f64> {
    let mut norms = foreach::norms(grads, Accumulate::F32)?;
    // The squares of large numbers leave the range of f32 before the numbers do: look again in f64 before blaming.
    for ((norm, grad), name) in norms.iter_mut().zip(grads).zip(names) {
        if !norm.is_finite() {
            *norm = foreach::norm(&[grad.f_to_kind(Kind::Double)?], Accumulate::F64)?;
        }
        if !norm.is_finite() {
            return Err(Error::NonFiniteGradient { tensor: name.to_string() });
        }
    }
    Ok(norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    fn parameter(gradient: &[f32]) -> (String, Tensor) {
        let tensor = Tensor::zeros([gradient.len() as i64], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        (&tensor * Tensor::from_slice(gradient)).sum(Kind::Float).backward();
        ("w".into(), tensor)
    }

    #[test]
    fn the_norm_is_global_and_clipping_keeps_the_direction() {
        let parameters = [parameter(&[3.0, 0.0]), parameter(&[0.0, 4.0])];
        assert!((grad_norm(&parameters).unwrap() - 5.0).abs() < 1e-6);
        assert!((clip_grad_norm(&parameters, 1.0).unwrap() - 5.0).abs() < 1e-6);
        let first = Vec::<f32>::try_from(parameters[0].1.grad()).unwrap();
        assert!((first[0] - 0.6).abs() < 1e-5, "{first:?}");
        zero_grad(&parameters).unwrap();
        assert_eq!(grad_norm(&parameters).unwrap(), 0.0);
    }

    #[test]
    fn a_finite_gradient_with_large_squares_has_a_norm() {
        let norm = grad_norm(&[parameter(&[3e30, 4e30])]).unwrap();
        assert!((norm / 5e30 - 1.0).abs() < 1e-6, "{norm}");
    }

    #[test]
    fn a_nan_gradient_is_named() {
        let parameters = [parameter(&[1.0]), ("bad".to_string(), parameter(&[f32::NAN]).1)];
        assert!(matches!(grad_norm(&parameters), Err(Error::NonFiniteGradient { tensor }) if tensor == "bad"));
    }
}
