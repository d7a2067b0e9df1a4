//! Integration tests of `rl-models`: one binary.

mod adapters;
mod conversation;
mod distillation;
mod families;
mod files;
mod fuzz;
mod generation;
mod gguf;
mod gradients;
mod hub;
mod log_prob_gap;
mod numerics;
mod packed;
mod parity;
mod saving;
mod shared;
mod stopping;
mod streaming;
mod tiny;
