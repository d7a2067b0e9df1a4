//! Integration tests of `rl-models`: one binary.

mod conversation;
mod families;
mod files;
mod generation;
mod packed;
mod parity;
mod tiny;
