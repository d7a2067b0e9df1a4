//! AdamW whose state is plain tensors, so that a checkpoint can hold it and a resumed run continues to the bit.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{Error, Result};

/// Hyperparameters of AdamW that do not change during a run; the learning rate is an argument of each step.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay; applied to matrices only, never to norms and biases.
    pub weight_decay: f64,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0 }
    }
}

/// AdamW of Loshchilov and Hutter 2019, algorithm 2 (<https://arxiv.org/abs/1711.05101>), with PyTorch's order of operations.
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<(String, Tensor)>,
    exp_avg: Vec<Tensor>,
    exp_avg_sq: Vec<Tensor>,
    num_steps: u64,
}

impl AdamW {
    /// Optimizer over named leaf tensors; moments start at zero in the parameter's own kind.
    pub fn new(parameters: Vec<(String, Tensor)>, config: AdamWConfig) -> Self {
        let zeros = |(_, parameter): &(String, Tensor)| parameter.zeros_like().set_requires_grad(false);
        let exp_avg = parameters.iter().map(zeros).collect();
        let exp_avg_sq = parameters.iter().map(zeros).collect();
        AdamW { config, parameters, exp_avg, exp_avg_sq, num_steps: 0 }
    }

    /// The parameters, in the order given.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// Updates made so far.
    pub fn num_steps(&self) -> u64 {
        self.num_steps
    }

    /// One update from the accumulated gradients; parameters without gradient stay as they are.
    ///
    /// # Errors
    /// [`Error::Torch`] if libtorch refuses an operation.
    pub fn step(&mut self, learning_rate: f64) -> Result<()> {
        let AdamWConfig { beta1, beta2, eps, weight_decay } = self.config;
        self.num_steps += 1;
        let bias1 = 1.0 - beta1.powi(self.num_steps as i32);
        let root_bias2 = (1.0 - beta2.powi(self.num_steps as i32)).sqrt();
        tch::no_grad(|| {
            for (index, (_, parameter)) in self.parameters.iter().enumerate() {
                let grad = parameter.grad();
                if !grad.defined() {
                    continue;
                }
                let mut parameter = parameter.shallow_clone();
                let (exp_avg, exp_avg_sq) = (&mut self.exp_avg[index], &mut self.exp_avg_sq[index]);
                if weight_decay != 0.0 && parameter.dim() >= 2 {
                    let _ = parameter.f_mul_scalar_(1.0 - learning_rate * weight_decay)?;
                }
                let _ = exp_avg.f_lerp_(&grad, 1.0 - beta1)?;
                let _ = exp_avg_sq.f_mul_scalar_(beta2)?.f_add_(&grad.f_square()?.f_mul_scalar_(1.0 - beta2)?)?;
                let denominator = exp_avg_sq.f_sqrt()?.f_div_scalar_(root_bias2)?.f_add_scalar_(eps)?;
                let update = exp_avg.f_div(&denominator)?.f_mul_scalar_(-learning_rate / bias1)?;
                let _ = parameter.f_add_(&update)?;
            }
            Ok(())
        })
    }

    /// Clears the gradients of all parameters.
    pub fn zero_grad(&self) {
        crate::zero_grad(&self.parameters);
    }

    /// The moments by name: `NAME.exp_avg` and `NAME.exp_avg_sq`, shallow copies.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let named = |moments: &[Tensor], suffix: &str| -> Vec<(String, Tensor)> {
            let pairs = self.parameters.iter().zip(moments);
            pairs.map(|((name, _), moment)| (format!("{name}.{suffix}"), moment.shallow_clone())).collect()
        };
        let mut state = named(&self.exp_avg, "exp_avg");
        state.extend(named(&self.exp_avg_sq, "exp_avg_sq"));
        state
    }

    /// Restores what [`AdamW::state`] and [`AdamW::num_steps`] returned.
    ///
    /// # Errors
    /// [`Error::OptimizerState`] when a moment is missing, is one too many or has another shape.
    pub fn restore(&mut self, state: &std::collections::BTreeMap<String, Tensor>, num_steps: u64) -> Result<()> {
        if state.len() != 2 * self.parameters.len() {
            let (found, needed) = (state.len(), 2 * self.parameters.len());
            return Err(Error::OptimizerState(format!("{found} tensors found, {needed} needed")));
        }
        tch::no_grad(|| {
            for (index, (name, _)) in self.parameters.iter().enumerate() {
                for (moment, suffix) in
                    [(&mut self.exp_avg[index], "exp_avg"), (&mut self.exp_avg_sq[index], "exp_avg_sq")]
                {
                    let key = format!("{name}.{suffix}");
                    let saved = state.get(&key).ok_or_else(|| Error::OptimizerState(format!("`{key}` is missing")))?;
                    if saved.size() != moment.size() {
                        let text = format!("`{key}` is {:?} but the parameter is {:?}", saved.size(), moment.size());
                        return Err(Error::OptimizerState(text));
                    }
                    moment.f_copy_(&saved.to_kind(Kind::Float))?;
                }
            }
            Ok(())
        })?;
        self.num_steps = num_steps;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    const TOLERANCE: f32 = 1e-6;

    fn quadratic(parameter: &Tensor) {
        parameter.square().sum(Kind::Float).backward();
    }

    /// Expected values: torch 2.11, `torch.optim.AdamW([w], lr=0.1, betas=(0.9, 0.98), eps=1e-7, weight_decay=0.01)` on
    /// `w = [[1., -2.]]`, three steps of `(w**2).sum()`.
    #[test]
    fn three_steps_equal_those_of_pytorch() {
        let weight = Tensor::from_slice(&[1.0_f32, -2.0]).view([1, 2]).set_requires_grad(true);
        let config = AdamWConfig { beta1: 0.9, beta2: 0.98, eps: 1e-7, weight_decay: 0.01 };
        let mut optimizer = AdamW::new(vec![("w".into(), weight.shallow_clone())], config);
        for _ in 0..3 {
            optimizer.zero_grad();
            quadratic(&weight);
            optimizer.step(0.1).unwrap();
        }
        let values = Vec::<f32>::try_from(weight.view([-1])).unwrap();
        let expected = [0.698_72_f32, -1.694_851_3];
        approx::assert_abs_diff_eq!(values[..], expected[..], epsilon = TOLERANCE);
    }

    #[test]
    fn a_restored_optimizer_continues_to_the_bit() {
        let start = Tensor::from_slice(&[0.3_f32, -0.7, 2.0]);
        let run = |restore_at: Option<usize>| {
            let weight = start.copy().set_requires_grad(true);
            let mut optimizer = AdamW::new(vec![("w".into(), weight.shallow_clone())], AdamWConfig::default());
            for step in 0..6 {
                if restore_at == Some(step) {
                    let state = optimizer.state().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
                    let num_steps = optimizer.num_steps();
                    optimizer = AdamW::new(vec![("w".into(), weight.shallow_clone())], AdamWConfig::default());
                    optimizer.restore(&state, num_steps).unwrap();
                }
                optimizer.zero_grad();
                quadratic(&weight);
                optimizer.step(0.05).unwrap();
            }
            Vec::<f32>::try_from(weight).unwrap()
        };
        assert_eq!(run(None), run(Some(3)));
    }

    #[test]
    fn state_that_does_not_fit_is_refused() {
        let weight = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut optimizer = AdamW::new(vec![("w".into(), weight)], AdamWConfig::default());
        assert!(optimizer.restore(&Default::default(), 1).unwrap_err().to_string().contains("2 needed"));
    }
}
