//! Matrix tasks: say the rank or the determinant of an integer matrix, one number, judged exactly.
//!
//! [`matrix`] computes, [`task`] makes matrices, [`answer`] reads, [`env`](mod@env) plays and [`dataset`] fills training
//! files. The shifted variants ([`MatrixTasksConfig::shifted`]) have another shape and larger numbers, to measure what
//! training on the plain ones leaves of the ability in general. After the later experiments of Jin et al. 2025, "RL
//! Fine-Tuning Heals OOD Forgetting in SFT": <https://arxiv.org/abs/2509.12235>.

pub mod answer;
pub mod dataset;
pub mod env;
pub mod matrix;
pub mod task;

pub use answer::{Answer, read_answer};
pub use dataset::{DatasetConfig, DatasetRow};
pub use env::{MatrixTasks, MatrixTasksConfig, Outcome, RewardTable};
pub use matrix::Matrix;
pub use task::{MatrixTask, Problem};
