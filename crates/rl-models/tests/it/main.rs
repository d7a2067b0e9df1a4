//! Integration tests of `rl-models`: one binary.

mod adapters;
mod conversation;
mod families;
mod files;
mod generation;
mod gradients;
mod log_prob_gap;
mod packed;
mod parity;
mod stopping;
mod streaming;
mod tiny;
