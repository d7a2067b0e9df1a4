//! Tests of the public interface: worked numbers, gradients, properties, errors.

mod advantage_parity;
mod advantage_properties;
mod advantages;
mod batch;
mod differences;
mod errors;
mod gradients;
mod parity_table;
mod policy;
mod policy_gradients;
mod policy_parity;
mod policy_properties;
mod policy_selection;
mod preference;
mod preference_parity;
mod preference_properties;
mod properties;
mod rewards;
mod schedules;
mod selection_properties;
mod statistics;
mod token_loss_properties;
mod vectors;

/// Worked numbers are given to five or six digits.
pub const VECTOR_TOLERANCE: f64 = 1e-5;
/// Golden numbers from numpy and scipy.
pub const GOLDEN_TOLERANCE: f64 = 1e-12;
/// Step of a central difference over `f32` inputs; a power of two, so that inputs on its grid move by exactly this.
pub const DIFFERENCE_STEP: f32 = 1.0 / 131_072.0;
/// Central differences against analytic gradients, which are rounded to `f32` (6e-8).
pub const DIFFERENCE_TOLERANCE: f64 = 2e-7;
/// The same number computed by two roads that round differently.
pub const ROUNDING_TOLERANCE: f64 = 1e-6;
/// Relative distance from the numbers of another implementation.
pub const PARITY_TOLERANCE: f64 = 1e-5;
/// Random cases per law.
pub const CASES: u32 = 10_000;

/// Asserts that two sequences agree within `tolerance`.
#[track_caller]
pub fn assert_close(actual: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{actual:?} against {expected:?}");
    for (index, (&actual, &expected)) in actual.iter().zip(expected).enumerate() {
        assert!((f64::from(actual) - expected).abs() <= tolerance, "[{index}]: {actual}, expected {expected}");
    }
}

/// Asserts that two numbers agree within `tolerance`.
#[track_caller]
pub fn assert_near(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance, "{actual}, expected {expected}");
}
