//! Tests of the public interface, one module per subject.

mod charts;
mod config;
mod curves;
mod export;
mod kill;
#[cfg(feature = "mlflow")]
mod mlflow;
mod progress;
mod run;
mod tensorboard;
mod view;
