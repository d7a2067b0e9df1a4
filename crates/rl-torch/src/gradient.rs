//! Norms of accumulated gradients, and clipping on the true global norm.

use tch::{Kind, Tensor};

use crate::{Error, Result};

/// Global L2 norm of the gradients of `parameters`, accumulated in f64; a parameter without gradient counts as 0.
///
/// # Errors
/// [`Error::NonFiniteGradient`] names the first parameter whose gradient holds NaN or infinity.
pub fn grad_norm(parameters: &[(String, Tensor)]) -> Result<f64> {
    let mut names = Vec::new();
    let mut norms = Vec::new();
    for (name, parameter) in parameters {
        let grad = parameter.grad();
        if grad.defined() {
            names.push(name);
            norms.push(grad.norm().to_kind(Kind::Double));
        }
    }
    if norms.is_empty() {
        return Ok(0.0);
    }
    // One transfer for all norms.
    let norms = Vec::<f64>::try_from(Tensor::f_stack(&norms, 0)?)?;
    if let Some(index) = norms.iter().position(|norm| !norm.is_finite()) {
        return Err(Error::NonFiniteGradient { tensor: names[index].clone() });
    }
    Ok(norms.iter().map(|norm| norm * norm).sum::<f64>().sqrt())
}

/// Scales the gradients so that their global norm is at most `max_norm`; returns the norm before scaling.
///
/// The scale is `min(1, max_norm / (norm + 1e-6))`, as in `torch.nn.utils.clip_grad_norm_`.
///
/// # Errors
/// As [`grad_norm`].
pub fn clip_grad_norm(parameters: &[(String, Tensor)], max_norm: f64) -> Result<f64> {
    let norm = grad_norm(parameters)?;
    let scale = max_norm / (norm + 1e-6);
    if scale < 1.0 {
        for (_, parameter) in parameters {
            let mut grad = parameter.grad();
            if grad.defined() {
                let _ = grad.f_mul_scalar_(scale)?;
            }
        }
    }
    Ok(norm)
}

/// Sets every gradient to zero in place; buffers are kept.
pub fn zero_grad(parameters: &[(String, Tensor)]) {
    for (_, parameter) in parameters {
        let mut grad = parameter.grad();
        if grad.defined() {
            let _ = grad.zero_();
        }
    }
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
        zero_grad(&parameters);
        assert_eq!(grad_norm(&parameters).unwrap(), 0.0);
    }

    #[test]
    fn a_nan_gradient_is_named() {
        let parameters = [parameter(&[1.0]), ("bad".to_string(), parameter(&[f32::NAN]).1)];
        assert!(matches!(grad_norm(&parameters), Err(Error::NonFiniteGradient { tensor }) if tensor == "bad"));
    }
}
