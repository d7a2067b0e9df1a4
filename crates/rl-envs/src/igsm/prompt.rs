//! The conversation that asks for a solution.

use crate::environment::{Message, Role};

/// Standing instructions: reason first, then answer, each in its tags.
pub const SYSTEM: &str = "You are an assistant who solves the problem that the user gives you. First reason about the \
problem, then give the answer. Put the reasoning inside <think></think> and the answer inside <answer></answer>, in this \
order, and write the final number as \\boxed{number}. Your reply looks like this:\n\
<think>\nyour reasoning\n</think>\n<answer>\nyour answer\n</answer>";

/// What the policy sees of the problem `question`: [`SYSTEM`] and the bare problem.
pub fn prompt(question: impl Into<String>) -> Vec<Message> {
    vec![Message { role: Role::System, content: SYSTEM.into() }, Message::user(question)]
}
