//! Finds the answer in a response and checks the form of the response.

use serde::{Deserialize, Serialize};

const BOX: &str = "\\boxed{";
const THINK: &str = "<think>";
const END_THINK: &str = "</think>";
const ANSWER: &str = "<answer>";
const END_ANSWER: &str = "</answer>";

/// How a response is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Extraction {
    /// As published: the first box anywhere, compared with the answer as text; the form ends at any line end and may have
    /// tags more than once.
    Strict,
    /// The last box of the last answer block, read as a number; the form is the whole response, each tag once.
    Robust,
}

/// What a response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extracted<'t> {
    /// No box where one is looked for.
    Nothing,
    /// A box with something that is no number of 128 bits.
    Text(&'t str),
    /// A number.
    Number(i128),
}

impl Extraction {
    /// The text in the box that counts, if there is one.
    pub fn boxed(self, response: &str) -> Option<&str> {
        match self {
            Extraction::Strict => {
                let start = places(response, BOX).next()? + BOX.len();
                let rest = &response[start..];
                Some(&rest[..rest.find('}')?])
            }
            Extraction::Robust => {
                let start = places(response, ANSWER).next_back()? + ANSWER.len();
                let block = &response[start..];
                let block = &block[..places(block, END_ANSWER).next()?];
                let start = places(block, BOX).next_back()? + BOX.len();
                let rest = &block[start..];
                Some(rest[..rest.find('}')?].trim())
            }
        }
    }

    /// The answer of `response`.
    pub fn extract(self, response: &str) -> Extracted<'_> {
        let Some(text) = self.boxed(response) else { return Extracted::Nothing };
        match text.parse() {
            // Only the decimal form itself is equal as text.
            Ok(number) if self == Extraction::Robust || is_plain(text) => Extracted::Number(number),
            _ => Extracted::Text(text),
        }
    }

    /// Whether the response answers `answer`.
    pub fn is_correct(self, response: &str, answer: i64) -> bool {
        self.extract(response) == Extracted::Number(answer.into())
    }

    /// Whether a response, with or without the `<think>` the prompt may end with, has the demanded form: thoughts, then an
    /// answer block, each in its tags.
    pub fn has_format(self, response: &str) -> bool {
        match self {
            Extraction::Strict => {
                // A leading tag is put in front of every response, so one that stands there already is doubled and still fits.
                let Some(answer) = first_answer_block(response) else { return false };
                let ends = |at: usize| {
                    let after = answer.as_bytes().get(at + END_ANSWER.len());
                    after.is_none_or(|&byte| byte == b'\n')
                };
                places(answer, END_ANSWER).any(ends)
            }
            Extraction::Robust => {
                let body = response.trim();
                let body = body.strip_prefix(THINK).unwrap_or(body);
                let once = |tag| places(body, tag).nth(1).is_none();
                if places(body, THINK).next().is_some() || ![END_THINK, ANSWER, END_ANSWER].into_iter().all(once) {
                    return false;
                }
                let Some(end) = places(body, END_THINK).next() else { return false };
                let rest = &body[end + END_THINK.len()..];
                let Some(answer) = rest.trim_start().strip_prefix(ANSWER) else { return false };
                answer.ends_with(END_ANSWER)
            }
        }
    }
}

/// What follows the first `</think>` that an `<answer>` follows.
fn first_answer_block(response: &str) -> Option<&str> {
    let mut ends = places(response, END_THINK).map(|at| &response[at + END_THINK.len()..]);
    ends.find_map(|after| after.trim_start().strip_prefix(ANSWER))
}

/// Where `tag` stands in `text`. Responses have few of the characters that tags start with, so looking for those alone goes
/// several times faster over a long text than looking for the whole tag.
fn places<'t>(text: &'t str, tag: &'t str) -> impl DoubleEndedIterator<Item = usize> + 't {
    let first = tag.chars().next().unwrap_or_default();
    text.match_indices(first).map(|(at, _)| at).filter(move |&at| text[at..].starts_with(tag))
}

/// Whether `text` is how a number prints: no plus sign, no leading zero, no "-0".
fn is_plain(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    digits == "0" && text == "0"
        || !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(response: &str, strict: Option<&str>, robust: Option<&str>) {
        assert_eq!(Extraction::Strict.boxed(response), strict, "{response:?}");
        assert_eq!(Extraction::Robust.boxed(response), robust, "{response:?}");
    }

    #[test]
    fn boxes_are_found() {
        check("\\boxed{5}", Some("5"), None);
        check("<answer>\\boxed{5}</answer>", Some("5"), Some("5"));
        check("\\boxed{1} <answer>\\boxed{2} \\boxed{ 3 }</answer>", Some("1"), Some("3"));
        check("<answer>\\boxed{1}</answer><answer>\\boxed{2}</answer>", Some("1"), Some("2"));
        check("<answer>\\boxed{1}", Some("1"), None);
        check("\\boxed{1", None, None);
        check("<answer>\\boxed{}</answer>", Some(""), Some(""));
        check("\\boxed{\\boxed{7}}", Some("\\boxed{7"), None);
    }

    #[test]
    fn strict_compares_text_and_robust_numbers() {
        for (inner, strict, robust) in [
            ("5", true, true),
            (" 5", false, true),
            ("+5", false, true),
            ("05", false, true),
            ("5.0", false, false),
            ("-5", false, false),
            ("", false, false),
            ("99999999999999999999999999999999999999999999999999", false, false),
        ] {
            let response = format!("<answer>\\boxed{{{inner}}}</answer>");
            assert_eq!(Extraction::Strict.is_correct(&response, 5), strict, "{inner:?}");
            assert_eq!(Extraction::Robust.is_correct(&response, 5), robust, "{inner:?}");
        }
        assert!(Extraction::Strict.is_correct("\\boxed{-12}", -12));
        assert!(!Extraction::Strict.is_correct("\\boxed{-0}", 0));
    }

    #[test]
    fn form_is_checked() {
        for (response, strict, robust) in [
            ("<think>\na\n</think>\n<answer>\nb\n</answer>", true, true),
            ("\na\n</think>\n<answer>\nb\n</answer>", true, true),
            ("a</think><answer>b</answer>\n", true, true),
            ("a</think><answer>b</answer>\nmore", true, false),
            ("a</think><answer>b</answer> more", false, false),
            ("a</think>b</think><answer>c</answer>", true, false),
            ("a</think> so <answer>c</answer>", false, false),
            ("a<answer>c</answer>", false, false),
            ("a</think><answer>c", false, false),
            ("<think><think>a</think><answer>c</answer>", true, false),
            ("", false, false),
        ] {
            assert_eq!(Extraction::Strict.has_format(response), strict, "{response:?}");
            assert_eq!(Extraction::Robust.has_format(response), robust, "{response:?}");
        }
    }
}
