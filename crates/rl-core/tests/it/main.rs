//! Tests of the public interface: worked numbers, gradients, properties, errors.

mod advantage_parity;
mod advantage_properties;
mod advantages;
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
mod statistics;
mod vectors;

/// Worked numbers are given to five or six digits.
pub const VECTOR_TOLERANCE: f64 = 1e-5;
/// Golden numbers from numpy and scipy.
pub const GOLDEN_TOLERANCE: f64 = 1e-12;
/// Distance of the two points of a central difference; a power of two, so that `f32` inputs move by exactly this.
pub const DIFFERENCE_STEP: f32 = 1.0 / 1024.0;
/// Central differences against analytic gradients.
pub const DIFFERENCE_TOLERANCE: f64 = 1e-4;
/// The same number computed by two roads that round differently.
pub const ROUNDING_TOLERANCE: f64 = 1e-6;
/// Relative distance from the numbers of another implementation.
pub const PARITY_TOLERANCE: f64 = 1e-5;
/// Random cases per property of the preference losses, which are many.
pub const PREFERENCE_CASES: u32 = 10_000;
/// Random cases per property.
pub const CASES: u32 = 1000;

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
