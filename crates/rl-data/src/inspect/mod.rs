//! Rows as the trainer sees them, for people: which text each token is, whose it is and whether it is trained.
//!
//! Strings in, strings out: a terminal's lines ([`terminal()`]), a page ([`page()`]), figures ([`length_histogram`],
//! [`selection_figures`]). Not here: where rows come from, and what a terminal can show.

mod figures;
mod page;
mod terminal;

pub use figures::{length_histogram, selection_figures};
pub use page::page;
pub use terminal::{Style, terminal};

use crate::error::Result;
use crate::preference_example::{PreferenceExample, UnpairedExample};
use crate::record::Role;
use crate::render::Example;
use crate::tokenizer::Tokenizer;

/// One token as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The token.
    pub id: u32,
    /// The characters that end with it; none for a token that ends inside a character. The pieces of a sequence join to
    /// its decoded text.
    pub text: String,
    /// Whose content it is; none for the template's.
    pub role: Option<Role>,
    /// Whether it is a target of the loss.
    pub trained: bool,
}

/// A sequence of tokens to show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sequence {
    /// What it is, such as `row 7, chosen`.
    pub title: String,
    /// Its tokens.
    pub pieces: Vec<Piece>,
}

impl Sequence {
    /// Decodes an example token by token. [`crate::Error::UnknownId`] for ids of another tokenizer.
    pub fn new(title: impl Into<String>, example: &Example, tokenizer: &Tokenizer) -> Result<Self> {
        let mut stream = tokenizer.stream(false);
        let mut pieces = Vec::with_capacity(example.ids.len());
        for (index, &id) in example.ids.iter().enumerate() {
            let trained = index > 0 && example.trainable[index];
            pieces.push(Piece { id, text: stream.push(id)?, role: example.roles[index], trained });
        }
        let rest = stream.finish()?;
        if let Some(last) = pieces.last_mut() {
            last.text.push_str(&rest);
        }
        Ok(Sequence { title: title.into(), pieces })
    }

    /// Number of tokens that are targets of the loss.
    pub fn num_trained(&self) -> usize {
        self.pieces.iter().filter(|piece| piece.trained).count()
    }

    /// Title, tokens and trained share on one line.
    pub fn headline(&self) -> String {
        let (all, trained) = (self.pieces.len(), self.num_trained());
        let share = if all == 0 { 0.0 } else { 100.0 * trained as f64 / all as f64 };
        format!("{}: {all} tokens, {trained} trained ({share:.0} %)", self.title)
    }

    /// Neighbours of one role that are all trained or all not.
    fn runs(&self) -> impl Iterator<Item = &[Piece]> {
        self.pieces.chunk_by(|a, b| (a.role, a.trained) == (b.role, b.trained))
    }
}

/// A tokenised row that can be shown.
pub trait Inspect {
    /// Its sequences with what each is called.
    fn sequences(&self) -> Vec<(&'static str, &Example)>;
}

impl Inspect for Example {
    fn sequences(&self) -> Vec<(&'static str, &Example)> {
        vec![("", self)]
    }
}

impl Inspect for PreferenceExample {
    fn sequences(&self) -> Vec<(&'static str, &Example)> {
        vec![(", chosen", &self.chosen), (", rejected", &self.rejected)]
    }
}

impl Inspect for UnpairedExample {
    fn sequences(&self) -> Vec<(&'static str, &Example)> {
        vec![(if self.label { ", desirable" } else { ", undesirable" }, &self.completion)]
    }
}

/// The name of a role in displays.
fn role_name(role: Option<Role>) -> &'static str {
    role.map_or("template", Role::as_str)
}

/// A character that can be seen and does nothing to a terminal. Line feeds stay, after a sign.
fn push_visible(character: char, out: &mut String) {
    match character {
        '\n' => out.push_str("\u{23ce}\n"),
        '\t' => out.push('\u{21e5}'),
        '\u{0}'..='\u{1f}' => out.extend(char::from_u32(0x2400 + u32::from(character))),
        '\u{7f}' => out.push('\u{2421}'),
        // Controls, directions and what has no width are told by number; the joiner of emoji stays.
        '\u{80}'..='\u{9f}'
        | '\u{200b}'
        | '\u{200e}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{feff}' => out.push_str(&format!("\u{27e8}{:X}\u{27e9}", u32::from(character))),
        other => out.push(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train_tokenizer::train_tokenizer;

    /// A sequence of the given pieces, one token each.
    pub(super) fn sequence(pieces: &[(&str, Option<Role>, bool)]) -> Sequence {
        let piece = |(index, (text, role, trained)): (usize, &(&str, Option<Role>, bool))| Piece {
            id: index as u32,
            text: text.to_string(),
            role: *role,
            trained: *trained,
        };
        Sequence { title: "row 0".into(), pieces: pieces.iter().enumerate().map(piece).collect() }
    }

    #[test]
    fn pieces_join_to_the_text_even_inside_characters() {
        // Bytes alone: a character of four bytes is four tokens.
        let tokenizer = train_tokenizer(&["x"], 256, &[]).unwrap();
        let ids = tokenizer.encode("a🎴é").unwrap();
        assert_eq!(ids.len(), 7);
        let example = Example { trainable: vec![true; 7], roles: vec![Some(Role::Assistant); 7], ids };
        let sequence = Sequence::new("row 3", &example, &tokenizer).unwrap();
        let texts: Vec<&str> = sequence.pieces.iter().map(|piece| piece.text.as_str()).collect();
        assert_eq!(texts, ["a", "", "", "", "🎴", "", "é"]);
        // The first token is no target.
        assert_eq!(sequence.headline(), "row 3: 7 tokens, 6 trained (86 %)");
    }

    #[test]
    fn what_would_move_a_cursor_is_shown() {
        let mut out = String::new();
        "a\x1b[2J\t\u{202e}\u{9b}\u{200d}é\n".chars().for_each(|c| push_visible(c, &mut out));
        assert_eq!(out, "a␛[2J⇥⟨202E⟩⟨9B⟩\u{200d}é⏎\n");
    }
}
