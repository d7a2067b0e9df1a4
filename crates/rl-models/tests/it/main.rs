//! Integration tests of `rl-models`: one binary.

mod adapters;
mod conversation;
mod families;
mod files;
mod generation;
mod gradients;
mod packed;
mod parity;
mod tiny;
