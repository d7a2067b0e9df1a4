//! JSON text as Python's `json.dumps` writes it, which chat templates were written against.

use serde_json::Value;

/// The keyword arguments of `json.dumps` that chat templates use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dumps {
    /// Text of one level of indentation; `None` writes one line.
    pub indent: Option<String>,
    /// Between items; Python's default is `", "` on one line and `","` with indentation.
    pub item_separator: String,
    /// Between key and value.
    pub key_separator: String,
    pub sort_keys: bool,
    pub ensure_ascii: bool,
}

impl Dumps {
    /// Python's defaults for this indentation, but with `ensure_ascii=False`, as chat templates are given it.
    pub fn new(indent: Option<String>) -> Self {
        let item_separator = if indent.is_some() { "," } else { ", " }.to_string();
        Dumps { indent, item_separator, key_separator: ": ".to_string(), sort_keys: false, ensure_ascii: false }
    }

    pub fn dumps(&self, value: &Value) -> String {
        let mut out = String::new();
        self.write(value, 0, &mut out);
        out
    }

    fn write(&self, value: &Value, depth: usize, out: &mut String) {
        match value {
            Value::Null => out.push_str("null"),
            Value::Bool(flag) => out.push_str(if *flag { "true" } else { "false" }),
            Value::Number(number) => match number.as_f64() {
                Some(float) if number.is_f64() => out.push_str(&float_repr(float)),
                _ => out.push_str(&number.to_string()),
            },
            Value::String(text) => self.write_string(text, out),
            Value::Array(items) => {
                self.write_items('[', ']', items, depth, out, |item, out| self.write(item, depth + 1, out));
            }
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                if self.sort_keys {
                    entries.sort_by_key(|(key, _)| *key);
                }
                self.write_items('{', '}', &entries, depth, out, |(key, value), out| {
                    self.write_string(key, out);
                    out.push_str(&self.key_separator);
                    self.write(value, depth + 1, out);
                });
            }
        }
    }

    fn write_items<T>(
        &self,
        open: char,
        close: char,
        items: &[T],
        depth: usize,
        out: &mut String,
        write: impl Fn(&T, &mut String),
    ) {
        out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                out.push_str(&self.item_separator);
            }
            self.new_line(depth + 1, out);
            write(item, out);
        }
        if !items.is_empty() {
            self.new_line(depth, out);
        }
        out.push(close);
    }

    fn new_line(&self, depth: usize, out: &mut String) {
        if let Some(indent) = &self.indent {
            out.push('\n');
            out.push_str(&indent.repeat(depth));
        }
    }

    fn write_string(&self, text: &str, out: &mut String) {
        out.push('"');
        for char in text.chars() {
            match char {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                control if (control as u32) < 0x20 => push_escape(control as u16, out),
                other if self.ensure_ascii && !(' '..='~').contains(&other) => {
                    other.encode_utf16(&mut [0; 2]).iter().for_each(|&unit| push_escape(unit, out));
                }
                other => out.push(other),
            }
        }
        out.push('"');
    }
}

fn push_escape(unit: u16, out: &mut String) {
    out.push_str(&format!("\\u{unit:04x}"));
}

/// Python's `repr` of a finite float: shortest digits, exponent form below 1e-4 and from 1e16 on.
fn float_repr(value: f64) -> String {
    let scientific = format!("{value:e}");
    let Some((digits, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(power) if value != 0.0 && !(-4..16).contains(&power) => {
            let sign = if power < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", power.abs())
        }
        _ => {
            let plain = format!("{value}");
            if plain.contains('.') { plain } else { plain + ".0" }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Expected texts are what CPython 3.11 prints for `repr` of these literals.
    #[test]
    fn floats_print_as_in_python() {
        for (value, text) in [
            (0.0, "0.0"),
            (1.0, "1.0"),
            (-2.5, "-2.5"),
            (0.1, "0.1"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (1.5e-7, "1.5e-07"),
            (123456789012345680.0, "1.2345678901234568e+17"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1e100, "1e+100"),
        ] {
            assert_eq!(float_repr(value), text);
        }
    }

    /// Expected texts are those of CPython 3.11 `json.dumps`.
    #[test]
    fn dumps_follows_its_arguments() {
        let value = json!({"b": [1, {}, []], "a": "é\u{7f}\u{1}\"𝄞"});
        assert_eq!(Dumps::new(None).dumps(&value), "{\"b\": [1, {}, []], \"a\": \"é\u{7f}\\u0001\\\"𝄞\"}");
        let ascii = Dumps { ensure_ascii: true, sort_keys: true, ..Dumps::new(None) };
        assert_eq!(ascii.dumps(&value), r#"{"a": "\u00e9\u007f\u0001\"\ud834\udd1e", "b": [1, {}, []]}"#);
        assert_eq!(
            Dumps::new(Some("  ".into())).dumps(&json!({"b": [1, 2], "c": {}})),
            "{\n  \"b\": [\n    1,\n    2\n  ],\n  \"c\": {}\n}"
        );
    }
}
