//! Sequences as one page that needs nothing else.

use super::{Piece, Sequence, push_visible, role_name};

const HEAD: &str = r#"<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222;background:#fff}
pre{white-space:pre-wrap;overflow-wrap:anywhere;font:13px/1.6 ui-monospace,monospace;border:1px solid #ccc;padding:.7rem}
pre span{border-left:1px solid #0002}.trained{text-decoration:underline;text-underline-offset:3px;font-weight:600}
.template{color:#777}.system{background:#f3e3f7}.user{background:#dff1fb}.assistant{background:#e2f5e1}.tool{background:#fbf1d0}
@media(prefers-color-scheme:dark){body{color:#ddd;background:#191919}pre{border-color:#555}pre span{border-color:#fff2}
.template{color:#999}.system{background:#4a2d52}.user{background:#1f4257}.assistant{background:#23472a}.tool{background:#564713}}
</style>
"#;

/// A whole HTML page: `figures` as text, then every sequence; each token is a box that tells its id and role when pointed at.
pub fn page(title: &str, figures: &str, sequences: &[Sequence]) -> String {
    let mut out = HEAD.to_string();
    out.push_str(&format!("<title>{0}</title></head><body><h1>{0}</h1>\n", escaped(title)));
    out.push_str(&format!("<pre>{}</pre>\n<p>", escaped(figures)));
    for role in ["template", "system", "user", "assistant", "tool"] {
        out.push_str(&format!("<span class=\"{role}\">{role}</span> "));
    }
    out.push_str("<span class=\"trained\">trained</span></p>\n");
    for sequence in sequences {
        out.push_str(&format!("<h2>{}</h2>\n<pre dir=\"auto\">", escaped(&sequence.headline())));
        sequence.pieces.iter().for_each(|piece| push_token(piece, &mut out));
        out.push_str("</pre>\n");
    }
    out + "</body></html>\n"
}

fn push_token(piece: &Piece, out: &mut String) {
    let role = role_name(piece.role);
    let (class, target) = if piece.trained { (" trained", ", trained") } else { ("", "") };
    let mut visible = String::new();
    piece.text.chars().for_each(|character| push_visible(character, &mut visible));
    let text = escaped(&visible);
    out.push_str(&format!("<span class=\"{role}{class}\" title=\"{}: {role}{target}\">{text}</span>", piece.id));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::super::tests::sequence;
    use super::*;
    use crate::record::Role;

    #[test]
    fn text_of_rows_cannot_become_markup() {
        let rows =
            [sequence(&[("<script>&\"", Some(Role::User), false), ("<|im_end|>\n", Some(Role::Assistant), true)])];
        let page = page("a <b>", "3 < 4", &rows);
        assert!(page.contains("<h1>a &lt;b&gt;</h1>") && page.contains("<pre>3 &lt; 4</pre>"), "{page}");
        assert!(page.contains("<span class=\"user\" title=\"0: user\">&lt;script&gt;&amp;&quot;</span>"), "{page}");
        let trained =
            "<span class=\"assistant trained\" title=\"1: assistant, trained\">&lt;|im_end|&gt;\u{23ce}\n</span>";
        assert!(page.contains(trained), "{page}");
        assert!(!page.contains("<script") && !page.contains("http"), "a page that loads nothing");
    }
}
