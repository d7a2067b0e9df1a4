//! String methods of Python where those of the template engine differ: what white space is.

use minijinja::value::Value;
use minijinja::{Error, State};

/// White space as Python's `str.isspace` sees it: Unicode's, and the four separators U+001C to U+001F.
pub(crate) fn is_space(character: char) -> bool {
    character.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&character)
}

/// The filter `trim`: Python's `str.strip`, over white space or the given characters.
pub(crate) fn trim(text: &str, characters: Option<&str>) -> String {
    strip("strip", text, characters).unwrap_or(text).to_string()
}

/// Methods of Python's strings, lists and dictionaries.
pub(crate) fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    let text = value.as_str();
    // Without an argument, or with none, these work on white space.
    if let (Some(text), true) = (text, arguments.iter().all(Value::is_none)) {
        if let Some(stripped) = strip(name, text, None) {
            return Ok(Value::from(stripped));
        }
        if name == "isspace" {
            return Ok(Value::from(!text.is_empty() && text.chars().all(is_space)));
        }
        if name == "split" {
            let words = text.split(is_space).filter(|word| !word.is_empty());
            return Ok(words.map(Value::from).collect());
        }
    }
    if let (Some(text), [only]) = (text, arguments)
        && let Some(affix) = only.as_str()
    {
        match name {
            "removeprefix" => return Ok(Value::from(text.strip_prefix(affix).unwrap_or(text))),
            "removesuffix" => return Ok(Value::from(text.strip_suffix(affix).unwrap_or(text))),
            _ => {}
        }
    }
    minijinja_contrib::pycompat::unknown_method_callback(state, value, name, arguments)
}

fn strip<'a>(method: &str, text: &'a str, characters: Option<&str>) -> Option<&'a str> {
    let cut = |character: char| match characters {
        Some(characters) => characters.contains(character),
        None => is_space(character),
    };
    match method {
        "strip" => Some(text.trim_matches(cut)),
        "lstrip" => Some(text.trim_start_matches(cut)),
        "rstrip" => Some(text.trim_end_matches(cut)),
        _ => None,
    }
}
