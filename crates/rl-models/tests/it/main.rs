//! Integration tests of `rl-models`: one binary.

mod files;
