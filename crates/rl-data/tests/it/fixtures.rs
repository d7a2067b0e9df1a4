//! What `tests/golden/make_golden.py` wrote, and small helpers around it.

use std::path::PathBuf;

use rl_data::*;
use serde::Deserialize;

#[derive(Deserialize)]
pub struct Golden {
    pub templates: std::collections::BTreeMap<String, TemplateTokens>,
    pub corpus: Vec<String>,
    pub tokenizer_cases: std::collections::BTreeMap<String, Vec<TokenizerCase>>,
    pub renders: Vec<RenderCase>,
}

#[derive(Deserialize)]
pub struct TemplateTokens {
    pub bos_token: Option<String>,
    pub eos_token: Option<String>,
    pub tokenizer: Option<String>,
}

#[derive(Deserialize)]
pub struct TokenizerCase {
    pub text: String,
    pub ids: Vec<u32>,
    pub offsets: Vec<[usize; 2]>,
    pub decoded: String,
    pub decoded_without_special: String,
}

#[derive(Deserialize)]
pub struct RenderCase {
    pub template: String,
    pub messages: Vec<Message>,
    pub add_generation_prompt: bool,
    pub text: Option<String>,
    pub ids: Option<Vec<u32>>,
    pub error: Option<String>,
}

pub fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

pub fn golden() -> Golden {
    serde_json::from_str(&std::fs::read_to_string(path("golden.json")).unwrap()).unwrap()
}

pub fn tokenizer(name: &str) -> Tokenizer {
    Tokenizer::from_file(path(&format!("{name}.json"))).unwrap()
}

pub fn template(name: &str) -> ChatTemplate {
    let golden = golden();
    let tokens = &golden.templates[name];
    if name == "smollm2" {
        return ChatTemplate::named(name).unwrap();
    }
    let source = std::fs::read_to_string(path(&format!("{name}.jinja"))).unwrap();
    ChatTemplate::new(source, tokens.bos_token.as_deref(), tokens.eos_token.as_deref()).unwrap()
}

/// ChatML, SmolLM2's template and one like Llama 3's, each with a tokenizer that knows its special tokens.
pub fn renderers() -> Vec<(&'static str, Renderer)> {
    vec![
        ("chatml", Renderer::new(tokenizer("smollm_like"), ChatTemplate::chatml().unwrap()).unwrap()),
        ("smollm2", Renderer::new(tokenizer("smollm_like"), template("smollm2")).unwrap()),
        ("llama3_like", Renderer::new(tokenizer("llama3_like"), template("llama3_like")).unwrap()),
    ]
}

pub fn renderer(name: &str) -> Renderer {
    renderers().into_iter().find(|(found, _)| *found == name).unwrap().1
}

/// A tokenised conversation of `(id, trainable)`.
pub fn example(tokens: &[(u32, bool)]) -> Example {
    Example {
        ids: tokens.iter().map(|token| token.0).collect(),
        trainable: tokens.iter().map(|token| token.1).collect(),
        roles: vec![None; tokens.len()],
    }
}
