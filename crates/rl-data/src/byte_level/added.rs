//! Added tokens, which are cut out of a text before anything else.

use std::ops::Range;

use tokenizers::AddedVocabulary;

/// Two sets of tokens: those looked for in the text as given, then, in what lies between, those looked for in the
/// normalised text.
pub(super) struct AddedTokens([Set; 2]);

/// Tokens with their ids, longest first.
struct Set {
    tokens: Vec<(String, u32)>,
    /// Whether a token begins with this byte.
    begins: [bool; 256],
}

impl AddedTokens {
    /// None if a token takes white space along or must be a word of its own, or its normal form may be another.
    pub(super) fn new(added: &AddedVocabulary) -> Option<Self> {
        let mut sets = [Vec::new(), Vec::new()];
        for (&id, token) in added.get_added_tokens_decoder() {
            let plain = !token.lstrip && !token.rstrip && !token.single_word && !token.content.is_empty();
            if !plain || (token.normalized && !token.content.is_ascii()) {
                return None;
            }
            sets[usize::from(token.normalized)].push((token.content.clone(), id));
        }
        Some(AddedTokens(sets.map(Set::new)))
    }

    /// Calls `each` with the segments of the text in order, each an added token or what lies between, never empty, until
    /// it says false.
    pub(super) fn split(&self, text: &str, mut each: impl FnMut(Range<usize>, Option<u32>) -> bool) -> bool {
        let [first, second] = &self.0;
        first.split(text, 0..text.len(), &mut |segment, id| match id {
            None if !second.tokens.is_empty() => second.split(text, segment, &mut each),
            id => each(segment, id),
        })
    }
}

impl Set {
    fn new(mut tokens: Vec<(String, u32)>) -> Self {
        tokens.sort_by_key(|(token, _)| std::cmp::Reverse(token.len()));
        let mut begins = [false; 256];
        tokens.iter().for_each(|(token, _)| begins[usize::from(token.as_bytes()[0])] = true);
        Set { tokens, begins }
    }

    /// Leftmost first, of those the longest.
    fn split(&self, text: &str, range: Range<usize>, each: &mut impl FnMut(Range<usize>, Option<u32>) -> bool) -> bool {
        let bytes = &text.as_bytes()[..range.end];
        let (mut start, mut at) = (range.start, range.start);
        while at < bytes.len() {
            let found = if self.begins[usize::from(bytes[at])] {
                self.tokens.iter().find(|(token, _)| bytes[at..].starts_with(token.as_bytes()))
            } else {
                None
            };
            let Some((token, id)) = found else {
                at += 1;
                continue;
            };
            let end = at + token.len();
            if (start < at && !each(start..at, None)) || !each(at..end, Some(*id)) {
                return false;
            }
            (start, at) = (end, end);
        }
        start == range.end || each(start..range.end, None)
    }
}
