//! A checkpoint's chat template: messages in, one string out, as `transformers` would render it.
//!
//! The engine is minijinja; added here are Python's string methods, `tojson` with Python's spacing, `raise_exception`,
//! `strftime_now` with a given date, and `{% generation %}` blocks, which only mark text: they are rendered through, or
//! their bytes are told.
//! Not here: the templates that come with the crate (`named_template`) and how text becomes ids (`render`).

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value as Json};

use crate::control_text::{in_message, in_object};
use crate::date::Date;
use crate::error::{Error, Result};
use crate::python_json::Dumps;
use crate::python_text;
use crate::record::Message;
use crate::tool_call::ToolCall;

/// The layout of models trained from scratch here: ChatML, no default system message.
///
/// Its special tokens are `<|im_start|>` and `<|im_end|>`; the latter ends every turn.
pub const CHATML: &str = include_str!("chat_templates/chatml.jinja");

const NAME: &str = "chat_template";
/// The same template with [`OPEN`] and [`CLOSE`] around what its generation blocks print.
const MARKED: &str = "marked_chat_template";
/// Private characters that no text should hold; it is checked.
const OPEN: char = '\u{10fffc}';
const CLOSE: char = '\u{10fffd}';
/// Tokens beside the first and the last that `tokenizer_config.json` may name and a template may print.
const OTHER_TOKENS: [&str; 5] = ["unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// A compiled chat template with the tokens and variables it may print.
#[derive(Clone)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    source: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    variables: BTreeMap<String, Value>,
    has_generation_blocks: bool,
}

impl ChatTemplate {
    /// Compiles `source`. The tokens are what the template prints for `bos_token` and `eos_token`.
    pub fn new(source: impl Into<String>, bos_token: Option<&str>, eos_token: Option<&str>) -> Result<Self> {
        let source = source.into();
        let mut environment = Environment::new();
        let syntax = minijinja::syntax::SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(template_error)?);
        environment.set_unknown_method_callback(python_text::method);
        environment.add_filter("trim", python_text::trim);
        environment.add_filter("tojson", to_json);
        environment.add_test("iterable", |value: &Value| !value.is_none() && value.try_iter().is_ok());
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("mark_generation", |text: &str| format!("{OPEN}{text}{CLOSE}"));
        let lines = with_line_feeds(&source);
        let (plain, num_blocks) = replace_generation_blocks(&lines, "if true", "endif");
        environment.add_template_owned(NAME, plain).map_err(template_error)?;
        if num_blocks > 0 {
            let (marked, _) = replace_generation_blocks(&lines, "filter mark_generation", "endfilter");
            environment.add_template_owned(MARKED, marked).map_err(template_error)?;
        }
        let template = ChatTemplate {
            environment,
            source,
            bos_token: bos_token.map(str::to_string),
            eos_token: eos_token.map(str::to_string),
            variables: BTreeMap::new(),
            has_generation_blocks: num_blocks > 0,
        };
        template.with_date(Date::default())
    }

    /// ChatML ([`CHATML`]) with `<|im_end|>` as end-of-sequence token.
    pub fn chatml() -> Result<Self> {
        ChatTemplate::named("chatml")
    }

    /// Reads `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`, from a checkpoint folder.
    ///
    /// The tokens that a template may print (`bos_token`, `eos_token`, `pad_token`, ...) come from
    /// `tokenizer_config.json`, as strings or as objects with `content`.
    pub fn from_folder(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = folder.as_ref();
        let config = read_json(folder, "tokenizer_config.json")?.unwrap_or_default();
        let file = folder.join("chat_template.jinja");
        let source = match std::fs::read_to_string(&file) {
            Ok(source) => source,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                template_of(&config).ok_or_else(|| Error::NoTemplate { folder: folder.to_path_buf() })?.to_string()
            }
            Err(source) => return Err(Error::file("read", &file, source)),
        };
        let template = ChatTemplate::new(source, token_text(&config, "bos_token"), token_text(&config, "eos_token"))?;
        let others = OTHER_TOKENS.iter().filter_map(|&name| Some((name, token_text(&config, name)?)));
        Ok(others.fold(template, |template, (name, token)| template.with_variable(name, Json::from(token))))
    }

    /// The same template at another date, for `strftime_now`. The default is [`Date::default`].
    pub fn with_date(mut self, date: Date) -> Result<Self> {
        date.validate()?;
        self.environment.add_function("strftime_now", move |pattern: &str| {
            date.format(pattern).map_err(|directive| {
                let message = format!("strftime_now: the directive `{directive}` is not supported");
                minijinja::Error::new(ErrorKind::InvalidOperation, message)
            })
        });
        Ok(self)
    }

    /// The same template with one more variable, such as `enable_thinking`.
    pub fn with_variable(mut self, name: impl Into<String>, value: Json) -> Self {
        self.variables.insert(name.into(), Value::from(Serde(value)));
        self
    }

    /// Text of a conversation; with `add_generation_prompt` it ends where the assistant is to begin.
    ///
    /// [`Error::Template`] holds the message of `raise_exception` where the template refuses the conversation.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        self.render_with(messages, add_generation_prompt, &Map::new())
    }

    /// [`ChatTemplate::render`] with variables for this call alone, which go before those of the template.
    ///
    /// Such as `enable_thinking`, `date_string`, `tools` and `documents` (the last two are none unless given), or
    /// whatever else the template reads.
    pub fn render_with(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &Map<String, Json>,
    ) -> Result<String> {
        self.print(NAME, messages, add_generation_prompt, variables)
    }

    fn print(
        &self,
        name: &str,
        messages: &[Message],
        add_generation_prompt: bool,
        variables: &Map<String, Json>,
    ) -> Result<String> {
        let mut context = BTreeMap::new();
        for name in ["tools", "documents"] {
            context.insert(name.to_string(), Value::from(()));
        }
        for (name, token) in [("bos_token", &self.bos_token), ("eos_token", &self.eos_token)] {
            if let Some(token) = token {
                context.insert(name.to_string(), Value::from(token.as_str()));
            }
        }
        context.extend(self.variables.iter().map(|(name, value)| (name.clone(), value.clone())));
        context.extend(variables.iter().map(|(name, value)| (name.clone(), Value::from(Serde(value)))));
        let shown: Vec<Shown> = messages.iter().map(Shown).collect();
        context.insert("messages".into(), Value::from(Serde(shown)));
        context.insert("add_generation_prompt".into(), Value::from(add_generation_prompt));
        let template = self.environment.get_template(name).map_err(template_error)?;
        template.render(Value::from(context)).map_err(template_error)
    }

    /// Text of a conversation whose last message is unfinished, cut where it is to be continued.
    ///
    /// It does what `continue_final_message` does in `transformers`: where the template trims the message, the text ends
    /// without white space. [`Error::Template`] if the conversation is empty or the template rewrites the message.
    pub fn render_prefill(&self, messages: &[Message]) -> Result<String> {
        self.render_prefill_with(messages, &Map::new())
    }

    /// [`ChatTemplate::render_prefill`] with variables for this call alone, as for [`ChatTemplate::render_with`].
    pub fn render_prefill_with(&self, messages: &[Message], variables: &Map<String, Json>) -> Result<String> {
        let refuse = |message: &str| Error::Template { message: message.to_string() };
        let Some((last, _)) = messages.split_last() else {
            return Err(refuse("there is no message to continue"));
        };
        let mark = mark_absent_from(messages, variables, &self.source);
        let mut marked = messages.to_vec();
        marked[messages.len() - 1].content = format!("{}{mark} ", last.content);
        let text = self.render_with(&marked, false, variables)?;
        let written = last.content.trim_matches(python_text::is_space);
        let cut = text.rfind(&mark).filter(|_| text.contains(written));
        let cut = cut.ok_or_else(|| refuse("it rewrites the last message, so that message cannot be continued"))?;
        let (before, after) = text.split_at(cut);
        let kept = after[mark.len()..].starts_with(' ');
        Ok(if kept { before } else { before.trim_end_matches(python_text::is_space) }.to_string())
    }

    /// Whether the template says with `{% generation %}` blocks what the assistant writes.
    pub fn has_generation_blocks(&self) -> bool {
        self.has_generation_blocks
    }

    /// Bytes of `text`, a whole conversation as rendered with the same arguments, that generation blocks print, in their
    /// order; empty blocks are left out.
    ///
    /// [`Error::Template`] where blocks stand inside each other or their text is changed after them, so that they mark
    /// nothing.
    pub(crate) fn generation_spans(
        &self,
        messages: &[Message],
        variables: &Map<String, Json>,
        text: &str,
    ) -> Result<Vec<Range<usize>>> {
        if !self.has_generation_blocks {
            return Ok(Vec::new());
        }
        let marked = self.print(MARKED, messages, false, variables)?;
        let refuse = || Error::Template {
            message: "its generation blocks do not print whole pieces of the text, so they cannot say what is trained"
                .into(),
        };
        let (mut plain, mut spans, mut open) = (String::with_capacity(marked.len()), Vec::new(), None);
        for piece in marked.split_inclusive([OPEN, CLOSE]) {
            let at = plain.len() + piece.trim_end_matches([OPEN, CLOSE]).len();
            plain.push_str(piece.trim_end_matches([OPEN, CLOSE]));
            match (piece.chars().next_back(), open) {
                (Some(OPEN), None) => open = Some(at),
                (Some(CLOSE), Some(start)) => {
                    open = None;
                    spans.push(start..at);
                }
                (Some(OPEN), Some(_)) | (Some(CLOSE), None) => return Err(refuse()),
                _ => {}
            }
        }
        if open.is_some() || plain != text {
            return Err(refuse());
        }
        spans.retain(|span| !span.is_empty());
        Ok(spans)
    }

    /// The template as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What the template prints for `bos_token`.
    pub fn bos_token(&self) -> Option<&str> {
        self.bos_token.as_deref()
    }

    /// What the template prints for `eos_token`.
    pub fn eos_token(&self) -> Option<&str> {
        self.eos_token.as_deref()
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}

/// A JSON object in a file of a folder, if there is that file.
pub(crate) fn read_json(folder: &Path, name: &str) -> Result<Option<Map<String, Json>>> {
    let path = folder.join(name);
    match std::fs::read_to_string(&path) {
        Ok(text) => serde_json::from_str(&text).map(Some).map_err(|source| Error::Json { path, source }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::file("read", &path, source)),
    }
}

/// The template of a configuration: a string, or the one named `default` of a list.
fn template_of(config: &Map<String, Json>) -> Option<&str> {
    match config.get("chat_template")? {
        Json::String(source) => Some(source),
        Json::Array(named) => named.iter().find(|entry| entry["name"] == "default")?["template"].as_str(),
        _ => None,
    }
}

fn token_text<'a>(config: &'a Map<String, Json>, name: &str) -> Option<&'a str> {
    let token = config.get(name)?;
    token.as_str().or_else(|| token.get("content")?.as_str())
}

fn template_error(error: minijinja::Error) -> Error {
    let mut message = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(&error);
    while let Some(inner) = cause {
        message += &format!(": {inner}");
        cause = inner.source();
    }
    Error::Template { message }
}

fn raise_exception(message: String) -> std::result::Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// Python's `json.dumps` with the keyword arguments that `transformers` passes on.
fn to_json(value: Value, options: Kwargs) -> std::result::Result<Value, minijinja::Error> {
    let refuse = |message: String| minijinja::Error::new(ErrorKind::InvalidOperation, format!("tojson: {message}"));
    if value.is_undefined() {
        return Err(refuse("the value is undefined".into()));
    }
    let indent = match options.get::<Option<Value>>("indent")? {
        Some(indent) if indent.is_none() => None,
        Some(indent) => match indent.as_str() {
            Some(text) => Some(text.to_string()),
            None => Some(" ".repeat(usize::try_from(indent)?)),
        },
        None => None,
    };
    let mut dumps = Dumps::new(indent);
    dumps.sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    dumps.ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    if let Some(separators) = options.get::<Option<Vec<String>>>("separators")? {
        let [item, key] = <[String; 2]>::try_from(separators).map_err(|_| refuse("separators must be two".into()))?;
        (dumps.item_separator, dumps.key_separator) = (item, key);
    }
    options.assert_all_used()?;
    let json = serde_json::to_value(&value).map_err(|error| refuse(error.to_string()))?;
    Ok(Value::from(dumps.dumps(&json)))
}

/// A template's lines end with a line feed alone, whatever the file says, and so do the texts it prints.
fn with_line_feeds(source: &str) -> String {
    source.replace("\r\n", "\n").replace('\r', "\n")
}

/// Letters that occur nowhere in the messages, the variables and the template.
pub(crate) fn mark_absent_from(messages: &[Message], variables: &Map<String, Json>, template: &str) -> String {
    let mut mark = "QXZJ".to_string();
    let holds = |mark: &str| {
        let holds = |text: &str| text.contains(mark);
        holds(template) || in_object(variables, &holds) || messages.iter().any(|message| in_message(message, &holds))
    };
    while holds(&mark) {
        mark.push_str("KVWY");
    }
    mark
}

/// A message as templates see it: without its weight, and a thought under both names that templates read, as in
/// `transformers`.
struct Shown<'a>(&'a Message);

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Message { role, content, reasoning_content, tool_calls, tool_call_id, name, weight: _ } = self.0;
        serializer.collect_map(
            [
                reasoning_content.as_ref().map(|text| ("thinking", Part::Text(text))),
                Some(("role", Part::Text(role.as_str()))),
                Some(("content", Part::Text(content))),
                reasoning_content.as_ref().map(|text| ("reasoning_content", Part::Text(text))),
                (!tool_calls.is_empty()).then_some(("tool_calls", Part::Calls(tool_calls))),
                tool_call_id.as_ref().map(|text| ("tool_call_id", Part::Text(text))),
                name.as_ref().map(|text| ("name", Part::Text(text))),
            ]
            .into_iter()
            .flatten(),
        )
    }
}

#[derive(Serialize)]
#[serde(untagged)]
enum Part<'a> {
    Text(&'a str),
    Calls(&'a [ToolCall]),
}

/// Replaces `{% generation %}` and its end by other tags, white-space marks kept; with the number of blocks.
fn replace_generation_blocks(source: &str, begin: &str, end: &str) -> (String, usize) {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    let mut num_blocks = 0;
    while let Some(start) = rest.find("{%") {
        let Some(length) = rest[start..].find("%}") else { break };
        let inside = &rest[start + 2..start + length];
        let word = inside.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+');
        out.push_str(&rest[..start + 2]);
        match word {
            "generation" => {
                num_blocks += 1;
                out.push_str(&inside.replace(word, begin));
            }
            "endgeneration" => out.push_str(&inside.replace(word, end)),
            _ => out.push_str(inside),
        }
        rest = &rest[start + length..];
    }
    (out + rest, num_blocks)
}
