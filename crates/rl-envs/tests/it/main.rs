//! Integration tests of rl-envs. Expected numbers come from the task's definition or from `tests/golden/`.

mod acceptance;
mod answer;
mod config;
mod episode;
mod expression;
mod igsm;
mod igsm_data;
mod igsm_text;
mod igsm_trace;
mod igsm_verifier;
mod instructions;
mod verifier;
