//! Post-training mathematics: numbers in, numbers out.
//!
//! No tensors, no files, no clock, no hidden randomness. A loss takes slices and returns its value and its gradient with
//! respect to the log-probabilities (or values), so it serves any framework: multiply the gradient by the framework's own
//! log-probabilities, sum, and run its backward pass.
//!
//! Conventions: per-token arrays are `f32`, `[batch, seq]`, row-major or packed end to end ([`rows::Rows`]); per-sample
//! numbers and all sums are `f64`. A position where the mask is false may hold anything, even NaN, and is never read. A
//! number that is not finite where it is read, or where it is made, is an [`Error::NonFinite`].

pub mod advantages;
pub mod cross_entropy;
pub mod entropy;
pub mod error;
pub mod importance;
pub mod kl;
pub mod masked;
pub mod policy_loss;
pub mod preference_loss;
pub mod random;
pub mod returns;
pub mod reward_loss;
pub mod rewards;
pub mod rows;
pub mod schedule;
pub mod selection;
pub mod statistics;
pub mod value_loss;

pub use error::{Error, Result};

/// Compiles and runs the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadmeExample;
