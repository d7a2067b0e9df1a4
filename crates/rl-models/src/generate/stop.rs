//! Stop strings in a text that arrives in pieces.
//!
//! Which end is found does not depend on where the pieces are cut: the string whose last byte comes first ends the
//! text, and of those that end there the longest. Not here: making text from tokens ([`rl_data::TextStream`]).

/// Finds the first of several strings and holds back text that may turn out to be the start of one.
#[derive(Debug, Clone)]
pub struct StopStrings {
    strings: Vec<String>,
    keep: bool,
    /// Text not given out: a proper prefix of one of `strings`.
    held: String,
}

/// What a piece of text made certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Released {
    /// Text that is not part of a stop string; where one was found and is kept, up to its end.
    pub text: String,
    /// Index of the stop string that was found. What follows it is dropped.
    pub found: Option<usize>,
}

impl StopStrings {
    /// Looks for `strings`, none of them empty; one that is found is part of the text if `keep` says so.
    pub fn new(strings: Vec<String>, keep: bool) -> Self {
        StopStrings { strings, keep, held: String::new() }
    }

    /// Adds `piece` to the text.
    pub fn push(&mut self, piece: &str) -> Released {
        if self.strings.is_empty() || piece.is_empty() {
            return Released { text: piece.to_string(), found: None };
        }
        self.held.push_str(piece);
        let found = self.strings.iter().enumerate().filter_map(|(index, string)| {
            let start = self.held.find(string.as_str())?;
            Some((start + string.len(), start, index))
        });
        if let Some((end, start, index)) = found.min() {
            self.held.truncate(if self.keep { end } else { start });
            return Released { text: std::mem::take(&mut self.held), found: Some(index) };
        }
        let certain = self.held.len() - self.longest_start();
        let text = self.held.drain(..certain).collect();
        Released { text, found: None }
    }

    /// Gives out what is held back: the text ended without a stop string.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes of the longest end of the held text with which a stop string may begin.
    fn longest_start(&self) -> usize {
        let held = self.held.as_str();
        let starts = |string: &String| {
            let longest = held.len().min(string.len() - 1);
            (1..=longest).rev().find(|&len| string.is_char_boundary(len) && held.ends_with(&string[..len]))
        };
        self.strings.iter().filter_map(starts).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pushes `pieces`; gives all text and what was found.
    fn run(strings: &[&str], keep: bool, pieces: &[&str]) -> (String, Option<usize>) {
        let mut stop = StopStrings::new(strings.iter().map(ToString::to_string).collect(), keep);
        let mut text = String::new();
        for piece in pieces {
            let released = stop.push(piece);
            text += &released.text;
            if released.found.is_some() {
                return (text, released.found);
            }
        }
        (text + &stop.finish(), None)
    }

    #[test]
    fn every_way_to_cut_the_text_gives_the_same_end() {
        // Text, strings, the text before the end, the string that ends it.
        let cases: [(&str, &[&str], &str, Option<usize>); 9] = [
            ("one\n\ntwo", &["\n\n"], "one", Some(0)),
            ("aaab", &["aab"], "a", Some(0)),
            ("ababac", &["abac"], "ab", Some(0)),
            ("xENDING", &["ENDING", "END"], "x", Some(1)),
            ("abcX", &["abcY", "b"], "a", Some(1)),
            ("abc", &["c", "abc", "bc"], "", Some(1)),
            ("né él", &["é é", "él"], "n", Some(0)),
            ("STO", &["STOP"], "STO", None),
            ("STSTO P", &["STOP"], "STSTO P", None),
        ];
        for (text, strings, before, found) in cases {
            let cuts: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
            for chosen in 0_u32..1 << cuts.len() {
                let mut pieces = Vec::new();
                let mut start = 0;
                for (bit, &cut) in cuts.iter().enumerate() {
                    if chosen >> bit & 1 == 1 {
                        pieces.push(&text[start..cut]);
                        start = cut;
                    }
                }
                pieces.push(&text[start..]);
                assert_eq!(run(strings, false, &pieces), (before.to_string(), found), "{pieces:?}");
                let end = found.map_or(String::new(), |index| strings[index].to_string());
                assert_eq!(run(strings, true, &pieces), (before.to_string() + &end, found), "{pieces:?}");
            }
        }
    }

    #[test]
    fn only_text_that_may_be_a_start_is_held_back() {
        let mut stop = StopStrings::new(vec!["</end>".into()], false);
        let pieces = ["a < b", " <", "/", "en", "c", "</end", "> more"];
        let texts: Vec<String> = pieces.iter().map(|piece| stop.push(piece).text).collect();
        assert_eq!(texts, ["a < b", " ", "", "", "</enc", "", ""]);
    }
}
