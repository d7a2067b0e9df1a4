//! Integration tests of rl-envs. Expected numbers come from the task's definition or from `tests/golden/`.

mod acceptance;
mod answer;
mod config;
mod episode;
mod expression;
mod instructions;
mod verifier;
mod virl;
mod virl_episode;
mod virl_verifier;
