//! Sequences as lines of a terminal: one block for each run of tokens, with its role, trained ones marked.

use super::{Piece, Sequence, push_visible, role_name};
use crate::record::Role;

/// Columns before the text: the mark of trained tokens and the role.
const MARGIN: usize = 12;

/// How a terminal is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns of a line; 40 or more are used.
    pub width: usize,
    /// Whether roles have colours and trained tokens are underlined.
    pub colours: bool,
    /// Whether a bar stands between tokens.
    pub tokens: bool,
}

/// A headline, then the text; trained runs begin with `*`.
pub fn terminal(sequence: &Sequence, style: &Style) -> String {
    let mut out = sequence.headline() + "\n";
    for run in sequence.runs() {
        let (role, trained) = (run[0].role, run[0].trained);
        let mark = if trained { '*' } else { ' ' };
        let mut label = format!("{mark} {:<width$}", role_name(role), width = MARGIN - 2);
        for line in lines(run, style) {
            out.push_str(&label);
            match style.colours {
                true => {
                    out.push_str(&format!("\x1b[{}{}m{line}\x1b[0m", colour(role), if trained { ";4" } else { "" }))
                }
                false => out.push_str(&line),
            }
            out.push('\n');
            label = format!("{mark} {:<width$}", "", width = MARGIN - 2);
        }
    }
    out
}

/// The visible text of a run, cut into lines that fit.
fn lines(run: &[Piece], style: &Style) -> Vec<String> {
    let room = style.width.max(40) - MARGIN;
    let mut lines = vec![String::new()];
    let mut used = 0;
    for (index, piece) in run.iter().enumerate() {
        let mut visible = String::new();
        if style.tokens && index > 0 {
            visible.push('\u{2502}');
        }
        piece.text.chars().for_each(|character| push_visible(character, &mut visible));
        for character in visible.chars() {
            let width = columns(character);
            if character == '\n' || used + width > room {
                lines.push(String::new());
                used = 0;
            }
            if character != '\n' {
                used += width;
                lines.last_mut().into_iter().for_each(|line| line.push(character));
            }
        }
    }
    // A run that ends with a line feed has nothing on its last line.
    if lines.len() > 1 && lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// Columns a terminal gives a character, near enough: none for marks, two for wide scripts and emoji.
fn columns(character: char) -> usize {
    match u32::from(character) {
        0x300..=0x36f | 0x591..=0x5bd | 0x64b..=0x65f | 0x200c..=0x200d | 0x20d0..=0x20ff | 0xfe00..=0xfe0f => 0,
        0x1100..=0x115f | 0x2e80..=0xa4cf | 0xac00..=0xd7a3 | 0xf900..=0xfaff | 0xfe30..=0xfe6f | 0xff00..=0xff60 => 2,
        0x1f000..=0x3_ffff => 2,
        _ => 1,
    }
}

fn colour(role: Option<Role>) -> &'static str {
    match role {
        None => "2",
        Some(Role::System) => "35",
        Some(Role::User) => "36",
        Some(Role::Assistant) => "32",
        Some(Role::Tool) => "33",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sequence;
    use super::*;

    #[test]
    fn runs_stand_below_each_other_and_fit() {
        let long = "x".repeat(40);
        let sequence = sequence(&[
            ("<|im_start|>user\n", None, false),
            ("two\nlines", Some(Role::User), false),
            (&long, Some(Role::Assistant), true),
            ("<|im_end|>", Some(Role::Assistant), true),
            ("\n", None, false),
        ]);
        let style = Style { width: 40, colours: false, tokens: true };
        let expected = "row 0: 5 tokens, 2 trained (40 %)
  template  <|im_start|>user⏎
  user      two⏎
            lines
* assistant xxxxxxxxxxxxxxxxxxxxxxxxxxxx
*           xxxxxxxxxxxx│<|im_end|>
  template  ⏎
";
        assert_eq!(terminal(&sequence, &style), expected);
        let coloured = terminal(&sequence, &Style { colours: true, ..style });
        assert!(
            coloured.contains("* assistant \x1b[32;4mxxxx") && coloured.contains("\x1b[36mtwo⏎\x1b[0m\n"),
            "{coloured}"
        );
    }

    #[test]
    fn wide_characters_take_two_columns() {
        let sequence = sequence(&[(&"東".repeat(15), Some(Role::User), false)]);
        let shown = terminal(&sequence, &Style { width: 40, colours: false, tokens: false });
        let lengths: Vec<usize> =
            shown.lines().skip(1).map(|line| line.chars().filter(|c| *c == '東').count()).collect();
        assert_eq!(lengths, [14, 1]);
    }
}
