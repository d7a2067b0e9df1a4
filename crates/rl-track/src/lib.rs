//! The record of a run: configuration, manifest, metrics, TensorBoard events, samples, logs, progress, plots, reports.
//!
//! Everything a run leaves behind lies in one folder and is append-only, so that a run killed at any moment can be
//! resumed and ends with the same lines as one that was never interrupted. No tensors, no global state other than the log
//! subscriber that [`log::init`] installs, and no network but for the feature `mlflow`.

#[doc = include_str!("../README.md")]
#[cfg(doctest)]
struct Readme;

pub mod atomic;
pub mod clock;
pub mod config;
pub mod curves;
pub mod error;
pub mod export;
pub mod hash;
pub mod html;
pub mod jsonl;
pub mod log;
pub mod manifest;
pub mod metrics;
#[cfg(feature = "mlflow")]
pub mod mlflow;
pub mod plot;
pub mod progress;
pub mod run;
pub mod samples;
pub mod tensorboard;
pub mod view;

pub use config::{ConfigError, ensure};
pub use error::{Error, Result};
pub use manifest::Manifest;
pub use metrics::{MetricsRow, MetricsWriter};
pub use progress::Progress;
pub use run::Run;
pub use samples::SampleWriter;
