//! Evaluation protocols: fixed tasks, the same for every checkpoint, and an interval beside every rate.
//!
//! A [`Protocol`] plays a model in each split (in and out of distribution) with each decoding (greedy, sampled) and
//! counts outcomes; [`evaluate`] does that for every checkpoint of a run, keeps what is done on disk and names the best;
//! [`PairedTest`] and [`WinRate`] compare two models on the same tasks, [`GainDifference`] two changes.
//! Absent on purpose: training (rl-train) and pictures (rl-analysis).

mod config;
pub mod error;
mod evaluate;
mod paired;
mod proportion;
mod protocol;
mod result;

pub use config::{Decoding, EvaluationConfig, Select, Split};
pub use error::{Error, Result};
pub use evaluate::{Evaluation, Summary, evaluate, read_summary};
pub use paired::{ALPHA, GainDifference, PairedTest, WinRate};
pub use proportion::Proportion;
pub use protocol::{AnswerScorer, Protocol};
pub use result::{AnswerLength, SplitResult, Transcript};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
