//! AdamW, fused over lists of tensors, whose state is plain tensors, so that a checkpoint can hold it and a resumed run
//! continues to the bit. Deliberately absent: learning-rate schedules (the rate is an argument) and clipping
//! (`gradient.rs`).

use std::collections::BTreeMap;
use std::ffi::c_char;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use torch_sys::C_tensor;

use crate::{Error, Result, ffi, foreach};

/// Elements of one piece of a half-precision parameter: bounds the f32 copy of its gradient to 16 MiB.
const PIECE: i64 = 1 << 22;

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

/// AdamW of Loshchilov and Hutter 2019, algorithm 2 (<https://arxiv.org/abs/1711.05101>), by libtorch's fused kernel.
///
/// A parameter in bf16 or f16 gets an f32 master copy and f32 moments: the update is made to the master and the parameter
/// is rounded from it, so that updates smaller than the parameter's precision are not lost. Its gradient is widened in
/// pieces of 4 Mi elements, so the copy never exceeds 16 MiB. Other parameters are updated in their own kind.
/// The bias correction counts the steps of the optimizer, for every parameter alike (PyTorch counts, per parameter, the
/// steps in which it had a gradient).
#[derive(Debug)]
pub struct AdamW {
    config: AdamWConfig,
    parameters: Vec<(String, Tensor)>,
    /// None before the first step: filling them takes longer than reading the weights, and a run starts without them.
    moments: Option<Moments>,
    /// f32 copies of half-precision parameters.
    masters: Vec<Option<Tensor>>,
    num_steps: u64,
}

/// One of each for every parameter, of its shape.
#[derive(Debug)]
struct Moments {
    exp_avg: Vec<Tensor>,
    exp_avg_sq: Vec<Tensor>,
}

impl Moments {
    fn zeros(parameters: &[(String, Tensor)]) -> Result<Self> {
        let zeros = || {
            let zeros = |(_, parameter): &(String, Tensor)| {
                let kind = if is_half(parameter) { Kind::Float } else { parameter.kind() };
                Ok(Tensor::f_zeros(parameter.size(), (kind, parameter.device()))?)
            };
            parameters.iter().map(zeros).collect::<Result<Vec<_>>>()
        };
        Ok(Moments { exp_avg: zeros()?, exp_avg_sq: zeros()? })
    }
}

impl AdamW {
    /// Optimizer over named leaf tensors of any shapes. Moments start at zero, and take memory from the first step on;
    /// masters start at the parameters' present values, so the weights must be in place, and what is written into a
    /// half-precision parameter later is overwritten by the next step.
    pub fn new(parameters: Vec<(String, Tensor)>, config: AdamWConfig) -> Self {
        let master =
            |(_, parameter): &(String, Tensor)| is_half(parameter).then(|| parameter.detach().to_kind(Kind::Float));
        let masters = parameters.iter().map(master).collect();
        AdamW { config, parameters, moments: None, masters, num_steps: 0 }
    }

    /// The parameters, in the order given.
    pub fn parameters(&self) -> &[(String, Tensor)] {
        &self.parameters
    }

    /// The parameters' values as precisely as they are known: the masters of half-precision ones. Shallow copies.
    pub fn precise_values(&self) -> Vec<Tensor> {
        let pairs = self.parameters.iter().zip(&self.masters);
        pairs.map(|((_, parameter), master)| master.as_ref().unwrap_or(parameter).detach()).collect()
    }

    /// Updates made so far.
    pub fn num_steps(&self) -> u64 {
        self.num_steps
    }

    /// One update from the accumulated gradients; parameters without gradient stay as they are.
    ///
    /// # Errors
    /// Before anything is changed: [`Error::NoGradient`] when no parameter has a gradient, [`Error::MixedDevices`],
    /// [`Error::Argument`] for a parameter that is not contiguous, [`Error::Torch`] when the moments find no memory.
    /// [`Error::Shim`] if libtorch refuses the update.
    pub fn step(&mut self, learning_rate: f64) -> Result<()> {
        let device = self.check()?;
        let moments = match &mut self.moments {
            Some(moments) => moments,
            none => none.insert(Moments::zeros(&self.parameters)?),
        };
        let [mut matrices, mut others] = [Update::default(), Update::default()];
        for (index, (_, parameter)) in self.parameters.iter().enumerate() {
            let grad = parameter.grad();
            if !grad.defined() {
                continue;
            }
            let update = if 2 <= parameter.dim() { &mut matrices } else { &mut others };
            let moments = [&moments.exp_avg[index], &moments.exp_avg_sq[index]];
            match &self.masters[index] {
                None => update.push([parameter, &grad.f_contiguous()?, moments[0], moments[1]]),
                Some(master) => {
                    update.half.push([parameter, &grad, master, moments[0], moments[1]].map(Tensor::shallow_clone))
                }
            }
        }

        self.num_steps += 1;
        let step = Tensor::f_full([], self.num_steps as f64, (Kind::Float, device))?;
        let decays = [self.config.weight_decay, 0.0];
        for (update, weight_decay) in [matrices, others].into_iter().zip(decays) {
            let config = AdamWConfig { weight_decay, ..self.config };
            update.apply(&step, learning_rate, &config)?;
            for half in &update.half {
                update_half(half, &step, learning_rate, &config)?;
            }
        }
        Ok(())
    }

    /// The device of the parameters that have a gradient.
    fn check(&self) -> Result<Device> {
        let mut device = None;
        for (name, parameter) in self.parameters.iter().filter(|(_, parameter)| parameter.grad().defined()) {
            check_device(&mut device, name, parameter)?;
            if !parameter.is_contiguous() {
                let (value, reason) = (format!("`{name}`, a strided view"), "make the parameter contiguous".into());
                return Err(Error::Argument { name: "parameters", value, reason });
            }
        }
        let (_, device) = device.ok_or(Error::NoGradient { num_parameters: self.parameters.len() })?;
        Ok(device)
    }

    /// Sets the gradients of all parameters to zero.
    ///
    /// # Errors
    /// [`Error::Shim`] if libtorch refuses, as after a device failed.
    pub fn zero_grad(&self) -> Result<()> {
        crate::zero_grad(&self.parameters)
    }

    /// The moments by name, `NAME.exp_avg` and `NAME.exp_avg_sq`, and for half-precision parameters `NAME.master`:
    /// shallow copies, each of its parameter's shape. Before the first step the moments are zeros made for this call.
    ///
    /// # Errors
    /// [`Error::Torch`] when such zeros find no memory.
    pub fn state(&self) -> Result<Vec<(String, Tensor)>> {
        let fresh;
        let moments = match &self.moments {
            Some(moments) => moments,
            None => {
                fresh = Moments::zeros(&self.parameters)?;
                &fresh
            }
        };
        let named = |tensors: &[Tensor], suffix: &str| -> Vec<(String, Tensor)> {
            let pairs = self.parameters.iter().zip(tensors);
            pairs.map(|((name, _), tensor)| (format!("{name}.{suffix}"), tensor.shallow_clone())).collect()
        };
        let mut state = named(&moments.exp_avg, "exp_avg");
        state.extend(named(&moments.exp_avg_sq, "exp_avg_sq"));
        for ((name, _), master) in self.parameters.iter().zip(&self.masters) {
            state.extend(master.iter().map(|master| (format!("{name}.master"), master.shallow_clone())));
        }
        Ok(state)
    }

    /// Restores what [`AdamW::state`] and [`AdamW::num_steps`] returned, and sets half-precision parameters to their
    /// masters, rounded.
    ///
    /// # Errors
    /// [`Error::OptimizerState`] when a tensor is missing, is one too many or has another shape; nothing is changed then.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>, num_steps: u64) -> Result<()> {
        if self.moments.is_none() {
            self.moments = Some(Moments::zeros(&self.parameters)?);
        }
        let own = self.state()?;
        if state.len() != own.len() {
            return Err(Error::OptimizerState(format!("{} tensors found, {} needed", state.len(), own.len())));
        }
        let mut saved = Vec::with_capacity(own.len());
        for (key, tensor) in &own {
            let found = state.get(key).ok_or_else(|| Error::OptimizerState(format!("`{key}` is missing")))?;
            if found.size() != tensor.size() {
                let text = format!("`{key}` is {:?} but the parameter is {:?}", found.size(), tensor.size());
                return Err(Error::OptimizerState(text));
            }
            saved.push(found.shallow_clone());
        }
        let targets: Vec<Tensor> = own.into_iter().map(|(_, tensor)| tensor).collect();
        foreach::copy(&targets, &saved)?;
        for ((_, parameter), master) in self.parameters.iter().zip(&self.masters) {
            if let Some(master) = master {
                foreach::copy(&[parameter.shallow_clone()], &[master.shallow_clone()])?;
            }
        }
        self.num_steps = num_steps;
        Ok(())
    }
}

/// Tensors that are updated with one set of hyperparameters.
#[derive(Default)]
struct Update {
    parameters: Vec<Tensor>,
    grads: Vec<Tensor>,
    exp_avg: Vec<Tensor>,
    exp_avg_sq: Vec<Tensor>,
    /// Parameter, gradient, master and both moments of half-precision parameters.
    half: Vec<[Tensor; 5]>,
}

impl Update {
    fn push(&mut self, [parameter, grad, exp_avg, exp_avg_sq]: [&Tensor; 4]) {
        self.parameters.push(parameter.shallow_clone());
        self.grads.push(grad.shallow_clone());
        self.exp_avg.push(exp_avg.shallow_clone());
        self.exp_avg_sq.push(exp_avg_sq.shallow_clone());
    }

    fn apply(&self, step: &Tensor, learning_rate: f64, config: &AdamWConfig) -> Result<()> {
        if self.parameters.is_empty() {
            return Ok(());
        }
        let lists = [&self.parameters, &self.grads, &self.exp_avg, &self.exp_avg_sq].map(ffi::pointers);
        // SAFETY: four lists of as many live tensors as the call is told; parameter, gradient and moments are of one
        // shape and kind, contiguous, on the device of `step`, as `AdamW::step` saw to.
        ffi::check(unsafe {
            reins_fused_adamw(
                lists[0].as_ptr(),
                lists[1].as_ptr(),
                lists[2].as_ptr(),
                lists[3].as_ptr(),
                self.parameters.len() as i64,
                step.as_ptr(),
                learning_rate,
                config.beta1,
                config.beta2,
                config.weight_decay,
                config.eps,
            )
        })
    }
}

/// Updates a master piece by piece, and rounds the parameter from it.
fn update_half(
    [parameter, grad, master, exp_avg, exp_avg_sq]: &[Tensor; 5],
    step: &Tensor,
    learning_rate: f64,
    config: &AdamWConfig,
) -> Result<()> {
    let flat = [grad.f_contiguous()?, master.shallow_clone(), exp_avg.shallow_clone(), exp_avg_sq.shallow_clone()];
    let numel = master.numel() as i64;
    let mut start = 0;
    while start < numel {
        let length = PIECE.min(numel - start);
        let piece = |tensor: &Tensor| tensor.f_view([-1])?.f_narrow(0, start, length);
        let mut update = Update::default();
        let grad = piece(&flat[0])?.f_to_kind(Kind::Float)?;
        update.push([&piece(&flat[1])?, &grad, &piece(&flat[2])?, &piece(&flat[3])?]);
        update.apply(step, learning_rate, config)?;
        start += length;
    }
    foreach::copy(&[parameter.shallow_clone()], &[master.shallow_clone()])
}

fn is_half(tensor: &Tensor) -> bool {
    matches!(tensor.kind(), Kind::BFloat16 | Kind::Half)
}

/// Remembers the first device and refuses others.
fn check_device<'a>(first: &mut Option<(&'a str, Device)>, name: &'a str, parameter: &Tensor) -> Result<()> {
    let device = parameter.device();
    let &mut (first_name, first_device) = first.get_or_insert((name, device));
    if device == first_device {
        return Ok(());
    }
    let name_on = |name: &str, device: Device| format!("`{name}` on {device:?}");
    Err(Error::MixedDevices { first: name_on(first_name, first_device), second: name_on(name, device) })
}

unsafe extern "C" {
    fn reins_fused_adamw(
        parameters: *const *mut C_tensor,
        grads: *const *mut C_tensor,
        exp_avgs: *const *mut C_tensor,
        exp_avg_sqs: *const *mut C_tensor,
        count: i64,
        step: *const C_tensor,
        learning_rate: f64,
        beta1: f64,
        beta2: f64,
        weight_decay: f64,
        eps: f64,
    ) -> *mut c_char;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::tests::numbers;

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
            optimizer.zero_grad().unwrap();
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
                    let state =
                        optimizer.state().unwrap().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect();
                    let num_steps = optimizer.num_steps();
                    optimizer = AdamW::new(vec![("w".into(), weight.shallow_clone())], AdamWConfig::default());
                    optimizer.restore(&state, num_steps).unwrap();
                }
                optimizer.zero_grad().unwrap();
                quadratic(&weight);
                optimizer.step(0.05).unwrap();
            }
            Vec::<f32>::try_from(weight).unwrap()
        };
        assert_eq!(run(None), run(Some(3)));
    }

    #[test]
    fn before_the_first_step_the_moments_are_zeros() {
        let weight = Tensor::ones([2, 3], HALF).set_requires_grad(true);
        let optimizer = AdamW::new(vec![("w".into(), weight)], CONFIG);
        let state = state_of(&optimizer);
        let zeros = Tensor::zeros([2, 3], (Kind::Float, Device::Cpu));
        assert_eq!((&state["w.exp_avg"], &state["w.exp_avg_sq"]), (&zeros, &zeros));
        let weight = Tensor::ones([2, 3], HALF).set_requires_grad(true);
        let mut restored = AdamW::new(vec![("w".into(), weight)], CONFIG);
        restored.restore(&state, 0).unwrap();
        assert_eq!(state_of(&restored), state);
    }

    #[test]
    fn state_that_does_not_fit_is_refused() {
        let weight = Tensor::zeros([2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut optimizer = AdamW::new(vec![("w".into(), weight)], AdamWConfig::default());
        assert!(optimizer.restore(&Default::default(), 1).unwrap_err().to_string().contains("2 needed"));
    }

    /// The update of algorithm 2 in plain tensor operations, in f64.
    struct Plain {
        weight: Tensor,
        exp_avg: Tensor,
        exp_avg_sq: Tensor,
    }

    impl Plain {
        fn new(weight: &Tensor) -> Self {
            let weight = weight.detach().to_kind(Kind::Double);
            Plain { exp_avg: weight.zeros_like(), exp_avg_sq: weight.zeros_like(), weight }
        }

        fn step(&mut self, grad: &Tensor, rate: f64, step: i32, config: &AdamWConfig) {
            let grad = grad.to_kind(Kind::Double);
            let decay = if 2 <= grad.dim() { config.weight_decay } else { 0.0 };
            self.weight = &self.weight * (1.0 - rate * decay);
            self.exp_avg = &self.exp_avg * config.beta1 + &grad * (1.0 - config.beta1);
            self.exp_avg_sq = &self.exp_avg_sq * config.beta2 + grad.square() * (1.0 - config.beta2);
            let first = &self.exp_avg / (1.0 - config.beta1.powi(step));
            let second = &self.exp_avg_sq / (1.0 - config.beta2.powi(step));
            self.weight = &self.weight - first / (second.sqrt() + config.eps) * rate;
        }
    }

    const CONFIG: AdamWConfig = AdamWConfig { beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1 };

    fn set_grad(parameter: &Tensor, grad: &Tensor) {
        parameter.shallow_clone().zero_grad();
        (parameter * grad.to_kind(parameter.kind())).sum(Kind::Float).backward();
    }

    fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
        (a.detach().to_kind(Kind::Double) - b).abs().max().double_value(&[])
    }

    #[test]
    fn random_tensors_move_as_by_plain_operations() {
        let leaves: Vec<Tensor> = [vec![33, 65], vec![129], vec![2, 3, 4], vec![1, 1]]
            .into_iter()
            .map(|size| numbers(&size, size[0] as u64, 2.0).set_requires_grad(true))
            .collect();
        let untouched = numbers(&[5], 5, 2.0).set_requires_grad(true);
        let before = untouched.detach().copy();
        let mut named: Vec<(String, Tensor)> =
            leaves.iter().enumerate().map(|(index, leaf)| (format!("w{index}"), leaf.shallow_clone())).collect();
        named.insert(1, ("untouched".into(), untouched.shallow_clone()));
        let mut optimizer = AdamW::new(named, CONFIG);
        let mut plain: Vec<Plain> = leaves.iter().map(Plain::new).collect();
        for step in 1..=5 {
            for (leaf, plain) in leaves.iter().zip(&mut plain) {
                let grad = numbers(&leaf.size(), 100 * step as u64 + leaf.numel() as u64, 2.0);
                set_grad(leaf, &grad);
                plain.step(&grad, 0.03, step, &CONFIG);
            }
            optimizer.step(0.03).unwrap();
        }
        for (leaf, plain) in leaves.iter().zip(&plain) {
            assert!(largest_difference(leaf, &plain.weight) < f64::from(TOLERANCE) * 3.0);
        }
        assert_eq!(untouched.detach(), before);
        assert_eq!(optimizer.num_steps(), 5);
    }

    /// 60 roundings of an f32 near 2; a bf16 near 2 is good to 4e-3.
    const MASTER_TOLERANCE: f64 = 1e-5;
    const HALF: (Kind, Device) = (Kind::BFloat16, Device::Cpu);

    fn state_of(optimizer: &AdamW) -> BTreeMap<String, Tensor> {
        optimizer.state().unwrap().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
    }

    /// A step of 1e-4 is below the precision of bf16 near 1: only the master sees it. More than one piece.
    #[test]
    fn a_long_half_precision_parameter_is_updated_in_pieces() {
        let weight = Tensor::ones([PIECE + 7], HALF).set_requires_grad(true);
        let mut optimizer = AdamW::new(vec![("w".to_string(), weight.shallow_clone())], CONFIG);
        let mut plain = Plain::new(&weight);
        let grad = Tensor::linspace(-1.0, 1.0, PIECE + 7, (Kind::Float, Device::Cpu)).to_kind(Kind::BFloat16);
        set_grad(&weight, &grad);
        plain.step(&grad, 1e-4, 1, &CONFIG);
        optimizer.step(1e-4).unwrap();
        assert!(largest_difference(&state_of(&optimizer)["w.master"], &plain.weight) < 1e-7);
        assert_eq!(weight.detach(), Tensor::ones([PIECE + 7], HALF), "the step is lost in bf16");
    }

    #[test]
    fn half_precision_parameters_follow_an_f32_master_also_when_restored() {
        let grad = |step: i64| Tensor::linspace(-0.5, 0.1 * step as f64, 15, (Kind::Float, Device::Cpu)).view([3, 5]);
        let run = |restore_at: Option<i64>| {
            let mut matrix = Tensor::full([3, 5], -2.0, HALF).set_requires_grad(true);
            let named = |matrix: &Tensor| vec![("m".to_string(), matrix.shallow_clone())];
            let mut optimizer = AdamW::new(named(&matrix), CONFIG);
            let mut plain = Plain::new(&matrix);
            for step in 1..=60 {
                if restore_at == Some(step) {
                    let (state, num_steps) = (state_of(&optimizer), optimizer.num_steps());
                    matrix = Tensor::zeros([3, 5], HALF).set_requires_grad(true);
                    optimizer = AdamW::new(named(&matrix), CONFIG);
                    optimizer.restore(&state, num_steps).unwrap();
                }
                let grad = grad(step).to_kind(Kind::BFloat16);
                set_grad(&matrix, &grad);
                plain.step(&grad, 1e-4, step as i32, &CONFIG);
                optimizer.step(1e-4).unwrap();
            }
            (matrix.detach(), state_of(&optimizer), plain)
        };
        let (matrix, state, plain) = run(None);
        assert_eq!((state["m.master"].kind(), state["m.exp_avg"].kind(), state.len()), (Kind::Float, Kind::Float, 3));
        assert!(largest_difference(&state["m.master"], &plain.weight) < MASTER_TOLERANCE);
        assert_eq!(matrix, state["m.master"].to_kind(Kind::BFloat16));
        assert_ne!(state["m.master"], Tensor::full([3, 5], -2.0, (Kind::Float, Device::Cpu)));
        let (restored, restored_state, _) = run(Some(31));
        assert_eq!((restored, restored_state), (matrix, state));
    }

    #[test]
    fn without_gradients_or_contiguous_memory_a_step_is_refused_and_changes_nothing() {
        let leaf = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let mut optimizer = AdamW::new(vec![("w".into(), leaf)], CONFIG);
        assert!(matches!(optimizer.step(0.1), Err(Error::NoGradient { num_parameters: 1 })));
        assert_eq!(optimizer.num_steps(), 0);
        let strided = Tensor::ones([2, 3], (Kind::Float, Device::Cpu)).transpose(0, 1).set_requires_grad(true);
        set_grad(&strided, &Tensor::ones([3, 2], (Kind::Float, Device::Cpu)));
        let mut optimizer = AdamW::new(vec![("w".into(), strided)], CONFIG);
        assert!(optimizer.step(0.1).unwrap_err().to_string().contains("contiguous"));
    }

    #[test]
    fn parameters_on_two_devices_are_named() {
        let mut first = None;
        check_device(&mut first, "a", &Tensor::zeros([1], (Kind::Float, Device::Cpu))).unwrap();
        first = first.map(|(name, _)| (name, Device::Cuda(1)));
        let error = check_device(&mut first, "b", &Tensor::zeros([1], (Kind::Float, Device::Cpu))).unwrap_err();
        assert!(matches!(&error, Error::MixedDevices { .. }));
        assert!(error.to_string().contains("`a` on Cuda(1)") && error.to_string().contains("`b` on Cpu"), "{error}");
    }
}
