//! The one number of an answer.

use crate::general_points::answer::values_of;

/// A response, read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// A whole number.
    Integer(i64),
    /// A whole number beyond 64 bits, which is never right.
    TooLarge,
    /// No whole number.
    Missing,
}

/// Reads a response: the whole number behind the first quoted key `answer`, else the first whole number in the text.
///
/// A number may have a sign and may be quoted. `3.5`, `x2` and `1e3` are no whole numbers.
pub fn read_answer(response: &str) -> Answer {
    let behind_key = values_of(response, "answer").next().map(|value| {
        let inside = value.strip_prefix(['"', '\'']).unwrap_or(value);
        let end = inside.find(|c: char| !is_part(c)).unwrap_or(inside.len());
        whole(&inside[..end])
    });
    match behind_key {
        Some(answer) if answer != Answer::Missing => answer,
        _ => {
            let pieces = response.split(|c: char| !is_part(c));
            pieces.map(whole).find(|&answer| answer != Answer::Missing).unwrap_or(Answer::Missing)
        }
    }
}

/// Whether a character can be part of a number or makes what stands around it no number.
fn is_part(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '+' | '-' | '.' | '_')
}

fn whole(piece: &str) -> Answer {
    // A full stop ends a sentence.
    let piece = piece.strip_suffix('.').unwrap_or(piece);
    let digits = piece.strip_prefix(['+', '-']).unwrap_or(piece);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Answer::Missing;
    }
    piece.parse().map_or(Answer::TooLarge, Answer::Integer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_found() {
        for (response, expected) in [
            (r#"{"answer": 3}"#, Answer::Integer(3)),
            (r#"{"answer": -12,}"#, Answer::Integer(-12)),
            (r#"{'answer' : "+7"}"#, Answer::Integer(7)),
            (r#"Of 5 rows, 2 are independent: {"answer": 2}"#, Answer::Integer(2)),
            ("The rank is 4.", Answer::Integer(4)),
            (r#"{"answer": "four", "rows": 5}"#, Answer::Integer(5)),
            (r#"{"answer": 3.5}"#, Answer::Missing),
            ("x2 and 1e3 and 1_000", Answer::Missing),
            ("99999999999999999999", Answer::TooLarge),
            ("٤", Answer::Missing),
            ("--3", Answer::Missing),
            ("", Answer::Missing),
        ] {
            assert_eq!(read_answer(response), expected, "{response}");
        }
    }
}
