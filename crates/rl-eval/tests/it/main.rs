//! Integration tests of `rl-eval`: one binary.

mod config_files;
mod evaluation;
mod mutations;
mod paired;
mod proportion;
