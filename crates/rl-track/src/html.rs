//! Self-contained HTML reports: one file without scripts, fonts or links to anything outside.

use std::fmt::Write;
use std::path::Path;

use crate::atomic::write_atomically;
use crate::error::Result;
use crate::plot::escape;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--paper:#fff;--line:#d1d9e0;--tint:#f6f8fa}
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9198a1;--paper:#0d1117;--line:#3d444d;--tint:#151b23}}
body{max-width:54rem;margin:2rem auto;padding:0 1rem;background:var(--paper);color:var(--ink);
font:16px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif}
h1{font-size:1.7rem;line-height:1.25}h2{font-size:1.3rem;margin-top:2.2rem;border-bottom:1px solid var(--line);padding-bottom:.2rem}
h3{font-size:1.05rem;margin-top:1.6rem}
.scroll{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0;font-size:.92rem;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .7rem;border-bottom:1px solid var(--line);text-align:left;vertical-align:top}th{background:var(--tint)}
.n{text-align:right}
figure{margin:1.4rem 0;overflow-x:auto}figure>svg{max-width:100%;height:auto;border:1px solid var(--line);border-radius:6px}
figcaption,.note{color:var(--soft);font-size:.9rem}
details{margin:.6rem 0;border:1px solid var(--line);border-radius:6px;padding:.4rem .8rem}summary{cursor:pointer}
pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--tint);padding:.6rem .8rem;border-radius:6px;
font:.85rem/1.45 ui-monospace,SFMono-Regular,Menlo,Consolas,monospace}
.role{font-weight:600;font-size:.85rem;color:var(--soft);margin-top:.6rem}";

/// A page that grows from top to bottom. All texts are escaped; only figures are taken as they are.
#[derive(Debug, Clone)]
pub struct Report {
    title: String,
    body: String,
}

impl Report {
    /// An empty page with a title.
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), body: format!("<h1>{}</h1>\n", escape(title)) }
    }

    /// A section heading.
    pub fn heading(&mut self, text: &str) -> &mut Self {
        self.push(format_args!("<h2>{}</h2>\n", escape(text)))
    }

    /// A heading inside a section.
    pub fn subheading(&mut self, text: &str) -> &mut Self {
        self.push(format_args!("<h3>{}</h3>\n", escape(text)))
    }

    /// A paragraph.
    pub fn paragraph(&mut self, text: &str) -> &mut Self {
        self.push(format_args!("<p>{}</p>\n", escape(text)))
    }

    /// A paragraph in small, soft print.
    pub fn note(&mut self, text: &str) -> &mut Self {
        self.push(format_args!("<p class=\"note\">{}</p>\n", escape(text)))
    }

    /// A bulleted list.
    pub fn list(&mut self, items: impl IntoIterator<Item = impl AsRef<str>>) -> &mut Self {
        let items: String = items.into_iter().map(|item| format!("<li>{}</li>\n", escape(item.as_ref()))).collect();
        self.push(format_args!("<ul>\n{items}</ul>\n"))
    }

    /// A table. Columns that hold only numbers (or nothing, or a dash) are set to the right.
    pub fn table<S: AsRef<str>>(&mut self, headers: &[&str], rows: &[Vec<S>]) -> &mut Self {
        let is_numeric: Vec<bool> = (0..headers.len())
            .map(|column| {
                let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.as_ref().trim());
                let filled: Vec<&str> = cells.filter(|cell| !matches!(*cell, "" | "-" | "–")).collect();
                !filled.is_empty() && filled.iter().all(|cell| looks_numeric(cell))
            })
            .collect();
        let class = |column: usize| if is_numeric.get(column) == Some(&true) { " class=\"n\"" } else { "" };
        let cells = |tag: &str, row: &mut dyn Iterator<Item = &str>| -> String {
            row.enumerate().map(|(column, text)| format!("<{tag}{}>{}</{tag}>", class(column), escape(text))).collect()
        };
        let head = cells("th", &mut headers.iter().copied());
        let body: String =
            rows.iter().map(|row| format!("<tr>{}</tr>\n", cells("td", &mut row.iter().map(AsRef::as_ref)))).collect();
        self.push(format_args!(
            "<div class=\"scroll\"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table></div>\n"
        ))
    }

    /// A chart with a caption. The SVG text is not escaped: pass only what [`crate::plot`] or you yourself made.
    pub fn figure(&mut self, svg: &str, caption: &str) -> &mut Self {
        let caption = escape(caption);
        self.push(format_args!("<figure>\n{svg}<figcaption>{caption}</figcaption>\n</figure>\n"))
    }

    /// Text with its line breaks kept.
    pub fn preformatted(&mut self, text: &str) -> &mut Self {
        self.push(format_args!("<pre>{}</pre>\n", escape(text)))
    }

    /// A folded block: `summary` is always visible, `text` after a click.
    pub fn details(&mut self, summary: &str, text: &str) -> &mut Self {
        let (summary, text) = (escape(summary), escape(text));
        self.push(format_args!("<details><summary>{summary}</summary>\n<pre>{text}</pre>\n</details>\n"))
    }

    /// A folded conversation of `(role, text)`.
    pub fn transcript(&mut self, summary: &str, turns: &[(&str, &str)]) -> &mut Self {
        let turn = |(role, text): &(&str, &str)| {
            format!("<div class=\"role\">{}</div>\n<pre>{}</pre>\n", escape(role), escape(text))
        };
        let (summary, turns) = (escape(summary), turns.iter().map(turn).collect::<String>());
        self.push(format_args!("<details><summary>{summary}</summary>\n{turns}</details>\n"))
    }

    /// The whole page.
    pub fn to_html(&self) -> String {
        let title = escape(&self.title);
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title}</title>\n\
             <style>\n{STYLE}\n</style>\n</head>\n<body>\n{}</body>\n</html>\n",
            self.body
        )
    }

    /// Writes the page to a file, all of it or nothing.
    pub fn write(&self, path: &Path) -> Result<()> {
        write_atomically(path, self.to_html().as_bytes())
    }

    fn push(&mut self, html: std::fmt::Arguments) -> &mut Self {
        // Writing to a string cannot fail.
        let _ = self.body.write_fmt(html);
        self
    }
}

/// `12`, `-0.5`, `61.3 %`, `[0.1, 0.2]`, `0.5 ± 0.1`: starts with a digit after signs and brackets, and has no words.
fn looks_numeric(cell: &str) -> bool {
    let body = cell.trim_start_matches(['+', '-', '−', '[', '(', '±', '<', '>', '=', '≤', '≥', ' ']);
    let has_word = body.split(|letter: char| !letter.is_alphabetic()).any(|word| word.chars().count() > 1);
    body.starts_with(|letter: char| letter.is_ascii_digit()) && !has_word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_everywhere_and_figures_are_kept() {
        let evil = "<script>alert('x')</script>";
        let mut report = Report::new(evil);
        report.heading(evil).subheading(evil).paragraph(evil).note(evil).list([evil]).preformatted(evil);
        report.table(&[evil], &[vec![evil]]).details(evil, evil).transcript(evil, &[(evil, evil)]);
        report.figure("<svg></svg>\n", evil);
        let html = report.to_html();
        assert!(!html.contains("<script"));
        assert_eq!(html.matches("&lt;script&gt;alert(&#39;x&#39;)").count(), 16);
        assert!(html.contains("<svg></svg>"));
    }

    #[test]
    fn columns_of_numbers_are_set_to_the_right() {
        let mut report = Report::new("t");
        report.table(&["model", "accuracy"], &[vec!["base", "0.51 ± 0.02"], vec!["tuned", "-"]]);
        let html = report.to_html();
        assert!(html.contains("<th>model</th><th class=\"n\">accuracy</th>"));
        assert!(html.contains("<td>tuned</td><td class=\"n\">-</td>"));
        for (cell, expected) in
            [("61.3 %", true), ("[0.1, 0.2]", true), ("3e-5", true), ("3 runs", false), ("a", false)]
        {
            assert_eq!(looks_numeric(cell), expected, "{cell}");
        }
    }
}
