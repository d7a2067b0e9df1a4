//! Chat templates that come with the crate, for models that ship none.
//!
//! They are written for this crate and print what the published templates of the families print, for conversations of
//! system, user and assistant messages. What they leave out (tools, documents and, but for `chatml` and `smollm2`,
//! tool messages) they refuse with an [`Error::Template`]. Not here: templates of checkpoints (`chat_template`).

use crate::chat_template::{CHATML, ChatTemplate};
use crate::error::{Error, Result};

struct Named {
    name: &'static str,
    source: &'static str,
    bos_token: Option<&'static str>,
    eos_token: &'static str,
}

const NAMED: [Named; 5] = [
    Named { name: "chatml", source: CHATML, bos_token: None, eos_token: "<|im_end|>" },
    Named {
        name: "smollm2",
        source: include_str!("chat_templates/smollm2.jinja"),
        bos_token: Some("<|im_start|>"),
        eos_token: "<|im_end|>",
    },
    Named {
        name: "llama3",
        source: include_str!("chat_templates/llama3.jinja"),
        bos_token: Some("<|begin_of_text|>"),
        eos_token: "<|eot_id|>",
    },
    Named {
        name: "qwen2.5",
        source: include_str!("chat_templates/qwen2.5.jinja"),
        bos_token: None,
        eos_token: "<|im_end|>",
    },
    Named {
        name: "qwen3",
        source: include_str!("chat_templates/qwen3.jinja"),
        bos_token: None,
        eos_token: "<|im_end|>",
    },
];

impl ChatTemplate {
    /// A built-in template, for a base model that ships none; [`Error::UnknownTemplate`] lists the names.
    ///
    /// | name | prints what | variables |
    /// | --- | --- | --- |
    /// | `chatml` | ChatML does, no system message of its own | |
    /// | `smollm2` | SmolLM2-Instruct does, with its default system message | |
    /// | `llama3` | Llama 3.1, 3.2 and 3.3 Instruct do, dates included | `date_string`, else the date of [`ChatTemplate::with_date`] |
    /// | `qwen2.5` | Qwen2.5-Instruct does, with its default system message | |
    /// | `qwen3` | the hybrid Qwen3 models do: thoughts of earlier turns are dropped | `enable_thinking` |
    ///
    /// Llama 3.1 always prints 26 Jul 2024 unless `date_string` is set, and that is the default date here.
    ///
    /// Tools and documents are refused by all, messages of role `tool` by `llama3`, `qwen2.5` and `qwen3`: the error is
    /// [`Error::Template`]. The tokenizer must hold the family's special tokens, or `Renderer::new` refuses the pair.
    pub fn named(name: &str) -> Result<Self> {
        let found = NAMED.iter().find(|named| named.name == name);
        let named = found.ok_or_else(|| Error::UnknownTemplate {
            name: name.to_string(),
            known: ChatTemplate::names().collect::<Vec<_>>().join("`, `"),
        })?;
        ChatTemplate::new(named.source, named.bos_token, Some(named.eos_token))
    }

    /// Names that [`ChatTemplate::named`] knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|named| named.name)
    }
}
