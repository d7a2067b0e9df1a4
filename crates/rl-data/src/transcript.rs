//! Conversations written as one text, as in `Anthropic/hh-rlhf`: `\n\nHuman: ...\n\nAssistant: ...`.

use crate::record::{Message, Role};

const TURNS: [(&str, Role); 2] = [("\n\nHuman:", Role::User), ("\n\nAssistant:", Role::Assistant)];

/// The turns of a text that begins with the human's; none for any other text. The space after the colon is no content.
pub(crate) fn messages(text: &str) -> Option<Vec<Message>> {
    let mut rest = text.strip_prefix(TURNS[0].0)?;
    let mut role = TURNS[0].1;
    let mut messages = Vec::new();
    loop {
        let found = TURNS.iter().filter_map(|(mark, role)| Some((rest.find(mark)?, mark.len(), *role)));
        let next = found.min_by_key(|(start, ..)| *start);
        let content = next.map_or(rest, |(start, ..)| &rest[..start]);
        messages.push(Message::new(role, content.strip_prefix(' ').unwrap_or(content)));
        let Some((start, length, speaker)) = next else { return Some(messages) };
        rest = &rest[start + length..];
        role = speaker;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_part_at_their_marks() {
        let text = "\n\nHuman: a\nb\n\nAssistant: c\n\nc\n\nHuman:  d\n\nAssistant:";
        let expected =
            [Message::user("a\nb"), Message::assistant("c\n\nc"), Message::user(" d"), Message::assistant("")];
        assert_eq!(messages(text).unwrap(), expected);
        assert_eq!(messages("Human: a"), None);
        assert_eq!(messages("\n\nAssistant: a"), None);
    }
}
