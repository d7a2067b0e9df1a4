//! What tch cannot say about gradients: upstream gradients, gradients of chosen tensors, graph nodes written in Rust,
//! and activation checkpointing built on them.

use std::ffi::{CString, c_char, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};

use tch::Tensor;
use torch_sys::C_tensor;

use crate::{Error, Result, ffi};

/// Backward pass from `outputs` with `grad_outputs` as upstream gradients, pairwise of equal shape; gradients are added
/// to the leaves.
///
/// # Errors
/// [`Error::Argument`] when the slices differ in length; [`Error::Shim`] with libtorch's reason otherwise, which may be
/// the failure of a closure given to [`with_backward`].
pub fn backward(outputs: &[Tensor], grad_outputs: &[Tensor], retain_graph: bool) -> Result<()> {
    check_pairs(outputs, grad_outputs)?;
    let (roots, grads) = (ffi::pointers(outputs), ffi::pointers(grad_outputs));
    // SAFETY: both lists hold as many live tensors as the call is told.
    ffi::check(unsafe { ffi::reins_backward(roots.as_ptr(), grads.as_ptr(), roots.len() as i64, retain_graph) })
}

/// Gradients of `inputs`, each of its input's shape, with `grad_outputs` as upstream gradients of `outputs`; no leaf
/// is touched. `None` where the outputs do not depend on an input.
///
/// # Errors
/// As [`backward`]; also when an input does not require a gradient.
pub fn grad(
    outputs: &[Tensor],
    inputs: &[Tensor],
    grad_outputs: &[Tensor],
    retain_graph: bool,
) -> Result<Vec<Option<Tensor>>> {
    check_pairs(outputs, grad_outputs)?;
    let (roots, grads, wanted) = (ffi::pointers(outputs), ffi::pointers(grad_outputs), ffi::pointers(inputs));
    let mut results = vec![std::ptr::null_mut(); inputs.len()];
    // SAFETY: the lists hold as many live tensors as the call is told, and `results` has room for one per input.
    ffi::check(unsafe {
        ffi::reins_grad(
            roots.as_ptr(),
            grads.as_ptr(),
            roots.len() as i64,
            wanted.as_ptr(),
            wanted.len() as i64,
            retain_graph,
            results.as_mut_ptr(),
        )
    })?;
    // SAFETY: each result is null or a new tensor that the call gave to us alone.
    Ok(results.into_iter().map(|result| unsafe { ffi::take(result) }).collect())
}

/// Makes `outputs` differentiable functions of `inputs` whose gradients `backward` computes: a custom autograd function.
///
/// `outputs` were computed without a graph (under [`tch::no_grad`]); the results share their storage. `backward` gets
/// one upstream gradient per output (`None`: zero) and gives one gradient per input (`None`: none). It runs without
/// recording (use [`tch::with_grad`] inside to record), maybe on another thread, and is freed after a backward pass that
/// does not retain the graph. It must not hold the results themselves: that would be a cycle that is never freed.
/// When no input requires a gradient, or recording is off, the outputs come back as they are.
///
/// # Errors
/// [`Error::Shim`] with libtorch's reason. A failing or panicking `backward` fails the backward pass with its message.
pub fn with_backward(
    inputs: &[&Tensor],
    outputs: Vec<Tensor>,
    backward: impl Fn(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + Send + 'static,
) -> Result<Vec<Tensor>> {
    if !is_recording() || !inputs.iter().any(|input| input.requires_grad()) {
        return Ok(outputs);
    }
    let closure: Box<Backward> = Box::new(Box::new(backward));
    let (sources, made) = (ffi::pointers(inputs.iter().copied()), ffi::pointers(&outputs));
    let mut results = vec![std::ptr::null_mut(); outputs.len()];
    // SAFETY: the lists hold as many live tensors as the call is told. The call takes `closure` over in every case and
    // frees it through `drop_backward` exactly once; both functions know its true type.
    ffi::check(unsafe {
        ffi::reins_with_backward(
            sources.as_ptr(),
            sources.len() as i64,
            made.as_ptr(),
            made.len() as i64,
            Box::into_raw(closure).cast(),
            call_backward,
            drop_backward,
            results.as_mut_ptr(),
        )
    })?;
    // SAFETY: each result is a new tensor that the call gave to us alone.
    Ok(results.into_iter().filter_map(|result| unsafe { ffi::take(result) }).collect())
}

/// Inside a closure of [`with_backward`]: the gradient of `leaf` to add to in place, made of zeros where there is none yet.
///
/// A closure that adds to it gives `None` for that input, so that no second tensor of the leaf's size is made and summed.
/// `None` when gradients are being given out ([`grad`]) instead of added to leaves, outside of a backward pass, and for a
/// tensor that is no leaf with a gradient: then the closure returns the gradient as always.
///
/// # Errors
/// [`Error::Shim`] with libtorch's reason, as for want of memory.
pub fn leaf_grad(leaf: &Tensor) -> Result<Option<Tensor>> {
    let mut result = std::ptr::null_mut();
    // SAFETY: a live tensor, and room for one result.
    ffi::check(unsafe { ffi::reins_leaf_grad(leaf.as_ptr(), &mut result) })?;
    // SAFETY: null or a new handle that the call gave to us alone.
    Ok(unsafe { ffi::take(result) })
}

/// Activation checkpointing: runs `forward` without keeping its intermediate results and runs it again in the backward
/// pass (Chen et al. 2016: <https://arxiv.org/abs/1604.06174>).
///
/// Gradients flow to `inputs`, which `forward` gets as its argument, and to `parameters`, leaves that `forward` uses
/// from its captures. `forward` must compute the same numbers both times: no draw that depends on hidden state.
///
/// # Errors
/// Those of `forward`, and of [`with_backward`].
pub fn checkpoint<E>(
    inputs: &[&Tensor],
    parameters: Vec<Tensor>,
    forward: impl Fn(&[Tensor]) -> std::result::Result<Vec<Tensor>, E> + Send + 'static,
) -> std::result::Result<Vec<Tensor>, E>
where
    E: From<Error> + std::fmt::Display,
{
    let detached = |inputs: &mut dyn Iterator<Item = &Tensor>| {
        inputs.map(|t| t.f_detach()).collect::<std::result::Result<Vec<_>, _>>()
    };
    let saved = detached(&mut inputs.iter().copied()).map_err(Error::from)?;
    let needs_grad: Vec<bool> = inputs.iter().map(|input| input.requires_grad()).collect();
    let outputs = tch::no_grad(|| forward(&saved))?;
    let sources: Vec<Tensor> = parameters.iter().map(Tensor::shallow_clone).collect();
    let sources: Vec<&Tensor> = inputs.iter().copied().chain(&sources).collect();
    let num_inputs = saved.len();
    let results = with_backward(&sources, outputs, move |grads| {
        let mut fresh = detached(&mut saved.iter())?;
        for (input, needs_grad) in fresh.iter_mut().zip(&needs_grad) {
            *input = input.f_set_requires_grad(*needs_grad)?;
        }
        let outputs = tch::with_grad(|| forward(&fresh)).map_err(|error| Error::Shim(error.to_string()))?;
        let known =
            outputs.into_iter().zip(grads).filter_map(|(output, grad)| Some((output, grad.as_ref()?.shallow_clone())));
        let (outputs, grads): (Vec<Tensor>, Vec<Tensor>) = known.filter(|(output, _)| output.requires_grad()).unzip();
        let mut results: Vec<Option<Tensor>> = (0..num_inputs + parameters.len()).map(|_| None).collect();
        let wanted: Vec<(usize, Tensor)> = fresh
            .iter()
            .chain(&parameters)
            .map(Tensor::shallow_clone)
            .enumerate()
            .filter(|(_, tensor)| tensor.requires_grad())
            .collect();
        let (places, wanted): (Vec<usize>, Vec<Tensor>) = wanted.into_iter().unzip();
        for (place, gradient) in places.into_iter().zip(grad(&outputs, &wanted, &grads, false)?) {
            results[place] = gradient;
        }
        Ok(results)
    })?;
    Ok(results)
}

type Backward = Box<dyn Fn(&[Option<Tensor>]) -> Result<Vec<Option<Tensor>>> + Send>;

/// Runs the closure behind `closure`; a failure or a panic comes back as text.
unsafe extern "C" fn call_backward(
    closure: *mut c_void,
    grads: *const *mut C_tensor,
    num_grads: i64,
    input_grads: *mut *mut C_tensor,
    num_inputs: i64,
) -> *mut c_char {
    let run = || -> Result<Vec<Option<Tensor>>> {
        // SAFETY: `closure` came from `Box::into_raw` of a `Box<Backward>`, is alive until `drop_backward`, and the shim
        // never calls it twice at a time. `grads` holds `num_grads` pointers, null or live for this call; cloning makes
        // handles of our own.
        let (closure, grads) = unsafe {
            let grads = std::slice::from_raw_parts(grads, num_grads as usize);
            let clone = |&pointer: &*mut C_tensor| (!pointer.is_null()).then(|| Tensor::clone_from_ptr(pointer));
            (&*closure.cast::<Backward>(), grads.iter().map(clone).collect::<Vec<_>>())
        };
        closure(&grads)
    };
    let failure = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(gradients)) if gradients.len() == num_inputs as usize => {
            for (place, gradient) in gradients.into_iter().enumerate() {
                let pointer = gradient.map_or(std::ptr::null_mut(), into_raw);
                // SAFETY: `input_grads` has room for `num_inputs` pointers; the shim takes each over.
                unsafe { *input_grads.add(place) = pointer };
            }
            return std::ptr::null_mut();
        }
        Ok(Ok(gradients)) => format!("a backward closure gave {} gradients for {num_inputs} inputs", gradients.len()),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            format!("a backward closure panicked: {}", text.unwrap_or("no message"))
        }
    };
    let text = CString::new(failure.replace('\0', " ")).unwrap_or_default();
    // SAFETY: strdup copies a live C string into memory of the C allocator, which the shim frees.
    unsafe { strdup(text.as_ptr()) }
}

unsafe extern "C" fn drop_backward(closure: *mut c_void) {
    // SAFETY: the shim calls this once, with the pointer that `with_backward` gave it.
    let closure = unsafe { Box::from_raw(closure.cast::<Backward>()) };
    // Dropping tensors can panic inside tch; a panic must not cross into C++.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(closure)));
}

unsafe extern "C" {
    fn strdup(text: *const c_char) -> *mut c_char;
}

/// A heap tensor that the receiver owns.
fn into_raw(mut tensor: Tensor) -> *mut C_tensor {
    let pointer = tensor.as_mut_ptr();
    std::mem::forget(tensor);
    pointer
}

/// Whether operations on this thread are recorded.
fn is_recording() -> bool {
    // SAFETY: reads a thread-local flag.
    unsafe { ffi::reins_grad_enabled() }
}

fn check_pairs(outputs: &[Tensor], grad_outputs: &[Tensor]) -> Result<()> {
    if outputs.len() == grad_outputs.len() {
        return Ok(());
    }
    let (found, needed) = (grad_outputs.len(), outputs.len());
    Err(Error::Argument {
        name: "grad_outputs",
        value: format!("{found} tensors"),
        reason: format!("{needed} are needed, one per output"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::{Device, Kind};

    const TOLERANCE: f64 = 1e-6;

    fn leaf(values: &[f32]) -> Tensor {
        Tensor::from_slice(values).set_requires_grad(true)
    }

    fn numbers(tensor: &Tensor) -> Vec<f32> {
        Vec::try_from(tensor).unwrap()
    }

    #[test]
    fn upstream_gradients_scale_the_gradients() {
        let x = leaf(&[1.0, 2.0, 3.0]);
        let y = x.square();
        backward(&[y], &[Tensor::from_slice(&[1.0_f32, 10.0, 100.0])], false).unwrap();
        assert_eq!(numbers(&x.grad()), [2.0, 40.0, 600.0]); // 2 x times upstream
    }

    #[test]
    fn gradients_of_chosen_inputs_touch_no_leaf() {
        let (x, y, z) = (leaf(&[2.0]), leaf(&[5.0]), leaf(&[7.0]));
        let out = &x * &y;
        let grads = grad(&[out], &[x.shallow_clone(), z], &[Tensor::from_slice(&[3.0_f32])], false).unwrap();
        assert_eq!(numbers(grads[0].as_ref().unwrap()), [15.0]);
        assert!(grads[1].is_none());
        assert!(!x.grad().defined() && !y.grad().defined());
    }

    #[test]
    fn a_closure_computes_the_backward_pass() {
        let x = leaf(&[1.0, -2.0]);
        let cube = tch::no_grad(|| x.pow_tensor_scalar(3));
        let held = x.detach();
        let outputs = with_backward(&[&x], vec![cube], move |grads| {
            let upstream = grads[0].as_ref().map(|g| g * &held * &held * 3.0);
            Ok(vec![upstream])
        })
        .unwrap();
        (&outputs[0] * 2.0).sum(Kind::Float).backward();
        assert_eq!(numbers(&x.grad()), [6.0, 24.0]); // 2 * 3 x^2
    }

    #[test]
    fn a_closure_adds_to_a_leaf_only_where_gradients_are_added() {
        let x = leaf(&[1.0, -2.0]);
        let double = || {
            let held = x.shallow_clone();
            with_backward(&[&x], vec![tch::no_grad(|| &x * 2.0)], move |grads| {
                let upstream = grads[0].as_ref().map(|g| g * 2.0);
                match (leaf_grad(&held)?, upstream) {
                    (Some(mut sum), Some(gradient)) => {
                        let _ = sum.f_add_(&gradient)?;
                        Ok(vec![None])
                    }
                    (_, gradient) => Ok(vec![gradient]),
                }
            })
            .unwrap()
        };
        let ones = [Tensor::from_slice(&[1.0_f32, 1.0])];
        let given = grad(&double(), &[x.shallow_clone()], &ones, false).unwrap();
        assert_eq!(numbers(given[0].as_ref().unwrap()), [2.0, 2.0]);
        assert!(!x.grad().defined() && leaf_grad(&x).unwrap().is_none());
        for sum in [2.0, 4.0] {
            backward(&double(), &ones, false).unwrap();
            assert_eq!(numbers(&x.grad()), [sum, sum]);
        }
    }

    #[test]
    fn what_a_closure_says_or_panics_with_fails_the_backward_pass() {
        let run = |body: fn() -> Result<Vec<Option<Tensor>>>| {
            let x = leaf(&[1.0]);
            let outputs = with_backward(&[&x], vec![tch::no_grad(|| &x * 2.0)], move |_| body()).unwrap();
            backward(&outputs, &[Tensor::from_slice(&[1.0_f32])], false).unwrap_err().to_string()
        };
        assert!(run(|| Err(Error::Shim("the cupboard is bare".into()))).contains("the cupboard is bare"));
        assert!(run(|| panic!("no such luck")).contains("no such luck"));
        assert!(run(|| Ok(Vec::new())).contains("0 gradients for 1 inputs"));
    }

    #[test]
    fn what_a_closure_holds_is_freed_with_the_graph() {
        let alive = std::sync::Arc::new(());
        let x = leaf(&[1.0]);
        let held = alive.clone();
        let make = move || {
            let held = held.clone();
            with_backward(&[&x], vec![tch::no_grad(|| &x * 2.0)], move |grads| {
                let _ = &held;
                Ok(vec![grads[0].as_ref().map(Tensor::shallow_clone)])
            })
        };
        let dropped = make().unwrap();
        assert_eq!(std::sync::Arc::strong_count(&alive), 3);
        drop(dropped);
        assert_eq!(std::sync::Arc::strong_count(&alive), 2);
        let used = make().unwrap();
        backward(&used, &[Tensor::from_slice(&[1.0_f32])], false).unwrap();
        assert_eq!(std::sync::Arc::strong_count(&alive), 2); // freed though `used` still lives
        let again = backward(&used, &[Tensor::from_slice(&[1.0_f32])], false).unwrap_err();
        assert!(again.to_string().contains("second"), "{again}");
    }

    #[test]
    fn a_checkpointed_chain_has_the_gradients_of_the_plain_one() {
        let run = |checkpointed: bool| {
            let x = Tensor::linspace(-1.0, 1.0, 12, (Kind::Float, Device::Cpu)).view([3, 4]).set_requires_grad(true);
            let w = Tensor::linspace(-0.5, 0.7, 16, (Kind::Float, Device::Cpu)).view([4, 4]).set_requires_grad(true);
            let mut hidden = x.shallow_clone();
            for _ in 0..3 {
                let captured = w.shallow_clone();
                let block = move |xs: &[Tensor]| -> Result<Vec<Tensor>> {
                    Ok(vec![xs[0].f_matmul(&captured)?.f_tanh()?.f_add(&xs[0])?])
                };
                let inputs = [&hidden];
                let mut outputs = if checkpointed {
                    checkpoint(&inputs, vec![w.shallow_clone()], block).unwrap()
                } else {
                    block(&[hidden.shallow_clone()]).unwrap()
                };
                hidden = outputs.remove(0);
            }
            hidden.square().sum(Kind::Float).backward();
            (numbers(&x.grad().view([-1])), numbers(&w.grad().view([-1])))
        };
        let (plain, checkpointed) = (run(false), run(true));
        approx::assert_abs_diff_eq!(plain.0[..], checkpointed.0[..], epsilon = TOLERANCE as f32);
        approx::assert_abs_diff_eq!(plain.1[..], checkpointed.1[..], epsilon = TOLERANCE as f32);
        assert!(plain.1.iter().any(|&g| g.abs() > 0.1));
    }
}
