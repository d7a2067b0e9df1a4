//! Integration tests of rl-envs. Expected numbers come from the task's definition or from `tests/golden/`.
//!
//! `REINS_SLOW=1` raises the number of random answers to a million and builds a project outside the workspace.

mod acceptance;
mod answer;
mod broken;
mod check;
mod config;
mod differential;
mod episode;
mod expression;
mod igsm;
mod igsm_data;
mod igsm_text;
mod igsm_trace;
mod igsm_verifier;
mod instructions;
mod large_hands;
mod matrix_tasks;
mod outside;
mod regeneration;
mod verifier;
mod virl;
mod virl_episode;
mod virl_verifier;
mod vision;
mod wrappers;

/// Whether the slow tests are asked for.
fn slow() -> bool {
    std::env::var("REINS_SLOW").is_ok_and(|value| value == "1")
}
