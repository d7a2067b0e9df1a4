//! Integration tests of `rl-train`: one binary.

mod bad_input;
mod config_files;
mod damage;
mod distill;
mod fixtures;
mod invariance;
mod kill;
mod learning;
mod mutations;
mod non_finite;
mod plan;
mod plan_memory;
mod preference;
mod preference_fixtures;
mod presets;
mod record;
mod replay;
mod resume;
mod reward;
mod reward_model;
mod rl_fixtures;
mod rl_methods;
mod rl_properties;
mod rl_rewards;
mod signals;
mod trajectories;
