//! Tests of the public interface, one module per subject.

mod charts;
mod config;
mod kill;
mod run;
mod tensorboard;
