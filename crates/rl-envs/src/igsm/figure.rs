//! A dependency graph as a drawing (SVG): what the solution computes from what, row by row, and what is beside it.

use std::fmt::Write;

use super::parameter::{MAX_PARAMETERS, Parameter};
use super::problem::Problem;

const BOX_WIDTH: usize = 190;
const BOX_HEIGHT: usize = 46;
const GAP_X: usize = 16;
const GAP_Y: usize = 54;
const MARGIN: usize = 20;

/// Draws `problem`: a box per quantity with what it counts and its value, below all it is computed from. Boxes are blue for
/// stated quantities, green for abstract ones, grey for what the solution does not need; the query has a thick border.
pub fn dependency_svg(problem: &Problem) -> String {
    let rows = rows(problem);
    let widest = rows.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let width = 2 * MARGIN + widest * (BOX_WIDTH + GAP_X) - GAP_X;
    let height = 2 * MARGIN + rows.len() * (BOX_HEIGHT + GAP_Y) - GAP_Y;
    let mut corners = [(0, 0); MAX_PARAMETERS];
    for (depth, row) in rows.iter().enumerate() {
        let indent = (widest - row.len()) * (BOX_WIDTH + GAP_X) / 2;
        for (place, parameter) in row.iter().enumerate() {
            corners[parameter.index()] =
                (MARGIN + indent + place * (BOX_WIDTH + GAP_X), MARGIN + depth * (BOX_HEIGHT + GAP_Y));
        }
    }
    let mut svg = String::with_capacity(4096);
    // Writing to a string cannot fail.
    let _ = writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11">"#
    );
    let _ = writeln!(svg, r##"<rect width="{width}" height="{height}" fill="#ffffff"/>"##);
    for &parameter in problem.parameters() {
        let (x, y) = corners[parameter.index()];
        for parent in problem.parents(parameter) {
            let (from_x, from_y) = corners[parent.index()];
            let _ = writeln!(
                svg,
                r##"<line x1="{}" y1="{}" x2="{}" y2="{y}" stroke="#555555"/>"##,
                from_x + BOX_WIDTH / 2,
                from_y + BOX_HEIGHT,
                x + BOX_WIDTH / 2
            );
        }
    }
    for &parameter in problem.parameters() {
        let (x, y) = corners[parameter.index()];
        let fill = if problem.redundant().contains(&parameter) {
            "#e0e0e0"
        } else if parameter.is_instance() {
            "#cfe2f3"
        } else {
            "#d9ead3"
        };
        let border = if parameter == problem.query() { 3 } else { 1 };
        let reference = problem.reference(parameter);
        let name = |thing| problem.vocabulary().name(thing);
        let (thing, container) = (name(reference.thing), name(reference.container));
        let _ = writeln!(
            svg,
            r##"<rect x="{x}" y="{y}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="6" fill="{fill}" stroke="#333333" stroke-width="{border}"/>"##
        );
        let center = x + BOX_WIDTH / 2;
        let _ = writeln!(svg, r#"<text x="{center}" y="{}" text-anchor="middle">{thing} in</text>"#, y + 14);
        let _ = writeln!(svg, r#"<text x="{center}" y="{}" text-anchor="middle">{container}</text>"#, y + 27);
        let _ = writeln!(
            svg,
            r#"<text x="{center}" y="{}" text-anchor="middle" font-weight="bold">{}</text>"#,
            y + 41,
            problem.value(parameter)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// Parameters by depth: the longest way from a quantity that is computed from nothing.
fn rows(problem: &Problem) -> Vec<Vec<Parameter>> {
    let mut depths = [0; MAX_PARAMETERS];
    let mut rows: Vec<Vec<Parameter>> = Vec::new();
    for &parameter in problem.parameters() {
        let below = problem.parents(parameter).iter().map(|parent| depths[parent.index()] + 1);
        let depth = below.max().unwrap_or(0);
        depths[parameter.index()] = depth;
        if rows.len() <= depth {
            rows.resize(depth + 1, Vec::new());
        }
        rows[depth].push(parameter);
    }
    rows
}
