//! Writing SVG elements with short, reproducible numbers.

use std::fmt::Write;

use crate::plot::Size;
use crate::plot::drawing::{Drawing, Shape};

const FONT: &str = "system-ui, -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif";

/// The whole picture.
pub(super) fn to_text(drawing: &Drawing) -> String {
    let mut out = String::new();
    let Size { width, height } = drawing.size;
    let (width, height) = (number(width), number(height));
    push(
        &mut out,
        format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
             viewBox=\"0 0 {width} {height}\" role=\"img\" font-family=\"{FONT}\">\n"
        ),
    );
    write_content(&mut out, drawing);
    out
}

/// Title, white ground and shapes, and the end of the element that the caller has opened.
fn write_content(out: &mut String, drawing: &Drawing) {
    let (width, height) = (number(drawing.size.width), number(drawing.size.height));
    push(out, format_args!("<title>{}</title>\n", escape(&drawing.title)));
    push(out, format_args!("<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"));
    drawing.shapes.iter().for_each(|shape| write_shape(out, shape));
    out.push_str("</svg>\n");
}

fn write_shape(out: &mut String, shape: &Shape) {
    match shape {
        Shape::Line { from, to, stroke, width, dash } => {
            let (x1, y1, x2, y2) = (number(from.0), number(from.1), number(to.0), number(to.1));
            let (width, dash) = (number(*width), dash_attribute(dash));
            push(
                out,
                format_args!(
                    "<line x1=\"{x1}\" y1=\"{y1}\" x2=\"{x2}\" y2=\"{y2}\" stroke=\"{stroke}\" stroke-width=\"{width}\"{dash}/>\n"
                ),
            );
        }
        Shape::Rect { corner, size, fill, opacity } => {
            let (x, y, width, height) = (number(corner.0), number(corner.1), number(size.width), number(size.height));
            let opacity = opacity_attribute("fill", *opacity);
            push(
                out,
                format_args!(
                    "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" fill=\"{fill}\"{opacity}/>\n"
                ),
            );
        }
        Shape::Circle { center, radius, fill } => {
            let (x, y, radius) = (number(center.0), number(center.1), number(*radius));
            push(out, format_args!("<circle cx=\"{x}\" cy=\"{y}\" r=\"{radius}\" fill=\"{fill}\"/>\n"));
        }
        Shape::Polyline { points, stroke } => {
            let (path, width, dash) = (path(points), number(stroke.width), dash_attribute(stroke.dash));
            let (color, opacity) = (stroke.color, opacity_attribute("stroke", stroke.opacity));
            push(
                out,
                format_args!(
                    "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{width}\" stroke-linejoin=\"round\"{dash}{opacity}/>\n"
                ),
            );
        }
        Shape::Polygon { points, fill, opacity } => {
            let (path, opacity) = (path(points), opacity_attribute("fill", *opacity));
            push(out, format_args!("<path d=\"{path}Z\" fill=\"{fill}\"{opacity}/>\n"));
        }
        Shape::Text { at, style, text } => {
            let (x, y, size) = (number(at.0), number(at.1), number(style.size));
            let weight = if style.is_bold { " font-weight=\"600\"" } else { "" };
            let turn = match style.rotation {
                0.0 => String::new(),
                angle => format!(" transform=\"rotate({} {x} {y})\"", number(angle)),
            };
            let (anchor, color, text) = (style.anchor, style.color, escape(text));
            push(
                out,
                format_args!(
                    "<text x=\"{x}\" y=\"{y}\" font-size=\"{size}\" text-anchor=\"{anchor}\" fill=\"{color}\"{weight}{turn}>{text}</text>\n"
                ),
            );
        }
        Shape::BeginWindow { corner, size } => {
            // A nested element clips without an id, which could collide with other charts on the same page.
            let (x, y, width, height) = (number(corner.0), number(corner.1), number(size.width), number(size.height));
            push(
                out,
                format_args!(
                    "<svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" viewBox=\"{x} {y} {width} {height}\" overflow=\"hidden\">\n"
                ),
            );
        }
        Shape::EndWindow => out.push_str("</svg>\n"),
        Shape::Inset { corner, drawing } => {
            let (x, y) = (number(corner.0), number(corner.1));
            let (width, height) = (number(drawing.size.width), number(drawing.size.height));
            push(
                out,
                format_args!(
                    "<svg x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n"
                ),
            );
            write_content(out, drawing);
        }
    }
}

fn push(out: &mut String, text: std::fmt::Arguments) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
}

/// At most two decimals, no trailing zeros, no negative zero.
fn number(value: f64) -> String {
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

fn opacity_attribute(what: &str, opacity: f64) -> String {
    if opacity == 1.0 { String::new() } else { format!(" {what}-opacity=\"{}\"", number(opacity)) }
}
