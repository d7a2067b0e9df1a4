//! Marks around what a solution says, as against how: names, the two first expressions and the value of every line that
//! computes something. Intermediate steps and lines that compute nothing stay unmarked.

/// Begins content.
pub const OPEN: &str = "<<";
/// Ends content.
pub const CLOSE: &str = ">>";

/// A text without its marks, and for each of its characters whether it was between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unmarked {
    /// The text.
    pub text: String,
    /// `[chars]`
    pub content: Vec<bool>,
}

/// Takes the marks out of `marked`. A token is content if any of its characters is.
pub fn unmark(marked: &str) -> Unmarked {
    let mut text = String::with_capacity(marked.len());
    let mut content = Vec::with_capacity(marked.len());
    let mut inside = false;
    let mut rest = marked;
    while let Some(next) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix(OPEN) {
            inside = true;
            rest = after;
        } else if let Some(after) = rest.strip_prefix(CLOSE) {
            inside = false;
            rest = after;
        } else {
            text.push(next);
            content.push(inside);
            rest = &rest[next.len_utf8()..];
        }
    }
    Unmarked { text, content }
}
