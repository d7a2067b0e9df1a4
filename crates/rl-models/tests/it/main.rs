//! Integration tests of `rl-models`: one binary.

mod conversation;
mod files;
mod fuzz;
mod generation;
mod gguf;
mod hub;
mod packed;
mod parity;
mod saving;
mod tiny;
