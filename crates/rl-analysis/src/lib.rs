//! What training did to the weights: singular spectra, subspace angles with null bands, projected updates, reports.
//!
//! Functions of `tch::Tensor` in f64 on the CPU; [`compare_checkpoints`] runs them all over three checkpoints. An angle
//! says nothing by itself: unrelated matrices have equal spectra and fixed angle curves, so every report carries its null
//! bands, the counts of matched names, a hash of the weights, and a detector of weights that were never loaded.

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

pub mod angles;
pub mod compare;
pub mod config;
pub mod error;
pub mod figures;
pub mod fresh_init;
pub mod linalg;
mod load;
mod matrix;
pub mod nulls;
pub mod report;
pub mod select;
pub mod spectrum;
pub mod statistics;
pub mod update;

pub use compare::{Progress, compare_checkpoints};
pub use config::{AnalysisConfig, NullConfig, Rank};
pub use error::{Error, Result};
pub use load::compare_folders;
pub use report::{Comparison, Pair, Role};
