//! Texts that keep to a number of columns, whatever is in them.

use crate::plot::short_number;

/// One line of the screen: pieces of text, each in one style.
#[derive(Debug, Clone, Default)]
pub(super) struct Line {
    pieces: Vec<(Style, String)>,
    width: usize,
}

/// How a piece of text looks where there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    Plain,
    Bold,
    Soft,
    Good,
    Warning,
    /// The colour of the run with this number.
    Run(usize),
}

const RUN_COLORS: [&str; 4] = ["36", "33", "32", "35"];

impl Style {
    fn code(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Bold => Some("1"),
            Self::Soft => Some("2"),
            Self::Good => Some("32"),
            Self::Warning => Some("33"),
            Self::Run(index) => Some(RUN_COLORS[index % RUN_COLORS.len()]),
        }
    }
}

impl Line {
    pub fn new(style: Style, text: &str) -> Self {
        Self::default().with(style, text)
    }

    /// Adds a text; what would break the line or move the cursor is replaced.
    pub fn with(mut self, style: Style, text: &str) -> Self {
        let clean: String = text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect();
        self.width += text_columns(&clean);
        self.pieces.push((style, clean));
        self
    }

    /// Adds another line's pieces.
    pub fn then(mut self, other: Line) -> Self {
        self.width += other.width;
        self.pieces.extend(other.pieces);
        self
    }

    /// Exactly `width` columns: cut, with a mark, or filled up.
    pub fn fit(mut self, width: usize, is_ascii: bool) -> Self {
        if self.width > width {
            self = self.cut(width, is_ascii);
        }
        let missing = width - self.width;
        self.with(Style::Plain, &" ".repeat(missing))
    }

    /// The text, with colour codes if wanted; outside ASCII only where that is allowed.
    pub fn render(&self, has_colors: bool, is_ascii: bool) -> String {
        let mut out = String::new();
        for (style, text) in &self.pieces {
            let text = if is_ascii { to_ascii(text) } else { text.clone() };
            match style.code().filter(|_| has_colors && !text.trim().is_empty()) {
                Some(code) => out.push_str(&format!("\u{1b}[{code}m{text}\u{1b}[0m")),
                None => out.push_str(&text),
            }
        }
        out.trim_end_matches(' ').to_owned()
    }

    fn cut(self, width: usize, is_ascii: bool) -> Self {
        let mark = if is_ascii { "~" } else { "…" };
        let mut room = width.saturating_sub(1);
        let mut line = Line::default();
        for (style, text) in self.pieces {
            let kept = take_columns(&text, room);
            room -= text_columns(kept);
            let is_whole = kept.len() == text.len();
            line = line.with(style, kept);
            if !is_whole {
                break;
            }
        }
        if width == 0 { line } else { line.with(Style::Soft, mark) }
    }
}

/// Breaks a text into lines of at most `width` columns, at spaces where it can; own line breaks stay.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for paragraph in text.split('\n') {
        let mut rest = paragraph.trim_end();
        loop {
            let head = take_columns(rest, width.max(2));
            if head.len() == rest.len() {
                lines.push(rest.to_owned());
                break;
            }
            // Where a line is cut inside a word that began early in it, the word moves down whole.
            let cut = head.rfind(' ').filter(|space| *space * 2 > head.len() && !rest[head.len()..].starts_with(' '));
            let (line, after) = rest.split_at(cut.unwrap_or(head.len()));
            lines.push(line.trim_end().to_owned());
            rest = after.trim_start_matches(' ');
        }
    }
    lines
}

/// A measurement in at most four significant digits; bytes in binary units.
pub(super) fn value_text(name: &str, value: f64) -> String {
    if !name.ends_with("bytes") {
        return short_number(value).replace('−', "-");
    }
    let units = ["B", "KiB", "MiB", "GiB", "TiB"];
    let step = (0..units.len() - 1).take_while(|power| value >= 1024_f64.powi(*power as i32 + 1)).count();
    format!("{} {}", short_number(value / 1024_f64.powi(step as i32)), units[step])
}

/// Columns that a text takes in a terminal.
pub(super) fn text_columns(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// The longest beginning of a text that fits.
fn take_columns(text: &str, width: usize) -> &str {
    let mut used = 0;
    for (index, letter) in text.char_indices() {
        used += columns(letter);
        if used > width {
            return &text[..index];
        }
    }
    text
}

/// Columns of a letter: none for marks over others, two for the scripts and signs of East Asia and for pictures.
fn columns(letter: char) -> usize {
    match letter {
        '\u{0300}'..='\u{036f}' | '\u{200b}'..='\u{200f}' | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

/// The same columns in ASCII: a letter outside it becomes question marks.
fn to_ascii(text: &str) -> String {
    let letters = text.chars().flat_map(|letter| match letter {
        '·' => vec!['|'],
        '…' => vec!['~'],
        letter if letter.is_ascii() => vec![letter],
        other => vec!['?'; columns(other)],
    });
    letters.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_columns_it_is_given() {
        for text in ["short", "a long text that does not fit at all", "漢字かな交じり文", "e\u{301}a\u{1b}[31m\tb"]
        {
            for width in 0..12 {
                for is_ascii in [false, true] {
                    let line = Line::new(Style::Plain, text).fit(width, is_ascii);
                    let shown = line.render(false, is_ascii);
                    assert!(text_columns(&shown) <= width, "{shown:?} {width}");
                    assert_eq!(line.width, width, "{shown:?}");
                    assert!(!shown.contains(['\u{1b}', '\t']) && (!is_ascii || shown.is_ascii()));
                }
            }
        }
        assert_eq!(Line::new(Style::Plain, "abcdef").fit(4, false).render(false, false), "abc…");
        assert_eq!(Line::new(Style::Bold, "ab").fit(4, false).render(true, false), "\u{1b}[1mab\u{1b}[0m");
    }

    #[test]
    fn wrapping_keeps_words_where_it_can_and_all_letters_always() {
        assert_eq!(wrap("one two three", 8), ["one two", "three"]);
        assert_eq!(wrap("a\n\nb", 8), ["a", "", "b"]);
        assert_eq!(wrap("abcdefghij", 4), ["abcd", "efgh", "ij"]);
        assert_eq!(wrap("漢字漢字", 4), ["漢字", "漢字"]);
    }

    #[test]
    fn bytes_are_told_in_their_unit() {
        let table = [
            ("peak_bytes", 1.5 * 1024_f64.powi(3), "1.5 GiB"),
            ("peak_bytes", 100.0, "100 B"),
            ("loss", -0.25, "-0.25"),
        ];
        for (name, value, expected) in table {
            assert_eq!(value_text(name, value), expected);
        }
    }
}
