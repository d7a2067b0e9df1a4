//! Text that a policy should never write and sooner or later does: to fuzz environments and parsers with.
//!
//! Every text is a function of (seed, index). About one in a thousand is as long as a megabyte.

use rl_core::random::RandomKey;

/// Length of the longest texts in bytes, give or take one piece.
pub const LONGEST: usize = 1 << 20;
/// One text in so many is long.
const LONG_EVERY: u64 = 1024;
/// Length of most texts in bytes, at most.
const USUAL: u64 = 400;

const SYMBOLS: &[u8] = b"0123456789+-*/()=,.:\"'[]{}\\ \n";
const CONTROL: &[char] = &['\0', '\u{1b}', '\u{7f}', '\u{85}', '\u{2028}', '\r', '\u{feff}'];
const INVISIBLE: &[char] = &['\u{200b}', '\u{200d}', '\u{202e}', '\u{2066}', '\u{feff}', '\0', '\u{fffd}'];
const LOOKALIKES: &[char] = &['٤', '²', '½', 'Ⅷ', '四', '＝', '×', '÷', '−', '（', '“', '\u{2044}'];
const AFTER_KEY: &[&str] = &["\":[", "\":\"", "\":{", "\": '", "\" : 1,", "\":\"\\\"", "\",", "\":\n"];
/// `#` stands for numbers that are all different.
const PIECES: &[&str] = &["(", ")", "((1)", "1+", "12*", "9", "#", " ", "\\", "\"", "=", "-", "\n"];
const ESCAPES: &[&str] =
    &["\\", "\\\"", "\\u0000", "\\ud800", "\\uZZZZ", "\"", "'", "\\n", "\\/", "&lt;", "%00", "${x}"];

/// The ways of being hostile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Printable ASCII.
    Ascii,
    /// Any Unicode, combining marks, direction marks and emoji included.
    Unicode,
    /// An example answer with some characters deleted, doubled, exchanged or replaced.
    Mutated,
    /// An example answer cut off.
    CutOff,
    /// Example answers one after the other.
    Repeated,
    /// An example answer with other numbers, some of them enormous.
    Numbers,
    /// Operators, digits and brackets at random.
    Symbols,
    /// Brackets, deep.
    Brackets,
    /// An example answer with a long run of one piece in some place.
    Inserted,
    /// An example answer with NUL and other control characters between.
    Control,
    /// JSON that nests, deep.
    JsonDepth,
    /// Keys and quotes of an example answer, over and over, never closed.
    JsonKeys,
    /// Escapes, broken ones and surrogates included.
    Escapes,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Kind; 13] = [
        Kind::Ascii,
        Kind::Unicode,
        Kind::Mutated,
        Kind::CutOff,
        Kind::Repeated,
        Kind::Numbers,
        Kind::Symbols,
        Kind::Brackets,
        Kind::Inserted,
        Kind::Control,
        Kind::JsonDepth,
        Kind::JsonKeys,
        Kind::Escapes,
    ];
}

/// Text `index` of `seed`. `example` is a good answer, or empty; hostile text is worst when it is nearly right.
pub fn text(seed: u64, index: u64, example: &str) -> String {
    let key = RandomKey::new(seed, "hostile").at(index);
    let kind = Kind::ALL[key.below(0, Kind::ALL.len() as u64) as usize];
    let length = if key.below(1, LONG_EVERY) == 0 { LONGEST } else { key.below(2, USUAL) as usize };
    write(kind, key.at(0), length, example)
}

/// Text of one kind with some `length` bytes.
pub fn write(kind: Kind, key: RandomKey, length: usize, example: &str) -> String {
    let example = if example.is_empty() { r#"{"answer": "12"}"# } else { example };
    let mut draws = Draws { key, next: 0 };
    match kind {
        Kind::Ascii => draws.repeat(length, |draws, text| text.push(char::from(32 + draws.below(95) as u8))),
        Kind::Unicode => draws.repeat(length, |draws, text| text.push(draws.unicode())),
        Kind::Mutated => draws.mutate(&fill(example, length.min(example.len()).max(1))),
        Kind::CutOff => {
            let whole = fill(example, length.max(1));
            let end = draws.below(whole.len() as u64 + 1) as usize;
            whole[..whole.floor_char_boundary(end)].to_string()
        }
        Kind::Repeated => draws.repeat(length.max(2 * example.len()), |_, text| text.push_str(example)),
        Kind::Numbers => draws.numbers(example, length),
        Kind::Symbols => draws.repeat(length, |draws, text| text.push(char::from(draws.pick(SYMBOLS)))),
        Kind::Brackets => {
            let (open, close) = draws.pick(&[("(", ")"), ("[", "]"), ("{", "}"), ("((", ")")]);
            let depth = length / 2;
            let inside = draws.pick(&[example, "1", ""]);
            format!("{}{inside}{}", open.repeat(depth), close.repeat(depth))
        }
        Kind::Inserted => {
            let (place, piece) = (draws.below(example.len() as u64 + 1) as usize, draws.pick(PIECES));
            let (before, after) = example.split_at(example.floor_char_boundary(place));
            let run = draws.repeat(length, |draws, text| {
                text.push_str(piece);
                if piece == "#" {
                    text.push_str(&draws.below(100_000).to_string());
                    text.push('+');
                }
            });
            format!("{before}{}{after}", run.replace('#', ""))
        }
        Kind::Control => {
            let mut text = String::new();
            for c in fill(example, length.max(1)).chars() {
                text.push(c);
                if draws.below(4) == 0 {
                    text.push(draws.pick(CONTROL));
                }
            }
            text
        }
        Kind::JsonDepth => {
            let (open, close) = draws.pick(&[("[", "]"), (r#"{"a":"#, "}"), (r#"[{"formula":"#, "}]")]);
            let depth = length / (open.len() + close.len());
            let closed = if draws.below(2) == 0 { depth } else { draws.below(depth as u64 + 1) as usize };
            format!("{}1{}", open.repeat(depth), close.repeat(closed))
        }
        Kind::JsonKeys => {
            let keys: Vec<&str> = example.split('"').skip(1).step_by(2).filter(|key| !key.is_empty()).collect();
            let key = if keys.is_empty() { "answer" } else { draws.pick(&keys) };
            let after = draws.pick(AFTER_KEY);
            draws.repeat(length, |_, text| {
                text.push('"');
                text.push_str(key);
                text.push_str(after);
            })
        }
        Kind::Escapes => draws.repeat(length, |draws, text| text.push_str(draws.pick(ESCAPES))),
    }
}

/// A stream of draws.
struct Draws {
    key: RandomKey,
    next: u64,
}

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.next += 1;
        self.key.below(self.next, bound)
    }

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// Pieces until there are `length` bytes.
    fn repeat(&mut self, length: usize, mut piece: impl FnMut(&mut Self, &mut String)) -> String {
        let mut text = String::with_capacity(length + 8);
        while text.len() < length {
            piece(self, &mut text);
        }
        text
    }

    fn unicode(&mut self) -> char {
        match self.below(6) {
            0 => char::from(32 + self.below(95) as u8),
            1 => char::from_u32(0x300 + self.below(0x70) as u32).unwrap_or('\u{300}'),
            2 => self.pick(INVISIBLE),
            3 => self.pick(LOOKALIKES),
            4 => char::from_u32(0x1f300 + self.below(0x300) as u32).unwrap_or('\u{1f0a1}'),
            _ => char::from_u32(self.below(0x11_0000) as u32).unwrap_or('\u{fffd}'),
        }
    }

    /// One to eight edits.
    fn mutate(&mut self, text: &str) -> String {
        let mut chars: Vec<char> = text.chars().collect();
        for _ in 0..=self.below(8) {
            let place = self.below(chars.len() as u64 + 1) as usize;
            let inside = place < chars.len();
            match self.below(5) {
                0 if inside => drop(chars.remove(place)),
                1 if inside => {
                    let same = chars[place];
                    chars.insert(place, same);
                }
                2 if inside => {
                    let other = self.below(chars.len() as u64) as usize;
                    chars.swap(place, other);
                }
                3 => {
                    let other = self.unicode();
                    chars.insert(place, other);
                }
                _ => {
                    let symbol = self.pick(SYMBOLS);
                    chars.insert(place, char::from(symbol));
                }
            }
        }
        chars.into_iter().collect()
    }

    /// The example with each number left, replaced by a small one, or by an enormous one.
    fn numbers(&mut self, example: &str, length: usize) -> String {
        let mut text = String::new();
        let mut rest = example;
        // However many numbers the example has, the text stays as long as was asked.
        let mut digits_left = length;
        while let Some(start) = rest.find(|c: char| c.is_ascii_digit()) {
            let end = rest[start..].find(|c: char| !c.is_ascii_digit()).map_or(rest.len(), |end| start + end);
            text.push_str(&rest[..start]);
            match self.below(3) {
                0 => text.push_str(&rest[start..end]),
                1 => text.push_str(&(self.below(30)).to_string()),
                _ => {
                    let digit = char::from(b'0' + self.below(10) as u8);
                    let digits = (length / 4).min(digits_left).max(1);
                    digits_left = digits_left.saturating_sub(digits);
                    text.extend(std::iter::repeat_n(digit, digits));
                }
            }
            rest = &rest[end..];
        }
        text + rest
    }
}

/// `example` repeated and cut to `length` bytes, or a little less where a character would break.
fn fill(example: &str, length: usize) -> String {
    let mut text = example.repeat(length.div_ceil(example.len().max(1)));
    text.truncate(text.floor_char_boundary(length));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_written_at_every_length() {
        let key = RandomKey::new(3, "test");
        for kind in Kind::ALL {
            for length in [0, 1, 2, 77, 5000] {
                for example in ["", "x", "é\"ü\"", r#"{"formula": "4*3+2+10=24"}"#] {
                    let text = write(kind, key, length, example);
                    assert_eq!(text, write(kind, key, length, example), "{kind:?} is a function of its key");
                }
            }
            for example in [r#"{"formula": "1+2"}"#.to_string(), "a = 1 + 2 = 3, ".repeat(50)] {
                assert!(write(kind, key, LONGEST, &example).len() < 8 * LONGEST, "{kind:?}");
            }
        }
    }

    #[test]
    fn kinds_and_lengths_are_all_met() {
        let texts: Vec<String> = (0..4000).map(|index| text(1, index, r#"{"formula": "4*3+2+10=24"}"#)).collect();
        assert!(texts.iter().any(|text| LONGEST <= text.len()));
        assert!(texts.iter().any(|text| text.contains('\0')) && texts.iter().any(|text| text.contains("((((")));
        assert!(texts.iter().any(|text| text.contains("[[[[")) && texts.iter().any(String::is_empty));
        assert!(texts.iter().filter(|text| text.len() < 1000).count() > 3000);
    }
}
