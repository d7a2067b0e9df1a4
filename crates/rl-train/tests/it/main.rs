//! Integration tests of `rl-train`: one binary.

mod bad_input;
mod config_files;
mod distill;
mod fixtures;
mod invariance;
mod learning;
mod preference;
mod preference_fixtures;
mod presets;
mod resume;
mod reward;
mod reward_model;
mod trajectories;
