//! Central differences of the losses that read `f32`.
//!
//! Those losses compute in `f64`, so their differences are as good as in `f64` if only the inputs are `f32`-exact: on
//! the grid of the step, input plus step has no rounding. Two errors are left: the curvature of the loss, of the order
//! of the step squared, and the rounding of the gradient itself to `f32`.

use proptest::prelude::*;

use crate::{DIFFERENCE_STEP, DIFFERENCE_TOLERANCE};

/// Numbers on the grid of the step.
pub fn grid(low: i32, high: i32) -> impl Strategy<Value = f32> {
    let steps_per_unit = (1.0 / DIFFERENCE_STEP) as i32;
    (low * steps_per_unit..=high * steps_per_unit).prop_map(|steps| steps as f32 * DIFFERENCE_STEP)
}

/// Compares `gradient` with central differences of `loss` at the response tokens where it is `smooth`; where the mask is
/// false it must be 0.
#[track_caller]
pub fn check_differences(
    inputs: &[f32],
    mask: &[bool],
    gradient: &[f32],
    smooth: impl Fn(usize) -> bool,
    loss: impl Fn(&[f32]) -> f64,
) {
    assert_eq!(gradient.len(), inputs.len());
    for index in 0..inputs.len() {
        if !mask[index] {
            assert_eq!(gradient[index], 0.0);
            continue;
        }
        if !smooth(index) {
            continue;
        }
        let at = |step: f32| {
            let mut moved = inputs.to_vec();
            moved[index] += step;
            loss(&moved)
        };
        let difference = (at(DIFFERENCE_STEP) - at(-DIFFERENCE_STEP)) / f64::from(2.0 * DIFFERENCE_STEP);
        let error = (difference - f64::from(gradient[index])).abs();
        let tolerance = DIFFERENCE_TOLERANCE * (1.0 + difference.abs());
        assert!(error <= tolerance, "[{index}]: {}, difference {difference}, error {error:e}", gradient[index]);
    }
}
