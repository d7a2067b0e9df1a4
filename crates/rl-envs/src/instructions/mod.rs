//! Instructions whose obedience can be checked: short questions about everyday things with a demand on the form of the
//! answer, such as two sentences, three bullet points or a word to use.
//!
//! [`topic`] knows what can be said, [`constraint`] what is demanded, [`prompts`] deals them out, [`writer`] writes an
//! answer that obeys and one that does not, [`verifier`] judges, [`env`](mod@env) plays and [`dataset`] fills training files.
//! Because the truth behind every preference is known, what a reward model or a policy has learned can be measured.

pub mod constraint;
pub mod dataset;
pub mod env;
pub mod prompts;
pub mod topic;
pub mod verifier;
pub mod writer;

pub use constraint::{Constraint, ConstraintKind};
pub use dataset::{DatasetConfig, DatasetRow, RowKind};
pub use env::{Instructions, InstructionsConfig, RewardTable};
pub use prompts::{Instruction, PromptConfig, Prompts, Split};
pub use topic::{Fact, TOPICS, Topic};
pub use verifier::{Outcome, grade};
pub use writer::AnswerPair;
