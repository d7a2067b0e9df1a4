//! iGSM: word problems of any number of operations, drawn from dependency graphs, with solutions in which behaviours can be
//! injected (Ye et al. 2024, arXiv 2407.20311; Cen et al. 2025, arXiv 2505.18917). All wording and all names are our own.
//!
//! [`generator`] draws a [`Problem`]: [`hyper`]-parameters, a [`structure`] of what contains what, the [`dependency`] graph of
//! the solution, [`redundant`] conditions. [`question`] and [`trace`] put problem and solution into words; [`parse`] and
//! [`solve`] read and solve a problem from its text alone, [`from_text`] makes such a text a [`Problem`] again, and
//! [`step_verifier`] judges solutions line by line. [`extract`] finds the answer, [`env`](mod@env) plays, [`augment`],
//! [`dataset`] and [`splits`] fill files that [`statistics`] describe; [`template`] keeps splits apart and [`figure`] draws.
//!
//! Every item is a function of (config, seed, index): regenerating it needs nothing else. Arithmetic is exact; a draw whose
//! values do not fit 128 bits is rejected.

pub mod augment;
pub mod config;
pub mod dataset;
pub mod dependency;
pub mod env;
pub mod extract;
pub mod figure;
pub mod formula;
pub mod from_text;
pub mod generator;
pub mod hyper;
mod lexer;
pub mod parameter;
pub mod parse;
pub mod problem;
pub mod prompt;
pub mod question;
pub mod redundant;
pub mod solve;
pub mod splits;
pub mod statistics;
pub mod step_verifier;
pub mod stream;
pub mod structure;
pub mod template;
pub mod trace;
pub mod vocabulary;

pub use augment::Augmentation;
pub use config::{ProblemConfig, TemplateSplit, VocabularyKind};
pub use dataset::{Dataset, DatasetConfig, DatasetRow, Manifest, RowKind};
pub use env::{Igsm, IgsmConfig, Outcome, RewardTable};
pub use extract::Extraction;
pub use formula::Reference;
pub use generator::{DrawCounts, Generator, Rejection};
pub use parameter::{Parameter, ParameterKind, ParameterSet};
pub use parse::{ParseError, ParsedProblem};
pub use problem::Problem;
pub use solve::{Solution, SolveError};
pub use statistics::Statistics;
pub use step_verifier::{ErrorClass, Report, StepError, StepVerifier};
pub use structure::Structure;
pub use trace::{Analysis, TraceConfig, TraceStyle};
pub use vocabulary::Vocabulary;
