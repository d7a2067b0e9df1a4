//! What a conversation must be like to be learned from, judged before it is rendered. All rules are off by default.

use serde::{Deserialize, Serialize};

use super::report::DropReason;
use crate::language::{Language, find_language};
use crate::record::{Message, Role};

/// What becomes of rows that hold the same tokens as an earlier one, with the same targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Duplicates {
    /// They stay.
    #[default]
    Keep,
    /// The first stays, the others are dropped and counted.
    Drop,
}

/// What becomes of rows with a message that says nothing: white space alone, no thought, no call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EmptyTurns {
    /// They stay.
    #[default]
    Keep,
    /// They are dropped and counted; an empty system message is no turn.
    Drop,
}

/// Which orders of roles are kept; other rows are dropped and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleOrder {
    /// Any.
    #[default]
    Any,
    /// A system message or none, then user and assistant in turn, the user first; calls of tools are followed by their
    /// results and those by the assistant.
    Alternating,
    /// One user message and one answer, as in S1's SmolTalk; of a prompt, the user message alone.
    SingleTurn,
}

/// Keeps rows in one language.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageRule {
    /// The language to keep; what is judged is what the assistant says and thinks, or the user in a prompt alone. See
    /// [`crate::language`] for what the judgement is worth.
    pub language: Language,
    /// Rows with less than this share of their letters in the language's script are dropped, 0 to 1: answers that change
    /// language midway.
    pub min_share: f64,
    /// For texts that do not say, such as a number.
    pub unknown: UnknownLanguage,
}

/// What becomes of rows whose language cannot be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnknownLanguage {
    /// They stay.
    Keep,
    /// They are dropped and counted.
    Drop,
}

/// Index of the first message that says nothing.
pub(super) fn empty_turn(messages: &[&Message]) -> Option<DropReason> {
    let empty = |message: &&Message| message.role != Role::System && message.is_empty();
    messages.iter().position(empty).map(|message| DropReason::EmptyTurn { message })
}

pub(super) fn role_order(order: RoleOrder, messages: &[&Message]) -> Option<DropReason> {
    let broken = |message: usize, wanted: &str| {
        let found = messages.get(message).map_or("nothing".to_string(), |message| message.role.to_string());
        Some(DropReason::RoleOrder { message, found, wanted: wanted.to_string() })
    };
    match order {
        RoleOrder::Any => None,
        RoleOrder::SingleTurn => match messages {
            [first, ..] if first.role != Role::User => broken(0, "user"),
            [] => broken(0, "user"),
            [_, second, ..] if second.role != Role::Assistant => broken(1, "assistant"),
            [_, _, _, ..] => broken(2, "nothing"),
            _ => None,
        },
        RoleOrder::Alternating => {
            let first = usize::from(messages.first().is_some_and(|message| message.role == Role::System));
            let mut wanted = &[Role::User][..];
            if messages.len() == first {
                return broken(first, "user");
            }
            for (index, message) in messages.iter().enumerate().skip(first) {
                if !wanted.contains(&message.role) {
                    let names: Vec<&str> = wanted.iter().map(|role| role.as_str()).collect();
                    return broken(index, &names.join(" or "));
                }
                wanted = match message.role {
                    Role::Assistant if message.tool_calls.is_empty() => &[Role::User],
                    Role::Assistant => &[Role::Tool],
                    Role::Tool => &[Role::Tool, Role::Assistant],
                    Role::User | Role::System => &[Role::Assistant],
                };
            }
            None
        }
    }
}

pub(super) fn language(rule: &LanguageRule, messages: &[&Message]) -> Option<DropReason> {
    let says = |role: Role| -> Vec<&str> {
        let of_role = messages.iter().filter(|message| message.role == role);
        of_role.flat_map(|message| [message.reasoning_content.as_deref().unwrap_or(""), &message.content]).collect()
    };
    let answers = says(Role::Assistant);
    let found = find_language(&if answers.is_empty() { says(Role::User) } else { answers }.join("\n"));
    let fits = match found.language {
        Some(language) => language == rule.language && found.script_share >= rule.min_share,
        None => rule.unknown == UnknownLanguage::Keep,
    };
    (!fits).then_some(DropReason::Language { found: found.language, script_share: found.script_share })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tool_call::ToolCall;

    #[test]
    fn orders_are_checked_message_by_message() {
        let call = || Message::assistant("").with_tool_calls([ToolCall::new("f", serde_json::Map::new())]);
        let of = |letters: &str| -> Vec<Message> {
            let message = |letter| match letter {
                's' => Message::system("s"),
                'u' => Message::user("u"),
                'a' => Message::assistant("a"),
                'c' => call(),
                't' => Message::tool("t"),
                other => panic!("{other}"),
            };
            letters.chars().map(message).collect()
        };
        // The first message out of order.
        let cases = [
            ("uaua", None, Some(2)),
            ("ua", None, None),
            ("u", None, None),
            ("sua", None, Some(0)),
            ("suctta", None, Some(0)),
            ("uctca", Some(4), Some(2)),
            ("uctcta", None, Some(2)),
            ("ucta", None, Some(2)),
            ("au", Some(0), Some(0)),
            ("uu", Some(1), Some(1)),
            ("uaa", Some(2), Some(2)),
            ("usa", Some(1), Some(1)),
            ("ssua", Some(1), Some(0)),
            ("uat", Some(2), Some(2)),
            ("ucua", Some(2), Some(2)),
            ("s", Some(1), Some(0)),
            ("", Some(0), Some(0)),
        ];
        for (letters, alternating, single) in cases {
            let messages = of(letters);
            let messages: Vec<&Message> = messages.iter().collect();
            for (order, expected) in
                [(RoleOrder::Any, None), (RoleOrder::Alternating, alternating), (RoleOrder::SingleTurn, single)]
            {
                let found = role_order(order, &messages).map(|reason| match reason {
                    DropReason::RoleOrder { message, .. } => message,
                    other => panic!("{other:?}"),
                });
                assert_eq!(found, expected, "{letters} {order:?}");
            }
        }
    }
}
