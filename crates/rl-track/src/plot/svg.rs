//! Writing SVG elements with short, reproducible numbers.

use std::fmt::Write;

pub(super) const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";

/// SVG text under construction.
pub(super) struct Svg {
    out: String,
}

/// How a text is set.
#[derive(Clone, Copy)]
pub(super) struct TextStyle {
    pub size: f64,
    pub color: &'static str,
    /// `start`, `middle` or `end`.
    pub anchor: &'static str,
    pub is_bold: bool,
    /// Degrees, clockwise, around the text's own point.
    pub rotation: f64,
}

impl TextStyle {
    pub fn new(size: f64, color: &'static str, anchor: &'static str) -> Self {
        Self { size, color, anchor, is_bold: false, rotation: 0.0 }
    }
}

impl Svg {
    pub fn new(width: f64, height: f64, title: &str) -> Self {
        let mut svg = Self { out: String::new() };
        let (width, height) = (number(width), number(height));
        svg.push(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"{FONT}\">\n"
        ));
        svg.push(format_args!("<title>{}</title>\n", escape(title)));
        svg.push(format_args!("<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"));
        svg
    }

    pub fn finish(mut self) -> String {
        self.out.push_str("</svg>\n");
        self.out
    }

    /// Begins a window that clips its content; coordinates inside are those of the whole chart.
    pub fn begin_window(&mut self, x: f64, y: f64, width: f64, height: f64) {
        // A nested element clips without an id, which could collide with other charts on the same page.
        let (x, y, width, height) = (number(x), number(y), number(width), number(height));
        self.push(format_args!(
            "<svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" viewBox=\"{x} {y} {width} {height}\" overflow=\"hidden\">\n"
        ));
    }

    pub fn end_window(&mut self) {
        self.out.push_str("</svg>\n");
    }

    pub fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: &str, width: f64, dash: &str) {
        let (x1, y1, x2, y2) = (number(from.0), number(from.1), number(to.0), number(to.1));
        let (width, dash) = (number(width), dash_attribute(dash));
        self.push(format_args!(
            "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{stroke}\" stroke-width=\"{width}\"{dash}/>\n"
        ));
    }

    pub fn rect(&mut self, corner: (f64, f64), width: f64, height: f64, fill: &str, opacity: f64) {
        let (x, y, width, height) = (number(corner.0), number(corner.1), number(width), number(height));
        let opacity = opacity_attribute(opacity);
        self.push(format_args!(
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"{opacity}/>\n"
        ));
    }

    pub fn circle(&mut self, center: (f64, f64), radius: f64, fill: &str) {
        let (x, y, radius) = (number(center.0), number(center.1), number(radius));
        self.push(format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{fill}\"/>\n"));
    }

    pub fn polyline(&mut self, points: &[(f64, f64)], stroke: &str, width: f64, dash: &str) {
        let (path, width, dash) = (path(points), number(width), dash_attribute(dash));
        self.push(format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{stroke}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}/>\n"
        ));
    }

    pub fn polygon(&mut self, points: &[(f64, f64)], fill: &str, opacity: f64) {
        let (path, opacity) = (path(points), opacity_attribute(opacity));
        self.push(format_args!("<path d=\"{path}Z\" fill=\"{fill}\"{opacity}/>\n"));
    }

    pub fn text(&mut self, at: (f64, f64), style: TextStyle, text: &str) {
        let (x, y, size) = (number(at.0), number(at.1), number(style.size));
        let weight = if style.is_bold { " font-weight=\"600\"" } else { "" };
        let turn = match style.rotation {
            0.0 => String::new(),
            angle => format!(" transform=\"rotate({} {x} {y})\"", number(angle)),
        };
        let (anchor, color, text) = (style.anchor, style.color, escape(text));
        self.push(format_args!(
            "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{color}\"{weight}{turn}>{text}</text>\n"
        ));
    }

    fn push(&mut self, text: std::fmt::Arguments) {
        // Writing to a string cannot fail.
        let _ = self.out.write_fmt(text);
    }
}

/// At most two decimals, no trailing zeros, no negative zero.
pub(super) fn number(value: f64) -> String {
    let text = format!("{value:.2}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if short == "-0" { "0".to_owned() } else { short.to_owned() }
}

/// Text that is safe inside an element or an attribute.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            // Control characters are not allowed in XML.
            '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => {
                out.push('\u{fffd}')
            }
            other => out.push(other),
        }
    }
    out
}

/// Estimated width of a text in pixels: without a font there are only typical letter widths.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let width = |letter: char| match letter {
        'i' | 'j' | 'l' | 't' | 'f' | 'r' | 'I' | '.' | ',' | ':' | ';' | '\'' | '!' | '|' | '(' | ')' | ' ' => 0.36,
        'm' | 'w' | 'M' | 'W' | '@' | '%' => 0.92,
        'A'..='Z' => 0.7,
        '\u{2e80}'.. => 1.0,
        _ => 0.59,
    };
    text.chars().map(width).sum::<f64>() * size
}

fn path(points: &[(f64, f64)]) -> String {
    let mut out = String::new();
    for (index, (x, y)) in points.iter().enumerate() {
        let command = if index == 0 { 'M' } else { 'L' };
        let _ = write!(out, "{command}{} {}", number(*x), number(*y));
    }
    out
}

fn dash_attribute(dash: &str) -> String {
    if dash.is_empty() { String::new() } else { format!(" stroke-dasharray=\"{dash}\"") }
}

fn opacity_attribute(opacity: f64) -> String {
    if opacity == 1.0 { String::new() } else { format!(" fill-opacity=\"{}\"", number(opacity)) }
}
