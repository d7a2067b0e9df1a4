//! Published chat templates and our own: the text and the ids that `transformers` gives, over one table of conversations.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use rl_data::*;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use crate::fixtures::path;

/// Names the folder that holds the published templates, which are not kept here.
const FOLDER: &str = "REINS_CHAT_TEMPLATES";
const NUM_CASES: usize = 772;

#[derive(Deserialize)]
struct Table {
    templates: Vec<Published>,
    conversations: Vec<Vec<Message>>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Published {
    name: String,
    file: String,
    bos_token: Option<String>,
    eos_token: Option<String>,
    tokenizer: Option<String>,
}

#[derive(Deserialize)]
struct Case {
    template: usize,
    conversation: usize,
    date: (u16, u8, u8),
    mode: String,
    variables: Map<String, Json>,
    text: Option<String>,
    left_out: Option<String>,
    ids: Option<Vec<u32>>,
    safe_ids: Option<Vec<u32>>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let table: Table = serde_json::from_str(&std::fs::read_to_string(path("chat_templates.json")).unwrap()).unwrap();
    assert_eq!(table.cases.len(), NUM_CASES);
    table
});

impl Case {
    fn render(&self, template: &ChatTemplate) -> Result<String> {
        let template = template.clone().with_date(Date::new(self.date.0, self.date.1, self.date.2)?)?;
        let messages = &TABLE.conversations[self.conversation];
        match self.mode.as_str() {
            "prompt" => template.render_with(messages, true, &self.variables),
            "whole" => template.render_with(messages, false, &self.variables),
            "prefill" => template.render_prefill(messages),
            other => panic!("unknown mode {other}"),
        }
    }

    fn describe(&self) -> String {
        let name = &TABLE.templates[self.template].file;
        format!("{name}, conversation {}, {} {:?}", self.conversation, self.mode, self.variables)
    }
}

#[test]
fn built_in_templates_print_what_the_published_ones_print() {
    let named: HashMap<&str, ChatTemplate> =
        ChatTemplate::names().map(|name| (name, ChatTemplate::named(name).unwrap())).collect();
    let (mut equal, mut refused, mut left_out) = (0, 0, 0);
    for case in &TABLE.cases {
        let rendered = case.render(&named[TABLE.templates[case.template].name.as_str()]);
        match (&case.text, &case.left_out) {
            (Some(_), Some(reason)) => {
                let error = rendered.unwrap_err().to_string();
                assert!(error.contains(reason), "{}: {error}", case.describe());
                left_out += 1;
            }
            (Some(text), None) => {
                assert_eq!(
                    &rendered.unwrap_or_else(|e| panic!("{}: {e}", case.describe())),
                    text,
                    "{}",
                    case.describe()
                );
                equal += 1;
            }
            (None, _) => {
                assert!(matches!(rendered.unwrap_err(), Error::Template { .. }), "{}", case.describe());
                refused += 1;
            }
        }
    }
    assert_eq!((named.len(), equal, refused, left_out), (5, 728, 6, 38));
}

#[test]
fn published_templates_render_as_in_transformers() {
    let Some(folder) = std::env::var_os(FOLDER).map(PathBuf::from) else {
        println!("skipped: {FOLDER} does not name a folder with the published templates");
        return;
    };
    let templates: Vec<ChatTemplate> = TABLE
        .templates
        .iter()
        .map(|published| {
            let source = std::fs::read_to_string(folder.join(&published.file)).unwrap();
            ChatTemplate::new(source, published.bos_token.as_deref(), published.eos_token.as_deref()).unwrap()
        })
        .collect();
    for case in &TABLE.cases {
        let rendered = case.render(&templates[case.template]);
        match &case.text {
            Some(text) => {
                assert_eq!(
                    &rendered.unwrap_or_else(|e| panic!("{}: {e}", case.describe())),
                    text,
                    "{}",
                    case.describe()
                );
            }
            None => drop(rendered.unwrap_err()),
        }
    }
    println!("{NUM_CASES} cases of {} published templates are equal", templates.len());
}
